#ifndef CUEBALL_CORE_BACKEND_H
#define CUEBALL_CORE_BACKEND_H

#include "state.h"

cueball__backend *cueball__backend_by_key(const cueball_pool *pool, const char *key);
bool cueball__spec_read(cueball_backend_spec *spec, const cueball_backend_spec *given);
void cueball__backends_changed(cueball_pool *pool);
void cueball__backend_remove(cueball_pool *pool, cueball__backend *backend);
int cueball__backend_add(cueball_pool *pool, const cueball_backend_spec *spec);
bool cueball__specs_are_fit(const cueball_backend_spec *specs, size_t count);
int cueball__backends_replace(cueball_pool *pool, const cueball_backend_spec *specs, size_t count);
void cueball__backends_collect(cueball_pool *pool);
void cueball__backends_free(cueball_pool *pool);

#endif
