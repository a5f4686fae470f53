#include "backoff.h"

#include <math.h>

cueball_time cueball__ns_from_ms(double ms)
{
    if (isinf(ms))
        return CUEBALL_NEVER;
    cueball_time span = (cueball_time)(ms * 1e6 + 0.5);
    return span == 0 && ms > 0 ? 1 : span;
}

cueball__patience cueball__patience_from(const cueball_recovery *recovery)
{
    return (cueball__patience){ .attempts = recovery->attempts,
                                .timeout = cueball__ns_from_ms(recovery->timeout_ms),
                                .timeout_max = cueball__ns_from_ms(recovery->max_timeout_ms),
                                .delay = cueball__ns_from_ms(recovery->delay_ms),
                                .delay_max = cueball__ns_from_ms(recovery->max_delay_ms),
                                .spread = recovery->spread,
                                .jitter = recovery->jitter };
}

static cueball_time doubled(const cueball__patience *patience, uint32_t attempt, cueball_time start, cueball_time limit)
{
    uint32_t doublings = (attempt < patience->attempts ? attempt : patience->attempts) - 1;
    if (start == 0)
        return 0;
    while (doublings-- > 0 && start < limit) /* a limit is at most a day, so this cannot run over */
        start *= 2;
    return start < limit ? start : limit;
}

cueball_time cueball__patience_limit(const cueball__patience *patience, uint32_t attempt)
{
    return doubled(patience, attempt, patience->timeout, patience->timeout_max);
}

cueball_time cueball__patience_delay(const cueball__patience *patience, uint32_t attempt)
{
    return doubled(patience, attempt, patience->delay, patience->delay_max);
}

cueball_time cueball__patience_pause(const cueball__patience *patience, uint32_t attempt, cueball_time last, cueball__random *random)
{
    cueball_time nominal = cueball__patience_delay(patience, attempt);
    if (patience->jitter == CUEBALL_JITTER_SPREAD) {
        if (patience->spread <= 0 || nominal == 0)
            return nominal;
        return (cueball_time)((double)nominal * (1 - patience->spread / 2 + patience->spread * cueball__random_unit(random)));
    }
    if (patience->jitter == CUEBALL_JITTER_FULL)
        return (cueball_time)((double)nominal * cueball__random_unit(random));
    double low = (double)patience->delay;
    double from = attempt > 1 && last > patience->delay ? (double)last : low;
    double drawn = low + (3 * from - low) * cueball__random_unit(random);
    double most = (double)cueball__patience_delay(patience, patience->attempts);
    return (cueball_time)(drawn < most ? drawn : most);
}
