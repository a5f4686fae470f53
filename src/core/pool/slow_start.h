#ifndef CUEBALL_CORE_SLOW_START_H
#define CUEBALL_CORE_SLOW_START_H

#include "state.h"

#define CUEBALL__SLOW_STEPS 10 /* in which a revived backend gets its share */

uint32_t cueball__slow_start_share(cueball_pool *pool, cueball__backend *backend);

#endif
