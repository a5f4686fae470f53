#ifndef CUEBALL_CORE_PROBE_H
#define CUEBALL_CORE_PROBE_H

#include "state.h"

uint32_t cueball__probes_most(const cueball_pool *pool);
void cueball__probe_slot_came(cueball_pool *pool, cueball__backend *backend, cueball__slot *slot);
void cueball__probe_slot_goes(cueball_pool *pool, cueball__backend *backend, const cueball__slot *slot, cueball_time pause);
void cueball__probe_end(cueball_pool *pool, cueball__backend *backend);
void cueball__probe_options_changed(cueball_pool *pool, cueball__backend *backend);
bool cueball__probe_is_to_yield(cueball_pool *pool, const cueball__slot *slot);
void cueball__probe_answered(cueball_pool *pool, cueball__backend *backend);
void cueball__probe_due(cueball_pool *pool, cueball__backend *backend);

#endif
