/* A pool from birth to end, and its options. */
#include "state.h"

#include "backend.h"
#include "claim.h"
#include "conn.h"
#include "demand.h"
#include "event.h"
#include "idle.h"
#include "latency.h"
#include "options.h"
#include "outlier.h"
#include "probe.h"
#include "slot.h"
#include "turn.h"

#include <string.h>

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
    cueball__link *lists[] = { &pool->queue,       &pool->answers,  &pool->chores,     &pool->leaving,  &pool->wanting, &pool->owners,
                               &pool->owners_gone, &pool->doubtful, &pool->probes_due, &pool->to_check, &pool->left };
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
    *made = pool;
    return cueball__turn_end(pool, CUEBALL_OK);
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
        cueball__memory_release(&pool->memory, CUEBALL__OWNER(link, cueball_owner, at_pool), sizeof(cueball_owner));
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

static void pool_stop(cueball_pool *pool)
{
    cueball__pool_enter(pool, CUEBALL_POOL_STOPPING);
    pool->hurries = pool->is_paused = false;
    cueball__timers_cancel(&pool->timers, &pool->rebalance);
    cueball__timers_cancel(&pool->timers, &pool->decoherence);
    cueball__timers_cancel(&pool->timers, &pool->sample);
    cueball__timers_cancel(&pool->timers, &pool->churn);
    cueball__claims_refuse(pool, CUEBALL_EPOOL_STOPPING);
    for (uint32_t i = 0; i < pool->slots.made; i++)
        cueball__slot_drop(pool, cueball__table_at(&pool->slots, i), CUEBALL_CAUSE_STOP);
    cueball__timers_arm(&pool->timers, &pool->drain, cueball__time_after(pool->now, pool->settings.drain_timeout));
    pool->is_unsettled = true;
}

int cueball_pool_stop(cueball_pool *pool, cueball_time now)
{
    cueball__turn_begin(pool, now);
    if (!cueball__pool_is_over(pool))
        pool_stop(pool);
    return cueball__turn_end(pool, CUEBALL_OK);
}

int cueball_pool_options_changed(cueball_pool *pool, cueball_time now, const cueball_options *given)
{
    cueball_options whole, *options = &whole;
    if (cueball_options_check(given, NULL, 0) != CUEBALL_OK || !cueball__options_read(options, given))
        return CUEBALL_EINVAL;
    cueball__turn_begin(pool, now);
    if (cueball__pool_is_over(pool)) {
        pool->options = *options;
        cueball__settings_from(&pool->settings, options);
        cueball__latency_index(pool);
        return cueball__turn_end(pool, CUEBALL_OK);
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
    return cueball__turn_end(pool, CUEBALL_OK);
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
