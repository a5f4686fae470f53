/* What Lua may call in a runtime: one table of functions, which cueball.runtime.boot gets.  Nothing here calls Lua. */
#include "callback.h"
#include "runtime.h"

#include <assert.h>

#include <lauxlib.h>
#include <lua.h>

static cueball_runtime *runtime_of(lua_State *lua)
{
    cueball_runtime *runtime = lua_touserdata(lua, lua_upvalueindex(1));
    assert(runtime != NULL);
    assert(pthread_equal(pthread_self(), runtime->thread));
    return runtime;
}

static void *pointer_at(lua_State *lua, int index)
{
    return (void *)(uintptr_t)luaL_checknumber(lua, index); /* below 2^53, as LuaJIT's own are */
}

/* ---------------------------------------------------------------- requests -- */

/* next_request() → number, kind, first, second, value; or nothing */
static int next_request(lua_State *lua)
{
    const cueball__request *request = cueball__request_take(runtime_of(lua));
    if (request == NULL)
        return 0;
    assert(request->is_taken);
    lua_pushnumber(lua, request->number);
    lua_pushstring(lua, request->kind);
    lua_pushstring(lua, request->first);
    lua_pushstring(lua, request->second);
    lua_pushnumber(lua, request->value);
    return 5;
}

/* answer(number, result, text or nil) → whether somebody hears it */
static int answer(lua_State *lua)
{
    uint32_t number = (uint32_t)luaL_checknumber(lua, 1);
    int result = luaL_checkint(lua, 2);
    lua_pushboolean(lua, cueball__request_answer(runtime_of(lua), number, result, luaL_optstring(lua, 3, NULL)));
    return 1;
}

/* linger(): the pools have stopped, but for connections that threads still have */
static int linger(lua_State *lua)
{
    cueball__runtime_linger(runtime_of(lua));
    return 0;
}

/* ------------------------------------------------------------------- pools -- */

/* add_pool(name, pointer) → whether there was memory */
static int add_pool(lua_State *lua)
{
    const char *name = luaL_checkstring(lua, 1);
    lua_pushboolean(lua, cueball__pools_add(runtime_of(lua), name, pointer_at(lua, 2)));
    return 1;
}

/* remove_pool(pointer) */
static int remove_pool(lua_State *lua)
{
    cueball__pools_remove(runtime_of(lua), pointer_at(lua, 1));
    return 0;
}

/* ----------------------------------------------------------------- waking -- */

/* wake_open() → the end to poll, the end to write to; or nothing: no descriptor is left */
static int wake_open(lua_State *lua)
{
    cueball__wake wake;
    if (!cueball__wake_open(&wake))
        return 0;
    lua_pushinteger(lua, wake.read_fd);
    lua_pushinteger(lua, wake.write_fd);
    return 2;
}

/* wake_close(read, write) */
static int wake_close(lua_State *lua)
{
    cueball__wake wake = { luaL_checkint(lua, 1), luaL_checkint(lua, 2) };
    cueball__wake_close(&wake);
    return 0;
}

/* wake_clear(read) */
static int wake_clear(lua_State *lua)
{
    cueball__wake_clear(luaL_checkint(lua, 1));
    return 0;
}

/* --------------------------------------------------------------------- log -- */

/* log(level, line) */
static int log_line(lua_State *lua)
{
    cueball_runtime *runtime = runtime_of(lua);
    const char *level = luaL_checkstring(lua, 1), *line = luaL_checkstring(lua, 2);
    if (!atomic_load(&runtime->is_muted))
        runtime->script.log(runtime->script.log_user, level, line);
    return 0;
}

/* ------------------------------------------------------------------- table -- */

static void set_text(lua_State *lua, const char *field, const char *text)
{
    assert(lua_istable(lua, -1));
    lua_pushstring(lua, text); /* nil if NULL */
    lua_setfield(lua, -2, field);
}

static void set_arguments(lua_State *lua, const cueball__script *script)
{
    assert(lua_istable(lua, -1));
    assert(script->argument_count == 0 || script->arguments != NULL);
    lua_newtable(lua);
    for (uint32_t index = 0; index < script->argument_count; index++) {
        lua_pushstring(lua, script->arguments[index]);
        lua_rawseti(lua, -2, (int)index + 1);
    }
    lua_setfield(lua, -2, "arguments");
}

void cueball__script_open(lua_State *lua, cueball_runtime *runtime)
{
    assert(runtime != NULL);
    static const luaL_Reg functions[] = {
        { "next_request", next_request }, { "answer", answer },           { "linger", linger },
        { "add_pool", add_pool },         { "remove_pool", remove_pool }, { "wake_open", wake_open },
        { "wake_close", wake_close },     { "wake_clear", wake_clear },   { "guard_callbacks", cueball__callbacks_guard },
    };
    lua_newtable(lua);
    for (size_t index = 0; index < sizeof functions / sizeof *functions; index++) {
        lua_pushlightuserdata(lua, runtime);
        lua_pushcclosure(lua, functions[index].func, 1);
        lua_setfield(lua, -2, functions[index].name);
    }
    if (runtime->script.log != NULL) {
        lua_pushlightuserdata(lua, runtime);
        lua_pushcclosure(lua, log_line, 1);
        lua_setfield(lua, -2, "log");
    }
    lua_pushinteger(lua, runtime->wake.read_fd);
    lua_setfield(lua, -2, "wake_fd");
    set_text(lua, "name", runtime->name);
    set_text(lua, "file", runtime->script.file);
    set_text(lua, "text", runtime->script.text);
    set_arguments(lua, &runtime->script);
    assert(lua_istable(lua, -1));
}
