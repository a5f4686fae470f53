#ifndef CUEBALL_CORE_OVERLOAD_H
#define CUEBALL_CORE_OVERLOAD_H

#include "state.h"

void cueball__overload_observe(cueball__overload *overload, cueball_time now, cueball_time waited, cueball_time target);
void cueball__overload_end(cueball__overload *overload);
cueball_time cueball__overload_wait_max(const cueball__overload *overload, cueball_time target);

#endif
