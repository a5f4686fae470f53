/* Leases: each ends exactly once, by its claimer or by the pool, and that tells
 * something of its connection and of its backend. */
#include "lease.h"

#include "action.h"
#include "conn.h"
#include "event.h"
#include "latency.h"
#include "life.h"
#include "outlier.h"
#include "slot.h"

/* What a lease that ended tells: of the pool, and of its backend. */
static void slot_measure(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    assert(slot->state_since <= pool->now);
    assert(cause != CUEBALL_CAUSE_CANCEL);
    cueball_time held = pool->now - slot->state_since;
    cueball__histogram_add(&pool->lease_histogram, held);
    pool->lease_sum += held;
    bool has_failed = cause == CUEBALL_CAUSE_FAIL || slot->on_return == CUEBALL_CAUSE_LOST || slot->on_return == CUEBALL_CAUSE_TIMEOUT
                      || slot->went == WENT_BADLY;
    bool has_worked = slot->went == WENT_WELL || (cause == CUEBALL_CAUSE_RELEASE && slot->on_return != CUEBALL_CAUSE_UNFIT);
    if (has_failed)
        cueball__outlier_failed(pool, slot->backend);
    else if (has_worked && pool->failing)
        cueball__outlier_forgive(pool, slot->backend);
    if (has_worked && !has_failed)
        cueball__latency_observe(pool, slot->backend, held);
    else /* one that had to be closed, for nobody's fault: most often there was an error, and errors are quick */
        cueball__latency_failed(pool, slot->backend, held);
}

/* How many leases of the connection may follow the present one. */
uint32_t cueball__lease_uses_left(const cueball_pool *pool, const cueball__slot *slot)
{
    assert(pool->options.max_uses > 0);
    uint32_t used = cueball__handle_generation(slot->lease) - slot->leases_before;
    if (pool->options.max_uses == UINT32_MAX)
        return UINT32_MAX;
    return used < pool->options.max_uses ? pool->options.max_uses - used : 0;
}

/* What becomes of a connection that its claimer gave back in order; true: it can be
 * lent again. */
static bool slot_released(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    assert(slot->state == CUEBALL_SLOT_BUSY);
    assert(cause == CUEBALL_CAUSE_RELEASE || cause == CUEBALL_CAUSE_CANCEL);
    assert(slot->on_return != CUEBALL_CAUSE_LOST);
    if (slot->on_return == CUEBALL_CAUSE_UNFIT || slot->on_return == CUEBALL_CAUSE_TIMEOUT) {
        cueball__slot_close(pool, slot, slot->on_return);
        return false;
    }
    if (cause == CUEBALL_CAUSE_RELEASE)
        cueball__slot_prove(pool, slot, slot->on_return == CUEBALL_CAUSE_WORN ? CUEBALL_CAUSE_WORN : cause);
    if (slot->on_return)
        cueball__slot_close(pool, slot, slot->on_return);
    else if (slot->backend->removed)
        cueball__slot_close(pool, slot, CUEBALL_CAUSE_REMOVED);
    else if (slot->backend->drained)
        cueball__slot_close(pool, slot, CUEBALL_CAUSE_DRAIN);
    else if (pool->now >= slot->retire_at)
        cueball__slot_close(pool, slot, slot->renews ? CUEBALL_CAUSE_RENEW : CUEBALL_CAUSE_LIFETIME);
    else if (cueball__lease_uses_left(pool, slot) == 0 && cause == CUEBALL_CAUSE_RELEASE)
        cueball__slot_close(pool, slot, CUEBALL_CAUSE_MAX_USES);
    else
        return true;
    return false;
}

/* The lease has ended; `cause` says how, and so what becomes of the connection.  True:
 * it is to be offered to others. */
bool cueball__lease_end(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    assert(cause != CUEBALL_CAUSE_NONE);
    assert(slot->backend->connected > 0);
    assert((slot->owner != NULL) == slot->owned);
    assert(slot->owned == cueball__link_is_linked(&slot->at_state));
    assert(!slot->doubted);
    assert(slot->state == CUEBALL_SLOT_BUSY);
    CUEBALL__TRACE5(release, pool, slot->member.index, slot->lease, cause, pool->now - slot->state_since);
    cueball__latency_return(pool, slot);
    if (cause != CUEBALL_CAUSE_CANCEL) /* that one was no lease to anybody */
        slot_measure(pool, slot, cause);
    slot->untold = 0;
    slot->went = WENT_UNTOLD;
    if (slot->owner)
        cueball__lease_disown(slot);
    if (cueball__pool_watches(pool, CUEBALL_EVENT_LEASE_ENDED)) {
        cueball_event event = { .kind = CUEBALL_EVENT_LEASE_ENDED, .cause = (int32_t)cause };
        event.slot = slot->member.index;
        event.conn = slot->conn;
        event.lease = slot->lease;
        event.backend = cueball__member_handle(&slot->backend->member);
        cueball__event_add(pool, &event);
    }
    slot->used_at = pool->now;
    cueball__chore_drop(pool, slot, CUEBALL__CHORE_RECALL);
    if (slot->on_return == CUEBALL_CAUSE_LOST) {
        pool->counters.lost++;
        cueball__slot_blame(pool, slot, cause == CUEBALL_CAUSE_FAIL ? cause : CUEBALL_CAUSE_LOST);
    } else if (cause == CUEBALL_CAUSE_FAIL) {
        cueball__slot_blame(pool, slot, cause);
    } else if (cause == CUEBALL_CAUSE_RELEASE || cause == CUEBALL_CAUSE_CANCEL) {
        return slot_released(pool, slot, cause);
    } else {
        if (slot->on_return == CUEBALL_CAUSE_WORN)
            cueball__slot_prove(pool, slot, CUEBALL_CAUSE_WORN);
        cueball__slot_close(pool, slot, cause);
    }
    return false;
}

/* Notes in the histogram what `count` leases lasted; returns the longest, ns, and adds
 * them up in *sum. */
static cueball_time spans_measure(cueball_pool *pool, const uint32_t *spans, cueball_time each, uint32_t count, uint64_t *sum)
{
    assert(count > 0);
    cueball_time longest = spans ? 0 : each;
    for (uint32_t i = 0; i < count; i++) {
        cueball_time span = spans ? spans[i] : each;
        cueball__histogram_add(&pool->lease_histogram, span);
        *sum += span;
        longest = span > longest ? span : longest;
    }
    assert(*sum >= longest);
    return longest;
}

/* The lease was given back and had again so many times.  p2c is told the mean, which
 * weighs by the time since it was told last, and then the peak. */
void cueball__lease_repeat(cueball_pool *pool, cueball__slot *slot, cueball_time began, const uint32_t *spans, uint32_t count)
{
    assert(slot->state == CUEBALL_SLOT_BUSY);
    assert(count <= cueball__lease_uses_left(pool, slot));
    began = began > pool->now ? pool->now : began < slot->state_since ? slot->state_since : began;
    if (count > 0) {
        uint64_t sum = 0;
        cueball_time longest = spans_measure(pool, spans, (began - slot->state_since) / count, count, &sum);
        pool->lease_sum += sum;
        pool->counters.granted_at_once += count;
        if (pool->failing)
            cueball__outlier_forgive(pool, slot->backend);
        cueball__latency_observe(pool, slot->backend, sum / count);
        cueball__latency_observe(pool, slot->backend, longest);
        cueball__slot_prove(pool, slot, CUEBALL_CAUSE_RELEASE);
    }
    for (uint32_t i = 0; i < count; i++)
        slot->lease = cueball__handle_next(slot->lease);
    cueball__latency_return(pool, slot);
    slot->state_since = began;
    cueball__latency_lend(pool, slot);
    assert(slot->state_since <= pool->now);
    assert(slot->state == CUEBALL_SLOT_BUSY);
}
