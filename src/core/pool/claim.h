#ifndef CUEBALL_CORE_CLAIM_H
#define CUEBALL_CORE_CLAIM_H

#include "state.h"

void cueball__claim_note(cueball_pool *pool, cueball_event_kind kind, cueball_handle claim, uint64_t user, int error, uint32_t ahead);
void cueball__queue_relieve(cueball_pool *pool);
cueball__claim *cueball__claim_next_controlled(cueball_pool *pool);
void cueball__claims_refuse(cueball_pool *pool, cueball_error error);
void cueball__claims_bound(cueball_pool *pool);
void cueball__claim_due(cueball_pool *pool, cueball__claim *claim);
int cueball__claim_wait(cueball_pool *pool, const cueball_claim_options *options, cueball_grant *grant);
cueball__slot *cueball__claim_cancel(cueball_pool *pool, cueball__claim *claim);

/* The claim to be served next; NULL: there is none. */
static inline cueball__claim *cueball__claim_next(cueball_pool *pool)
{
    if (pool->options.queue != CUEBALL_QUEUE_FIFO)
        return cueball__claim_next_controlled(pool);
    return pool->outlook.waiting > 0 ? CUEBALL__OWNER(pool->queue.next, cueball__claim, at_state) : NULL;
}

/* The claim leaves the queue. */
static inline void cueball__claim_unqueue(cueball_pool *pool, cueball__claim *claim)
{
    assert(cueball__link_is_linked(&claim->at_state));
    assert(claim->waiting_since <= pool->now);
    assert(claim->state == CLAIM_WAITING);
    assert(pool->outlook.waiting > 0);
    cueball__list_remove(&claim->at_state);
    cueball__timers_cancel(&pool->timers, &claim->timer);
    pool->outlook.waiting--;
    if (pool->outlook.waiting == 0 && pool->options.queue != CUEBALL_QUEUE_FIFO)
        cueball__queue_relieve(pool);
    claim->waited = pool->now - claim->waiting_since;
    assert(!cueball__timer_is_armed(&claim->timer));
}

#endif
