#ifndef CUEBALL_THREADED_NAMES_H
#define CUEBALL_THREADED_NAMES_H

#include "state.h"

int cueball__name_publish(cueball_threaded *pool);
void cueball__name_withdraw(cueball_threaded *pool);

#endif
