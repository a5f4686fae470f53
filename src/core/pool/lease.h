#ifndef CUEBALL_CORE_LEASE_H
#define CUEBALL_CORE_LEASE_H

#include "state.h"

void cueball__lease_repeat(cueball_pool *pool, cueball__slot *slot, cueball_time began, const uint32_t *spans, uint32_t count);
uint32_t cueball__lease_uses_left(const cueball_pool *pool, const cueball__slot *slot);
bool cueball__lease_end(cueball_pool *pool, cueball__slot *slot, cueball_cause cause);

/* The slot is leased from now on.  Each lease has a handle of its own, and that
 * counts as long as the slot is busy. */
static inline void cueball__slot_lend(cueball__slot *slot, cueball_time now)
{
    assert(cueball__handle_index(slot->lease) == slot->member.index);
    assert(!slot->owner);
    assert(!slot->on_return);
    slot->lease = cueball__handle_next(slot->lease);
    slot->state = CUEBALL_SLOT_BUSY;
    slot->state_since = now;
}

/* The lease has an owner. */
static inline void cueball__lease_own(cueball__slot *slot, cueball_owner *owner)
{
    assert(!slot->owned);
    assert(!cueball__link_is_linked(&slot->at_state));
    assert(!owner->is_gone);
    slot->owner = owner;
    slot->owned = 1;
    cueball__list_append(&owner->leases, &slot->at_state);
}

/* The lease ends, and so does what it was to its owner. */
static inline void cueball__lease_disown(cueball__slot *slot)
{
    assert(slot->owned);
    assert(cueball__link_is_linked(&slot->at_state));
    slot->owner = NULL;
    slot->owned = 0;
    cueball__list_remove(&slot->at_state);
}

#endif
