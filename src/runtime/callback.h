/* Callbacks of libuv's, in a runtime: luv ends the whole program when one throws, which is not a script's to decide. */
#ifndef CUEBALL_RUNTIME_CALLBACK_H
#define CUEBALL_RUNTIME_CALLBACK_H

#include <lua.h>

/* guard_callbacks(setter, tell), a lua_CFunction: from now on tell(message) hears what a callback threw, and the loop goes
 * on.  `setter` is luv's luv_set_callback, as package.loadlib gives it. */
int cueball__callbacks_guard(lua_State *lua);

#endif
