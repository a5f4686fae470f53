/* What the host reports of connections: opened, failed, checked, lost, unfit,
 * closed; and what it is told to renew.  A report on what the pool gave up before
 * is stale and changes nothing. */
#include "pool.h"

#define RENEW_MS_MAX 86400000.0

/* The slot whose present connection, or attempt, is `conn`; NULL if it is none's. */
static cueball__slot *slot_by_conn(const cueball_pool *pool, cueball_handle conn)
{
    uint32_t index = cueball__handle_index(conn);
    if (index >= pool->slots.made)
        return NULL;
    cueball__slot *slot = cueball__table_at(&pool->slots, index);
    return slot->state != CUEBALL_SLOT_FREE && slot->conn == conn ? slot : NULL;
}

/* Takes the time.  Who reports may be late, because its loop stood still; what it
 * reports happened all the same, so the limit of what waits for it does not run
 * out before it is heard.  The slot, or NULL. */
static cueball__slot *slot_begin(cueball_pool *pool, cueball_time now, cueball_handle conn)
{
    cueball__slot *slot = slot_by_conn(pool, conn);
    bool is_awaited =
        slot && (slot->state == CUEBALL_SLOT_CONNECTING || slot->state == CUEBALL_SLOT_CHECKING || slot->state == CUEBALL_SLOT_CLOSING);
    cueball_time limit = CUEBALL_NEVER;
    if (is_awaited && cueball__timer_is_armed(&slot->timer) && slot->timer.deadline < now) {
        limit = slot->timer.deadline;
        cueball__timers_cancel(&pool->timers, &slot->timer);
    }
    cueball__pool_begin(pool, now);
    slot = slot_by_conn(pool, conn);
    if (slot && limit != CUEBALL_NEVER && !cueball__timer_is_armed(&slot->timer))
        cueball__timers_arm(&pool->timers, &slot->timer, limit);
    return slot;
}

int cueball_pool_conn_opened(cueball_pool *pool, cueball_time now, cueball_handle conn)
{
    cueball__slot *slot = slot_begin(pool, now, conn);
    if (!slot || slot->state != CUEBALL_SLOT_CONNECTING || slot->chores & CUEBALL__CHORE_OPEN) {
        cueball__pool_settle(pool);
        return CUEBALL_ESTALE;
    }
    cueball__timers_cancel(&pool->timers, &slot->timer);
    pool->counters.opened++;
    slot->has_opened = 1;
    slot->opened_at = slot->used_at = pool->now;
    slot->spread = (float)(2 * cueball__random_unit(&pool->random) - 1);
    slot->leases_before = cueball__handle_generation(slot->lease);
    cueball__slot_limit_life(pool, slot);
    slot->unproven = 1;
    slot->backend->connected++;
    slot->backend->unproven++;
    cueball_time took = pool->now - slot->state_since;
    cueball__histogram_add(&pool->create_histogram, took);
    bool is_probe = slot->backend->dead;
    if (!is_probe)
        cueball__pool_connected(pool);
    cueball__slot_offer(pool, slot, CUEBALL_CAUSE_OPENED);
    cueball__demand_connected(pool, took);
    if (pool->is_set && !is_probe)
        cueball__set_has_another(pool);
    cueball__pool_settle(pool);
    return CUEBALL_OK;
}

int cueball_pool_conn_failed(cueball_pool *pool, cueball_time now, cueball_handle conn)
{
    cueball__pool_begin(pool, now);
    cueball__slot *slot = slot_by_conn(pool, conn);
    bool is_ours = slot && slot->state == CUEBALL_SLOT_CONNECTING && !(slot->chores & CUEBALL__CHORE_OPEN);
    if (is_ours) {
        pool->counters.open_failures++;
        slot->conn = cueball__handle_next(slot->conn);
        cueball__slot_retry(pool, slot, 0, CUEBALL_CAUSE_FAILED, CUEBALL_CAUSE_FAILED);
    }
    cueball__pool_settle(pool);
    return is_ours ? CUEBALL_OK : CUEBALL_ESTALE;
}

int cueball_pool_conn_checked(cueball_pool *pool, cueball_time now, cueball_handle conn, bool is_fit)
{
    cueball__slot *slot = slot_begin(pool, now, conn);
    bool is_ours = slot && slot->state == CUEBALL_SLOT_CHECKING && !(slot->chores & CUEBALL__CHORE_CHECK) && !slot->doubted;
    if (is_ours && is_fit) {
        cueball__timers_cancel(&pool->timers, &slot->timer);
        cueball__slot_checked(pool, slot);
        if (pool->options.has_check) /* else the check asked nothing */
            cueball__slot_prove(pool, slot, CUEBALL_CAUSE_CHECK);
        if (slot->unwanted)
            cueball__slot_close(pool, slot, CUEBALL_CAUSE_PLAN);
        else
            cueball__slot_offer(pool, slot, CUEBALL_CAUSE_CHECK);
    } else if (is_ours) {
        pool->counters.checks_failed++;
        cueball__slot_blame(pool, slot, CUEBALL_CAUSE_UNFIT);
    }
    cueball__pool_settle(pool);
    return is_ours ? CUEBALL_OK : CUEBALL_ESTALE;
}

int cueball_pool_conn_lost(cueball_pool *pool, cueball_time now, cueball_handle conn)
{
    cueball__pool_begin(pool, now);
    cueball__slot *slot = slot_by_conn(pool, conn);
    bool is_ours = slot && cueball__slot_is_connected(slot) && slot->on_return != CUEBALL_CAUSE_LOST;
    if (is_ours) {
        if (slot->state == CUEBALL_SLOT_BUSY)
            cueball__slot_want_back(pool, slot, CUEBALL_CAUSE_LOST);
        else
            cueball__slot_lose(pool, slot);
    }
    cueball__pool_settle(pool);
    return is_ours ? CUEBALL_OK : CUEBALL_ESTALE;
}

int cueball_pool_conn_unfit(cueball_pool *pool, cueball_time now, cueball_handle conn, int cause)
{
    if (cause != CUEBALL_CAUSE_UNFIT && cause != CUEBALL_CAUSE_WORN && cause != CUEBALL_CAUSE_TIMEOUT)
        return CUEBALL_EINVAL;
    cueball__pool_begin(pool, now);
    cueball__slot *slot = slot_by_conn(pool, conn);
    bool is_ours = slot && cueball__slot_is_connected(slot) && slot->on_return != CUEBALL_CAUSE_LOST;
    if (is_ours && slot->state == CUEBALL_SLOT_BUSY) {
        cueball__slot_want_back(pool, slot, (cueball_cause)cause);
    } else if (is_ours) {
        if (cause == CUEBALL_CAUSE_WORN)
            cueball__slot_prove(pool, slot, CUEBALL_CAUSE_WORN);
        cueball__slot_close(pool, slot, (cueball_cause)cause);
    }
    cueball__pool_settle(pool);
    return is_ours ? CUEBALL_OK : CUEBALL_ESTALE;
}

/* The slot's connection is replaced when this share of `span` is over. */
static void slot_renew(cueball_pool *pool, cueball__slot *slot, cueball_time span, double share)
{
    cueball_time at = cueball__time_after(pool->now, (cueball_time)((double)span * share));
    bool is_connected = cueball__slot_is_connected(slot);
    if (slot->state == CUEBALL_SLOT_CONNECTING || is_connected) {
        if (slot->state == CUEBALL_SLOT_CONNECTING || at < slot->retire_at)
            slot->retire_at = at;
        slot->renews = 1; /* also where its lifetime ends before: that may be made longer */
        if (slot->state == CUEBALL_SLOT_IDLE)
            cueball__slot_rest_due(pool, slot);
        else if (slot->state == CUEBALL_SLOT_BUSY)
            slot->untimed = 1;
    }
}

/* One connection after the other.  Where there are other backends, they take turns:
 * this one begins at `phase` of its first interval, 0 to 1. */
static void backend_renew(cueball_pool *pool, cueball__backend *backend, cueball_time span, double phase)
{
    uint32_t rank = 0;
    CUEBALL__LIST_EACH(link, following, &backend->slots)
    {
        slot_renew(pool, CUEBALL__OWNER(link, cueball__slot, at_backend), span, (rank++ + phase) / backend->total);
    }
}

int cueball_pool_renew(cueball_pool *pool, cueball_time now, const char *key, double over_ms)
{
    if (!(over_ms >= 0 && over_ms <= RENEW_MS_MAX))
        return CUEBALL_EINVAL;
    cueball__pool_begin(pool, now);
    cueball__backend *backend = key ? cueball__backend_by_key(pool, key) : NULL;
    cueball_time span = cueball__ns_from_ms(over_ms);
    if (backend)
        backend_renew(pool, backend, span, 0);
    for (uint32_t i = 0; i < pool->known && !key; i++)
        backend_renew(pool, pool->preference[i], span, (double)i / pool->known);
    cueball__pool_settle(pool);
    return key && !backend ? CUEBALL_ENOT_FOUND : CUEBALL_OK;
}

int cueball_pool_conn_closed(cueball_pool *pool, cueball_time now, cueball_handle conn)
{
    cueball__slot *slot = slot_begin(pool, now, conn);
    bool is_ours = slot && slot->state == CUEBALL_SLOT_CLOSING && !(slot->chores & CUEBALL__CHORE_CLOSE);
    if (is_ours) {
        cueball__timers_cancel(&pool->timers, &slot->timer);
        cueball__slot_closed(pool, slot, CUEBALL_CAUSE_CLOSED);
    }
    cueball__pool_settle(pool);
    return is_ours ? CUEBALL_OK : CUEBALL_ESTALE;
}
