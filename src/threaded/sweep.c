/* Connections that are kept for threads go back to the core: because somebody needs
 * them, or because nobody uses them. */
#include "sweep.h"

#include "loan.h"
#include "watch.h"
#include "turn.h"

/* What broke while it was kept was told when nobody could be told: it is looked at again. */
static void kept_end(cueball_threaded *pool, cueball_loan *loan, cueball_time now)
{
    if (pool->core && loan->fd >= 0)
        cueball__sight_tell(pool, loan->conn, cueball__socket_peek(loan->fd), now);
    (void)cueball__loan_end(pool, loan, ENDING_RELEASE, now);
}

/* At most so many, whosever they are. */
void cueball__turns_reclaim(cueball_threaded *pool, uint32_t most, cueball_time now)
{
    assert(pool);
    assert(pool->core);
    CUEBALL__LIST_EACH(link, following, &pool->turns)
    {
        if (most == 0)
            return;
        cueball__turn *turn = CUEBALL__OWNER(link, cueball__turn, at_pool);
        cueball_loan *loan = atomic_load_explicit(&turn->loan, memory_order_relaxed);
        if (!cueball__loan_take_kept(loan))
            continue;
        kept_end(pool, loan, now);
        most--;
    }
}

/* No turn goes on: what is kept is to be reclaimed then, what is leased goes the long way
 * when it is released. */
void cueball__turns_end(cueball_threaded *pool)
{
    assert(pool);
    assert(pool->ends_turns);
    CUEBALL__LIST_EACH(link, following, &pool->turns)
    {
        cueball__turn *turn = CUEBALL__OWNER(link, cueball__turn, at_pool);
        atomic_store_explicit(&turn->limit, 0, memory_order_relaxed);
    }
}

/* Somebody claims: one that is kept is better than to wait. */
void cueball__turns_reclaim_for(cueball_threaded *pool, cueball_time now)
{
    assert(pool);
    cueball_counts counts;
    if (!pool->core || cueball__list_is_empty(&pool->turns) || pool->outlook->waiting > 0)
        return;
    cueball_pool_counts(pool->core, &counts);
    if (counts.idle == 0)
        cueball__turns_reclaim(pool, 1, now);
    assert(pool->outlook->waiting == 0);
}

/* Turns that have lasted for long: what is kept goes back, and what is leased goes the
 * long way when it is released. */
void cueball__turns_sweep(cueball_threaded *pool, cueball_time now)
{
    assert(pool);
    assert(pool->core);
    while (cueball__turns_deadline(pool) <= now) {
        cueball__turn *turn = CUEBALL__OWNER(pool->turns.next, cueball__turn, at_pool);
        cueball_loan *loan = atomic_load_explicit(&turn->loan, memory_order_relaxed);
        if (cueball__loan_take_kept(loan)) {
            kept_end(pool, loan, now);
            continue;
        }
        atomic_store_explicit(&turn->limit, 0, memory_order_relaxed);
        turn->since = now; /* it may be kept in this moment: it is looked at once more */
        cueball__list_remove(&turn->at_pool);
        cueball__list_append(&pool->turns, &turn->at_pool);
    }
    assert(cueball__turns_deadline(pool) > now);
}
