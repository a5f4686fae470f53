/* What people in charge do with a pool for threads, while threads claim as fast as they can. */
#define _GNU_SOURCE

#include "host.h"

#include <math.h>

enum { CLAIMERS = 4 };

static host h;

typedef struct claimer {
    pthread_t thread;
    atomic_ulong leases;
    atomic_bool ends;
    double timeout_ms;
    atomic_int result; /* the last one that was not CUEBALL_OK */
} claimer;

static void *claimer_run(void *given)
{
    claimer *c = given;
    while (!atomic_load(&c->ends)) {
        cueball_lease lease;
        int result = cueball_threaded_claim(h.pool, c->timeout_ms, &lease);
        if (result != CUEBALL_OK) {
            atomic_store(&c->result, result);
            continue;
        }
        atomic_fetch_add(&c->leases, 1);
        MUST(cueball_lease_release(&lease) == CUEBALL_OK);
    }
    return NULL;
}

static void claimers_begin(claimer *all, int count, double timeout_ms)
{
    memset(all, 0, (size_t)count * sizeof *all);
    for (int i = 0; i < count; i++) {
        all[i].timeout_ms = timeout_ms;
        MUST(pthread_create(&all[i].thread, NULL, claimer_run, &all[i]) == 0);
    }
}

static unsigned long claimers_leases(claimer *all, int count)
{
    unsigned long sum = 0;
    for (int i = 0; i < count; i++)
        sum += atomic_load(&all[i].leases);
    return sum;
}

static void claimers_go_on(claimer *all, int count)
{
    unsigned long before = claimers_leases(all, count);
    while (claimers_leases(all, count) < before + 1000)
        usleep(1000);
}

static void claimers_end(claimer *all, int count)
{
    for (int i = 0; i < count; i++)
        atomic_store(&all[i].ends, true);
    for (int i = 0; i < count; i++)
        pthread_join(all[i].thread, NULL);
}

static uint32_t busy(void)
{
    cueball_stats stats = { .struct_size = sizeof stats };
    cueball_threaded_stats(h.pool, &stats);
    return stats.busy;
}

/* In a pause no thread has a connection, its turn is over; and all go on after it. */
static void test_pause(void)
{
    claimer all[CLAIMERS];
    cueball_options options = host_options(CLAIMERS);
    host_begin(&h, &(cueball_threaded_options){ .name = "db", .turn_ms = 60000 }, &options, 2);
    claimers_begin(all, CLAIMERS, INFINITY);
    for (int round = 0; round < 20; round++) {
        claimers_go_on(all, CLAIMERS);
        MUST(cueball_threaded_pause(h.pool, 60000) == CUEBALL_OK);
        MUST(busy() == 0);
        unsigned long before = claimers_leases(all, CLAIMERS);
        usleep(2000);
        MUST(busy() == 0 && claimers_leases(all, CLAIMERS) == before);
        MUST(cueball_threaded_resume(h.pool) == CUEBALL_OK);
    }
    claimers_go_on(all, CLAIMERS);
    claimers_end(all, CLAIMERS);
    printf("paused 20 times: no lease was out\n");
    host_end(&h);
}

/* For how long the pool is paused, as a text says it behind these words: no longer than it can have been. */
static bool tells_pause(const char *text, const char *words, cueball_time began)
{
    const char *at = strstr(text, words);
    char *end = NULL;
    double s = at ? strtod(at + strlen(words), &end) : -1;
    return at && end > at + strlen(words) && s >= 0 && s <= (double)(cueball_clock_now() - began) / 1e9 + 0.1;
}

static void test_refusals(void)
{
    cueball_lease lease, other;
    cueball_time began = cueball_clock_now();
    cueball_options options = host_options(1);
    memset(&h, 0, sizeof h);
    host_begin(&h, &(cueball_threaded_options){ .name = "db" }, &options, 1);
    MUST(cueball_threaded_claim(h.pool, 5000, &lease) == CUEBALL_OK);
    printf("a lease is out: %d\n", cueball_threaded_pause(h.pool, 5));
    printf("try: %s\n", said(cueball_threaded_try_claim(h.pool, &other)));
    MUST(tells_pause(cueball_last_error(), "pool db is paused for ", began));
    MUST(strstr(cueball_last_error(), "the claim may not wait (0 claims wait)"));
    printf("waits: %s\n", said(cueball_threaded_claim(h.pool, 5, &other)));
    MUST(tells_pause(cueball_last_error(), "paused for ", began));
    char text[512];
    MUST(cueball_threaded_explain(h.pool, text, sizeof text) > 0 && tells_pause(text, "; paused for ", began));
    MUST(cueball_lease_release(&lease) == CUEBALL_OK);
    MUST(cueball_threaded_pause(h.pool, 5000) == CUEBALL_OK);
    MUST(cueball_threaded_resume(h.pool) == CUEBALL_OK);
    MUST(cueball_threaded_claim(h.pool, 5000, &lease) == CUEBALL_OK && cueball_lease_release(&lease) == CUEBALL_OK);
    printf("wait_ms: %s, NULL: %s %s %s\n", said(cueball_threaded_pause(h.pool, -1)), said(cueball_threaded_pause(NULL, 0)),
           said(cueball_threaded_resume(NULL)), said(cueball_threaded_drain(NULL, "db1")));
    cueball_threaded *pool = h.pool;
    cueball_threaded_keep(pool);
    cueball_pool_stop(cueball_threaded_lock(pool), cueball_clock_now());
    cueball_threaded_unlock(pool);
    atomic_store(&h.ends, true);
    host_nudge(&h);
    pthread_join(h.thread, NULL);
    cueball_threaded_close(pool);
    close(h.wake_fd);
    printf("closed: %s, %s\n", said(cueball_threaded_pause(pool, 0)), said(cueball_threaded_restore(pool, "db1")));
    cueball_threaded_drop(pool);
    MUST(atomic_load(&h.memory) == 0);
}

/* A bound that overload control sets to a wait does not count in a pause. */
static void test_bound(void)
{
    claimer one[1];
    cueball_options options = host_options(1);
    options.queue = CUEBALL_QUEUE_CODEL;
    options.target_claim_delay_ms = 1;
    memset(&h, 0, sizeof h);
    host_begin(&h, &(cueball_threaded_options){ .name = "db" }, &options, 1);
    host_until(&h, 1);
    MUST(cueball_threaded_pause(h.pool, 0) == CUEBALL_OK);
    claimers_begin(one, 1, 60000);
    host_until_waiting(&h, 1);
    usleep(100000);
    host_until_waiting(&h, 1);
    MUST(cueball_threaded_resume(h.pool) == CUEBALL_OK);
    claimers_go_on(one, 1);
    claimers_end(one, 1);
    printf("overload control: %s\n", said(atomic_load(&one[0].result)));
    host_end(&h);
}

static void test_drain(void)
{
    claimer all[CLAIMERS];
    cueball_options options = host_options(CLAIMERS);
    memset(&h, 0, sizeof h);
    host_begin(&h, &(cueball_threaded_options){ .name = "db" }, &options, 2);
    claimers_begin(all, CLAIMERS, INFINITY);
    claimers_go_on(all, CLAIMERS);
    printf("drain: %s, %s\n", said(cueball_threaded_drain(h.pool, "db1")), said(cueball_threaded_drain(h.pool, "db9")));
    host_until(&h, CLAIMERS + 2); /* two more at db2 */
    claimers_go_on(all, CLAIMERS);
    cueball_lease lease;
    cueball_threaded_backend backend = { .struct_size = sizeof backend };
    for (int i = 0; i < 100; i++) {
        MUST(cueball_threaded_claim(h.pool, 5000, &lease) == CUEBALL_OK);
        MUST(cueball_lease_backend(&lease, &backend) == CUEBALL_OK && strcmp(backend.key, "db2") == 0);
        MUST(cueball_lease_release(&lease) == CUEBALL_OK);
    }
    printf("restore: %s\n", said(cueball_threaded_restore(h.pool, "db1")));
    host_until(&h, CLAIMERS + 4);
    claimers_end(all, CLAIMERS);
    host_end(&h);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    test_pause();
    test_refusals();
    test_bound();
    test_drain();
    return 0;
}
