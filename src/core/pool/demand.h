#ifndef CUEBALL_CORE_DEMAND_H
#define CUEBALL_CORE_DEMAND_H

#include "state.h"

void cueball__demand_planned(cueball_pool *pool, uint32_t before);
void cueball__demand_peak(cueball_pool *pool);
void cueball__demand_unmet(cueball_pool *pool);
uint32_t cueball__demand_target(const cueball_pool *pool);
void cueball__demand_changed(cueball_pool *pool);
void cueball__demand_connected(cueball_pool *pool, cueball_time took);
void cueball__demand_paused(cueball_pool *pool);
void cueball__demand_resumed(cueball_pool *pool);
void cueball__demand_sample(cueball_pool *pool);

#endif
