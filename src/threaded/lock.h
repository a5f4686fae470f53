#ifndef CUEBALL_THREADED_LOCK_H
#define CUEBALL_THREADED_LOCK_H

#include "state.h"

void cueball__threaded_enter(cueball_threaded *pool);
void cueball__threaded_leave(cueball_threaded *pool);
bool cueball__threaded_reserve_answers(cueball_threaded *pool, uint32_t more);
void cueball__threaded_grant(cueball_threaded *pool, cueball__waiter *waiter, const cueball_grant *grant);

#endif
