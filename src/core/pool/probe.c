/* Which dead backends are tried, and when.
 *
 * One connection tries a dead backend, its probe, with pauses that grow.  While
 * live backends could use the places, probes take a fifth of them at most.  Where
 * that is fewer than there are dead backends, a probe holds its place only as long
 * as an attempt lasts: a backend that pauses has a timer instead of a slot, and when
 * its time comes it takes the next place that another leaves. */
#include "probe.h"

#include "churn.h"

#define PROBES_SHARE 5 /* probes take this part of the places at most, while live backends could use them */

/* How many dead backends may have a slot: the rest of the places is for those that
 * live, as far as these could use it. */
uint32_t cueball__probes_most(const cueball_pool *pool)
{
    uint32_t ceiling = pool->options.max_connections;
    uint32_t live = pool->known - pool->dead - pool->ejected - pool->standby;
    uint32_t least = ceiling / PROBES_SHARE > 1 ? ceiling / PROBES_SHARE : 1;
    uint32_t used = pool->is_set && live < pool->planned_target ? live : pool->planned_target;
    if (live == 0)
        return ceiling;
    if (ceiling == 1) /* the live one has the only place there is */
        return 0;
    return ceiling - used > least ? ceiling - used : least;
}

/* The dead backend has a slot again: that goes on where the one before ended. */
void cueball__probe_slot_came(cueball_pool *pool, cueball__backend *backend, cueball__slot *slot)
{
    assert(backend->dead && backend->total == 1);
    cueball__timers_cancel(&pool->timers, &backend->back);
    cueball__list_remove(&backend->probe);
    pool->probed++;
    slot->attempt = backend->attempt;
    slot->pause = backend->pause;
    slot->has_opened = backend->has_opened;
}

/* The last slot of a dead backend goes; `pause` is the one before its next attempt. */
void cueball__probe_slot_goes(cueball_pool *pool, cueball__backend *backend, const cueball__slot *slot, cueball_time pause)
{
    assert(backend->dead && pool->probed > 0);
    pool->probed--;
    if (slot->attempt > backend->attempt)
        backend->attempt = slot->attempt;
    backend->has_opened = slot->has_opened;
    backend->pause = pause;
    backend->probe_at = slot->state == CUEBALL_SLOT_BACKOFF && cueball__timer_is_armed(&slot->timer)
                            ? slot->timer.deadline
                            : cueball__time_after(pool->now, backend->pause);
    if (cueball__pool_is_over(pool))
        return;
    backend->back.kind = CUEBALL__TIMER_PROBE;
    cueball__timers_arm(&pool->timers, &backend->back, backend->probe_at);
}

/* It is dead no longer, or no longer one of ours. */
void cueball__probe_end(cueball_pool *pool, cueball__backend *backend)
{
    if (backend->total > 0) {
        assert(pool->probed > 0);
        pool->probed--;
    }
    cueball__timers_cancel(&pool->timers, &backend->back);
    cueball__list_remove(&backend->probe);
}

/* The pauses are others from now on: what is left of one is no longer than a whole one. */
void cueball__probe_options_changed(cueball_pool *pool, cueball__backend *backend)
{
    if (!backend->dead || backend->total > 0 || !cueball__timer_is_armed(&backend->back))
        return;
    const cueball__backoff *backoff = backend->has_opened ? &pool->settings.connect : &pool->settings.initial;
    cueball_time due = cueball__time_after(pool->now, cueball__backoff_delay(backoff, backend->attempt ? backend->attempt : 1));
    if (due < backend->probe_at) {
        backend->probe_at = due;
        cueball__timers_arm(&pool->timers, &backend->back, due);
    }
}

/* Whether the slot, which pauses, is to leave its place to the probe of another dead
 * backend: if there are more of these than places, so that each comes in its turn. */
bool cueball__probe_is_to_yield(cueball_pool *pool, const cueball__slot *slot)
{
    assert(slot->backend->dead);
    assert(slot->state == CUEBALL_SLOT_BACKOFF);
    return pool->dead > pool->probes_max && cueball__backend_may_change(pool, slot->backend);
}

/* Its pause is over. */
void cueball__probe_due(cueball_pool *pool, cueball__backend *backend)
{
    assert(backend->dead && backend->total == 0);
    cueball__list_append(&pool->probes_due, &backend->probe);
    pool->is_unsettled = true;
}
