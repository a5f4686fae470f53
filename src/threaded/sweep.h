#ifndef CUEBALL_THREADED_SWEEP_H
#define CUEBALL_THREADED_SWEEP_H

#include "state.h"

/* All with the lock. */
void cueball__turns_end(cueball_threaded *pool);
void cueball__turns_reclaim(cueball_threaded *pool, uint32_t most, cueball_time now);
void cueball__turns_reclaim_for(cueball_threaded *pool, cueball_time now);
void cueball__turns_sweep(cueball_threaded *pool, cueball_time now);

#endif
