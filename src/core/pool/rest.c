/* A connection between two leases: offered to those who wait, at rest until it is
 * claimed, checked, or too old.  At rest it is lent in its turn or, where it is in
 * doubt, last; see evidence.c. */
#include "pool.h"

#define CHECKS_MIN 10   /* suspect connections checked at the same time: so many, */
#define CHECKS_SHARE 4  /* or this part of all, if that is more */
#define SPAN_LEAST 0.05 /* of a connection's lifetime, however far it spreads */

/* A time that is not the same for all connections: up to `share` longer or shorter. */
cueball_time cueball__slot_span(const cueball__slot *slot, cueball_time span, double share)
{
    if (span == 0 || span == CUEBALL_NEVER)
        return CUEBALL_NEVER;
    double factor = 1 + share * (double)slot->spread;
    return (cueball_time)((double)span * (factor > SPAN_LEAST ? factor : SPAN_LEAST));
}

/* The timer of a connection at rest: for what comes first.  A claim and a release
 * leave it alone; it may therefore fire early, and is then armed for the rest. */
void cueball__slot_arm_rest(cueball_pool *pool, cueball__slot *slot)
{
    cueball_time check = cueball__time_after(slot->state_since, cueball__slot_span(slot, pool->settings.check_interval, CUEBALL__SPREAD));
    cueball_time unused = cueball__time_after(slot->used_at, cueball__slot_span(slot, pool->settings.idle_timeout, CUEBALL__SPREAD));
    cueball_time due = check < unused ? check : unused;
    due = due < slot->retire_at ? due : slot->retire_at;
    cueball_time proven = slot->unproven ? cueball__proof_due(pool, slot) : CUEBALL_NEVER;
    cueball__timers_arm(&pool->timers, &slot->timer, due < proven ? due : proven);
}

/* Comes to rest, to be lent in its turn, or last. */
void cueball__slot_rest(cueball_pool *pool, cueball__slot *slot)
{
    assert(slot->state == CUEBALL_SLOT_IDLE);
    if (cueball__slot_is_doubtful(slot)) {
        cueball__list_append(&pool->doubtful, &slot->at_owner);
        slot->doubted = 1;
        pool->doubtful_count++;
        return;
    }
    cueball__idle_append(&pool->idle, slot);
    if (pool->options.balance == CUEBALL_BALANCE_P2C)
        cueball__latency_rest(pool, slot);
}

/* Whether fewer are being checked than may be at the same time. */
static bool checks_may_begin(const cueball_pool *pool)
{
    uint32_t most = pool->options.max_connections / CHECKS_SHARE;
    return pool->checks_running < (most > CHECKS_MIN ? most : CHECKS_MIN);
}

static void slot_check_begin(cueball_pool *pool, cueball__slot *slot)
{
    pool->counters.checks++;
    pool->checks_running++;
    cueball__timers_arm(&pool->timers, &slot->timer, cueball__time_after(pool->now, pool->settings.check_timeout));
    cueball__chore_add(pool, slot, CUEBALL__CHORE_CHECK);
}

/* The connection, which rests nowhere, is checked before anything else: now, or
 * when enough of the checks under way are over. */
void cueball__slot_check(cueball_pool *pool, cueball__slot *slot)
{
    cueball__slot_set(pool, slot, CUEBALL_SLOT_CHECKING, CUEBALL_CAUSE_CHECK);
    if (checks_may_begin(pool)) {
        slot_check_begin(pool, slot);
    } else {
        cueball__timers_cancel(&pool->timers, &slot->timer);
        cueball__list_append(&pool->to_check, &slot->at_owner);
        slot->doubted = 1;
    }
}

/* Begins those checks that wait for others to be over. */
void cueball__checks_begin(cueball_pool *pool)
{
    while (!cueball__list_is_empty(&pool->to_check) && checks_may_begin(pool)) {
        cueball__slot *slot = CUEBALL__OWNER(pool->to_check.next, cueball__slot, at_owner);
        cueball__list_remove(&slot->at_owner);
        slot->doubted = 0;
        slot_check_begin(pool, slot);
    }
}

/* An open connection is free: for the claim that waits longest, or to rest. */
void cueball__slot_offer(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    if (pool->options.has_check && cueball__slot_is_doubtful(slot)) {
        cueball__slot_check(pool, slot);
        return;
    }
    if (cueball__claim_serve(pool, slot)) {
        if (slot->unproven) /* else nobody would notice that it lasted */
            cueball__timers_arm(&pool->timers, &slot->timer, cueball__proof_due(pool, slot));
        slot->untimed |= !cueball__timer_is_armed(&slot->timer) || slot->unproven;
        return;
    }
    cueball__slot_set(pool, slot, CUEBALL_SLOT_IDLE, cause);
    cueball__slot_rest(pool, slot);
    if (slot->untimed || !cueball__timer_is_armed(&slot->timer))
        cueball__slot_arm_rest(pool, slot);
    slot->untimed = 0;
}

void cueball__slot_rest_due(cueball_pool *pool, cueball__slot *slot)
{
    if (slot->unproven && pool->now >= cueball__proof_due(pool, slot))
        cueball__slot_prove(pool, slot, CUEBALL_CAUSE_LASTED);
    if (pool->now >= slot->retire_at) {
        cueball__slot_close(pool, slot, slot->renews ? CUEBALL_CAUSE_RENEW : CUEBALL_CAUSE_LIFETIME);
    } else if (pool->now >= cueball__time_after(slot->used_at, cueball__slot_span(slot, pool->settings.idle_timeout, CUEBALL__SPREAD))) {
        cueball__slot_close(pool, slot, CUEBALL_CAUSE_IDLE);
    } else if (pool->now
               >= cueball__time_after(slot->state_since, cueball__slot_span(slot, pool->settings.check_interval, CUEBALL__SPREAD))) {
        cueball__slot_wake(pool, slot);
        cueball__slot_set(pool, slot, CUEBALL_SLOT_CHECKING, CUEBALL_CAUSE_CHECK);
        slot_check_begin(pool, slot);
    } else {
        cueball__slot_arm_rest(pool, slot);
    }
}

/* The connection rests no longer. */
void cueball__slot_wake(cueball_pool *pool, cueball__slot *slot)
{
    if (slot->doubted) {
        slot->doubted = 0;
        cueball__list_remove(&slot->at_owner);
        pool->doubtful_count--;
        return;
    }
    cueball__idle_remove(&pool->idle, slot);
    if (cueball__link_is_linked(&slot->at_owner))
        cueball__latency_unrest(pool, slot);
}
