/* The histogram against a sorted array, and chance against what is known of it.
 *
 *     cc -std=c11 -Isrc/include -Isrc/core spec/core/histogram_test.c src/core/kit/histogram.c src/core/kit/random.c
 */
#include "kit/histogram.h"
#include "kit/random.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int failures;

#define EXPECT(that, ...)                                                                                                                  \
    do {                                                                                                                                   \
        if (!(that)) {                                                                                                                     \
            printf("line %d: %s: ", __LINE__, #that);                                                                                      \
            printf(__VA_ARGS__);                                                                                                           \
            printf("\n");                                                                                                                  \
            failures++;                                                                                                                    \
        }                                                                                                                                  \
    } while (0)

static int number_compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void test_empty_and_edges(void)
{
    static cueball__histogram h;
    cueball__histogram_init(&h);
    EXPECT(!(cueball__histogram_quantile(&h, 0.5) > 0), "empty");
    cueball__histogram_add(&h, 0);
    EXPECT(!(cueball__histogram_quantile(&h, 1) > 0), "zero");
    for (uint64_t ns = 0; ns < 32; ns++) {
        cueball__histogram_init(&h);
        cueball__histogram_add(&h, ns);
        cueball__histogram_add(&h, 100);
        EXPECT(fabs(cueball__histogram_quantile(&h, 0.5) - (double)ns) < 1e-9, "%" PRIu64 " is exact", ns);
    }
    cueball__histogram_init(&h);
    cueball__histogram_add(&h, UINT64_MAX);
    cueball__histogram_add(&h, UINT64_MAX - 1);
    cueball__histogram_add(&h, CUEBALL__HISTOGRAM_LARGEST);
    EXPECT(cueball__histogram_quantile(&h, 0.1) > 0x1p51, "clamped");
    EXPECT(cueball__histogram_quantile(&h, 0.1) < 0x1p52, "clamped");
    EXPECT(h.max == UINT64_MAX, "%" PRIu64, h.max);
    EXPECT(cueball__histogram_bucket(CUEBALL__HISTOGRAM_LARGEST) == CUEBALL__HISTOGRAM_BUCKETS - 1, "the last bucket");
    EXPECT(cueball__histogram_quantile(&h, -1) > 0, "below 0");
    EXPECT(cueball__histogram_quantile(&h, 2) > 0, "above 1");
    EXPECT(cueball__histogram_quantile(&h, (double)NAN) > 0, "not a number");
}

/* Buckets follow each other without a gap and without going back. */
static void test_buckets(void)
{
    uint32_t before = 0;
    for (uint64_t ns = 1; ns < UINT64_C(1) << 16; ns++) {
        uint32_t bucket = cueball__histogram_bucket(ns);
        EXPECT(bucket - before <= 1, "%" PRIu64, ns);
        before = bucket;
    }
    for (uint32_t bit = 5; bit < 52; bit++) {
        uint64_t power = UINT64_C(1) << bit;
        EXPECT(cueball__histogram_bucket(power) == cueball__histogram_bucket(power - 1) + 1, "2^%" PRIu32, bit);
    }
}

static void test_random_values(uint64_t seed)
{
    enum { VALUES_MAX = 2000 };
    static uint64_t values[VALUES_MAX];
    static cueball__histogram h;
    cueball__random random;
    cueball__random_init(&random, seed);
    cueball__histogram_init(&h);
    uint32_t count = 1 + (uint32_t)cueball__random_below(&random, VALUES_MAX);
    uint64_t bits = 1 + cueball__random_below(&random, 52);
    for (uint32_t i = 0; i < count; i++) {
        values[i] = cueball__random_next(&random) >> (64 - 1 - cueball__random_below(&random, bits));
        cueball__histogram_add(&h, values[i]);
    }
    qsort(values, count, sizeof values[0], number_compare);
    EXPECT(h.total == count, "seed %" PRIu64, seed);
    EXPECT(h.max == values[count - 1], "seed %" PRIu64, seed);
    for (uint32_t i = 0; i <= 1000; i++) {
        double q = i / 1000.0;
        double rank = ceil(q * count);
        double exact = (double)values[rank < 1 ? 0 : (uint32_t)rank - 1];
        double found = cueball__histogram_quantile(&h, q);
        EXPECT(fabs(found - exact) <= exact / 32, "seed %" PRIu64 ", q %g: %g, not %g", seed, q, found, exact);
        EXPECT(found <= (double)h.max, "seed %" PRIu64 ", q %g: %g above %" PRIu64, seed, q, found, h.max);
    }
}

/* The first numbers of splitmix64 with the seed 1234567, as published. */
static void test_random_known(void)
{
    static const uint64_t known[] = { UINT64_C(6457827717110365317), UINT64_C(3203168211198807973), UINT64_C(9817491932198370423),
                                      UINT64_C(4593380528125082431), UINT64_C(16408922859458223821) };
    cueball__random random;
    cueball__random_init(&random, 1234567);
    for (uint32_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        uint64_t drawn = cueball__random_next(&random);
        EXPECT(drawn == known[i], "number %" PRIu32 ": %" PRIu64, i, drawn);
    }
}

static void test_random_even(void)
{
    enum { DRAWS = 100000 };
    cueball__random random;
    cueball__random_init(&random, 0);
    for (uint32_t i = 0; i < 100; i++)
        EXPECT(cueball__random_below(&random, 1) == 0, "below 1");
    for (uint32_t bound = 2; bound <= 13; bound++) {
        uint32_t counts[13] = { 0 };
        for (uint32_t i = 0; i < DRAWS; i++) {
            uint64_t drawn = cueball__random_below(&random, bound);
            EXPECT(drawn < bound, "%" PRIu64 " below %" PRIu32, drawn, bound);
            counts[drawn % 13]++;
        }
        double expected = (double)DRAWS / bound;
        for (uint32_t i = 0; i < bound; i++)
            EXPECT(fabs(counts[i] - expected) < 5 * sqrt(expected), "%" PRIu32 " of %" PRIu32 ": %" PRIu32, i, bound, counts[i]);
    }
    /* Where the modulo alone would be visibly unfair: 2 to 1. */
    uint64_t bound = UINT64_C(3) << 62, low = 0;
    for (uint32_t i = 0; i < DRAWS; i++)
        low += cueball__random_below(&random, bound) < UINT64_C(1) << 62;
    EXPECT(fabs((double)low - DRAWS / 3.0) < 5 * sqrt(DRAWS / 3.0), "%" PRIu64, low);

    double sum = 0;
    for (uint32_t i = 0; i < DRAWS; i++) {
        double unit = cueball__random_unit(&random);
        EXPECT(unit >= 0, "%g", unit);
        EXPECT(unit < 1, "%g", unit);
        sum += unit;
    }
    EXPECT(fabs(sum / DRAWS - 0.5) < 0.005, "%g", sum / DRAWS);
}

int main(void)
{
    test_empty_and_edges();
    test_buckets();
    for (uint64_t seed = 1; seed <= 200; seed++)
        test_random_values(seed);
    test_random_known();
    test_random_even();
    printf("%d failures\n", failures);
    return failures > 0;
}
