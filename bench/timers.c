/* What a timer costs.
 *
 *     cc -std=c11 -O2 -DNDEBUG -Isrc/include -Isrc/core bench/timers.c src/core/kit/timers.c src/core/kit/random.c build/libcueball.a
 */
#include "kit/random.h"
#include "kit/timers.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define TIMERS ((uint32_t)1000000)
#define SPARES ((uint32_t)2000) /* more of them, as some fire a step after their time */
#define MS ((cueball_time)1000000)
#define SECOND (1000 * MS)

static cueball__timers wheel;
static cueball__random chance;

static void report(const char *what, cueball_time start, uint64_t operations)
{
    double ns = (double)(cueball_clock_now() - start) / (double)operations;
    printf("%-64s %8.1f ns\n", what, ns);
}

static uint64_t fire(cueball_time now)
{
    uint64_t fired = 0;
    cueball__timers_collect(&wheel, now);
    while (cueball__timers_take(&wheel) != NULL)
        fired++;
    return fired;
}

/* A claim's time limit: armed and mostly cancelled, beside a million others. */
static void bench_cancel(cueball__timer *timers)
{
    enum { ROUNDS = 20 };
    cueball_time now = SECOND;
    cueball__timers_init(&wheel, now);
    for (uint32_t i = 0; i < TIMERS; i++)
        cueball__timers_arm(&wheel, &timers[i], now + cueball__random_below(&chance, 60 * SECOND));

    cueball__timer one = { .kind = 1 };
    cueball_time start = cueball_clock_now();
    for (uint32_t i = 0; i < ROUNDS * TIMERS; i++) {
        cueball__timers_arm(&wheel, &one, now + SECOND + i);
        cueball__timers_cancel(&wheel, &one);
    }
    report("arm + cancel one timer, 1,000,000 others armed", start, ROUNDS * TIMERS);

    start = cueball_clock_now();
    for (uint32_t i = 0; i < ROUNDS * TIMERS; i++) {
        uint32_t at = (uint32_t)cueball__random_below(&chance, TIMERS);
        cueball__timers_cancel(&wheel, &timers[at]);
        cueball__timers_arm(&wheel, &timers[at], now + SECOND + i);
    }
    report("cancel + arm any of 1,000,000 timers, at random", start, ROUNDS * TIMERS);

    for (uint32_t i = 0; i < TIMERS; i++)
        cueball__timers_cancel(&wheel, &timers[i]);
}

/* One time limit for all, armed as time goes by: 1000 in each ms. */
static void bench_fire(cueball__timer *timers, bool is_spread)
{
    enum { ROUNDS = 5 };
    const uint32_t each = TIMERS / 1000;
    cueball_time now = 3 * SECOND;
    uint64_t fired = 0, armed = 0;
    cueball__timers_init(&wheel, now);
    cueball_time start = cueball_clock_now();
    for (uint32_t step = 0; step < ROUNDS * 1000; step++) {
        fired += fire(now);
        for (uint32_t i = 0; i < each; i++) {
            cueball__timers_arm(&wheel, &timers[armed % (TIMERS + SPARES)], now + SECOND + (is_spread ? i * (MS / each) : 0));
            armed++;
        }
        now += MS;
    }
    while (wheel.count > 0) {
        fired += fire(now);
        now += MS;
    }
    report(is_spread ? "arm + fire, limit of 1 s, 1,000,000 armed, 1 us apart" : "arm + fire, limit of 1 s, 1,000,000 armed, 1000 a ms",
           start, armed);
    if (fired != armed)
        printf("lost: %" PRIu64 " of %" PRIu64 "\n", armed - fired, armed);
}

/* No order to make use of: limits from 0 to 10 s at random. */
static void bench_random(cueball__timer *timers)
{
    cueball_time now = 3 * SECOND;
    uint64_t fired = 0;
    cueball__timers_init(&wheel, now);
    cueball_time start = cueball_clock_now();
    for (uint32_t i = 0; i < TIMERS; i++)
        cueball__timers_arm(&wheel, &timers[i], now + cueball__random_below(&chance, 10 * SECOND));
    report("arm 1,000,000, limits of 0 to 10 s at random", start, TIMERS);

    start = cueball_clock_now();
    while (wheel.count > 0) {
        now += MS;
        fired += fire(now);
    }
    report("fire 1,000,000, limits of 0 to 10 s at random, by 1 ms", start, fired);
}

static void bench_deadline(cueball__timer *timers)
{
    cueball_time now = 3 * SECOND, sum = 0;
    cueball__timers_init(&wheel, now);
    for (uint32_t i = 0; i < TIMERS; i++)
        cueball__timers_arm(&wheel, &timers[i], now + SECOND + i);
    cueball_time start = cueball_clock_now();
    for (uint32_t i = 0; i < TIMERS; i++) {
        cueball__timers_cancel(&wheel, &timers[i]);
        sum += cueball__timers_deadline(&wheel);
    }
    report("cancel the earliest + ask for the deadline", start, TIMERS);
    if (sum == 0)
        printf("impossible\n");
}

int main(void)
{
    cueball__timer *timers = calloc(TIMERS + SPARES, sizeof *timers);
    if (timers == NULL)
        return 1;
    cueball__random_init(&chance, 1);
    bench_cancel(timers);
    bench_fire(timers, false);
    bench_fire(timers, true);
    bench_random(timers);
    bench_deadline(timers);
    free(timers);
    return 0;
}
