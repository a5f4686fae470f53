/* splitmix64: G. L. Steele, D. Lea, C. H. Flood, "Fast Splittable Pseudorandom
 * Number Generators", OOPSLA 2014.  A counter with an odd step, and a mixer that
 * makes neighbours unlike each other; so every seed is a good one, 0 too. */
#include "random.h"

#include <assert.h>

void cueball__random_init(cueball__random *random, uint64_t seed)
{
    random->state = seed;
}

uint64_t cueball__random_next(cueball__random *random)
{
    random->state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t mixed = random->state;
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ (mixed >> 31);
}

uint64_t cueball__random_below(cueball__random *random, uint64_t bound)
{
    assert(bound >= 1);

    /* 2^64 mod bound of the numbers are too many to be shared out evenly: the
     * lowest ones are drawn again.  Less than one in two, mostly none. */
    uint64_t excess = (0 - bound) % bound;
    uint64_t drawn = cueball__random_next(random);
    while (drawn < excess)
        drawn = cueball__random_next(random);
    return drawn % bound;
}

double cueball__random_unit(cueball__random *random)
{
    return (double)(cueball__random_next(random) >> 11) * 0x1p-53;
}
