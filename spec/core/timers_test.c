/* The wheel against a plain list that is searched from end to end, under random
 * operations.  Arguments: first seed, number of seeds.
 *
 *     cc -std=c11 -Isrc/include -Isrc/core spec/core/timers_test.c src/core/kit/timers.c src/core/kit/random.c
 */
#include "kit/random.h"
#include "kit/timers.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMERS_MAX = 300, STEPS = 3000 };

typedef enum { UNARMED, ARMED, DUE } state;

/* What the list knows of a timer. */
typedef struct {
    state state;
    cueball_time deadline;
    uint64_t armed_as; /* number of the arming */
} shadow;

typedef struct {
    cueball__random random;
    cueball__timers wheel;
    cueball__timer timers[TIMERS_MAX];
    shadow shadows[TIMERS_MAX];
    uint32_t count;
    cueball_time now;
    uint64_t armings;
    uint64_t seed, step;
    int failures;
} world;

#define EXPECT(that, ...)                                                                                                                  \
    do {                                                                                                                                   \
        if (!(that)) {                                                                                                                     \
            printf("seed %" PRIu64 ", step %" PRIu64 ": %s: ", w->seed, w->step, #that);                                                   \
            printf(__VA_ARGS__);                                                                                                           \
            printf("\n");                                                                                                                  \
            w->failures++;                                                                                                                 \
        }                                                                                                                                  \
    } while (0)

static cueball_time add_clamped(cueball_time a, cueball_time b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* Any magnitude is as likely as any other. */
static uint64_t random_span(world *w, uint64_t bits)
{
    return cueball__random_next(&w->random) >> (63 - cueball__random_below(&w->random, bits));
}

/* The first of a state in order of deadline, then arming; count if there is none. */
static uint32_t shadow_first(const world *w, state wanted)
{
    uint32_t first = w->count;
    for (uint32_t i = 0; i < w->count; i++) {
        const shadow *s = &w->shadows[i];
        if (s->state != wanted)
            continue;
        if (first == w->count || s->deadline < w->shadows[first].deadline
            || (s->deadline == w->shadows[first].deadline && s->armed_as < w->shadows[first].armed_as))
            first = i;
    }
    return first;
}

static void do_arm(world *w, uint64_t bits)
{
    uint32_t i = (uint32_t)cueball__random_below(&w->random, w->count);
    cueball_time deadline;
    switch (cueball__random_below(&w->random, 12)) {
    case 0:
        deadline = CUEBALL_NEVER;
        break;
    case 1:
        deadline = CUEBALL_NEVER - 1 - cueball__random_below(&w->random, 3);
        break;
    case 2:
        deadline = w->now - cueball__random_below(&w->random, w->now < 100 ? w->now + 1 : 100);
        break;
    case 3:
        deadline = w->now;
        break;
    case 4:
        deadline = w->shadows[cueball__random_below(&w->random, w->count)].deadline;
        break;
    case 5:
        deadline = add_clamped(w->now, 1000);
        break;
    default:
        deadline = add_clamped(w->now, random_span(w, bits));
    }
    cueball__timers_arm(&w->wheel, &w->timers[i], deadline);

    shadow *s = &w->shadows[i];
    s->state = deadline == CUEBALL_NEVER ? UNARMED : ARMED;
    s->deadline = w->timers[i].deadline; /* perhaps clamped, which is looked at here: */
    if (s->state == ARMED) {
        EXPECT(s->deadline == (deadline < w->wheel.current ? w->wheel.current : deadline), "%" PRIu64, s->deadline);
        EXPECT(w->wheel.current <= w->now, "%" PRIu64, w->wheel.current);
    }
    s->armed_as = w->armings++;
}

static void do_cancel(world *w)
{
    uint32_t i = (uint32_t)cueball__random_below(&w->random, w->count);
    cueball__timers_cancel(&w->wheel, &w->timers[i]);
    w->shadows[i].state = UNARMED;
}

static void do_take(world *w)
{
    cueball__timer *taken = cueball__timers_take(&w->wheel);
    uint32_t first = shadow_first(w, DUE);
    if (first == w->count) {
        EXPECT(taken == NULL, "took %d", (int)(taken - w->timers));
        return;
    }
    EXPECT(taken == &w->timers[first], "took %d, due was %" PRIu32, taken == NULL ? -1 : (int)(taken - w->timers), first);
    w->shadows[first].state = UNARMED;
    if (taken != NULL)
        w->shadows[taken - w->timers].state = UNARMED;
}

static void do_collect(world *w, uint64_t bits)
{
    uint32_t next = shadow_first(w, ARMED);
    cueball_time asked;
    switch (cueball__random_below(&w->random, 6)) {
    case 0:
        asked = w->now;
        break;
    case 1:
        asked = w->now / 2;
        break; /* behind: as now */
    case 2:
        asked = next < w->count ? w->shadows[next].deadline : w->now;
        break;
    case 3:
        asked = next < w->count && w->shadows[next].deadline > w->now ? w->shadows[next].deadline - 1 : w->now;
        break;
    case 4:
        asked = cueball__timers_deadline(&w->wheel);
        break;
    default:
        asked = add_clamped(w->now, random_span(w, bits));
    }
    /* To the end of time but seldom: there is nothing after it. */
    if (asked >= CUEBALL_NEVER - 4 && cueball__random_below(&w->random, 50) != 0)
        asked = w->now;
    cueball__timers_collect(&w->wheel, asked);
    if (asked > w->now)
        w->now = asked;
    for (uint32_t i = 0; i < w->count; i++) {
        if (w->shadows[i].state == ARMED && w->shadows[i].deadline <= w->now)
            w->shadows[i].state = DUE;
    }
}

static void check(world *w)
{
    uint32_t armed = 0, near = 0;
    uint32_t due = shadow_first(w, DUE), next = shadow_first(w, ARMED);
    for (uint32_t i = 0; i < w->count; i++) {
        bool is_armed = w->shadows[i].state != UNARMED;
        EXPECT(cueball__timer_is_armed(&w->timers[i]) == is_armed, "timer %" PRIu32, i);
        armed += is_armed;
        near += w->shadows[i].state == ARMED;
    }
    EXPECT(w->wheel.count == armed, "%zu, not %" PRIu32, w->wheel.count, armed);
    if (next < w->count)
        EXPECT(w->wheel.earliest <= w->shadows[next].deadline, "%" PRIu64, w->wheel.earliest);

    cueball_time before = w->wheel.earliest;
    cueball_time deadline = cueball__timers_deadline(&w->wheel);
    EXPECT(deadline == cueball__timers_deadline(&w->wheel), "asked twice");
    EXPECT(w->wheel.earliest >= before, "%" PRIu64 " went back to %" PRIu64, before, w->wheel.earliest);
    if (due < w->count) {
        EXPECT(deadline <= w->now, "%" PRIu64, deadline);
    } else if (next == w->count) {
        EXPECT(deadline == CUEBALL_NEVER, "%" PRIu64, deadline);
    } else {
        cueball_time exact = w->shadows[next].deadline;
        EXPECT(deadline <= exact, "%" PRIu64 ", not %" PRIu64, deadline, exact);
        if (near <= 16)
            EXPECT(deadline == exact, "%" PRIu64 ", not %" PRIu64, deadline, exact);
    }
}

/* Sleeping until the deadline must come to an end, and soon. */
static void drain(world *w)
{
    for (uint32_t round = 0; w->wheel.count > 0; round++) {
        EXPECT(round < w->count * CUEBALL__TIMERS_LEVELS + 2, "%zu left", w->wheel.count);
        if (w->failures > 0)
            return;
        cueball_time asked = cueball__timers_deadline(&w->wheel);
        EXPECT(round == 0 || asked > w->now || w->wheel.current < w->now, "no progress at %" PRIu64, asked);
        cueball__timers_collect(&w->wheel, asked);
        if (asked > w->now)
            w->now = asked;
        for (uint32_t i = 0; i < w->count; i++) {
            if (w->shadows[i].state == ARMED && w->shadows[i].deadline <= w->now)
                w->shadows[i].state = DUE;
        }
        while (shadow_first(w, DUE) < w->count && w->failures == 0)
            do_take(w);
        do_take(w);
    }
    EXPECT(cueball__timers_deadline(&w->wheel) == CUEBALL_NEVER, "something left");
}

static int run(uint64_t seed)
{
    static world it;
    world *w = &it;
    memset(w, 0, sizeof *w);
    w->seed = seed;
    cueball__random_init(&w->random, seed);
    w->count = 1 + (uint32_t)cueball__random_below(&w->random, seed % 3 == 0 ? 8 : TIMERS_MAX);
    w->now = seed % 5 == 0 ? UINT64_MAX - random_span(w, 40) : random_span(w, 60);
    cueball__timers_init(&w->wheel, w->now);
    uint64_t bits = 1 + cueball__random_below(&w->random, 64), jump = 1 + cueball__random_below(&w->random, bits);
    uint64_t arms = 1 + cueball__random_below(&w->random, 10), cancels = cueball__random_below(&w->random, 6);
    uint64_t takes = 1 + cueball__random_below(&w->random, 10), collects = 1 + cueball__random_below(&w->random, 3);
    for (w->step = 0; w->step < STEPS && w->failures == 0; w->step++) {
        uint64_t what = cueball__random_below(&w->random, arms + cancels + takes + collects);
        if (what < arms)
            do_arm(w, bits);
        else if (what < arms + cancels)
            do_cancel(w);
        else if (what < arms + cancels + takes)
            do_take(w);
        else
            do_collect(w, jump);
        check(w);
    }
    if (w->failures == 0)
        drain(w);
    return w->failures;
}

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t seeds = argc > 2 ? strtoull(argv[2], NULL, 10) : 200;
    int failures = 0;
    printf("seeds %" PRIu64 " to %" PRIu64 "\n", first, first + seeds - 1);
    for (uint64_t seed = first; seed < first + seeds && failures < 20; seed++)
        failures += run(seed);
    printf("%d failures\n", failures);
    return failures > 0;
}
