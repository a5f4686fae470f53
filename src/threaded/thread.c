/* What a thread has: a claimer at each pool that it claims from, and with them leases
 * that end when it does.
 *
 * The happy path: a thread finds its claimer in a list of few; when it ends, its leases
 * are revoked.  What can go wrong is that the pool is freed at the same time: either
 * the thread comes first, and keeps the pool until it is through, or the pool does, and
 * its claimers are told, under the process's lock, that it is no more.  After a fork the
 * child has its parent's claimers, and forgets them. */
#include "thread.h"

#include "loan.h"
#include "lock.h"
#include "process.h"
#include "turn.h"

#include <string.h>

CUEBALL__THREAD_LOCAL cueball__thread cueball__self;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool has_key;

static void claimer_free(cueball__claimer *claimer)
{
    assert(claimer);
    const cueball_allocator *allocator = cueball_allocator_libc();
    cueball__sleeper_deinit(&claimer->sleeper);
    if (claimer->turn.spans)
        allocator->release(allocator->user, claimer->turn.spans, CUEBALL__TURN_LEASES * sizeof *claimer->turn.spans);
    allocator->release(allocator->user, claimer, sizeof *claimer);
}

bool cueball__threaded_keep_living(cueball_threaded *pool)
{
    assert(pool);
    unsigned references = atomic_load_explicit(&pool->references, memory_order_relaxed);
    while (references > 0) {
        if (atomic_compare_exchange_weak_explicit(&pool->references, &references, references + 1, memory_order_relaxed,
                                                  memory_order_relaxed))
            return true;
    }
    return false;
}

/* The thread ends, and with it what it has of the pool. */
static void claimer_revoke(cueball_threaded *pool, cueball__claimer *claimer)
{
    assert(pool);
    assert(claimer);
    cueball__threaded_enter(pool);
    cueball_time now = cueball_clock_now();
    CUEBALL__LIST_EACH(link, following, &claimer->loans)
    {
        cueball_loan *loan = CUEBALL__OWNER(link, cueball_loan, at_claimer);
        (void)cueball__loan_end(pool, loan, cueball__loan_take_kept(loan) ? ENDING_RELEASE : ENDING_REVOKE, now);
    }
    assert(cueball__list_is_empty(&claimer->loans));
    cueball__threaded_leave(pool);
}

static void claimer_end(cueball__claimer *claimer)
{
    assert(claimer);
    cueball__process_lock();
    cueball_threaded *pool = atomic_load_explicit(&claimer->pool, memory_order_relaxed);
    bool lives = pool && cueball__threaded_keep_living(pool);
    cueball__list_remove(&claimer->at_pool);
    if (!lives)
        cueball__list_remove(&claimer->turn.at_pool); /* its neighbours there are taken out as the pool is freed */
    cueball__process_unlock();
    if (lives) {
        claimer_revoke(pool, claimer);
        cueball_threaded_drop(pool);
    }
    claimer_free(claimer);
}

static void thread_ended(void *ended)
{
    cueball__thread *thread = ended;
    while (thread->claimers) {
        cueball__claimer *claimer = thread->claimers;
        thread->claimers = claimer->next;
        claimer_end(claimer);
    }
}

/* In the child: what its parent's threads have is not for it. */
static void thread_forked(void)
{
    cueball__self.claimers = NULL;
}

static void key_make(void)
{
    has_key = pthread_atfork(NULL, NULL, thread_forked) == 0 && pthread_key_create(&key, thread_ended) == 0;
}

#if defined __GNUC__
/* The library may be unloaded before threads end that used it. */
__attribute__((destructor)) static void key_drop(void)
{
    if (has_key)
        (void)pthread_key_delete(key);
    has_key = false;
}
#endif

static cueball__claimer *claimer_new(cueball_threaded *pool)
{
    assert(pool);
    const cueball_allocator *allocator = cueball_allocator_libc();
    (void)pthread_once(&once, key_make);
    if (!has_key || pthread_setspecific(key, &cueball__self) != 0)
        return NULL;
    cueball__claimer *claimer = allocator->allocate(allocator->user, sizeof *claimer);
    if (!claimer)
        return NULL;
    memset(claimer, 0, sizeof *claimer);
    atomic_init(&claimer->pool, pool);
    claimer->thread = cueball__thread_number();
    cueball__link_init(&claimer->at_pool);
    cueball__link_init(&claimer->loans);
    cueball__link_init(&claimer->turn.at_pool);
    cueball__sleeper_init(&claimer->sleeper);
    cueball__process_lock();
    cueball__list_append(&pool->claimers, &claimer->at_pool);
    cueball__process_unlock();
    claimer->next = cueball__self.claimers;
    cueball__self.claimers = claimer;
    return claimer;
}

cueball__claimer *cueball__claimer_of(cueball_threaded *pool)
{
    assert(pool);
    for (cueball__claimer **at = &cueball__self.claimers; *at;) {
        cueball__claimer *claimer = *at;
        cueball_threaded *its = atomic_load_explicit(&claimer->pool, memory_order_acquire);
        if (its && its != pool) {
            at = &claimer->next;
            continue;
        }
        *at = claimer->next;
        if (its) {
            claimer->next = cueball__self.claimers;
            cueball__self.claimers = claimer;
            return claimer;
        }
        claimer_free(claimer); /* its pool is no more */
    }
    return claimer_new(pool);
}

void cueball__claimers_disband(cueball_threaded *pool)
{
    assert(pool);
    assert(atomic_load(&pool->references) == 0);
    cueball__process_lock();
    CUEBALL__LIST_EACH(link, following, &pool->claimers)
    {
        cueball__claimer *claimer = CUEBALL__OWNER(link, cueball__claimer, at_pool);
        cueball__list_remove(link);
        cueball__list_remove(&claimer->turn.at_pool);
        cueball__list_remove(&claimer->loans); /* it is a list no more: loans are freed with the pool */
        atomic_store_explicit(&claimer->pool, NULL, memory_order_release);
    }
    assert(cueball__list_is_empty(&pool->claimers));
    cueball__process_unlock();
}
