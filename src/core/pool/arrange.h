#ifndef CUEBALL_CORE_ARRANGE_H
#define CUEBALL_CORE_ARRANGE_H

#include "state.h"

void cueball__backend_empty(cueball_pool *pool, cueball__backend *backend);
void cueball__pool_plan(cueball_pool *pool);
void cueball__pool_fill(cueball_pool *pool);
void cueball__probes_begin(cueball_pool *pool);

#endif
