/* cueball_runtime: C programs with threads, their pools scripted in Lua.
 *
 * A runtime is one thread that runs LuaJIT, libuv and a script.  The script declares
 * pools, in the same Lua as everywhere, each with a name; threads of the program look
 * them up by it and claim from them (cueball_threaded.h):
 *
 *     cueball_runtime_options options = { .file = "pools.lua" };
 *     cueball_runtime *runtime;
 *     cueball_threaded *db;
 *     cueball_lease lease;
 *     if (cueball_runtime_start(&options, &runtime) != 0 || cueball_runtime_pool(runtime, "db", &db) != 0)
 *         ...cueball_last_error() says why...
 *     if (cueball_threaded_claim(db, 1000, &lease) == 0) {    in any thread
 *         ...read and write lease.fd...
 *         cueball_lease_release(&lease);
 *     }
 *     cueball_threaded_drop(db);
 *     cueball_runtime_free(runtime);
 *
 * A library of its own, libcueball_runtime: libcueball knows nothing of Lua.
 *
 * Threads: every function may be called from any thread at any time, but
 * cueball_runtime_free(), which is the last call of all.  Those that ask the runtime's thread
 * for something wait for it: see each.  Called in the runtime's own thread (by a C function
 * that the script calls) these return CUEBALL_EDEADLOCK instead.
 *
 * Fork: in a child process every function returns CUEBALL_EFORKED (or NULL, or nothing):
 * threads do not go along.  Start a runtime after the fork.
 *
 * Signals: the runtime's thread blocks all of them.  Nothing of the process is changed: no
 * handler, not SIGPIPE, no locale, no working directory.
 *
 * Errors: what is returned is listed in cueball_error, and cueball_last_error()
 * (cueball_threaded.h) has a sentence with the facts. */
#ifndef CUEBALL_RUNTIME_H
#define CUEBALL_RUNTIME_H

#include "cueball_threaded.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cueball_runtime cueball_runtime;

/* How a runtime is started.  One of `file` and `text` must be given.  All strings are copied. */
typedef struct cueball_runtime_options {
    uint32_t struct_size;
    uint32_t argument_count;      /* of `arguments`; 4096 at most */
    const char *name;             /* in its own messages, before its pools' names ("name/db"), and of its thread (the first 15
                                      bytes); NULL: "cueball", of a second one "cueball-2" and so on */
    const char *file;             /* the script: a file, or… */
    const char *text;             /* …its text */
    const char *const *arguments; /* the script's `...`: strings; NULL with argument_count 0 */
    const char *lua_path;         /* patterns that are put before LuaJIT's package.path; NULL: none */
    const char *lua_cpath;        /* the same of package.cpath */
    double start_timeout_ms;      /* how long the script may take to return, 1 to one day; 0: 10,000 */
    void (*log)(void *user, const char *level, const char *line); /* a line of the log; level: "debug", "info", "warn", "error".
                                      Called in the runtime's thread: it may not wait for that thread.  NULL: lines from the level
                                      in the environment's CUEBALL_LOG on ("info") go to stderr */
    void *log_user;                                               /* comes back in `log` */
} cueball_runtime_options;

/* Starts a runtime: its thread, and in it the script.  Returns when the script has returned.  Its pools are there then;
 * they connect by themselves, and a claim waits for that.
 * 0; *runtime is the caller's, to be freed with cueball_runtime_free().  Else *runtime is NULL, and nothing is left behind:
 * CUEBALL_EINVAL: the options; CUEBALL_ENOMEM: no memory, thread or descriptor;
 * CUEBALL_ESCRIPT: the script: cueball_last_error() says where and why, with a traceback.  It could not be read or compiled,
 *   it raised an error, or it did not return in time.  A script that loops without an end is broken off.  One that hangs in a
 *   function of C cannot be: its thread is left alone then, and ends by itself should that function ever return. */
CUEBALL_API int cueball_runtime_start(const cueball_runtime_options *options, cueball_runtime **runtime);

/* Looks up one of the runtime's pools.  Waits for nobody.
 * 0; *pool is one more reference, to be dropped with cueball_threaded_drop(): it may be kept longer than the runtime, and is
 * a pool that has stopped then.  Else *pool is NULL: CUEBALL_ENOT_FOUND: no pool has this name, see cueball_last_error() for
 * those there are; CUEBALL_EPOOL_STOPPING: the runtime has been stopped; CUEBALL_EINVAL: an argument is NULL. */
CUEBALL_API int cueball_runtime_pool(cueball_runtime *runtime, const char *name, cueball_threaded **pool);

/* Stops a runtime.  From now on every claim is refused with CUEBALL_EPOOL_STOPPING, those that wait too.  Leases are waited
 * for up to drain_timeout_ms (0 to one day); then the descriptors of those still out are shut down, so that whoever waits in
 * one goes on, and the connections close when they are given back.  Waits until all that is done and the thread has ended, for
 * drain_timeout_ms and what closing takes.  Then only cueball_runtime_free() is of use; other calls return
 * CUEBALL_EPOOL_STOPPING.  Whoever stops it while another does waits as well; stopped again: 0, at once.
 * 0; CUEBALL_ESCRIPT: the thread did not come to it within 10 s more, as the script hangs: it is left alone, claims are refused
 * all the same; CUEBALL_EDEADLOCK: called in the runtime's own thread; CUEBALL_EINVAL. */
CUEBALL_API int cueball_runtime_stop(cueball_runtime *runtime, double drain_timeout_ms);

/* Frees a runtime; stops it before, without waiting for leases, if it was not stopped.  NULL: nothing.  No other call on this
 * runtime may be under way, or come later.  References to its pools, and leases, stay valid. In the runtime's own thread it
 * does nothing. */
CUEBALL_API void cueball_runtime_free(cueball_runtime *runtime);

/* ---- asking the runtime's thread; each waits for it, 10 s at most, else CUEBALL_ESCRIPT (or NULL): the script hangs ------------- */

/* Loads the script anew, while its pools live (docs/reload.md): pools whose declaration is the same stay untouched, changed
 * options are applied, a changed resolver or factory is replaced, pools that went are drained, new ones are made.  A file is read
 * anew; a text is the same, so that only what the script reads itself may be different.  dry_run: nothing is changed, and it is
 * told what would be.  Waits for the script as cueball_runtime_start() does, and for one that loads already.
 * 0; *report, if report is not NULL, is a text of some lines, to be freed with cueball_runtime_text_free().  Else *report is NULL:
 * CUEBALL_ESCRIPT: as of cueball_runtime_start(), and nothing was changed; CUEBALL_EPOOL_STOPPING; CUEBALL_EDEADLOCK;
 * CUEBALL_EINVAL; CUEBALL_ENOMEM. */
CUEBALL_API int cueball_runtime_reload(cueball_runtime *runtime, bool dry_run, char **report);

/* Changes options of a pool.  `options` is the inside of a Lua table: "max_connections = 20, spares = 4" (docs/lua.md).  All of
 * them are changed, or none.
 * 0; CUEBALL_EINVAL: what is wrong with them is told by cueball_last_error(); CUEBALL_ENOT_FOUND: no such pool;
 * CUEBALL_EPOOL_STOPPING; CUEBALL_ESCRIPT; CUEBALL_EDEADLOCK; CUEBALL_ENOMEM. */
CUEBALL_API int cueball_runtime_set(cueball_runtime *runtime, const char *pool, const char *options);

/* The numbers of all its pools and sets as OpenMetrics text for Prometheus, and their state as JSON (docs/monitor.md has both).
 * To be freed with cueball_runtime_text_free(). NULL: see cueball_last_error(). */
CUEBALL_API char *cueball_runtime_metrics(cueball_runtime *runtime);
CUEBALL_API char *cueball_runtime_state(cueball_runtime *runtime);

/* Frees a text that a function of this header returned.  NULL: nothing. */
CUEBALL_API void cueball_runtime_text_free(char *text);

#ifdef __cplusplus
}
#endif

#endif
