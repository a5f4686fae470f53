/* The life of a pool for threads, and what can be asked of it. */
#include "fault.h"
#include "loan.h"
#include "lock.h"
#include "names.h"
#include "process.h"
#include "thread.h"
#include "told.h"
#include "watch.h"

#include "kit/sized.h"

#include <string.h>

#define TURN_MS 5.0
#define TURN_MS_MAX 86400000.0
#define FIRST CUEBALL__END_OF(cueball_threaded_options, turn_leases)

static void pool_init(cueball_threaded *pool, const cueball_threaded_options *options, const cueball_allocator *allocator)
{
    assert(pool);
    memset(pool, 0, sizeof *pool);
    pool->memory.allocator = *allocator;
    pool->inspects = options->inspects;
    pool->wake_fd = options->wake_fd;
    pool->watch_fd = -1;
    pool->generation = cueball__process_generation();
    atomic_init(&pool->references, 1);
    atomic_init(&pool->host, 0); /* it shows itself by what it does */
    atomic_init(&pool->locked_by, 0);
    pool->clocks = options->clocks;
    pool->turn_span = options->turn_ms < 0 ? 0 : (cueball_time)((options->turn_ms == 0 ? TURN_MS : options->turn_ms) * 1e6);
    pool->turn_leases = options->turn_leases == 0 ? CUEBALL__TURN_LEASES : options->turn_leases;
    cueball__both_clocks clocks = cueball__clocks_read();
    cueball__rate_init(&pool->rate, &clocks);
    atomic_init(&pool->is_wanted, false);
    cueball__link *lists[] = { &pool->turns,    &pool->loans,   &pool->spare_loans, &pool->orphans, &pool->detached,
                               &pool->claimers, &pool->returns, &pool->failures,    &pool->at_names };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        cueball__link_init(lists[i]);
}

/* Gives back all that pool_fill() may have taken, and the pool. */
static void pool_drop(cueball_threaded *pool)
{
    assert(pool);
    cueball_allocator allocator = pool->memory.allocator;
    int state;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state); /* close() is a cancellation point */
    cueball__loans_free(pool);
    cueball__failures_free(pool);
    cueball__watch_end(pool);
    if (pool->core)
        cueball_pool_free(pool->core);
    cueball__memory_release(&pool->memory, pool->answers, pool->answers_max * sizeof *pool->answers);
    if (pool->name)
        cueball__memory_release(&pool->memory, pool->name, strlen(pool->name) + 1);
    assert(pool->memory.held == 0);
    allocator.release(allocator.user, pool, sizeof *pool);
    (void)pthread_setcancelstate(state, NULL);
}

static int pool_fill(cueball_threaded *pool, const char *name, const cueball_options *options, uint64_t seed, cueball_time now)
{
    assert(pool);
    int result = cueball_pool_new(options, &pool->memory.allocator, seed, now, &pool->core);
    if (result != CUEBALL_OK)
        return cueball__fault_plain(result);
    pool->outlook = cueball_pool_outlook(pool->core);
    if (name) {
        size_t size = strlen(name) + 1;
        pool->name = cueball__memory_allocate(&pool->memory, size);
        if (!pool->name)
            return cueball__fault_plain(CUEBALL_ENOMEM);
        memcpy(pool->name, name, size);
    }
    result = cueball__watch_begin(pool);
    if (result != CUEBALL_OK)
        return cueball__fault(result, "there are no descriptors left to watch connections with");
    return cueball__name_publish(pool);
}

int cueball_threaded_new(const cueball_threaded_options *options, const cueball_options *pool_options, const cueball_allocator *allocator,
                         uint64_t seed, cueball_time now, cueball_threaded **made)
{
    cueball_threaded_options known = { .wake_fd = -1 };
    if (!pool_options || !allocator || !made)
        return cueball__fault(CUEBALL_EINVAL, "options, an allocator and room for the pool are needed, not NULL");
    if (options && !cueball__sized_read(&known, sizeof known, FIRST, options))
        return cueball__fault(CUEBALL_EINVAL, "the options of the pool for threads: struct_size is none, or what is not known here is set");
    if (!(known.turn_ms <= TURN_MS_MAX) || known.turn_leases > CUEBALL__TURN_LEASES)
        return cueball__fault(CUEBALL_EINVAL, "turn_ms is more than a day, or turn_leases more than %d", CUEBALL__TURN_LEASES);
    *made = NULL;
    if (cueball__process_begin() != CUEBALL_OK)
        return cueball__fault_plain(CUEBALL_ENOMEM);
    cueball_threaded *pool = allocator->allocate(allocator->user, sizeof *pool);
    if (!pool)
        return cueball__fault_plain(CUEBALL_ENOMEM);
    pool_init(pool, &known, allocator);
    if (pthread_mutex_init(&pool->mutex, NULL) != 0) {
        pool_drop(pool);
        return cueball__fault_plain(CUEBALL_ENOMEM);
    }
    int result = pool_fill(pool, known.name, pool_options, seed, now); /* from its end on other threads find it */
    if (result != CUEBALL_OK) {
        (void)pthread_mutex_destroy(&pool->mutex);
        pool_drop(pool);
    } else {
        *made = pool;
    }
    return result;
}

void cueball_threaded_keep(cueball_threaded *pool)
{
    if (pool)
        (void)cueball__threaded_keep_living(pool);
}

void cueball_threaded_drop(cueball_threaded *pool)
{
    if (!pool || pool->generation != cueball__process_generation())
        return;
    unsigned before = atomic_fetch_sub_explicit(&pool->references, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before != 1)
        return;
    cueball__claimers_disband(pool);
    (void)pthread_mutex_destroy(&pool->mutex);
    pool_drop(pool);
}

/* Whose descriptors last are shut down, so that the threads that have them notice. */
static void pool_abandon(cueball_threaded *pool)
{
    assert(pool);
    CUEBALL__LIST_EACH(link, following, &pool->loans)
    {
        cueball_loan *loan = CUEBALL__OWNER(link, cueball_loan, at_pool);
        cueball__watch_remove(pool, loan);
        cueball__loan_closed(pool, loan);
    }
    assert(cueball__list_is_empty(&pool->loans));
}

void cueball_threaded_close(cueball_threaded *pool)
{
    if (!pool || pool->generation != cueball__process_generation())
        return;
    cueball__name_withdraw(pool);
    cueball__threaded_enter(pool);
    (void)cueball_pool_stop(pool->core, cueball_clock_now());
    cueball__threaded_leave(pool); /* which tells those who wait */
    cueball__threaded_enter(pool);
    assert(pool->outlook->waiting == 0);
    pool_abandon(pool);
    cueball_pool_free(pool->core);
    pool->core = NULL;
    pool->outlook = NULL;
    cueball__threaded_leave(pool);
    cueball_threaded_drop(pool);
}

void cueball_threaded_stats(cueball_threaded *pool, cueball_stats *stats)
{
    cueball_stats none = { 0 };
    if (!stats)
        return;
    if (!pool || pool->generation != cueball__process_generation()) {
        cueball__sized_write(stats, CUEBALL__END_OF(cueball_stats, create_ms_max), &none, sizeof none);
        return;
    }
    cueball__threaded_enter(pool);
    if (pool->core)
        cueball_pool_stats(pool->core, stats);
    else
        cueball__sized_write(stats, CUEBALL__END_OF(cueball_stats, create_ms_max), &none, sizeof none);
    cueball__threaded_leave(pool);
}

int cueball_threaded_state(cueball_threaded *pool)
{
    if (!pool)
        return cueball__fault(CUEBALL_EINVAL, "a pool is needed, not NULL");
    if (pool->generation != cueball__process_generation())
        return cueball__fault_plain(CUEBALL_EFORKED);
    cueball__threaded_enter(pool);
    int state = pool->core ? cueball_pool_state_of(pool->core) : CUEBALL_POOL_STOPPED;
    cueball__threaded_leave(pool);
    return state;
}

const char *cueball_threaded_name(const cueball_threaded *pool)
{
    return pool && pool->name ? pool->name : "";
}
