/* Claims of threads.
 *
 * The happy path: the core grants the connection at once, or the claim waits in its
 * queue, and the thread sleeps until whoever frees a connection tells it the answer.
 * What can go wrong: the time is up, which the thread sees to itself, since the host may
 * stand still; the thread is cancelled while it sleeps, and takes its claim back then; or
 * it is the host, which would wait for itself. */
#include "claim.h"

#include "fault.h"
#include "holder.h"
#include "loan.h"
#include "lock.h"
#include "process.h"
#include "sweep.h"
#include "thread.h"
#include "turn.h"
#include "watch.h"

#include "kit/sized.h"

#include <math.h>

#define LOOK_AROUND_NS 1000000
#define FIRST CUEBALL__END_OF(cueball_threaded_claim_options, user)

static void waiter_tell(cueball__waiter *waiter)
{
    assert(waiter);
    cueball__sleeper_tell(&CUEBALL__OWNER(waiter, cueball__claimer, waiter)->sleeper);
}

/* Its thread is cancelled: nobody will have the answer. */
static void wait_cancelled(void *cancelled)
{
    cueball__claimer *claimer = cancelled;
    cueball__waiter *waiter = &claimer->waiter;
    cueball_threaded *pool = atomic_load_explicit(&claimer->pool, memory_order_relaxed);
    cueball__threaded_enter(pool);
    bool is_answered = waiter->is_answered;
    if (!is_answered) {
        int result = cueball_pool_claim_cancelled(pool->core, cueball_clock_now(), waiter->claim);
        assert(result == CUEBALL_OK);
        (void)result;
    } else if (waiter->loan) {
        (void)cueball__loan_end(pool, waiter->loan, ENDING_RELEASE, cueball_clock_now());
    }
    cueball__threaded_leave(pool);
    if (is_answered) /* it is being told, and that must be over before the thread is */
        (void)cueball__sleeper_sleep(&claimer->sleeper, CUEBALL_NEVER);
}

/* The time is up: has the core refuse the claim, as the host would have.  If it does not,
 * for a pause (what overload control sets does not count then): when its time is up now. */
static cueball_time wait_timed_out(cueball_threaded *pool, const cueball__waiter *waiter, cueball_time deadline)
{
    assert(pool);
    assert(waiter);
    cueball__threaded_enter(pool);
    if (!waiter->is_answered) {
        (void)cueball_pool_time_advanced(pool->core, cueball_clock_now());
        cueball_time later = cueball_pool_claim_deadline(pool->core, waiter->claim);
        deadline = later > deadline ? later : deadline;
    }
    cueball__threaded_leave(pool);
    return deadline;
}

/* Takes what a thread that overtook this one has left lying; false: no thread does. */
static bool wait_looks_around(cueball_threaded *pool, const cueball__waiter *waiter)
{
    assert(pool);
    assert(waiter);
    cueball__threaded_enter(pool);
    if (pool->core && !waiter->is_answered)
        cueball__turns_reclaim(pool, pool->outlook->waiting, cueball_clock_now());
    bool is_overtaken = !cueball__list_is_empty(&pool->turns);
    cueball__threaded_leave(pool);
    return is_overtaken;
}

/* While others have turns, it looks around: seldom, and more seldom each time. */
static void wait_sleep(cueball_threaded *pool, cueball__claimer *claimer, cueball_time deadline, bool is_overtaken)
{
    assert(pool);
    assert(claimer);
    cueball_time span = LOOK_AROUND_NS;
    for (;;) {
        cueball_time now = is_overtaken ? cueball_clock_now() : 0;
        bool looks = is_overtaken && now + span < deadline;
        if (cueball__sleeper_sleep(&claimer->sleeper, looks ? now + span : deadline))
            return;
        if (looks)
            is_overtaken = wait_looks_around(pool, &claimer->waiter);
        else
            deadline = wait_timed_out(pool, &claimer->waiter, deadline);
        span *= 2;
    }
}

static void claimer_wait(cueball_threaded *pool, cueball__claimer *claimer, cueball_time deadline, bool is_overtaken)
{
    assert(pool);
    assert(claimer);
    pthread_cleanup_push(wait_cancelled, claimer);
    wait_sleep(pool, claimer, deadline, is_overtaken);
    pthread_cleanup_pop(0);
    assert(claimer->waiter.is_answered);
}

void cueball__claim_fill(cueball_lease *lease, const cueball__waiter *waiter)
{
    assert(lease);
    assert(waiter);
    assert(waiter->error == CUEBALL_OK);
    lease->pool = waiter->loan->pool;
    lease->loan = waiter->loan;
    lease->serial = waiter->serial;
    lease->pointer = waiter->loan->pointer;
    lease->fd = waiter->loan->fd;
    atomic_store_explicit(&waiter->loan->began, cueball__ticks(), memory_order_relaxed);
}

/* The claim that the core has is this thread's; if it waits, *deadline is when it is
 * refused.  With the lock. */
static int waiter_claim(cueball_threaded *pool, cueball__waiter *waiter, const cueball_threaded_claim_options *options,
                        cueball_time *deadline)
{
    assert(pool);
    assert(waiter);
    assert(options);
    cueball_claim_options wanted = { .struct_size = sizeof wanted, .timeout_ms = options->timeout_ms };
    wanted.error_on_empty = options->error_on_empty;
    wanted.user = cueball__user_of_waiter(waiter);
    cueball_grant grant;
    if (!pool->core)
        return CUEBALL_EPOOL_STOPPING;
    cueball__turns_reclaim_for(pool, cueball_clock_now());
    int result = cueball_pool_claim(pool->core, cueball_clock_now(), &wanted, &grant);
    if (result == CUEBALL_OK) {
        cueball__threaded_grant(pool, waiter, &grant);
        return waiter->error;
    }
    if (result != CUEBALL_WAITING)
        return result;
    waiter->claim = grant.claim;
    if (waiter->tell == waiter_tell && cueball__thread_id() == atomic_load_explicit(&pool->host, memory_order_relaxed)) {
        (void)cueball_pool_claim_cancelled(pool->core, cueball_clock_now(), grant.claim);
        return CUEBALL_EDEADLOCK;
    }
    *deadline = cueball_pool_claim_deadline(pool->core, grant.claim);
    return CUEBALL_WAITING;
}

int cueball__claim_refused(cueball_threaded *pool, int error, const cueball__waiter *waiter)
{
    assert(pool);
    assert(waiter);
    if (error == CUEBALL_EDEADLOCK)
        return cueball__fault(error, "the host's own thread would wait for itself: claim in another one, or do not wait");
    char holder[CUEBALL__HOLDER_SIZE] = "";
    if (waiter->waited > 0 && (error == CUEBALL_ECLAIM_TIMEOUT || error == CUEBALL_EOVERLOADED))
        cueball__holder_explain(pool, holder);
    cueball__threaded_enter(pool);
    cueball__fault_of_claim(pool, error, waiter->waited, waiter->ahead, holder);
    cueball__threaded_leave(pool);
    return error;
}

bool cueball__claim_options_read(cueball_threaded_claim_options *whole, const cueball_threaded_claim_options *given)
{
    *whole = (cueball_threaded_claim_options){ 0 };
    if (given && !cueball__sized_read(whole, sizeof *whole, FIRST, given)) {
        (void)cueball__fault(CUEBALL_EINVAL, "the options of the claim: struct_size is none, or what is not known here is set");
        return false;
    }
    if (isnan(whole->timeout_ms))
        (void)cueball__fault(CUEBALL_EINVAL, "timeout_ms is not a number");
    return !isnan(whole->timeout_ms);
}

int cueball__claim_begin(cueball_threaded *pool, cueball__waiter *waiter, const cueball_threaded_claim_options *options,
                         cueball_lease *lease, cueball__wait *wait)
{
    assert(!waiter->is_answered);
    *wait = (cueball__wait){ .deadline = CUEBALL_NEVER };
    cueball__threaded_enter(pool);
    int result = waiter_claim(pool, waiter, options, &wait->deadline);
    wait->is_overtaken = !cueball__list_is_empty(&pool->turns);
    if (result == CUEBALL_WAITING)
        wait->claim = waiter->claim;
    cueball__threaded_leave(pool);
    if (result < 0)
        return cueball__claim_refused(pool, result, waiter);
    if (result == CUEBALL_OK)
        cueball__claim_fill(lease, waiter);
    return result;
}

/* *deadline: when its time is up; not known, and so left alone, if it did not wait. */
static int claim_with(cueball_threaded *pool, cueball__claimer *claimer, const cueball_threaded_claim_options *options,
                      cueball_lease *lease, cueball_time *deadline)
{
    assert(pool);
    assert(claimer);
    assert(options);
    assert(lease);
    cueball__waiter *waiter = &claimer->waiter;
    *waiter = (cueball__waiter){ .tell = waiter_tell, .claimer = options->detached ? NULL : claimer, .thread = claimer->thread };
    cueball__wait wait;
    int result = cueball__claim_begin(pool, waiter, options, lease, &wait);
    if (result != CUEBALL_WAITING)
        return result;
    *deadline = wait.deadline;
    claimer_wait(pool, claimer, wait.deadline, wait.is_overtaken);
    if (waiter->error != CUEBALL_OK)
        return cueball__claim_refused(pool, waiter->error, waiter);
    cueball__claim_fill(lease, waiter);
    return CUEBALL_OK;
}

bool cueball__claim_is_broken(cueball_lease *lease)
{
    assert(lease);
    cueball__sight sight = lease->fd >= 0 ? cueball__socket_peek(lease->fd) : SIGHT_QUIET;
    if (sight == SIGHT_QUIET)
        return false;
    cueball_threaded *pool = lease->pool;
    cueball__threaded_enter(pool);
    if (pool->core && !lease->loan->is_orphan)
        cueball__sight_tell(pool, lease->loan->conn, sight, cueball_clock_now());
    (void)cueball__loan_end(pool, lease->loan, ENDING_CLOSE, cueball_clock_now());
    cueball__threaded_leave(pool);
    *lease = (cueball_lease){ .fd = -1 };
    return true;
}

/* Claims until what it gets is not broken already.  Its time is one, however often that is. */
static int claim_unbroken(cueball_threaded *pool, cueball__claimer *claimer, cueball_threaded_claim_options options, cueball_lease *lease)
{
    cueball_time deadline = CUEBALL_NEVER;
    for (;;) {
        int result = claim_with(pool, claimer, &options, lease, &deadline);
        if (result != CUEBALL_OK || !cueball__claim_is_broken(lease))
            return result;
        cueball_time now = deadline == CUEBALL_NEVER ? 0 : cueball_clock_now();
        if (deadline != CUEBALL_NEVER) /* 0 would be the pool's own limit */
            options.timeout_ms = now < deadline ? (double)(deadline - now) / 1e6 : CUEBALL_NO_WAIT;
    }
}

static int claim_again(cueball_threaded *pool, const cueball_threaded_claim_options *options, cueball_lease *lease)
{
    assert(pool);
    assert(options);
    assert(lease);
    if (pool->generation != cueball__process_generation())
        return cueball__fault_plain(CUEBALL_EFORKED);
    cueball__claimer *claimer = cueball__claimer_of(pool);
    if (!claimer)
        return cueball__fault_plain(CUEBALL_ENOMEM);
    if (!options->detached && cueball__turn_claim(claimer, lease)) {
        cueball__loan_set_nonblocking(lease->loan, options->nonblocking);
        return CUEBALL_OK;
    }
    int result = claim_unbroken(pool, claimer, *options, lease);
    if (result == CUEBALL_OK)
        cueball__loan_set_nonblocking(lease->loan, options->nonblocking);
    return result;
}

int cueball_threaded_claim_with(cueball_threaded *pool, const cueball_threaded_claim_options *options, cueball_lease *lease)
{
    cueball_threaded_claim_options known;
    if (!lease)
        return cueball__fault(CUEBALL_EINVAL, "a lease to fill in is needed, not NULL");
    *lease = (cueball_lease){ .fd = -1 };
    if (!pool)
        return cueball__fault(CUEBALL_EINVAL, "a pool is needed, not NULL");
    if (!cueball__claim_options_read(&known, options))
        return CUEBALL_EINVAL;
    return claim_again(pool, &known, lease);
}

int cueball_threaded_claim(cueball_threaded *pool, double timeout_ms, cueball_lease *lease)
{
    cueball__claimer *claimer = pool && lease && !isnan(timeout_ms) ? cueball__claimer_here(pool) : NULL;
    if (claimer && cueball__turn_claim(claimer, lease)) {
        if (lease->fd >= 0)
            cueball__loan_set_nonblocking(lease->loan, false);
        return CUEBALL_OK;
    }
    cueball_threaded_claim_options options = { .struct_size = sizeof options, .timeout_ms = timeout_ms };
    return cueball_threaded_claim_with(pool, &options, lease);
}

int cueball_threaded_try_claim(cueball_threaded *pool, cueball_lease *lease)
{
    return cueball_threaded_claim(pool, CUEBALL_NO_WAIT, lease);
}
