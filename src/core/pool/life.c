/* Life and death of backends, and what that does to their connections: which are
 * suspect, which are lent in their turn.  What counts as evidence is in evidence.c. */
#include "life.h"

#include "event.h"
#include "evidence.h"
#include "idle.h"
#include "probe.h"
#include "slot.h"

/* What rested in doubt is lent in its turn, if there is no doubt any more. */
static void slot_trust(cueball_pool *pool, cueball__slot *slot)
{
    assert(slot->state != CUEBALL_SLOT_FREE);
    if (slot->state != CUEBALL_SLOT_IDLE || !slot->doubted || cueball__slot_is_doubtful(slot))
        return;
    cueball__slot_wake(pool, slot);
    cueball__slot_rest(pool, slot);
}

/* What rests is lent last, or checked first. */
static void slot_doubt(cueball_pool *pool, cueball__slot *slot)
{
    assert(slot->state != CUEBALL_SLOT_BUSY);
    assert(!slot->owner);
    assert(slot->state == CUEBALL_SLOT_IDLE);
    cueball__slot_wake(pool, slot);
    if (pool->options.has_check)
        cueball__slot_check(pool, slot);
    else
        cueball__slot_rest(pool, slot);
    assert(slot->doubted || slot->state == CUEBALL_SLOT_CHECKING);
}

/* The slot's connection was found dead.  If it was suspect itself, that says
 * nothing new. */
void cueball__siblings_suspect(cueball_pool *pool, const cueball__slot *slot)
{
    assert(cueball__slot_is_connected(slot));
    assert(slot->backend->connected > 0);
    cueball__backend *backend = slot->backend;
    if (slot->suspect || backend->connected < 2 || pool->is_set || backend->removed || cueball__pool_is_over(pool))
        return;
    if (!cueball__backend_may_doubt(pool, backend))
        return;
    backend->doubts++;
    CUEBALL__LIST_EACH(link, following, &backend->slots)
    {
        cueball__slot *other = CUEBALL__OWNER(link, cueball__slot, at_backend);
        bool is_asked = other->state == CUEBALL_SLOT_CHECKING && pool->options.has_check; /* else its check asks nothing */
        if (other == slot || other->suspect || !cueball__slot_is_connected(other) || is_asked)
            continue;
        other->suspect = 1;
        if (other->state == CUEBALL_SLOT_IDLE)
            slot_doubt(pool, other);
    }
}

/* The backend died: those of its connections that are open have proven nothing. */
static void backend_distrust(cueball_pool *pool, cueball__backend *backend)
{
    assert(backend->dead);
    assert(backend->connected == backend->unproven);
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
    assert(!backend->dead);
    assert(!backend->removed);
    CUEBALL__LIST_EACH(link, following, &backend->slots)
    {
        cueball__slot *slot = CUEBALL__OWNER(link, cueball__slot, at_backend);
        slot->attempt = slot->state == CUEBALL_SLOT_CONNECTING || slot->unproven || slot->blame;
        slot_trust(pool, slot);
    }
}

static void backend_note(cueball_pool *pool, cueball_event_kind kind, const cueball__backend *backend, uint32_t count, cueball_cause cause)
{
    if (!cueball__pool_watches(pool, kind))
        return;
    cueball_event event = { .kind = (int32_t)kind, .cause = (int32_t)cause, .count = count };
    event.backend = cueball__member_handle(&backend->member);
    cueball__event_add(pool, &event);
}

void cueball__backend_died(cueball_pool *pool, cueball__backend *backend, uint32_t attempts, cueball_cause cause)
{
    assert(!backend->ejected);
    assert(!backend->drained);
    assert(pool->dead < cueball__pool_in_use(pool));
    assert(!backend->dead);
    assert(!backend->removed);
    assert(backend->total > 0);
    assert(backend->connected == backend->unproven);
    backend->dead = true;
    cueball__backend_noted(pool, backend);
    backend->takes = 0;
    backend->probe_at = 0;
    backend->attempt = attempts;
    pool->dead++;
    pool->probed++;
    pool->counters.deaths_by[cause]++;
    pool->plan_is_due = pool->is_unsettled = true;
    backend_distrust(pool, backend);
    CUEBALL__TRACE4(dead, pool, backend->key, attempts, cause);
    backend_note(pool, CUEBALL_EVENT_BACKEND_DEAD, backend, attempts, cause);
    assert(pool->probed <= pool->dead);
    assert(backend->takes == 0);
}

static void backend_revived(cueball_pool *pool, cueball__backend *backend, cueball_cause cause)
{
    assert(!backend->removed);
    assert(backend->total > 0);
    assert(backend->dead);
    assert(pool->dead > 0);
    cueball__probe_end(pool, backend);
    backend->dead = false;
    cueball__backend_noted(pool, backend);
    cueball__backend_trust(pool, backend);
    backend->revived_at = pool->now;
    pool->dead--;
    pool->plan_is_due = pool->is_unsettled = true;
    CUEBALL__TRACE3(revived, pool, backend->key, cause);
    backend_note(pool, CUEBALL_EVENT_BACKEND_REVIVED, backend, 0, cause);
    cueball__pool_connected(pool);
    assert(pool->probed <= pool->dead);
    assert(!cueball__link_is_linked(&backend->probe));
    assert(!cueball__timer_is_armed(&backend->back));
}

/* Nobody tries the dead backend from now on, so that nobody knows whether it is. */
void cueball__backend_excused(cueball_pool *pool, cueball__backend *backend)
{
    assert(backend->dead);
    assert(pool->dead > 0);
    cueball__probe_end(pool, backend);
    backend->dead = false;
    cueball__backend_noted(pool, backend);
    cueball__backend_trust(pool, backend);
    pool->dead--;
    CUEBALL__TRACE3(revived, pool, backend->key, CUEBALL_CAUSE_PLAN);
    backend_note(pool, CUEBALL_EVENT_BACKEND_REVIVED, backend, 0, CUEBALL_CAUSE_PLAN);
    assert(pool->probed <= pool->dead);
}

/* The connection has shown that its backend works.  Of one that is suspect it says
 * nothing that it lasted: so do those that broke without a word. */
void cueball__slot_prove(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    assert(cause == CUEBALL_CAUSE_RELEASE || cause == CUEBALL_CAUSE_CHECK || cause == CUEBALL_CAUSE_WORN || cause == CUEBALL_CAUSE_LASTED);
    assert(cueball__slot_is_connected(slot));
    cueball__backend *backend = slot->backend;
    if (cause != CUEBALL_CAUSE_LASTED)
        slot->suspect = 0;
    if (slot->unproven) {
        assert(backend->unproven > 0);
        slot->unproven = 0;
        slot->attempt = 0;
        backend->unproven--;
        cueball__backend_takes_more(pool, backend);
        if (backend->dead) {
            backend_revived(pool, backend, cause);
            if (pool->is_set && !slot->on_return)
                cueball__set_has_another(pool);
        }
    }
    slot_trust(pool, slot);
    assert(!slot->unproven);
    assert(!backend->dead || slot->backend != backend);
}
