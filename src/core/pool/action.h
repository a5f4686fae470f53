#ifndef CUEBALL_CORE_ACTION_H
#define CUEBALL_CORE_ACTION_H

#include "state.h"

void cueball__chore_add(cueball_pool *pool, cueball__slot *slot, uint8_t chore);
bool cueball__chore_drop(cueball_pool *pool, cueball__slot *slot, uint8_t chore);
void cueball__answer_add(cueball_pool *pool, cueball__claim *claim);
void cueball__answer_drop(cueball_pool *pool, cueball__claim *claim);
bool cueball__answer_next(cueball_pool *pool, cueball_action *action);
bool cueball__chore_next(cueball_pool *pool, cueball_action *action);

#endif
