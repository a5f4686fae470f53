/* Deadlines: a hierarchical timing wheel (G. Varghese, A. Lauck, "Hashed and
 * Hierarchical Timing Wheels", SOSP 1987).  Its tick is one nanosecond, so a
 * timer fires exactly when it is due, in order of deadline, and those of one
 * deadline in order of arming.  Arming and cancelling are O(1); firing moves a
 * timer a few times at most; empty time costs nothing, be it years.
 *
 *     cueball__timers_collect(&timers, now);
 *     while ((timer = cueball__timers_take(&timers)) != NULL)
 *         ...act on it...
 *
 * collect() takes all that are due before any is acted on: what is armed in
 * that loop fires in a later round, however early its deadline; what is
 * cancelled in that loop does not fire. */
#ifndef CUEBALL_TIMERS_H
#define CUEBALL_TIMERS_H

#include "cueball_types.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CUEBALL__TIMERS_LEVELS 11 /* of 6 bits each: 64 bits and to spare */
#define CUEBALL__TIMERS_BUCKETS 64

/* Lives in what it is a timer of; all zero is a timer that is not armed. */
typedef struct cueball__timer {
    struct cueball__timer *next, *prev; /* a ring; NULL: not armed */
    cueball_time deadline;              /* never before the wheel's `current` at arming */
    uint32_t kind;                      /* the user's */
    uint32_t place;                     /* which list it is in, see timers.c */
} cueball__timer;

typedef struct cueball__timers {
    cueball_time current;  /* where the wheel stands: nothing in it is due before; at most `now` */
    cueball_time now;      /* the latest that collect() was told */
    cueball_time earliest; /* no deadline is before this one; CUEBALL_NEVER: none */
    size_t count;          /* armed, those on the due list included */
    bool is_exact;         /* `earliest` is a deadline, not just a bound */
    uint64_t occupied[CUEBALL__TIMERS_LEVELS];
    cueball__timer *lists[CUEBALL__TIMERS_LEVELS * CUEBALL__TIMERS_BUCKETS + 1]; /* first ones; last: the due list */
} cueball__timers;

void cueball__timers_init(cueball__timers *timers, cueball_time now);

/* Arms it, or moves it if it is armed.  A deadline in the past fires at the
 * next collect(), whatever its `now`; CUEBALL_NEVER just disarms. */
void cueball__timers_arm(cueball__timers *timers, cueball__timer *timer, cueball_time deadline);
/* Harmless if it is not armed. */
void cueball__timers_cancel(cueball__timers *timers, cueball__timer *timer);

static inline bool cueball__timer_is_armed(const cueball__timer *timer)
{
    return timer->next != NULL;
}

/* Puts all with deadline <= now on the due list, where they can still be
 * cancelled.  A `now` behind an earlier one is taken as that one. */
void cueball__timers_collect(cueball__timers *timers, cueball_time now);
/* The next of the due list, no longer armed; NULL if there is none. */
cueball__timer *cueball__timers_take(cueball__timers *timers);

/* Makes `copy` the same wheel, with the timers that twin_of() returns for those that are
 * armed: copies of them. */
void cueball__timers_copy(cueball__timers *copy, const cueball__timers *timers,
                          cueball__timer *(*twin_of)(void *user, cueball__timer *timer), void *user);

/* When collect() is due; CUEBALL_NEVER if nothing is armed.  Never late; it may
 * be early if more than 16 timers are near each other, and then the collect()
 * at that time comes closer, so a caller that sleeps until it makes progress. */
cueball_time cueball__timers_deadline(cueball__timers *timers);

#endif
