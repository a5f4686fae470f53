/* What becomes of a slot when its attempt failed, its connection was closed or
 * lost, its time has come, or the options changed. */
#include "conn.h"

#include "churn.h"
#include "evidence.h"
#include "idle.h"
#include "life.h"
#include "probe.h"
#include "slot.h"

/* By when a sibling opened that did better than the slot's attempt, which began, or
 * opened, at `at`, if it is open still.  Of the first attempt in a row nothing is known. */
static cueball_time slot_outlived(const cueball__slot *slot, cueball_time at)
{
    if (slot->attempt <= 1)
        return CUEBALL_NEVER;
    return at > slot->pause / 2 ? at - slot->pause / 2 : 0;
}

/* A slot of a dead backend pauses: another dead backend may have it. */
static void slot_yield(cueball_pool *pool, cueball__slot *slot)
{
    assert(slot->state == CUEBALL_SLOT_BACKOFF);
    assert(!slot->owner);
    cueball__backend *backend = slot->backend;
    if (!cueball__probe_is_to_yield(pool, slot))
        return;
    cueball__backend_has_changed(pool, backend);
    slot->unwanted = 1;
    backend->have--;
    backend->want = 0;
    cueball__list_remove(&backend->wanting);
    cueball__slot_remove(pool, slot, CUEBALL_CAUSE_PLAN);
}

/* An attempt, or a connection that had proven nothing, came to nothing, for `blame`. */
void cueball__slot_retry(cueball_pool *pool, cueball__slot *slot, cueball_time elapsed, cueball_cause cause, cueball_cause blame)
{
    assert(slot->state == CUEBALL_SLOT_CONNECTING || slot->state == CUEBALL_SLOT_CLOSING);
    assert(blame != CUEBALL_CAUSE_NONE);
    assert(!slot->owner);
    assert(!slot->unproven);
    bool has_opened = slot->state == CUEBALL_SLOT_CLOSING;
    cueball_time outlived = slot_outlived(slot, has_opened ? slot->opened_at : slot->state_since);
    if (!cueball__slot_is_wanted(pool, slot)) {
        cueball__slot_remove(pool, slot, cause);
        return;
    }
    cueball__slot_pause(pool, slot, elapsed, has_opened, cause);
    if (slot->backend->dead) {
        cueball__probe_answered(pool, slot->backend);
        slot_yield(pool, slot);
    } else if (cueball__attempt_judge(pool, slot, outlived, blame)) {
        cueball__backend_died(pool, slot->backend, slot->attempt, blame);
    }
}

/* The connection is closed: what next? */
void cueball__slot_closed(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    assert(slot->state == CUEBALL_SLOT_CLOSING);
    assert(!slot->owner);
    assert(!(slot->chores & CUEBALL__CHORE_CLOSE));
    assert(!slot->unproven);
    bool pauses = slot->pauses;
    cueball_cause blame = (cueball_cause)slot->blame;
    slot->pauses = 0;
    slot->blame = 0;
    cueball_time at;
    if (!cueball__slot_is_wanted(pool, slot)) {
        cueball__slot_remove(pool, slot, cause);
    } else if (blame) {
        cueball__slot_retry(pool, slot, pool->now - slot->state_since, cause, blame);
    } else if (pauses || slot->backend->dead) {
        cueball__slot_pause(pool, slot, pool->now - slot->state_since, true, cause);
        if (slot->backend->dead)
            slot_yield(pool, slot);
    } else if (!cueball__backend_may_replace(pool, slot->backend, &at)) {
        cueball__slot_set(pool, slot, CUEBALL_SLOT_BACKOFF, cause);
        cueball__timers_arm(&pool->timers, &slot->timer, at);
    } else {
        cueball__slot_open(pool, slot, cause);
    }
}

/* The backend broke the connection, or failed who used it.  One that had proven
 * nothing counts as a failed attempt, or a backend that accepts and closes would be
 * reconnected as fast as it can close.  One that had is replaced at once, but for
 * the pause that lease:fail asks for. */
void cueball__slot_blame(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    assert(cueball__slot_is_connected(slot));
    assert(!slot->owner);
    assert(cause == CUEBALL_CAUSE_FAIL || cause == CUEBALL_CAUSE_LOST || cause == CUEBALL_CAUSE_UNFIT || cause == CUEBALL_CAUSE_TIMEOUT);
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
    assert(slot->state == CUEBALL_SLOT_CLOSING);
    assert(!(slot->blame && slot->pauses));
}

void cueball__slot_lose(cueball_pool *pool, cueball__slot *slot)
{
    assert(slot->state != CUEBALL_SLOT_BUSY);
    assert(cueball__slot_is_connected(slot));
    pool->counters.lost++;
    cueball__slot_blame(pool, slot, CUEBALL_CAUSE_LOST);
}

/* The timer of a connection at rest came. */
void cueball__slot_rest_due(cueball_pool *pool, cueball__slot *slot)
{
    assert(slot->state == CUEBALL_SLOT_IDLE);
    assert(!slot->owner);
    assert(!slot->on_return);
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
        cueball__slot_check_begin(pool, slot);
    } else {
        cueball__slot_arm_rest(pool, slot);
    }
}

/* The slot's timer came. */
void cueball__slot_due(cueball_pool *pool, cueball__slot *slot)
{
    assert(slot->state != CUEBALL_SLOT_FREE);
    assert(!cueball__timer_is_armed(&slot->timer));
    assert(slot->timer.deadline <= pool->now);
    assert(slot->backend->total > 0);
    switch ((cueball_slot_state)slot->state) {
    case CUEBALL_SLOT_CONNECTING:
        pool->counters.open_timeouts++;
        cueball__slot_give_up(pool, slot);
        cueball__slot_retry(pool, slot, 0, CUEBALL_CAUSE_TIMEOUT, CUEBALL_CAUSE_TIMEOUT);
        break;
    case CUEBALL_SLOT_BACKOFF:
        cueball__slot_open(pool, slot, CUEBALL_CAUSE_DELAY);
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

/* What is under way takes no longer than is said now. */
static void slot_hasten(cueball_pool *pool, cueball__slot *slot)
{
    assert(slot->state == CUEBALL_SLOT_BACKOFF || slot->state == CUEBALL_SLOT_CONNECTING);
    assert(cueball__timer_is_armed(&slot->timer));
    cueball__backoff backoff = cueball__slot_backoff_now(pool, slot, true);
    uint32_t attempt = slot->attempt ? slot->attempt : 1;
    bool pauses = slot->state == CUEBALL_SLOT_BACKOFF;
    cueball_time span = pauses ? cueball__backoff_delay(&backoff, attempt) : cueball__backoff_limit(&backoff, attempt);
    cueball_time due = cueball__time_after(slot->state_since, span);
    if (due < slot->timer.deadline)
        cueball__timers_arm(&pool->timers, &slot->timer, due);
    bool is_alone = pauses && !slot->backend->dead && slot->backend->connected == 0;
    if (is_alone && cueball__attempt_judge(pool, slot, 0, CUEBALL_CAUSE_FAILED))
        cueball__backend_died(pool, slot->backend, slot->attempt, CUEBALL_CAUSE_FAILED);
}

void cueball__slot_options_changed(cueball_pool *pool, cueball__slot *slot)
{
    assert(slot->state < CUEBALL__SLOT_STATES);
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

/* The slot's connection is replaced when this share of `span` is over. */
static void slot_renew(cueball_pool *pool, cueball__slot *slot, cueball_time span, double share)
{
    assert(share >= 0);
    assert(share <= 1);
    assert(slot->state != CUEBALL_SLOT_FREE);
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
void cueball__backend_renew(cueball_pool *pool, cueball__backend *backend, cueball_time span, double phase)
{
    assert(phase >= 0);
    assert(phase < 1);
    assert(!backend->removed);
    uint32_t rank = 0;
    CUEBALL__LIST_EACH(link, following, &backend->slots)
    {
        slot_renew(pool, CUEBALL__OWNER(link, cueball__slot, at_backend), span, (rank++ + phase) / backend->total);
    }
    assert(rank <= backend->total);
}
