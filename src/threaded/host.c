/* What the host does: see cueball_threaded.h.  It has the lock for a moment at a time,
 * and never while it waits. */
#include "fault.h"
#include "loan.h"
#include "lock.h"
#include "process.h"
#include "sweep.h"
#include "told.h"
#include "turn.h"
#include "watch.h"

#include <stdio.h>
#include <string.h>

static bool is_ours(const cueball_threaded *pool)
{
    return pool && pool->generation == cueball__process_generation();
}

/* Who drains and asks for the deadline is the host. */
static void host_enter(cueball_threaded *pool)
{
    assert(pool);
    atomic_store_explicit(&pool->host, cueball__thread_id(), memory_order_relaxed);
    cueball__threaded_enter(pool);
}

cueball_pool *cueball_threaded_lock(cueball_threaded *pool)
{
    if (!is_ours(pool))
        return NULL;
    cueball__threaded_enter(pool);
    if (!pool->core) {
        cueball__threaded_leave(pool);
        return NULL;
    }
    atomic_store_explicit(&pool->locked_by, cueball__thread_id(), memory_order_relaxed);
    (void)cueball__threaded_reserve_answers(pool, 1);
    return pool->core;
}

void cueball_threaded_unlock(cueball_threaded *pool)
{
    if (!pool || atomic_load_explicit(&pool->locked_by, memory_order_relaxed) != cueball__thread_id())
        return; /* lock() gave no core */
    if (pool->lock_depth == 0)
        atomic_store_explicit(&pool->locked_by, 0, memory_order_relaxed);
    cueball__threaded_leave(pool);
}

int cueball_threaded_host_claim(cueball_threaded *pool, cueball_time now, const cueball_claim_options *options, cueball_grant *grant)
{
    if (!pool || !grant || (options && cueball__user_is_waiter(options->user)))
        return cueball__fault(CUEBALL_EINVAL, "a pool is needed, room for a grant, and a user below 2^63");
    if (!is_ours(pool))
        return cueball__fault_plain(CUEBALL_EFORKED);
    cueball__threaded_enter(pool);
    int result = CUEBALL_EPOOL_STOPPING;
    cueball__turns_reclaim_for(pool, now);
    if (pool->core && !cueball__threaded_reserve_answers(pool, 1))
        result = CUEBALL_ENOMEM;
    else if (pool->core)
        result = cueball_pool_claim(pool->core, now, options, grant);
    cueball_loan *loan = result == CUEBALL_OK ? cueball__loan_at(pool, grant->slot, grant->conn) : NULL;
    if (loan)
        cueball__loan_set_nonblocking(loan, true);
    cueball__threaded_leave(pool);
    return result >= 0 ? result : cueball__fault_plain(result);
}

static bool answer_next(cueball_threaded *pool, cueball_action *action)
{
    assert(pool);
    assert(action);
    if (pool->answers_count == 0)
        return false;
    *action = pool->answers[pool->answers_first];
    pool->answers_first = (pool->answers_first + 1) % pool->answers_max;
    pool->answers_count--;
    return true;
}

/* What is to be known here of what the host is about to do. */
static void action_foresee(cueball_threaded *pool, const cueball_action *action)
{
    assert(pool);
    assert(action);
    cueball_loan *loan = action->kind == CUEBALL_ACTION_REFUSE ? NULL : cueball__loan_at(pool, action->slot, action->conn);
    if (!loan)
        return;
    if (action->kind == CUEBALL_ACTION_CLOSE) {
        cueball__watch_remove(pool, loan);
        if (!cueball__loan_is_held(loan))
            cueball__loan_set_nonblocking(loan, true); /* hosts do not block, and some say goodbye */
        cueball__loan_closed(pool, loan);
    } else if (action->kind == CUEBALL_ACTION_CHECK || action->kind == CUEBALL_ACTION_GRANT) {
        cueball__loan_set_nonblocking(loan, true); /* hosts do not block */
    }
}

bool cueball_threaded_next_action(cueball_threaded *pool, cueball_action *action)
{
    *action = (cueball_action){ 0 };
    if (!is_ours(pool))
        return false;
    host_enter(pool);
    bool is_there = answer_next(pool, action) || (pool->core && cueball_pool_next_chore(pool->core, action));
    if (is_there)
        action_foresee(pool, action);
    else
        pool->host_is_woken = false;
    cueball__threaded_leave(pool);
    return is_there;
}

/* The core has the connection; `conn` leads to the backend of its slot. */
static int conn_open(cueball_threaded *pool, cueball_time now, cueball_handle conn, int32_t fd, void *pointer)
{
    cueball_conn_info info;
    int result = cueball_pool_conn_info(pool->core, conn, &info);
    if (result != CUEBALL_OK || info.state != CUEBALL_SLOT_CONNECTING)
        return CUEBALL_ESTALE;
    cueball_loan *loan = cueball__loan_open(pool, conn, info.slot, fd, pointer);
    if (!loan || !cueball__loan_describe(pool, loan, info.backend)) {
        if (loan)
            cueball__loan_closed(pool, loan);
        (void)cueball_pool_conn_failed(pool->core, now, conn);
        return CUEBALL_ENOMEM;
    }
    cueball__watch_add(pool, loan);
    result = cueball_pool_conn_opened(pool->core, now, conn);
    if (result != CUEBALL_OK) {
        cueball__watch_remove(pool, loan);
        cueball__loan_closed(pool, loan);
    }
    return result;
}

int cueball_threaded_conn_opened(cueball_threaded *pool, cueball_time now, cueball_handle conn, int32_t fd, void *pointer)
{
    if (!pool)
        return cueball__fault(CUEBALL_EINVAL, "a pool is needed, not NULL");
    if (!is_ours(pool))
        return cueball__fault_plain(CUEBALL_EFORKED);
    cueball__threaded_enter(pool);
    int result = pool->core ? conn_open(pool, now, conn, fd < 0 ? -1 : fd, pointer) : CUEBALL_ESTALE;
    cueball__threaded_leave(pool);
    return result == CUEBALL_OK ? CUEBALL_OK : cueball__fault_plain(result);
}

bool cueball_threaded_next_return(cueball_threaded *pool, cueball_return *what)
{
    memset(what, 0, sizeof *what);
    if (!is_ours(pool))
        return false;
    host_enter(pool);
    bool is_there = cueball__told_next(pool, what);
    cueball__threaded_leave(pool);
    return is_there;
}

bool cueball_threaded_is_held(cueball_threaded *pool, cueball_handle conn)
{
    if (!is_ours(pool))
        return false;
    bool is_held = false;
    cueball__threaded_enter(pool);
    CUEBALL__LIST_EACH(link, following, &pool->orphans)
    is_held = is_held || CUEBALL__OWNER(link, cueball_loan, at_pool)->conn == conn;
    cueball__threaded_leave(pool);
    return is_held;
}

void cueball_threaded_note(cueball_threaded *pool, const char *fault)
{
    if (!is_ours(pool))
        return;
    cueball__threaded_enter(pool);
    (void)snprintf(pool->note, sizeof pool->note, "%s", fault ? fault : "");
    cueball__threaded_leave(pool);
}

/* What came after the host had taken all there was. */
static bool host_has_more(const cueball_threaded *pool)
{
    assert(pool);
    return pool->core
           && (pool->outlook->actions > pool->outlook->answers || pool->answers_count > 0 || !cueball__list_is_empty(&pool->returns)
               || !cueball__list_is_empty(&pool->failures));
}

cueball_time cueball_threaded_deadline(cueball_threaded *pool)
{
    if (!is_ours(pool))
        return CUEBALL_NEVER;
    host_enter(pool);
    pool->told_deadline = pool->core ? cueball_pool_deadline(pool->core) : CUEBALL_NEVER;
    if (cueball__turns_deadline(pool) < pool->told_deadline)
        pool->told_deadline = cueball__turns_deadline(pool);
    cueball_time deadline = host_has_more(pool) ? 0 : pool->told_deadline;
    cueball__threaded_leave(pool);
    return deadline;
}

void cueball_threaded_time_advanced(cueball_threaded *pool, cueball_time now)
{
    if (!is_ours(pool))
        return;
    cueball__threaded_enter(pool);
    if (pool->core) {
        cueball__turns_sweep(pool, now);
        (void)cueball_pool_time_advanced(pool->core, now);
    }
    cueball__threaded_leave(pool);
}
