/* What happened, for those who watch: a ring that drops its oldest. */
#include "event.h"

#include <string.h>

#define EVENTS_MAX (UINT32_C(1) << 20)

void cueball__event_add(cueball_pool *pool, const cueball_event *event)
{
    if (pool->outlook.events == pool->events_max) {
        pool->events_first = (pool->events_first + 1) % pool->events_max;
        pool->outlook.events--;
        pool->events_missed++;
    }
    cueball_event *place = &pool->events[(pool->events_first + pool->outlook.events) % pool->events_max];
    *place = *event;
    place->time = pool->now;
    pool->outlook.events++;
}

void cueball__event_note(cueball_pool *pool, cueball_event_kind kind, const cueball__backend *backend, uint32_t count)
{
    if (!cueball__pool_watches(pool, kind))
        return;
    cueball_event event = { .kind = (int32_t)kind, .count = count };
    event.backend = backend ? cueball__member_handle(&backend->member) : 0;
    cueball__event_add(pool, &event);
}

int cueball_pool_watch(cueball_pool *pool, uint32_t mask, uint32_t capacity)
{
    cueball_event *events = NULL;
    if (mask) {
        if (capacity < 1 || capacity > EVENTS_MAX)
            return CUEBALL_EINVAL;
        events = cueball__memory_allocate(&pool->memory, capacity * sizeof *events);
        if (!events)
            return CUEBALL_ENOMEM;
    }
    cueball__memory_release(&pool->memory, pool->events, pool->events_max * sizeof *pool->events);
    pool->events = events;
    pool->events_max = events ? capacity : 0;
    pool->events_first = pool->events_missed = pool->outlook.events = 0;
    pool->watched = mask;
    cueball__pool_calm(pool);
    return CUEBALL_OK;
}

bool cueball_pool_next_event(cueball_pool *pool, cueball_event *event)
{
    if (pool->outlook.events == 0)
        return false;
    *event = pool->events[pool->events_first];
    event->missed = pool->events_missed;
    pool->events_missed = 0;
    pool->events_first = (pool->events_first + 1) % pool->events_max;
    pool->outlook.events--;
    return true;
}

/* The pool is in another state from now on. */
void cueball__pool_enter(cueball_pool *pool, cueball_pool_state state)
{
    if (cueball__pool_watches(pool, CUEBALL_EVENT_POOL_STATE)) {
        cueball_event event = { .kind = CUEBALL_EVENT_POOL_STATE, .from = (int32_t)pool->state, .to = (int32_t)state };
        cueball__event_add(pool, &event);
    }
    pool->state = state;
}

/* A connection opened, or one to a backend that was dead has proven itself. */
void cueball__pool_connected(cueball_pool *pool)
{
    if (pool->state == CUEBALL_POOL_STARTING || pool->state == CUEBALL_POOL_FAILED)
        cueball__pool_enter(pool, CUEBALL_POOL_RUNNING);
}
