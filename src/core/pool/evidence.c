/* What proves that a backend works, and what counts against it.
 *
 * That a connection opened proves nothing: a balancer whose servers are away, or a
 * server at its limit of clients, accepts and closes.  A connection has proven
 * itself when it came back from a lease in order, was checked and found fit, has
 * delivered what it was asked for, or stayed open for `proven_after`.  Until then its
 * loss is a failed attempt like one that was refused; and a backend that died stays
 * dead, so that one connection tries it, with pauses that grow.
 *
 * A backend dies when one slot's attempts have come to nothing so many times in a
 * row, unless some of its other connections did better: then it takes that many
 * and no more, and the plan gives the rest to others.
 *
 * What its claimer did to a connection is no evidence at all.  One found dead makes
 * those of its backend suspect that have not worked since, as they may have broken
 * in the same way without a word: Agroal does likewise (agroal.github.io, 3.1).
 * Suspect connections are checked before they are lent or, where a check tells
 * nothing, lent last. */
#include "pool.h"

#define PROOF_MIN 1000000000   /* ns: a connection that closes sooner has not lasted */
#define PROOF_PAUSES 2         /* nor one that stayed open for fewer than so many of the pauses between attempts */
#define DOUBTS_MAX 5           /* in each second, so that claimers who fail each lease do not have the others checked for ever */
#define DOUBTS_SPAN 1000000000 /* ns */

/* When an unproven connection will have been open for long enough. */
cueball_time cueball__proof_due(const cueball_pool *pool, const cueball__slot *slot)
{
    assert(slot->unproven && slot->attempt > 0);
    cueball_time span = pool->settings.proven_after;
    if (span == 0) {
        cueball_time delay = cueball__backoff_delay(cueball__slot_backoff(pool, slot), slot->attempt);
        cueball_time pause = slot->attempt > 1 && slot->pause > delay ? slot->pause : delay; /* it may have grown on */
        span = pause * PROOF_PAUSES;                                                         /* a pause is a day at most */
        span = span > PROOF_MIN ? span : PROOF_MIN;
    }
    return cueball__time_after(slot->opened_at, span);
}

/* What rested in doubt is lent in its turn, if there is no doubt any more. */
static void slot_trust(cueball_pool *pool, cueball__slot *slot)
{
    if (slot->state != CUEBALL_SLOT_IDLE || !slot->doubted || cueball__slot_is_doubtful(slot))
        return;
    cueball__slot_wake(pool, slot);
    cueball__slot_rest(pool, slot);
}

/* It takes more than was seen before: the plan gives it some more to try, and twice
 * as many each time it took them all, as its limit may be gone. */
static void backend_takes_more(cueball_pool *pool, cueball__backend *backend)
{
    uint32_t proven = backend->connected - backend->unproven;
    bool has_all = proven >= backend->takes + backend->surplus || proven >= backend->want;
    if (backend->takes == 0 || proven <= backend->takes || !has_all)
        return;
    backend->takes = proven;
    if (backend->surplus <= pool->options.max_connections)
        backend->surplus *= 2;
    pool->plan_is_due = pool->is_unsettled = true;
}

/* The connection has shown that its backend works.  Of one that is suspect it says
 * nothing that it lasted: so do those that broke without a word. */
void cueball__slot_prove(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    assert(cueball__slot_is_connected(slot));
    cueball__backend *backend = slot->backend;
    if (cause != CUEBALL_CAUSE_LASTED)
        slot->suspect = 0;
    if (slot->unproven) {
        assert(backend->unproven > 0);
        slot->unproven = 0;
        slot->attempt = 0;
        backend->unproven--;
        backend_takes_more(pool, backend);
        if (backend->dead) {
            cueball__backend_revived(pool, backend, cause);
            if (pool->is_set && !slot->on_return)
                cueball__set_has_another(pool);
        }
    }
    slot_trust(pool, slot);
}

/* How many of the backend's connections did better than a slot's attempts: they
 * have proven themselves, or they opened by `outlived`, which is before half of the
 * pause before the attempt was over, and are open still.  Of a backend that closes
 * all its connections after a while none is, as each of them had that while, too. */
static uint32_t backend_steady(const cueball__backend *backend, cueball_time outlived)
{
    uint32_t steady = backend->connected - backend->unproven;
    if (backend->unproven == 0)
        return steady;
    for (const cueball__link *link = backend->slots.next; link != &backend->slots; link = link->next) {
        const cueball__slot *other = CUEBALL__OWNER(link, cueball__slot, at_backend);
        if (cueball__slot_is_connected(other) && other->unproven && other->opened_at <= outlived)
            steady++;
    }
    return steady;
}

static void backend_limit(cueball_pool *pool, cueball__backend *backend, uint32_t takes)
{
    bool is_new = backend->takes == 0;
    if (takes == backend->takes && backend->surplus == 1)
        return;
    backend->takes = takes;
    backend->surplus = 1;
    pool->plan_is_due = pool->is_unsettled = true;
    if (is_new && cueball__pool_watches(pool, CUEBALL_EVENT_BACKEND_LIMITED))
        cueball__event_add(pool, &(cueball_event){ .kind = CUEBALL_EVENT_BACKEND_LIMITED,
                                                   .backend = cueball__member_handle(&backend->member),
                                                   .from = (int32_t)backend->want,
                                                   .count = takes });
}

/* The slot's attempt came to nothing, for `cause`: what does that say of its backend? */
void cueball__attempt_judge(cueball_pool *pool, const cueball__slot *slot, cueball_time outlived, cueball_cause cause)
{
    cueball__backend *backend = slot->backend;
    if (slot->attempt < cueball__slot_backoff(pool, slot)->attempts || backend->dead || backend->ejected)
        return;
    uint32_t steady = backend_steady(backend, outlived);
    bool is_of_opening = cause == CUEBALL_CAUSE_FAILED || cause == CUEBALL_CAUSE_TIMEOUT || cause == CUEBALL_CAUSE_LOST;
    if (steady == 0)
        cueball__backend_died(pool, backend, slot->attempt, cause);
    else if (is_of_opening)
        backend_limit(pool, backend, steady);
}

/* What rests is lent last, or checked first. */
static void slot_doubt(cueball_pool *pool, cueball__slot *slot)
{
    assert(slot->state == CUEBALL_SLOT_IDLE);
    cueball__slot_wake(pool, slot);
    if (pool->options.has_check)
        cueball__slot_check(pool, slot);
    else
        cueball__slot_rest(pool, slot);
}

static bool backend_may_doubt(const cueball_pool *pool, cueball__backend *backend)
{
    if (pool->now - backend->doubted_at >= DOUBTS_SPAN || backend->doubts == 0) {
        backend->doubted_at = pool->now;
        backend->doubts = 0;
    }
    return backend->doubts < DOUBTS_MAX;
}

/* The slot's connection was found dead.  If it was suspect itself, that says
 * nothing new. */
void cueball__siblings_suspect(cueball_pool *pool, const cueball__slot *slot)
{
    cueball__backend *backend = slot->backend;
    if (slot->suspect || backend->connected < 2 || pool->is_set || backend->removed || cueball__pool_is_over(pool))
        return;
    if (!backend_may_doubt(pool, backend))
        return;
    backend->doubts++;
    CUEBALL__LIST_EACH(link, following, &backend->slots)
    {
        cueball__slot *other = CUEBALL__OWNER(link, cueball__slot, at_backend);
        if (other == slot || other->suspect || !cueball__slot_is_connected(other) || other->state == CUEBALL_SLOT_CHECKING)
            continue;
        other->suspect = 1;
        if (other->state == CUEBALL_SLOT_IDLE)
            slot_doubt(pool, other);
    }
}

/* The backend died: those of its connections that are open have proven nothing. */
void cueball__backend_distrust(cueball_pool *pool, cueball__backend *backend)
{
    CUEBALL__LIST_EACH(link, following, &backend->slots)
    {
        cueball__slot *slot = CUEBALL__OWNER(link, cueball__slot, at_backend);
        if (slot->state == CUEBALL_SLOT_IDLE && !slot->doubted)
            slot_doubt(pool, slot);
    }
}

/* The backend is dead no longer, which was all there was to be said against some of
 * its connections; and what came to nothing before counts no more: the row of each
 * slot begins with the attempt that is under way, if there is one. */
void cueball__backend_trust(cueball_pool *pool, cueball__backend *backend)
{
    CUEBALL__LIST_EACH(link, following, &backend->slots)
    {
        cueball__slot *slot = CUEBALL__OWNER(link, cueball__slot, at_backend);
        slot->attempt = slot->state == CUEBALL_SLOT_CONNECTING || slot->unproven || slot->blame;
        slot_trust(pool, slot);
    }
}
