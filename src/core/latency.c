/* How slow a backend is, for the balance that takes the better of two.
 *
 * Peak EWMA, as in Finagle (twitter.github.io/finagle, "PeakEwma") and linkerd:
 * a lease that took longer than the average becomes the average at once, one
 * that was shorter lowers it little by little, by exp(-elapsed / DECAY).  The
 * cost of a backend is that times the leases it would then have, over its weight.
 * Of two backends drawn at random the cheaper one is taken (M. Mitzenmacher, "The
 * Power of Two Choices in Randomized Load Balancing", 1996). */
#include "pool.h"

#include <math.h>

#define DECAY 10e9     /* ns */
#define UNKNOWN 1000.0 /* ns: what is taken for the latency of a backend that has leases but never ended one */

/* A lease at the backend took so long. */
void cueball__latency_observe(cueball_pool *pool, cueball__backend *backend, cueball_time held)
{
    double elapsed = (double)(pool->now - backend->latency_at);
    double took = (double)held;
    backend->latency_at = pool->now;
    if (took >= backend->latency) {
        backend->latency = took;
        return;
    }
    double kept = exp(-elapsed / DECAY);
    backend->latency = backend->latency * kept + took * (1 - kept);
}

static double backend_cost(const cueball_pool *pool, const cueball__backend *backend)
{
    double latency = backend->latency * exp(-(double)(pool->now - backend->latency_at) / DECAY);
    uint32_t leases = backend->connected - backend->resting_count;
    if (latency < UNKNOWN && leases > 0)
        latency = UNKNOWN;
    return latency * (double)(leases + 1) / (double)backend->weight;
}

/* A connection of the backend came to rest. */
void cueball__latency_rest(cueball_pool *pool, cueball__slot *slot)
{
    cueball__backend *backend = slot->backend;
    cueball__list_append(&backend->resting, &slot->at_owner);
    if (backend->resting_count++ == 0) {
        backend->resting_at = pool->resting_count;
        pool->resting[pool->resting_count++] = backend;
    }
}

/* It rests no longer. */
void cueball__latency_unrest(cueball_pool *pool, cueball__slot *slot)
{
    cueball__backend *backend = slot->backend;
    cueball__list_remove(&slot->at_owner);
    assert(backend->resting_count > 0);
    if (--backend->resting_count == 0) {
        cueball__backend *last = pool->resting[--pool->resting_count];
        pool->resting[backend->resting_at] = last;
        last->resting_at = backend->resting_at;
    }
}

/* The balance became p2c, or ceased to be: all that rest are told of, or none. */
void cueball__latency_index(cueball_pool *pool)
{
    bool is_on = pool->options.balance == CUEBALL_BALANCE_P2C;
    for (uint32_t at = pool->idle.head; at != pool->idle.tail; at++) {
        cueball__slot *slot = pool->idle.ring[at & pool->idle.mask];
        if (slot && is_on != cueball__link_is_linked(&slot->at_owner))
            (is_on ? cueball__latency_rest : cueball__latency_unrest)(pool, slot);
    }
}

static cueball__backend *pool_choose(cueball_pool *pool)
{
    uint32_t first = (uint32_t)cueball__random_below(&pool->random, pool->resting_count);
    if (pool->resting_count == 1)
        return pool->resting[first];
    uint32_t second = (uint32_t)cueball__random_below(&pool->random, pool->resting_count - 1);
    second += second >= first;
    cueball__backend *a = pool->resting[first], *b = pool->resting[second];
    return backend_cost(pool, b) < backend_cost(pool, a) ? b : a;
}

/* The connection to be claimed next: that of the chosen backend which rested longest. */
cueball__slot *cueball__latency_next(cueball_pool *pool)
{
    assert(pool->resting_count > 0);
    return CUEBALL__OWNER(pool_choose(pool)->resting.next, cueball__slot, at_owner);
}
