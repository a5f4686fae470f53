/* glibc's semaphores are one futex, and can wait on the monotonic clock; where they
 * are not, it is a condition variable. */
#define _GNU_SOURCE

#include "sleeper.h"

#include <assert.h>
#include <errno.h>
#include <time.h>

static struct timespec timespec_of(cueball_time time)
{
    struct timespec spec = { .tv_sec = (time_t)(time / 1000000000u), .tv_nsec = (long)(time % 1000000000u) };
    assert(spec.tv_nsec >= 0);
    assert(spec.tv_nsec < 1000000000);
    return spec;
}

#if defined CUEBALL__SLEEPER_IS_SEMAPHORE

void cueball__sleeper_init(cueball__sleeper *sleeper)
{
    assert(sleeper);
    int result = sem_init(&sleeper->told, 0, 0);
    atomic_init(&sleeper->tellings, 0);
    assert(result == 0);
    (void)result;
}

void cueball__sleeper_deinit(cueball__sleeper *sleeper)
{
    assert(sleeper);
    (void)sem_destroy(&sleeper->told);
}

void cueball__sleeper_tell(cueball__sleeper *sleeper)
{
    assert(sleeper);
    atomic_fetch_add_explicit(&sleeper->tellings, 1, memory_order_release);
    int result = sem_post(&sleeper->told);
    assert(result == 0);
    (void)result;
}

bool cueball__sleeper_sleep(cueball__sleeper *sleeper, cueball_time deadline)
{
    assert(sleeper);
    struct timespec until = timespec_of(deadline);
    int result;
    do
        result = deadline == CUEBALL_NEVER ? sem_wait(&sleeper->told) : sem_clockwait(&sleeper->told, CLOCK_MONOTONIC, &until);
    while (result != 0 && errno == EINTR);
    assert(result == 0 || errno == ETIMEDOUT);
    (void)atomic_load_explicit(&sleeper->tellings, memory_order_acquire);
    return result == 0;
}

#else

void cueball__sleeper_init(cueball__sleeper *sleeper)
{
    assert(sleeper);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
#if !defined __APPLE__
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    pthread_mutex_init(&sleeper->mutex, NULL);
    pthread_cond_init(&sleeper->cond, &attributes);
    pthread_condattr_destroy(&attributes);
    sleeper->told = 0;
}

void cueball__sleeper_deinit(cueball__sleeper *sleeper)
{
    assert(sleeper);
    pthread_cond_destroy(&sleeper->cond);
    pthread_mutex_destroy(&sleeper->mutex);
}

void cueball__sleeper_tell(cueball__sleeper *sleeper)
{
    assert(sleeper);
    pthread_mutex_lock(&sleeper->mutex);
    sleeper->told++;
    pthread_cond_signal(&sleeper->cond);
    pthread_mutex_unlock(&sleeper->mutex); /* who is told takes the mutex, so it is not gone before */
}

static void sleeper_cancelled(void *mutex)
{
    pthread_mutex_unlock(mutex);
}

bool cueball__sleeper_sleep(cueball__sleeper *sleeper, cueball_time deadline)
{
    assert(sleeper);
#if defined __APPLE__ /* its condition variables know no monotonic clock */
    cueball_time now = cueball_clock_now();
    struct timespec until = timespec_of(deadline > now ? deadline - now : 0);
#define CUEBALL__COND_WAIT pthread_cond_timedwait_relative_np
#else
    struct timespec until = timespec_of(deadline);
#define CUEBALL__COND_WAIT pthread_cond_timedwait
#endif
    int result = 0;
    bool is_told;
    pthread_mutex_lock(&sleeper->mutex);
    pthread_cleanup_push(sleeper_cancelled, &sleeper->mutex);
    while (!sleeper->told && result != ETIMEDOUT)
        result = deadline == CUEBALL_NEVER ? pthread_cond_wait(&sleeper->cond, &sleeper->mutex)
                                           : CUEBALL__COND_WAIT(&sleeper->cond, &sleeper->mutex, &until);
    is_told = sleeper->told > 0;
    sleeper->told -= is_told;
    pthread_cleanup_pop(1);
    return is_told;
}

#endif
