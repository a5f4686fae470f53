/* The runtime's thread: makes a Lua state, and calls cueball.runtime.boot in it.
 *
 * The happy path: boot takes the request to start, loads the script, answers, goes on with requests, and returns when it was asked to
 * stop and all pools have stopped.
 *
 * What can go wrong: there is no memory for the state, or no cueball, luv or script in it: the request to start gets the reason. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* dladdr, pthread_setname_np */
#endif

#include "runtime.h"

#include <assert.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#ifndef CUEBALL_RUNTIME_LUADIR
#define CUEBALL_RUNTIME_LUADIR "../share/lua/5.1"
#endif

/* Modules of C are loaded by one runtime at a time: luv changes how the process takes SIGPIPE, and this is put back. */
static pthread_mutex_t loading_lock = PTHREAD_MUTEX_INITIALIZER;

void cueball__thread_forked(void)
{
    (void)pthread_mutex_init(&loading_lock, NULL);
}

static void set_thread_name(const char *name)
{
    assert(name[0] != 0);
#ifdef __linux__
    char shown[16];
    (void)snprintf(shown, sizeof shown, "%s", name);
    (void)pthread_setname_np(pthread_self(), shown);
#else
    (void)name;
#endif
}

/* ------------------------------------------------------ where the modules are -- */

/* The folder of the file that has this address, with the slash at its end; "": nobody knows. */
static void folder_of(const void *address, char *folder, size_t size)
{
    assert(size > 0);
    Dl_info info;
    folder[0] = 0;
    if (dladdr(address, &info) == 0 || info.dli_fname == NULL)
        return;
    const char *slash = strrchr(info.dli_fname, '/');
    size_t length = slash != NULL ? (size_t)(slash - info.dli_fname) + 1 : 0;
    if (length > 0 && length < size) {
        memcpy(folder, info.dli_fname, length);
        folder[length] = 0;
    }
}

static bool has_file(const char *folder, const char *place, const char *file)
{
    assert(place != NULL);
    assert(file != NULL);
    char path[4096];
    int length = snprintf(path, sizeof path, "%s%s/%s", folder, place, file);
    return length > 0 && (size_t)length < sizeof path && access(path, R_OK) == 0;
}

/* Puts patterns before what a field of `package` has. */
static void prepend(lua_State *lua, const char *field, const char *patterns)
{
    assert(patterns != NULL);
    lua_getglobal(lua, "package");
    lua_getfield(lua, -1, field);
    lua_pushfstring(lua, "%s;%s", patterns, lua_tostring(lua, -1));
    lua_setfield(lua, -3, field);
    lua_pop(lua, 2);
    assert(lua_gettop(lua) >= 1); /* the patterns, or more */
}

/* The modules that belong to this library are beside it: as they are installed, or in the folder that it was built in. */
static void prepend_own(lua_State *lua)
{
    static const char *const places[] = { CUEBALL_RUNTIME_LUADIR, "../lua", "lua" };
    char folder[2048];
    static const char anchor = 0;
    folder_of(&anchor, folder, sizeof folder);
    if (folder[0] == 0)
        return;
    for (size_t index = 0; index < sizeof places / sizeof *places; index++) {
        const char *place = places[index];
        if (!has_file(folder, place, "cueball/init.lua") && !has_file(folder, place, "cueball/cdef.lua"))
            continue;
        lua_pushfstring(lua, "%s%s/?.lua;%s%s/?/init.lua", folder, place, folder, place);
        prepend(lua, "path", lua_tostring(lua, -1));
        lua_pop(lua, 1);
    }
}

/* The modules are to use the very libcueball that this library uses: two of them in one process would be two cores, with pools that the
 * other one does not know.  cueball.native looks here. */
static void name_library(lua_State *lua)
{
    Dl_info info;
    const char *(*version)(void) = cueball_version;
    void *address;
    memcpy(&address, &version, sizeof address); /* ISO C knows no cast from a function to an object */
    if (dladdr(address, &info) == 0 || info.dli_fname == NULL)
        return;
    lua_newtable(lua);
    lua_pushstring(lua, info.dli_fname);
    lua_setfield(lua, -2, "cueball");
    lua_setfield(lua, LUA_REGISTRYINDEX, "cueball.native.given");
}

/* ----------------------------------------------------------------- running -- */

static int with_traceback(lua_State *lua)
{
    assert(lua_gettop(lua) == 1);
    if (lua_tostring(lua, 1) == NULL)
        lua_pushliteral(lua, "an error that is no text");
    luaL_traceback(lua, lua, lua_tostring(lua, -1), 1);
    return 1;
}

/* In a protected call: prepares the state. Leaves the function of cueball.runtime.boot and its argument. */
static int prepare(lua_State *lua)
{
    assert(lua_islightuserdata(lua, 1));
    cueball_runtime *runtime = lua_touserdata(lua, 1);
    luaL_openlibs(lua);
    prepend_own(lua);
    if (runtime->script.lua_path != NULL)
        prepend(lua, "path", runtime->script.lua_path);
    if (runtime->script.lua_cpath != NULL)
        prepend(lua, "cpath", runtime->script.lua_cpath);
    name_library(lua);
    lua_getglobal(lua, "require");
    lua_pushliteral(lua, "cueball.runtime.boot");
    lua_call(lua, 1, 1);
    cueball__script_open(lua, runtime);
    return 2;
}

static int call_prepare(lua_State *lua, cueball_runtime *runtime)
{
    struct sigaction before, after;
    (void)pthread_mutex_lock(&loading_lock);
    (void)sigaction(SIGPIPE, NULL, &before);
    lua_pushcfunction(lua, with_traceback);
    lua_pushcfunction(lua, prepare);
    lua_pushlightuserdata(lua, runtime);
    int result = lua_pcall(lua, 1, 2, -3);
    if (sigaction(SIGPIPE, NULL, &after) == 0 && after.sa_handler != before.sa_handler)
        (void)sigaction(SIGPIPE, &before, NULL);
    (void)pthread_mutex_unlock(&loading_lock);
    return result;
}

/* The first request is the one to start.  If boot came so far, it has answered that. */
static void answer_start(cueball_runtime *runtime, const char *message)
{
    assert(message != NULL);
    if (!cueball__request_answer(runtime, 1, CUEBALL_ESCRIPT, message) && !atomic_load(&runtime->is_muted))
        (void)fprintf(stderr, "cueball: the runtime %s has ended: %s\n", runtime->name, message);
}

static void run_script(cueball_runtime *runtime)
{
    lua_State *lua = luaL_newstate();
    if (lua == NULL) {
        answer_start(runtime, "cueball_runtime_start: no memory for a Lua state");
        return;
    }
    if (call_prepare(lua, runtime) != 0 || lua_pcall(lua, 1, 0, 1) != 0) {
        const char *message = lua_tostring(lua, -1);
        answer_start(runtime, message != NULL ? message : "an error that is no text");
    }
    lua_close(lua);
}

void *cueball__thread_run(void *given)
{
    cueball_runtime *runtime = given;
    cueball__runtime_lock(runtime);
    assert(pthread_equal(pthread_self(), runtime->thread));
    assert(runtime->state == CUEBALL__RUNNING);
    cueball__runtime_unlock(runtime);
    set_thread_name(runtime->name);
    run_script(runtime);
    cueball__runtime_over(runtime);
    cueball__runtime_release(runtime);
    return NULL;
}
