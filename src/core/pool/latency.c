/* How slow a backend is and how often it fails, for the balance that takes the
 * better of two.
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
 * the other has many.
 *
 * Failures.  A backend that fails at once is not quick: what failed gives no
 * latency, and the cost is divided by the share of leases that went well, an
 * EWMA too (kubernetes/ingress-nginx, pull request 9882, "EWMA score adjusted by
 * success rate when backend services fail fast"; envoyproxy/envoy, issue 20907).
 * Three things follow from that.  How fast such a backend is, is known less the
 * more it fails: as far as it fails, the slower latency of the two compared
 * stands for its own, so that it is not preferred for a latency that nothing
 * renews, and backends that all fail are taken evenly.  The share of failures
 * fades by exp(-elapsed / DECAY), so that a backend that failed is tried again,
 * within about DECAY.  And one of whose leases less than 1 / FAR_SLOWER go well
 * is left alone for REST after a failure while the other is better: by cost
 * alone it would be tried the more often the more leases the other has. */
#include "latency.h"

#include <math.h>

#define DECAY 10e9 /* ns */
#define SAMPLES 4.0
#define AGES 2.0       /* leases that came evenly are half as old, on average, as the oldest */
#define FAR_SLOWER 4.0 /* times */
#define UNKNOWN 1000.0 /* ns: what is taken for the latency of a backend that has leases, or failed them, and never ended one well */
#define REST 1e9       /* ns */
#define FEW 1e-3       /* the least share that is taken to go well: what is divided by */
#define NONE 1e-6      /* a share of failures that is no longer worth an exp() */

static double span_between(cueball_time from, cueball_time to)
{
    return to > from ? (double)(to - from) : 0;
}

/* How much of an average is kept when another lease is averaged in. */
static double average_keeps(cueball_time from, cueball_time now)
{
    return fmin(exp(-span_between(from, now) / DECAY), 1 - 1 / SAMPLES);
}

void cueball_latency_began(cueball_latency *latency, cueball_time began)
{
    latency->leased++;
    latency->leased_sum += began;
    assert(latency->leased > 0);
}

void cueball_latency_ended(cueball_latency *latency, cueball_time began)
{
    assert(latency->leased > 0);
    latency->leased--;
    latency->leased_sum -= began;
}

void cueball_latency_observed(cueball_latency *latency, cueball_time now, cueball_time took)
{
    assert(latency->average >= 0);
    assert(latency->failing >= 0);
    assert(latency->failing <= 1);
    if (latency->failing > 0) {
        latency->failing *= average_keeps(latency->failing_at, now);
        if (latency->failing < NONE)
            latency->failing = 0;
    }
    latency->failing_at = now;
    if ((double)took >= latency->average) {
        latency->average = (double)took;
    } else {
        double kept = average_keeps(latency->average_at, now);
        latency->average = latency->average * kept + (double)took * (1 - kept);
    }
    latency->average_at = now;
    assert(latency->failing <= 1);
    assert(latency->average >= 0);
}

void cueball_latency_failed(cueball_latency *latency, cueball_time now, cueball_time took)
{
    assert(latency->failing >= 0);
    assert(latency->failing <= 1);
    double kept = average_keeps(latency->failing_at, now);
    latency->failing = latency->failing * kept + (1 - kept);
    latency->failing_at = now;
    if ((double)took > latency->average * exp(-span_between(latency->average_at, now) / DECAY)) {
        latency->average = (double)took;
        latency->average_at = now;
    }
    assert(latency->failing > 0);
    assert(latency->failing <= 1);
}

/* The share of leases that is expected to fail. */
static double latency_fails(const cueball_latency *latency, cueball_time now)
{
    assert(latency->failing >= 0);
    assert(latency->failing <= 1);
    return latency->failing > 0 ? latency->failing * exp(-span_between(latency->failing_at, now) / DECAY) : 0;
}

double cueball_latency_success_rate(const cueball_latency *latency, cueball_time now)
{
    return 1 - latency_fails(latency, now);
}

/* What a lease that begins now is expected to take, ns. */
static double latency_expected(const cueball_latency *latency, cueball_time now)
{
    assert(latency->average >= 0);
    double expected = latency->average * exp(-span_between(latency->average_at, now) / DECAY);
    if (latency->leased == 0)
        return expected;
    uint64_t ages = latency->leased * now - latency->leased_sum; /* their sum: exact, modulo 2^64 */
    return fmax(fmax(expected, UNKNOWN), AGES * (double)ages / (double)latency->leased);
}

/* What a backend is compared by. */
typedef struct outlook {
    double expected; /* ns, until a lease went well */
    bool rests;
} outlook;

static outlook outlook_of(const cueball_latency *latency, cueball_time now, double expected, double slower)
{
    assert(expected >= 0);
    assert(slower >= expected);
    double fails = latency_fails(latency, now);
    double works = fmax(1 - fails, FEW);
    return (outlook){
        .expected = fails > 0 ? ((1 - fails) * expected + fails * fmax(slower, UNKNOWN)) / works : expected,
        .rests = works * FAR_SLOWER < 1 && span_between(latency->failing_at, now) < REST,
    };
}

bool cueball_latency_is_better(const cueball_latency *other, uint32_t other_weight, const cueball_latency *first, uint32_t first_weight,
                               cueball_time now)
{
    assert(other_weight > 0);
    assert(first_weight > 0);
    outlook a = { latency_expected(other, now), false }, b = { latency_expected(first, now), false };
    if (other->failing > 0 || first->failing > 0) {
        double slower = fmax(a.expected, b.expected);
        a = outlook_of(other, now, a.expected, slower);
        b = outlook_of(first, now, b.expected, slower);
        if (a.rests != b.rests)
            return b.rests;
    }
    if (b.expected > a.expected * FAR_SLOWER && first->leased > 0)
        return true;
    if (a.expected > b.expected * FAR_SLOWER && other->leased > 0)
        return false;
    double cost = a.expected * (double)(other->leased + 1) / (double)other_weight;
    return cost < b.expected * (double)(first->leased + 1) / (double)first_weight;
}

/* A lease at the backend went well, and took so long. */
void cueball__latency_observe(cueball_pool *pool, cueball__backend *backend, cueball_time held)
{
    if (pool->options.balance == CUEBALL_BALANCE_P2C)
        cueball_latency_observed(&backend->latency, pool->now, held);
}

/* A lease at the backend did not, and took so long. */
void cueball__latency_failed(cueball_pool *pool, cueball__backend *backend, cueball_time held)
{
    if (pool->options.balance == CUEBALL_BALANCE_P2C)
        cueball_latency_failed(&backend->latency, pool->now, held);
}

/* The slot's connection was lent just now. */
void cueball__latency_lend(cueball_pool *pool, const cueball__slot *slot)
{
    assert(slot->state == CUEBALL_SLOT_BUSY);
    if (pool->options.balance != CUEBALL_BALANCE_P2C)
        return;
    cueball_latency_began(&slot->backend->latency, slot->state_since);
}

/* It is about to come back. */
void cueball__latency_return(cueball_pool *pool, const cueball__slot *slot)
{
    assert(slot->state == CUEBALL_SLOT_BUSY);
    if (pool->options.balance != CUEBALL_BALANCE_P2C)
        return;
    cueball_latency_ended(&slot->backend->latency, slot->state_since);
}

/* A connection of the backend came to rest. */
void cueball__latency_rest(cueball_pool *pool, cueball__slot *slot)
{
    assert(slot->state == CUEBALL_SLOT_IDLE);
    assert(!cueball__link_is_linked(&slot->at_state));
    assert(slot->backend->resting_count < slot->backend->total);
    assert(pool->resting_count <= pool->known_max);
    cueball__backend *backend = slot->backend;
    cueball__list_append(&backend->resting, &slot->at_state);
    if (backend->resting_count++ == 0) {
        backend->resting_at = pool->resting_count;
        pool->resting[pool->resting_count++] = backend;
    }
    assert(backend->resting_at < pool->resting_count);
    assert(pool->resting[backend->resting_at] == backend);
}

/* It rests no longer. */
void cueball__latency_unrest(cueball_pool *pool, cueball__slot *slot)
{
    assert(cueball__link_is_linked(&slot->at_state));
    assert(slot->backend->resting_at < pool->resting_count);
    assert(pool->resting[slot->backend->resting_at] == slot->backend);
    cueball__backend *backend = slot->backend;
    cueball__list_remove(&slot->at_state);
    assert(backend->resting_count > 0);
    if (--backend->resting_count == 0) {
        cueball__backend *last = pool->resting[--pool->resting_count];
        pool->resting[backend->resting_at] = last;
        last->resting_at = backend->resting_at;
    }
    assert((backend->resting_count == 0) == cueball__list_is_empty(&backend->resting));
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
                slot->backend->latency.leased = 0, slot->backend->latency.leased_sum = 0;
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
        if (slot && is_on != cueball__link_is_linked(&slot->at_state))
            (is_on ? cueball__latency_rest : cueball__latency_unrest)(pool, slot);
    }
}

static cueball__backend *pool_choose(cueball_pool *pool)
{
    assert(pool->resting_count <= pool->known_max);
    uint32_t first = (uint32_t)cueball__random_below(&pool->random, pool->resting_count);
    if (pool->resting_count == 1)
        return pool->resting[first];
    uint32_t second = (uint32_t)cueball__random_below(&pool->random, pool->resting_count - 1);
    second += second >= first;
    cueball__backend *a = pool->resting[first], *b = pool->resting[second];
    return cueball_latency_is_better(&b->latency, b->weight, &a->latency, a->weight, pool->now) ? b : a;
}

/* The connection to be claimed next: that of the chosen backend which rested longest. */
cueball__slot *cueball__latency_next(cueball_pool *pool)
{
    assert(pool->resting_count > 0);
    return CUEBALL__OWNER(pool_choose(pool)->resting.next, cueball__slot, at_state);
}
