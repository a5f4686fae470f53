/* What a runtime is made of, and which file does what to it.
 *
 * The happy path: cueball_runtime_start() copies the options and makes the thread; the thread makes a Lua state and calls
 * cueball.runtime.boot, which loads the script, says that it has started (answers `start`), and then takes requests until
 * one asks it to stop.
 *
 * What can go wrong: the thread hangs in the script, or in a function of C that the script called.  Whoever waits for it then
 * gives up, leaves the request to the thread ("abandoned"), and the runtime to the last who refers to it: its owner, or the
 * thread. */
#ifndef CUEBALL_RUNTIME_INTERNAL_H
#define CUEBALL_RUNTIME_INTERNAL_H

#include "cueball_runtime.h"
#include "pools.h"
#include "request.h"
#include "wake.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

typedef enum cueball__runtime_state {
    CUEBALL__RUNNING = 0,
    CUEBALL__STOPPING = 1, /* no pool is looked up any more */
    CUEBALL__OVER = 2      /* the thread has ended, or nothing but connections that threads still have keeps it; or it hangs */
} cueball__runtime_state;

/* What the thread is to run.  All strings are the runtime's own. */
typedef struct cueball__script {
    char *file, *text;
    char **arguments;
    uint32_t argument_count;
    char *lua_path, *lua_cpath;
    double start_timeout_ms;
    void (*log)(void *user, const char *level, const char *line);
    void *log_user;
} cueball__script;

struct cueball_runtime {
    pthread_mutex_t lock;   /* of all that follows, but what says otherwise */
    pthread_cond_t changed; /* a request was answered, or the state changed */
    int references;         /* of its owner, and of its thread */
    int state;              /* cueball__runtime_state */
    bool is_left_alone;     /* the thread hangs: nobody waits for it any more, it is detached */
    bool is_joined;
    cueball_time stops_by;          /* stopping: when the last drain time is over that was asked for */
    cueball__request *first, *last; /* those that the thread has not answered, oldest first; the "start" is number 1 */
    uint32_t requests;              /* how many there have been: their numbers */
    cueball__named_pool *pools;
    /* Set before the thread begins, and left alone after: */
    pid_t process;
    pthread_t thread;
    cueball__wake wake;
    cueball__script script;
    char *name;
    uint32_t number; /* of one without a name; 64 and more: none */
    /* Of any thread, without the lock: */
    atomic_bool is_muted; /* its owner does not wait for the thread any more: `log` is not called */
};

/* thread.c: what the runtime's thread does; it is given the runtime. */
void *cueball__thread_run(void *given);
/* In the child of a fork. */
void cueball__thread_forked(void);

/* script.c: what Lua may call; the last value on the stack is the table of it. */
struct lua_State;
void cueball__script_open(struct lua_State *lua, cueball_runtime *runtime);

/* lock.c: the lock.  What must hold of a runtime is checked as it is taken and given back. */
void cueball__runtime_lock(cueball_runtime *runtime);
void cueball__runtime_unlock(cueball_runtime *runtime);

/* runtime.c */
void cueball__runtime_release(cueball_runtime *runtime); /* one reference less; the last frees it */
/* The thread is done: those who wait for its end go on, those who wait for something else are refused. */
void cueball__runtime_over(cueball_runtime *runtime);
/* The same, but that the thread goes on for connections that other threads still have.  Nobody waits for its end. */
void cueball__runtime_linger(cueball_runtime *runtime);

#endif
