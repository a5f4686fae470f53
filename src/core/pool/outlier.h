#ifndef CUEBALL_CORE_OUTLIER_H
#define CUEBALL_CORE_OUTLIER_H

#include "state.h"

void cueball__outlier_forgive(cueball_pool *pool, cueball__backend *backend);
void cueball__outlier_failed(cueball_pool *pool, cueball__backend *backend);
void cueball__outlier_returns(cueball_pool *pool, cueball__backend *backend);
void cueball__outlier_end(cueball_pool *pool);
void cueball__outlier_panic(cueball_pool *pool);

#endif
