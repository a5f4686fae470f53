/* What people in charge do with a pool for threads, from any thread: the core is told, and
 * what is kept for threads comes back as the lock is left (lock.c). */
#define _POSIX_C_SOURCE 200809L

#include "fault.h"
#include "lock.h"
#include "process.h"

#include <time.h>

#define WAIT_MS_MAX 86400000.0
#define LOOK_NS_MIN 200000  /* who waits for leases looks at first so often, */
#define LOOK_NS_MAX 5000000 /* and then more seldom */

/* Why nothing can be told; 0: the lock is taken. */
static int manage_enter(cueball_threaded *pool)
{
    if (!pool)
        return cueball__fault(CUEBALL_EINVAL, "a pool is needed, not NULL");
    if (pool->generation != cueball__process_generation())
        return cueball__fault_plain(CUEBALL_EFORKED);
    cueball__threaded_enter(pool);
    if (pool->core)
        return CUEBALL_OK;
    cueball__threaded_leave(pool);
    return cueball__fault_plain(CUEBALL_EPOOL_STOPPING);
}

static int manage_leave(cueball_threaded *pool, int result)
{
    cueball__threaded_leave(pool);
    return result < 0 ? cueball__fault_plain(result) : result;
}

/* Whether leases are out; of a pool that its host has let go of none is. */
static bool pool_is_leased(cueball_threaded *pool)
{
    assert(pool);
    cueball_counts counts = { 0 };
    cueball__threaded_enter(pool);
    if (pool->core)
        cueball_pool_counts(pool->core, &counts);
    cueball__threaded_leave(pool);
    return counts.busy > 0;
}

/* Until no lease is out, or so long. */
static int leases_await(cueball_threaded *pool, double wait_ms)
{
    assert(pool);
    assert(wait_ms > 0);
    cueball_time deadline = cueball_clock_now() + (cueball_time)(wait_ms * 1e6);
    long span = LOOK_NS_MIN;
    while (pool_is_leased(pool)) {
        if (cueball_clock_now() >= deadline)
            return CUEBALL_WAITING;
        (void)nanosleep(&(struct timespec){ .tv_nsec = span }, NULL);
        span = span < LOOK_NS_MAX ? span * 2 : span;
    }
    return CUEBALL_OK;
}

int cueball_threaded_pause(cueball_threaded *pool, double wait_ms)
{
    if (!(wait_ms >= 0 && wait_ms <= WAIT_MS_MAX))
        return cueball__fault(CUEBALL_EINVAL, "wait_ms is not from 0 to a day");
    int result = manage_enter(pool);
    if (result != CUEBALL_OK)
        return result;
    bool is_host = cueball__thread_id() == atomic_load_explicit(&pool->host, memory_order_relaxed);
    result = manage_leave(pool, cueball_pool_paused(pool->core, cueball_clock_now()));
    if (result != CUEBALL_OK || wait_ms == 0)
        return result;
    if (is_host)
        return cueball__fault(CUEBALL_EDEADLOCK, "the host's own thread would wait for itself: pause in another one, or do not wait");
    return leases_await(pool, wait_ms);
}

int cueball_threaded_resume(cueball_threaded *pool)
{
    int result = manage_enter(pool);
    return result == CUEBALL_OK ? manage_leave(pool, cueball_pool_resumed(pool->core, cueball_clock_now())) : result;
}

int cueball_threaded_drain(cueball_threaded *pool, const char *key)
{
    int result = manage_enter(pool);
    return result == CUEBALL_OK ? manage_leave(pool, cueball_pool_backend_drained(pool->core, cueball_clock_now(), key)) : result;
}

int cueball_threaded_restore(cueball_threaded *pool, const char *key)
{
    int result = manage_enter(pool);
    return result == CUEBALL_OK ? manage_leave(pool, cueball_pool_backend_restored(pool->core, cueball_clock_now(), key)) : result;
}
