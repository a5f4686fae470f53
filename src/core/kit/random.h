/* Chance from a seed: the same seed gives the same numbers on every machine.
 * Not for secrets. */
#ifndef CUEBALL_RANDOM_H
#define CUEBALL_RANDOM_H

#include <stdint.h>

typedef struct cueball__random {
    uint64_t state;
} cueball__random;

void cueball__random_init(cueball__random *random, uint64_t seed);
/* Any of the 2^64 numbers, evenly; every one comes once in 2^64 draws. */
uint64_t cueball__random_next(cueball__random *random);
/* 0 to bound - 1, evenly and without bias; bound is 1 or more. */
uint64_t cueball__random_below(cueball__random *random, uint64_t bound);
/* 0 <= x < 1, in steps of 2^-53. */
double cueball__random_unit(cueball__random *random);

#endif
