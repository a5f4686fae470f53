#include "callback.h"

#include <assert.h>

#include <lauxlib.h>

/* luv's types (its luv.h), which are not installed everywhere: how it calls a callback, and the function that changes that. */
typedef int (*luv_call)(lua_State *lua, int argument_count, int result_count, int flags);
typedef void (*luv_setter)(lua_State *lua, luv_call call);

static const char TELL = 't'; /* its address is where the registry has tell() */

static int traced(lua_State *lua)
{
    if (!lua_isstring(lua, 1)) {
        lua_getglobal(lua, "tostring");
        lua_insert(lua, 1);
        lua_call(lua, 1, 1);
    }
    luaL_traceback(lua, lua, lua_tostring(lua, 1), 1);
    return 1;
}

/* Calls tell() with the message at the top of the stack, which is taken off.  What tell() throws is dropped. */
static void tell(lua_State *lua)
{
    assert(lua_gettop(lua) >= 1);
    lua_pushlightuserdata(lua, (void *)&TELL);
    lua_rawget(lua, LUA_REGISTRYINDEX);
    assert(lua_isfunction(lua, -1));
    lua_insert(lua, -2);
    if (lua_pcall(lua, 1, 0, 0) != 0)
        lua_pop(lua, 1);
}

/* As luv's own: the results are left on the stack, and counted; below 0, and no results: it threw. */
static int call(lua_State *lua, int argument_count, int result_count, int flags)
{
    int function = lua_gettop(lua) - argument_count;
    (void)flags; /* whether to tell, and whether to end the program */
    assert(function >= 1);
    lua_pushcfunction(lua, traced);
    lua_insert(lua, function);
    int status = lua_pcall(lua, argument_count, result_count, function);
    lua_remove(lua, function);
    if (status == 0)
        return result_count == LUA_MULTRET ? lua_gettop(lua) - function + 1 : result_count;
    tell(lua);
    return -status;
}

int cueball__callbacks_guard(lua_State *lua)
{
    lua_CFunction found = lua_tocfunction(lua, 1);
    luaL_argcheck(lua, found != NULL, 1, "a function of luv's");
    luaL_checktype(lua, 2, LUA_TFUNCTION);
    lua_pushlightuserdata(lua, (void *)&TELL);
    lua_pushvalue(lua, 2);
    lua_rawset(lua, LUA_REGISTRYINDEX);
    ((luv_setter)(void (*)(void))found)(lua, call);
    return 0;
}
