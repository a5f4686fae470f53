#ifndef CUEBALL_CORE_EVIDENCE_H
#define CUEBALL_CORE_EVIDENCE_H

#include "state.h"

cueball_time cueball__proof_due(const cueball_pool *pool, const cueball__slot *slot);
void cueball__backend_takes_more(cueball_pool *pool, cueball__backend *backend);
bool cueball__attempt_judge(cueball_pool *pool, const cueball__slot *slot, cueball_time outlived, cueball_cause cause);
bool cueball__backend_may_doubt(const cueball_pool *pool, cueball__backend *backend);

#endif
