/* How long things took, in bounded memory: a log-linear histogram as in
 * G. Tene's HdrHistogram.  Each power of two is cut into 16 equal parts, so
 * that a value is known to 1/32 of itself; below 32 ns it is known exactly. */
#ifndef CUEBALL_HISTOGRAM_H
#define CUEBALL_HISTOGRAM_H

#include <stdint.h>

#define CUEBALL__HISTOGRAM_PARTS 16                          /* of a power of two: 2^4 */
#define CUEBALL__HISTOGRAM_LARGEST ((UINT64_C(1) << 52) - 1) /* 52 days; longer ones count as that */
#define CUEBALL__HISTOGRAM_BUCKETS (49 * CUEBALL__HISTOGRAM_PARTS)

typedef struct cueball__histogram {
    uint64_t total; /* values added */
    uint64_t max;   /* the largest, exactly */
    uint64_t usual; /* the same, but at most CUEBALL__HISTOGRAM_LARGEST: up to here it is in a bucket */
    uint64_t counts[CUEBALL__HISTOGRAM_BUCKETS];
} cueball__histogram;

void cueball__histogram_init(cueball__histogram *histogram);

/* The value below which a share of q (0 to 1) lies, in ns: the middle of its
 * bucket, so right to 1/32, and never above the largest value; the largest
 * itself for the last one.  0 when nothing was added. */
double cueball__histogram_quantile(const cueball__histogram *histogram, double q);

/* How many values are at most bounds[i] units of `unit` ns, in counts[i]; `bounds` ascend.  A
 * value counts as the largest of its bucket.  Returns the sum of all values, right to
 * 1/32, which never falls. */
double cueball__histogram_below(const cueball__histogram *histogram, const double *bounds, double unit, uint64_t *counts, uint32_t count);

/* `ns` is at most CUEBALL__HISTOGRAM_LARGEST.  With s the number of low bits
 * that are dropped, the bucket is 16 s + the five bits that stay (the first of
 * which is 1 unless s is 0), which leaves no gap between powers of two. */
static inline uint32_t cueball__histogram_bucket(uint64_t ns)
{
    uint32_t shift = 59 - (uint32_t)__builtin_clzll(ns | CUEBALL__HISTOGRAM_PARTS);
    return shift * CUEBALL__HISTOGRAM_PARTS + (uint32_t)(ns >> shift);
}

static inline void cueball__histogram_add(cueball__histogram *histogram, uint64_t ns)
{
    histogram->total++;
    if (ns > histogram->usual) {
        if (ns > histogram->max)
            histogram->max = ns;
        if (ns > CUEBALL__HISTOGRAM_LARGEST)
            ns = CUEBALL__HISTOGRAM_LARGEST;
        histogram->usual = ns;
    }
    histogram->counts[cueball__histogram_bucket(ns)]++;
}

#endif
