/* What the priorities of backends mean (RFC 2782). */
#include "priority.h"

/* The worst priority to be used: RFC 2782 has a client try the lowest-numbered
 * it can reach.  UINT32_MAX: all, since none can be reached or all are alike. */
uint32_t cueball__priority_used(const cueball_pool *pool)
{
    uint32_t best = UINT32_MAX;
    if (pool->options.priorities == CUEBALL_PRIORITIES_IGNORED)
        return best;
    for (uint32_t i = 0; i < pool->known; i++) {
        const cueball__backend *backend = pool->preference[i];
        if (!backend->dead && !backend->ejected && !backend->drained && backend->priority < best)
            best = backend->priority;
    }
    return best;
}
