/* A fork is taken while no other thread has the process's lock, so that the child finds
 * what it guards whole.  Locks of pools are not waited for: the child uses none of them. */
#define _POSIX_C_SOURCE 200809L

#include "process.h"

#include "cueball_types.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_uint generation;
static int begun = CUEBALL_ENOMEM;

void cueball__process_lock(void)
{
    int result = pthread_mutex_lock(&mutex);
    assert(result == 0);
    (void)result;
}

void cueball__process_unlock(void)
{
    int result = pthread_mutex_unlock(&mutex);
    assert(result == 0);
    (void)result;
}

static void process_forked(void)
{
    atomic_fetch_add_explicit(&generation, 1, memory_order_relaxed);
    cueball__process_unlock();
}

static void process_begin(void)
{
    if (pthread_atfork(cueball__process_lock, cueball__process_unlock, process_forked) == 0)
        begun = CUEBALL_OK;
}

int cueball__process_begin(void)
{
    (void)pthread_once(&once, process_begin);
    return begun;
}

uint32_t cueball__process_generation(void)
{
    return atomic_load_explicit(&generation, memory_order_relaxed);
}

uintptr_t cueball__thread_id(void)
{
    static _Thread_local char mark;
    return (uintptr_t)&mark;
}
