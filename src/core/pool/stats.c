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

/* NULL: there is no such measure. */
static const cueball__histogram *histogram_of(const cueball_pool *pool, int measure)
{
    switch (measure) {
    case CUEBALL_MEASURE_WAIT:
        return &pool->wait_histogram;
    case CUEBALL_MEASURE_LEASE:
        return &pool->lease_histogram;
    case CUEBALL_MEASURE_CREATE:
        return &pool->create_histogram;
    default:
        return NULL;
    }
}

double cueball_pool_quantile(const cueball_pool *pool, int measure, double q)
{
    if (!(q >= 0))
        q = 0;
    if (q > 1)
        q = 1;
    if (measure == CUEBALL_MEASURE_WAIT)
        return wait_quantile(pool, q) / CUEBALL__NS_PER_MS;
    const cueball__histogram *measured = histogram_of(pool, measure);
    return measured ? cueball__histogram_quantile(measured, q) / CUEBALL__NS_PER_MS : 0;
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

/* All of what is counted by its cause. */
static uint64_t counted(const uint64_t *by_cause, size_t causes)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < causes; i++)
        sum += by_cause[i];
    return sum;
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
    stats->claim_timeouts = counters->refused_by[-CUEBALL_ECLAIM_TIMEOUT];
    stats->claims_refused = counted(counters->refused_by, CUEBALL__ERRORS) - stats->claim_timeouts;
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
    stats->closed = counted(counters->closed_by, CUEBALL_CAUSE_LAST + 1);
    stats->checks = counters->checks;
    stats->checks_failed = counters->checks_failed;
    stats->plans = counters->plans;
    stats->shuffles = counters->shuffles;
    stats->backend_deaths = counted(counters->deaths_by, CUEBALL_CAUSE_LAST + 1);
    stats->ejections = counters->ejections;
    stats->paused = pool->is_paused;
    stats->drained_backends = pool->drained;
    stats_quantiles(pool, stats);
}

void cueball_pool_counts(const cueball_pool *pool, cueball_counts *counts)
{
    counts->idle = cueball__idle_count(&pool->idle) + pool->doubtful_count;
    counts->busy = cueball__pool_busy(pool);
    counts->connecting = pool->counts[CUEBALL_SLOT_CONNECTING];
    counts->backing_off = pool->counts[CUEBALL_SLOT_BACKOFF];
    counts->waiting = pool->outlook.waiting;
    counts->backends = pool->known;
    counts->dead_backends = pool->dead;
    assert(counts->dead_backends <= counts->backends);
}

#define SLOT_FIRST CUEBALL__END_OF(cueball_slot_info, suspect)

static void slot_describe(const cueball__slot *slot, cueball_slot_info *info)
{
    bool is_connected = cueball__slot_is_connected(slot);
    bool awaits_time = slot->state != CUEBALL_SLOT_IDLE && slot->state != CUEBALL_SLOT_BUSY && cueball__timer_is_armed(&slot->timer);
    info->attempt = slot->attempt;
    info->uses = is_connected ? cueball__handle_generation(slot->lease) - slot->leases_before : 0;
    info->on_return = slot->state == CUEBALL_SLOT_BUSY ? slot->on_return : 0;
    info->backend = cueball__member_handle(&slot->backend->member);
    info->conn = slot->conn;
    info->lease = slot->state == CUEBALL_SLOT_BUSY && !slot->untold ? slot->lease : 0;
    info->since = slot->state_since;
    info->opened_at = is_connected ? slot->opened_at : 0;
    info->due = awaits_time ? slot->timer.deadline : CUEBALL_NEVER;
    info->unproven = slot->unproven;
    info->suspect = slot->suspect;
    assert(info->backend != 0);
}

bool cueball_pool_slot_at(const cueball_pool *pool, uint32_t index, cueball_slot_info *info)
{
    if (index >= pool->slots.made)
        return false;
    const cueball__slot *slot = cueball__table_at(&pool->slots, index);
    cueball_slot_info whole;
    memset(&whole, 0, sizeof whole);
    whole.slot = index;
    whole.state = slot->state;
    if (slot->state != CUEBALL_SLOT_FREE)
        slot_describe(slot, &whole);
    cueball__sized_write(info, SLOT_FIRST, &whole, sizeof whole);
    return true;
}

void cueball_pool_stats(const cueball_pool *pool, cueball_stats *stats)
{
    cueball_stats whole;
    stats_gather(pool, &whole);
    cueball__sized_write(stats, FIRST, &whole, sizeof whole);
}

uint64_t cueball_pool_refused_by(const cueball_pool *pool, int error)
{
    return error < 0 && error > -CUEBALL__ERRORS ? pool->counters.refused_by[-error] : 0;
}

uint64_t cueball_pool_deaths_by(const cueball_pool *pool, int cause)
{
    return cause >= 0 && cause <= CUEBALL_CAUSE_LAST ? pool->counters.deaths_by[cause] : 0;
}

uint64_t cueball_pool_histogram(const cueball_pool *pool, int measure, const double *bounds_ms, uint64_t *counts, uint32_t count,
                                double *sum_ms)
{
    const cueball__histogram *measured = histogram_of(pool, measure);
    uint64_t at_once = measure == CUEBALL_MEASURE_WAIT ? pool->counters.granted_at_once : 0;
    if (!measured) {
        memset(counts, 0, count * sizeof *counts);
        *sum_ms = 0;
        return 0;
    }
    double sum = cueball__histogram_below(measured, bounds_ms, CUEBALL__NS_PER_MS, counts, count);
    for (uint32_t i = 0; i < count; i++)
        if (bounds_ms[i] >= 0)
            counts[i] += at_once;
    if (measure == CUEBALL_MEASURE_LEASE)
        sum = (double)pool->lease_sum;
    *sum_ms = sum / CUEBALL__NS_PER_MS;
    assert(*sum_ms >= 0);
    return measured->total + at_once;
}
