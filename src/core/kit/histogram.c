#include "histogram.h"

#include <assert.h>
#include <string.h>

void cueball__histogram_init(cueball__histogram *histogram)
{
    memset(histogram, 0, sizeof *histogram);
}

static double bucket_middle(uint32_t bucket)
{
    assert(bucket < CUEBALL__HISTOGRAM_BUCKETS);

    if (bucket < 2 * CUEBALL__HISTOGRAM_PARTS)
        return (double)bucket;
    uint32_t shift = bucket / CUEBALL__HISTOGRAM_PARTS - 1;
    uint64_t width = UINT64_C(1) << shift;
    uint64_t first = (uint64_t)(bucket - shift * CUEBALL__HISTOGRAM_PARTS) << shift;
    return (double)first + (double)(width - 1) / 2;
}

/* The how-manieth value it is, from 1, counted from the smallest.  Written so
 * that a q that is not a number gives the first. */
static uint64_t quantile_rank(uint64_t total, double q)
{
    if (!(q > 0))
        return 1;
    if (q >= 1)
        return total;
    double exact = q * (double)total;
    uint64_t rank = (uint64_t)exact;
    if ((double)rank < exact)
        rank++;
    if (rank < 1)
        return 1;
    return rank < total ? rank : total;
}

double cueball__histogram_quantile(const cueball__histogram *histogram, double q)
{
    if (histogram->total == 0)
        return 0;
    uint64_t rank = quantile_rank(histogram->total, q);
    if (rank == histogram->total)
        return (double)histogram->max;

    uint64_t seen = 0;
    for (uint32_t bucket = 0; bucket < CUEBALL__HISTOGRAM_BUCKETS; bucket++) {
        seen += histogram->counts[bucket];
        if (seen >= rank) {
            double middle = bucket_middle(bucket);
            return middle < (double)histogram->max ? middle : (double)histogram->max;
        }
    }
    assert(seen == histogram->total);
    return (double)histogram->max;
}

/* The largest value that is counted in the bucket. */
static double bucket_last(uint32_t bucket)
{
    assert(bucket < CUEBALL__HISTOGRAM_BUCKETS);

    if (bucket < 2 * CUEBALL__HISTOGRAM_PARTS)
        return (double)bucket;
    uint32_t shift = bucket / CUEBALL__HISTOGRAM_PARTS - 1;
    return (double)(((uint64_t)(bucket - shift * CUEBALL__HISTOGRAM_PARTS + 1) << shift) - 1);
}

double cueball__histogram_below(const cueball__histogram *histogram, const double *bounds, double unit, uint64_t *counts, uint32_t count)
{
    uint64_t seen = 0;
    uint32_t next = 0;
    double sum = 0;
    for (uint32_t bucket = 0; bucket < CUEBALL__HISTOGRAM_BUCKETS && seen < histogram->total; bucket++) {
        if (histogram->counts[bucket] == 0)
            continue;
        while (next < count && !(bucket_last(bucket) <= bounds[next] * unit))
            counts[next++] = seen;
        seen += histogram->counts[bucket];
        sum += bucket_middle(bucket) * (double)histogram->counts[bucket];
    }
    while (next < count)
        counts[next++] = seen;
    assert(seen == histogram->total);
    return sum;
}
