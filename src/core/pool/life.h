#ifndef CUEBALL_CORE_LIFE_H
#define CUEBALL_CORE_LIFE_H

#include "state.h"

void cueball__siblings_suspect(cueball_pool *pool, const cueball__slot *slot);
void cueball__backend_trust(cueball_pool *pool, cueball__backend *backend);
void cueball__backend_excused(cueball_pool *pool, cueball__backend *backend);
void cueball__backend_died(cueball_pool *pool, cueball__backend *backend, uint32_t attempts, cueball_cause cause);
void cueball__slot_prove(cueball_pool *pool, cueball__slot *slot, cueball_cause cause);

#endif
