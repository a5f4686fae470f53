/* What the process is, and the lock for what is process wide: names, and which threads
 * are at which pool.  It is taken before a pool's lock, never after. */
#ifndef CUEBALL_THREADED_PROCESS_H
#define CUEBALL_THREADED_PROCESS_H

#include <stdint.h>

/* Once before all else; CUEBALL_ENOMEM. */
int cueball__process_begin(void);
/* Counts the forks that led to this process. */
uint32_t cueball__process_generation(void);
void cueball__process_lock(void);
void cueball__process_unlock(void);
/* Of the calling thread: never 0, no other thread's as long as it lives. */
uintptr_t cueball__thread_id(void);

#endif
