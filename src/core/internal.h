/* What nobody but cueball's own specs, fuzzers and benches asks of the core.  Not
 * installed, no part of the API: it may change with every commit. */
#ifndef CUEBALL_CORE_INTERNAL_H
#define CUEBALL_CORE_INTERNAL_H

#include "cueball.h"
#include "cueball_tracker.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -------------------------------------------------------------- checking -- */

/* Looks whether everything in the pool agrees with everything else: O(all).
 * 0, or CUEBALL_EINVAL with the first disagreement in `text`. */
CUEBALL_API int cueball_pool_check(const cueball_pool *pool, char *text, size_t size);

/* The same of a tracker. */
CUEBALL_API int cueball_tracker_check(const cueball_tracker *tracker, char *text, size_t size);

/* --------------------------------------------------------------- planner -- */

/* What one backend has and should have. */
typedef struct cueball_plan_backend {
    uint32_t weight; /* 1 and up */
    uint32_t most;   /* slots it may have if it is alive; 0: any number */
    uint32_t want;   /* out: slots it should have */
    bool dead;
    bool is_capped; /* out: its share would be more than `most` */
} cueball_plan_backend;

/* Spreads `target` slots over `count` backends given in order of preference,
 * in proportion to their weights: a dead one gets exactly one, and
 * its share goes to live ones as far as `slots_max` allows; what is beyond `most` of
 * one goes to the others.  `is_singleton`: at
 * most one slot each.  `slots_max` is at least `target`.  `scratch` has room for 2 * count uint64_t.
 * Pure: no pool needed. */
CUEBALL_API void cueball_plan(cueball_plan_backend *backends, uint32_t count, uint32_t target, uint32_t slots_max, bool is_singleton,
                              uint64_t *scratch);

#ifdef __cplusplus
}
#endif

#endif
