/* Claims and leases.  A claim is answered exactly once: by the call that makes
 * it, or by a GRANT or REFUSE action, or by its own cancelling.  A lease ends
 * exactly once: by its claimer, or by the pool (owner gone, drain time over). */
#include "pool.h"

#include <math.h>

#define FIRST CUEBALL__END_OF(cueball_claim_options, owner)

/* The slot belongs to the owner for the lease. */
static void slot_own(cueball__slot *slot, cueball_owner *owner)
{
    slot->owner = owner;
    slot->owned = 1;
    cueball__list_append(&owner->leases, &slot->at_owner);
}

static void grant_note(cueball_pool *pool, const cueball__slot *slot, cueball_handle claim, uint64_t user)
{
    if (!cueball__pool_watches(pool, CUEBALL_EVENT_CLAIM_GRANTED))
        return;
    cueball_event event = { .kind = CUEBALL_EVENT_CLAIM_GRANTED, .claim = claim, .user = user };
    event.slot = slot->member.index;
    event.lease = slot->lease;
    event.conn = slot->conn;
    event.backend = cueball__member_handle(&slot->backend->member);
    cueball__event_add(pool, &event);
}

static void claim_note(cueball_pool *pool, cueball_event_kind kind, cueball_handle claim, uint64_t user, int error, uint32_t ahead)
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

/* The claim leaves the queue. */
static void claim_unqueue(cueball_pool *pool, cueball__claim *claim)
{
    assert(claim->state == CLAIM_WAITING);
    assert(pool->waiting > 0);
    cueball__list_remove(&claim->place);
    cueball__timers_cancel(&pool->timers, &claim->timer);
    pool->waiting--;
    if (pool->waiting == 0 && pool->options.queue != CUEBALL_QUEUE_FIFO)
        cueball__queue_relieve(pool);
    claim->waited = pool->now - claim->waiting_since;
}

static void claim_disown(cueball__claim *claim)
{
    if (claim->owner)
        cueball__list_remove(&claim->at_owner);
    claim->owner = NULL;
}

/* What tells whether there is overload, and says so when that changes. */
static void pool_observe(cueball_pool *pool, cueball_time waited)
{
    bool lasted = pool->overload.lasts;
    cueball__overload_observe(&pool->overload, pool->now, waited, pool->settings.target_claim_delay);
    if (pool->overload.lasts != lasted)
        cueball__event_note(pool, lasted ? CUEBALL_EVENT_RELIEVED : CUEBALL_EVENT_OVERLOADED, NULL, pool->waiting);
}

static void claim_refuse(cueball_pool *pool, cueball__claim *claim, cueball_error error)
{
    claim_unqueue(pool, claim);
    claim->state = CLAIM_REFUSED;
    claim->error = (int16_t)error;
    claim_note(pool, CUEBALL_EVENT_CLAIM_REFUSED, cueball__member_handle(&claim->member), claim->user, error, claim->ahead);
    cueball__answer_add(pool, claim);
}

/* The claim to be served next, and by the way those refused whose turn it would
 * have been; NULL if that leaves none. */
static cueball__claim *pool_next_claim(cueball_pool *pool)
{
    while (pool->waiting > 0) {
        cueball__claim *oldest = CUEBALL__OWNER(pool->queue.next, cueball__claim, place);
        if (pool->options.queue == CUEBALL_QUEUE_FIFO)
            return oldest;
        cueball_time waited = pool->now - oldest->waiting_since;
        pool_observe(pool, waited);
        if (!pool->overload.lasts)
            return oldest;
        if (pool->options.queue == CUEBALL_QUEUE_ADAPTIVE_LIFO)
            return CUEBALL__OWNER(pool->queue.prev, cueball__claim, place);
        if (waited <= pool->settings.target_claim_delay)
            return oldest;
        claim_refuse(pool, oldest, CUEBALL_EOVERLOADED);
    }
    return NULL;
}

/* Gives an open connection to the claim whose turn it is; false if none waits.
 * Claims and connections meet here and in cueball_pool_claim(), nowhere else: a
 * newcomer overtakes nobody, and since whatever was due has been refused before,
 * no claim is granted at or after its deadline. */
bool cueball__claim_serve(cueball_pool *pool, cueball__slot *slot)
{
    cueball__claim *claim = pool_next_claim(pool);
    if (!claim)
        return false;
    claim_unqueue(pool, claim);
    cueball__slot_set(pool, slot, CUEBALL_SLOT_BUSY, CUEBALL_CAUSE_CLAIM);
    cueball__slot_lend(slot, pool->now);
    cueball__latency_lend(pool, slot);
    if (claim->owner)
        slot_own(slot, claim->owner);
    claim->state = CLAIM_GRANTED;
    claim->slot = slot;
    slot->untold = 1;
    grant_note(pool, slot, cueball__member_handle(&claim->member), claim->user);
    cueball__answer_add(pool, claim);
    return true;
}

void cueball__claims_refuse(cueball_pool *pool, cueball_error error)
{
    while (!cueball__list_is_empty(&pool->queue))
        claim_refuse(pool, CUEBALL__OWNER(pool->queue.next, cueball__claim, place), error);
}

void cueball__claim_due(cueball_pool *pool, cueball__claim *claim)
{
    claim_refuse(pool, claim, claim->is_bounded ? CUEBALL_EOVERLOADED : CUEBALL_ECLAIM_TIMEOUT);
}

/* The drain time is over: claims that were granted and not told so yet are
 * refused after all. */
void cueball__grants_recall(cueball_pool *pool)
{
    CUEBALL__LIST_EACH(link, following, &pool->answers)
    {
        cueball__claim *claim = CUEBALL__OWNER(link, cueball__claim, place);
        if (claim->state != CLAIM_GRANTED)
            continue;
        cueball__slot *slot = claim->slot;
        claim->state = CLAIM_REFUSED;
        claim->error = CUEBALL_EPOOL_STOPPING;
        claim->slot = NULL;
        claim_note(pool, CUEBALL_EVENT_CLAIM_REFUSED, cueball__member_handle(&claim->member), claim->user, claim->error, claim->ahead);
        cueball__slot_came_back(pool, slot, CUEBALL_CAUSE_CANCEL);
    }
}

/* Why a claim that finds no idle connection may not wait; 0 if it may. */
static int claim_objection(const cueball_pool *pool, const cueball_claim_options *options, cueball_time timeout)
{
    if (cueball__pool_is_over(pool))
        return CUEBALL_EPOOL_STOPPING;
    if (pool->state == CUEBALL_POOL_FAILED)
        return CUEBALL_EPOOL_FAILED;
    if (options && options->error_on_empty && pool->known == 0)
        return CUEBALL_ENO_BACKENDS;
    if (timeout == 0)
        return CUEBALL_ECLAIM_TIMEOUT;
    if (pool->waiting >= pool->options.max_waiters)
        return CUEBALL_EOVERLOADED;
    return CUEBALL_OK;
}

static int claim_queue(cueball_pool *pool, const cueball_claim_options *options, cueball_time timeout, cueball_grant *grant)
{
    bool is_new;
    cueball__claim *claim = cueball__table_add(&pool->claims, &is_new);
    if (!claim)
        return pool->claims.count == CUEBALL__MEMBERS_MAX ? CUEBALL_EOVERLOADED : CUEBALL_ENOMEM;
    if (is_new) {
        cueball__link_init(&claim->place);
        cueball__link_init(&claim->at_owner);
        claim->timer.kind = CUEBALL__TIMER_CLAIM;
    }
    claim->state = CLAIM_WAITING;
    claim->waiting_since = pool->now;
    claim->waited = 0;
    claim->user = options ? options->user : 0;
    claim->owner = options ? options->owner : NULL;
    claim->ahead = pool->waiting++;
    if (claim->owner)
        cueball__list_append(&claim->owner->claims, &claim->at_owner);
    cueball__list_append(&pool->queue, &claim->place);
    cueball_time wait_max = CUEBALL_NEVER;
    if (pool->options.queue != CUEBALL_QUEUE_FIFO)
        wait_max = cueball__overload_wait_max(&pool->overload, pool->settings.target_claim_delay);
    claim->is_bounded = wait_max < timeout;
    cueball__timers_arm(&pool->timers, &claim->timer, cueball__time_after(pool->now, claim->is_bounded ? wait_max : timeout));
    pool->counters.queued++;
    if (pool->waiting > pool->waiting_max)
        pool->waiting_max = pool->waiting;
    grant->claim = cueball__member_handle(&claim->member);
    grant->ahead = claim->ahead;
    claim_note(pool, CUEBALL_EVENT_CLAIM_WAITING, grant->claim, claim->user, 0, claim->ahead);
    cueball__demand_changed(pool);
    cueball__pool_settle(pool);
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

/* What does not find a connection at rest. */
static int claim_slowly(cueball_pool *pool, const cueball_claim_options *options, cueball_grant *grant)
{
    cueball_claim_options known = { 0 };
    if (options && (!cueball__sized_read(&known, sizeof known, FIRST, options) || isnan(known.timeout_ms)))
        return CUEBALL_EINVAL;
    cueball_time timeout = claim_timeout(pool, known.timeout_ms);
    int result = claim_objection(pool, options, timeout);
    if (result == CUEBALL_OK)
        result = claim_queue(pool, options, timeout, grant);
    if (result < 0) {
        pool->counters.refused_at_once++;
        if (result == CUEBALL_ECLAIM_TIMEOUT)
            pool->counters.claim_timeouts++;
        else
            pool->counters.claims_refused++;
        claim_note(pool, CUEBALL_EVENT_CLAIM_REFUSED, 0, options ? options->user : 0, result, pool->waiting);
        if (result == CUEBALL_ECLAIM_TIMEOUT) {
            cueball__demand_unmet(pool);
            cueball__pool_settle(pool);
        }
    }
    return result;
}

static void grant_tell(const cueball__slot *slot, cueball_grant *grant)
{
    grant->lease = slot->lease;
    grant->conn = slot->conn;
    grant->backend = cueball__member_handle(&slot->backend->member);
    grant->slot = slot->member.index;
}

static CUEBALL__ASIDE int claim_in_full(cueball_pool *pool, cueball_time now, const cueball_claim_options *options, cueball_grant *grant)
{
    cueball__pool_begin(pool, now);
    if (cueball__idle_is_empty(&pool->idle) && pool->doubtful_count == 0)
        return claim_slowly(pool, options, grant);
    pool->counters.granted_at_once++;
    cueball__slot *slot;
    if (cueball__idle_is_empty(&pool->idle)) {
        slot = CUEBALL__OWNER(pool->doubtful.next, cueball__slot, at_owner);
        cueball__slot_wake(pool, slot);
    } else if (pool->options.balance == CUEBALL_BALANCE_P2C) {
        slot = cueball__latency_next(pool);
        cueball__slot_wake(pool, slot);
    } else {
        slot = cueball__idle_take(&pool->idle, pool->options.balance == CUEBALL_BALANCE_LIFO);
    }
    cueball__idle_trim(&pool->idle);
    cueball__slot_note(pool, slot, CUEBALL_SLOT_BUSY, CUEBALL_CAUSE_CLAIM);
    cueball__slot_lend(slot, pool->now);
    cueball__latency_lend(pool, slot);
    if (options && options->owner)
        slot_own(slot, options->owner);
    cueball__demand_peak(pool);
    if (cueball__idle_count(&pool->idle) < pool->idle_low)
        cueball__demand_changed(pool);
    grant_note(pool, slot, 0, options ? options->user : 0);
    grant_tell(slot, grant);
    cueball__pool_settle(pool);
    return CUEBALL_OK;
}

/* The lease ends, and so does what it was to its owner. */
static void slot_disown(cueball__slot *slot)
{
    slot->owner = NULL;
    slot->owned = 0;
    cueball__list_remove(&slot->at_owner);
}

/* Whether a claim gets the connection that is next, without ado. */
static bool claim_is_plain(const cueball_pool *pool)
{
    return cueball__idle_count(&pool->idle) > pool->idle_plain && !pool->idle.holes;
}

/* Most claims go this short way, which does the same as claim_in_full(). */
int cueball_pool_claim(cueball_pool *pool, cueball_time now, const cueball_claim_options *options, cueball_grant *grant)
{
    if (!cueball__pool_is_calm(pool, now) || !claim_is_plain(pool))
        return claim_in_full(pool, now, options, grant);
    pool->now = now;
    pool->counters.granted_at_once++;
    cueball__slot *slot = cueball__idle_take(&pool->idle, pool->options.balance == CUEBALL_BALANCE_LIFO);
    cueball__slot_lend(slot, now);
    if (options && options->owner)
        slot_own(slot, options->owner);
    grant_tell(slot, grant);
    return CUEBALL_OK;
}

/* The claim ends without an answer. */
static void claim_cancel(cueball_pool *pool, cueball__claim *claim)
{
    claim_note(pool, CUEBALL_EVENT_CLAIM_CANCELLED, cueball__member_handle(&claim->member), claim->user, 0, claim->ahead);
    cueball__slot *slot = NULL;
    if (claim->state == CLAIM_WAITING) {
        claim_unqueue(pool, claim);
    } else {
        cueball__answer_drop(pool, claim);
        slot = claim->state == CLAIM_GRANTED ? claim->slot : NULL;
    }
    claim_disown(claim);
    claim->state = 0;
    cueball__table_remove(&pool->claims, claim);
    pool->counters.claims_cancelled++;
    if (slot)
        cueball__slot_came_back(pool, slot, CUEBALL_CAUSE_CANCEL);
}

int cueball_pool_claim_cancelled(cueball_pool *pool, cueball_time now, cueball_handle handle)
{
    cueball__pool_begin(pool, now);
    cueball__claim *claim = cueball__table_find(&pool->claims, handle);
    bool is_ours = claim && claim->state != 0; /* 0: an invented handle, of a claim to come */
    if (is_ours)
        claim_cancel(pool, claim);
    cueball__pool_settle(pool);
    return is_ours ? CUEBALL_OK : CUEBALL_ESTALE;
}

/* The slot that `lease` is on, if it still is, and if its claimer was told. */
static cueball__slot *slot_by_lease(const cueball_pool *pool, cueball_handle lease)
{
    uint32_t index = cueball__handle_index(lease);
    if (index >= pool->slots.made)
        return NULL;
    cueball__slot *slot = cueball__table_at(&pool->slots, index);
    return slot->state == CUEBALL_SLOT_BUSY && !slot->untold && slot->lease == lease ? slot : NULL;
}

static int lease_end(cueball_pool *pool, cueball_time now, cueball_handle lease, cueball_cause cause, uint64_t *counter)
{
    cueball__pool_begin(pool, now);
    cueball__slot *slot = slot_by_lease(pool, lease);
    if (slot) {
        if (counter)
            ++*counter;
        cueball__slot_came_back(pool, slot, cause);
    }
    cueball__pool_settle(pool);
    return slot ? CUEBALL_OK : CUEBALL_ESTALE;
}

static CUEBALL__ASIDE int release_in_full(cueball_pool *pool, cueball_time now, cueball_handle lease)
{
    return lease_end(pool, now, lease, CUEBALL_CAUSE_RELEASE, NULL);
}

/* Whether the connection has just to be put to rest.  It need not be closed (of
 * its lifetime its timer would have told), and its timer runs. */
static bool release_is_plain(const cueball_pool *pool, const cueball__slot *slot)
{
    return !slot->on_return && !slot->untimed && !slot->unproven && !slot->suspect && !pool->idle.holes;
}

/* Most releases go this short way, which does the same as release_in_full(). */
int cueball_pool_lease_released(cueball_pool *pool, cueball_time now, cueball_handle lease)
{
    cueball__slot *slot = slot_by_lease(pool, lease);
    if (!slot || !cueball__pool_is_calm(pool, now) || !release_is_plain(pool, slot))
        return release_in_full(pool, now, lease);
    assert(now < slot->retire_at);
    pool->now = now;
    cueball__histogram_add(&pool->lease_histogram, now - slot->state_since);
    pool->lease_sum += now - slot->state_since;
    if (slot->owned)
        slot_disown(slot);
    slot->state = CUEBALL_SLOT_IDLE;
    slot->state_since = slot->used_at = now;
    cueball__idle_push(&pool->idle, slot);
    return CUEBALL_OK;
}

int cueball_pool_lease_closed(cueball_pool *pool, cueball_time now, cueball_handle lease)
{
    return lease_end(pool, now, lease, CUEBALL_CAUSE_CLOSE, &pool->counters.leases_closed);
}

int cueball_pool_lease_failed(cueball_pool *pool, cueball_time now, cueball_handle lease)
{
    return lease_end(pool, now, lease, CUEBALL_CAUSE_FAIL, &pool->counters.leases_failed);
}

int cueball_pool_lease_reported(cueball_pool *pool, cueball_time now, cueball_handle lease, bool went_well)
{
    cueball__pool_begin(pool, now);
    cueball__slot *slot = slot_by_lease(pool, lease);
    if (slot) {
        slot->went = went_well ? WENT_WELL : WENT_BADLY;
        slot->untimed = 1; /* its release takes the long way */
    }
    cueball__pool_settle(pool);
    return slot ? CUEBALL_OK : CUEBALL_ESTALE;
}

/* The pool takes the connection back: it closes, whatever its claimer does with
 * it just now. */
void cueball__lease_revoke(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    pool->counters.leases_revoked++;
    cueball__slot_came_back(pool, slot, cause);
}

int cueball_pool_owner_new(cueball_pool *pool, cueball_owner **owner)
{
    cueball_owner *made = cueball__memory_allocate(&pool->memory, sizeof *made);
    if (!made)
        return CUEBALL_ENOMEM;
    made->pool = pool;
    made->is_gone = false;
    cueball__link_init(&made->claims);
    cueball__link_init(&made->leases);
    cueball__list_append(&pool->owners, &made->place);
    *owner = made;
    return CUEBALL_OK;
}

/* The next input sees to it. */
static void owner_end_soon(cueball_owner *owner)
{
    cueball__list_remove(&owner->place);
    cueball__list_append(&owner->pool->owners_gone, &owner->place);
    owner->pool->outlook.deadline = owner->pool->calm_until = 0;
}

void cueball_owner_gone(void *gone)
{
    cueball_owner *owner = gone;
    assert(!owner->is_gone);
    owner->is_gone = true;
    owner_end_soon(owner);
}

bool cueball_owner_left(void *left)
{
    cueball_owner *owner = left;
    assert(!owner->is_gone);
    if (cueball__list_is_empty(&owner->claims) && cueball__list_is_empty(&owner->leases))
        return false;
    owner_end_soon(owner);
    return true;
}

/* Ends what belongs to owners that are gone, or have left.  A granted claim goes with its
 * lease, by way of the lease: it may not have been told yet. */
void cueball__owners_end(cueball_pool *pool)
{
    while (!cueball__list_is_empty(&pool->owners_gone)) {
        cueball_owner *owner = CUEBALL__OWNER(pool->owners_gone.next, cueball_owner, place);
        while (!cueball__list_is_empty(&owner->claims))
            claim_cancel(pool, CUEBALL__OWNER(owner->claims.next, cueball__claim, at_owner));
        while (!cueball__list_is_empty(&owner->leases))
            cueball__lease_revoke(pool, CUEBALL__OWNER(owner->leases.next, cueball__slot, at_owner), CUEBALL_CAUSE_OWNER);
        cueball__list_remove(&owner->place);
        if (owner->is_gone)
            cueball__memory_release(&pool->memory, owner, sizeof *owner);
        else
            cueball__list_append(&pool->owners, &owner->place);
    }
}
