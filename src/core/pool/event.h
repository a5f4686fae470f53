#ifndef CUEBALL_CORE_EVENT_H
#define CUEBALL_CORE_EVENT_H

#include "state.h"

void cueball__event_add(cueball_pool *pool, const cueball_event *event);
void cueball__event_note(cueball_pool *pool, cueball_event_kind kind, const cueball__backend *backend, uint32_t count);
void cueball__pool_enter(cueball_pool *pool, cueball_pool_state state);
void cueball__pool_connected(cueball_pool *pool);

#endif
