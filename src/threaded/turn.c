/* Turns: a thread that has one connection again and again, without the lock.
 *
 * The happy path: a thread releases its lease, and the connection is kept for it: the
 * core counts it as leased still.  The thread's next claim takes it from there with one
 * compare-and-swap, and its release puts it back with another.  After so many leases, or
 * so long, a release goes the long way: the core is told of all leases of the turn at
 * once (cueball_pool_lease_repeated()), and then of the release, so that the connection
 * goes to the end of the order in which they are claimed, is retired if that is due, and
 * the thread gets the next one.
 *
 * What can go wrong, and what is done about it:
 * - somebody else needs a connection, and finds none at rest: under the lock, it takes
 *   those that are kept, with the same compare-and-swap (sweep.c);
 * - it looks just before one is kept: it has said before that connections are wanted, and
 *   who keeps one looks at that afterwards, so that one of the two sees the other (both
 *   operations are sequentially consistent);
 * - the thread goes away and leaves its connection kept: the host's sweep finds it, within
 *   about a turn;
 * - it has the connection for long: the sweep ends its turn, so that its release goes the
 *   long way;
 * - the lease is ended by another thread, or with another end: that goes the long way,
 *   under the lock, and settles the turn.
 *
 * Who waits is overtaken by such turns for a bounded time only: by a claimer that has been
 * granted a connection until 200 us after it first saw somebody wait, however many turns
 * that makes (lease.c). */
#include "turn.h"

#include <string.h>

#define SHORT_NS 1000.0      /* a lease that is over sooner costs less than to wake a thread up */
#define OVERTAKE_NS 200000.0 /* those who wait are overtaken by such leases for so long */

static bool turn_has_room(cueball_threaded *pool, cueball__turn *turn)
{
    assert(pool);
    assert(turn);
    const cueball_allocator *allocator = cueball_allocator_libc();
    if (pool->clocks && !turn->spans)
        turn->spans = allocator->allocate(allocator->user, CUEBALL__TURN_LEASES * sizeof *turn->spans);
    return !pool->clocks || turn->spans;
}

/* Whether the claimer may go on, though others wait: its lease was short, and the connection has not been kept from them
 * for too long. */
static bool turn_may_overtake(const cueball_threaded *pool, const cueball_loan *loan, uint64_t ticks, double rate)
{
    assert(loan->pool == pool);
    assert(rate > 0);
    if (pool->outlook->waiting == 0)
        return true;
    uint64_t lasted = ticks - atomic_load_explicit(&loan->began, memory_order_relaxed);
    return (double)lasted * rate < SHORT_NS && (loan->overtakes_until == 0 || ticks < loan->overtakes_until);
}

/* When the last lease began: what is told of one that is kept is over by then. */
static cueball_time turn_last_began(const cueball_threaded *pool, const cueball__turn *turn, const cueball_loan *loan, bool is_kept,
                                    uint32_t count, double rate, cueball_time now)
{
    assert(loan->pool == pool);
    assert(turn);
    uint64_t began = atomic_load_explicit(&loan->began, memory_order_relaxed);
    uint64_t ticks = cueball__ticks();
    double span = (double)(now - turn->since) / (count + 1);
    if (pool->clocks && is_kept)
        span = turn->spans[count]; /* ns by now */
    else if (!is_kept && began > 0 && ticks > began)
        span = (double)(ticks - began) * rate;
    return span < (double)now ? now - (cueball_time)span : 0;
}

/* The turn is over, if it was one: the core is told.  The lease is the last one. */
void cueball__turn_settle(cueball_threaded *pool, cueball_loan *loan, bool is_kept, cueball_time now)
{
    assert(loan->pool == pool);
    cueball__turn *turn = loan->claimer ? &loan->claimer->turn : NULL;
    if (!turn || atomic_load_explicit(&turn->loan, memory_order_relaxed) != loan)
        return;
    uint64_t serial = atomic_load_explicit(&loan->word, memory_order_relaxed) / LOAN_STATES;
    uint32_t count = (uint32_t)(serial - turn->first);
    assert(serial >= turn->first);
    assert(count <= CUEBALL__TURN_LEASES);
    if (!is_kept) /* else it goes back, and nobody is overtaken any more */
        loan->overtakes_until = turn->overtakes_until;
    atomic_store_explicit(&turn->loan, NULL, memory_order_relaxed);
    atomic_store_explicit(&turn->limit, 0, memory_order_relaxed);
    cueball__list_remove(&turn->at_pool);
    if (!pool->core || loan->is_orphan)
        return;
    double rate = cueball__rate_at(&pool->rate, now);
    uint32_t *spans = pool->clocks ? turn->spans : NULL;
    for (uint32_t i = 0; spans && i < count + is_kept; i++)
        spans[i] = (double)spans[i] * rate < (double)UINT32_MAX ? (uint32_t)((double)spans[i] * rate) : UINT32_MAX;
    cueball_time began = turn_last_began(pool, turn, loan, is_kept, count, rate, now);
    (void)cueball_pool_lease_repeated(pool->core, now, &loan->lease, began, spans, count);
}

/* A turn that is over by its number of leases goes on if somebody waits, and has not been
 * overtaken for too long: there is no connection to rotate to. */
static bool turn_goes_on(cueball_threaded *pool, cueball_loan *loan, uint64_t ticks, cueball_time now)
{
    assert(loan->pool == pool);
    cueball__turn *turn = &loan->claimer->turn;
    if (atomic_load_explicit(&turn->loan, memory_order_relaxed) != loan || pool->outlook->waiting == 0 || ticks >= turn->overtakes_until)
        return false;
    cueball__turn_settle(pool, loan, false, now);
    assert(!atomic_load(&turn->loan));
    return true;
}

/* The lease has ended: a turn begins, and its connection is kept for the claimer; false:
 * it is to be released. */
bool cueball__turn_begin_for(cueball_threaded *pool, cueball_loan *loan, cueball_time now)
{
    assert(loan->pool == pool);
    assert(loan->claimer);
    cueball__turn *turn = &loan->claimer->turn;
    double rate = cueball__rate_at(&pool->rate, now);
    if (pool->turn_span == 0 || pool->inspects || rate == 0)
        return false;
    uint64_t ticks = cueball__ticks();
    if (atomic_load_explicit(&turn->loan, memory_order_relaxed) && !turn_goes_on(pool, loan, ticks, now))
        return false;
    if (!turn_may_overtake(pool, loan, ticks, rate) || !turn_has_room(pool, turn))
        return false;
    uint32_t repeats = cueball_pool_lease_repeats_max(pool->core, now, loan->lease);
    if (repeats == 0)
        return false;
    uint64_t serial = atomic_load_explicit(&loan->word, memory_order_relaxed) / LOAN_STATES;
    atomic_store_explicit(&pool->short_ticks, (uint64_t)(SHORT_NS / rate), memory_order_relaxed);
    atomic_store_explicit(&pool->overtake_ticks, (uint64_t)(OVERTAKE_NS / rate), memory_order_relaxed);
    turn->first = serial;
    turn->since = now;
    bool is_first = pool->outlook->waiting > 0 && loan->overtakes_until == 0;
    turn->overtakes_until = is_first ? ticks + (uint64_t)(OVERTAKE_NS / rate) : loan->overtakes_until;
    uint64_t lasted = ticks - atomic_load_explicit(&loan->began, memory_order_relaxed);
    if (turn->spans)
        turn->spans[0] = lasted < UINT32_MAX ? (uint32_t)lasted : UINT32_MAX;
    atomic_store_explicit(&turn->limit, serial + (repeats < pool->turn_leases ? repeats : pool->turn_leases), memory_order_relaxed);
    atomic_store_explicit(&turn->loan, loan, memory_order_relaxed);
    cueball__list_append(&pool->turns, &turn->at_pool);
    turn->kept = loan;
    turn->kept_word = cueball__word(serial, LOAN_KEPT);
    atomic_store_explicit(&loan->word, turn->kept_word, memory_order_seq_cst);
    return true;
}

/* When the sweep has something to do. */
cueball_time cueball__turns_deadline(const cueball_threaded *pool)
{
    assert(pool);
    if (cueball__list_is_empty(&pool->turns))
        return CUEBALL_NEVER;
    assert(pool->turn_span > 0);
    return CUEBALL__OWNER(pool->turns.next, cueball__turn, at_pool)->since + pool->turn_span;
}
