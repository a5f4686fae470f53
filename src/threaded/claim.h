#ifndef CUEBALL_THREADED_CLAIM_H
#define CUEBALL_THREADED_CLAIM_H

#include "state.h"

/* What is known of a claim that waits. */
typedef struct cueball__wait {
    cueball_handle claim;
    cueball_time deadline; /* when it is refused */
    bool is_overtaken;     /* other threads have turns */
} cueball__wait;

/* Reads the options as far as they go; NULL: the defaults.  false, and cueball_last_error()
 * says why: they make no sense. */
bool cueball__claim_options_read(cueball_threaded_claim_options *whole, const cueball_threaded_claim_options *given);
/* Claims for a new waiter, and does not sleep.  CUEBALL_OK: *lease.  CUEBALL_WAITING: the waiter is
 * told its answer, perhaps before this returns; *wait.  Else the error, with its text. */
int cueball__claim_begin(cueball_threaded *pool, cueball__waiter *waiter, const cueball_threaded_claim_options *options,
                         cueball_lease *lease, cueball__wait *wait);
/* What the claimer gets of the connection that the waiter got. */
void cueball__claim_fill(cueball_lease *lease, const cueball__waiter *waiter);
/* A connection that rested may have broken since: then it is not for the claimer, and
 * *lease is over. */
bool cueball__claim_is_broken(cueball_lease *lease);
/* Why the waiter got nothing, for cueball_last_error(); returns `error`. */
int cueball__claim_refused(cueball_threaded *pool, int error, const cueball__waiter *waiter);

#endif
