#ifndef CUEBALL_THREADED_THREAD_H
#define CUEBALL_THREADED_THREAD_H

#include "state.h"

/* The thread's part is small, and looked at by each claim: where that can be, it is
 * found without a call. */
#if defined __GLIBC__ && defined __GNUC__
#define CUEBALL__THREAD_LOCAL __attribute__((tls_model("initial-exec"))) _Thread_local
#else
#define CUEBALL__THREAD_LOCAL _Thread_local
#endif

typedef struct cueball__thread {
    cueball__claimer *claimers; /* used last first */
} cueball__thread;

extern CUEBALL__THREAD_LOCAL cueball__thread cueball__self;

/* The calling thread at the pool that it used last; NULL: that is another one. */
static inline cueball__claimer *cueball__claimer_here(const cueball_threaded *pool)
{
    cueball__claimer *claimer = cueball__self.claimers;
    return claimer && atomic_load_explicit(&claimer->pool, memory_order_acquire) == pool ? claimer : NULL;
}

/* The calling thread at the pool; NULL: there is no memory. */
cueball__claimer *cueball__claimer_of(cueball_threaded *pool);
/* The pool is freed: no thread is to find it any more. */
void cueball__claimers_disband(cueball_threaded *pool);
/* One more reference, unless there is none any more. */
bool cueball__threaded_keep_living(cueball_threaded *pool);

#endif
