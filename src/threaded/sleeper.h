/* A thread that sleeps until another one tells it.  Each telling ends one sleep, be it
 * before or after that began. */
#ifndef CUEBALL_THREADED_SLEEPER_H
#define CUEBALL_THREADED_SLEEPER_H

#include "cueball_types.h"

#include <pthread.h>
#include <stdatomic.h>

/* The thread sanitizer does not follow a semaphore that is waited for on the monotonic clock, nor a thread that is
 * cancelled while it waits for one. */
#if defined __GLIBC__ && !defined __SANITIZE_THREAD__ && !defined CUEBALL__SLEEPER_IS_CONDITION
#define CUEBALL__SLEEPER_IS_SEMAPHORE 1
#endif
#if defined CUEBALL__SLEEPER_IS_SEMAPHORE && defined __has_feature
#if __has_feature(thread_sanitizer)
#undef CUEBALL__SLEEPER_IS_SEMAPHORE
#endif
#endif

#if defined CUEBALL__SLEEPER_IS_SEMAPHORE
#include <semaphore.h>
#endif

typedef struct cueball__sleeper {
#if defined CUEBALL__SLEEPER_IS_SEMAPHORE
    sem_t told;
    atomic_uint tellings; /* what the semaphore says, for tools that do not know all of its functions */
#else
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    unsigned told;
#endif
} cueball__sleeper;

void cueball__sleeper_init(cueball__sleeper *sleeper);
void cueball__sleeper_deinit(cueball__sleeper *sleeper);
/* Any thread; `sleeper` may be gone when it returns. */
void cueball__sleeper_tell(cueball__sleeper *sleeper);
/* Sleeps until told, or until `deadline`: false.  A cancellation point. */
bool cueball__sleeper_sleep(cueball__sleeper *sleeper, cueball_time deadline);

#endif
