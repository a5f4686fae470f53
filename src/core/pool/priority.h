#ifndef CUEBALL_CORE_PRIORITY_H
#define CUEBALL_CORE_PRIORITY_H

#include "state.h"

uint32_t cueball__priority_used(const cueball_pool *pool);

#endif
