/* Why claims wait: the last reasons, each with the time since which it held.  A
 * claim's wait is the stretch of that record between its beginning and its
 * answer, so the parts add up to the whole, and a claim that does not wait
 * costs nothing. */
#include "explain.h"

#define STALL_MIN 50000000 /* ns later than its deadline: a host that is only busy comes sooner */

static cueball_reason pool_reason(const cueball_pool *pool)
{
    uint32_t in_use = cueball__pool_busy(pool);
    uint32_t opening = pool->counts[CUEBALL_SLOT_CONNECTING];
    if (pool->is_paused)
        return CUEBALL_REASON_PAUSED;
    if (cueball__pool_in_use(pool) == 0)
        return pool->known > 0 ? CUEBALL_REASON_DRAINED : CUEBALL_REASON_NO_BACKENDS;
    if (in_use > 0 && opening > 0)
        return CUEBALL_REASON_GROWING;
    if (in_use > 0)
        return pool->churn_holds ? CUEBALL_REASON_CHURN : CUEBALL_REASON_BUSY;
    if (opening > 0)
        return CUEBALL_REASON_CONNECTING;
    if (pool->counts[CUEBALL_SLOT_BACKOFF] > 0)
        return CUEBALL_REASON_BACKOFF;
    if (pool->counts[CUEBALL_SLOT_CHECKING] > 0)
        return CUEBALL_REASON_CHECKING;
    if (pool->counts[CUEBALL_SLOT_CLOSING] > 0)
        return CUEBALL_REASON_CLOSING;
    return pool->churn_holds ? CUEBALL_REASON_CHURN : CUEBALL_REASON_PLANNING;
}

static void reason_add(cueball__reasons *reasons, cueball_time since, cueball_reason reason)
{
    if (reasons->count > 0 && reasons->ring[(reasons->count - 1) % CUEBALL__REASONS_KEPT].held_from > since)
        since = reasons->ring[(reasons->count - 1) % CUEBALL__REASONS_KEPT].held_from;
    reasons->ring[reasons->count++ % CUEBALL__REASONS_KEPT] = (cueball__reason){ .held_from = since, .reason = reason };
    assert(reasons->count > 0);
}

/* The host should have come back at `since` (0: at once, for an owner): if claims wait, and it is long past that, the
 * host stood still meanwhile.  What held them holds again from now on. */
void cueball__reasons_stalled(cueball_pool *pool, cueball_time since)
{
    if (pool->outlook.waiting == 0 || since == 0 || pool->now < since || pool->now - since < STALL_MIN)
        return;
    reason_add(&pool->reasons, since, CUEBALL_REASON_STALLED);
    reason_add(&pool->reasons, pool->now, pool_reason(pool));
}

/* Notes the reason that holds from now on, if claims wait. */
void cueball__reasons_note(cueball_pool *pool)
{
    cueball__reasons *reasons = &pool->reasons;
    if (pool->outlook.waiting == 0)
        return;
    cueball_reason reason = pool_reason(pool);
    if (reasons->count > 0 && reasons->ring[(reasons->count - 1) % CUEBALL__REASONS_KEPT].reason == reason)
        return;
    reason_add(reasons, pool->now, reason);
}

uint32_t cueball_pool_explain(const cueball_pool *pool, cueball_time begun, cueball_time ended, cueball_wait *waits, uint32_t room)
{
    const cueball__reasons *reasons = &pool->reasons;
    uint32_t written = 0;
    uint32_t first = reasons->count > CUEBALL__REASONS_KEPT ? reasons->count - CUEBALL__REASONS_KEPT : 0;
    cueball_time from = begun;
    for (uint32_t i = first; i < reasons->count && written < room && from < ended; i++) {
        const cueball__reason *reason = &reasons->ring[i % CUEBALL__REASONS_KEPT];
        cueball_time until = i + 1 < reasons->count ? reasons->ring[(i + 1) % CUEBALL__REASONS_KEPT].held_from : ended;
        cueball_time since = reason->held_from < ended ? reason->held_from : ended;
        until = until < ended ? until : ended;
        if (until <= from)
            continue;
        if (since > from) { /* what held before is no longer on record */
            waits[written++] = (cueball_wait){ .reason = CUEBALL_REASON_FORGOTTEN, .span = since - from };
            from = since;
        }
        if (written == room || until <= from)
            continue;
        waits[written++] = (cueball_wait){ .reason = (int32_t)reason->reason, .span = until - from };
        from = until;
    }
    assert(written <= room);
    return written;
}
