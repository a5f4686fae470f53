/* A fork is taken while no other thread has the process's lock, so that the child finds
 * what it guards whole.  Locks of pools are not waited for: the child uses none of them. */
#define _GNU_SOURCE

#include "process.h"

#include "cueball_types.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#if defined __linux__
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_uint generation;
static int begun = CUEBALL_ENOMEM;
static _Thread_local uint64_t number; /* cueball__thread_number(); 0: not asked for yet */

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
    number = 0; /* the child's thread has another */
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

#if defined __linux__

static uint64_t number_ask(void)
{
    long asked = syscall(SYS_gettid);
    assert(asked > 0);
    return (uint64_t)asked;
}

static size_t name_read(uint64_t of, char *name, size_t size)
{
    char path[64];
    int state;
    (void)snprintf(path, sizeof path, "/proc/self/task/%llu/comm", (unsigned long long)of);
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, name, size);
    if (fd >= 0)
        (void)close(fd);
    (void)pthread_setcancelstate(state, NULL);
    return length > 0 ? (size_t)length : 0;
}

#else

static uint64_t number_ask(void)
{
#if defined __APPLE__
    uint64_t asked = 0;
    return pthread_threadid_np(NULL, &asked) == 0 ? asked : 0;
#else
    return 0;
#endif
}

static size_t name_read(uint64_t of, char *name, size_t size)
{
    (void)of;
    (void)name;
    (void)size;
    return 0;
}

#endif

uint64_t cueball__thread_number(void)
{
    if (number == 0)
        number = number_ask();
    return number;
}

void cueball__thread_name(uint64_t of, char name[CUEBALL__THREAD_NAME_SIZE])
{
    size_t length = of == 0 ? 0 : name_read(of, name, CUEBALL__THREAD_NAME_SIZE - 1);
    assert(length < CUEBALL__THREAD_NAME_SIZE);
    name[length] = '\0';
    name[strcspn(name, "\n")] = '\0';
}
