#ifndef CUEBALL_THREADED_TOLD_H
#define CUEBALL_THREADED_TOLD_H

#include "state.h"

/* All with the lock. */
void cueball__failure_tell(cueball_threaded *pool, const cueball_loan *loan, const char *why);
bool cueball__told_next(cueball_threaded *pool, cueball_return *what);
void cueball__failures_free(cueball_threaded *pool);

#endif
