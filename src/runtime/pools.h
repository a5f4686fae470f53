#ifndef CUEBALL_RUNTIME_POOLS_H
#define CUEBALL_RUNTIME_POOLS_H

#include "cueball_runtime.h"

typedef struct cueball__named_pool {
    struct cueball__named_pool *next;
    cueball_threaded *pool; /* a reference */
    char name[];
} cueball__named_pool;

/* Of any thread, with the lock. */

/* As cueball_runtime_pool(). */
int cueball__pools_find(cueball_runtime *runtime, const char *name, cueball_threaded **pool);
/* Drops all references. */
void cueball__pools_drop(cueball_runtime *runtime);
/* Has all of them stop, as the thread hangs, which would do it otherwise. */
void cueball__pools_stop(cueball_runtime *runtime);

/* Of the runtime's thread, without the lock. */

/* The script has made a pool: keeps one reference more.  false: no memory. */
bool cueball__pools_add(cueball_runtime *runtime, const char *name, cueball_threaded *pool);
/* The pool has stopped. */
void cueball__pools_remove(cueball_runtime *runtime, const cueball_threaded *pool);

#endif
