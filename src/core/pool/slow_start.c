/* slow_start_ms: a backend that was dead gets its share in steps. */
#include "slow_start.h"

/* Weights are multiplied by CUEBALL__SLOW_STEPS where a backend has less than its share. */
uint32_t cueball__slow_start_share(cueball_pool *pool, cueball__backend *backend)
{
    if (backend->revived_at == 0 || pool->settings.slow_start == 0)
        return CUEBALL__SLOW_STEPS;
    cueball_time elapsed = pool->now - backend->revived_at;
    if (elapsed >= pool->settings.slow_start) {
        backend->revived_at = 0;
        return CUEBALL__SLOW_STEPS;
    }
    cueball_time step = pool->settings.slow_start / CUEBALL__SLOW_STEPS + 1;
    cueball_time next = cueball__time_after(pool->now, step - elapsed % step);
    if (!cueball__timer_is_armed(&pool->churn) || pool->churn.deadline > next)
        cueball__timers_arm(&pool->timers, &pool->churn, next);
    return (uint32_t)(elapsed / step) + 1;
}
