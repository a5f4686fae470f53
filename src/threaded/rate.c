#include "rate.h"

#include "ticks.h"

#include <assert.h>

#define TRIES 4
#define CLOSE_NS 1000       /* readings that are so close together need not be better */
#define SPAN_MIN_NS 1000000 /* the rate is known after so long */
#define DOUBT_MAX 100       /* one part in so many */

cueball__both_clocks cueball__clocks_read(void)
{
    cueball__both_clocks best = { .after = CUEBALL_NEVER };
    for (int i = 0; i < TRIES && best.after - best.before > CLOSE_NS; i++) {
        cueball__both_clocks read = { .before = cueball_clock_now() };
        read.ticks = cueball__ticks();
        read.after = cueball_clock_now();
        assert(read.after >= read.before);
        if (read.after - read.before < best.after - best.before)
            best = read;
    }
    return best;
}

void cueball__rate_init(cueball__rate *rate, const cueball__both_clocks *clocks)
{
    assert(rate);
    assert(clocks->after >= clocks->before);
    *rate = (cueball__rate){ .base = *clocks };
}

void cueball__rate_measure(cueball__rate *rate, const cueball__both_clocks *clocks)
{
    assert(rate);
    assert(clocks->after >= clocks->before);
    if (clocks->before < rate->base.after + SPAN_MIN_NS || clocks->ticks <= rate->base.ticks)
        return;
    cueball_time least = clocks->before - rate->base.after, most = clocks->after - rate->base.before;
    if (most - least > least / DOUBT_MAX)
        return;
    rate->measured = least;
    rate->tick_ns = ((double)least + (double)most) / 2 / (double)(clocks->ticks - rate->base.ticks);
    assert(rate->tick_ns > 0);
}

/* Twice as long tells twice as much: measured so seldom, it costs nothing. */
double cueball__rate_at(cueball__rate *rate, cueball_time now)
{
    assert(rate);
    cueball_time due = rate->base.after + (rate->measured > 0 ? 2 * rate->measured : SPAN_MIN_NS);
    if (now >= due) {
        cueball__both_clocks clocks = cueball__clocks_read();
        cueball__rate_measure(rate, &clocks);
    }
    return rate->tick_ns;
}
