/* One pool, many threads: the pool of cueball.h behind a lock, with claims that wait.
 *
 * Any thread claims a connection, uses its descriptor or pointer, and gives it back:
 *
 *     cueball_threaded *db;
 *     cueball_threaded_find("db", &db);
 *     cueball_lease lease;
 *     if (cueball_threaded_claim(db, 500, &lease) != CUEBALL_OK)
 *         fprintf(stderr, "%s\n", cueball_last_error());
 *     ...write(lease.fd, …), read(lease.fd, …)...
 *     cueball_lease_release(&lease);
 *     cueball_threaded_drop(db);
 *
 * One thread, the host, does what the pool wants done: it opens, checks and closes
 * connections, and comes back at the pool's deadline.  libcueball_runtime has such a
 * host, whose pools are declared in Lua.  What a host of your own needs is at the end
 * of this header.
 *
 * First come, first served: claims that wait are in the queue of the pool itself, so
 * all that is said there of queues, limits and overload holds.  A thread is woken when
 * it has its answer, and no other is.  A thread may have the connection again that it
 * gave back last, without a lock, for a bounded turn: see turn_ms.
 *
 * Threads: but for the host's part, each function may be called from any thread at
 * any time, except in a signal handler.  A claim that waits is a cancellation point
 * (pthread_cancel).  What a thread holds or waits for ends with it.  `pool` must be one
 * that the caller has a reference to, or was given in a lease that is not over.
 *
 * fork(): in the child, every function refuses pools that were made before the fork,
 * with CUEBALL_EFORKED: connections cannot be shared by two processes.  The parent goes on.
 *
 * Results: 0 or an error, a cueball_error below 0; cueball_last_error() tells more. */
#ifndef CUEBALL_THREADED_H
#define CUEBALL_THREADED_H

#include "cueball.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cueball_threaded cueball_threaded; /* a pool for threads; references are counted */
typedef struct cueball_loan cueball_loan;         /* what is known of one open connection */

/* ---------------------------------------------------------------- claims -- */

/* A connection in the hands of one claimer.  The memory is the caller's, and its
 * members are to be read only.  A copy is the same lease: once one of them has ended,
 * the others are refused with CUEBALL_ESTALE.  Without a pool: no lease. */
typedef struct cueball_lease {
    cueball_threaded *pool; /* NULL: none, or over */
    cueball_loan *loan;
    uint64_t serial;
    void *pointer; /* the connection as its factory gave it out; NULL: none */
    int32_t fd;    /* its descriptor; -1: none.  Borrowed: never close it.  shutdown() is allowed if the lease
                               is then closed or failed */
    uint32_t reserved;
} cueball_lease;

typedef struct cueball_threaded_claim_options {
    uint32_t struct_size;
    bool error_on_empty; /* CUEBALL_ENO_BACKENDS at once if no backend is known */
    bool nonblocking;    /* the descriptor comes with O_NONBLOCK; else without */
    bool detached;       /* the lease does not end with the calling thread */
    double timeout_ms;   /* total wait; 0: the pool's claim_timeout_ms; INFINITY: for ever; negative: do not wait */
    uint64_t user;       /* asynchronous claims: comes back in the answer */
} cueball_threaded_claim_options;

/* Claims a connection for the calling thread; waits for it up to timeout_ms, in total
 * (0: as long as the pool's claim_timeout_ms says; INFINITY: for ever; negative: not at
 * all).  0: *lease is the caller's, until it is released, closed or failed, or the
 * thread ends.  Otherwise *lease is none, and the error is:
 * CUEBALL_ECLAIM_TIMEOUT, CUEBALL_EOVERLOADED, CUEBALL_ENO_BACKENDS, CUEBALL_EPOOL_FAILED,
 * CUEBALL_EPOOL_STOPPING: as of cueball_pool_claim();
 * CUEBALL_EUNSUPPORTED: the pool's connections cannot be handed to threads;
 * CUEBALL_EDEADLOCK: the calling thread is the host, and would wait for itself;
 * CUEBALL_EINVAL: NULL, or timeout_ms is not a number; CUEBALL_ENOMEM; CUEBALL_EFORKED.
 * A cancellation point if it waits; a thread that is cancelled then leaves the queue. */
CUEBALL_API int cueball_threaded_claim(cueball_threaded *pool, double timeout_ms, cueball_lease *lease);
/* The same without waiting: CUEBALL_ECLAIM_TIMEOUT if none is free. */
CUEBALL_API int cueball_threaded_try_claim(cueball_threaded *pool, cueball_lease *lease);
/* The same with options, which may be NULL: the pool's own. */
CUEBALL_API int cueball_threaded_claim_with(cueball_threaded *pool, const cueball_threaded_claim_options *options, cueball_lease *lease);

/* ---------------------------------------------------------------- leases -- */

/* The lease ends, and *lease is none afterwards, whatever comes back.  Any thread
 * may end it, but only one does.  CUEBALL_ESTALE: it was over before, or the pool took
 * it away.  CUEBALL_EINVAL: NULL.  CUEBALL_EFORKED. */
CUEBALL_API int cueball_lease_release(cueball_lease *lease); /* fit for the next */
CUEBALL_API int cueball_lease_close(cueball_lease *lease);   /* to be closed, nobody's fault */
/* Likewise, its backend's fault.  `why`: what the host is told, of which 255 bytes are
 * kept; may be NULL. */
CUEBALL_API int cueball_lease_fail(cueball_lease *lease, const char *why);
/* The lease goes on: how it went, as of cueball_pool_lease_reported().  CUEBALL_ESTALE,
 * CUEBALL_EINVAL, CUEBALL_EFORKED. */
CUEBALL_API int cueball_lease_report(cueball_lease *lease, bool went_well);

/* The backend that a connection leads to.  The strings are valid until the lease ends. */
typedef struct cueball_threaded_backend {
    uint32_t struct_size;
    uint32_t port;
    const char *key, *name, *address;
} cueball_threaded_backend;

/* CUEBALL_ESTALE, CUEBALL_EINVAL, CUEBALL_EFORKED. */
CUEBALL_API int cueball_lease_backend(const cueball_lease *lease, cueball_threaded_backend *backend);
/* What the claim waited for, in words, such as "waited 12.5 ms (3 ahead): busy 12.5 ms",
 * cut to `size` bytes with the final NUL.  Returns the length of the whole text;
 * CUEBALL_ESTALE, CUEBALL_EINVAL, CUEBALL_EFORKED. */
CUEBALL_API int cueball_lease_explain(const cueball_lease *lease, char *text, size_t size);
/* The lease no longer ends with the thread that has it; it ends with the calling
 * thread.  To hand a lease to another thread, detach it here, and adopt it there.
 * CUEBALL_ESTALE, CUEBALL_EINVAL, CUEBALL_ENOMEM (adopt), CUEBALL_EFORKED. */
CUEBALL_API int cueball_lease_detach(cueball_lease *lease);
CUEBALL_API int cueball_lease_adopt(cueball_lease *lease);

/* --------------------------------------------------- asynchronous claims -- */

/* For programs with an event loop of their own: a claim that has to wait is answered in
 * a mailbox, whose descriptor is one more in the loop.
 *
 *     result = cueball_threaded_claim_async(db, &options, mailbox, &lease, &claim);
 *     ...CUEBALL_OK: lease; CUEBALL_WAITING: later; else refused...
 *     ...cueball_mailbox_fd(mailbox) is readable:
 *     while (cueball_mailbox_next(mailbox, &answer))
 *         ...answer.error, answer.lease, answer.user...
 *
 * Such claims stand in the one queue of the pool, with those of threads that block.
 * A mailbox is for any number of claims, at any number of pools.  Threads: all of these
 * functions may run at any time, in any threads, on one mailbox too, but for
 * cueball_mailbox_free(): no other function may run on that mailbox, or cancel a claim
 * of it, at the same time or later.  A waiting claim belongs to its mailbox, and no
 * thread's end ends it; no function is a cancellation point. */
typedef struct cueball_mailbox cueball_mailbox;

typedef struct cueball_claim_answer {
    uint64_t user; /* of the claim's options */
    int32_t error; /* CUEBALL_OK: `lease` was granted; else why the claim was refused, as of cueball_threaded_claim() */
    uint32_t reserved;
    cueball_lease lease; /* of the thread that took the answer, or detached, as the options said */
} cueball_claim_answer;

/* An empty mailbox in *mailbox.  Uses libc's malloc(), and one descriptor (an eventfd;
 * where there is none, a pipe's two).  CUEBALL_EINVAL: NULL.  CUEBALL_ENOMEM: no memory, or
 * no descriptor is left. */
CUEBALL_API int cueball_mailbox_new(cueball_mailbox **mailbox);
/* Claims that wait are given up, leases that nobody took are released.  NULL is allowed.
 * After fork(), the child's copy of the descriptor is closed, and nothing else done. */
CUEBALL_API void cueball_mailbox_free(cueball_mailbox *mailbox);
/* Readable from the first answer that came on until the last was taken, however many
 * came; to be polled only, never read.  Who polls it edge-triggered takes answers until
 * there is none.  -1: NULL. */
CUEBALL_API int cueball_mailbox_fd(const cueball_mailbox *mailbox);
/* Takes the answer that came first into *answer; false: there is none (or NULL, or after
 * fork()).  Of one that is refused cueball_last_error() tells more. */
CUEBALL_API bool cueball_mailbox_next(cueball_mailbox *mailbox, cueball_claim_answer *answer);
/* Claims without blocking; `options` may be NULL: the pool's own, and user 0.
 * CUEBALL_OK: *lease is granted, there will be no answer.  CUEBALL_WAITING: the answer
 * comes to the mailbox; *claim is what to give it up with.  Otherwise an error of
 * cueball_threaded_claim().  *lease and *claim are zero (fd -1) where they mean nothing.
 * timeout_ms as there, but the host sees to it: while the host stands still, no
 * waiting claim is refused.  The host's own thread may claim so, too. */
CUEBALL_API int cueball_threaded_claim_async(cueball_threaded *pool, const cueball_threaded_claim_options *options,
                                             cueball_mailbox *mailbox, cueball_lease *lease, cueball_handle *claim);
/* Gives up a claim that waits: it will have no answer.  CUEBALL_ESTALE: its answer is in the
 * mailbox, or about to come there, or was taken.  CUEBALL_EINVAL: NULL.  CUEBALL_EFORKED. */
CUEBALL_API int cueball_threaded_claim_cancel(cueball_threaded *pool, cueball_handle claim);

/* --------------------------------------------------------------- looking -- */

/* What went wrong in this thread's last call that returned an error: a sentence with
 * facts, such as "claim timed out after 50 ms (3 ahead, 10 busy); the oldest lease, on db1, is
 * held 5200 ms by thread 4711 (worker); last failure: db1: connection refused".  Never NULL; "" if nothing ever went wrong.  Valid until the
 * next call of this thread that returns an error, or the thread's end. */
CUEBALL_API const char *cueball_last_error(void);
/* For libraries above this one: the text, of which 4095 bytes are kept. */
CUEBALL_API void cueball_last_error_set(const char *message);
/* As cueball_pool_stats(); what a thread did in its present turn is not told yet.  All
 * zero once the host has let go. */
CUEBALL_API void cueball_threaded_stats(cueball_threaded *pool, cueball_stats *stats);
CUEBALL_API int cueball_threaded_state(cueball_threaded *pool); /* cueball_pool_state; CUEBALL_EFORKED, CUEBALL_EINVAL */
/* Valid as long as the caller has its reference; "" if it has no name. */
CUEBALL_API const char *cueball_threaded_name(const cueball_threaded *pool);
/* State, numbers, and backends with their faults, in words and lines, cut to `size`
 * bytes with the final NUL.  Returns the length of the whole text; CUEBALL_EINVAL,
 * CUEBALL_EFORKED. */
CUEBALL_API int cueball_threaded_explain(cueball_threaded *pool, char *text, size_t size);

/* Who has a lease of the core's, for people. */
typedef struct cueball_threaded_holder {
    uint32_t struct_size;
    bool is_detached; /* the lease does not end with that thread: another one may have it by now */
    uint64_t thread;  /* that claimed it, or adopted it: its number in the kernel, as gettid() has it; 0: not known */
    char name[16];    /* that this thread has now, as pthread_setname_np() set it; "": none, not known, or is_detached */
} cueball_threaded_holder;

/* `slot` and `lease` as cueball_pool_slot_at() has them.  A thread that has a connection again and again has the lease in
 * between, too.  May read a file (the name).  CUEBALL_ESTALE: the lease is over, or no thread's: the host has it.
 * CUEBALL_EINVAL: NULL.  CUEBALL_EFORKED. */
CUEBALL_API int cueball_threaded_holder_of(cueball_threaded *pool, uint32_t slot, cueball_handle lease, cueball_threaded_holder *holder);

/* -------------------------------------------------------------- in charge -- */

/* As of cueball_pool_paused(): no claim is granted from now on, in turns neither.  With
 * wait_ms above 0 it returns when no lease is out, or after so long (at most a day): a
 * cancellation point.  0: paused, and with wait_ms no lease is out.  CUEBALL_WAITING:
 * paused, but leases are out yet.  CUEBALL_EPOOL_STOPPING, CUEBALL_EDEADLOCK (the host would
 * wait for itself; the pool is paused), CUEBALL_EINVAL, CUEBALL_EFORKED. */
CUEBALL_API int cueball_threaded_pause(cueball_threaded *pool, double wait_ms);
/* As of cueball_pool_resumed().  CUEBALL_EPOOL_STOPPING, CUEBALL_EINVAL, CUEBALL_EFORKED. */
CUEBALL_API int cueball_threaded_resume(cueball_threaded *pool);
/* As of cueball_pool_backend_drained() and _restored().  CUEBALL_ENOT_FOUND,
 * CUEBALL_EPOOL_STOPPING, CUEBALL_EINVAL, CUEBALL_EFORKED. */
CUEBALL_API int cueball_threaded_drain(cueball_threaded *pool, const char *key);
CUEBALL_API int cueball_threaded_restore(cueball_threaded *pool, const char *key);

/* ----------------------------------------------------------------- names -- */

/* The pool that was made under this name, in *pool, with a reference of the caller's:
 * cueball_threaded_drop() it.  "db" finds "app/db", too, the last one made, if none is
 * named just so.  CUEBALL_ENOT_FOUND, CUEBALL_EINVAL. */
CUEBALL_API int cueball_threaded_find(const char *name, cueball_threaded **pool);
/* One reference more, and one less; NULL is allowed.  The last one frees the pool.  So
 * none may be dropped while a lease of it, or a claim, depends on that one. */
CUEBALL_API void cueball_threaded_keep(cueball_threaded *pool);
CUEBALL_API void cueball_threaded_drop(cueball_threaded *pool);

/* -------------------------------------------------------------- the host -- */

/* The host is one thread, and calls what follows from there only.  The happy path:
 *
 *     cueball_threaded_new(&options, &pool_options, cueball_allocator_libc(), seed, cueball_clock_now(), &pool);
 *     cueball_pool_backend_added(cueball_threaded_lock(pool), cueball_clock_now(), &backend);
 *     cueball_threaded_unlock(pool);
 *     for (;;) {
 *         while (cueball_threaded_next_action(pool, &action))
 *             ...do it; an OPEN that succeeded is told with cueball_threaded_conn_opened(),
 *                all else between lock and unlock, with the functions of cueball.h...
 *         while (cueball_threaded_next_return(pool, &what))
 *             ...see cueball_return...
 *         ...wait until cueball_threaded_deadline(pool), or wake_fd or cueball_threaded_watch_fd(pool) is readable...
 *         ...read wake_fd; if the other one is: cueball_threaded_look(pool, cueball_clock_now())...
 *         cueball_threaded_time_advanced(pool, cueball_clock_now());
 *     }
 *
 * Each `now` is of cueball_clock_now(): threads ask that clock, too. */
typedef struct cueball_threaded_options {
    uint32_t struct_size;
    int32_t wake_fd;      /* 8 bytes, the number 1, are written to it when the host has something to do: an eventfd, or a
                             pipe's end, that does not block; the host's.  -1: nobody is woken */
    const char *name;     /* copied: what cueball_threaded_find() finds it by; NULL: nothing does */
    bool clocks;          /* each lease is timed, those of a turn too; false: a turn costs no more than it must */
    bool inspects;        /* leases that are released go to the host first: CUEBALL_RETURN_INSPECT; there are no turns */
    double turn_ms;       /* how long a thread may have its connection again without a lock, before the pool's order of
                             connections, lifetimes and so on get their turn; 0: 5; negative: no turns */
    uint32_t turn_leases; /* likewise, how many leases; 0: 1024, which is the most */
    uint32_t reserved;
} cueball_threaded_options;

/* A new pool in *pool, with one reference, which is the host's; the core in it is made
 * of the rest, as by cueball_pool_new().  `allocator` is called under the pool's lock,
 * by any thread.  CUEBALL_EINVAL, CUEBALL_ENOMEM, CUEBALL_EEXISTS: the name is taken,
 * by a pool that does not stop. */
CUEBALL_API int cueball_threaded_new(const cueball_threaded_options *options, const cueball_options *pool_options,
                                     const cueball_allocator *allocator, uint64_t seed, cueball_time now, cueball_threaded **pool);
/* The host lets go: claims are refused from now on, waiting ones at once, the core is
 * freed, and the name too.  Its reference is dropped.  Stop and drain the pool first:
 * the descriptors of leases that last are shut down, and must stay open. */
CUEBALL_API void cueball_threaded_close(cueball_threaded *pool);

/* The core, with the lock taken: until unlock, which tells waiting threads their
 * answers, any function of cueball.h may be called on it, but cueball_pool_free(),
 * cueball_pool_next_action() and its halves.  May be nested.  Not to be held while
 * anything is waited for.  Strings and pointers out of the core are to be copied before
 * unlock.  NULL, and then not to be unlocked, once the host has let go or after a fork. */
CUEBALL_API cueball_pool *cueball_threaded_lock(cueball_threaded *pool);
CUEBALL_API void cueball_threaded_unlock(cueball_threaded *pool);

/* A claim of the host's own, as cueball_pool_claim(): `user` must be below 2^63, and if it
 * waits, cueball_threaded_next_action() gives the answer.  Such leases are ended through
 * the core.  As cueball_pool_claim(), between lock and unlock, but with room for the
 * answer: CUEBALL_ENOMEM if there is none.  Takes the lock. */
CUEBALL_API int cueball_threaded_host_claim(cueball_threaded *pool, cueball_time now, const cueball_claim_options *options,
                                            cueball_grant *grant);
/* Takes the next thing that the host has to do into *action: chores, and answers to its
 * own claims; false: there is none.  Takes the lock, unless this thread has it. */
CUEBALL_API bool cueball_threaded_next_action(cueball_threaded *pool, cueball_action *action);
/* An OPEN has succeeded: tells the core, as cueball_pool_conn_opened(), and what threads
 * get: a descriptor (-1: none), a pointer (NULL: none), or both.  A connection that is
 * told to the core alone is not for threads: their claims end with CUEBALL_EUNSUPPORTED.
 * CUEBALL_ESTALE, CUEBALL_ENOMEM: it is the caller's to close, without a report; in the
 * latter case the core was told that the attempt failed. */
CUEBALL_API int cueball_threaded_conn_opened(cueball_threaded *pool, cueball_time now, cueball_handle conn, int32_t fd, void *pointer);

enum {
    CUEBALL_RETURN_INSPECT = 1, /* `lease` was released, and is to be looked at (`inspects`): the host ends it in the core, with
                                   cueball_pool_lease_released() and so on */
    CUEBALL_RETURN_FAILED = 2,  /* a claimer failed a lease: `text` says why.  The core knows */
    CUEBALL_RETURN_ORPHAN = 3   /* a thread gave back a connection that was taken away from it: it can be closed now */
};

typedef struct cueball_return {
    int32_t kind; /* CUEBALL_RETURN_… */
    uint32_t slot;
    cueball_handle conn, lease; /* lease: INSPECT */
    char text[256];             /* FAILED */
} cueball_return;

/* Takes the next thing that threads told into *what; false: there is none. */
CUEBALL_API bool cueball_threaded_next_return(cueball_threaded *pool, cueball_return *what);
/* To be asked at each CLOSE: whether a thread still has the connection, as its lease was
 * taken away from it.  Its descriptor was shut down then.  The host reports
 * cueball_pool_conn_closed() at once, but closes it when its ORPHAN comes: before, the
 * number of the descriptor would come to mean another one in the thread that has it. */
CUEBALL_API bool cueball_threaded_is_held(cueball_threaded *pool, cueball_handle conn);

/* A descriptor that is readable when connections that nobody has may have broken; -1:
 * there is none.  Look then: tells the core (conn_lost, conn_unfit). */
CUEBALL_API int cueball_threaded_watch_fd(const cueball_threaded *pool);
CUEBALL_API void cueball_threaded_look(cueball_threaded *pool, cueball_time now);

/* What refusals of claims end with: "; last failure: " and this text, which is copied,
 * 255 bytes of it.  NULL: nothing. */
CUEBALL_API void cueball_threaded_note(cueball_threaded *pool, const char *fault);

/* When to call time_advanced() at the latest: the core's deadline, and that of turns.
 * The host is woken when it gets sooner than it was told here. */
CUEBALL_API cueball_time cueball_threaded_deadline(cueball_threaded *pool);
CUEBALL_API void cueball_threaded_time_advanced(cueball_threaded *pool, cueball_time now);

#ifdef __cplusplus
}
#endif

#endif
