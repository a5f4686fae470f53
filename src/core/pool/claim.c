/* Claims and the queue of those that wait.  A claim is answered exactly once: by the
 * call that makes it, or by a GRANT or REFUSE action, or by its own cancelling. */
#include "claim.h"

#include "action.h"
#include "demand.h"
#include "event.h"
#include "overload.h"

#include <math.h>

#define FIRST CUEBALL__END_OF(cueball_claim_options, owner)

/* For those who watch. */
void cueball__claim_note(cueball_pool *pool, cueball_event_kind kind, cueball_handle claim, uint64_t user, int error, uint32_t ahead)
{
    if (!cueball__pool_watches(pool, kind))
        return;
    cueball_event event = { .kind = (int32_t)kind, .claim = claim, .user = user, .error = error, .count = ahead };
    cueball__event_add(pool, &event);
}

/* Nobody waits any more. */
void cueball__queue_relieve(cueball_pool *pool)
{
    if (pool->overload.lasts)
        cueball__event_note(pool, CUEBALL_EVENT_RELIEVED, NULL, 0);
    cueball__overload_end(&pool->overload);
}

static void claim_disown(cueball__claim *claim)
{
    assert((claim->owner != NULL) == cueball__link_is_linked(&claim->at_owner));
    if (claim->owner)
        cueball__list_remove(&claim->at_owner);
    claim->owner = NULL;
}

/* What tells whether there is overload, and says so when that changes. */
static void pool_observe(cueball_pool *pool, cueball_time waited)
{
    assert(pool->options.queue != CUEBALL_QUEUE_FIFO);
    assert(pool->settings.target_claim_delay > 0);
    bool lasted = pool->overload.lasts;
    cueball__overload_observe(&pool->overload, pool->now, waited, pool->settings.target_claim_delay);
    if (pool->overload.lasts != lasted)
        cueball__event_note(pool, lasted ? CUEBALL_EVENT_RELIEVED : CUEBALL_EVENT_OVERLOADED, NULL, pool->outlook.waiting);
}

static void claim_refuse(cueball_pool *pool, cueball__claim *claim, cueball_error error)
{
    assert(error != CUEBALL_OK);
    assert(claim->slot == NULL);
    cueball__claim_unqueue(pool, claim);
    claim->state = CLAIM_REFUSED;
    claim->error = (int16_t)error;
    cueball__claim_note(pool, CUEBALL_EVENT_CLAIM_REFUSED, cueball__member_handle(&claim->member), claim->user, error, claim->ahead);
    cueball__answer_add(pool, claim);
    assert(claim->state == CLAIM_REFUSED);
    assert(cueball__link_is_linked(&claim->at_state));
    assert(!cueball__timer_is_armed(&claim->timer));
}

/* The same where overload is looked for, and by the way those refused whose turn it
 * would have been. */
cueball__claim *cueball__claim_next_controlled(cueball_pool *pool)
{
    assert(pool->options.queue != CUEBALL_QUEUE_FIFO);
    while (pool->outlook.waiting > 0) {
        cueball__claim *oldest = CUEBALL__OWNER(pool->queue.next, cueball__claim, at_state);
        cueball_time since = oldest->waiting_since > pool->resumed_at ? oldest->waiting_since : pool->resumed_at;
        cueball_time waited = pool->now - since; /* a pause is no overload */
        pool_observe(pool, waited);
        if (!pool->overload.lasts)
            return oldest;
        if (pool->options.queue == CUEBALL_QUEUE_ADAPTIVE_LIFO)
            return CUEBALL__OWNER(pool->queue.prev, cueball__claim, at_state);
        if (waited <= pool->settings.target_claim_delay)
            return oldest;
        claim_refuse(pool, oldest, CUEBALL_EOVERLOADED);
    }
    return NULL;
}

void cueball__claims_refuse(cueball_pool *pool, cueball_error error)
{
    assert(error != CUEBALL_OK);
    while (!cueball__list_is_empty(&pool->queue))
        claim_refuse(pool, CUEBALL__OWNER(pool->queue.next, cueball__claim, at_state), error);
    assert(pool->outlook.waiting == 0);
}

/* A claim may wait so long by overload control, from now on, or by its own time limit. */
static void claim_bound(cueball_pool *pool, cueball__claim *claim)
{
    cueball_time wait_max = CUEBALL_NEVER;
    if (pool->options.queue != CUEBALL_QUEUE_FIFO && !pool->is_paused)
        wait_max = cueball__overload_wait_max(&pool->overload, pool->settings.target_claim_delay);
    cueball_time bound = cueball__time_after(pool->now, wait_max);
    claim->is_bounded = bound < claim->limit;
    cueball__timers_arm(&pool->timers, &claim->timer, claim->is_bounded ? bound : claim->limit);
}

/* A pause is over: overload control counts the waits from now. */
void cueball__claims_bound(cueball_pool *pool)
{
    assert(!pool->is_paused);
    if (pool->options.queue == CUEBALL_QUEUE_FIFO)
        return;
    for (cueball__link *link = pool->queue.next; link != &pool->queue; link = link->next)
        claim_bound(pool, CUEBALL__OWNER(link, cueball__claim, at_state));
}

void cueball__claim_due(cueball_pool *pool, cueball__claim *claim)
{
    assert(claim->state == CLAIM_WAITING);
    assert(!cueball__timer_is_armed(&claim->timer));
    assert(claim->timer.deadline <= pool->now);
    if (pool->is_paused && claim->limit > pool->now) { /* overload control is out of use */
        claim_bound(pool, claim);
        return;
    }
    claim->is_bounded &= !pool->is_paused;
    claim_refuse(pool, claim, claim->is_bounded ? CUEBALL_EOVERLOADED : CUEBALL_ECLAIM_TIMEOUT);
}

/* Why a claim that gets no connection at once may not wait; 0 if it may. */
static int claim_objection(const cueball_pool *pool, const cueball_claim_options *options, cueball_time timeout)
{
    assert(pool->is_paused || cueball__idle_is_empty(&pool->idle));
    assert(pool->is_paused || pool->doubtful_count == 0);
    if (cueball__pool_is_over(pool))
        return CUEBALL_EPOOL_STOPPING;
    if (cueball__pool_is_failed(pool))
        return CUEBALL_EPOOL_FAILED;
    if (options && options->error_on_empty && cueball__pool_in_use(pool) == 0)
        return CUEBALL_ENO_BACKENDS;
    if (timeout == 0)
        return pool->is_paused ? CUEBALL_EPAUSED : CUEBALL_ECLAIM_TIMEOUT;
    if (pool->outlook.waiting >= pool->options.max_waiters)
        return pool->is_paused ? CUEBALL_EPAUSED : CUEBALL_EOVERLOADED;
    return CUEBALL_OK;
}

static int claim_queue(cueball_pool *pool, const cueball_claim_options *options, cueball_time timeout, cueball_grant *grant)
{
    assert(timeout > 0);
    assert(!cueball__pool_is_over(pool));
    assert(pool->outlook.waiting < pool->options.max_waiters);
    bool is_new;
    cueball__claim *claim = cueball__table_add(&pool->claims, &is_new);
    if (!claim)
        return pool->claims.count == CUEBALL__MEMBERS_MAX ? CUEBALL_EOVERLOADED : CUEBALL_ENOMEM;
    if (is_new) {
        cueball__link_init(&claim->at_state);
        cueball__link_init(&claim->at_owner);
        claim->timer.kind = CUEBALL__TIMER_CLAIM;
    }
    claim->state = CLAIM_WAITING;
    claim->waiting_since = pool->now;
    claim->user = options ? options->user : 0;
    claim->owner = options ? options->owner : NULL;
    claim->ahead = pool->outlook.waiting++;
    if (claim->owner)
        cueball__list_append(&claim->owner->claims, &claim->at_owner);
    cueball__list_append(&pool->queue, &claim->at_state);
    claim->limit = cueball__time_after(pool->now, timeout);
    claim_bound(pool, claim);
    pool->counters.queued++;
    if (pool->outlook.waiting > pool->waiting_max)
        pool->waiting_max = pool->outlook.waiting;
    grant->claim = cueball__member_handle(&claim->member);
    grant->ahead = claim->ahead;
    cueball__claim_note(pool, CUEBALL_EVENT_CLAIM_WAITING, grant->claim, claim->user, 0, claim->ahead);
    cueball__demand_changed(pool);
    assert(grant->claim != 0);
    assert(pool->outlook.waiting <= pool->claims.count);
    assert(pool->waiting_max >= pool->outlook.waiting);
    return CUEBALL_WAITING;
}

/* How long a claim may wait; 0: not at all. */
static cueball_time claim_timeout(const cueball_pool *pool, double timeout_ms)
{
    double span = timeout_ms * CUEBALL__NS_PER_MS;
    if (timeout_ms == 0)
        return pool->settings.claim_timeout;
    if (timeout_ms < 0)
        return 0;
    return span < 1 ? 1 : span < 9e18 ? (cueball_time)span : CUEBALL_NEVER; /* less than a nanosecond is still a wait */
}

/* The claim did not find a connection at rest: it waits, or is refused. */
int cueball__claim_wait(cueball_pool *pool, const cueball_claim_options *options, cueball_grant *grant)
{
    cueball_claim_options known = { 0 };
    if (options && (!cueball__sized_read(&known, sizeof known, FIRST, options) || isnan(known.timeout_ms)))
        return CUEBALL_EINVAL;
    cueball_time timeout = claim_timeout(pool, known.timeout_ms);
    int result = claim_objection(pool, options, timeout);
    if (result == CUEBALL_OK)
        result = claim_queue(pool, options, timeout, grant);
    if (result < 0) {
        CUEBALL__TRACE3(refuse, pool, result, 0);
        pool->counters.refused_at_once++;
        pool->counters.refused_by[-result]++;
        cueball__claim_note(pool, CUEBALL_EVENT_CLAIM_REFUSED, 0, options ? options->user : 0, result, pool->outlook.waiting);
        if (result == CUEBALL_ECLAIM_TIMEOUT)
            cueball__demand_unmet(pool);
    }
    assert(result == CUEBALL_WAITING || result < 0);
    return result;
}

/* The claim ends without an answer.  If it was granted, and that was not told yet,
 * the slot comes back whose lease it would have had; else NULL. */
cueball__slot *cueball__claim_cancel(cueball_pool *pool, cueball__claim *claim)
{
    assert(claim->state != 0);
    assert(claim->state != CLAIM_GRANTED || claim->slot->untold);
    cueball__claim_note(pool, CUEBALL_EVENT_CLAIM_CANCELLED, cueball__member_handle(&claim->member), claim->user, 0, claim->ahead);
    cueball__slot *slot = NULL;
    if (claim->state == CLAIM_WAITING) {
        cueball__claim_unqueue(pool, claim);
    } else {
        cueball__answer_drop(pool, claim);
        slot = claim->state == CLAIM_GRANTED ? claim->slot : NULL;
    }
    claim_disown(claim);
    claim->state = 0;
    claim->slot = NULL;
    cueball__table_remove(&pool->claims, claim);
    pool->counters.claims_cancelled++;
    assert(!cueball__link_is_linked(&claim->at_state));
    assert(!cueball__link_is_linked(&claim->at_owner));
    assert(!slot || slot->state == CUEBALL_SLOT_BUSY);
    return slot;
}
