/* The lock, and what is due when it is left.
 *
 * The happy path: a thread enters, tells the core something, and leaves: the answers
 * that came of it are taken while the lock is still held, and told to the threads that
 * wait for them once it is not, so that no thread wakes up to wait for the lock.  What
 * can go wrong is that an answer has nobody who could take it: a connection that has no
 * loan is given back, and its claim is refused; answers to the host's own claims have
 * their room reserved before those wait. */
#define _POSIX_C_SOURCE 200809L

#include "lock.h"

#include "loan.h"
#include "process.h"
#include "sweep.h"
#include "turn.h"
#include "wake.h"

/* The host may have it already. */
void cueball__threaded_enter(cueball_threaded *pool)
{
    assert(pool);
    if (atomic_load_explicit(&pool->locked_by, memory_order_relaxed) == cueball__thread_id()) {
        pool->lock_depth++;
        return;
    }
    assert(cueball__thread_id() != 0);
    int result = pthread_mutex_lock(&pool->mutex);
    assert(result == 0);
    (void)result;
}

/* Room for the answers to all claims that wait now and `more` of the host's. */
bool cueball__threaded_reserve_answers(cueball_threaded *pool, uint32_t more)
{
    assert(pool);
    uint64_t wanted = (uint64_t)pool->answers_count + pool->outlook->waiting + pool->outlook->answers + more;
    if (wanted <= pool->answers_max)
        return true;
    uint32_t max = pool->answers_max ? pool->answers_max : 16;
    while (max < wanted)
        max *= 2;
    cueball_action *answers = cueball__memory_allocate(&pool->memory, max * sizeof *answers);
    if (!answers)
        return false;
    for (uint32_t i = 0; pool->answers_max > 0 && i < pool->answers_count; i++)
        answers[i] = pool->answers[(pool->answers_first + i) % pool->answers_max];
    cueball__memory_release(&pool->memory, pool->answers, pool->answers_max * sizeof *answers);
    pool->answers = answers;
    pool->answers_max = max;
    pool->answers_first = 0;
    assert(pool->answers_count < max);
    return true;
}

static void host_answer(cueball_threaded *pool, const cueball_action *action)
{
    assert(pool);
    assert(action);
    assert(pool->answers_count < pool->answers_max); /* room was reserved */
    pool->answers[(pool->answers_first + pool->answers_count++) % pool->answers_max] = *action;
}

/* The connection that a claim got: the waiter's, if it can be handed to threads. */
void cueball__threaded_grant(cueball_threaded *pool, cueball__waiter *waiter, const cueball_grant *grant)
{
    assert(pool);
    assert(waiter);
    assert(grant);
    cueball_loan *loan = cueball__loan_at(pool, grant->slot, grant->conn);
    assert(!waiter->loan);
    if (!loan) {
        (void)cueball_pool_lease_released(pool->core, cueball_clock_now(), grant->lease);
        waiter->error = CUEBALL_EUNSUPPORTED;
        return;
    }
    cueball__loan_lend(pool, loan, grant->lease, waiter->claimer, waiter->thread);
    waiter->loan = loan;
    waiter->serial = cueball__loan_serial(loan);
    waiter->error = CUEBALL_OK;
}

/* Notes what the claim waited for: the core has that on record for a while only. */
static void loan_explain(cueball_threaded *pool, cueball_loan *loan, const cueball_action *action, cueball_time now)
{
    assert(loan->pool == pool);
    assert(action);
    enum { ROOM = sizeof loan->waits / sizeof *loan->waits };
    loan->waited = action->waited;
    loan->ahead = action->ahead;
    loan->waits_count = cueball_pool_explain(pool->core, now - action->waited, now, loan->waits, ROOM);
    assert(loan->waits_count <= ROOM);
}

static void waiter_answer(cueball_threaded *pool, cueball__waiter *waiter, const cueball_action *action)
{
    assert(pool);
    assert(waiter);
    assert(action);
    assert(!waiter->is_answered);
    waiter->is_answered = true;
    waiter->waited = action->waited;
    waiter->ahead = action->ahead;
    if (action->kind == CUEBALL_ACTION_REFUSE) {
        waiter->error = action->error;
        return;
    }
    cueball_grant grant = { .lease = action->lease, .conn = action->conn, .backend = action->backend, .slot = action->slot };
    cueball__threaded_grant(pool, waiter, &grant);
    if (waiter->loan)
        loan_explain(pool, waiter->loan, action, cueball_clock_now());
}

/* Takes all answers; returns the waiters that are to be told, the first that was
 * answered first. */
static cueball__waiter *answers_take(cueball_threaded *pool)
{
    assert(pool);
    cueball__waiter *first = NULL, **last = &first;
    cueball_action action;
    while (pool->outlook->answers > 0 && cueball_pool_next_answer(pool->core, &action)) {
        if (!cueball__user_is_waiter(action.user)) {
            host_answer(pool, &action);
            continue;
        }
        cueball__waiter *waiter = cueball__waiter_of_user(action.user);
        waiter_answer(pool, waiter, &action);
        waiter->next = NULL;
        *last = waiter;
        last = &waiter->next;
    }
    return first;
}

/* Connections that are kept for threads are wanted: all of them if the pool stops, or is
 * paused.  Who keeps one from now on sees it. */
static void core_want(cueball_threaded *pool)
{
    assert(pool);
    if (pool->ends_turns)
        cueball__turns_end(pool);
    atomic_store_explicit(&pool->is_wanted, true, memory_order_seq_cst);
    cueball__turns_reclaim(pool, pool->ends_turns ? UINT32_MAX : pool->outlook->waiting, cueball_clock_now());
}

/* What the core asks for before the lock is left; returns who is to be told. */
static cueball__waiter *core_attend(cueball_threaded *pool)
{
    assert(pool);
    bool is_over = cueball_pool_state_of(pool->core) >= CUEBALL_POOL_STOPPING;
    bool was_wanted = atomic_load_explicit(&pool->is_wanted, memory_order_relaxed), went_on = !pool->ends_turns;
    pool->ends_turns = is_over || cueball_pool_paused_since(pool->core) != CUEBALL_NEVER;
    if (pool->ends_turns ? went_on : pool->outlook->waiting > 0 && !was_wanted)
        core_want(pool);
    cueball__waiter *told = answers_take(pool);
    bool is_wanted = pool->ends_turns || pool->outlook->waiting > 0;
    if (!is_wanted && atomic_load_explicit(&pool->is_wanted, memory_order_relaxed))
        atomic_store_explicit(&pool->is_wanted, false, memory_order_relaxed);
    return told;
}

/* Whether the host has something to do that it does not know of. */
static bool host_is_wanted(const cueball_threaded *pool)
{
    assert(pool);
    if (pool->host_is_woken || pool->wake_fd < 0 || cueball__thread_id() == atomic_load_explicit(&pool->host, memory_order_relaxed))
        return false;
    return pool->outlook->actions > pool->outlook->answers || pool->answers_count > 0 || pool->outlook->deadline < pool->told_deadline
           || cueball__turns_deadline(pool) < pool->told_deadline || !cueball__list_is_empty(&pool->returns)
           || !cueball__list_is_empty(&pool->failures);
}

void cueball__threaded_leave(cueball_threaded *pool)
{
    assert(pool);
    if (pool->lock_depth > 0) {
        pool->lock_depth--;
        return;
    }
    cueball__waiter *told = pool->core ? core_attend(pool) : NULL;
    if (pool->core && host_is_wanted(pool)) {
        pool->host_is_woken = true;
        cueball__wake_tell(pool->wake_fd); /* with the lock: without it the host may close the descriptor, and its number be another's */
    }
    assert(!pool->core || pool->outlook->answers == 0);
    int result = pthread_mutex_unlock(&pool->mutex);
    assert(result == 0);
    (void)result;
    while (told) {
        cueball__waiter *next = told->next;
        told->tell(told);
        told = next;
    }
}
