/* Connection factories and resolvers in C, for pools that are scripted in Lua:
 *
 *     static int db_connect(void *user, cueball_native_connection *connection, const cueball_native_call *call)
 *     {
 *         db *opened = db_open(call->address, call->port, cueball_native_left_ms(call));
 *         if (!opened) {
 *             snprintf(call->message, call->message_size, "no database there");
 *             return CUEBALL_NATIVE_UNFIT;
 *         }
 *         connection->pointer = opened;
 *         connection->fd = db_socket(opened);
 *         return CUEBALL_NATIVE_DONE;
 *     }
 *     static const cueball_native_factory factory = { .connect = db_connect, .close = db_close };
 *
 *     cueball_native_factory_register("db", &factory);
 *
 * and in the script: cueball.pool { connect = cueball.native "db", … }.  A factory may wait as long as
 * it likes: it is called in threads of its own, and what comes after the time limit is closed.
 *
 * Threads: every function may be called from any thread at any time, unless it says otherwise.
 * Texts are UTF-8 that end with NUL.  Where memory is needed it comes from malloc().
 *
 * fork(): in the child no thread of the parent's goes on.  Registrations stay.  Loops and sinks are the parent's: nothing comes from
 * them any more, and what is begun on them is refused with CUEBALL_EFORKED. */
#ifndef CUEBALL_NATIVE_H
#define CUEBALL_NATIVE_H

#include "cueball.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -------------------------------------------------------------- factories -- */

/* What a factory has opened: at least one of the two. */
typedef struct cueball_native_connection {
    void *pointer; /* the factory's own; NULL: none */
    int32_t fd;    /* a descriptor that is open; -1: none */
    uint32_t reserved;
} cueball_native_connection;

/* What a factory's function returns.  What is not on this list counts as CUEBALL_NATIVE_UNFIT. */
typedef enum cueball_native_status {
    CUEBALL_NATIVE_DONE = 0,     /* it is open, fit, clean */
    CUEBALL_NATIVE_READABLE = 1, /* connect and step of a factory that never blocks: call step once connection->fd is readable */
    CUEBALL_NATIVE_WRITABLE = 2, /* … writable */
    CUEBALL_NATIVE_UNFIT = -1,   /* connect failed; the connection is in a state that nobody expects: that tells nothing of the backend */
    CUEBALL_NATIVE_WORN = -2,    /* it has worked, and is used up */
    CUEBALL_NATIVE_LOST = -3,    /* the backend closed it before it did anything */
    CUEBALL_NATIVE_TIMEOUT = -4, /* an answer is under way still */
    CUEBALL_NATIVE_DIRTY = -5    /* broken only: reset can mend it */
} cueball_native_status;

/* One call of a factory's function; the library's memory, as long as the call lasts. */
typedef struct cueball_native_call {
    uint32_t struct_size;
    uint32_t attempt;      /* connect and step: 1, 2 … in a row; else 0 */
    cueball_time deadline; /* as cueball_clock_now(): nobody waits any longer */
    const char *pool;      /* its name; never NULL, nor are these: */
    const char *key;       /* of the backend */
    const char *name;
    const char *address; /* an IP address in numbers, or "unix:/path" */
    uint32_t port;
    uint32_t weight;
    char *message;         /* where to say what went wrong; "" at first */
    uint32_t message_size; /* bytes of it, the NUL included; what is not ended there is cut */
    uint32_t reserved;
    const void *under_way; /* the library's own */
} cueball_native_call;

/* Milliseconds until the call's deadline, 0 at least: a limit to hand on.  Within the call. */
CUEBALL_API double cueball_native_left_ms(const cueball_native_call *call);
/* Does anybody still wait for the call?  false: its deadline is over, or its pool has given it up, or stops.  What takes long
 * should ask this now and then, and return.  Takes no lock.  Within the call, from any thread. */
CUEBALL_API bool cueball_native_is_wanted(const cueball_native_call *call);

/* Called in worker threads that the library starts for this factory: connect, check, reset and close, several at once for
 * different connections, one at a time for one.  All signals are blocked there.  With never_blocks they are called in the
 * thread of the event loop instead, as broken always is.  None is called for a connection that a claimer has, but close, when
 * the pool stops and does not wait for it any longer. */
typedef struct cueball_native_factory {
    uint32_t struct_size;
    /* At most so many calls that somebody waits for run at once, 1 to 1024; 0: 8.  Calls that were given up and did not return
     * yet, up to four times as many, do not count. */
    uint32_t threads_max;
    bool never_blocks; /* every function returns at once: no threads */
    void *user;        /* comes with each call */

    /* Opens a connection: sets *connection, which is { NULL, -1 } before, and returns CUEBALL_NATIVE_DONE.  When it fails it frees
     * what it made, and says why in call->message.  Required. */
    int (*connect)(void *user, cueball_native_connection *connection, const cueball_native_call *call);
    /* Only with never_blocks.  Goes on with what connect or step has begun, as connection->fd is ready.  The descriptor may be
     * another one afterwards.  If the call is given up between two steps, `close` gets the connection as it is. */
    int (*step)(void *user, cueball_native_connection *connection, const cueball_native_call *call);
    /* Closes what was opened.  It cannot fail.  NULL: close(2) of the descriptor, and nothing for the pointer. */
    void (*close)(void *user, const cueball_native_connection *connection);
    /* Does a connection at rest still work?  NULL: `broken` is asked. */
    int (*check)(void *user, const cueball_native_connection *connection, const cueball_native_call *call);
    /* Cleans a connection that `broken` calls CUEBALL_NATIVE_DIRTY.  NULL: it is closed. */
    int (*reset)(void *user, const cueball_native_connection *connection, const cueball_native_call *call);
    /* What is wrong with it, as far as that can be told at once?  Asked at each release, and when its descriptor becomes readable at
     * rest: then it has to read what came, or to say what is wrong.  NULL: the descriptor is looked at (MSG_PEEK): whether the
     * backend has closed it, or sent what nobody asked for. */
    int (*broken)(void *user, const cueball_native_connection *connection, const cueball_native_call *call);
    /* The factory was unregistered, and nobody uses it any more.  NULL: nothing.  In whichever thread let go of it last. */
    void (*free_user)(void *user);
} cueball_native_factory;

/* Makes a factory known in this process, under a name of 1 to 255 bytes without control characters.  The struct and the name are
 * copied.  CUEBALL_EEXISTS: a factory of this name is registered.  CUEBALL_EINVAL: the name, no connect, step without never_blocks,
 * threads_max.  CUEBALL_ENOMEM.  When it fails, free_user is not called. */
CUEBALL_API int cueball_native_factory_register(const char *name, const cueball_native_factory *factory);
/* No pool finds it any more, and the name is free.  Pools that have it go on with it: its functions and `user` must stay until
 * free_user is called.  CUEBALL_ENOT_FOUND. */
CUEBALL_API int cueball_native_factory_unregister(const char *name);

/* -------------------------------------------------------------- resolvers -- */

/* Whom a resolver tells what it knows: one run of it, for one pool. */
typedef struct cueball_native_sink cueball_native_sink;

typedef struct cueball_native_resolver {
    uint32_t struct_size;
    uint32_t reserved;
    void *user; /* comes with each run */
    /* Says where the backends are, for as long as cueball_native_sink_is_wanted().  In a thread of its own for each pool, with all signals
     * blocked; nothing waits for it when the pool stops.  0: it has said what it had to say.  Else it has failed, and is run again after a
     * pause; what it said stays.  Required. */
    int (*run)(void *user, cueball_native_sink *sink);
    void (*free_user)(void *user); /* as of a factory */
} cueball_native_resolver;

/* As for factories; the names of resolvers are apart from those. */
CUEBALL_API int cueball_native_resolver_register(const char *name, const cueball_native_resolver *resolver);
CUEBALL_API int cueball_native_resolver_unregister(const char *name);

/* What a resolver says, until it returns, also in threads that it has started and that end before it.  What is wrong with a backend is
 * said in the pool's log.  Everything is copied.  0, or
 *   CUEBALL_EPOOL_STOPPING: the resolver is to end;
 *   CUEBALL_EINVAL: NULL, or a text of more than 1023 bytes;
 *   CUEBALL_ENOMEM.
 * Where 10,000 backends that were said wait for the pool's thread, they wait too. */

/* A backend is there: docs/contracts.md says what its members may be.  key NULL or "": "address:port". */
CUEBALL_API int cueball_native_sink_add(cueball_native_sink *sink, const cueball_backend_spec *backend);
CUEBALL_API int cueball_native_sink_remove(cueball_native_sink *sink, const char *key);
/* These are all there are.  What was said before and not yet heard is forgotten.  All have the struct_size of the first. */
CUEBALL_API int cueball_native_sink_set(cueball_native_sink *sink, const cueball_backend_spec *backends, size_t count);
/* The backends cannot be found at present; the last known ones stay. */
CUEBALL_API int cueball_native_sink_fail(cueball_native_sink *sink, const char *message);
/* They can be found again. */
CUEBALL_API int cueball_native_sink_recover(cueball_native_sink *sink);

/* Is the resolver to go on?  Takes no lock. */
CUEBALL_API bool cueball_native_sink_is_wanted(const cueball_native_sink *sink);
/* Waits so many milliseconds (INFINITY: no limit), less if the pool fails, as backends should be looked up again then.  Returns as
 * cueball_native_sink_is_wanted(), at once when that becomes false. */
CUEBALL_API bool cueball_native_sink_sleep(cueball_native_sink *sink, double ms);
/* Have all backends of the pool failed?  Takes no lock. */
CUEBALL_API bool cueball_native_sink_has_failed(const cueball_native_sink *sink);
/* A descriptor that becomes readable when the resolver is to end, and stays so: for those that wait in poll(2).  The sink's: only
 * poll it. */
CUEBALL_API int cueball_native_sink_end_fd(const cueball_native_sink *sink);

/* ---------------------------------------------- for whoever has an event loop -- */

/* What cueball's Lua modules have factories and resolvers run by.  Nothing here waits, or calls back. */

/* A factory or resolver as it was registered, for one user. */
typedef struct cueball_native_registration cueball_native_registration;

/* The one of this name, to be let go of with cueball_native_drop().  NULL: there is none. */
CUEBALL_API cueball_native_registration *cueball_native_factory_find(const char *name);
CUEBALL_API cueball_native_registration *cueball_native_resolver_find(const char *name);
/* NULL is allowed. */
CUEBALL_API void cueball_native_drop(cueball_native_registration *registration);
/* What was registered, complete with its defaults; NULL: it is a resolver.  As long as the registration. */
CUEBALL_API const cueball_native_factory *cueball_native_factory_of(const cueball_native_registration *registration);
/* The names of what is registered, one in a line; returns the length of all, which may be more than fits, as snprintf() does. */
CUEBALL_API size_t cueball_native_names(bool resolvers, char *text, size_t size);

typedef enum cueball_native_operation {
    CUEBALL_NATIVE_CONNECT = 0,
    CUEBALL_NATIVE_STEP = 1,
    CUEBALL_NATIVE_CHECK = 2,
    CUEBALL_NATIVE_RESET = 3,
    CUEBALL_NATIVE_BROKEN = 4,
    CUEBALL_NATIVE_CLOSE = 5,
    CUEBALL_NATIVE_LOOK = 6 /* what is done for a factory without `broken` */
} cueball_native_operation;

typedef struct cueball_native_request {
    uint32_t struct_size;
    int32_t operation; /* cueball_native_operation */
    uint64_t user;     /* comes back with the result; no other call that is under way in the loop has it */
    double limit_ms;   /* 0 to one day: how long somebody waits */
    uint32_t attempt, port, weight, reserved;
    const char *pool, *key, *name, *address; /* copied; NULL: "" */
    cueball_native_connection connection;    /* of all operations but connect */
} cueball_native_request;

typedef struct cueball_native_result {
    uint64_t user;
    int32_t operation;
    int32_t status; /* cueball_native_status */
    cueball_native_connection connection;
    char message[512]; /* if the status is below 0: why; never "" then */
} cueball_native_result;

/* Calls the factory's function now, in this thread.  What it returns is made to fit: a connection without descriptor and pointer, or
 * with a descriptor that is not open, has failed.  0; CUEBALL_EINVAL: no such operation, or the factory has no function for it
 * (without `broken`, a look at the descriptor stands for that). */
CUEBALL_API int cueball_native_perform(cueball_native_registration *factory, const cueball_native_request *request,
                                       cueball_native_result *result);

/* Where results come for one event loop. */
typedef struct cueball_native_loop cueball_native_loop;

/* CUEBALL_ENOMEM, also if the process has no descriptor left. */
CUEBALL_API int cueball_native_loop_new(cueball_native_loop **loop);
/* What is under way is given up.  NULL is allowed. */
CUEBALL_API void cueball_native_loop_free(cueball_native_loop *loop);
/* Readable while there are results. */
CUEBALL_API int cueball_native_loop_fd(const cueball_native_loop *loop);
/* Takes the next result; false: there is none. */
CUEBALL_API bool cueball_native_loop_next(cueball_native_loop *loop, cueball_native_result *result);

/* Calls the factory's function in one of its threads.  0: exactly one result comes, unless the call is given up.  `loop` may be NULL for
 * a close: then none comes.  A close waits for calls of the same connection that were given up and did not return yet.
 * CUEBALL_EINVAL: the operation, limit_ms, or a factory that never blocks.  CUEBALL_ENOMEM: also if no thread can be started.  CUEBALL_EFORKED. */
CUEBALL_API int cueball_native_begin(cueball_native_loop *loop, cueball_native_registration *factory,
                                     const cueball_native_request *request);
/* Nobody waits for the result any more.  A connect that succeeds all the same is closed in its thread; a close is done all the same.
 * 0: it runs, or is done; 1: it had not begun, for want of a thread, and will not (a close will).  CUEBALL_ENOT_FOUND. */
CUEBALL_API int cueball_native_give_up(cueball_native_loop *loop, uint64_t user);

/* A connection that a garbage collector looks after: closes it in a thread of its factory's, or at once with never_blocks, and drops the
 * registration. */
typedef struct cueball_native_open {
    cueball_native_registration *factory; /* with a reference; NULL: nothing is done */
    cueball_native_connection connection;
} cueball_native_open;
CUEBALL_API void cueball_native_open_lost(cueball_native_open *open);
/* One more user of it. */
CUEBALL_API cueball_native_registration *cueball_native_keep(cueball_native_registration *registration);

/* How busy the threads of a factory are; of a resolver `threads` alone is told: runs that did not return. */
typedef struct cueball_native_load {
    uint32_t threads;  /* that there are */
    uint32_t running;  /* calls that somebody waits for, and closes */
    uint32_t given_up; /* calls that nobody waits for, and that did not return yet */
    uint32_t waiting;  /* calls that have no thread yet */
} cueball_native_load;
CUEBALL_API void cueball_native_load_of(const cueball_native_registration *registration, cueball_native_load *load);

/* Starts a run of a resolver, in a thread of its own: to be ended with cueball_native_sink_end().  CUEBALL_ENOMEM: also if there is no
 * thread or no descriptor left. */
CUEBALL_API int cueball_native_sink_start(cueball_native_registration *resolver, cueball_native_sink **sink);
/* Readable while something was said and not taken. */
CUEBALL_API int cueball_native_sink_fd(const cueball_native_sink *sink);

typedef enum cueball_native_saying_kind {
    CUEBALL_NATIVE_SAYING_ADD = 0,    /* backends[0] */
    CUEBALL_NATIVE_SAYING_REMOVE = 1, /* backends[0].key */
    CUEBALL_NATIVE_SAYING_SET = 2,
    CUEBALL_NATIVE_SAYING_FAIL = 3, /* message */
    CUEBALL_NATIVE_SAYING_RECOVER = 4,
    CUEBALL_NATIVE_SAYING_END = 5 /* the last: the resolver has returned `status` */
} cueball_native_saying_kind;

/* What a resolver said; lives until the next one is taken. */
typedef struct cueball_native_saying {
    int32_t kind;   /* cueball_native_saying_kind */
    int32_t status; /* what run has returned */
    const cueball_backend_spec *backends;
    size_t count;
    const char *message;
} cueball_native_saying;

/* Takes the next; false: there is none.  One thread at a time. */
CUEBALL_API bool cueball_native_sink_next(cueball_native_sink *sink, cueball_native_saying *saying);
/* The pool has failed, or works again. */
CUEBALL_API void cueball_native_sink_pool_failed(cueball_native_sink *sink, bool has_failed);
/* The resolver is to end; nothing is heard of it any more, and the sink is not to be used by whoever started it.  NULL is allowed. */
CUEBALL_API void cueball_native_sink_end(cueball_native_sink *sink);

#ifdef __cplusplus
}
#endif

#endif
