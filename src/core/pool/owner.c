/* Owners: somebody all of whose claims and leases end together. */
#include "owner.h"

#include "meet.h"

int cueball_pool_owner_new(cueball_pool *pool, cueball_owner **owner)
{
    cueball_owner *made = cueball__memory_allocate(&pool->memory, sizeof *made);
    if (!made)
        return CUEBALL_ENOMEM;
    made->pool = pool;
    made->is_gone = false;
    cueball__link_init(&made->claims);
    cueball__link_init(&made->leases);
    cueball__list_append(&pool->owners, &made->at_pool);
    *owner = made;
    assert(cueball__list_is_empty(&made->leases));
    assert(cueball__link_is_linked(&made->at_pool));
    return CUEBALL_OK;
}

/* The next input sees to it. */
static void owner_end_soon(cueball_owner *owner)
{
    assert(cueball__link_is_linked(&owner->at_pool));
    cueball__list_remove(&owner->at_pool);
    cueball__list_append(&owner->pool->owners_gone, &owner->at_pool);
    owner->pool->outlook.deadline = owner->pool->calm_until = 0;
    assert(!cueball__list_is_empty(&owner->pool->owners_gone));
    assert(owner->pool->calm_until == 0);
}

void cueball_owner_gone(void *gone)
{
    cueball_owner *owner = gone;
    assert(!owner->is_gone);
    owner->is_gone = true;
    owner_end_soon(owner);
}

bool cueball_owner_left(void *left)
{
    cueball_owner *owner = left;
    assert(!owner->is_gone);
    if (cueball__list_is_empty(&owner->claims) && cueball__list_is_empty(&owner->leases))
        return false;
    owner_end_soon(owner);
    return true;
}

/* Ends what belongs to owners that are gone, or have left.  A granted claim goes with its
 * lease, by way of the lease: it may not have been told yet. */
void cueball__owners_end(cueball_pool *pool)
{
    while (!cueball__list_is_empty(&pool->owners_gone)) {
        cueball_owner *owner = CUEBALL__OWNER(pool->owners_gone.next, cueball_owner, at_pool);
        while (!cueball__list_is_empty(&owner->claims))
            cueball__claim_give_up(pool, CUEBALL__OWNER(owner->claims.next, cueball__claim, at_owner));
        while (!cueball__list_is_empty(&owner->leases))
            cueball__lease_revoke(pool, CUEBALL__OWNER(owner->leases.next, cueball__slot, at_state), CUEBALL_CAUSE_OWNER);
        cueball__list_remove(&owner->at_pool);
        if (owner->is_gone)
            cueball__memory_release(&pool->memory, owner, sizeof *owner);
        else
            cueball__list_append(&pool->owners, &owner->at_pool);
    }
}
