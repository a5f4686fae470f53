/* How slow a backend is, for the balance that takes the better of two.
 *
 * Peak EWMA, as in Finagle (twitter.github.io/finagle, "PeakEwma") and linkerd:
 * a lease that took longer than the average becomes the average at once, those
 * that were shorter lower it little by little, by exp(-elapsed / DECAY).  The
 * cost of a backend is that times the leases it would then have, over its weight.
 * Of two backends drawn at random the cheaper one is taken (M. Mitzenmacher, "The
 * Power of Two Choices in Randomized Load Balancing", 1996).
 *
 * Three things are ours; bench/simulations.lua shows what each is worth.
 * A lease also lowers the average by 1 / SAMPLES at least: else, of many leases,
 * the slowest in DECAY would stand for all, and a backend that is always slow
 * would hardly stand out.  Leases that have not ended count with their age: of a
 * backend that got stuck none ends.  And a backend FAR_SLOWER than the other has
 * one lease at a time: by cost alone it would have some all the time, as long as
 * the other has many. */
#include "pool.h"

#include <math.h>

#define DECAY 10e9 /* ns */
#define SAMPLES 4.0
#define AGES 2.0       /* leases that came evenly are half as old, on average, as the oldest */
#define FAR_SLOWER 4.0 /* times */
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
    double kept = fmin(exp(-elapsed / DECAY), 1 - 1 / SAMPLES);
    backend->latency = backend->latency * kept + took * (1 - kept);
}

/* What a lease that begins now is expected to take, ns. */
static double backend_latency(const cueball_pool *pool, const cueball__backend *backend)
{
    double latency = backend->latency * exp(-(double)(pool->now - backend->latency_at) / DECAY);
    if (backend->leased == 0)
        return latency;
    uint64_t ages = backend->leased * pool->now - backend->leased_sum; /* their sum: exact, modulo 2^64 */
    return fmax(fmax(latency, UNKNOWN), AGES * (double)ages / (double)backend->leased);
}

/* Whether a claim goes to `other` rather than to `first`. */
static bool backend_is_better(const cueball_pool *pool, const cueball__backend *other, const cueball__backend *first)
{
    double latency = backend_latency(pool, other), latency_first = backend_latency(pool, first);
    if (latency_first > latency * FAR_SLOWER && first->leased > 0)
        return true;
    if (latency > latency_first * FAR_SLOWER && other->leased > 0)
        return false;
    double cost = latency * (double)(other->leased + 1) / (double)other->weight;
    return cost < latency_first * (double)(first->leased + 1) / (double)first->weight;
}

/* The slot's connection was lent just now. */
void cueball__latency_lend(cueball_pool *pool, const cueball__slot *slot)
{
    if (pool->options.balance != CUEBALL_BALANCE_P2C)
        return;
    slot->backend->leased++;
    slot->backend->leased_sum += slot->since;
}

/* It is about to come back. */
void cueball__latency_return(cueball_pool *pool, const cueball__slot *slot)
{
    if (pool->options.balance != CUEBALL_BALANCE_P2C)
        return;
    assert(slot->backend->leased > 0);
    slot->backend->leased--;
    slot->backend->leased_sum -= slot->since;
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

/* Counts the leases anew, if they are counted at all. */
static void pool_count_leases(cueball_pool *pool)
{
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < pool->slots.made; i++) {
            cueball__slot *slot = cueball__table_at(&pool->slots, i);
            if (slot->state == CUEBALL_SLOT_FREE)
                continue;
            if (pass == 0)
                slot->backend->leased = 0, slot->backend->leased_sum = 0;
            else if (slot->state == CUEBALL_SLOT_BUSY)
                cueball__latency_lend(pool, slot);
        }
    }
}

/* The balance became p2c, or ceased to be: all that rest are told of, or none. */
void cueball__latency_index(cueball_pool *pool)
{
    bool is_on = pool->options.balance == CUEBALL_BALANCE_P2C;
    pool_count_leases(pool);
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
    return backend_is_better(pool, b, a) ? b : a;
}

/* The connection to be claimed next: that of the chosen backend which rested longest. */
cueball__slot *cueball__latency_next(cueball_pool *pool)
{
    assert(pool->resting_count > 0);
    return CUEBALL__OWNER(pool_choose(pool)->resting.next, cueball__slot, at_owner);
}
