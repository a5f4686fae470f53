/* Backends that can be connected to but whose leases fail: they are left out for
 * a while, longer each time, as Envoy's outlier detection does for consecutive
 * failures.  One at least may be left out at once, a share of all at most, and
 * never the last that lives: bad service is better than none. */
#include "outlier.h"

#include "event.h"

#define EJECTIONS_MAX 10 /* the time grows so many times */

/* Its last lease did not fail, or it is no longer one of ours. */
void cueball__outlier_forgive(cueball_pool *pool, cueball__backend *backend)
{
    if (backend->failures == 0)
        return;
    assert(pool->failing > 0);
    backend->failures = 0;
    pool->failing--;
}

static bool pool_may_eject(const cueball_pool *pool)
{
    assert(pool->options.outlier.max_ejected >= 0);
    uint32_t in_use = cueball__pool_in_use(pool);
    assert(pool->dead + pool->ejected <= in_use);
    uint32_t most = (uint32_t)(pool->options.outlier.max_ejected * (double)in_use);
    return pool->ejected < (most > 1 ? most : 1) && pool->dead + pool->ejected + 1 < in_use;
}

/* One ejection is forgotten for each interval since the last was over. */
static void backend_forget(const cueball_pool *pool, cueball__backend *backend)
{
    assert(pool->settings.outlier_interval > 0);
    assert(backend->ejected_at <= pool->now);
    if (backend->ejections == 0)
        return;
    uint64_t intervals = (pool->now - backend->ejected_at) / pool->settings.outlier_interval;
    backend->ejections -= intervals < backend->ejections ? (uint32_t)intervals : backend->ejections;
}

/* A lease failed at this backend. */
void cueball__outlier_failed(cueball_pool *pool, cueball__backend *backend)
{
    assert(!backend->ejected || backend->failures == 0);
    uint32_t limit = pool->options.outlier.consecutive;
    if (limit == 0 || backend->removed || backend->ejected || backend->drained)
        return;
    if (backend->failures++ == 0)
        pool->failing++;
    if (backend->failures < limit || backend->dead || !pool_may_eject(pool))
        return;
    cueball__outlier_forgive(pool, backend);
    backend_forget(pool, backend);
    if (backend->ejections < EJECTIONS_MAX)
        backend->ejections++;
    backend->ejected = true;
    cueball__backend_noted(pool, backend);
    pool->ejected++;
    pool->counters.ejections++;
    pool->plan_is_due = pool->is_unsettled = true;
    backend->back.kind = CUEBALL__TIMER_RETURN;
    cueball__timers_arm(&pool->timers, &backend->back,
                        cueball__time_after(pool->now, pool->settings.outlier_ejection * backend->ejections));
    cueball__event_note(pool, CUEBALL_EVENT_BACKEND_EJECTED, backend, backend->ejections);
    assert(backend->ejections > 0);
    assert(pool->dead + pool->ejected < cueball__pool_in_use(pool));
    assert(cueball__timer_is_armed(&backend->back));
}

/* Its time is over. */
void cueball__outlier_returns(cueball_pool *pool, cueball__backend *backend)
{
    assert(!backend->ejected || pool->ejected > 0);
    assert(!(backend->ejected && backend->dead));
    if (!backend->ejected)
        return;
    cueball__timers_cancel(&pool->timers, &backend->back);
    backend->ejected = false;
    cueball__backend_noted(pool, backend);
    backend->ejected_at = pool->now;
    pool->ejected--;
    if (backend->removed)
        return;
    backend->revived_at = pool->now;
    pool->plan_is_due = pool->is_unsettled = true;
    cueball__event_note(pool, CUEBALL_EVENT_BACKEND_RETURNED, backend, 0);
}

/* Turned off. */
void cueball__outlier_end(cueball_pool *pool)
{
    for (uint32_t i = 0; i < pool->known; i++) {
        cueball__outlier_forgive(pool, pool->preference[i]);
        cueball__outlier_returns(pool, pool->preference[i]);
    }
    assert(pool->ejected == 0);
    assert(pool->failing == 0);
}

/* All others died, were drained or removed: those ejected are needed. */
void cueball__outlier_panic(cueball_pool *pool)
{
    assert(pool->dead + pool->ejected <= cueball__pool_in_use(pool));
    if (pool->ejected == 0 || pool->dead + pool->ejected < cueball__pool_in_use(pool))
        return;
    for (uint32_t i = 0; i < pool->known; i++)
        cueball__outlier_returns(pool, pool->preference[i]);
    assert(pool->ejected == 0);
}
