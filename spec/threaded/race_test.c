/* Two threads that end copies of one lease in the same moment, and threads that are cancelled within calls that do not wait. */
#define _GNU_SOURCE

#include "host.h"

#include <limits.h>

static host h;

static void begin(uint32_t connections, bool has_sockets)
{
    memset(&h, 0, sizeof h);
    h.has_sockets = has_sockets;
    cueball_threaded_options options = { 0 };
    cueball_options pool_options = host_options(connections);
    host_begin(&h, &options, &pool_options, 1);
    host_until(&h, connections);
}

/* ----------------------------------------------------------------- copies -- */

enum { SPAN_NS = 500000000 };

static cueball_lease copy;
static atomic_uint round_begun, round_done; /* UINT_MAX: there is none any more */
static int other_result;

/* Both are to act in the same moment: a thread that sleeps would come late. */
static unsigned spin_until_not(const atomic_uint *number, unsigned known)
{
    unsigned seen;
    for (unsigned spins = 1; (seen = atomic_load(number)) == known; spins++) {
        if (spins % 10000 == 0)
            sched_yield();
    }
    return seen;
}

static void *other_run(void *unused)
{
    (void)unused;
    for (unsigned seen = 0; (seen = spin_until_not(&round_begun, seen)) != UINT_MAX;) {
        cueball_lease lease = copy;
        other_result = cueball_lease_release(&lease);
        atomic_store(&round_done, seen);
    }
    return NULL;
}

static void test_copies(void)
{
    begin(2, false);
    pthread_t other;
    MUST(pthread_create(&other, NULL, other_run, NULL) == 0);
    unsigned both = 0, none = 0;
    cueball_time end = cueball_clock_now() + SPAN_NS;
    for (unsigned i = 1; cueball_clock_now() < end; i++) {
        cueball_lease lease;
        for (int turn = 0; turn < 3; turn++) { /* so that a turn has begun */
            MUST(cueball_threaded_claim(h.pool, 60000, &lease) == CUEBALL_OK);
            MUST(cueball_lease_release(&lease) == CUEBALL_OK);
        }
        MUST(cueball_threaded_claim(h.pool, 60000, &lease) == CUEBALL_OK);
        copy = lease;
        atomic_store(&round_begun, i);
        for (volatile unsigned pause = i * 7 % 300; pause > 0; pause--)
            ;
        int result = cueball_lease_release(&lease);
        spin_until_not(&round_done, i - 1);
        both += result == CUEBALL_OK && other_result == CUEBALL_OK;
        none += result != CUEBALL_OK && other_result != CUEBALL_OK;
    }
    atomic_store(&round_begun, UINT_MAX);
    pthread_join(other, NULL);
    host_end(&h);
    printf("copies: both ended %u of them, neither %u\n", both, none);
}

/* ------------------------------------------------------------ cancelled -- */

static cueball_mailbox *mailbox;

/* From here on the next cancellation point ends the thread. */
static void cancel_self(void)
{
    int state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    pthread_cancel(pthread_self());
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
}

static void *claim_run(void *went_on)
{
    cueball_threaded_claim_options options = { .struct_size = sizeof options, .detached = true, .timeout_ms = 60000 };
    cueball_lease lease;
    int state;
    cancel_self();
    MUST(cueball_threaded_claim_with(h.pool, &options, &lease) == CUEBALL_OK);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    MUST(cueball_lease_release(&lease) == CUEBALL_OK);
    *(bool *)went_on = true;
    return NULL;
}

static void *claim_async_run(void *went_on)
{
    cueball_threaded_claim_options options = { .struct_size = sizeof options, .detached = true, .timeout_ms = 60000 };
    cueball_handle claim;
    cueball_lease lease;
    int state;
    cancel_self();
    MUST(cueball_threaded_claim_async(h.pool, &options, mailbox, &lease, &claim) == CUEBALL_OK);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    MUST(cueball_lease_release(&lease) == CUEBALL_OK);
    *(bool *)went_on = true;
    return NULL;
}

static void *release_run(void *went_on)
{
    cueball_lease lease;
    int state;
    MUST(cueball_threaded_claim(h.pool, 60000, &lease) == CUEBALL_OK);
    MUST(cueball_lease_detach(&lease) == CUEBALL_OK);
    cancel_self();
    MUST(cueball_lease_release(&lease) == CUEBALL_OK);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    *(bool *)went_on = true;
    return NULL;
}

static void test_cancelled(const char *what, void *(*run)(void *))
{
    pthread_t thread;
    bool went_on = false;
    MUST(pthread_create(&thread, NULL, run, &went_on) == 0);
    pthread_join(thread, NULL);
    MUST(went_on);
    cueball_lease lease;
    MUST(cueball_threaded_claim(h.pool, 60000, &lease) == CUEBALL_OK); /* nothing was lost */
    MUST(cueball_lease_release(&lease) == CUEBALL_OK);
    printf("cancelled in %s: goes on\n", what);
}

int main(void)
{
    test_copies();
    begin(1, true);
    MUST(cueball_mailbox_new(&mailbox) == CUEBALL_OK);
    test_cancelled("a claim", claim_run);
    test_cancelled("an asynchronous claim", claim_async_run);
    test_cancelled("a release", release_run);
    cueball_mailbox_free(mailbox);
    host_end(&h);
    return 0;
}
