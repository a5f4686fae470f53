#ifndef CUEBALL_CORE_CONN_H
#define CUEBALL_CORE_CONN_H

#include "state.h"

void cueball__slot_retry(cueball_pool *pool, cueball__slot *slot, cueball_time elapsed, cueball_cause cause, cueball_cause blame);
void cueball__slot_closed(cueball_pool *pool, cueball__slot *slot, cueball_cause cause);
void cueball__slot_blame(cueball_pool *pool, cueball__slot *slot, cueball_cause cause);
void cueball__slot_lose(cueball_pool *pool, cueball__slot *slot);
void cueball__slot_rest_due(cueball_pool *pool, cueball__slot *slot);
void cueball__slot_due(cueball_pool *pool, cueball__slot *slot);
void cueball__slot_options_changed(cueball_pool *pool, cueball__slot *slot);
void cueball__backend_renew(cueball_pool *pool, cueball__backend *backend, cueball_time span, double phase);

#endif
