#ifndef CUEBALL_CORE_COPY_H
#define CUEBALL_CORE_COPY_H

#include "state.h"

cueball_pool *cueball__pool_copy(const cueball_pool *pool);

#endif
