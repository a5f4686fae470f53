#include "pool.h"

#include <string.h>

static void pool_enter(cueball_pool *pool, cueball_pool_state state)
{
    if (cueball__pool_watches(pool, CUEBALL_EVENT_POOL_STATE)) {
        cueball_event event = { .kind = CUEBALL_EVENT_POOL_STATE, .from = (int32_t)pool->state, .to = (int32_t)state };
        cueball__event_add(pool, &event);
    }
    pool->state = state;
}

/* A connection opened, or one to a backend that was dead has proven itself. */
void cueball__pool_connected(cueball_pool *pool)
{
    if (pool->state == CUEBALL_POOL_STARTING || pool->state == CUEBALL_POOL_FAILED)
        pool_enter(pool, CUEBALL_POOL_RUNNING);
}

/* Nothing can come of waiting: every backend is dead, or none was ever known
 * and the resolver cannot find any. */
static bool pool_is_hopeless(const cueball_pool *pool)
{
    if (pool->known > 0)
        return pool->dead == pool->known;
    return pool->resolver_has_failed && pool->state != CUEBALL_POOL_RUNNING;
}

static void pool_judge(cueball_pool *pool)
{
    if (pool->state == CUEBALL_POOL_STOPPING) {
        if (pool->slots.count == 0) {
            cueball__timers_cancel(&pool->timers, &pool->drain);
            pool_enter(pool, CUEBALL_POOL_STOPPED);
        }
    } else if (!cueball__pool_is_over(pool)) {
        bool is_hopeless = pool_is_hopeless(pool);
        if (is_hopeless && pool->state != CUEBALL_POOL_FAILED) {
            pool_enter(pool, CUEBALL_POOL_FAILED);
            cueball__claims_refuse(pool, CUEBALL_EPOOL_FAILED);
        } else if (!is_hopeless && pool->state == CUEBALL_POOL_FAILED) {
            pool_enter(pool, CUEBALL_POOL_STARTING);
        }
    }
}

/* Plans as often as something asks for it, but spends no more than about a
 * tenth of the time on it: with 100,000 slots a plan takes milliseconds, and
 * thousands of backends may die one by one in the same moment. */
static bool pool_may_plan(cueball_pool *pool)
{
    uint32_t size = pool->slots.count + pool->known;
    cueball_time next = pool->planned_at + (size < 1000 ? 0 : (cueball_time)size * 200);
    if (pool->now >= next || pool->counters.plans == 0)
        return true;
    if (!cueball__timer_is_armed(&pool->rebalance) || pool->rebalance.deadline > next)
        cueball__timers_arm(&pool->timers, &pool->rebalance, next);
    return false;
}

void cueball__pool_resettle(cueball_pool *pool)
{
    pool->is_unsettled = false;
    if (!cueball__pool_is_over(pool)) {
        cueball__outlier_panic(pool);
        if (pool->plan_is_due && pool_may_plan(pool))
            cueball__pool_plan(pool);
        cueball__pool_fill(pool);
        cueball__probes_begin(pool);
        cueball__checks_begin(pool);
    }
    pool_judge(pool);
}

static void pool_shuffle(cueball_pool *pool)
{
    cueball__preference_shuffle(pool);
    cueball__idle_shuffle(&pool->idle, &pool->random);
    pool->counters.shuffles++;
    cueball__event_note(pool, CUEBALL_EVENT_SHUFFLED, NULL, cueball__idle_count(&pool->idle));
    cueball__timers_arm(&pool->timers, &pool->decoherence, cueball__time_after(pool->now, pool->settings.decoherence_interval));
}

/* Takes back what is still leased. */
static void pool_revoke(cueball_pool *pool)
{
    cueball__grants_recall(pool);
    for (uint32_t i = 0; i < pool->slots.made; i++) {
        cueball__slot *slot = cueball__table_at(&pool->slots, i);
        if (slot->state == CUEBALL_SLOT_BUSY)
            cueball__lease_revoke(pool, slot, CUEBALL_CAUSE_STOP);
    }
}

static void pool_timer_due(cueball_pool *pool, cueball__timer *timer)
{
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

/* What changed while nothing was open is planned for now. */
static void pool_hurry(cueball_pool *pool)
{
    pool->hurries = false;
    pool->plan_is_due = pool->is_unsettled = true;
}

/* Does what is due at `now`.  Claims at their deadline are refused here, before
 * the input that brought us here, or an owner that is gone, can free a
 * connection. */
void cueball__pool_run(cueball_pool *pool, cueball_time now)
{
    if (pool->hurries && now > pool->hurried_at)
        pool_hurry(pool);
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
    cueball__pool_settle(pool);
}

static void pool_init(cueball_pool *pool, const cueball_allocator *allocator, uint64_t seed, cueball_time now, bool is_set)
{
    memset(pool, 0, sizeof *pool);
    pool->is_set = is_set;
    pool->memory.allocator = *allocator;
    pool->memory.held = sizeof *pool;
    pool->now = pool->planned_at = now;
    cueball__table_init(&pool->slots, &pool->memory, sizeof(cueball__slot));
    cueball__table_init(&pool->claims, &pool->memory, sizeof(cueball__claim));
    cueball__table_init(&pool->backends, &pool->memory, sizeof(cueball__backend));
    cueball__idle_init(&pool->idle, &pool->memory);
    cueball__timers_init(&pool->timers, now);
    cueball__random_init(&pool->random, seed);
    cueball__histogram_init(&pool->wait_histogram);
    cueball__histogram_init(&pool->lease_histogram);
    cueball__histogram_init(&pool->create_histogram);
    cueball__link *lists[] = { &pool->queue,  &pool->answers,     &pool->chores,   &pool->leaving,    &pool->wanting,
                               &pool->owners, &pool->owners_gone, &pool->doubtful, &pool->probes_due, &pool->to_check };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        cueball__link_init(lists[i]);
    pool->rebalance.kind = CUEBALL__TIMER_REBALANCE;
    pool->decoherence.kind = CUEBALL__TIMER_DECOHERENCE;
    pool->drain.kind = CUEBALL__TIMER_DRAIN;
    pool->sample.kind = CUEBALL__TIMER_SAMPLE;
    pool->churn.kind = CUEBALL__TIMER_CHURN;
}

/* What hangs on options that may be turned on and off. */
static void pool_follow_options(cueball_pool *pool)
{
    cueball__latency_index(pool);
    if (pool->options.outlier.consecutive == 0)
        cueball__outlier_end(pool);
    if (pool->options.queue == CUEBALL_QUEUE_FIFO)
        cueball__queue_relieve(pool);
    if (pool->options.spares >= pool->options.max_connections)
        pool->idle_low = pool->idle_plain = 0;
    cueball__demand_changed(pool);
}

static void pool_take_options(cueball_pool *pool, const cueball_options *options)
{
    cueball_time interval_before = pool->settings.decoherence_interval;
    pool->options = *options;
    cueball__settings_from(&pool->settings, options);
    pool_follow_options(pool);
    cueball_time interval = pool->settings.decoherence_interval;
    if (interval != interval_before) /* else frequent changes would put the shuffle off for ever */
        cueball__timers_arm(&pool->timers, &pool->decoherence, interval ? cueball__time_after(pool->now, interval) : CUEBALL_NEVER);
}

static int pool_new(const cueball_options *given, const cueball_allocator *allocator, uint64_t seed, cueball_time now, bool is_set,
                    cueball_pool **made)
{
    *made = NULL;
    cueball_options options;
    if (cueball_options_check(given, NULL, 0) != CUEBALL_OK || !cueball__options_read(&options, given))
        return CUEBALL_EINVAL;
    if (!allocator || !allocator->allocate || !allocator->release)
        return CUEBALL_EINVAL;
    cueball_pool *pool = allocator->allocate(allocator->user, sizeof *pool);
    if (!pool)
        return CUEBALL_ENOMEM;
    pool_init(pool, allocator, seed, now, is_set);
    pool_take_options(pool, &options);
    cueball__pool_settle(pool);
    *made = pool;
    return CUEBALL_OK;
}

int cueball_pool_new(const cueball_options *options, const cueball_allocator *allocator, uint64_t seed, cueball_time now,
                     cueball_pool **pool)
{
    return pool_new(options, allocator, seed, now, false, pool);
}

int cueball_set_new(const cueball_options *options, const cueball_allocator *allocator, uint64_t seed, cueball_time now, cueball_pool **set)
{
    return pool_new(options, allocator, seed, now, true, set);
}

static void pool_free_owners(cueball_pool *pool, cueball__link *owners)
{
    CUEBALL__LIST_EACH(link, following, owners)
    {
        cueball__memory_release(&pool->memory, CUEBALL__OWNER(link, cueball_owner, place), sizeof(cueball_owner));
    }
}

void cueball_pool_free(cueball_pool *pool)
{
    if (!pool)
        return;
    pool_free_owners(pool, &pool->owners);
    pool_free_owners(pool, &pool->owners_gone);
    cueball__backends_free(pool);
    cueball__idle_deinit(&pool->idle);
    cueball__table_deinit(&pool->slots);
    cueball__table_deinit(&pool->claims);
    cueball__table_deinit(&pool->backends);
    cueball__memory_release(&pool->memory, pool->events, pool->events_max * sizeof *pool->events);
    assert(pool->memory.held == sizeof *pool);
    cueball_allocator allocator = pool->memory.allocator;
    allocator.release(allocator.user, pool, sizeof *pool);
}

int cueball_pool_stop(cueball_pool *pool, cueball_time now)
{
    cueball__pool_begin(pool, now);
    if (cueball__pool_is_over(pool))
        return CUEBALL_OK;
    pool_enter(pool, CUEBALL_POOL_STOPPING);
    pool->hurries = false;
    cueball__timers_cancel(&pool->timers, &pool->rebalance);
    cueball__timers_cancel(&pool->timers, &pool->decoherence);
    cueball__timers_cancel(&pool->timers, &pool->sample);
    cueball__timers_cancel(&pool->timers, &pool->churn);
    cueball__claims_refuse(pool, CUEBALL_EPOOL_STOPPING);
    for (uint32_t i = 0; i < pool->slots.made; i++)
        cueball__slot_drop(pool, cueball__table_at(&pool->slots, i), CUEBALL_CAUSE_STOP);
    cueball__timers_arm(&pool->timers, &pool->drain, cueball__time_after(pool->now, pool->settings.drain_timeout));
    pool->is_unsettled = true;
    cueball__pool_settle(pool);
    return CUEBALL_OK;
}

int cueball_pool_options_changed(cueball_pool *pool, cueball_time now, const cueball_options *given)
{
    cueball_options whole, *options = &whole;
    if (cueball_options_check(given, NULL, 0) != CUEBALL_OK || !cueball__options_read(options, given))
        return CUEBALL_EINVAL;
    cueball__pool_begin(pool, now);
    if (cueball__pool_is_over(pool)) {
        pool->options = *options;
        cueball__settings_from(&pool->settings, options);
        cueball__latency_index(pool);
        cueball__pool_settle(pool);
        return CUEBALL_OK;
    }
    bool plan_changes = options->max_connections != pool->options.max_connections || options->priorities != pool->options.priorities
                        || options->spares != pool->options.spares || options->max_churn_rate != pool->options.max_churn_rate
                        || options->slow_start_ms != pool->options.slow_start_ms;
    if (options->spares < pool->options.spares) /* fewer are wanted at once */
        pool->demand.may_close += pool->options.spares - options->spares;
    pool_take_options(pool, options);
    for (uint32_t i = 0; i < pool->slots.made; i++)
        cueball__slot_options_changed(pool, cueball__table_at(&pool->slots, i));
    for (uint32_t i = 0; i < pool->known; i++)
        cueball__probe_options_changed(pool, pool->preference[i]);
    pool->plan_is_due |= plan_changes;
    pool->is_unsettled = true;
    cueball__event_note(pool, CUEBALL_EVENT_OPTIONS_CHANGED, NULL, 0);
    cueball__pool_settle(pool);
    return CUEBALL_OK;
}

int cueball_pool_resolver_failed(cueball_pool *pool, cueball_time now)
{
    cueball__pool_begin(pool, now);
    if (!pool->resolver_has_failed)
        cueball__event_note(pool, CUEBALL_EVENT_RESOLVER_FAILED, NULL, 0);
    pool->resolver_has_failed = pool->is_unsettled = true;
    cueball__pool_settle(pool);
    return CUEBALL_OK;
}

int cueball_pool_resolver_recovered(cueball_pool *pool, cueball_time now)
{
    cueball__pool_begin(pool, now);
    if (pool->resolver_has_failed)
        cueball__event_note(pool, CUEBALL_EVENT_RESOLVER_RECOVERED, NULL, 0);
    pool->resolver_has_failed = false;
    pool->is_unsettled = true;
    cueball__pool_settle(pool);
    return CUEBALL_OK;
}

cueball_time cueball_pool_deadline(cueball_pool *pool)
{
    if (!cueball__list_is_empty(&pool->owners_gone))
        return 0;
    cueball_time deadline = cueball__timers_deadline(&pool->timers);
    pool->outlook.deadline = pool->hurries && pool->now < deadline ? pool->now : deadline;
    cueball__pool_calm(pool);
    return pool->outlook.deadline;
}

int cueball_pool_time_advanced(cueball_pool *pool, cueball_time now)
{
    if (pool->hurries)
        pool_hurry(pool);
    cueball__pool_begin(pool, now);
    return CUEBALL_OK;
}

const cueball_outlook *cueball_pool_outlook(const cueball_pool *pool)
{
    return &pool->outlook;
}

int cueball_pool_state_of(const cueball_pool *pool)
{
    return (int)pool->state;
}

size_t cueball_pool_memory(const cueball_pool *pool)
{
    return pool->memory.held;
}
