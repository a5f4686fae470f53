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
/* The same thread as people know it: the number that the kernel has for it (gettid); 0: there is none.  Asked for once a
 * thread. */
uint64_t cueball__thread_number(void);

enum { CUEBALL__THREAD_NAME_SIZE = 16 }; /* as Linux has them */

/* The name that the thread of this number has now, in this process; "": none, or it is not known.  Not to be called with a pool's lock: it
 * reads a file.  No cancellation point. */
void cueball__thread_name(uint64_t of, char name[CUEBALL__THREAD_NAME_SIZE]);

#endif
