/* The inside of src/native.
 *
 * One lock for all of it: registrations, calls, loops and sinks.  It is held for a few list operations at a time, never while a function of
 * somebody else's runs, and connecting is rare beside what claimers do.  What a call or a resolver asks again and again (is it still
 * wanted?) is atomic.
 *
 * cueball__native_generation counts the forks that led to this process: what has another number was made in a parent, whose threads are not
 * here. */
#ifndef CUEBALL_NATIVE_NATIVE_H
#define CUEBALL_NATIVE_NATIVE_H

#include "cueball_native.h"
#include "kit/list.h"
#include "wake.h"

#include <pthread.h>
#include <stdatomic.h>

enum { NATIVE_NAME_MAX = 255, NATIVE_TEXT_MAX = 1023, NATIVE_THREADS = 8, NATIVE_THREADS_MAX = 1024, NATIVE_GIVEN_UP_FACTOR = 4 };

/* ------------------------------------------------------------ registry.c -- */

struct cueball_native_registration {
    cueball__link link;  /* in the list of those that are found by name; in none once it was unregistered */
    uint32_t references; /* the list's, users', threads', calls' */
    uint32_t generation; /* of its threads and calls */
    bool is_resolver;
    cueball_native_factory factory;
    cueball_native_resolver resolver;

    /* Of a factory: workers.c.  running and given_up count calls, threads - running - given_up threads wait for one. */
    cueball__link waiting, under_way; /* calls */
    pthread_cond_t is_waiting;
    cueball_native_load load;
    uint32_t idle; /* threads that wait for a call */
    char name[NATIVE_NAME_MAX + 1];
};

void cueball__native_lock(void);
void cueball__native_unlock(void);
/* With the lock. */
uint32_t cueball__native_generation(void);
/* With the lock: one reference less.  true: it was the last, and cueball__native_free() is to be called without the lock. */
bool cueball__native_release(cueball_native_registration *registration);
void cueball__native_free(cueball_native_registration *registration);
/* With the lock: the threads and calls of a parent are forgotten. */
void cueball__native_adopt(cueball_native_registration *registration);

/* How a cond waits: CLOCK_MONOTONIC, where there is a choice. */
int cueball__native_cond_init(pthread_cond_t *cond);
/* With the lock.  false: it is `until` (cueball_clock_now()); CUEBALL_NEVER: no limit. */
bool cueball__native_cond_wait(pthread_cond_t *cond, cueball_time until);

/* Starts a detached thread with all signals blocked. */
int cueball__native_thread_start(const char *name, void *(*run)(void *), void *argument);

/* ---------------------------------------------------------------- bell.c -- */

/* A descriptor that is readable once it was rung: an eventfd, or a pipe. */
typedef struct cueball__native_bell {
    cueball__wake wake;
    bool is_rung;
} cueball__native_bell;

int cueball__native_bell_init(cueball__native_bell *bell);
void cueball__native_bell_deinit(cueball__native_bell *bell);
void cueball__native_bell_ring(cueball__native_bell *bell);
void cueball__native_bell_clear(cueball__native_bell *bell);

/* ---------------------------------------------------------------- call.c -- */

/* Does the factory have the function for this, and may it be asked for? */
bool cueball__native_is_possible(const cueball_native_factory *factory, int operation);
/* Calls the factory's function, without the lock; *result is filled in whatever it does.  is_given_up: NULL: nobody can give it up. */
void cueball__native_call(const cueball_native_factory *factory, const cueball_native_request *request, cueball_time deadline,
                          const atomic_bool *is_given_up, cueball_native_result *result);
/* When the limit of a request that begins now is over. */
cueball_time cueball__native_deadline(double limit_ms);

/* ------------------------------------------------------------- workers.c -- */

/* A call of a factory's function by a thread, from its request to its result. */
typedef struct cueball__native_task {
    cueball__link link;                     /* waiting, or under way, or done and in no list */
    cueball__link of_loop;                  /* in its loop's list, as long as the result was not taken */
    cueball_native_registration *factory;   /* with a reference */
    cueball_native_loop *loop;              /* NULL: nobody waits for the result */
    struct cueball__native_task *following; /* a close of the same connection, which begins when this has returned */
    cueball_native_request request;         /* its texts are in `texts` */
    cueball_native_result result;
    cueball_time deadline;
    atomic_bool is_given_up;
    bool is_begun, is_done;
    char texts[];
} cueball__native_task;

/* With the lock: has a task run, which is the workers' from then on.  CUEBALL_ENOMEM: there is no thread, and none can be started:
 * nothing was done. */
int cueball__native_workers_take(cueball__native_task *task);
/* With the lock: nobody waits for the task's result any more.  It is freed, now or when it has returned.  true: it had not begun. */
bool cueball__native_workers_give_up(cueball__native_task *task);
/* With the lock, of a task that is in no list: frees it.  true: its factory is to be freed too, without the lock. */
bool cueball__native_task_free(cueball__native_task *task);

/* ---------------------------------------------------------------- loop.c -- */

/* With the lock: the task of this loop is done, and its result can be taken. */
void cueball__native_loop_tell(cueball_native_loop *loop);

#endif
