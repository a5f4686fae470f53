#ifndef CUEBALL_CORE_SLOT_H
#define CUEBALL_CORE_SLOT_H

#include "state.h"

void cueball__slot_note(cueball_pool *pool, const cueball__slot *slot, cueball_slot_state state, cueball_cause cause);
void cueball__slot_set(cueball_pool *pool, cueball__slot *slot, cueball_slot_state state, cueball_cause cause);
bool cueball__slot_is_wanted(const cueball_pool *pool, const cueball__slot *slot);
void cueball__slot_open(cueball_pool *pool, cueball__slot *slot, cueball_cause cause);
cueball__backoff cueball__slot_backoff_now(const cueball_pool *pool, const cueball__slot *slot, bool has_opened);
cueball_time cueball__slot_pause_span(cueball_pool *pool, const cueball__slot *slot, bool has_opened);
void cueball__slot_pause(cueball_pool *pool, cueball__slot *slot, cueball_time elapsed, bool has_opened, cueball_cause cause);
bool cueball__slot_add(cueball_pool *pool, cueball__backend *backend);
void cueball__slot_remove(cueball_pool *pool, cueball__slot *slot, cueball_cause cause);
void cueball__slot_give_up(cueball_pool *pool, cueball__slot *slot);
void cueball__slot_check_begin(cueball_pool *pool, cueball__slot *slot);
void cueball__slot_check(cueball_pool *pool, cueball__slot *slot);
void cueball__checks_begin(cueball_pool *pool);
void cueball__slot_checked(cueball_pool *pool, cueball__slot *slot);
void cueball__slot_close(cueball_pool *pool, cueball__slot *slot, cueball_cause cause);
void cueball__slot_limit_life(const cueball_pool *pool, cueball__slot *slot);
void cueball__slot_want_back(cueball_pool *pool, cueball__slot *slot, cueball_cause cause);
bool cueball__slot_is_last(const cueball_pool *pool, const cueball__slot *slot);
void cueball__slot_drop(cueball_pool *pool, cueball__slot *slot, cueball_cause cause);
void cueball__set_has_another(cueball_pool *pool);

#endif
