/* A turn of the pool: begin, run what is due, the fact itself (input.c), settle, check. */
#include "turn.h"

#include "arrange.h"
#include "backend.h"
#include "claim.h"
#include "conn.h"
#include "demand.h"
#include "event.h"
#include "explain.h"
#include "idle.h"
#include "meet.h"
#include "outlier.h"
#include "owner.h"
#include "preference.h"
#include "probe.h"
#include "slot.h"

/* Every backend that is to have connections is dead, or none was ever known and the
 * resolver cannot find any. */
static bool pool_has_failed(const cueball_pool *pool)
{
    assert(pool->dead <= cueball__pool_in_use(pool));
    if (pool->known > 0)
        return pool->dead > 0 && pool->dead == cueball__pool_in_use(pool);
    return pool->resolver_has_failed && pool->state != CUEBALL_POOL_RUNNING;
}

static void pool_judge(cueball_pool *pool)
{
    if (pool->state == CUEBALL_POOL_STOPPING) {
        if (pool->slots.count == 0) {
            cueball__timers_cancel(&pool->timers, &pool->drain);
            cueball__pool_enter(pool, CUEBALL_POOL_STOPPED);
        }
    } else if (!cueball__pool_is_over(pool)) {
        bool has_failed = pool_has_failed(pool);
        if (has_failed && pool->state != CUEBALL_POOL_FAILED)
            cueball__pool_enter(pool, CUEBALL_POOL_FAILED);
        else if (!has_failed && pool->state == CUEBALL_POOL_FAILED)
            cueball__pool_enter(pool, CUEBALL_POOL_STARTING);
        if (cueball__pool_is_failed(pool))
            cueball__claims_refuse(pool, CUEBALL_EPOOL_FAILED);
    }
}

/* Plans as often as something asks for it, but spends no more than about a
 * tenth of the time on it: with 100,000 slots a plan takes milliseconds, and
 * thousands of backends may die one by one in the same moment. */
static bool pool_may_plan(cueball_pool *pool)
{
    assert(pool->plan_is_due);
    assert(!cueball__pool_is_over(pool));
    assert(pool->planned_at <= pool->now);
    uint32_t size = pool->slots.count + pool->known;
    cueball_time next = pool->planned_at + (size < 1000 ? 0 : (cueball_time)size * 200);
    if (pool->now >= next || pool->counters.plans == 0)
        return true;
    if (!cueball__timer_is_armed(&pool->rebalance) || pool->rebalance.deadline > next)
        cueball__timers_arm(&pool->timers, &pool->rebalance, next);
    return false;
}

void cueball__turn_resettle(cueball_pool *pool)
{
    assert(pool->is_unsettled);
    pool->is_unsettled = false;
    cueball__backends_collect(pool);
    if (!cueball__pool_is_over(pool)) {
        cueball__outlier_panic(pool);
        if (pool->plan_is_due && pool_may_plan(pool))
            cueball__pool_plan(pool);
        cueball__pool_fill(pool);
        cueball__probes_begin(pool);
        cueball__checks_begin(pool);
    }
    pool_judge(pool);
    assert(cueball__list_is_empty(&pool->left));
}

static void pool_shuffle(cueball_pool *pool)
{
    assert(!cueball__pool_is_over(pool));
    cueball__preference_shuffle(pool);
    cueball__idle_shuffle(&pool->idle, &pool->random);
    pool->counters.shuffles++;
    cueball__event_note(pool, CUEBALL_EVENT_SHUFFLED, NULL, cueball__idle_count(&pool->idle));
    cueball__timers_arm(&pool->timers, &pool->decoherence, cueball__time_after(pool->now, pool->settings.decoherence_interval));
    assert(pool->idle.holes == 0);
}

/* Takes back what is still leased. */
static void pool_revoke(cueball_pool *pool)
{
    assert(pool->state == CUEBALL_POOL_STOPPING);
    assert(pool->outlook.waiting == 0);
    cueball__grants_recall(pool);
    for (uint32_t i = 0; i < pool->slots.made; i++) {
        cueball__slot *slot = cueball__table_at(&pool->slots, i);
        if (slot->state == CUEBALL_SLOT_BUSY)
            cueball__lease_revoke(pool, slot, CUEBALL_CAUSE_STOP);
    }
}

static void pool_timer_due(cueball_pool *pool, cueball__timer *timer)
{
    assert(!cueball__timer_is_armed(timer));
    assert(timer->deadline <= pool->now);
    switch (timer->kind) {
    case CUEBALL__TIMER_SLOT:
        cueball__slot_due(pool, CUEBALL__OWNER(timer, cueball__slot, timer));
        break;
    case CUEBALL__TIMER_CLAIM:
        cueball__claim_due(pool, CUEBALL__OWNER(timer, cueball__claim, timer));
        break;
    case CUEBALL__TIMER_REBALANCE:
        pool->change_is_delayed = false;
        pool->plan_is_due = pool->is_unsettled = true;
        break;
    case CUEBALL__TIMER_DECOHERENCE:
        pool_shuffle(pool);
        break;
    case CUEBALL__TIMER_SAMPLE:
        cueball__demand_sample(pool);
        break;
    case CUEBALL__TIMER_CHURN:
        pool->plan_is_due = pool->is_unsettled = true;
        break;
    case CUEBALL__TIMER_PROBE:
        if (!cueball__pool_is_over(pool))
            cueball__probe_due(pool, CUEBALL__OWNER(timer, cueball__backend, back));
        break;
    case CUEBALL__TIMER_RETURN:
        cueball__outlier_returns(pool, CUEBALL__OWNER(timer, cueball__backend, back));
        break;
    default:
        assert(timer->kind == CUEBALL__TIMER_DRAIN);
        pool_revoke(pool);
        break;
    }
}

/* What changed while nothing was open, or without a delay, is planned for now. */
void cueball__pool_hurry(cueball_pool *pool)
{
    assert(pool->hurries);
    assert(!cueball__pool_is_over(pool));
    pool->hurries = false;
    pool->plan_is_due = pool->is_unsettled = true;
    assert(pool->is_unsettled);
}

/* Does what is due at `now`.  Claims at their deadline are refused here, before
 * the input that brought us here, or an owner that is gone, can free a
 * connection. */
void cueball__turn_run(cueball_pool *pool, cueball_time now)
{
    assert(now == pool->now);
    if (pool->hurries && now > pool->hurried_at)
        cueball__pool_hurry(pool);
    cueball__reasons_stalled(pool, pool->outlook.deadline);
    for (;;) {
        cueball__timers_collect(&pool->timers, now);
        cueball__timer *timer = cueball__timers_take(&pool->timers);
        if (!timer && cueball__list_is_empty(&pool->owners_gone))
            break;
        for (; timer; timer = cueball__timers_take(&pool->timers))
            pool_timer_due(pool, timer);
        cueball__owners_end(pool);
    }
    (void)cueball__timers_deadline(&pool->timers); /* refreshes `earliest` */
    cueball__turn_settle(pool);
    assert(cueball__list_is_empty(&pool->owners_gone));
    assert(pool->timers.earliest > pool->now || pool->now == CUEBALL_NEVER);
}

#if defined CUEBALL_CHECKS && CUEBALL_CHECKS
/* Checks everything after each turn, as long as that is not much: slots, backends and
 * claims.  Of more, it is checked after so many turns that one costs no more than that
 * on average. */
void cueball__turn_verify(cueball_pool *pool)
{
    enum { CHECKED_EACH_TURN = 64 };
    char text[256];
    pool->check_credit += CHECKED_EACH_TURN;
    if (pool->check_credit < (uint64_t)pool->slots.made + pool->backends.made + pool->claims.count)
        return;
    pool->check_credit = 0;
    int result = cueball_pool_check(pool, text, sizeof text);
#if defined __GLIBC__
    if (result != CUEBALL_OK)
        __assert_fail(text, __FILE__, __LINE__, __func__); /* as assert() does, but with what disagrees */
#endif
    assert(result == CUEBALL_OK);
}
#endif
