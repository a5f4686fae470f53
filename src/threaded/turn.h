#ifndef CUEBALL_THREADED_TURN_H
#define CUEBALL_THREADED_TURN_H

#include "state.h"

#include "ticks.h"

/* All with the lock, and `begin` in the claimer's own thread. */
bool cueball__turn_begin_for(cueball_threaded *pool, cueball_loan *loan, cueball_time now);
void cueball__turn_settle(cueball_threaded *pool, cueball_loan *loan, bool is_kept, cueball_time now);
cueball_time cueball__turns_deadline(const cueball_threaded *pool);

/* The kept connection is the caller's, if it is still there.  With the lock. */
static inline bool cueball__loan_take_kept(cueball_loan *loan)
{
    uint64_t word = atomic_load_explicit(&loan->word, memory_order_seq_cst);
    return word % LOAN_STATES == LOAN_KEPT
           && atomic_compare_exchange_strong_explicit(&loan->word, &word, word - LOAN_KEPT + LOAN_TAKEN, memory_order_acquire,
                                                      memory_order_relaxed);
}

/* The claimer, whose thread this is, has its connection again, if it is still there. */
static inline bool cueball__turn_claim(cueball__claimer *claimer, cueball_lease *lease)
{
    cueball__turn *turn = &claimer->turn;
    cueball_loan *loan = turn->kept;
    if (!loan)
        return false;
    uint64_t word = turn->kept_word;
    uint64_t held = word - LOAN_KEPT + LOAN_STATES + LOAN_HELD;
    turn->kept = NULL;
    if (!atomic_compare_exchange_strong_explicit(&loan->word, &word, held, memory_order_acquire, memory_order_relaxed))
        return false;
    cueball_threaded *pool = loan->pool;
    bool is_timed = pool->clocks || atomic_load_explicit(&pool->is_wanted, memory_order_relaxed);
    atomic_store_explicit(&loan->began, is_timed ? cueball__ticks() : 0, memory_order_relaxed);
    lease->pool = pool;
    lease->loan = loan;
    lease->serial = held / LOAN_STATES;
    lease->pointer = loan->pointer;
    lease->fd = loan->fd;
    lease->reserved = 0;
    return true;
}

/* The lease has ended, and its connection is kept for the claimer, whose thread this
 * is; false: it has to go the long way. */
static inline bool cueball__turn_keep(cueball__claimer *claimer, const cueball_lease *lease)
{
    cueball__turn *turn = &claimer->turn;
    cueball_loan *loan = lease->loan;
    if (atomic_load_explicit(&turn->loan, memory_order_relaxed) != loan
        || lease->serial >= atomic_load_explicit(&turn->limit, memory_order_relaxed))
        return false;
    uint64_t word = cueball__word(lease->serial, LOAN_HELD);
    if (atomic_load_explicit(&loan->word, memory_order_relaxed) != word) /* the span of a turn that is over is not to be written */
        return false;
    if (lease->pool->clocks) {
        assert(lease->serial - turn->first < CUEBALL__TURN_LEASES);
        uint64_t span = cueball__ticks() - atomic_load_explicit(&loan->began, memory_order_relaxed);
        turn->spans[lease->serial - turn->first] = span < UINT32_MAX ? (uint32_t)span : UINT32_MAX;
    }
    uint64_t kept = cueball__word(lease->serial, LOAN_KEPT);
    if (!atomic_compare_exchange_strong_explicit(&loan->word, &word, kept, memory_order_seq_cst, memory_order_relaxed))
        return false;
    turn->kept = loan;
    turn->kept_word = kept;
    return true;
}

#endif
