/* Where a claim and a connection meet: here, and in the short way of
 * cueball_pool_claim(), and nowhere else.  So a newcomer overtakes nobody, and since
 * whatever was due has been refused before, no claim is granted at or after its
 * deadline. */
#include "meet.h"

#include "action.h"
#include "claim.h"
#include "demand.h"
#include "event.h"
#include "evidence.h"
#include "idle.h"
#include "latency.h"
#include "lease.h"
#include "slot.h"

static void grant_note(cueball_pool *pool, const cueball__slot *slot, cueball_handle claim, uint64_t user)
{
    assert(slot->state == CUEBALL_SLOT_BUSY);
    assert(cueball__handle_generation(slot->lease) > 0);
    if (!cueball__pool_watches(pool, CUEBALL_EVENT_CLAIM_GRANTED))
        return;
    cueball_event event = { .kind = CUEBALL_EVENT_CLAIM_GRANTED, .claim = claim, .user = user };
    event.slot = slot->member.index;
    event.lease = slot->lease;
    event.conn = slot->conn;
    event.backend = cueball__member_handle(&slot->backend->member);
    cueball__event_add(pool, &event);
}

/* Gives the claim an open connection that does not rest any more. */
static void claim_grant(cueball_pool *pool, cueball__claim *claim, cueball__slot *slot)
{
    assert(!pool->is_paused);
    assert(!slot->owner);
    assert(slot->state != CUEBALL_SLOT_BACKOFF);
    assert(slot->state != CUEBALL_SLOT_CLOSING);
    cueball__claim_unqueue(pool, claim);
    cueball__slot_set(pool, slot, CUEBALL_SLOT_BUSY, CUEBALL_CAUSE_CLAIM);
    cueball__slot_lend(slot, pool->now);
    cueball__latency_lend(pool, slot);
    if (claim->owner)
        cueball__lease_own(slot, claim->owner);
    claim->state = CLAIM_GRANTED;
    claim->slot = slot;
    slot->untold = 1;
    grant_note(pool, slot, cueball__member_handle(&claim->member), claim->user);
    cueball__answer_add(pool, claim);
    if (slot->unproven) /* else nobody would notice that it lasted */
        cueball__timers_arm(&pool->timers, &slot->timer, cueball__proof_due(pool, slot));
    slot->untimed |= !cueball__timer_is_armed(&slot->timer) || slot->unproven;
}

/* An open connection is free: for the claim that waits longest, or to rest. */
void cueball__slot_offer(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    assert(slot->state != CUEBALL_SLOT_IDLE);
    assert(slot->state != CUEBALL_SLOT_BACKOFF);
    assert(slot->state != CUEBALL_SLOT_CLOSING);
    assert(slot->state != CUEBALL_SLOT_FREE);
    assert(!slot->owner);
    assert(!slot->on_return);
    assert(!slot->unwanted);
    if (pool->options.has_check && cueball__slot_is_doubtful(slot)) {
        cueball__slot_check(pool, slot);
        return;
    }
    cueball__claim *claim = pool->is_paused ? NULL : cueball__claim_next(pool);
    if (claim) {
        claim_grant(pool, claim, slot);
        return;
    }
    cueball__slot_set(pool, slot, CUEBALL_SLOT_IDLE, cause);
    cueball__slot_rest(pool, slot);
    if (slot->untimed || !cueball__timer_is_armed(&slot->timer))
        cueball__slot_arm_rest(pool, slot);
    slot->untimed = 0;
    assert(slot->state == CUEBALL_SLOT_IDLE);
    assert(pool->outlook.waiting == 0 || pool->is_paused);
    assert(!slot->untimed);
}

/* The drain time is over: claims that were granted and not told so yet are
 * refused after all. */
void cueball__grants_recall(cueball_pool *pool)
{
    assert(cueball__pool_is_over(pool));
    assert(pool->outlook.waiting == 0);
    CUEBALL__LIST_EACH(link, following, &pool->answers)
    {
        cueball__claim *claim = CUEBALL__OWNER(link, cueball__claim, at_state);
        if (claim->state != CLAIM_GRANTED)
            continue;
        cueball__slot *slot = claim->slot;
        claim->state = CLAIM_REFUSED;
        claim->error = CUEBALL_EPOOL_STOPPING;
        claim->slot = NULL;
        cueball__claim_note(pool, CUEBALL_EVENT_CLAIM_REFUSED, cueball__member_handle(&claim->member), claim->user, claim->error,
                            claim->ahead);
        cueball__lease_return(pool, slot, CUEBALL_CAUSE_CANCEL);
    }
}

/* The pool takes the connection back: it closes, whatever its claimer does with
 * it just now. */
void cueball__lease_revoke(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    assert(slot->state == CUEBALL_SLOT_BUSY);
    assert(cause == CUEBALL_CAUSE_OWNER || cause == CUEBALL_CAUSE_STOP);
    pool->counters.leases_revoked++;
    cueball__lease_return(pool, slot, cause);
}

/* The claim ends without an answer; a connection that it was to have goes on. */
void cueball__claim_give_up(cueball_pool *pool, cueball__claim *claim)
{
    assert(claim->state != 0);
    cueball__slot *slot = cueball__claim_cancel(pool, claim);
    if (slot)
        cueball__lease_return(pool, slot, CUEBALL_CAUSE_CANCEL);
}

/* The connection that a claim gets which comes now: there is one. */
static cueball__slot *pool_take_idle(cueball_pool *pool)
{
    cueball__slot *slot;
    if (cueball__idle_is_empty(&pool->idle)) {
        slot = CUEBALL__OWNER(pool->doubtful.next, cueball__slot, at_state);
        cueball__slot_wake(pool, slot);
    } else if (pool->options.balance == CUEBALL_BALANCE_P2C) {
        slot = cueball__latency_next(pool);
        cueball__slot_wake(pool, slot);
    } else {
        slot = cueball__idle_take(&pool->idle, pool->options.balance == CUEBALL_BALANCE_LIFO);
    }
    cueball__idle_trim(&pool->idle);
    assert(slot->state == CUEBALL_SLOT_IDLE);
    assert(!slot->doubted);
    assert(!cueball__link_is_linked(&slot->at_state));
    return slot;
}

/* The pause is over: those that waited get what rests. */
void cueball__claims_serve(cueball_pool *pool)
{
    assert(!pool->is_paused);
    while (!cueball__idle_is_empty(&pool->idle) || pool->doubtful_count > 0) {
        cueball__claim *claim = cueball__claim_next(pool);
        if (!claim)
            break;
        claim_grant(pool, claim, pool_take_idle(pool));
        cueball__demand_peak(pool);
    }
    assert(pool->outlook.waiting == 0 || cueball__idle_is_empty(&pool->idle));
}

/* A claim comes: it has a connection at once, or waits, or is refused. */
int cueball__claim_meet(cueball_pool *pool, const cueball_claim_options *options, cueball_grant *grant)
{
    if (pool->is_paused || (cueball__idle_is_empty(&pool->idle) && pool->doubtful_count == 0))
        return cueball__claim_wait(pool, options, grant);
    cueball__slot *slot = pool_take_idle(pool);
    pool->counters.granted_at_once++;
    cueball__slot_note(pool, slot, CUEBALL_SLOT_BUSY, CUEBALL_CAUSE_CLAIM);
    cueball__slot_lend(slot, pool->now);
    cueball__latency_lend(pool, slot);
    if (options && options->owner)
        cueball__lease_own(slot, options->owner);
    cueball__demand_peak(pool);
    if (cueball__idle_count(&pool->idle) < pool->idle_low)
        cueball__demand_changed(pool);
    grant_note(pool, slot, 0, options ? options->user : 0);
    cueball__grant_tell(slot, grant);
    CUEBALL__TRACE4(grant, pool, slot->member.index, slot->lease, 0);
    assert(slot->lease == grant->lease);
    assert(slot->state == CUEBALL_SLOT_BUSY);
    return CUEBALL_OK;
}
