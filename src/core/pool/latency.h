#ifndef CUEBALL_CORE_LATENCY_H
#define CUEBALL_CORE_LATENCY_H

#include "state.h"

void cueball__latency_observe(cueball_pool *pool, cueball__backend *backend, cueball_time held);
void cueball__latency_failed(cueball_pool *pool, cueball__backend *backend, cueball_time held);
void cueball__latency_lend(cueball_pool *pool, const cueball__slot *slot);
void cueball__latency_return(cueball_pool *pool, const cueball__slot *slot);
void cueball__latency_rest(cueball_pool *pool, cueball__slot *slot);
void cueball__latency_unrest(cueball_pool *pool, cueball__slot *slot);
void cueball__latency_index(cueball_pool *pool);
cueball__slot *cueball__latency_next(cueball_pool *pool);

#endif
