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
#include "slot.h"

#include "action.h"
#include "event.h"
#include "idle.h"
#include "probe.h"

#define SURPLUS_PAUSE_MAX 60000000000 /* ns, see cueball__slot_pause_span() */
#define USELESS_PAUSE_MAX 5000000000  /* ns, likewise */
#define CHECKS_MIN 10                 /* suspect connections checked at the same time: so many, */
#define CHECKS_SHARE 4                /* or this part of all, if that is more */

/* For those who watch: the slot is about to enter this state. */
void cueball__slot_note(cueball_pool *pool, const cueball__slot *slot, cueball_slot_state state, cueball_cause cause)
{
    assert(state < CUEBALL__SLOT_STATES);
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
    assert(pool->counts[counted_as(slot->state)] > 0);
    cueball__slot_note(pool, slot, state, cause);
    pool->counts[counted_as(slot->state)]--;
    pool->counts[counted_as(state)]++;
    slot->state = (uint8_t)state;
    slot->state_since = pool->now;
    assert(pool->counts[counted_as(state)] > 0);
}

/* Whether the slot is to have a connection again. */
bool cueball__slot_is_wanted(const cueball_pool *pool, const cueball__slot *slot)
{
    assert(slot->state != CUEBALL_SLOT_FREE);
    assert(slot->backend->total > 0);
    return !slot->unwanted && !slot->backend->removed && !slot->backend->drained && !cueball__pool_is_over(pool);
}

/* Begins the next attempt. */
void cueball__slot_open(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    assert(slot->state != CUEBALL_SLOT_CONNECTING);
    assert(!cueball__slot_is_connected(slot));
    assert(!cueball__timer_is_armed(&slot->timer));
    assert(!(slot->chores & (uint8_t)~CUEBALL__CHORE_GIVE_UP));
    assert(!slot->unproven);
    assert(!slot->backend->removed);
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
    CUEBALL__TRACE4(open, pool, slot->member.index, backend->key, slot->attempt);
    cueball__slot_set(pool, slot, CUEBALL_SLOT_CONNECTING, cause);
    cueball_time limit = cueball__backoff_limit(backoff, slot->attempt);
    cueball__timers_arm(&pool->timers, &slot->timer, cueball__time_after(pool->now, limit));
    cueball__chore_add(pool, slot, CUEBALL__CHORE_OPEN);
    assert(slot->attempt > 0);
    assert(cueball__timer_is_armed(&slot->timer));
    assert(slot->timer.deadline > pool->now);
}

/* Lets pauses double on, beyond those between the attempts that decide whether the
 * backend is dead, up to `most`. */
static void backoff_go_on(cueball__backoff *backoff, cueball_time most)
{
    assert(backoff->attempts > 0);
    assert(backoff->delay <= backoff->delay_max);
    cueball_time last = cueball__backoff_delay(backoff, backoff->attempts);
    most = most > last ? most : last;
    backoff->attempts = UINT32_MAX;
    backoff->delay_max = backoff->delay_max < most ? backoff->delay_max : most;
    assert(backoff->delay <= backoff->delay_max);
}

/* The back-off that counts for the slot now; `has_opened`: its last connection did. */
cueball__backoff cueball__slot_backoff_now(const cueball_pool *pool, const cueball__slot *slot, bool has_opened)
{
    assert(slot->state != CUEBALL_SLOT_FREE);
    assert(slot->backend->total > 0);
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
cueball_time cueball__slot_pause_span(cueball_pool *pool, const cueball__slot *slot, bool has_opened)
{
    assert(!cueball__slot_is_connected(slot));
    assert(slot->state != CUEBALL_SLOT_FREE);
    cueball__backoff backoff = cueball__slot_backoff_now(pool, slot, has_opened);
    cueball_time pause = cueball__backoff_pause(&backoff, slot->attempt ? slot->attempt : 1, slot->pause, &pool->random);
    bool goes_on = slot->backend->dead || slot->attempt >= cueball__slot_backoff(pool, slot)->attempts; /* for ever */
    return goes_on && pause < CUEBALL__PERIOD_MIN ? CUEBALL__PERIOD_MIN : pause;
}

/* Pauses before the next attempt; `elapsed` of the pause is over already. */
void cueball__slot_pause(cueball_pool *pool, cueball__slot *slot, cueball_time elapsed, bool has_opened, cueball_cause cause)
{
    assert(slot->state == CUEBALL_SLOT_CONNECTING || slot->state == CUEBALL_SLOT_CLOSING);
    assert(!slot->owner);
    slot->pause = cueball__slot_pause_span(pool, slot, has_opened);
    cueball__slot_set(pool, slot, CUEBALL_SLOT_BACKOFF, cause);
    cueball_time left = slot->pause > elapsed ? slot->pause - elapsed : 0;
    cueball__timers_arm(&pool->timers, &slot->timer, cueball__time_after(pool->now, left));
    assert(slot->state == CUEBALL_SLOT_BACKOFF);
    assert(slot->timer.deadline >= pool->now);
}

bool cueball__slot_add(cueball_pool *pool, cueball__backend *backend)
{
    assert(!backend->removed);
    assert(!backend->drained);
    assert(!cueball__pool_is_over(pool));
    if (!cueball__idle_reserve(&pool->idle, pool->slots.count + 1))
        return false;
    bool is_new;
    cueball__slot *slot = cueball__table_add(&pool->slots, &is_new);
    if (!slot)
        return false;
    if (is_new) {
        cueball__link_init(&slot->at_backend);
        cueball__link_init(&slot->at_state);
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
    if (backend->total > backend->total_max)
        backend->total_max = backend->total;
    backend->have++;
    pool->counts[CUEBALL_SLOT_FREE]++;
    if (backend->dead && backend->total == 1)
        cueball__probe_slot_came(pool, backend, slot);
    if (backend->dead && pool->now < backend->probe_at) {
        cueball__slot_set(pool, slot, CUEBALL_SLOT_BACKOFF, CUEBALL_CAUSE_PLAN);
        cueball__timers_arm(&pool->timers, &slot->timer, backend->probe_at);
    } else {
        cueball__slot_open(pool, slot, CUEBALL_CAUSE_PLAN);
    }
    assert(slot->state == CUEBALL_SLOT_CONNECTING || slot->state == CUEBALL_SLOT_BACKOFF);
    assert(backend->total <= pool->slots.count);
    assert(backend->have <= backend->total);
    return true;
}

/* The slot is no more; its place is free for another. */
void cueball__slot_remove(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    assert(slot->state != CUEBALL_SLOT_FREE);
    assert(!slot->owner);
    assert(!slot->doubted);
    assert(slot->unwanted || slot->backend->have > 0);
    assert(pool->orphans >= slot->orphan);
    assert(slot->backend->total > 0);
    cueball__backend *backend = slot->backend;
    assert(!cueball__slot_is_connected(slot));
    if (backend->dead && backend->total == 1)
        cueball__probe_slot_goes(pool, backend, slot,
                                 slot->state == CUEBALL_SLOT_BACKOFF ? slot->pause : cueball__slot_pause_span(pool, slot, false));
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
    if (backend->total == 0 && cueball__link_is_linked(&backend->leaving)) {
        cueball__list_remove(&backend->leaving);
        cueball__list_append(&pool->left, &backend->leaving);
    }
    pool->is_unsettled = true; /* its place can be another's */
    assert(slot->state == CUEBALL_SLOT_FREE);
    assert(!cueball__timer_is_armed(&slot->timer));
    assert(!cueball__link_is_linked(&slot->at_backend));
}

/* Stops the attempt under way.  What it may still report is stale from here on. */
void cueball__slot_give_up(cueball_pool *pool, cueball__slot *slot)
{
    assert(slot->state == CUEBALL_SLOT_CONNECTING);
    if (!cueball__chore_drop(pool, slot, CUEBALL__CHORE_OPEN)) {
        assert(!(slot->chores & CUEBALL__CHORE_GIVE_UP));
        slot->given_up = cueball__handle_generation(slot->conn);
        cueball__chore_add(pool, slot, CUEBALL__CHORE_GIVE_UP);
    }
    slot->conn = cueball__handle_next(slot->conn);
}

/* Whether fewer are being checked than may be at the same time. */
static bool checks_may_begin(const cueball_pool *pool)
{
    assert(pool->options.max_connections > 0);
    uint32_t most = pool->options.max_connections / CHECKS_SHARE;
    return pool->checks_running < (most > CHECKS_MIN ? most : CHECKS_MIN);
}

void cueball__slot_check_begin(cueball_pool *pool, cueball__slot *slot)
{
    assert(slot->state == CUEBALL_SLOT_CHECKING);
    assert(!slot->doubted);
    assert(!slot->owner);
    pool->counters.checks++;
    pool->checks_running++;
    cueball__timers_arm(&pool->timers, &slot->timer, cueball__time_after(pool->now, pool->settings.check_timeout));
    cueball__chore_add(pool, slot, CUEBALL__CHORE_CHECK);
    assert(cueball__timer_is_armed(&slot->timer));
    assert(pool->checks_running <= pool->slots.count);
}

/* The connection, which rests nowhere, is checked before anything else: now, or
 * when enough of the checks under way are over. */
void cueball__slot_check(cueball_pool *pool, cueball__slot *slot)
{
    assert(slot->state != CUEBALL_SLOT_BACKOFF);
    assert(slot->state != CUEBALL_SLOT_CLOSING);
    assert(slot->state != CUEBALL_SLOT_FREE);
    assert(!cueball__link_is_linked(&slot->at_state));
    assert(!slot->owner);
    assert(!slot->doubted);
    cueball__slot_set(pool, slot, CUEBALL_SLOT_CHECKING, CUEBALL_CAUSE_CHECK);
    if (checks_may_begin(pool)) {
        cueball__slot_check_begin(pool, slot);
    } else {
        cueball__timers_cancel(&pool->timers, &slot->timer);
        cueball__list_append(&pool->to_check, &slot->at_state);
        slot->doubted = 1;
    }
    assert(slot->state == CUEBALL_SLOT_CHECKING);
    assert(slot->doubted == !cueball__timer_is_armed(&slot->timer));
}

/* Begins those checks that wait for others to be over. */
void cueball__checks_begin(cueball_pool *pool)
{
    while (!cueball__list_is_empty(&pool->to_check) && checks_may_begin(pool)) {
        cueball__slot *slot = CUEBALL__OWNER(pool->to_check.next, cueball__slot, at_state);
        cueball__list_remove(&slot->at_state);
        slot->doubted = 0;
        cueball__slot_check_begin(pool, slot);
    }
}

/* The check is over, and another may begin. */
void cueball__slot_checked(cueball_pool *pool, cueball__slot *slot)
{
    assert(!slot->owner);
    assert(slot->doubted == cueball__link_is_linked(&slot->at_state));
    assert(slot->state == CUEBALL_SLOT_CHECKING);
    if (slot->doubted) {
        slot->doubted = 0;
        cueball__list_remove(&slot->at_state);
        return;
    }
    assert(pool->checks_running > 0);
    pool->checks_running--;
    pool->is_unsettled |= !cueball__list_is_empty(&pool->to_check);
}

/* Closes the connection of a slot that is connected, which is nobody's fault. */
void cueball__slot_close(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    assert(slot->backend->connected > 0);
    assert(slot->backend->unproven >= slot->unproven);
    assert(!slot->unproven || slot->attempt > 0);
    assert(cause != CUEBALL_CAUSE_NONE);
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
    assert(!slot->doubted);
    assert(!cueball__link_is_linked(&slot->at_state));
    assert(cueball__link_is_linked(&slot->chore));
    assert(cueball__timer_is_armed(&slot->timer));
    assert(slot->backend->connected >= slot->backend->unproven);
}

/* An open connection grows as old as max_lifetime_ms says, or until it is renewed. */
void cueball__slot_limit_life(const cueball_pool *pool, cueball__slot *slot)
{
    assert(slot->opened_at <= pool->now);
    assert(slot->state != CUEBALL_SLOT_FREE);
    assert(slot->state != CUEBALL_SLOT_BACKOFF);
    cueball_time retire_at =
        cueball__time_after(slot->opened_at, cueball__slot_span(slot, pool->settings.max_lifetime, pool->options.lifetime_spread));
    if (!slot->renews || retire_at < slot->retire_at)
        slot->retire_at = retire_at;
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
    assert(cause != CUEBALL_CAUSE_NONE);
    assert(slot->state == CUEBALL_SLOT_BUSY);
    if (pool->is_set && !slot->on_return)
        cueball__chore_add(pool, slot, CUEBALL__CHORE_RECALL);
    if (slot->on_return != CUEBALL_CAUSE_LOST && (cause_is_of_conn(cause) || !cause_is_of_conn(slot->on_return)))
        slot->on_return = (uint8_t)cause;
    assert(slot->on_return != CUEBALL_CAUSE_NONE);
}

/* Whether this is a set's only connection that works and may be kept. */
bool cueball__slot_is_last(const cueball_pool *pool, const cueball__slot *slot)
{
    assert(slot->state != CUEBALL_SLOT_FREE);
    if (!pool->is_set || slot->state != CUEBALL_SLOT_BUSY || cueball__pool_is_over(pool))
        return false;
    for (uint32_t i = 0; i < pool->slots.made; i++) {
        const cueball__slot *other = cueball__table_at(&pool->slots, i);
        if (other != slot && cueball__slot_is_connected(other) && cueball__slot_works(other) && !other->on_return)
            return false;
    }
    return true;
}

/* The slot is to go: at once if nobody uses its connection, else when that comes
 * back. */
void cueball__slot_drop(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    assert(cause == CUEBALL_CAUSE_PLAN || cause == CUEBALL_CAUSE_REMOVED || cause == CUEBALL_CAUSE_STOP || cause == CUEBALL_CAUSE_DRAIN);
    assert(slot->state < CUEBALL__SLOT_STATES);
    switch ((cueball_slot_state)slot->state) {
    case CUEBALL_SLOT_CONNECTING:
        cueball__slot_give_up(pool, slot);
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

/* A set has one more connection that works: those kept though their backends were
 * removed may go now. */
void cueball__set_has_another(cueball_pool *pool)
{
    assert(pool->is_set);
    pool->plan_is_due = pool->is_unsettled = true;
    for (uint32_t i = 0; i < pool->slots.made; i++) {
        cueball__slot *slot = cueball__table_at(&pool->slots, i);
        if (slot->state == CUEBALL_SLOT_BUSY && slot->backend->removed && !slot->on_return)
            cueball__slot_drop(pool, slot, CUEBALL_CAUSE_REMOVED);
    }
}
