/* How many slots a pool with `spares` should have: as many connections as are
 * in use, and the spares, growing with load and shrinking some time after it.
 *
 * Growing: a new connection takes time to open.  Claims that the present
 * connections will have served by then need no new one, so those are not counted;
 * and attempts beyond the spares are begun a few at a time, so that each is
 * asked again whether it is needed before it begins.
 *
 * Shrinking: five times a second the most that was in use since the last sample
 * goes through a low-pass filter with weights that fall by exp(-0.2) a sample (63 %
 * of a step after 1 s, 95 % after 3 s), and the pool does not shrink below what
 * comes out.  Leases shorter than the time between samples count in this way.  Load
 * that is steady has peaks of all heights, some of them rare: while there are claims,
 * no more than one connection is closed for each SHRINK_CLAIMS of them, so that
 * those opened again cost no more than that.  A pool at rest holds what it has in
 * use and its spares. */
#include "demand.h"

#include <math.h>

#define SAMPLE_GAP 200000000                 /* ns */
#define SAMPLE_SHARE 0.181269246922018151257 /* 1 - exp(-0.2): weight of the newest sample */
#define SETTLED 0.5                          /* slots: what is left of a step that far is over */
#define SHRINK_CLAIMS 200                    /* claims, for each connection closed while there are any */
#define SHRINK_SAVED 5                       /* connections for which claims count in advance */
#define REST_SPAN 10000000000                /* ns: a pool that nobody claimed from for so long is at rest */

static uint32_t pool_established(const cueball_pool *pool)
{
    return pool->counts[CUEBALL__COUNT_LENDABLE] + pool->counts[CUEBALL_SLOT_CHECKING];
}

/* How long a lease takes of late, ns; 0: none has ended of late. */
static cueball_time pool_lease_time(const cueball_pool *pool)
{
    assert(pool->lease_histogram.total >= pool->demand.leases_seen);
    assert(pool->lease_sum >= pool->demand.lease_sum_seen);
    assert(pool->demand.seen_at <= pool->now);
    const cueball__demand *demand = &pool->demand;
    uint64_t ended = pool->lease_histogram.total - demand->leases_seen;
    if (ended > 0)
        return (pool->lease_sum - demand->lease_sum_seen) / ended + 1;
    return pool->now - demand->seen_at < demand->connect_time + 2 * demand->lease_time ? demand->lease_time : 0;
}

/* Claims that wait and will not be served by the connections there are before
 * one that begins to open now could serve them (Little's law). */
static uint32_t pool_unserved(const cueball_pool *pool)
{
    assert(pool->outlook.waiting <= pool->claims.count);
    cueball_time lease_time = pool_lease_time(pool);
    if (pool->outlook.waiting == 0 || lease_time == 0)
        return pool->outlook.waiting;
    cueball_time opens_in = pool->demand.connect_time ? pool->demand.connect_time : pool->settings.connect.timeout;
    double served = (double)pool_established(pool) * (double)opens_in / (double)lease_time;
    return served >= (double)pool->outlook.waiting ? 0 : pool->outlook.waiting - (uint32_t)served;
}

/* How long the oldest claim has waited, but for a pause. */
static cueball_time pool_longest_wait(const cueball_pool *pool)
{
    assert((pool->outlook.waiting == 0) == cueball__list_is_empty(&pool->queue));
    if (pool->outlook.waiting == 0)
        return 0;
    cueball_time since = CUEBALL__OWNER(pool->queue.next, cueball__claim, at_state)->waiting_since;
    return pool->now - (since > pool->resumed_at ? since : pool->resumed_at);
}

/* Attempts that may be under way at once beyond the spares: one while it is not
 * known how long things take, then as many as there are connections, so that a
 * pool under load doubles with each round. */
static uint32_t pool_growth_max(const cueball_pool *pool, uint32_t unserved)
{
    if (pool->demand.connect_time == 0 || (pool_lease_time(pool) == 0 && pool_longest_wait(pool) < pool->demand.connect_time))
        return 1;
    uint32_t established = pool_established(pool);
    uint32_t most = established > 1 ? established : 1;
    return unserved < 1 ? 1 : unserved < most ? unserved : most;
}

/* Whether the number of slots follows the load. */
static bool pool_has_demand(const cueball_pool *pool)
{
    return pool->options.spares < pool->options.max_connections && !pool->is_set && !cueball__pool_is_over(pool);
}

static bool pool_rests(const cueball_pool *pool)
{
    assert(pool->demand.claimed_at <= pool->now);
    const cueball__demand *demand = &pool->demand;
    return pool->outlook.waiting == 0 && (demand->claimed_at == 0 || pool->now - demand->claimed_at >= REST_SPAN);
}

/* The plan has so many slots, where the one before had `before`. */
void cueball__demand_planned(cueball_pool *pool, uint32_t before)
{
    assert(pool->planned_target <= pool->options.max_connections);
    if (pool->planned_target < before && !pool_rests(pool))
        pool->demand.may_close = fmax(pool->demand.may_close - (before - pool->planned_target), 0);
    assert(pool->demand.may_close >= 0);
}

/* A connection was lent, or none could be.  The short way of a claim does not come
 * by here as long as it finds as many at rest as one that did. */
void cueball__demand_peak(cueball_pool *pool)
{
    uint32_t busy = cueball__pool_busy(pool), idle = cueball__idle_count(&pool->idle);
    if (busy > pool->demand.peak)
        pool->demand.peak = busy;
    if (pool_has_demand(pool))
        pool->idle_plain = idle > pool->idle_low ? idle : pool->idle_low;
}

/* A claim that does not wait found nothing. */
void cueball__demand_unmet(cueball_pool *pool)
{
    pool->demand.is_unmet = true;
    pool->demand.claimed_at = pool->now;
    cueball__demand_changed(pool);
}

/* The slots there should be now. */
uint32_t cueball__demand_target(const cueball_pool *pool)
{
    assert(pool->demand.smoothed >= 0);
    assert(pool->demand.may_close >= 0);
    uint32_t ceiling = pool->options.max_connections, spares = pool->options.spares;
    if (spares >= ceiling)
        return ceiling;
    if (pool->is_set)
        return spares;
    if (pool->is_paused) { /* what waits, and what is not claimed, says nothing of the load */
        uint32_t kept = pool->planned_target < ceiling ? pool->planned_target : ceiling;
        return kept > spares ? kept : spares;
    }
    uint32_t unserved = pool_unserved(pool);
    uint64_t in_use = (uint64_t)cueball__pool_busy(pool) + spares + pool->demand.is_unmet;
    uint64_t target = in_use + unserved;
    uint64_t paced = (uint64_t)pool_established(pool) + pool_growth_max(pool, unserved);
    if (target > paced)
        target = paced;
    if (target < spares)
        target = spares;
    if (pool->demand.smoothed - (double)in_use > SETTLED && (double)target < pool->demand.smoothed) {
        uint64_t kept = (uint64_t)ceil(pool->demand.smoothed); /* it does not shrink below that, and does not grow for it */
        kept = kept < pool->planned_target ? kept : pool->planned_target;
        target = target > kept ? target : kept;
    }
    uint64_t under_way = in_use + pool->counts[CUEBALL_SLOT_CONNECTING];
    if (target < under_way && target < pool->planned_target) /* what has begun to open may end */
        target = under_way < pool->planned_target ? under_way : pool->planned_target;
    if (target < 1 && pool->outlook.waiting > 0)
        target = 1;
    if (target < pool->planned_target && !pool_rests(pool)) {
        uint32_t least = pool->planned_target - (uint32_t)fmin(pool->demand.may_close, pool->planned_target);
        target = target > least ? target : least;
    }
    return target < ceiling ? (uint32_t)target : ceiling;
}

/* A pause begins: what is used meanwhile says nothing of the load. */
void cueball__demand_paused(cueball_pool *pool)
{
    assert(pool->is_paused);
    cueball__timers_cancel(&pool->timers, &pool->sample);
}

/* It is over, and the load is taken for what it was before. */
void cueball__demand_resumed(cueball_pool *pool)
{
    assert(!pool->is_paused);
    assert(pool->paused_since <= pool->now);
    if (pool->demand.claimed_at > 0)
        pool->demand.claimed_at += pool->now - pool->paused_since;
    if (pool->demand.claimed_at > pool->now)
        pool->demand.claimed_at = pool->now;
    cueball__demand_changed(pool);
}

static void demand_judge(cueball_pool *pool)
{
    if (cueball__demand_target(pool) != pool->planned_target)
        pool->plan_is_due = pool->is_unsettled = true;
}

/* Something that decides the demand changed.  From then on it is looked at five
 * times a second, until nothing moves. */
void cueball__demand_changed(cueball_pool *pool)
{
    if (!pool_has_demand(pool))
        return;
    if (!cueball__timer_is_armed(&pool->sample) && !pool->is_paused && !pool->is_forecast)
        cueball__timers_arm(&pool->timers, &pool->sample, cueball__time_after(pool->now, SAMPLE_GAP));
    demand_judge(pool);
}

/* A connection opened, after so long. */
void cueball__demand_connected(cueball_pool *pool, cueball_time took)
{
    cueball__demand *demand = &pool->demand;
    demand->connect_time = demand->connect_time ? (demand->connect_time * 7 + took) / 8 : took + 1;
    cueball__demand_changed(pool);
}

/* What claims there were since the last sample. */
static void demand_count(cueball_pool *pool)
{
    assert(pool->counters.granted_at_once + pool->counters.queued >= pool->demand.claims_seen);
    cueball__demand *demand = &pool->demand;
    uint64_t claims = pool->counters.granted_at_once + pool->counters.queued;
    uint64_t came = claims - demand->claims_seen;
    demand->claims_seen = claims;
    if (came > 0 || pool->outlook.waiting > 0)
        demand->claimed_at = pool->now;
    if (demand->may_close < SHRINK_SAVED)
        demand->may_close = fmin(demand->may_close + (double)came / SHRINK_CLAIMS, SHRINK_SAVED);
    assert(demand->claimed_at <= pool->now);
}

void cueball__demand_sample(cueball_pool *pool)
{
    cueball__demand *demand = &pool->demand;
    uint64_t ended = pool->lease_histogram.total - demand->leases_seen;
    if (ended > 0) {
        demand->lease_time = (pool->lease_sum - demand->lease_sum_seen) / ended + 1;
        demand->leases_seen = pool->lease_histogram.total;
        demand->lease_sum_seen = pool->lease_sum;
        demand->seen_at = pool->now;
    }
    demand_count(pool);
    uint32_t busy = cueball__pool_busy(pool);
    double most = (double)(demand->peak > busy ? demand->peak : busy) + pool->options.spares + demand->is_unmet;
    most = fmin(most, pool->options.max_connections);
    demand->smoothed = most > demand->smoothed ? most : demand->smoothed + (most - demand->smoothed) * SAMPLE_SHARE;
    bool is_settled = pool_rests(pool) && demand->peak <= busy && !demand->is_unmet && demand->smoothed - most <= SETTLED;
    demand->peak = busy;
    demand->is_unmet = false;
    pool->idle_plain = cueball__idle_count(&pool->idle); /* the next claim is looked at */
    if (is_settled)
        demand->smoothed = most;
    if (!is_settled || busy > 0)
        cueball__timers_arm(&pool->timers, &pool->sample, cueball__time_after(pool->now, SAMPLE_GAP));
    demand_judge(pool);
    assert(demand->smoothed <= pool->options.max_connections || demand->smoothed > most);
    assert(!demand->is_unmet);
}
