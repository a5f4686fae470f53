/* The data of pools for threads.  Every other file of this folder stands above this
 * one, in this order; none calls what is above it:
 *
 *     rate sleeper            a cheap clock; a thread that sleeps
 *     process fault           what the process is; last errors
 *     turn loan told          connections, who has them, and who has them again and again
 *     sweep lock              what is due when the lock is left
 *     thread                  what a thread has: claimers, and its end
 *     holder                  who has a connection, for people
 *     watch lease claim       what claimers do
 *     mailbox                 claims whose answers an event loop takes
 *     names host explain      which pools there are; what the host does; texts
 *     manage                  what people in charge do
 *     pool                    birth and end
 *
 * What the lock protects: everything but atomics, what a claimer's own thread keeps
 * (said there), and the constants of a pool, a loan or a lease.  A thread may take the
 * process's lock (process.c), and then a pool's; never the other way round. */
#ifndef CUEBALL_THREADED_STATE_H
#define CUEBALL_THREADED_STATE_H

#include "cueball_threaded.h"

#include "kit/list.h"
#include "kit/memory.h"
#include "rate.h"
#include "sleeper.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

#if defined __GNUC__
#define CUEBALL__SLOW __attribute__((noinline)) /* kept out of the short way */
#else
#define CUEBALL__SLOW
#endif

typedef struct cueball__claimer cueball__claimer;
typedef struct cueball__waiter cueball__waiter;

/* Who has a loan's connection: the two low bits of its word.  The others are the
 * serial number of the lease, so that what was read once cannot come again. */
enum {
    LOAN_RESTS = 0, /* the core, or the host */
    LOAN_HELD = 1,  /* a claimer */
    LOAN_KEPT = 2,  /* nobody: the claimer whose turn it is takes it, or whoever needs it takes it from there */
    LOAN_TAKEN = 3, /* whoever took a kept one, and has the lock */
    LOAN_STATES = 4
};

/* One open connection, for as long as it is open, or a thread has it; then it is used
 * for another.  Never freed before the pool is, so that a lease that is over can be told. */
struct cueball_loan {
    _Atomic uint64_t word;
    _Atomic uint64_t began; /* held: since when, ticks; 0: not known */
    cueball_threaded *pool;
    void *pointer;
    int32_t fd;
    uint32_t slot;
    cueball_handle conn, lease; /* of the core; lease: the last one */
    cueball__claimer *claimer;  /* held: whose it is; NULL: detached */
    uint64_t overtakes_until;   /* held: those who wait are overtaken until then, in ticks; 0: nobody was yet */
    uint64_t thread;            /* held: who claimed it, or adopted it: cueball__thread_number() */
    cueball__link at_claimer;   /* held: in the claimer's loans, or pool->detached */
    cueball__link at_pool;      /* in pool->loans, pool->spare_loans or pool->orphans */
    cueball__link at_returns;   /* in pool->returns: `told` is to be told to the host */
    int32_t told;               /* CUEBALL_RETURN_INSPECT or _ORPHAN */
    uint32_t port;
    bool is_orphan;        /* the pool closed it while a thread had it */
    bool is_nonblocking;   /* what its descriptor is now */
    uint32_t ahead;        /* of the claim that had to wait */
    cueball_time waited;   /* held: how long that was */
    cueball_wait waits[4]; /* what it waited for */
    uint32_t waits_count;
    uint32_t texts_size;
    char *texts; /* key, name and address of the backend, each with its NUL */
    const char *key, *name, *address;
};

/* A claim that waits.  In the claimer, or wherever an asynchronous claim has it. */
struct cueball__waiter {
    void (*tell)(cueball__waiter *waiter); /* it has its answer; called without the lock, once.  The waiter may be gone after */
    cueball__claimer *claimer;             /* whose the lease will be; NULL: nobody's */
    uint64_t thread;                       /* who claims: cueball__thread_number() */
    cueball__waiter *next;                 /* of those to be told */
    cueball_handle claim;
    cueball_loan *loan; /* the answer: what it got, */
    uint64_t serial;
    int32_t error; /* or why it did not */
    uint32_t ahead;
    cueball_time waited;
    bool is_answered;
};

#define CUEBALL__TURN_LEASES 1024

/* A thread that has one connection again and again, see turn.c. */
typedef struct cueball__turn {
    /* the claimer's own thread alone: */
    cueball_loan *kept; /* what it gave back last; it may have been taken from there */
    uint64_t kept_word;
    uint64_t overtakes_until; /* of the loan that is kept */
    /* written with the lock: */
    _Atomic(cueball_loan *) loan; /* whose turn it is; NULL: there is none */
    atomic_uint_fast64_t limit;   /* leases from this serial number on are not kept */
    uint64_t first;               /* serial number of the lease that the core knows */
    cueball_time since;
    cueball__link at_pool; /* in pool->turns */
    uint32_t *spans;       /* ticks, by serial number - first; NULL: leases are not timed */
} cueball__turn;

/* One thread at one pool.  Made when the thread first claims there, and freed by the
 * thread: libc's memory, since it may outlive the pool. */
struct cueball__claimer {
    _Atomic(cueball_threaded *) pool; /* NULL: freed */
    cueball__claimer *next;           /* of the same thread */
    uint64_t thread;                  /* cueball__thread_number() */
    cueball__link at_pool;            /* in pool->claimers; with the process's lock */
    cueball__link loans;              /* what it holds */
    cueball__turn turn;
    cueball__waiter waiter;
    cueball__sleeper sleeper;
};

/* The lease that has been out for longest, as far as was seen: see holder.c. */
typedef struct cueball__oldest {
    uint32_t slot;
    cueball_handle lease; /* 0: none was */
    cueball_time looked_at;
} cueball__oldest;

struct cueball_threaded {
    /* what a turn reads: */
    atomic_bool is_wanted; /* connections are: somebody waits, or the pool stops, or is paused */
    bool clocks, inspects;
    bool host_is_woken;
    uint32_t turn_leases;
    atomic_uint_fast64_t short_ticks, overtake_ticks; /* see turn.c */
    /* the rest: */
    cueball_pool *core; /* NULL once the host has let go */
    const cueball_outlook *outlook;
    pthread_mutex_t mutex;
    atomic_uintptr_t locked_by; /* the thread between lock and unlock, see cueball__thread_id(); 0: none */
    uint32_t lock_depth;
    uint32_t generation; /* see cueball__process_generation() */
    atomic_uint references;
    cueball__memory memory;
    int32_t wake_fd, watch_fd;

    cueball_loan **by_slot; /* open connections */
    uint32_t slots_max, failures_count;
    cueball__link loans, spare_loans, orphans;
    cueball__link detached; /* held by nobody in particular */
    cueball__link claimers;
    cueball__link turns;
    cueball_time turn_span; /* 0: there are none */
    cueball__rate rate;     /* of ticks */
    bool ends_turns;        /* the pool stops, or is paused */

    atomic_uintptr_t host;      /* the host's thread */
    cueball_time told_deadline; /* what the host was told last */
    cueball_action *answers;    /* for the host's own claims: a ring */
    uint32_t answers_max, answers_first, answers_count;
    cueball__link returns;  /* loans */
    cueball__link failures; /* what claimers said of leases that they failed */
    char note[256];
    cueball__oldest oldest;

    char *name;
    cueball__link at_names; /* names.c */
};

/* The core's name for a waiter: the top bit says that it is one. */
static inline uint64_t cueball__user_of_waiter(const cueball__waiter *waiter)
{
    return (uint64_t)(uintptr_t)waiter | UINT64_C(1) << 63;
}

static inline bool cueball__user_is_waiter(uint64_t user)
{
    return user >> 63;
}

static inline cueball__waiter *cueball__waiter_of_user(uint64_t user)
{
    assert(cueball__user_is_waiter(user));
    return (cueball__waiter *)(uintptr_t)(user & ~(UINT64_C(1) << 63));
}

static inline uint64_t cueball__word(uint64_t serial, uint64_t state)
{
    assert(state < LOAN_STATES);
    return serial * LOAN_STATES + state;
}

#endif
