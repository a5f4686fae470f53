/* What a claimer does with the connection that it has. */
#include "fault.h"
#include "loan.h"
#include "lock.h"
#include "process.h"
#include "thread.h"
#include "told.h"
#include "turn.h"
#include "watch.h"

#include "kit/sized.h"

#include <stdio.h>

/* Why the lease cannot be used; 0: it can, and the lock is taken, and the lease: it is to
 * be put back (lease_leave), or ended. */
static int lease_enter(const cueball_lease *lease)
{
    if (!lease)
        return cueball__fault(CUEBALL_EINVAL, "a lease is needed, not NULL");
    if (!lease->pool || !lease->loan)
        return cueball__fault_plain(CUEBALL_ESTALE);
    if (lease->pool->generation != cueball__process_generation())
        return cueball__fault_plain(CUEBALL_EFORKED);
    cueball__threaded_enter(lease->pool);
    if (cueball__loan_take_held(lease->loan, lease->serial))
        return CUEBALL_OK;
    cueball__threaded_leave(lease->pool);
    return cueball__fault_plain(CUEBALL_ESTALE);
}

/* The lease goes on. */
static void lease_leave(const cueball_lease *lease)
{
    cueball__loan_put_held(lease->loan, lease->serial);
    cueball__threaded_leave(lease->pool);
}

/* Others wait, and the connection is kept for this thread, which would overtake them.
 * With leases that are shorter than it takes to wake a thread up, it goes on for a while:
 * else each lease of a crowd would cost that.  A lease that was not timed may have been a
 * long one. */
static CUEBALL__SLOW void turn_yield(cueball_threaded *pool, cueball__claimer *claimer)
{
    assert(pool);
    assert(claimer);
    cueball__turn *turn = &claimer->turn;
    cueball_loan *loan = turn->kept;
    uint64_t now = cueball__ticks(), began = atomic_load_explicit(&loan->began, memory_order_relaxed);
    bool is_short = began > 0 && now - began < atomic_load_explicit(&pool->short_ticks, memory_order_relaxed);
    bool is_over = turn->kept_word / LOAN_STATES >= atomic_load_explicit(&turn->limit, memory_order_relaxed);
    if (is_short && !is_over && turn->overtakes_until == 0)
        turn->overtakes_until = now + atomic_load_explicit(&pool->overtake_ticks, memory_order_relaxed);
    if (is_short && !is_over && now < turn->overtakes_until)
        return;
    turn->kept = NULL;
    cueball__threaded_enter(pool);
    if (cueball__loan_take_kept(loan))
        (void)cueball__loan_end(pool, loan, ENDING_RELEASE, cueball_clock_now());
    cueball__threaded_leave(pool);
}

/* The lease ends without the lock, if it is one of a turn. */
static bool lease_keep(cueball_lease *lease, cueball__sight sight)
{
    assert(lease);
    cueball__claimer *claimer = cueball__claimer_here(lease->pool);
    if (!claimer || sight != SIGHT_QUIET || !cueball__turn_keep(claimer, lease))
        return false;
    cueball_threaded *pool = lease->pool;
    lease->pool = NULL;
    lease->fd = -1;
    if (atomic_load_explicit(&pool->is_wanted, memory_order_seq_cst))
        turn_yield(pool, claimer);
    return true;
}

/* What became of the connection while it was leased. */
static cueball__sight lease_look(const cueball_lease *lease)
{
    assert(lease);
    uint64_t word = atomic_load_explicit(&lease->loan->word, memory_order_relaxed);
    bool is_held = word == cueball__word(lease->serial, LOAN_HELD) || word == cueball__word(lease->serial, LOAN_TAKEN);
    return is_held && lease->fd >= 0 && !lease->pool->inspects ? cueball__socket_peek(lease->fd) : SIGHT_QUIET;
}

static int lease_end(cueball_lease *lease, cueball__ending ending, const char *why, cueball__sight sight)
{
    int result = lease_enter(lease);
    cueball_lease was = lease ? *lease : (cueball_lease){ 0 };
    if (lease)
        *lease = (cueball_lease){ .fd = -1 };
    cueball_threaded *pool = was.pool;
    if (result != CUEBALL_OK || !pool || !was.loan) /* without an error there is a pool */
        return result;
    if (ending == ENDING_FAIL && pool->core)
        cueball__failure_tell(pool, was.loan, why);
    cueball_time now = cueball_clock_now();
    bool is_ours = was.loan->claimer && was.loan->claimer == cueball__claimer_here(pool);
    bool is_fit = ending == ENDING_RELEASE && sight == SIGHT_QUIET && pool->core && !was.loan->is_orphan;
    if (sight != SIGHT_QUIET && pool->core && !was.loan->is_orphan)
        cueball__sight_tell(pool, was.loan->conn, sight, now);
    if (!is_ours || !is_fit || !cueball__turn_begin_for(pool, was.loan, now))
        result = cueball__loan_end_taken(pool, was.loan, ending, now);
    cueball__threaded_leave(pool);
    return result == CUEBALL_OK ? CUEBALL_OK : cueball__fault_plain(result);
}

int cueball_lease_release(cueball_lease *lease)
{
    if (!lease || !lease->pool || !lease->loan)
        return lease_enter(lease);
    cueball__sight sight = lease->fd >= 0 ? lease_look(lease) : SIGHT_QUIET;
    return lease_keep(lease, sight) ? CUEBALL_OK : lease_end(lease, ENDING_RELEASE, NULL, sight);
}

int cueball_lease_close(cueball_lease *lease)
{
    return lease_end(lease, ENDING_CLOSE, NULL, SIGHT_QUIET);
}

int cueball_lease_fail(cueball_lease *lease, const char *why)
{
    return lease_end(lease, ENDING_FAIL, why, SIGHT_QUIET);
}

int cueball_lease_report(cueball_lease *lease, bool went_well)
{
    int result = lease_enter(lease);
    if (result != CUEBALL_OK)
        return result;
    cueball_threaded *pool = lease->pool;
    result = CUEBALL_ESTALE;
    cueball__turn_settle(pool, lease->loan, false, cueball_clock_now());
    if (pool->core)
        result = cueball_pool_lease_reported(pool->core, cueball_clock_now(), lease->loan->lease, went_well);
    lease_leave(lease);
    return result == CUEBALL_OK ? CUEBALL_OK : cueball__fault_plain(result);
}

int cueball_lease_backend(const cueball_lease *lease, cueball_threaded_backend *backend)
{
    if (!backend)
        return cueball__fault(CUEBALL_EINVAL, "a struct for the backend is needed, not NULL");
    int result = lease_enter(lease);
    if (result != CUEBALL_OK)
        return result;
    const cueball_loan *loan = lease->loan;
    cueball_threaded_backend whole = { .port = loan->port, .key = loan->key, .name = loan->name, .address = loan->address };
    lease_leave(lease);
    cueball__sized_write(backend, CUEBALL__END_OF(cueball_threaded_backend, address), &whole, sizeof whole);
    return CUEBALL_OK;
}

/* "waited 12.5 ms (3 ahead): busy 12.5 ms" */
static int loan_explain(const cueball_loan *loan, char *text, size_t size)
{
    assert(loan);
    if (loan->waited == 0)
        return snprintf(text, size, "did not wait");
    int length = snprintf(text, size, "waited %.6g ms (%u ahead)", (double)loan->waited / 1e6, loan->ahead);
    for (uint32_t i = 0; i < loan->waits_count; i++) {
        size_t used = (size_t)length < size ? (size_t)length : size;
        length += snprintf(text + used, size - used, "%s%s %.6g ms", i == 0 ? ": " : ", then ", cueball_reason_name(loan->waits[i].reason),
                           (double)loan->waits[i].span / 1e6);
    }
    assert(length > 0);
    return length;
}

int cueball_lease_explain(const cueball_lease *lease, char *text, size_t size)
{
    if (!text && size > 0)
        return cueball__fault(CUEBALL_EINVAL, "room for a text is needed, not NULL");
    if (size > 0)
        text[0] = '\0';
    int result = lease_enter(lease);
    if (result != CUEBALL_OK)
        return result;
    char whole[512];
    result = loan_explain(lease->loan, whole, sizeof whole);
    lease_leave(lease);
    if (size > 0)
        (void)snprintf(text, size, "%s", whole);
    return result;
}

int cueball_lease_detach(cueball_lease *lease)
{
    int result = lease_enter(lease);
    if (result != CUEBALL_OK)
        return result;
    cueball__loan_own(lease->pool, lease->loan, NULL);
    lease_leave(lease);
    return CUEBALL_OK;
}

int cueball_lease_adopt(cueball_lease *lease)
{
    if (!lease)
        return cueball__fault(CUEBALL_EINVAL, "a lease is needed, not NULL");
    bool is_ours = lease->pool && lease->pool->generation == cueball__process_generation();
    cueball__claimer *claimer = is_ours ? cueball__claimer_of(lease->pool) : NULL;
    if (is_ours && !claimer)
        return cueball__fault_plain(CUEBALL_ENOMEM);
    int result = lease_enter(lease);
    if (result != CUEBALL_OK)
        return result;
    cueball__loan_own(lease->pool, lease->loan, claimer);
    lease->loan->thread = cueball__thread_number();
    lease_leave(lease);
    return CUEBALL_OK;
}
