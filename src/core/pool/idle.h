#ifndef CUEBALL_CORE_IDLE_H
#define CUEBALL_CORE_IDLE_H

#include "state.h"

void cueball__idle_init(cueball__idle *idle, cueball__memory *memory);
void cueball__idle_deinit(cueball__idle *idle);
bool cueball__idle_reserve(cueball__idle *idle, uint32_t slots);
void cueball__idle_append(cueball__idle *idle, cueball__slot *slot);
void cueball__idle_trim(cueball__idle *idle);
void cueball__idle_remove(cueball__idle *idle, cueball__slot *slot);
void cueball__idle_shuffle(cueball__idle *idle, cueball__random *random);
cueball_time cueball__slot_span(const cueball__slot *slot, cueball_time span, double share);
void cueball__slot_arm_rest(cueball_pool *pool, cueball__slot *slot);
void cueball__slot_rest(cueball_pool *pool, cueball__slot *slot);
void cueball__slot_wake(cueball_pool *pool, cueball__slot *slot);

/* Appends where there is room, as there is without holes. */
static inline void cueball__idle_push(cueball__idle *idle, cueball__slot *slot)
{
    assert(idle->tail - idle->head < idle->capacity);
    idle->ring[idle->tail & idle->mask] = slot;
    slot->idle_at = idle->tail++;
}

/* Takes the next to be claimed, from the front (fifo) or the back (lifo).  Where
 * there are holes, cueball__idle_trim() has to follow.  Slots are far apart in memory: the one a few claims on is fetched meanwhile,
 * which must be as many claims as fit into a fetch from main memory.  Whatever
 * is in that place now, to fetch it does no harm. */
static inline cueball__slot *cueball__idle_take(cueball__idle *idle, bool is_lifo)
{
    assert(idle->head != idle->tail);
    CUEBALL__PREFETCH(idle->ring[(is_lifo ? idle->tail - CUEBALL__IDLE_AHEAD : idle->head + CUEBALL__IDLE_AHEAD) & idle->mask]);
    return idle->ring[(is_lifo ? --idle->tail : idle->head++) & idle->mask];
}

#endif
