/* Which dead backends are tried, and when.
 *
 * One connection tries a dead backend, its probe, with pauses that grow.  While
 * live backends could use the places, probes take a fifth of them at most.  Where
 * that is fewer than there are dead backends, a probe holds its place only as long
 * as an attempt lasts: a backend that pauses has a timer instead of a slot, and when
 * its time comes it takes the next place that another leaves. */
#include "pool.h"

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

/* Its last slot goes, though it is dead still. */
void cueball__probe_slot_goes(cueball_pool *pool, cueball__backend *backend, const cueball__slot *slot)
{
    assert(backend->dead && pool->probed > 0);
    pool->probed--;
    if (slot->attempt > backend->attempt)
        backend->attempt = slot->attempt;
    backend->has_opened = slot->has_opened;
    backend->pause = slot->state == CUEBALL_SLOT_BACKOFF ? slot->pause : cueball__slot_pause(pool, slot, false);
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

/* Whether the slot, which is about to pause, leaves its place to the probe of
 * another dead backend: if there are more of these than places, so that each comes
 * in its turn. */
bool cueball__probe_yields(cueball_pool *pool, cueball__slot *slot)
{
    cueball__backend *backend = slot->backend;
    assert(backend->dead && slot->state == CUEBALL_SLOT_BACKOFF);
    if (pool->dead <= pool->probes_max || !cueball__backend_may_change(pool, backend))
        return false;
    cueball__backend_has_changed(pool, backend);
    slot->unwanted = 1;
    backend->have--;
    backend->want = 0;
    cueball__list_remove(&backend->wanting);
    cueball__slot_remove(pool, slot, CUEBALL_CAUSE_PLAN);
    return true;
}

/* Its pause is over. */
void cueball__probe_due(cueball_pool *pool, cueball__backend *backend)
{
    assert(backend->dead && backend->total == 0);
    cueball__list_append(&pool->probes_due, &backend->probe);
    pool->is_unsettled = true;
}

/* Tries those that are due, as far as there are places. */
void cueball__probes_begin(cueball_pool *pool)
{
    CUEBALL__LIST_EACH(link, following, &pool->probes_due)
    {
        if (pool->probed >= pool->probes_max || pool->slots.count - pool->orphans >= pool->options.max_connections)
            return;
        cueball__backend *backend = CUEBALL__OWNER(link, cueball__backend, probe);
        if (!cueball__backend_may_change(pool, backend))
            continue;
        if (!cueball__slot_add(pool, backend)) /* without memory: at the next occasion */
            return;
        cueball__backend_has_changed(pool, backend);
        backend->want = 1;
        cueball__list_remove(&backend->wanting);
    }
}
