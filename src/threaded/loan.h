#ifndef CUEBALL_THREADED_LOAN_H
#define CUEBALL_THREADED_LOAN_H

#include "state.h"

/* How a lease ends. */
typedef enum cueball__ending {
    ENDING_RELEASE, /* the four as of the core's inputs */
    ENDING_CLOSE,
    ENDING_FAIL,
    ENDING_REVOKE
} cueball__ending;

/* All with the lock. */
cueball_loan *cueball__loan_open(cueball_threaded *pool, cueball_handle conn, uint32_t slot, int32_t fd, void *pointer);
bool cueball__loan_reserve(cueball_threaded *pool, uint32_t slot);
void cueball__loan_closed(cueball_threaded *pool, cueball_loan *loan);
bool cueball__loan_describe(cueball_threaded *pool, cueball_loan *loan, cueball_handle backend);
cueball_loan *cueball__loan_at(const cueball_threaded *pool, uint32_t slot, cueball_handle conn);
void cueball__loan_lend(cueball_threaded *pool, cueball_loan *loan, cueball_handle lease, cueball__claimer *claimer, uint64_t thread);
void cueball__loan_own(cueball_threaded *pool, cueball_loan *loan, cueball__claimer *claimer);
int cueball__loan_end(cueball_threaded *pool, cueball_loan *loan, cueball__ending ending, cueball_time now);
int cueball__loan_end_taken(cueball_threaded *pool, cueball_loan *loan, cueball__ending ending, cueball_time now);
void cueball__loan_spare(cueball_threaded *pool, cueball_loan *loan);
void cueball__loans_free(cueball_threaded *pool);

static inline uint64_t cueball__loan_serial(const cueball_loan *loan)
{
    return atomic_load_explicit(&loan->word, memory_order_relaxed) / LOAN_STATES;
}

/* The lease is the caller's, if it lasts: its claimer, who keeps connections without the
 * lock, goes the long way meanwhile.  With the lock. */
static inline bool cueball__loan_take_held(cueball_loan *loan, uint64_t serial)
{
    uint64_t word = cueball__word(serial, LOAN_HELD);
    return atomic_compare_exchange_strong_explicit(&loan->word, &word, cueball__word(serial, LOAN_TAKEN), memory_order_acquire,
                                                   memory_order_relaxed);
}

/* It goes on. */
static inline void cueball__loan_put_held(cueball_loan *loan, uint64_t serial)
{
    assert(atomic_load_explicit(&loan->word, memory_order_relaxed) == cueball__word(serial, LOAN_TAKEN));
    atomic_store_explicit(&loan->word, cueball__word(serial, LOAN_HELD), memory_order_release);
}

static inline bool cueball__loan_is_held(const cueball_loan *loan)
{
    return atomic_load_explicit(&loan->word, memory_order_relaxed) % LOAN_STATES == LOAN_HELD;
}

#endif
