#ifndef CUEBALL_CORE_MEET_H
#define CUEBALL_CORE_MEET_H

#include "lease.h"
#include "state.h"

void cueball__slot_offer(cueball_pool *pool, cueball__slot *slot, cueball_cause cause);
void cueball__grants_recall(cueball_pool *pool);
void cueball__lease_revoke(cueball_pool *pool, cueball__slot *slot, cueball_cause cause);
void cueball__claim_give_up(cueball_pool *pool, cueball__claim *claim);
void cueball__claims_serve(cueball_pool *pool);
int cueball__claim_meet(cueball_pool *pool, const cueball_claim_options *options, cueball_grant *grant);

static inline void cueball__grant_tell(const cueball__slot *slot, cueball_grant *grant)
{
    assert(slot->state == CUEBALL_SLOT_BUSY);
    assert(slot->backend->connected > 0);
    grant->lease = slot->lease;
    grant->conn = slot->conn;
    grant->backend = cueball__member_handle(&slot->backend->member);
    grant->slot = slot->member.index;
}

/* The lease has ended, as `cause` says, and whoever waits may have its connection. */
static inline void cueball__lease_return(cueball_pool *pool, cueball__slot *slot, cueball_cause cause)
{
    if (cueball__lease_end(pool, slot, cause))
        cueball__slot_offer(pool, slot, cause);
}

#endif
