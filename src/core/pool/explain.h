#ifndef CUEBALL_CORE_EXPLAIN_H
#define CUEBALL_CORE_EXPLAIN_H

#include "state.h"

void cueball__reasons_stalled(cueball_pool *pool, cueball_time since);
void cueball__reasons_note(cueball_pool *pool);

#endif
