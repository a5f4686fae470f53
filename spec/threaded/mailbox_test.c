/* Mailboxes among threads: event loops that claim asynchronously and give up claims at
 * random, threads that claim and block, and mailboxes that are freed with claims in
 * them, all at one small pool.  Every claim has one answer, or none if it was given up;
 * no connection is had by two; in the end all are idle again. */
#define _GNU_SOURCE
#include <assert.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cueball_threaded.h"

enum { CONNECTIONS = 4, LOOPS = 3, CLAIMS = 3000, AT_ONCE = 40, BLOCKING = 2, FREERS = 2, MAILBOXES = 100 };

#define MUST(condition)                                                                                                                    \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, cueball_last_error());                                      \
            abort();                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

static cueball_threaded *pool;
static int wake[2];
static atomic_bool is_over;
static atomic_uint had[CONNECTIONS * 100]; /* by connection: how many have it */
static atomic_int working;

/* -------------------------------------------------------------------- host -- */

static void perform(void)
{
    cueball_action action;
    static uintptr_t opened;
    cueball_threaded_time_advanced(pool, cueball_clock_now());
    while (cueball_threaded_next_action(pool, &action)) {
        if (action.kind == CUEBALL_ACTION_OPEN) {
            MUST(++opened < sizeof had / sizeof *had);
            MUST(cueball_threaded_conn_opened(pool, cueball_clock_now(), action.conn, -1, (void *)opened) == CUEBALL_OK);
        } else if (action.kind == CUEBALL_ACTION_CLOSE) {
            cueball_pool_conn_closed(cueball_threaded_lock(pool), cueball_clock_now(), action.conn);
            cueball_threaded_unlock(pool);
        }
    }
}

static void *host_run(void *unused)
{
    char bytes[512];
    (void)unused;
    while (!atomic_load(&is_over)) {
        perform();
        cueball_time deadline = cueball_threaded_deadline(pool), now = cueball_clock_now();
        int timeout_ms = deadline == CUEBALL_NEVER || deadline > now + 100000000 ? 100
                         : deadline > now                                        ? (int)((deadline - now) / 1000000) + 1
                                                                                 : 0;
        struct pollfd fd = { .fd = wake[0], .events = POLLIN };
        if (poll(&fd, 1, timeout_ms) > 0)
            MUST(read(wake[0], bytes, sizeof bytes) > 0);
    }
    return NULL;
}

static void start(void)
{
    cueball_options of_pool;
    cueball_options_init(&of_pool);
    of_pool.max_connections = of_pool.spares = CONNECTIONS;
    MUST(pipe(wake) == 0);
    cueball_threaded_options options = { .struct_size = sizeof options, .wake_fd = wake[1] };
    MUST(cueball_threaded_new(&options, &of_pool, cueball_allocator_libc(), 1, cueball_clock_now(), &pool) == CUEBALL_OK);
    cueball_backend_spec backend = { .struct_size = sizeof backend, .key = "b", .address = "10.0.0.1", .port = 1 };
    MUST(cueball_pool_backend_added(cueball_threaded_lock(pool), cueball_clock_now(), &backend) >= 0);
    cueball_threaded_unlock(pool);
}

/* ---------------------------------------------------------------- claimers -- */

/* Uses the connection, for a moment, alone. */
static void use(cueball_lease *lease)
{
    atomic_uint *count = &had[(uintptr_t)lease->pointer];
    MUST(atomic_fetch_add(count, 1) == 0);
    MUST(atomic_fetch_sub(count, 1) == 1);
    MUST(cueball_lease_release(lease) == CUEBALL_OK);
}

typedef struct loop {
    cueball_mailbox *mailbox;
    unsigned seed;
    int begun, ended, at_once;
    cueball_handle claims[CLAIMS]; /* 0: does not wait */
} loop;

static void loop_begin(loop *one)
{
    cueball_lease lease;
    cueball_threaded_claim_options options = { .struct_size = sizeof options, .timeout_ms = INFINITY, .user = (uint64_t)one->begun };
    options.detached = one->begun % 2;
    int result = cueball_threaded_claim_async(pool, &options, one->mailbox, &lease, &one->claims[one->begun]);
    MUST(result == CUEBALL_OK || result == CUEBALL_WAITING);
    one->begun++;
    if (result == CUEBALL_OK) {
        use(&lease);
        one->ended++;
    } else {
        one->at_once++;
    }
}

/* Gives up a claim that waits, or has its answer already. */
static void loop_cancel(loop *one)
{
    int which = one->begun - 1 - (int)((unsigned)rand_r(&one->seed) % AT_ONCE);
    if (which < 0 || !one->claims[which])
        return;
    int result = cueball_threaded_claim_cancel(pool, one->claims[which]);
    MUST(result == CUEBALL_OK || result == CUEBALL_ESTALE);
    if (result != CUEBALL_OK)
        return;
    one->claims[which] = 0;
    one->at_once--;
    one->ended++;
}

static void *loop_run(void *given)
{
    loop *one = given;
    cueball_claim_answer answer;
    MUST(cueball_mailbox_new(&one->mailbox) == CUEBALL_OK);
    while (one->ended < CLAIMS) {
        while (one->begun < CLAIMS && one->at_once < AT_ONCE)
            loop_begin(one);
        if (rand_r(&one->seed) % 4 == 0)
            loop_cancel(one);
        if (one->at_once == 0)
            continue;
        struct pollfd fd = { .fd = cueball_mailbox_fd(one->mailbox), .events = POLLIN };
        MUST(poll(&fd, 1, 60000) == 1);
        while (cueball_mailbox_next(one->mailbox, &answer)) {
            MUST(answer.user < CLAIMS && one->claims[answer.user] != 0); /* neither answered nor given up before */
            one->claims[answer.user] = 0;
            MUST(answer.error == CUEBALL_OK);
            use(&answer.lease);
            one->at_once--;
            one->ended++;
        }
    }
    cueball_mailbox_free(one->mailbox);
    atomic_fetch_sub(&working, 1);
    return NULL;
}

/* Claims and blocks, as long as the others work. */
static void *blocking_run(void *unused)
{
    (void)unused;
    while (atomic_load(&working) > 0) {
        cueball_lease lease;
        MUST(cueball_threaded_claim(pool, INFINITY, &lease) == CUEBALL_OK);
        use(&lease);
    }
    return NULL;
}

/* Frees mailboxes whose claims wait, were answered, or are being answered. */
static void *freer_run(void *unused)
{
    (void)unused;
    for (int i = 0; i < MAILBOXES; i++) {
        cueball_mailbox *mailbox;
        MUST(cueball_mailbox_new(&mailbox) == CUEBALL_OK);
        for (int user = 0; user < 8; user++) {
            cueball_lease lease;
            cueball_handle claim;
            cueball_threaded_claim_options options = { .struct_size = sizeof options, .timeout_ms = INFINITY };
            int result = cueball_threaded_claim_async(pool, &options, mailbox, &lease, &claim);
            MUST(result == CUEBALL_OK || result == CUEBALL_WAITING);
            if (result == CUEBALL_OK)
                use(&lease);
        }
        cueball_mailbox_free(mailbox);
    }
    atomic_fetch_sub(&working, 1);
    return NULL;
}

int main(void)
{
    static loop loops[LOOPS];
    pthread_t host, threads[LOOPS + BLOCKING + FREERS];
    int count = 0;
    start();
    MUST(pthread_create(&host, NULL, host_run, NULL) == 0);
    atomic_store(&working, LOOPS + FREERS);
    for (unsigned i = 0; i < LOOPS; i++) {
        loops[i].seed = i + 1;
        MUST(pthread_create(&threads[count++], NULL, loop_run, &loops[i]) == 0);
    }
    for (int i = 0; i < BLOCKING; i++)
        MUST(pthread_create(&threads[count++], NULL, blocking_run, NULL) == 0);
    for (int i = 0; i < FREERS; i++)
        MUST(pthread_create(&threads[count++], NULL, freer_run, NULL) == 0);
    for (int i = 0; i < count; i++)
        MUST(pthread_join(threads[i], NULL) == 0);
    cueball_counts counts;
    for (int tries = 0; tries < 1000; tries++) { /* what a thread kept is taken back by the host, soon */
        cueball_pool_counts(cueball_threaded_lock(pool), &counts);
        cueball_threaded_unlock(pool);
        if (counts.idle == CONNECTIONS)
            break;
        usleep(10000);
    }
    MUST(counts.waiting == 0);
    MUST(counts.idle == CONNECTIONS);
    atomic_store(&is_over, true);
    MUST(pthread_join(host, NULL) == 0);
    cueball_threaded_close(pool);
    return 0;
}
