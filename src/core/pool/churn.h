#ifndef CUEBALL_CORE_CHURN_H
#define CUEBALL_CORE_CHURN_H

#include "state.h"

bool cueball__backend_may_change(cueball_pool *pool, cueball__backend *backend);
void cueball__backend_has_changed(const cueball_pool *pool, cueball__backend *backend);
bool cueball__backend_may_replace(cueball_pool *pool, cueball__backend *backend, cueball_time *at);

#endif
