/* Which dead backends are tried, and when.
 *
 * One connection tries a dead backend, its probe, with pauses that grow.  While
 * live backends could use the slots, probes take a fifth of them at most.  Where
 * that is fewer than there are dead backends, a probe holds its slot only as long
 * as an attempt lasts: a backend that pauses has a timer instead of a slot, and when
 * its time comes it takes the next slot that another leaves. */
#include "probe.h"

#include "churn.h"

#define PROBES_SHARE 5 /* probes take this part of the slots at most, while live backends could use them */

/* Backends that get connections.  One may be ejected and stand by at the same time. */
static uint32_t pool_live(const cueball_pool *pool)
{
    uint32_t live = 0;
    for (uint32_t i = 0; i < pool->known; i++) {
        const cueball__backend *backend = pool->preference[i];
        live += !backend->dead && !backend->ejected && !backend->standby && !backend->drained;
    }
    assert(live <= cueball__pool_in_use(pool) - pool->dead);
    return live;
}

/* How many dead backends may have a slot: the rest of the slots is for those that
 * live, as far as these could use it. */
uint32_t cueball__probes_most(const cueball_pool *pool)
{
    assert(pool->options.max_connections > 0);
    uint32_t ceiling = pool->options.max_connections, live = pool_live(pool);
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
    assert(!backend->removed);
    assert(backend->dead && backend->total == 1);
    cueball__timers_cancel(&pool->timers, &backend->back);
    cueball__list_remove(&backend->probe);
    pool->probed++;
    slot->attempt = backend->attempt;
    slot->pause = backend->pause;
    slot->has_opened = backend->has_opened;
    assert(pool->probed <= pool->dead);
    assert(!cueball__link_is_linked(&backend->probe));
}

/* The last slot of a dead backend goes; `pause` is the one before its next attempt. */
void cueball__probe_slot_goes(cueball_pool *pool, cueball__backend *backend, const cueball__slot *slot, cueball_time pause)
{
    assert(!cueball__timer_is_armed(&backend->back));
    assert(!cueball__link_is_linked(&backend->probe));
    assert(slot->backend == backend);
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
    assert(cueball__timer_is_armed(&backend->back));
}

/* It is dead no longer, or no longer one of ours. */
void cueball__probe_end(cueball_pool *pool, cueball__backend *backend)
{
    assert(backend->total == 0 || !cueball__timer_is_armed(&backend->back));
    if (backend->total > 0) {
        assert(pool->probed > 0);
        pool->probed--;
    }
    cueball__timers_cancel(&pool->timers, &backend->back);
    cueball__list_remove(&backend->probe);
    cueball__probe_answered(pool, backend);
    assert(!cueball__link_is_linked(&backend->probe));
    assert(!cueball__timer_is_armed(&backend->back));
}

/* Something came of it, or will not. */
void cueball__probe_answered(cueball_pool *pool, cueball__backend *backend)
{
    assert(!backend->asked || pool->asked > 0);
    if (!backend->asked)
        return;
    backend->asked = false;
    pool->asked--;
    pool->is_unsettled = true;
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

/* Whether the slot, which pauses, is to be left to the probe of another dead
 * backend: if there are more of these than slots, so that each comes in its turn. */
bool cueball__probe_is_to_yield(cueball_pool *pool, const cueball__slot *slot)
{
    assert(slot->backend->total > 0);
    assert(slot->backend->dead);
    assert(slot->state == CUEBALL_SLOT_BACKOFF);
    return pool->dead > pool->probes_max && cueball__backend_may_change(pool, slot->backend);
}

/* Its pause is over. */
void cueball__probe_due(cueball_pool *pool, cueball__backend *backend)
{
    assert(!backend->removed);
    assert(!cueball__link_is_linked(&backend->probe));
    assert(!cueball__timer_is_armed(&backend->back));
    assert(backend->dead && backend->total == 0);
    cueball__list_append(&pool->probes_due, &backend->probe);
    pool->is_unsettled = true;
}
