/* The pace at which slots come and go at one backend: max_churn_rate, and a pace of
 * replacements that has no option. */
#include "churn.h"

#define REPLACE_GAP UINT64_C(500000) /* ns: 2,000 replacements a second and backend, */
#define REPLACE_BURST_MIN 100        /* after so many at once, or as many as it has slots */

/* max_churn_rate: whether a slot may come or go at this backend now.  If not, the
 * plan is taken up again when it may. */
bool cueball__backend_may_change(cueball_pool *pool, cueball__backend *backend)
{
    if (pool->settings.churn_gap == 0 || pool->now >= backend->churn_at)
        return true;
    pool->churn_holds = true;
    if (!cueball__timer_is_armed(&pool->churn) || pool->churn.deadline > backend->churn_at)
        cueball__timers_arm(&pool->timers, &pool->churn, backend->churn_at);
    return false;
}

void cueball__backend_has_changed(const cueball_pool *pool, cueball__backend *backend)
{
    if (pool->settings.churn_gap)
        backend->churn_at = cueball__time_after(pool->now, pool->settings.churn_gap);
}

/* Whether a connection that was nobody's fault may be replaced now; if not, when.
 * Claimers who close each connection they get cost a connect each time, so that the
 * replacements are paced: so many at once and then one for each gap, the generic cell rate
 * algorithm (ITU-T I.371). */
bool cueball__backend_may_replace(cueball_pool *pool, cueball__backend *backend, cueball_time *at)
{
    cueball_time burst = (backend->total > REPLACE_BURST_MIN ? backend->total : REPLACE_BURST_MIN) * REPLACE_GAP;
    if (backend->replace_at < pool->now)
        backend->replace_at = pool->now;
    *at = backend->replace_at > pool->now + burst ? backend->replace_at - burst : pool->now;
    backend->replace_at += REPLACE_GAP;
    return *at == pool->now;
}
