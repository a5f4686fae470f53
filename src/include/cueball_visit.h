/* Visits: somebody who claims from several pools and may end at any moment, of
 * whose end is known no more than a pointer: a request of a web server, told by
 * a cleanup function that the server calls from C.
 *
 * The happy path: a visit has a visitor for each pool it claimed from, with an
 * owner there.  When it is over, what its visitors had ends with their pools'
 * next inputs, and they are hung on a doorbell, which is rung once: somebody
 * then tells those pools that time has gone by.
 *
 * All of this is the caller's memory, and allocates nothing.  A visitor may be
 * used again, for the next visit, while it still hangs on the doorbell.
 */
#ifndef CUEBALL_VISIT_H
#define CUEBALL_VISIT_H

#include "cueball.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One claimer from one pool. */
typedef struct cueball_visitor {
    cueball_owner *owner;
    struct cueball_visitor *next;       /* of the same visit */
    struct cueball_visitor *next_ended; /* on the doorbell */
    uint32_t pool;                      /* the caller's own: which one */
    uint32_t has_ended;                 /* it hangs on the doorbell */
    uint32_t visit;                     /* the caller's own: which visit it is part of */
    uint32_t reserved;
} cueball_visitor;

/* Where whoever looks after the pools waits.  To take what hangs there, put NULL
 * in `ended`, and 0 in `has_ended` of each. */
typedef struct cueball_doorbell {
    cueball_visitor *ended;             /* those that had something, the latest first */
    int (*ring)(void *user, int count); /* NULL: nobody waits.  Called, with count 1, when `ended` was empty */
    void *user;
} cueball_doorbell;

typedef struct cueball_visit {
    cueball_visitor *first;
    cueball_doorbell *bell;
    uint32_t is_over; /* set by cueball_visit_over() */
    uint32_t reserved;
} cueball_visit;

/* The visit is over.  `visit` is a cueball_visit *; nothing else is passed, so that
 * this can be a cleanup function.  O(visitors).  Its memory stays the caller's.
 * Threads: for each pool that was visited this counts as one of its functions. */
CUEBALL_API void cueball_visit_over(void *visit);

#ifdef __cplusplus
}
#endif

#endif
