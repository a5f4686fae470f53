/* How long a tick is.  The two clocks cannot be read at one moment, and a thread may be held up between the two readings
 * for long: each reading knows how far apart they may be, and what is too doubtful is not used. */
#ifndef CUEBALL_THREADED_RATE_H
#define CUEBALL_THREADED_RATE_H

#include "cueball_types.h"

/* Both clocks, `ticks` at some time between the two. */
typedef struct cueball__both_clocks {
    cueball_time before, after;
    uint64_t ticks;
} cueball__both_clocks;

typedef struct cueball__rate {
    cueball__both_clocks base;
    cueball_time measured; /* how long it was measured for; 0: it is not known yet */
    double tick_ns;
} cueball__rate;

/* The best of a few readings. */
cueball__both_clocks cueball__clocks_read(void);
void cueball__rate_init(cueball__rate *rate, const cueball__both_clocks *clocks);
/* Measures once more, if that would tell more; the doubtful is passed over. */
void cueball__rate_measure(cueball__rate *rate, const cueball__both_clocks *clocks);
/* Nanoseconds of one tick, known to 1 in 100; 0: not yet.  Reads the clocks if it is time to. */
double cueball__rate_at(cueball__rate *rate, cueball_time now);

#endif
