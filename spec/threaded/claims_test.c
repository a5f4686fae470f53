/* What claimers see of a pool for threads: one line for each thing that holds. */
#define _GNU_SOURCE

#include "host.h"

static host h; /* of the test under way */

static void begin(cueball_threaded_options options, cueball_options pool_options)
{
    memset(&h, 0, sizeof h);
    host_begin(&h, &options, &pool_options, 1);
}

static void test_one_thread(void)
{
    begin((cueball_threaded_options){ .name = "db" }, host_options(2));
    cueball_threaded *pool;
    cueball_lease one, two, three, copy;
    MUST(cueball_threaded_find("nothing", &pool) == CUEBALL_ENOT_FOUND && !pool);
    printf("%s\n", cueball_last_error());
    MUST(cueball_threaded_find("db", &pool) == CUEBALL_OK && pool == h.pool);
    MUST(strcmp(cueball_threaded_name(pool), "db") == 0);
    MUST(cueball_threaded_claim(pool, 5000, &one) == CUEBALL_OK && one.pool == pool && one.fd == -1);
    MUST(cueball_threaded_claim(pool, 5000, &two) == CUEBALL_OK && two.pointer != one.pointer);
    host_conn *c = one.pointer;
    MUST(c->conn != 0);
    printf("try: %s: %s\n", said(cueball_threaded_try_claim(pool, &three)), cueball_last_error());
    MUST(!three.pool && three.fd == -1);
    cueball_threaded_backend backend = { .struct_size = sizeof backend };
    MUST(cueball_lease_backend(&one, &backend) == CUEBALL_OK);
    printf("backend: %s %s %s %u\n", backend.key, backend.name, backend.address, backend.port);
    copy = one;
    MUST(cueball_lease_report(&one, false) == CUEBALL_OK);
    MUST(cueball_lease_release(&one) == CUEBALL_OK && !one.pool && one.fd == -1);
    printf("again: %s, a copy: %s, NULL: %s\n", said(cueball_lease_release(&one)), said(cueball_lease_close(&copy)),
           said(cueball_lease_fail(NULL, "x")));
    MUST(cueball_lease_fail(&two, "it said no") == CUEBALL_OK);
    host_until(&h, 3);
    while (atomic_load(&h.heard) == 0) /* it hears when it has opened what is needed */
        usleep(1000);
    printf("the host heard: %s\n", h.told);
    MUST(cueball_threaded_claim(pool, 5000, &one) == CUEBALL_OK);
    MUST(cueball_lease_close(&one) == CUEBALL_OK);
    cueball_threaded_drop(pool);
    host_end(&h);
}

static void test_misuse(void)
{
    begin((cueball_threaded_options){ 0 }, host_options(1));
    cueball_lease lease, none = { 0 };
    cueball_threaded *pool;
    cueball_threaded_claim_options unknown = { .struct_size = 3 };
    MUST(cueball_threaded_claim(NULL, 1, &lease) == CUEBALL_EINVAL);
    MUST(cueball_threaded_claim(h.pool, 1, NULL) == CUEBALL_EINVAL);
    MUST(cueball_threaded_claim(h.pool, __builtin_nan(""), &lease) == CUEBALL_EINVAL);
    MUST(cueball_threaded_claim(h.pool, 5000, &lease) == CUEBALL_OK && cueball_lease_release(&lease) == CUEBALL_OK);
    MUST(cueball_threaded_claim(h.pool, __builtin_nan(""), &lease) == CUEBALL_EINVAL); /* though the thread keeps one */
    MUST(cueball_threaded_claim_with(h.pool, &unknown, &lease) == CUEBALL_EINVAL);
    MUST(cueball_lease_release(&none) == CUEBALL_ESTALE);
    MUST(cueball_lease_backend(&none, NULL) == CUEBALL_EINVAL);
    MUST(cueball_lease_explain(&none, NULL, 0) == CUEBALL_ESTALE);
    MUST(cueball_lease_adopt(NULL) == CUEBALL_EINVAL && cueball_lease_adopt(&none) == CUEBALL_ESTALE);
    MUST(cueball_lease_detach(NULL) == CUEBALL_EINVAL);
    MUST(cueball_threaded_state(NULL) == CUEBALL_EINVAL && cueball_threaded_explain(NULL, NULL, 0) == CUEBALL_EINVAL);
    MUST(cueball_threaded_find(NULL, &pool) == CUEBALL_EINVAL);
    cueball_threaded_keep(NULL);
    cueball_threaded_drop(NULL);
    cueball_threaded_close(NULL);
    MUST(strcmp(cueball_threaded_name(h.pool), "") == 0);
    host_end(&h);
    printf("misuse: errors\n");
}

/* ------------------------------------------------------------------------- threads that wait -- */

static atomic_int turn;

typedef struct waiting {
    pthread_t thread;
    int number, result, came;
    atomic_bool is_over;
    double timeout_ms;
    char fault[512], why[512];
} waiting;

static void *waiting_run(void *given)
{
    waiting *w = given;
    cueball_lease lease;
    w->result = cueball_threaded_claim(h.pool, w->timeout_ms, &lease);
    w->came = atomic_fetch_add(&turn, 1);
    if (w->result == CUEBALL_OK) {
        MUST(cueball_lease_explain(&lease, w->why, sizeof w->why) > 0);
        MUST(cueball_lease_release(&lease) == CUEBALL_OK);
    } else {
        snprintf(w->fault, sizeof w->fault, "%s", cueball_last_error());
    }
    atomic_store(&w->is_over, true);
    return NULL;
}

/* Waits until it is in the queue, or was: its time may be over before that is seen. */
static void waiting_begin(waiting *w, int number, double timeout_ms)
{
    cueball_stats stats = { .struct_size = sizeof stats };
    *w = (waiting){ .number = number, .timeout_ms = timeout_ms };
    MUST(pthread_create(&w->thread, NULL, waiting_run, w) == 0);
    do {
        usleep(1000);
        cueball_threaded_stats(h.pool, &stats);
    } while (stats.waiting != (uint32_t)number + 1 && !atomic_load(&w->is_over));
}

static void test_queue(void)
{
    enum { THREADS = 20 };
    static waiting ws[THREADS];
    cueball_lease lease;
    atomic_store(&turn, 0);
    begin((cueball_threaded_options){ 0 }, host_options(1));
    MUST(cueball_threaded_claim(h.pool, 5000, &lease) == CUEBALL_OK);
    for (int i = 0; i < THREADS; i++)
        waiting_begin(&ws[i], i, 60000);
    MUST(cueball_lease_release(&lease) == CUEBALL_OK);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(ws[i].thread, NULL);
        MUST(ws[i].result == CUEBALL_OK && ws[i].came == i);
    }
    MUST(strncmp(ws[3].why, "waited ", 7) == 0 && strstr(ws[3].why, " ms (3 ahead): busy "));
    host_end(&h);
    printf("queue: first come, first served\n");
}

static void test_timeouts(void)
{
    waiting w;
    cueball_lease lease;
    cueball_options options = host_options(1);
    options.claim_timeout_ms = 30;
    begin((cueball_threaded_options){ .name = "db" }, options);
    MUST(cueball_threaded_claim(h.pool, 5000, &lease) == CUEBALL_OK);
    cueball_threaded_note(h.pool, "db1: connection refused");
    waiting_begin(&w, 0, 20);
    pthread_join(w.thread, NULL);
    MUST(strncmp(w.fault, "claim timed out after ", 22) == 0);
    printf("%s ...%s\n", said(w.result), strchr(w.fault, '('));
    atomic_store(&h.stands_still, true); /* the thread sees to it itself, */
    host_nudge(&h);
    waiting_begin(&w, 0, 20);
    pthread_join(w.thread, NULL);
    MUST(w.result == CUEBALL_ECLAIM_TIMEOUT);
    waiting_begin(&w, 0, 0); /* and to the pool's own limit, too */
    pthread_join(w.thread, NULL);
    MUST(w.result == CUEBALL_ECLAIM_TIMEOUT && strncmp(w.fault, "claim timed out after ", 22) == 0);
    atomic_store(&h.stands_still, false);
    MUST(cueball_lease_release(&lease) == CUEBALL_OK);
    host_end(&h);
}

/* What it gets is broken each time: 0, 100, 300 and 700 ms after it has begun, and so on, where the claim hears late that its time is over. */
static void test_broken_connections(void)
{
    cueball_lease lease;
    cueball_time began = cueball_clock_now();
    cueball_options options = host_options(1);
    options.recovery_connect = options.recovery_initial =
        (cueball_recovery){ .attempts = 100, .timeout_ms = 1000, .max_timeout_ms = 1000, .delay_ms = 100, .max_delay_ms = 100000 };
    memset(&h, 0, sizeof h);
    h.has_sockets = h.opens_broken = true;
    host_begin(&h, &(cueball_threaded_options){ .name = "db" }, &options, 1);
    int result = cueball_threaded_claim(h.pool, 1000, &lease);
    unsigned opened = atomic_load(&h.opened), opened_max = 1;
    double took_ms = (double)(cueball_clock_now() - began) / 1e6;
    for (double delay_ms = 100, at_ms = 100; at_ms <= took_ms; delay_ms *= 2, at_ms += delay_ms)
        opened_max++;
    MUST(opened >= 1 && opened <= opened_max);
    printf("broken connections: %s\n", said(result));
    host_end(&h);
}

/* -------------------------------------------------------------------------- threads that end -- */

static void *leaves_leases(void *given)
{
    cueball_lease *leases = given;
    for (int i = 0; i < 2; i++)
        MUST(cueball_threaded_claim(h.pool, 5000, &leases[i]) == CUEBALL_OK);
    MUST(cueball_lease_detach(&leases[1]) == CUEBALL_OK);
    return NULL;
}

static void test_thread_ends(void)
{
    cueball_lease leases[3];
    pthread_t thread;
    begin((cueball_threaded_options){ 0 }, host_options(3));
    MUST(pthread_create(&thread, NULL, leaves_leases, leases) == 0);
    pthread_join(thread, NULL);
    MUST(cueball_lease_release(&leases[0]) == CUEBALL_ESTALE);
    cueball_stats stats = { .struct_size = sizeof stats };
    cueball_threaded_stats(h.pool, &stats);
    printf("a thread ended: %u busy, %lu revoked\n", stats.busy, (unsigned long)stats.leases_revoked);
    MUST(cueball_lease_adopt(&leases[1]) == CUEBALL_OK);
    MUST(cueball_lease_release(&leases[1]) == CUEBALL_OK);
    host_end(&h);
}

static void test_cancelled(void)
{
    waiting ws[3];
    cueball_lease lease;
    begin((cueball_threaded_options){ 0 }, host_options(1));
    MUST(cueball_threaded_claim(h.pool, 5000, &lease) == CUEBALL_OK);
    for (int i = 0; i < 3; i++)
        waiting_begin(&ws[i], i, 60000);
    MUST(pthread_cancel(ws[0].thread) == 0);
    pthread_join(ws[0].thread, NULL);
    host_until_waiting(&h, 2);
    MUST(cueball_lease_release(&lease) == CUEBALL_OK);
    for (int i = 1; i < 3; i++) {
        pthread_join(ws[i].thread, NULL);
        MUST(ws[i].result == CUEBALL_OK);
    }
    host_end(&h);
    printf("cancelled: the queue goes on\n");
}

/* Cancelled at any moment while the connection goes from hand to hand: none is lost. */
static void *claims_on(void *given)
{
    cueball_lease lease;
    (void)given;
    for (;;) {
        if (cueball_threaded_claim(h.pool, 1000, &lease) == CUEBALL_OK)
            cueball_lease_release(&lease);
        pthread_testcancel();
    }
    return NULL;
}

static void test_cancelled_often(void)
{
    enum { ROUNDS = 100, THREADS = 4 };
    begin((cueball_threaded_options){ 0 }, host_options(2));
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t threads[THREADS];
        for (int i = 0; i < THREADS; i++)
            MUST(pthread_create(&threads[i], NULL, claims_on, NULL) == 0);
        for (int i = 0; i < THREADS; i++)
            pthread_cancel(threads[i]);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
    }
    cueball_lease leases[2];
    for (int i = 0; i < 2; i++)
        MUST(cueball_threaded_claim(h.pool, 60000, &leases[i]) == CUEBALL_OK);
    for (int i = 0; i < 2; i++)
        MUST(cueball_lease_release(&leases[i]) == CUEBALL_OK);
    host_end(&h);
    printf("cancelled often: no connection is lost\n");
}

/* -------------------------------------------------------------------------------- the end -- */

static void test_stop(void)
{
    waiting w;
    cueball_lease lease;
    cueball_threaded *kept;
    begin((cueball_threaded_options){ .name = "db" }, host_options(1));
    kept = h.pool;
    cueball_threaded_keep(kept);
    MUST(cueball_threaded_claim(kept, 5000, &lease) == CUEBALL_OK);
    waiting_begin(&w, 0, 60000);
    cueball_pool_stop(cueball_threaded_lock(kept), cueball_clock_now());
    cueball_threaded_unlock(kept);
    pthread_join(w.thread, NULL);
    printf("stop: %s: %s\n", said(w.result), w.fault);
    MUST(cueball_lease_release(&lease) == CUEBALL_OK);
    size_t memory = atomic_load(&h.memory);
    MUST(memory > 0);
    atomic_store(&h.ends, true);
    host_nudge(&h);
    pthread_join(h.thread, NULL);
    cueball_threaded_close(kept);
    close(h.wake_fd);
    printf("closed: %s: %s\n", said(cueball_threaded_claim(kept, 5000, &lease)), cueball_last_error());
    MUST(cueball_threaded_find("db", &h.pool) == CUEBALL_ENOT_FOUND);
    MUST(cueball_threaded_state(kept) == CUEBALL_POOL_STOPPED);
    MUST(cueball_threaded_lock(kept) == NULL);
    cueball_threaded_drop(kept);
    MUST(atomic_load(&h.memory) == 0);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    test_one_thread();
    test_misuse();
    test_queue();
    test_timeouts();
    test_broken_connections();
    test_thread_ends();
    test_cancelled();
    test_cancelled_often();
    test_stop();
    return 0;
}
