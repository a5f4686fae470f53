/* A pool that is as another one is, in memory of its own: what is told to it happens to
 * nobody else.  Nobody watches it, and its claims and leases have no owners.
 *
 * Members of tables are copied byte for byte.  Whatever points from one to another is set
 * anew: each list is gone through in the original, and the twins of its members, which
 * have the same index, are put into a list in the same order. */
#include "copy.h"

#include "event.h"
#include "meet.h"

#include <string.h>

static cueball__slot *slot_twin(const cueball_pool *copy, const cueball__slot *slot)
{
    return slot ? cueball__table_at(&copy->slots, slot->member.index) : NULL;
}

static cueball__backend *backend_twin(const cueball_pool *copy, const cueball__backend *backend)
{
    return backend ? cueball__table_at(&copy->backends, backend->member.index) : NULL;
}

static cueball__claim *claim_twin(const cueball_pool *copy, const cueball__claim *claim)
{
    return cueball__table_at(&copy->claims, claim->member.index);
}

/* The twins of what is in `list`, linked by `member`, in the copy's list. */
#define LIST_COPY(to, from, type, member, twin)                                                                                            \
    for (const cueball__link *link = (from)->next; link != (from); link = link->next)                                                      \
    cueball__list_append(to, &twin(copy, CUEBALL__OWNER(link, type, member))->member)

/* ------------------------------------------------------------------ memory -- */

static void members_unlink(cueball_pool *copy)
{
    for (uint32_t i = 0; i < copy->slots.made; i++) {
        cueball__slot *slot = cueball__table_at(&copy->slots, i);
        cueball__link_init(&slot->at_backend);
        cueball__link_init(&slot->at_state);
        cueball__link_init(&slot->chore);
        slot->owner = NULL;
        slot->owned = 0;
        slot->backend = backend_twin(copy, slot->backend);
    }
    for (uint32_t i = 0; i < copy->claims.made; i++) {
        cueball__claim *claim = cueball__table_at(&copy->claims, i);
        cueball__link_init(&claim->at_state);
        cueball__link_init(&claim->at_owner);
        claim->owner = NULL;
        claim->slot = slot_twin(copy, claim->slot);
    }
    for (uint32_t i = 0; i < copy->backends.made; i++) {
        cueball__backend *backend = cueball__table_at(&copy->backends, i);
        cueball__link *links[] = { &backend->slots, &backend->wanting, &backend->leaving, &backend->probe, &backend->resting };
        for (size_t k = 0; k < sizeof links / sizeof *links; k++)
            cueball__link_init(links[k]);
        backend->key = NULL; /* it has no block of its own yet */
        backend->same_bucket = backend_twin(copy, backend->same_bucket);
    }
}

static bool names_copy(cueball_pool *copy, const cueball_pool *pool)
{
    for (uint32_t i = 0; i < pool->backends.made; i++) {
        const cueball__backend *from = cueball__table_at(&pool->backends, i);
        cueball__backend *to = cueball__table_at(&copy->backends, i);
        if (!from->key)
            continue;
        char *block = cueball__memory_allocate(&copy->memory, from->block_size);
        if (!block)
            return false;
        to->key = memcpy(block, from->key, from->block_size);
        to->name = block + (from->name - from->key);
        to->address = block + (from->address - from->key);
    }
    return true;
}

/* The rooms that grow with the number of backends, see backend.c: all of them or none. */
static bool rooms_copy(cueball_pool *copy, const cueball_pool *pool)
{
    uint32_t room = pool->known_max;
    if (room == 0)
        return true;
    copy->known_max = room;
    copy->preference = cueball__memory_allocate(&copy->memory, room * sizeof(cueball__backend *));
    copy->buckets = cueball__memory_allocate(&copy->memory, room * sizeof(cueball__backend *));
    copy->resting = cueball__memory_allocate(&copy->memory, room * sizeof(cueball__backend *));
    copy->plan_room = cueball__memory_allocate(&copy->memory, room * sizeof *copy->plan_room);
    copy->plan_scratch = cueball__memory_allocate(&copy->memory, (size_t)room * 2 * sizeof *copy->plan_scratch);
    if (!copy->preference || !copy->buckets || !copy->resting || !copy->plan_room || !copy->plan_scratch)
        return false;
    for (uint32_t i = 0; i < pool->known; i++)
        copy->preference[i] = backend_twin(copy, pool->preference[i]);
    for (uint32_t i = 0; i < room; i++)
        copy->buckets[i] = backend_twin(copy, pool->buckets[i]);
    for (uint32_t i = 0; i < pool->resting_count; i++)
        copy->resting[i] = backend_twin(copy, pool->resting[i]);
    for (uint32_t i = 0; i < pool->vacancies; i++)
        copy->plan_scratch[room + i] = pool->plan_scratch[room + i];
    return true;
}

static bool idle_copy(cueball_pool *copy, const cueball_pool *pool)
{
    const cueball__idle *from = &pool->idle;
    if (from->capacity == 0)
        return true;
    cueball__slot **ring = cueball__memory_allocate(&copy->memory, from->capacity * sizeof(cueball__slot *));
    if (!ring)
        return false;
    memset(ring, 0, from->capacity * sizeof(cueball__slot *));
    for (uint32_t at = from->head; at != from->tail; at++)
        ring[at & from->mask] = slot_twin(copy, from->ring[at & from->mask]);
    copy->idle = *from;
    copy->idle.ring = ring;
    copy->idle.memory = &copy->memory;
    return true;
}

static bool memory_copy(cueball_pool *copy, const cueball_pool *pool)
{
    bool has_backends = cueball__table_copy(&copy->backends, &copy->memory, &pool->backends);
    bool has_slots = cueball__table_copy(&copy->slots, &copy->memory, &pool->slots);
    bool has_claims = cueball__table_copy(&copy->claims, &copy->memory, &pool->claims);
    if (!has_backends || !has_slots || !has_claims) {
        copy->backends.made = 0; /* their names are the original's */
        return false;
    }
    members_unlink(copy);
    return names_copy(copy, pool) && rooms_copy(copy, pool) && idle_copy(copy, pool);
}

/* ------------------------------------------------------------------- lists -- */

static cueball__timer *timer_twin(void *user, cueball__timer *timer)
{
    const cueball_pool *copy = user;
    switch (timer->kind) {
    case CUEBALL__TIMER_SLOT:
        return &slot_twin(copy, CUEBALL__OWNER(timer, cueball__slot, timer))->timer;
    case CUEBALL__TIMER_CLAIM:
        return &claim_twin(copy, CUEBALL__OWNER(timer, cueball__claim, timer))->timer;
    case CUEBALL__TIMER_RETURN:
    case CUEBALL__TIMER_PROBE:
        return &backend_twin(copy, CUEBALL__OWNER(timer, cueball__backend, back))->back;
    default:
        break;
    }
    cueball_pool *whole = user;
    cueball__timer *own[] = { &whole->rebalance, &whole->decoherence, &whole->drain, &whole->sample, &whole->churn };
    size_t which = 0;
    while (own[which]->kind != timer->kind)
        which++;
    return own[which];
}

static void lists_copy(cueball_pool *copy, const cueball_pool *pool)
{
    LIST_COPY(&copy->doubtful, &pool->doubtful, cueball__slot, at_state, slot_twin);
    LIST_COPY(&copy->to_check, &pool->to_check, cueball__slot, at_state, slot_twin);
    LIST_COPY(&copy->chores, &pool->chores, cueball__slot, chore, slot_twin);
    LIST_COPY(&copy->queue, &pool->queue, cueball__claim, at_state, claim_twin);
    LIST_COPY(&copy->answers, &pool->answers, cueball__claim, at_state, claim_twin);
    LIST_COPY(&copy->leaving, &pool->leaving, cueball__backend, leaving, backend_twin);
    LIST_COPY(&copy->left, &pool->left, cueball__backend, leaving, backend_twin);
    LIST_COPY(&copy->wanting, &pool->wanting, cueball__backend, wanting, backend_twin);
    LIST_COPY(&copy->probes_due, &pool->probes_due, cueball__backend, probe, backend_twin);
    for (uint32_t i = 0; i < pool->backends.made; i++) {
        const cueball__backend *from = cueball__table_at(&pool->backends, i);
        cueball__backend *to = cueball__table_at(&copy->backends, i);
        if (!from->key)
            continue;
        LIST_COPY(&to->slots, &from->slots, cueball__slot, at_backend, slot_twin);
        LIST_COPY(&to->resting, &from->resting, cueball__slot, at_state, slot_twin);
    }
    cueball__timers_copy(&copy->timers, &pool->timers, timer_twin, copy);
}

/* What belongs to owners that are gone ends with the next input, in the copy as in the
 * original. */
static void owners_end(cueball_pool *copy, const cueball_pool *pool)
{
    for (const cueball__link *gone = pool->owners_gone.next; gone != &pool->owners_gone; gone = gone->next) {
        const cueball_owner *owner = CUEBALL__OWNER(gone, cueball_owner, at_pool);
        for (const cueball__link *link = owner->claims.next; link != &owner->claims; link = link->next)
            cueball__claim_give_up(copy, claim_twin(copy, CUEBALL__OWNER(link, cueball__claim, at_owner)));
        for (const cueball__link *link = owner->leases.next; link != &owner->leases; link = link->next) {
            const cueball__slot *from = CUEBALL__OWNER(link, cueball__slot, at_state);
            cueball__slot *slot = slot_twin(copy, from);
            if (slot->state == CUEBALL_SLOT_BUSY && slot->lease == from->lease) /* not granted to another by now */
                cueball__lease_revoke(copy, slot, CUEBALL_CAUSE_OWNER);
        }
    }
}

/* NULL: there is no memory.  To be freed with cueball_pool_free(). */
cueball_pool *cueball__pool_copy(const cueball_pool *pool)
{
    const cueball_allocator *allocator = &pool->memory.allocator;
    cueball_pool *copy = allocator->allocate(allocator->user, sizeof *copy);
    if (!copy)
        return NULL;
    memcpy(copy, pool, sizeof *copy);
    copy->memory.held = sizeof *copy;
    copy->watched = 0;
    copy->events = NULL;
    copy->events_max = copy->events_first = copy->events_missed = copy->outlook.events = 0;
    copy->preference = copy->buckets = copy->resting = NULL;
    copy->plan_room = NULL;
    copy->plan_scratch = NULL;
    copy->known_max = 0;
    memset(&copy->idle, 0, sizeof copy->idle);
    copy->idle.memory = &copy->memory;
    cueball__link *lists[] = { &copy->queue,       &copy->answers,  &copy->chores,     &copy->leaving,  &copy->wanting, &copy->owners,
                               &copy->owners_gone, &copy->doubtful, &copy->probes_due, &copy->to_check, &copy->left };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        cueball__link_init(lists[i]);
    if (!memory_copy(copy, pool)) {
        cueball_pool_free(copy);
        return NULL;
    }
    lists_copy(copy, pool);
    owners_end(copy, pool);
    return copy;
}
