#ifndef CUEBALL_CORE_PREFERENCE_H
#define CUEBALL_CORE_PREFERENCE_H

#include "state.h"

void cueball__preference_add(cueball_pool *pool, cueball__backend *backend);
void cueball__preference_remove(cueball_pool *pool, const cueball__backend *backend);
bool cueball__preference_sweep(cueball_pool *pool, void (*leave)(cueball_pool *pool, cueball__backend *backend));
void cueball__preference_shuffle(cueball_pool *pool);
void cueball__preference_planned(cueball_pool *pool);

#endif
