/* A clock that costs as little as can be: it counts at a constant rate that is not
 * known beforehand. */
#ifndef CUEBALL_THREADED_TICKS_H
#define CUEBALL_THREADED_TICKS_H

#include "cueball_types.h"

#if defined __x86_64__ && defined __GNUC__
static inline uint64_t cueball__ticks(void)
{
    return __builtin_ia32_rdtsc();
}
#elif defined __aarch64__ && defined __GNUC__
static inline uint64_t cueball__ticks(void)
{
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
}
#else
static inline uint64_t cueball__ticks(void)
{
    return cueball_clock_now();
}
#endif

#endif
