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

#define SURPLUS_PAUSE_MAX 60000000000 /* ns, see cueball__slot_pause() */
#define USELESS_PAUSE_MAX 5000000000  /* ns, likewise */

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

/* Where a state is counted. */
static cueball_slot_state counted_as(cueball_slot_state state)
{
    return state == CUEBALL_SLOT_BUSY || state == CUEBALL_SLOT_IDLE ? CUEBALL__COUNT_LENDABLE : state;
}

void cueball__slot_set(cueball_pool *pool, cueball__slot *slot, cueball_slot_state state, cueball_cause cause)
{
    cueball__slot_note(pool, slot, state, cause);
    pool->counts[counted_as(slot->state)]--;
    pool->counts[counted_as(state)]++;
    slot->state = (uint8_t)state;
    slot->state_since = pool->now;
}

const cueball__backoff *cueball__slot_backoff(const cueball_pool *pool, const cueball__slot *slot)
{
    return slot->has_opened ? &pool->settings.connect : &pool->settings.initial;
}

static bool slot_is_wanted(const cueball_pool *pool, const cueball__slot *slot)
{
    return !slot->unwanted && !slot->backend->removed && !cueball__pool_is_over(pool);
}

static void slot_open(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    const cueball__backoff *backoff = cueball__slot_backoff(pool, slot);
    slot->conn = cueball__handle_next(slot->conn);
    cueball__backend *backend = slot->backend;
    if (backend->dead && slot->attempt < backend->attempt) /* whichever of its slots is left goes on with the row */
        slot->attempt = backend->attempt;
    if (slot->attempt < UINT32_MAX)
        slot->attempt++;
    if (backend->dead)
        backend->attempt = slot->attempt;
    slot->renews = 0;
    pool->counters.attempts++;
    cueball__slot_set(pool, slot, CUEBALL_SLOT_CONNECTING, cause);
    cueball_time limit = cueball__backoff_limit(backoff, slot->attempt);
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
    slot->pause = 0;
    slot->has_opened = slot->unwanted = slot->pauses = slot->orphan = 0;
    slot->on_return = slot->blame = 0;
    slot->used_at = pool->now;
    cueball__list_append(&backend->slots, &slot->at_backend);
    backend->total++;
    backend->have++;
    pool->counts[CUEBALL_SLOT_FREE]++;
    if (backend->dead && backend->total == 1)
        cueball__probe_slot_came(pool, backend, slot);
    if (backend->dead && pool->now < backend->probe_at) {
        cueball__slot_set(pool, slot, CUEBALL_SLOT_BACKOFF, CUEBALL_CAUSE_PLAN);
        cueball__timers_arm(&pool->timers, &slot->timer, backend->probe_at);
    } else {
        slot_open(pool, slot, CUEBALL_CAUSE_PLAN);
    }
    return true;
}

/* The slot is no more; its place is free for another. */
void cueball__slot_remove(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    cueball__backend *backend = slot->backend;
    assert(!cueball__slot_is_connected(slot));
    if (backend->dead && backend->total == 1)
        cueball__probe_slot_goes(pool, backend, slot);
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

/* Lets pauses double on, beyond those between the attempts that decide whether the
 * backend is dead, up to `most`. */
static void backoff_go_on(cueball__backoff *backoff, cueball_time most)
{
    cueball_time last = cueball__backoff_delay(backoff, backoff->attempts);
    most = most > last ? most : last;
    backoff->attempts = UINT32_MAX;
    backoff->delay_max = backoff->delay_max < most ? backoff->delay_max : most;
}

static cueball__backoff slot_backoff_now(const cueball_pool *pool, const cueball__slot *slot, bool has_opened)
{
    cueball__backoff backoff = *cueball__slot_backoff(pool, slot);
    if (slot->backend->takes && !slot->backend->dead)
        backoff_go_on(&backoff, SURPLUS_PAUSE_MAX);
    else if (slot->backend->dead && has_opened)
        backoff_go_on(&backoff, USELESS_PAUSE_MAX);
    return backoff;
}

/* The pause before the slot's next attempt.  Where the backend takes others and not
 * this one, nothing is gained by asking often.  A connection that opened
 * and was of no use costs more than one that was refused. */
cueball_time cueball__slot_pause(cueball_pool *pool, const cueball__slot *slot, bool has_opened)
{
    cueball__backoff backoff = slot_backoff_now(pool, slot, has_opened);
    cueball_time pause = cueball__backoff_pause(&backoff, slot->attempt ? slot->attempt : 1, slot->pause, &pool->random);
    bool goes_on = slot->attempt >= cueball__slot_backoff(pool, slot)->attempts; /* for ever */
    return goes_on && pause < CUEBALL__PERIOD_MIN ? CUEBALL__PERIOD_MIN : pause;
}

/* Pauses before the next attempt; `elapsed` of the pause is over already. */
static void slot_pause(cueball_pool *pool, cueball__slot *slot, cueball_time elapsed, bool has_opened, cueball_cause cause)
{
    slot->pause = cueball__slot_pause(pool, slot, has_opened);
    cueball__slot_set(pool, slot, CUEBALL_SLOT_BACKOFF, cause);
    cueball_time left = slot->pause > elapsed ? slot->pause - elapsed : 0;
    cueball__timers_arm(&pool->timers, &slot->timer, cueball__time_after(pool->now, left));
}

/* By when a sibling opened that did better than the slot's attempt, which began, or
 * opened, at `at`, if it is open still.  Of the first attempt in a row nothing is known. */
static cueball_time slot_outlived(const cueball__slot *slot, cueball_time at)
{
    if (slot->attempt <= 1)
        return CUEBALL_NEVER;
    return at > slot->pause / 2 ? at - slot->pause / 2 : 0;
}

/* An attempt, or a connection that had proven nothing, came to nothing, for `blame`. */
void cueball__slot_retry(cueball_pool *pool, cueball__slot *slot, cueball_time elapsed, cueball_cause cause, cueball_cause blame)
{
    bool has_opened = slot->state == CUEBALL_SLOT_CLOSING;
    cueball_time outlived = slot_outlived(slot, has_opened ? slot->opened_at : slot->state_since);
    if (!slot_is_wanted(pool, slot)) {
        cueball__slot_remove(pool, slot, cause);
        return;
    }
    slot_pause(pool, slot, elapsed, has_opened, cause);
    if (slot->backend->dead)
        (void)cueball__probe_yields(pool, slot);
    else
        cueball__attempt_judge(pool, slot, outlived, blame);
}

/* Stops the attempt under way.  What it may still report is stale from here on. */
static void slot_give_up(cueball_pool *pool, cueball__slot *slot)
{
    if (!cueball__chore_drop(pool, slot, CUEBALL__CHORE_OPEN)) {
        assert(!(slot->chores & CUEBALL__CHORE_GIVE_UP));
        slot->given_up = cueball__handle_generation(slot->conn);
        cueball__chore_add(pool, slot, CUEBALL__CHORE_GIVE_UP);
    }
    slot->conn = cueball__handle_next(slot->conn);
}

/* The check is over, and another may begin. */
void cueball__slot_checked(cueball_pool *pool, cueball__slot *slot)
{
    assert(slot->state == CUEBALL_SLOT_CHECKING);
    if (slot->doubted) {
        slot->doubted = 0;
        cueball__list_remove(&slot->at_owner);
        return;
    }
    assert(pool->checks_running > 0);
    pool->checks_running--;
    pool->is_unsettled |= !cueball__list_is_empty(&pool->to_check);
}

/* Closes the connection of a slot that is connected, which is nobody's fault. */
void cueball__slot_close(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    assert(cueball__slot_is_connected(slot));
    assert(slot->owner == NULL);
    if (slot->state == CUEBALL_SLOT_IDLE)
        cueball__slot_wake(pool, slot);
    if (slot->state == CUEBALL_SLOT_CHECKING)
        cueball__slot_checked(pool, slot);
    cueball__chore_drop(pool, slot, CUEBALL__CHORE_CHECK);
    slot->on_return = 0;
    slot->backend->connected--;
    if (slot->unproven) { /* the attempt counts neither way */
        slot->backend->unproven--;
        slot->attempt--;
        if (slot->backend->dead)
            slot->backend->attempt = slot->attempt;
    } else {
        slot->attempt = 0;
    }
    slot->unproven = slot->suspect = slot->renews = 0;
    pool->counters.closed_by[cause]++;
    cueball__slot_set(pool, slot, CUEBALL_SLOT_CLOSING, cause);
    cueball__timers_arm(&pool->timers, &slot->timer, cueball__time_after(pool->now, pool->settings.standard.timeout));
    cueball__chore_add(pool, slot, CUEBALL__CHORE_CLOSE);
}

/* The connection is closed: what next? */
void cueball__slot_closed(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    bool pauses = slot->pauses;
    cueball_cause blame = (cueball_cause)slot->blame;
    slot->pauses = 0;
    slot->blame = 0;
    cueball_time at;
    if (!slot_is_wanted(pool, slot)) {
        cueball__slot_remove(pool, slot, cause);
    } else if (blame) {
        cueball__slot_retry(pool, slot, pool->now - slot->state_since, cause, blame);
    } else if (pauses || slot->backend->dead) {
        slot_pause(pool, slot, pool->now - slot->state_since, true, cause);
        if (slot->backend->dead)
            (void)cueball__probe_yields(pool, slot);
    } else if (!cueball__backend_may_replace(pool, slot->backend, &at)) {
        cueball__slot_set(pool, slot, CUEBALL_SLOT_BACKOFF, cause);
        cueball__timers_arm(&pool->timers, &slot->timer, at);
    } else {
        slot_open(pool, slot, cause);
    }
}

/* The backend broke the connection, or failed who used it.  One that had proven
 * nothing counts as a failed attempt, or a backend that accepts and closes would be
 * reconnected as fast as it can close.  One that had is replaced at once, but for
 * the pause that lease:fail asks for. */
void cueball__slot_blame(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    uint32_t attempt = slot->attempt;
    bool counts = slot->unproven;
    cueball__siblings_suspect(pool, slot);
    cueball__slot_close(pool, slot, cause);
    slot->blame = (counts ? (unsigned)cause : 0U) & 31U;
    bool was_failed = cause == CUEBALL_CAUSE_FAIL;
    slot->pauses = was_failed && !counts ? 1 : 0;
    slot->attempt = counts ? attempt : was_failed;
    if (slot->backend->dead)
        slot->backend->attempt = slot->attempt;
}

void cueball__slot_lose(cueball_pool *pool, cueball__slot *slot)
{
    pool->counters.lost++;
    cueball__slot_blame(pool, slot, CUEBALL_CAUSE_LOST);
}

/* The slot's timer came. */
void cueball__slot_due(cueball_pool *pool, cueball__slot *slot)
{
    switch ((cueball_slot_state)slot->state) {
    case CUEBALL_SLOT_CONNECTING:
        pool->counters.open_timeouts++;
        slot_give_up(pool, slot);
        cueball__slot_retry(pool, slot, 0, CUEBALL_CAUSE_TIMEOUT, CUEBALL_CAUSE_TIMEOUT);
        break;
    case CUEBALL_SLOT_BACKOFF:
        slot_open(pool, slot, CUEBALL_CAUSE_DELAY);
        break;
    case CUEBALL_SLOT_IDLE:
        cueball__slot_rest_due(pool, slot);
        break;
    case CUEBALL_SLOT_CHECKING:
        pool->counters.checks_failed++;
        cueball__slot_blame(pool, slot, CUEBALL_CAUSE_TIMEOUT);
        break;
    case CUEBALL_SLOT_CLOSING:
        /* Not before the host was told: else nobody would close it. */
        if (slot->chores & CUEBALL__CHORE_CLOSE)
            cueball__timers_arm(&pool->timers, &slot->timer, cueball__time_after(pool->now, pool->settings.standard.timeout));
        else
            cueball__slot_closed(pool, slot, CUEBALL_CAUSE_TIMEOUT);
        break;
    case CUEBALL_SLOT_BUSY:
        slot->untimed = 1;
        if (slot->unproven && pool->now >= cueball__proof_due(pool, slot))
            cueball__slot_prove(pool, slot, CUEBALL_CAUSE_LASTED);
        else if (slot->unproven) /* it was armed for something of its rest */
            cueball__timers_arm(&pool->timers, &slot->timer, cueball__proof_due(pool, slot));
        break;
    case CUEBALL_SLOT_FREE:
        break;
    }
}

/* An open connection grows as old as max_lifetime_ms says, or until it is renewed. */
void cueball__slot_limit_life(const cueball_pool *pool, cueball__slot *slot)
{
    cueball_time retire_at =
        cueball__time_after(slot->opened_at, cueball__slot_span(slot, pool->settings.max_lifetime, pool->options.lifetime_spread));
    if (!slot->renews || retire_at < slot->retire_at)
        slot->retire_at = retire_at;
}

/* What is under way takes no longer than is said now. */
static void slot_hasten(cueball_pool *pool, cueball__slot *slot)
{
    cueball__backoff backoff = slot_backoff_now(pool, slot, true);
    uint32_t attempt = slot->attempt ? slot->attempt : 1;
    bool pauses = slot->state == CUEBALL_SLOT_BACKOFF;
    cueball_time span = pauses ? cueball__backoff_delay(&backoff, attempt) : cueball__backoff_limit(&backoff, attempt);
    cueball_time due = cueball__time_after(slot->state_since, span);
    if (due < slot->timer.deadline)
        cueball__timers_arm(&pool->timers, &slot->timer, due);
    if (pauses && !slot->backend->dead && slot->backend->connected == 0)
        cueball__attempt_judge(pool, slot, 0, CUEBALL_CAUSE_FAILED);
}

void cueball__slot_options_changed(cueball_pool *pool, cueball__slot *slot)
{
    if (slot->state == CUEBALL_SLOT_BACKOFF || slot->state == CUEBALL_SLOT_CONNECTING)
        slot_hasten(pool, slot);
    if (cueball__slot_is_connected(slot)) /* those that are open too grow no older than is said now */
        cueball__slot_limit_life(pool, slot);
    if (slot->state == CUEBALL_SLOT_IDLE) {
        cueball__slot_arm_rest(pool, slot);
    } else if (slot->state == CUEBALL_SLOT_BUSY) {
        cueball__timers_cancel(&pool->timers, &slot->timer); /* armed anew when it comes back */
        if (slot->unproven)
            cueball__timers_arm(&pool->timers, &slot->timer, cueball__proof_due(pool, slot));
        slot->untimed = 1;
    }
}

/* What a lease that ended tells: of the pool, and of its backend. */
static void slot_measure(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    cueball_time held = pool->now - slot->state_since;
    cueball__histogram_add(&pool->lease_histogram, held);
    pool->lease_sum += held;
    bool has_failed = cause == CUEBALL_CAUSE_FAIL || slot->on_return == CUEBALL_CAUSE_LOST || slot->on_return == CUEBALL_CAUSE_TIMEOUT
                      || slot->went == WENT_BADLY;
    bool has_worked = slot->went == WENT_WELL || (cause == CUEBALL_CAUSE_RELEASE && slot->on_return != CUEBALL_CAUSE_UNFIT);
    if (has_failed)
        cueball__outlier_failed(pool, slot->backend);
    else if (has_worked && pool->failing)
        cueball__outlier_forgive(pool, slot->backend);
    if (has_worked && !has_failed)
        cueball__latency_observe(pool, slot->backend, held);
    else /* one that had to be closed, for nobody's fault: most often there was an error, and errors are quick */
        cueball__latency_failed(pool, slot->backend, held);
}

static bool slot_is_used_up(const cueball_pool *pool, const cueball__slot *slot)
{
    return cueball__handle_generation(slot->lease) - slot->leases_before >= pool->options.max_uses;
}

/* What becomes of a connection that its claimer gave back in order. */
static void slot_released(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    if (slot->on_return == CUEBALL_CAUSE_UNFIT || slot->on_return == CUEBALL_CAUSE_TIMEOUT) {
        cueball__slot_close(pool, slot, slot->on_return);
        return;
    }
    if (cause == CUEBALL_CAUSE_RELEASE)
        cueball__slot_prove(pool, slot, slot->on_return == CUEBALL_CAUSE_WORN ? CUEBALL_CAUSE_WORN : cause);
    if (slot->on_return)
        cueball__slot_close(pool, slot, slot->on_return);
    else if (slot->backend->removed)
        cueball__slot_close(pool, slot, CUEBALL_CAUSE_REMOVED);
    else if (pool->now >= slot->retire_at)
        cueball__slot_close(pool, slot, slot->renews ? CUEBALL_CAUSE_RENEW : CUEBALL_CAUSE_LIFETIME);
    else if (slot_is_used_up(pool, slot) && cause == CUEBALL_CAUSE_RELEASE)
        cueball__slot_close(pool, slot, CUEBALL_CAUSE_MAX_USES);
    else
        cueball__slot_offer(pool, slot, cause);
}

/* The lease has ended; `cause` says how, and so what becomes of the connection. */
void cueball__slot_came_back(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    assert(slot->state == CUEBALL_SLOT_BUSY);
    cueball__latency_return(pool, slot);
    if (cause != CUEBALL_CAUSE_CANCEL) /* that one was no lease to anybody */
        slot_measure(pool, slot, cause);
    slot->untold = 0;
    slot->went = WENT_UNTOLD;
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
        pool->counters.lost++;
        cueball__slot_blame(pool, slot, cause == CUEBALL_CAUSE_FAIL ? cause : CUEBALL_CAUSE_LOST);
    } else if (cause == CUEBALL_CAUSE_FAIL) {
        cueball__slot_blame(pool, slot, cause);
    } else if (cause == CUEBALL_CAUSE_RELEASE || cause == CUEBALL_CAUSE_CANCEL) {
        slot_released(pool, slot, cause);
    } else {
        if (slot->on_return == CUEBALL_CAUSE_WORN)
            cueball__slot_prove(pool, slot, CUEBALL_CAUSE_WORN);
        cueball__slot_close(pool, slot, cause);
    }
}

/* What is known of the connection itself, rather than wanted by the plan. */
static bool cause_is_of_conn(cueball_cause cause)
{
    return cause == CUEBALL_CAUSE_LOST || cause == CUEBALL_CAUSE_UNFIT || cause == CUEBALL_CAUSE_WORN || cause == CUEBALL_CAUSE_TIMEOUT;
}

/* Its lease is to end, and the connection with it.  That the plan wants it back too
 * does not make one of unknown state a proof when it is released. */
void cueball__slot_want_back(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    assert(slot->state == CUEBALL_SLOT_BUSY);
    if (pool->is_set && !slot->on_return)
        cueball__chore_add(pool, slot, CUEBALL__CHORE_RECALL);
    if (slot->on_return != CUEBALL_CAUSE_LOST && (cause_is_of_conn(cause) || !cause_is_of_conn(slot->on_return)))
        slot->on_return = (uint8_t)cause;
}

/* Whether this is a set's only connection that works and may be kept. */
bool cueball__slot_is_last(const cueball_pool *pool, const cueball__slot *slot)
{
    if (!pool->is_set || slot->state != CUEBALL_SLOT_BUSY || cueball__pool_is_over(pool))
        return false;
    for (uint32_t i = 0; i < pool->slots.made; i++) {
        const cueball__slot *other = cueball__table_at(&pool->slots, i);
        if (other != slot && cueball__slot_is_connected(other) && cueball__slot_works(other) && !other->on_return)
            return false;
    }
    return true;
}

/* A set has one more connection that works: those kept though their backends were
 * removed may go now. */
void cueball__set_has_another(cueball_pool *pool)
{
    pool->plan_is_due = pool->is_unsettled = true;
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
        cueball__slot_remove(pool, slot, cause);
        break;
    case CUEBALL_SLOT_BACKOFF:
        cueball__slot_remove(pool, slot, cause);
        break;
    case CUEBALL_SLOT_IDLE:
    case CUEBALL_SLOT_CHECKING:
        cueball__slot_close(pool, slot, cause);
        break;
    case CUEBALL_SLOT_BUSY:
        if (cause == CUEBALL_CAUSE_REMOVED && !slot->orphan) {
            slot->orphan = 1;
            pool->orphans++;
        }
        if (cause == CUEBALL_CAUSE_REMOVED && cueball__slot_is_last(pool, slot))
            break; /* when another is open, see slot_recall_leftovers() */
        cueball__slot_want_back(pool, slot, cause);
        break;
    case CUEBALL_SLOT_CLOSING:
    case CUEBALL_SLOT_FREE:
        break;
    }
}
