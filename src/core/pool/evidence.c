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
#include "evidence.h"

#include "event.h"

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

/* It takes more than was seen before: the plan gives it some more to try, and twice
 * as many each time it took them all, as its limit may be gone. */
void cueball__backend_takes_more(cueball_pool *pool, cueball__backend *backend)
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

/* The slot's attempt came to nothing, for `cause`: what does that say of its backend?
 * True: that it is dead. */
bool cueball__attempt_judge(cueball_pool *pool, const cueball__slot *slot, cueball_time outlived, cueball_cause cause)
{
    cueball__backend *backend = slot->backend;
    if (slot->attempt < cueball__slot_backoff(pool, slot)->attempts || backend->dead || backend->ejected)
        return false;
    uint32_t steady = backend_steady(backend, outlived);
    bool is_of_opening = cause == CUEBALL_CAUSE_FAILED || cause == CUEBALL_CAUSE_TIMEOUT || cause == CUEBALL_CAUSE_LOST;
    if (steady > 0 && is_of_opening)
        backend_limit(pool, backend, steady);
    return steady == 0;
}

/* Whether connections of the backend may be made suspect once more. */
bool cueball__backend_may_doubt(const cueball_pool *pool, cueball__backend *backend)
{
    if (pool->now - backend->doubted_at >= DOUBTS_SPAN || backend->doubts == 0) {
        backend->doubted_at = pool->now;
        backend->doubts = 0;
    }
    return backend->doubts < DOUBTS_MAX;
}
