/* Turns of threads: what the core is told of them, and that they end. */
#define _GNU_SOURCE

#include "host.h"

#include "internal.h"
#include "state.h"

#include <sched.h>

static host h;

static void until_rate(void)
{
    bool is_known;
    do {
        usleep(1000);
        (void)cueball_threaded_lock(h.pool);
        is_known = cueball__rate_at(&h.pool->rate, cueball_clock_now()) > 0;
        cueball_threaded_unlock(h.pool);
    } while (!is_known);
}

static void begin(cueball_threaded_options options, cueball_options pool_options, int backends)
{
    memset(&h, 0, sizeof h);
    host_begin(&h, &options, &pool_options, backends);
    host_until(&h, pool_options.max_connections);
    until_rate(); /* before, there are no turns */
}

static cueball_stats stats_of(void)
{
    char text[256];
    cueball_stats stats = { .struct_size = sizeof stats };
    cueball_threaded_stats(h.pool, &stats);
    MUST(cueball_pool_check(cueball_threaded_lock(h.pool), text, sizeof text) == CUEBALL_OK);
    cueball_threaded_unlock(h.pool);
    return stats;
}

/* Claims, holds for as long, and releases: which connection it was. */
static void *one_lease(unsigned held_us)
{
    cueball_lease lease;
    MUST(cueball_threaded_claim(h.pool, 60000, &lease) == CUEBALL_OK);
    void *pointer = lease.pointer;
    if (held_us)
        usleep(held_us);
    MUST(cueball_lease_release(&lease) == CUEBALL_OK);
    return pointer;
}

/* Until the sweep has taken back what is kept. */
static void until_idle(uint32_t idle)
{
    while (stats_of().idle != idle)
        usleep(1000);
}

/* ------------------------------------------------------------------------------ the numbers -- */

static void test_numbers(bool clocks)
{
    enum { LEASES = 5000 };
    begin((cueball_threaded_options){ .clocks = clocks, .turn_ms = 60000, .turn_leases = 100 }, host_options(3), 1);
    for (int i = 0; i < LEASES; i++)
        one_lease(0);
    cueball_lease lease;
    MUST(cueball_threaded_claim(h.pool, 1000, &lease) == CUEBALL_OK);
    MUST(cueball_lease_close(&lease) == CUEBALL_OK); /* which settles the turn */
    cueball_stats stats = stats_of();
    MUST(stats.claims == LEASES + 1 && stats.granted == LEASES + 1 && stats.granted_at_once == LEASES + 1);
    MUST(stats.released == LEASES && stats.leases_closed == 1);
    host_end(&h);
    printf("numbers, %s clocks: every lease is counted\n", clocks ? "with" : "without");
}

/* Ticks of 0.5 ns, read by threads that are held up between one clock and the other: nothing is believed that may be wrong
 * by more than 1 in 100, since those who wait would be overtaken for so much longer. */
static cueball__both_clocks read_at(double ms, double before_ms, double after_ms)
{
    return (cueball__both_clocks){ .ticks = (uint64_t)(ms * 2e6),
                                   .before = (cueball_time)((ms - before_ms) * 1e6),
                                   .after = (cueball_time)((ms + after_ms) * 1e6) };
}

static void test_rate(void)
{
    static const struct {
        double ms, before_ms, after_ms;
        bool is_believed;
    } readings[] = { { 100.5, 0, 0, false },    { 101.5, 0, 9, false }, { 112, 10, 0, false },
                     { 113, 0.01, 0.01, true }, { 130, 0, 20, false },  { 160, 0.1, 0.1, true } };
    cueball__both_clocks base = read_at(100, 0, 0);
    cueball__rate rate;
    cueball__rate_init(&rate, &base);
    for (size_t i = 0; i < sizeof readings / sizeof *readings; i++) {
        cueball__rate was = rate;
        cueball__both_clocks read = read_at(readings[i].ms, readings[i].before_ms, readings[i].after_ms);
        cueball__rate_measure(&rate, &read);
        MUST((rate.measured != was.measured) == readings[i].is_believed);
        MUST(i < 3 ? rate.tick_ns == 0 : rate.tick_ns > 0.495 && rate.tick_ns < 0.505);
    }
    base = read_at(100, 0, 5); /* then it takes longer until it is known */
    cueball__rate_init(&rate, &base);
    cueball__both_clocks read = read_at(200, 0, 0);
    cueball__rate_measure(&rate, &read);
    MUST(rate.tick_ns == 0);
    read = read_at(700, 0, 0);
    cueball__rate_measure(&rate, &read);
    MUST(rate.tick_ns > 0.495 && rate.tick_ns < 0.505);
    printf("rate: a reading that was held up is not believed\n");
}

/* A turn, and then the next connection: over all backends alike. */
static void test_rotation(void)
{
    enum { LEASES = 9000, BACKENDS = 3 };
    int shares[BACKENDS] = { 0 }, changes = 0;
    begin((cueball_threaded_options){ .turn_ms = 60000, .turn_leases = 100 }, host_options(6), BACKENDS);
    void *last = NULL;
    for (int i = 0; i < LEASES; i++) {
        cueball_lease lease;
        cueball_threaded_backend backend = { .struct_size = sizeof backend };
        MUST(cueball_threaded_claim(h.pool, 60000, &lease) == CUEBALL_OK);
        MUST(cueball_lease_backend(&lease, &backend) == CUEBALL_OK);
        shares[backend.key[2] - '1']++;
        changes += last && lease.pointer != last;
        last = lease.pointer;
        MUST(cueball_lease_release(&lease) == CUEBALL_OK);
    }
    for (int i = 0; i < BACKENDS; i++)
        MUST(shares[i] > LEASES / BACKENDS - 250 && shares[i] < LEASES / BACKENDS + 250);
    printf("rotation: %d turns of 101 leases, each backend has its third\n", changes);
    host_end(&h);
}

static int compare_ms(const void *one, const void *other)
{
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

/* How long leases lasted, as the pool tells it: in turns, and with the lock each time. The machine may be late: so it is measured here, too,
 * from within a lease, and from outside of it. */
static void test_quantiles(void)
{
    enum { LEASES = 300, P50 = LEASES / 2, P99 = LEASES * 99 / 100, OFF = 2 }; /* the lease that settles a turn may count, or not */
    static const double LEAST = 0.95, MOST = 1.06;                             /* the pool's histogram, and its clock */
    for (int turns = 0; turns < 2; turns++) {
        double within[LEASES], around[LEASES];
        begin((cueball_threaded_options){ .clocks = true, .turn_ms = turns ? 60000 : -1 }, host_options(2), 1);
        for (int i = 0; i < LEASES; i++) {
            cueball_lease one;
            cueball_time before = cueball_clock_now();
            MUST(cueball_threaded_claim(h.pool, 60000, &one) == CUEBALL_OK);
            cueball_time begun = cueball_clock_now();
            usleep(i % 50 == 0 ? 20000 : 2000);
            within[i] = (double)(cueball_clock_now() - begun) / 1e6;
            MUST(cueball_lease_release(&one) == CUEBALL_OK);
            around[i] = (double)(cueball_clock_now() - before) / 1e6;
        }
        cueball_lease lease;
        MUST(cueball_threaded_claim(h.pool, 1000, &lease) == CUEBALL_OK);
        MUST(cueball_lease_close(&lease) == CUEBALL_OK);
        cueball_stats stats = stats_of();
        qsort(within, LEASES, sizeof *within, compare_ms);
        qsort(around, LEASES, sizeof *around, compare_ms);
        MUST(stats.lease_ms_p50 >= within[P50 - OFF] * LEAST && stats.lease_ms_p50 <= around[P50 + OFF] * MOST);
        MUST(stats.lease_ms_p99 >= within[P99 - OFF] * LEAST && stats.lease_ms_p99 <= around[P99 + OFF] * MOST);
        host_end(&h);
    }
    printf("quantiles: those of the turns are those of the lock\n");
}

/* ------------------------------------------------------------------------------- their ends -- */

static void test_sweep(void)
{
    begin((cueball_threaded_options){ .turn_ms = 5 }, host_options(2), 1);
    int tries = 0;
    while (one_lease(0) != one_lease(0) && tries < 1000) /* where the machine stood still for 5 ms between them, it was taken back */
        tries++;
    MUST(tries < 1000 && stats_of().busy <= 1);
    until_idle(2); /* nobody uses it */
    host_end(&h);
    printf("sweep: what is left lying goes back\n");
}

static void test_max_uses(void)
{
    enum { LEASES = 100 };
    cueball_options options = host_options(1);
    options.max_uses = 10;
    options.max_churn_rate = __builtin_inf();
    begin((cueball_threaded_options){ .turn_ms = 60000 }, options, 1);
    for (int i = 0; i < LEASES; i++)
        one_lease(0);
    host_until(&h, LEASES / 10 + 1);
    MUST(cueball_pool_closed_by(cueball_threaded_lock(h.pool), CUEBALL_CAUSE_MAX_USES) == LEASES / 10);
    cueball_threaded_unlock(h.pool);
    host_end(&h);
    printf("max_uses: none more than 10\n");
}

static void *claims_once(void *given)
{
    cueball_lease lease;
    *(int *)given = cueball_threaded_claim(h.pool, 60000, &lease);
    if (*(int *)given == CUEBALL_OK)
        MUST(cueball_lease_release(&lease) == CUEBALL_OK);
    return NULL;
}

/* What one thread keeps, another one gets; and then the pool stops, which takes all. */
static void test_taken(void)
{
    int result = 1;
    pthread_t thread;
    begin((cueball_threaded_options){ .turn_ms = 60000 }, host_options(1), 1);
    one_lease(0);
    one_lease(0);
    MUST(stats_of().busy == 1);
    MUST(pthread_create(&thread, NULL, claims_once, &result) == 0);
    pthread_join(thread, NULL);
    MUST(result == CUEBALL_OK);
    one_lease(0);
    one_lease(0);
    cueball_lease lease;
    MUST(cueball_threaded_try_claim(h.pool, &lease) == CUEBALL_OK); /* its own, in its turn */
    MUST(cueball_lease_release(&lease) == CUEBALL_OK);
    host_end(&h);
    printf("taken: by who needs it\n");
}

/* A lease of a turn is handed to another thread, failed, reported on: each settles it. */
static void *releases(void *given)
{
    MUST(cueball_lease_release(given) == CUEBALL_OK);
    return NULL;
}

static void test_settled(void)
{
    begin((cueball_threaded_options){ .turn_ms = 60000, .clocks = true }, host_options(1), 1);
    cueball_lease lease, copy;
    pthread_t thread;
    for (int i = 0; i < 4; i++) {
        one_lease(0);
        one_lease(0);
        MUST(cueball_threaded_claim(h.pool, 60000, &lease) == CUEBALL_OK);
        copy = lease;
        if (i == 1)
            MUST(cueball_lease_report(&lease, true) == CUEBALL_OK);
        if (i == 2)
            MUST(cueball_lease_detach(&lease) == CUEBALL_OK && cueball_lease_adopt(&lease) == CUEBALL_OK);
        if (i == 3) {
            MUST(pthread_create(&thread, NULL, releases, &lease) == 0);
            pthread_join(thread, NULL);
        } else {
            MUST(cueball_lease_release(&lease) == CUEBALL_OK);
        }
        MUST(cueball_lease_release(&copy) == CUEBALL_ESTALE);
    }
    MUST(cueball_threaded_claim(h.pool, 60000, &lease) == CUEBALL_OK);
    MUST(cueball_lease_fail(&lease, NULL) == CUEBALL_OK);
    cueball_stats stats = stats_of();
    MUST(stats.released == 12 && stats.leases_failed == 1);
    host_end(&h);
    printf("settled: by all that is more than a release\n");
}

/* ---------------------------------------------------------------------------- all together -- */

enum { CROWD = 16, CROWD_CONNECTIONS = 3 };
static atomic_int holders[HOST_SLOTS];
static atomic_bool crowd_ends;

static void *crowd_run(void *given)
{
    atomic_ulong *served = given;
    unsigned seed = (unsigned)(uintptr_t)given;
    while (!atomic_load(&crowd_ends)) {
        cueball_lease lease;
        MUST(cueball_threaded_claim(h.pool, 60000, &lease) == CUEBALL_OK);
        atomic_int *holder = &holders[(host_conn *)lease.pointer - h.conns];
        MUST(atomic_fetch_add(holder, 1) == 0);
        unsigned what = (unsigned)rand_r(&seed) % 1000;
        if (what < 5)
            sched_yield();
        if (what == 1)
            usleep(50);
        MUST(atomic_fetch_sub(holder, 1) == 1);
        if (what == 0)
            MUST(cueball_lease_close(&lease) == CUEBALL_OK);
        else
            MUST(cueball_lease_release(&lease) == CUEBALL_OK);
        if (what == 2)
            usleep(2000); /* leaves it lying */
        atomic_fetch_add(served, 1);
    }
    return NULL;
}

static void test_crowd(bool clocks)
{
    static atomic_ulong served[CROWD];
    pthread_t threads[CROWD];
    unsigned long all = 0;
    atomic_store(&crowd_ends, false);
    for (int i = 0; i < CROWD; i++)
        atomic_store(&served[i], 0);
    begin((cueball_threaded_options){ .clocks = clocks, .turn_ms = 1 }, host_options(CROWD_CONNECTIONS), 2);
    for (int i = 0; i < CROWD; i++)
        MUST(pthread_create(&threads[i], NULL, crowd_run, &served[i]) == 0);
    usleep(400000);
    for (int i = 0; i < CROWD; i++)
        while (atomic_load(&served[i]) == 0)
            usleep(1000);
    atomic_store(&crowd_ends, true);
    for (int i = 0; i < CROWD; i++) {
        pthread_join(threads[i], NULL);
        all += atomic_load(&served[i]);
    }
    until_idle(CROWD_CONNECTIONS);
    cueball_stats stats = stats_of();
    MUST(stats.granted == all && stats.released + stats.leases_closed == all);
    host_end(&h);
    printf("crowd, %s clocks: each connection in one hand, every lease counted\n", clocks ? "with" : "without");
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    test_rate();
    test_numbers(true);
    test_numbers(false);
    test_rotation();
    test_quantiles();
    test_sweep();
    test_max_uses();
    test_taken();
    test_settled();
    test_crowd(true);
    test_crowd(false);
    return 0;
}
