#ifndef CUEBALL_CORE_LEASE_H
#define CUEBALL_CORE_LEASE_H

#include "state.h"

bool cueball__lease_end(cueball_pool *pool, cueball__slot *slot, cueball_cause cause);

/* The slot is leased from now on.  Each lease has a handle of its own, and that
 * counts as long as the slot is busy. */
static inline void cueball__slot_lend(cueball__slot *slot, cueball_time now)
{
    slot->lease = cueball__handle_next(slot->lease);
    slot->state = CUEBALL_SLOT_BUSY;
    slot->state_since = now;
}

/* The lease has an owner. */
static inline void cueball__lease_own(cueball__slot *slot, cueball_owner *owner)
{
    slot->owner = owner;
    slot->owned = 1;
    cueball__list_append(&owner->leases, &slot->at_owner);
}

/* The lease ends, and so does what it was to its owner. */
static inline void cueball__lease_disown(cueball__slot *slot)
{
    slot->owner = NULL;
    slot->owned = 0;
    cueball__list_remove(&slot->at_owner);
}

#endif
