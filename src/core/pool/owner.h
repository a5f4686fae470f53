#ifndef CUEBALL_CORE_OWNER_H
#define CUEBALL_CORE_OWNER_H

#include "state.h"

void cueball__owners_end(cueball_pool *pool);

#endif
