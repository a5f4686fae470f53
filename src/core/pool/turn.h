#ifndef CUEBALL_CORE_TURN_H
#define CUEBALL_CORE_TURN_H

#include "state.h"

#include "explain.h"

void cueball__turn_resettle(cueball_pool *pool);
void cueball__pool_hurry(cueball_pool *pool);
void cueball__turn_run(cueball_pool *pool, cueball_time now);

/* Every input begins so.  Nothing is due in the usual case, and the clock runs
 * forward: that is two comparisons. */
static inline void cueball__turn_begin(cueball_pool *pool, cueball_time now)
{
    if (now > pool->now)
        pool->now = now;
    if (pool->now >= pool->outlook.deadline)
        cueball__turn_run(pool, pool->now);
    assert(pool->now >= now);
}

/* Looks at what was put off, and says when to come back. */
static inline void cueball__turn_settle(cueball_pool *pool)
{
    if (pool->is_unsettled)
        cueball__turn_resettle(pool);
    if (pool->outlook.waiting)
        cueball__reasons_note(pool);
    if (cueball__list_is_empty(&pool->owners_gone))
        pool->outlook.deadline = pool->hurries && pool->now < pool->timers.earliest ? pool->now : pool->timers.earliest;
    cueball__pool_calm(pool);
}

/* Where the invariants are checked: whatever changed something ends here. */
#if defined CUEBALL_CHECKS && CUEBALL_CHECKS
void cueball__turn_verify(cueball_pool *pool);
#define CUEBALL__VERIFY(pool) cueball__turn_verify(pool)
#else
#define CUEBALL__VERIFY(pool) ((void)0)
#endif

/* Every input ends so, with its result. */
static inline int cueball__turn_end(cueball_pool *pool, int result)
{
    cueball__turn_settle(pool);
    CUEBALL__VERIFY(pool);
    return result;
}

#endif
