/* Who has a connection, for people who ask.  A loan has the number of the thread that claimed it; the name
 * of that thread is read when somebody asks, since it may change, and without the lock.
 *
 * While many claims time out, each of them asks for the oldest lease: it is looked for among all slots only if the one that
 * was the oldest has come back, and not so often that it takes more than about a tenth of the time. */
#include "holder.h"

#include "fault.h"
#include "lock.h"
#include "process.h"

#include "kit/sized.h"

#include <stdio.h>
#include <string.h>

#define LOOK_NS 10000000 /* between two looks at all slots, and so much more for each slot: */
#define LOOK_NS_SLOT 500
#define HELD_MS_MAX 10000.0 /* from here on it is told in seconds */
#define FIRST CUEBALL__END_OF(cueball_threaded_holder, name)
#define KEY_MAX 127 /* bytes of a backend's key that are shown */

_Static_assert(sizeof(((cueball_threaded_holder *)NULL)->name) == CUEBALL__THREAD_NAME_SIZE, "a name fits");

/* What is known of one lease while the lock is held. */
typedef struct holding {
    bool is_threads; /* else the host has it */
    bool is_detached;
    uint64_t thread;
    cueball_time since;
    char key[KEY_MAX + 1]; /* of the backend */
} holding;

/* The loan by which a thread has the lease; NULL: none has. */
static const cueball_loan *loan_of(const cueball_threaded *pool, uint32_t slot, cueball_handle lease)
{
    const cueball_loan *loan = slot < pool->slots_max ? pool->by_slot[slot] : NULL;
    assert(!loan || loan->slot == slot);
    if (!loan || loan->lease != lease || atomic_load_explicit(&loan->word, memory_order_relaxed) % LOAN_STATES == LOAN_RESTS)
        return NULL;
    return loan;
}

static bool slot_is_leased(const cueball_threaded *pool, uint32_t slot, cueball_slot_info *info)
{
    *info = (cueball_slot_info){ .struct_size = sizeof *info };
    return cueball_pool_slot_at(pool->core, slot, info) && info->lease != 0;
}

/* Among all slots; false: none is leased. */
static bool oldest_search(cueball_threaded *pool, cueball_slot_info *found)
{
    cueball_slot_info info = { .struct_size = sizeof info };
    *found = (cueball_slot_info){ .since = CUEBALL_NEVER };
    for (uint32_t slot = 0; cueball_pool_slot_at(pool->core, slot, &info); slot++)
        if (info.lease != 0 && info.since < found->since)
            *found = info;
    assert(found->lease == 0 || found->since != CUEBALL_NEVER);
    return found->lease != 0;
}

static bool oldest_find(cueball_threaded *pool, cueball_time now, cueball_slot_info *found)
{
    assert(pool->core);
    cueball__oldest *oldest = &pool->oldest;
    if (oldest->lease != 0 && slot_is_leased(pool, oldest->slot, found) && found->lease == oldest->lease)
        return true;
    if (now < oldest->looked_at + LOOK_NS + (cueball_time)pool->slots_max * LOOK_NS_SLOT)
        return false;
    bool is_there = oldest_search(pool, found);
    *oldest = (cueball__oldest){ .slot = found->slot, .lease = found->lease, .looked_at = now };
    return is_there;
}

static bool oldest_read(cueball_threaded *pool, cueball_time now, holding *what)
{
    cueball_slot_info info;
    if (!pool->core || !oldest_find(pool, now, &info))
        return false;
    cueball_backend_spec spec = { .struct_size = sizeof spec };
    bool is_known = cueball_pool_backend_spec(pool->core, info.backend, &spec) == CUEBALL_OK;
    const cueball_loan *loan = loan_of(pool, info.slot, info.lease);
    *what = (holding){ .is_threads = loan != NULL, .since = info.since };
    (void)snprintf(what->key, sizeof what->key, "%s", is_known ? spec.key : "?");
    if (loan) {
        what->is_detached = !loan->claimer;
        what->thread = loan->thread;
    }
    return true;
}

static void thread_text(uint64_t thread, bool is_detached, char *to, size_t size)
{
    char name[CUEBALL__THREAD_NAME_SIZE] = "detached";
    unsigned long long number = thread;
    if (thread > 0 && !is_detached)
        cueball__thread_name(thread, name);
    if (thread == 0)
        (void)snprintf(to, size, "a thread");
    else if (name[0])
        (void)snprintf(to, size, "thread %llu (%s)", number, name);
    else
        (void)snprintf(to, size, "thread %llu", number);
}

void cueball__holder_explain(cueball_threaded *pool, char text[CUEBALL__HOLDER_SIZE])
{
    holding what;
    char who[64] = "the host";
    assert(pool);
    text[0] = '\0';
    cueball_time now = cueball_clock_now();
    cueball__threaded_enter(pool);
    bool is_there = oldest_read(pool, now, &what);
    cueball__threaded_leave(pool);
    if (!is_there)
        return;
    if (what.is_threads)
        thread_text(what.thread, what.is_detached, who, sizeof who);
    double held_ms = now > what.since ? (double)(now - what.since) / 1e6 : 0;
    bool is_long = held_ms >= HELD_MS_MAX;
    (void)snprintf(text, CUEBALL__HOLDER_SIZE, "; the oldest lease, on %s, is held %.*f %s by %s", what.key,
                   is_long || held_ms < 100 ? 1 : 0, is_long ? held_ms / 1000 : held_ms, is_long ? "s" : "ms", who);
}

int cueball_threaded_holder_of(cueball_threaded *pool, uint32_t slot, cueball_handle lease, cueball_threaded_holder *holder)
{
    if (!pool || !holder)
        return cueball__fault(CUEBALL_EINVAL, "a pool is needed, and a struct for the holder, not NULL");
    if (pool->generation != cueball__process_generation())
        return cueball__fault_plain(CUEBALL_EFORKED);
    cueball_threaded_holder whole = { 0 };
    cueball__threaded_enter(pool);
    const cueball_loan *loan = loan_of(pool, slot, lease);
    if (loan) {
        whole.thread = loan->thread;
        whole.is_detached = !loan->claimer;
    }
    cueball__threaded_leave(pool);
    if (!loan)
        return cueball__fault_plain(CUEBALL_ESTALE);
    if (!whole.is_detached)
        cueball__thread_name(whole.thread, whole.name);
    cueball__sized_write(holder, FIRST, &whole, sizeof whole);
    return CUEBALL_OK;
}
