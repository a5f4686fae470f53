#include "backoff.h"

#include <math.h>

cueball_time cueball__ns_from_ms(double ms)
{
    if (isinf(ms))
        return CUEBALL_NEVER;
    cueball_time span = (cueball_time)(ms * 1e6 + 0.5);
    return span == 0 && ms > 0 ? 1 : span;
}

cueball__backoff cueball__backoff_from(const cueball_recovery *recovery)
{
    return (cueball__backoff){ .attempts = recovery->attempts,
                               .timeout = cueball__ns_from_ms(recovery->timeout_ms),
                               .timeout_max = cueball__ns_from_ms(recovery->max_timeout_ms),
                               .delay = cueball__ns_from_ms(recovery->delay_ms),
                               .delay_max = cueball__ns_from_ms(recovery->max_delay_ms),
                               .spread = recovery->spread,
                               .jitter = recovery->jitter };
}

static cueball_time doubled(const cueball__backoff *backoff, uint32_t attempt, cueball_time start, cueball_time limit)
{
    uint32_t doublings = (attempt < backoff->attempts ? attempt : backoff->attempts) - 1;
    if (start == 0)
        return 0;
    while (doublings-- > 0 && start < limit) /* a limit is at most a day, so this cannot run over */
        start *= 2;
    return start < limit ? start : limit;
}

cueball_time cueball__backoff_limit(const cueball__backoff *backoff, uint32_t attempt)
{
    return doubled(backoff, attempt, backoff->timeout, backoff->timeout_max);
}

cueball_time cueball__backoff_delay(const cueball__backoff *backoff, uint32_t attempt)
{
    return doubled(backoff, attempt, backoff->delay, backoff->delay_max);
}

cueball_time cueball__backoff_pause(const cueball__backoff *backoff, uint32_t attempt, cueball_time last, cueball__random *random)
{
    bool is_certain = backoff->jitter == CUEBALL_JITTER_SPREAD && (backoff->spread <= 0 || cueball__backoff_delay(backoff, attempt) == 0);
    return cueball__backoff_pause_of(backoff, attempt, last, is_certain ? 0.5 : cueball__random_unit(random));
}

cueball_time cueball__backoff_pause_of(const cueball__backoff *backoff, uint32_t attempt, cueball_time last, double chance)
{
    cueball_time nominal = cueball__backoff_delay(backoff, attempt);
    if (backoff->jitter == CUEBALL_JITTER_SPREAD)
        return backoff->spread <= 0 ? nominal : (cueball_time)((double)nominal * (1 - backoff->spread / 2 + backoff->spread * chance));
    if (backoff->jitter == CUEBALL_JITTER_FULL)
        return (cueball_time)((double)nominal * chance);
    double low = (double)backoff->delay;
    double from = attempt > 1 && last > backoff->delay ? (double)last : low;
    double drawn = low + (3 * from - low) * chance;
    double most = (double)cueball__backoff_delay(backoff, backoff->attempts);
    return (cueball_time)(drawn < most ? drawn : most);
}
