/* What would come of a change: it is made to a copy of the pool, in a time of its own, with
 * a host that opens, closes and checks as the real one has done so far.  So what is
 * foretold is what the pool itself does, with its limits and delays, and nothing is
 * worked out twice. */
#include "copy.h"

#include "backend.h"
#include "idle.h"
#include "turn.h"

#include "kit/sized.h"

#include <string.h>

#define CHANGE_FIRST CUEBALL__END_OF(cueball_change, options)
#define PREVIEW_FIRST CUEBALL__END_OF(cueball_preview, lease_time)
#define HORIZON UINT64_C(86400000000000) /* ns: a day */
#define WORK_MAX UINT64_C(5000000)       /* slots looked at */
#define STEPS_MAX UINT32_C(100000)

typedef struct forecast {
    cueball_pool *pool; /* the copy */
    cueball_time began;
    cueball_time open_time, lease_time;
    cueball_time next;       /* when the host has something to report */
    cueball_time changed_at; /* something changed last, but for attempts at dead backends */
    bool is_settled;         /* all slots are where they are to be */
    uint32_t standing;       /* slots, but for a dead backend's only one: those come and go for ever */
} forecast;

/* Whether that is over which began then and lasts so long; else, when it will be. */
static bool forecast_is_over(forecast *cast, cueball_time since, cueball_time span)
{
    cueball_time due = cueball__time_after(since, span);
    if (due <= cast->pool->now)
        return true;
    cast->is_settled = false;
    cast->next = due < cast->next ? due : cast->next;
    return false;
}

static void forecast_attempt(forecast *cast, const cueball__slot *slot)
{
    cueball_pool *pool = cast->pool;
    bool is_dead = slot->backend->dead, was_settled = cast->is_settled;
    if (forecast_is_over(cast, slot->state_since, cast->open_time)) {
        if (is_dead)
            (void)cueball_pool_conn_failed(pool, pool->now, slot->conn);
        else
            (void)cueball_pool_conn_opened(pool, pool->now, slot->conn);
    } else if (is_dead) {
        cast->is_settled = was_settled; /* it will go on so for ever */
    }
}

/* A lease whose connection has to go comes back. */
static void forecast_lease(forecast *cast, const cueball__slot *slot)
{
    cueball_pool *pool = cast->pool;
    if (!slot->on_return && !slot->backend->removed && !slot->backend->drained)
        return;
    if (!forecast_is_over(cast, slot->state_since > cast->began ? slot->state_since : cast->began, cast->lease_time))
        return;
    if (pool->is_set)
        (void)cueball_pool_lease_closed(pool, pool->now, slot->lease);
    else
        (void)cueball_pool_lease_released(pool, pool->now, slot->lease);
}

/* The host reports what is due of this slot; whether that changed anything. */
static bool forecast_slot(forecast *cast, const cueball__slot *slot)
{
    cueball_pool *pool = cast->pool;
    uint8_t before = slot->state;
    if (!slot->backend) /* a free place */
        return false;
    bool is_probe = slot->backend->dead;
    cueball_handle conn = slot->conn, lease = slot->lease;
    switch ((cueball_slot_state)slot->state) {
    case CUEBALL_SLOT_CONNECTING:
        forecast_attempt(cast, slot);
        break;
    case CUEBALL_SLOT_CHECKING:
        cast->is_settled = false;
        if (!slot->doubted)
            (void)cueball_pool_conn_checked(pool, pool->now, slot->conn, true);
        break;
    case CUEBALL_SLOT_CLOSING:
        cast->is_settled = false;
        (void)cueball_pool_conn_closed(pool, pool->now, slot->conn);
        break;
    case CUEBALL_SLOT_BACKOFF:
        cast->is_settled &= slot->backend->dead;
        break;
    case CUEBALL_SLOT_BUSY:
        forecast_lease(cast, slot);
        break;
    case CUEBALL_SLOT_FREE:
    case CUEBALL_SLOT_IDLE:
        break;
    }
    bool changed = slot->state != before || slot->conn != conn || slot->lease != lease;
    if (changed && !is_probe)
        cast->changed_at = pool->now;
    return changed;
}

/* Takes what the host is to do: it is seen in the states of the slots.  A set leases what
 * is open, each for good. */
static bool forecast_drain(forecast *cast)
{
    cueball_action action;
    bool changed = false;
    while (cueball_pool_next_action(cast->pool, &action))
        changed = true;
    cueball_grant grant;
    const cueball_claim_options at_once = { .timeout_ms = CUEBALL_NO_WAIT };
    while (cast->pool->is_set && cast->pool->outlook.waiting == 0 && !cueball__idle_is_empty(&cast->pool->idle)
           && cueball_pool_claim(cast->pool, cast->pool->now, &at_once, &grant) == CUEBALL_OK)
        changed = true;
    return changed;
}

/* Whether the pool has nothing in mind. */
static bool pool_is_settled(const cueball_pool *pool)
{
    if (pool->plan_is_due || pool->hurries || pool->is_unsettled || pool->outlook.actions > 0)
        return false;
    if (cueball__timer_is_armed(&pool->rebalance) || cueball__timer_is_armed(&pool->churn))
        return false;
    for (uint32_t i = 0; i < pool->known; i++)
        if (!pool->preference[i]->dead && pool->preference[i]->total != pool->preference[i]->want)
            return false;
    return cueball__list_is_empty(&pool->leaving);
}

static bool slot_is_standing(const cueball__slot *slot)
{
    return slot->backend && !(slot->backend->dead && slot->backend->total == 1);
}

/* The host does what it can do at once; how many slots it looked at.  A slot that went
 * without a connection is seen by the number of those that are left. */
static uint64_t forecast_react(forecast *cast)
{
    uint64_t work = 0;
    bool changed = true;
    uint32_t before = cast->standing;
    while (changed && work < WORK_MAX) {
        changed = forecast_drain(cast);
        cast->next = CUEBALL_NEVER;
        cast->is_settled = true;
        cast->standing = 0;
        for (uint32_t i = 0; i < cast->pool->slots.made; i++) {
            const cueball__slot *slot = cueball__table_at(&cast->pool->slots, i);
            changed |= forecast_slot(cast, slot);
            cast->standing += slot_is_standing(slot);
        }
        work += cast->pool->slots.made + 1;
    }
    if (cast->standing != before)
        cast->changed_at = cast->pool->now;
    return work;
}

/* Goes on until all is as it is to be; false: that takes too long. */
static bool forecast_run(forecast *cast)
{
    cueball_pool *pool = cast->pool;
    uint64_t work = 0;
    for (uint32_t step = 0; step < STEPS_MAX && work < WORK_MAX; step++) {
        work += forecast_react(cast);
        if (cast->is_settled && pool_is_settled(pool))
            return true;
        cueball_time next = cueball_pool_deadline(pool);
        next = next < cast->next ? next : cast->next;
        if (next == CUEBALL_NEVER || next > cueball__time_after(cast->began, HORIZON))
            return false;
        (void)cueball_pool_time_advanced(pool, next);
    }
    return false;
}

/* -------------------------------------------------------------- the change -- */

static const cueball_backend_spec *added_at(const cueball_change *change, uint32_t i)
{
    size_t stride = cueball__sized_stride(CUEBALL__END_OF(cueball_backend_spec, priority), change->added);
    return (const void *)((const char *)change->added + i * stride);
}

static int change_make(forecast *cast, const cueball_change *change)
{
    cueball_pool *pool = cast->pool;
    int result = CUEBALL_OK;
    if (change->options)
        result = cueball_pool_options_changed(pool, cast->began, change->options);
    (void)forecast_react(cast);
    for (uint32_t i = 0; i < change->added_count && result == CUEBALL_OK; i++) {
        result = cueball_pool_backend_added(pool, cast->began, added_at(change, i));
        result = result == CUEBALL_EEXISTS ? CUEBALL_OK : result;
    }
    for (uint32_t i = 0; i < change->removed_count && result == CUEBALL_OK; i++) {
        result = cueball_pool_backend_removed(pool, cast->began, change->removed[i]);
        (void)forecast_react(cast);
    }
    return result;
}

static const char *key_added(const cueball_change *change, const char *key)
{
    for (uint32_t i = 0; i < change->added_count; i++)
        if (strcmp(added_at(change, i)->key, key) == 0)
            return added_at(change, i)->key;
    return NULL;
}

static uint64_t closes_of(const cueball_pool *pool)
{
    const uint64_t *closed_by = pool->counters.closed_by;
    return closed_by[CUEBALL_CAUSE_PLAN] + closed_by[CUEBALL_CAUSE_REMOVED] + closed_by[CUEBALL_CAUSE_DRAIN];
}

static uint64_t closes_in_all(const cueball_pool *pool)
{
    uint64_t sum = 0;
    for (int cause = 0; cause <= CUEBALL_CAUSE_LAST; cause++)
        sum += pool->counters.closed_by[cause];
    return sum;
}

/* What is to be told of each backend: those that are known now, and those that would be. */
static uint32_t backends_tell(const cueball_pool *pool, const cueball_pool *copy, const cueball_change *change,
                              cueball_preview_backend *backends, uint32_t room)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < pool->known; i++) {
        const cueball__backend *was = pool->preference[i], *is = cueball__backend_by_key(copy, was->key);
        if (count < room)
            backends[count] = (cueball_preview_backend){ .key = was->key,
                                                         .before = was->have,
                                                         .after = is ? is->have : 0,
                                                         .removed = !is,
                                                         .dead = is ? is->dead : was->dead,
                                                         .drained = is && is->drained };
        count++;
    }
    for (uint32_t i = 0; i < copy->known; i++) {
        const cueball__backend *is = copy->preference[i];
        if (cueball__backend_by_key(pool, is->key))
            continue;
        if (count < room)
            backends[count] =
                (cueball_preview_backend){ .key = key_added(change, is->key), .after = is->have, .added = true, .dead = is->dead };
        count++;
    }
    return count;
}

static void forecast_begin(forecast *cast, const cueball_pool *pool, cueball_preview *told)
{
    cueball_pool *copy = cast->pool;
    told->knows_open = pool->create_histogram.total > 0;
    told->knows_lease = pool->lease_histogram.total > 0;
    cast->open_time = (cueball_time)cueball__histogram_quantile(&pool->create_histogram, 0.5);
    cast->lease_time = (cueball_time)cueball__histogram_quantile(&pool->lease_histogram, 0.5);
    told->open_time = cast->open_time;
    told->lease_time = cast->lease_time;
    copy->is_forecast = true;
    cueball__timers_cancel(&copy->timers, &copy->sample);
}

static void forecast_tell(const forecast *cast, const cueball_pool *pool, uint64_t opened, uint64_t closed, uint64_t planned,
                          cueball_preview *told)
{
    const cueball_pool *copy = cast->pool;
    uint64_t opens = copy->counters.opened - opened, closes = closes_of(copy) - planned;
    uint64_t replaced = closes_in_all(copy) - closed - closes; /* for their age, say: each opened one that is none of ours */
    told->opens = (uint32_t)(opens > replaced ? opens - replaced : 0);
    told->closes = (uint32_t)closes;
    told->settle_time = cast->changed_at - cast->began;
    for (uint32_t i = 0; i < pool->known; i++)
        told->before += pool->preference[i]->have;
    for (uint32_t i = 0; i < copy->known; i++)
        told->after += copy->preference[i]->have;
}

int cueball_pool_preview(const cueball_pool *pool, cueball_time now, const cueball_change *given, cueball_preview *preview,
                         cueball_preview_backend *backends, uint32_t room)
{
    cueball_change change = { 0 };
    cueball_preview told = { 0 };
    if (!given || !cueball__sized_read(&change, sizeof change, CHANGE_FIRST, given))
        return CUEBALL_EINVAL;
    if ((change.added_count > 0 && !change.added) || (change.removed_count > 0 && !change.removed) || (room > 0 && !backends))
        return CUEBALL_EINVAL;
    if (cueball__pool_is_over(pool))
        return CUEBALL_EPOOL_STOPPING;
    forecast cast = { .pool = cueball__pool_copy(pool) };
    if (!cast.pool)
        return CUEBALL_ENOMEM;
    assert(cast.pool->slots.count == pool->slots.count);
    forecast_begin(&cast, pool, &told);
    (void)cueball_pool_time_advanced(cast.pool, now);
    cast.began = cast.changed_at = cast.pool->now;
    uint64_t opened = cast.pool->counters.opened, closed = closes_in_all(cast.pool), planned = closes_of(cast.pool);
    int result = change_make(&cast, &change);
    if (result == CUEBALL_OK) {
        told.settles = forecast_run(&cast);
        forecast_tell(&cast, pool, opened, closed, planned, &told);
        told.backends = backends_tell(pool, cast.pool, &change, backends, room);
        cueball__sized_write(preview, PREVIEW_FIRST, &told, sizeof told);
    }
    cueball_pool_free(cast.pool);
    return result;
}
