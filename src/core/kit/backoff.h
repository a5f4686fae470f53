/* One operation's recovery, in nanoseconds: how long attempt k may take, and how
 * long the pause after it is. */
#ifndef CUEBALL_CORE_BACKOFF_H
#define CUEBALL_CORE_BACKOFF_H

#include "cueball_types.h"

#include "random.h"

typedef struct cueball__backoff {
    uint32_t attempts;
    cueball_time timeout, timeout_max, delay, delay_max;
    double spread;
    int32_t jitter; /* cueball_jitter */
} cueball__backoff;

/* Less than a nanosecond, but not 0, is one; INFINITY is CUEBALL_NEVER. */
cueball_time cueball__ns_from_ms(double ms);
cueball__backoff cueball__backoff_from(const cueball_recovery *recovery);
/* min(timeout * 2^(attempt-1), timeout_max); attempts count from 1, and beyond the
 * last of them it stays as it is. */
cueball_time cueball__backoff_limit(const cueball__backoff *backoff, uint32_t attempt);
/* min(delay * 2^(attempt-1), delay_max), likewise. */
cueball_time cueball__backoff_delay(const cueball__backoff *backoff, uint32_t attempt);
/* The same, as chance has it; `last` is the pause
 * before, which decorrelated ones grow from. */
cueball_time cueball__backoff_pause(const cueball__backoff *backoff, uint32_t attempt, cueball_time last, cueball__random *random);
/* The same for a chance that was drawn elsewhere: 0 <= chance < 1. */
cueball_time cueball__backoff_pause_of(const cueball__backoff *backoff, uint32_t attempt, cueball_time last, double chance);

#endif
