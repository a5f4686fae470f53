/* Numbers.  What one counter says is not kept in a second one. */
#include "state.h"

#include <string.h>

/* The waits that were none are not in the histogram, so that the hot path need
 * not count them twice. */
static double wait_quantile(const cueball_pool *pool, double q)
{
    uint64_t at_once = pool->counters.granted_at_once;
    uint64_t granted = at_once + pool->wait_histogram.total;
    double rank = q * (double)granted;
    if (granted == 0 || pool->wait_histogram.total == 0 || rank <= (double)at_once)
        return 0;
    return cueball__histogram_quantile(&pool->wait_histogram, (rank - (double)at_once) / (double)pool->wait_histogram.total);
}

double cueball_pool_quantile(const cueball_pool *pool, int measure, double q)
{
    if (!(q >= 0))
        q = 0;
    if (q > 1)
        q = 1;
    if (measure == CUEBALL_MEASURE_WAIT)
        return wait_quantile(pool, q) / CUEBALL__NS_PER_MS;
    const cueball__histogram *measured = measure == CUEBALL_MEASURE_CREATE ? &pool->create_histogram : &pool->lease_histogram;
    return cueball__histogram_quantile(measured, q) / CUEBALL__NS_PER_MS;
}

uint64_t cueball_pool_closed_by(const cueball_pool *pool, int cause)
{
    return cause >= 0 && cause <= CUEBALL_CAUSE_LAST ? pool->counters.closed_by[cause] : 0;
}

#define FIRST CUEBALL__END_OF(cueball_stats, create_ms_max)

static void stats_quantiles(const cueball_pool *pool, cueball_stats *stats)
{
    stats->wait_ms_p50 = cueball_pool_quantile(pool, CUEBALL_MEASURE_WAIT, 0.5);
    stats->wait_ms_p90 = cueball_pool_quantile(pool, CUEBALL_MEASURE_WAIT, 0.9);
    stats->wait_ms_p99 = cueball_pool_quantile(pool, CUEBALL_MEASURE_WAIT, 0.99);
    stats->wait_ms_p999 = cueball_pool_quantile(pool, CUEBALL_MEASURE_WAIT, 0.999);
    stats->wait_ms_max = (double)pool->wait_histogram.max / CUEBALL__NS_PER_MS;
    stats->lease_ms_p50 = cueball_pool_quantile(pool, CUEBALL_MEASURE_LEASE, 0.5);
    stats->lease_ms_p90 = cueball_pool_quantile(pool, CUEBALL_MEASURE_LEASE, 0.9);
    stats->lease_ms_p99 = cueball_pool_quantile(pool, CUEBALL_MEASURE_LEASE, 0.99);
    stats->lease_ms_p999 = cueball_pool_quantile(pool, CUEBALL_MEASURE_LEASE, 0.999);
    stats->lease_ms_max = (double)pool->lease_histogram.max / CUEBALL__NS_PER_MS;
    stats->create_ms_p50 = cueball_pool_quantile(pool, CUEBALL_MEASURE_CREATE, 0.5);
    stats->create_ms_p90 = cueball_pool_quantile(pool, CUEBALL_MEASURE_CREATE, 0.9);
    stats->create_ms_p99 = cueball_pool_quantile(pool, CUEBALL_MEASURE_CREATE, 0.99);
    stats->create_ms_p999 = cueball_pool_quantile(pool, CUEBALL_MEASURE_CREATE, 0.999);
    stats->create_ms_max = (double)pool->create_histogram.max / CUEBALL__NS_PER_MS;
}

static void stats_gather(const cueball_pool *pool, cueball_stats *stats)
{
    const cueball__counters *counters = &pool->counters;
    memset(stats, 0, sizeof *stats);
    stats->total = pool->slots.count;
    stats->idle = cueball__idle_count(&pool->idle) + pool->doubtful_count;
    stats->busy = cueball__pool_busy(pool);
    stats->connecting = pool->counts[CUEBALL_SLOT_CONNECTING];
    stats->backing_off = pool->counts[CUEBALL_SLOT_BACKOFF];
    stats->checking = pool->counts[CUEBALL_SLOT_CHECKING];
    stats->closing = pool->counts[CUEBALL_SLOT_CLOSING];
    stats->waiting = pool->outlook.waiting;
    stats->backends = pool->known;
    stats->dead_backends = pool->dead;
    stats->waiting_max = pool->waiting_max;
    stats->ejected_backends = pool->ejected;
    stats->target = pool->planned_target;
    stats->overloaded = pool->overload.lasts;
    stats->claims = counters->granted_at_once + counters->queued + counters->refused_at_once;
    stats->granted = counters->granted_at_once + pool->wait_histogram.total;
    stats->granted_at_once = counters->granted_at_once;
    stats->claim_timeouts = counters->claim_timeouts;
    stats->claims_refused = counters->claims_refused;
    stats->claims_cancelled = counters->claims_cancelled;
    stats->released = pool->lease_histogram.total - counters->leases_closed - counters->leases_failed - counters->leases_revoked;
    stats->leases_closed = counters->leases_closed;
    stats->leases_failed = counters->leases_failed;
    stats->leases_revoked = counters->leases_revoked;
    stats->attempts = counters->attempts;
    stats->opened = counters->opened;
    stats->open_failures = counters->open_failures;
    stats->open_timeouts = counters->open_timeouts;
    stats->lost = counters->lost;
    for (size_t i = 0; i < sizeof counters->closed_by / sizeof *counters->closed_by; i++)
        stats->closed += counters->closed_by[i];
    stats->checks = counters->checks;
    stats->checks_failed = counters->checks_failed;
    stats->plans = counters->plans;
    stats->shuffles = counters->shuffles;
    stats->backend_deaths = counters->backend_deaths;
    stats->ejections = counters->ejections;
    stats_quantiles(pool, stats);
}

void cueball_pool_stats(const cueball_pool *pool, cueball_stats *stats)
{
    cueball_stats whole;
    stats_gather(pool, &whole);
    cueball__sized_write(stats, FIRST, &whole, sizeof whole);
}
