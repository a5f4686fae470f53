/* A slot is one place for one connection to one backend, for as long as the
 * plan wants it there.
 *
 * The happy path: connecting -> idle <-> busy, for ever, with a check now and
 * then (idle -> checking -> idle).
 *
 * What can go wrong: an attempt fails or takes too long (connecting -> backoff
 * -> connecting, at growing intervals; after so many the backend is dead); the
 * connection breaks, at rest or leased, or has to go (-> closing, then
 * connecting again, at once or after a pause); the plan no longer wants the
 * slot (-> closing -> free).  A slot that is closing waits for its connection to be
 * closed before it opens another, so there are never more than was allowed. */
#include "pool.h"

/* For those who watch: the slot is about to enter this state. */
void cueball__slot_note(cueball_pool *pool, const cueball__slot *slot, cueball_slot_state state, cueball_cause cause)
{
    if (!cueball__pool_watches(pool, CUEBALL_EVENT_SLOT_STATE))
        return;
    cueball_event event = { .kind = CUEBALL_EVENT_SLOT_STATE, .from = slot->state, .to = (int32_t)state };
    event.cause = (int32_t)cause;
    event.slot = slot->member.index;
    event.conn = slot->conn;
    event.backend = slot->backend ? cueball__member_handle(&slot->backend->member) : 0;
    event.count = slot->attempt;
    cueball__event_add(pool, &event);
}

/* Where a state is counted.  Those at rest and those leased are counted together,
 * so that a claim and a release need not count; the idle order knows the former. */
static cueball_slot_state counted_as(cueball_slot_state state)
{
    return state == CUEBALL_SLOT_BUSY ? CUEBALL_SLOT_IDLE : state;
}

void cueball__slot_set(cueball_pool *pool, cueball__slot *slot, cueball_slot_state state, cueball_cause cause)
{
    cueball__slot_note(pool, slot, state, cause);
    pool->counts[counted_as(slot->state)]--;
    pool->counts[counted_as(state)]++;
    slot->state = (uint8_t)state;
    slot->since = pool->now;
}

static const cueball__patience *slot_patience(const cueball_pool *pool, const cueball__slot *slot)
{
    return slot->has_opened ? &pool->settings.connect : &pool->settings.initial;
}

static bool slot_is_wanted(const cueball_pool *pool, const cueball__slot *slot)
{
    return !slot->unwanted && !slot->backend->removed && !cueball__pool_is_over(pool);
}

static void slot_open(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    const cueball__patience *patience = slot_patience(pool, slot);
    slot->conn = cueball__handle_next(slot->conn);
    if (slot->attempt < UINT32_MAX)
        slot->attempt++;
    slot->proven = false;
    pool->counters.attempts++;
    cueball__slot_set(pool, slot, CUEBALL_SLOT_CONNECTING, cause);
    cueball_time limit = cueball__patience_limit(patience, slot->attempt);
    cueball__timers_arm(&pool->timers, &slot->timer, cueball__time_after(pool->now, limit));
    cueball__chore_add(pool, slot, CUEBALL__CHORE_OPEN);
}

bool cueball__slot_add(cueball_pool *pool, cueball__backend *backend)
{
    if (!cueball__idle_reserve(&pool->idle, pool->slots.count + 1))
        return false;
    bool is_new;
    cueball__slot *slot = cueball__table_add(&pool->slots, &is_new);
    if (!slot)
        return false;
    if (is_new) {
        cueball__link_init(&slot->at_backend);
        cueball__link_init(&slot->at_owner);
        cueball__link_init(&slot->chore);
        slot->timer.kind = CUEBALL__TIMER_SLOT;
        slot->conn = slot->lease = cueball__handle(slot->member.index, 0);
    }
    slot->backend = backend;
    slot->attempt = 0;
    slot->has_opened = slot->unwanted = slot->pauses = slot->orphan = 0;
    slot->on_return = 0;
    slot->used_at = pool->now;
    cueball__list_append(&backend->slots, &slot->at_backend);
    backend->total++;
    backend->have++;
    pool->counts[CUEBALL_SLOT_FREE]++;
    slot_open(pool, slot, CUEBALL_CAUSE_PLAN);
    return true;
}

/* The slot is no more; its place is free for another. */
static void slot_remove(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    cueball__backend *backend = slot->backend;
    assert(!cueball__slot_is_connected(slot));
    cueball__timers_cancel(&pool->timers, &slot->timer);
    cueball__slot_set(pool, slot, CUEBALL_SLOT_FREE, cause);
    pool->counts[CUEBALL_SLOT_FREE]--;
    cueball__list_remove(&slot->at_backend);
    slot->conn = cueball__handle_next(slot->conn);
    slot->backend = NULL;
    backend->total--;
    if (!slot->unwanted)
        backend->have--;
    pool->orphans -= slot->orphan;
    cueball__table_remove(&pool->slots, slot);
    cueball__backend_slot_gone(pool, backend);
    pool->is_unsettled = true; /* its place can be another's */
}

/* An attempt, or a connection that did not last, has used up one of the tries.
 * `elapsed` of the pause is over already. */
static void slot_retry(cueball_pool *pool, cueball__slot *slot, cueball_time elapsed, cueball_cause cause)
{
    if (!slot_is_wanted(pool, slot)) {
        slot_remove(pool, slot, cause);
        return;
    }
    const cueball__patience *patience = slot_patience(pool, slot);
    cueball_time pause = cueball__patience_pause(patience, slot->attempt, slot->pause, &pool->random);
    slot->pause = pause;
    cueball__slot_set(pool, slot, CUEBALL_SLOT_BACKOFF, cause);
    cueball__timers_arm(&pool->timers, &slot->timer, cueball__time_after(pool->now, pause > elapsed ? pause - elapsed : 0));
    if (slot->attempt >= patience->attempts && slot->backend->connected == 0 && !slot->proven && !slot->backend->dead
        && !slot->backend->ejected)
        cueball__backend_died(pool, slot->backend, slot->attempt);
}

/* Stops the attempt under way.  What it may still report is stale from here on. */
static void slot_give_up(cueball_pool *pool, cueball__slot *slot)
{
    if (!cueball__chore_drop(pool, slot, CUEBALL__CHORE_OPEN)) {
        assert(!(slot->chores & CUEBALL__CHORE_GIVE_UP));
        slot->given_up = slot->conn;
        cueball__chore_add(pool, slot, CUEBALL__CHORE_GIVE_UP);
    }
    slot->conn = cueball__handle_next(slot->conn);
}

/* Closes the connection of a slot that is connected. */
static void slot_close(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    assert(cueball__slot_is_connected(slot));
    assert(slot->owner == NULL);
    if (slot->state == CUEBALL_SLOT_IDLE)
        cueball__slot_wake(pool, slot);
    cueball__chore_drop(pool, slot, CUEBALL__CHORE_CHECK);
    slot->on_return = 0;
    slot->backend->connected--;
    pool->counters.closed++;
    cueball__slot_set(pool, slot, CUEBALL_SLOT_CLOSING, cause);
    cueball__timers_arm(&pool->timers, &slot->timer, cueball__time_after(pool->now, pool->settings.standard.timeout));
    cueball__chore_add(pool, slot, CUEBALL__CHORE_CLOSE);
}

/* The connection is closed: what next? */
static void slot_closed(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    if (!slot_is_wanted(pool, slot)) {
        slot_remove(pool, slot, cause);
    } else if (slot->pauses) {
        slot->pauses = 0;
        slot_retry(pool, slot, pool->now - slot->since, cause);
    } else {
        slot->attempt = 0;
        slot_open(pool, slot, cause);
    }
}

/* A connection broke.  One that lasted, or that served, is replaced at once; one
 * that did neither counts as one more failed attempt, or a backend that accepts
 * and closes would be reconnected as fast as it can close. */
static void slot_lose(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    if (cause == CUEBALL_CAUSE_LOST)
        pool->counters.lost++;
    slot->pauses = !slot->proven && pool->now - slot->opened_at < cueball__patience_delay(slot_patience(pool, slot), slot->attempt);
    slot_close(pool, slot, cause);
}

static cueball_time slot_span(const cueball__slot *slot, cueball_time span)
{
    return span == 0 || span == CUEBALL_NEVER ? CUEBALL_NEVER : (cueball_time)((double)span * (double)slot->spread);
}

/* The timer of a connection at rest: for what comes first.  A claim and a release
 * leave it alone; it may therefore fire early, and is then armed for the rest. */
static void slot_arm_rest(cueball_pool *pool, cueball__slot *slot)
{
    cueball_time check = cueball__time_after(slot->since, slot_span(slot, pool->settings.check_interval));
    cueball_time unused = cueball__time_after(slot->used_at, slot_span(slot, pool->settings.idle_timeout));
    cueball_time due = check < unused ? check : unused;
    cueball__timers_arm(&pool->timers, &slot->timer, due < slot->retire_at ? due : slot->retire_at);
}

/* An open connection is free: for the claim that waits longest, or to rest. */
static void slot_offer(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    if (cueball__claim_serve(pool, slot)) {
        slot->untimed |= !cueball__timer_is_armed(&slot->timer);
        return;
    }
    cueball__slot_set(pool, slot, CUEBALL_SLOT_IDLE, cause);
    cueball__idle_append(&pool->idle, slot);
    if (pool->options.balance == CUEBALL_BALANCE_P2C)
        cueball__latency_rest(pool, slot);
    slot->untimed = 0;
    if (!cueball__timer_is_armed(&slot->timer))
        slot_arm_rest(pool, slot);
}

static void slot_rest_due(cueball_pool *pool, cueball__slot *slot)
{
    if (pool->now >= slot->retire_at) {
        slot_close(pool, slot, CUEBALL_CAUSE_LIFETIME);
    } else if (pool->now >= cueball__time_after(slot->used_at, slot_span(slot, pool->settings.idle_timeout))) {
        slot_close(pool, slot, CUEBALL_CAUSE_IDLE);
    } else if (pool->now >= cueball__time_after(slot->since, slot_span(slot, pool->settings.check_interval))) {
        cueball__slot_wake(pool, slot);
        pool->counters.checks++;
        cueball__slot_set(pool, slot, CUEBALL_SLOT_CHECKING, CUEBALL_CAUSE_CHECK);
        cueball__timers_arm(&pool->timers, &slot->timer, cueball__time_after(pool->now, pool->settings.check_timeout));
        cueball__chore_add(pool, slot, CUEBALL__CHORE_CHECK);
    } else {
        slot_arm_rest(pool, slot);
    }
}

/* The slot's timer came. */
void cueball__slot_due(cueball_pool *pool, cueball__slot *slot)
{
    switch ((cueball_slot_state)slot->state) {
    case CUEBALL_SLOT_CONNECTING:
        pool->counters.open_timeouts++;
        slot_give_up(pool, slot);
        slot_retry(pool, slot, 0, CUEBALL_CAUSE_TIMEOUT);
        break;
    case CUEBALL_SLOT_BACKOFF:
        if (!cueball__monitor_moves_on(pool, slot))
            slot_open(pool, slot, CUEBALL_CAUSE_DELAY);
        break;
    case CUEBALL_SLOT_IDLE:
        slot_rest_due(pool, slot);
        break;
    case CUEBALL_SLOT_CHECKING:
        pool->counters.checks_failed++;
        slot_lose(pool, slot, CUEBALL_CAUSE_TIMEOUT);
        break;
    case CUEBALL_SLOT_CLOSING:
        /* Not before the host was told: else nobody would close it. */
        if (slot->chores & CUEBALL__CHORE_CLOSE)
            cueball__timers_arm(&pool->timers, &slot->timer, cueball__time_after(pool->now, pool->settings.standard.timeout));
        else
            slot_closed(pool, slot, CUEBALL_CAUSE_TIMEOUT);
        break;
    case CUEBALL_SLOT_BUSY:
        slot->untimed = 1;
        break;
    case CUEBALL_SLOT_FREE:
        break;
    }
}

void cueball__slot_options_changed(cueball_pool *pool, cueball__slot *slot)
{
    if (cueball__slot_is_connected(slot)) /* those that are open too grow no older than is said now */
        slot->retire_at = cueball__time_after(slot->opened_at, slot_span(slot, pool->settings.max_lifetime));
    if (slot->state == CUEBALL_SLOT_IDLE) {
        slot_arm_rest(pool, slot);
    } else if (slot->state == CUEBALL_SLOT_BUSY) {
        cueball__timers_cancel(&pool->timers, &slot->timer); /* armed anew when it comes back */
        slot->untimed = 1;
    }
}

/* The connection rests no longer. */
void cueball__slot_wake(cueball_pool *pool, cueball__slot *slot)
{
    cueball__idle_remove(&pool->idle, slot);
    if (cueball__link_is_linked(&slot->at_owner))
        cueball__latency_unrest(pool, slot);
}

/* What a lease that ended tells: of the pool, and of its backend. */
static void slot_measure(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    cueball_time held = pool->now - slot->since;
    cueball__histogram_add(&pool->leases, held);
    pool->lease_sum += held;
    if (pool->options.balance == CUEBALL_BALANCE_P2C)
        cueball__latency_observe(pool, slot->backend, held);
    if (cause == CUEBALL_CAUSE_FAIL)
        cueball__outlier_failed(pool, slot->backend);
    else if (cause == CUEBALL_CAUSE_RELEASE && pool->failing)
        cueball__outlier_forgive(pool, slot->backend);
}

/* The lease has ended; `cause` says how, and so what becomes of the connection. */
void cueball__slot_came_back(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    assert(slot->state == CUEBALL_SLOT_BUSY);
    cueball__latency_return(pool, slot);
    if (cause != CUEBALL_CAUSE_CANCEL) /* that one was no lease to anybody */
        slot_measure(pool, slot, cause);
    slot->untold = 0;
    if (slot->owner) {
        slot->owner = NULL;
        slot->owned = 0;
        cueball__list_remove(&slot->at_owner);
    }
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
        slot_lose(pool, slot, CUEBALL_CAUSE_LOST);
    } else if (cause == CUEBALL_CAUSE_FAIL) {
        slot->attempt = 1;
        slot->pauses = 1;
        slot->proven = true; /* it did open: a claimer's word does not make its backend dead */
        slot_close(pool, slot, cause);
    } else if (cause == CUEBALL_CAUSE_RELEASE || cause == CUEBALL_CAUSE_CANCEL) {
        if (slot->on_return || slot->backend->removed || pool->now >= slot->retire_at) {
            cueball_cause other = slot->backend->removed ? CUEBALL_CAUSE_REMOVED : CUEBALL_CAUSE_LIFETIME;
            slot_close(pool, slot, slot->on_return ? slot->on_return : other);
            return;
        }
        slot->proven = slot->proven || cause == CUEBALL_CAUSE_RELEASE;
        slot_offer(pool, slot, cause);
    } else {
        slot_close(pool, slot, cause);
    }
}

/* Its lease is to end, and the connection with it. */
static void slot_want_back(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    assert(slot->state == CUEBALL_SLOT_BUSY);
    if (pool->options.is_set && !slot->on_return)
        cueball__chore_add(pool, slot, CUEBALL__CHORE_RECALL);
    if (slot->on_return != CUEBALL_CAUSE_LOST)
        slot->on_return = (uint8_t)cause;
}

/* Whether this is a set's only connection that works and may be kept. */
bool cueball__slot_is_last(const cueball_pool *pool, const cueball__slot *slot)
{
    if (!pool->options.is_set || slot->state != CUEBALL_SLOT_BUSY || cueball__pool_is_over(pool))
        return false;
    for (uint32_t i = 0; i < pool->slots.made; i++) {
        const cueball__slot *other = cueball__table_at(&pool->slots, i);
        if (other != slot && cueball__slot_is_connected(other) && !other->on_return)
            return false;
    }
    return true;
}

/* A set has one more connection: those kept though their backends were removed
 * may go now. */
static void slot_recall_leftovers(cueball_pool *pool)
{
    for (uint32_t i = 0; i < pool->slots.made; i++) {
        cueball__slot *slot = cueball__table_at(&pool->slots, i);
        if (slot->state == CUEBALL_SLOT_BUSY && slot->backend->removed && !slot->on_return)
            cueball__slot_drop(pool, slot, CUEBALL_CAUSE_REMOVED);
    }
}

/* The slot is to go: at once if nobody uses its connection, else when that comes
 * back. */
void cueball__slot_drop(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    switch ((cueball_slot_state)slot->state) {
    case CUEBALL_SLOT_CONNECTING:
        slot_give_up(pool, slot);
        slot_remove(pool, slot, cause);
        break;
    case CUEBALL_SLOT_BACKOFF:
        slot_remove(pool, slot, cause);
        break;
    case CUEBALL_SLOT_IDLE:
    case CUEBALL_SLOT_CHECKING:
        slot_close(pool, slot, cause);
        break;
    case CUEBALL_SLOT_BUSY:
        if (cause == CUEBALL_CAUSE_REMOVED && !slot->orphan) {
            slot->orphan = 1;
            pool->orphans++;
        }
        if (cause == CUEBALL_CAUSE_REMOVED && cueball__slot_is_last(pool, slot))
            break; /* when another is open, see slot_recall_leftovers() */
        slot_want_back(pool, slot, cause);
        break;
    case CUEBALL_SLOT_CLOSING:
    case CUEBALL_SLOT_FREE:
        break;
    }
}

/* The slot whose present connection, or attempt, is `conn`; NULL if it is none's. */
static cueball__slot *slot_by_conn(const cueball_pool *pool, cueball_handle conn)
{
    uint32_t index = cueball__handle_index(conn);
    if (index >= pool->slots.made)
        return NULL;
    cueball__slot *slot = cueball__table_at(&pool->slots, index);
    return slot->state != CUEBALL_SLOT_FREE && slot->conn == conn ? slot : NULL;
}

int cueball_pool_conn_opened(cueball_pool *pool, cueball_time now, cueball_handle conn)
{
    cueball__pool_begin(pool, now);
    cueball__slot *slot = slot_by_conn(pool, conn);
    if (!slot || slot->state != CUEBALL_SLOT_CONNECTING || slot->chores & CUEBALL__CHORE_OPEN) {
        cueball__pool_settle(pool);
        return CUEBALL_ESTALE;
    }
    cueball__timers_cancel(&pool->timers, &slot->timer);
    pool->counters.opened++;
    slot->has_opened = 1;
    slot->opened_at = slot->used_at = pool->now;
    slot->spread = (float)(1 - CUEBALL__SPREAD / 2 + CUEBALL__SPREAD * cueball__random_unit(&pool->random));
    slot->retire_at = cueball__time_after(pool->now, slot_span(slot, pool->settings.max_lifetime));
    slot->backend->connected++;
    cueball_time took = pool->now - slot->since;
    if (slot->backend->dead)
        cueball__backend_revived(pool, slot->backend);
    cueball__pool_connected(pool);
    slot_offer(pool, slot, CUEBALL_CAUSE_OPENED);
    cueball__demand_connected(pool, took);
    if (pool->options.is_set) {
        slot_recall_leftovers(pool);
        pool->plan_is_due = pool->is_unsettled = true;
    }
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
        slot_retry(pool, slot, 0, CUEBALL_CAUSE_FAILED);
    }
    cueball__pool_settle(pool);
    return is_ours ? CUEBALL_OK : CUEBALL_ESTALE;
}

int cueball_pool_conn_checked(cueball_pool *pool, cueball_time now, cueball_handle conn, bool is_fit)
{
    cueball__pool_begin(pool, now);
    cueball__slot *slot = slot_by_conn(pool, conn);
    bool is_ours = slot && slot->state == CUEBALL_SLOT_CHECKING && !(slot->chores & CUEBALL__CHORE_CHECK);
    if (is_ours && is_fit) {
        cueball__timers_cancel(&pool->timers, &slot->timer);
        slot->proven = true;
        slot_offer(pool, slot, CUEBALL_CAUSE_CHECK);
    } else if (is_ours) {
        pool->counters.checks_failed++;
        slot_lose(pool, slot, CUEBALL_CAUSE_UNFIT);
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
            slot_want_back(pool, slot, CUEBALL_CAUSE_LOST);
        else
            slot_lose(pool, slot, CUEBALL_CAUSE_LOST);
    }
    cueball__pool_settle(pool);
    return is_ours ? CUEBALL_OK : CUEBALL_ESTALE;
}

int cueball_pool_conn_closed(cueball_pool *pool, cueball_time now, cueball_handle conn)
{
    cueball__pool_begin(pool, now);
    cueball__slot *slot = slot_by_conn(pool, conn);
    bool is_ours = slot && slot->state == CUEBALL_SLOT_CLOSING && !(slot->chores & CUEBALL__CHORE_CLOSE);
    if (is_ours) {
        cueball__timers_cancel(&pool->timers, &slot->timer);
        slot_closed(pool, slot, CUEBALL_CAUSE_CLOSED);
    }
    cueball__pool_settle(pool);
    return is_ours ? CUEBALL_OK : CUEBALL_ESTALE;
}
