#ifndef CUEBALL_THREADED_HOLDER_H
#define CUEBALL_THREADED_HOLDER_H

#include "state.h"

enum { CUEBALL__HOLDER_SIZE = 256 };

/* The lease that has been out for longest, and who has it: "; the oldest lease, on db1, is held 5200 ms by thread 4711
 * (worker)"; "": none is known.  Without the lock. */
void cueball__holder_explain(cueball_threaded *pool, char text[CUEBALL__HOLDER_SIZE]);

#endif
