/* Threads that wait: what it costs, and what may happen to them meanwhile.  Run by threaded_spec.lua.
 *
 *     threaded_waiting [--threads 64]
 */
#include "faulty_host.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

enum { THREADS_MAX = 1000 };

static unsigned threads_n = 64;
static cueball_threaded *pool;
static _Atomic uint64_t signals;

typedef struct test_claimer {
    pthread_t thread;
    double timeout_ms, took_ms;
    int result;
    cueball_lease lease;
} test_claimer;

static test_claimer claimers[THREADS_MAX];

static void *claimer_run(void *argument)
{
    test_claimer *claimer = argument;
    cueball_time began = cueball_clock_now();
    claimer->result = cueball_threaded_claim(pool, claimer->timeout_ms, &claimer->lease);
    claimer->took_ms = (double)(cueball_clock_now() - began) / 1e6;
    if (claimer->result == CUEBALL_OK)
        MUST(cueball_lease_release(&claimer->lease) == CUEBALL_OK, "release");
    return NULL;
}

static void claimers_start(double timeout_ms)
{
    for (unsigned i = 0; i < threads_n; i++) {
        claimers[i].timeout_ms = timeout_ms;
        claimers[i].result = 1;
        MUST(pthread_create(&claimers[i].thread, NULL, claimer_run, &claimers[i]) == 0, "pthread_create");
    }
}

static void claimers_await(uint32_t waiting)
{
    cueball_stats stats = { .struct_size = sizeof stats };
    for (int waited_ms = 0; waited_ms < 60000; waited_ms++) {
        cueball_threaded_stats(pool, &stats);
        if (stats.waiting == waiting)
            return;
        usleep(1000);
    }
    MUST(false, "%u claims wait, not %u", stats.waiting, waiting);
}

static void claimers_join(int result)
{
    for (unsigned i = 0; i < threads_n; i++) {
        pthread_join(claimers[i].thread, NULL);
        MUST(claimers[i].result == result, "claimer %u: %s", i, cueball_error_message(claimers[i].result));
    }
}

static double cpu_ms(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e3;
}

/* One connection, which `lease` has, so that everybody else waits. */
static faulty_host *host_make(counted_memory *memory, cueball_lease *lease)
{
    faulty_options options;
    faulty_options_init(&options);
    options.pool.max_connections = 1;
    options.pool.drain_timeout_ms = 20;
    options.backends = 1;
    faulty_host *host = faulty_host_start(&options, memory);
    pool = faulty_host_pool(host);
    MUST(cueball_threaded_claim(pool, 30000, lease) == CUEBALL_OK, "%s", cueball_last_error());
    return host;
}

static void host_end(faulty_host *host, const counted_memory *memory)
{
    faulty_host_stop(host);
    faulty_host_join(host, NULL);
    faulty_host_free(host);
    MUST(atomic_load(&memory->held) == 0, "%zu bytes are left", atomic_load(&memory->held));
}

/* ------------------------------------------------------------------- scenes -- */

static void waiting_costs_nothing(void)
{
    counted_memory memory = { 0 };
    cueball_lease lease = { 0 };
    faulty_host *host = host_make(&memory, &lease);
    claimers_start(INFINITY);
    claimers_await(threads_n);
    double before = cpu_ms();
    usleep(1000000);
    double spent = cpu_ms() - before;
    MUST(spent < 200, "%.1f ms of CPU in 1 s of waiting", spent);
    printf("waiting: %.1f ms of CPU in 1 s, %u threads\n", spent, threads_n);
    MUST(cueball_lease_release(&lease) == CUEBALL_OK, "release");
    claimers_join(CUEBALL_OK);
    host_end(host, &memory);
}

static void stop_refuses_all(bool is_abandoned)
{
    counted_memory memory = { 0 };
    cueball_lease lease = { 0 };
    faulty_host *host = host_make(&memory, &lease);
    claimers_start(INFINITY);
    claimers_await(threads_n);
    if (is_abandoned)
        faulty_host_abandon(host);
    else
        faulty_host_stop(host);
    claimers_join(CUEBALL_EPOOL_STOPPING);
    int result = cueball_lease_release(&lease);
    MUST(result == CUEBALL_OK || result == CUEBALL_ESTALE, "release: %d", result);
    faulty_host_join(host, NULL);
    for (int i = 0; i < 2; i++) {
        MUST(cueball_threaded_claim(pool, INFINITY, &lease) == CUEBALL_EPOOL_STOPPING, "claim");
        MUST(cueball_threaded_try_claim(pool, &lease) == CUEBALL_EPOOL_STOPPING, "try");
        MUST(cueball_lease_release(&lease) == CUEBALL_ESTALE, "no lease");
    }
    faulty_host_free(host);
    MUST(atomic_load(&memory.held) == 0, "%zu bytes are left", atomic_load(&memory.held));
}

/* Those that are cancelled leave the queue; the others get what there is. */
static void cancelled_leave(void)
{
    counted_memory memory = { 0 };
    cueball_lease lease = { 0 };
    faulty_host *host = host_make(&memory, &lease);
    claimers_start(INFINITY);
    claimers_await(threads_n);
    for (unsigned i = 0; i < threads_n; i += 2)
        pthread_cancel(claimers[i].thread);
    claimers_await(threads_n / 2);
    MUST(cueball_lease_release(&lease) == CUEBALL_OK, "release");
    for (unsigned i = 0; i < threads_n; i++) {
        void *ended_with;
        pthread_join(claimers[i].thread, &ended_with);
        MUST((ended_with == PTHREAD_CANCELED) == (i % 2 == 0), "claimer %u", i);
        MUST(i % 2 == 0 || claimers[i].result == CUEBALL_OK, "claimer %u: %d", i, claimers[i].result);
    }
    host_end(host, &memory);
}

static void *claim_and_end(void *argument)
{
    cueball_lease *lease = argument;
    MUST(cueball_threaded_claim(pool, 30000, lease) == CUEBALL_OK, "%s", cueball_last_error());
    if (chance_is(&(kit_chance){ (uint64_t)(uintptr_t)lease | 1 }, 0.5))
        pthread_exit(NULL);
    return NULL;
}

/* Each gets the one connection only because the last one ended with it. */
static void the_dead_give_back(void)
{
    counted_memory memory = { 0 };
    cueball_lease lease = { 0 }, leases[32] = { { 0 } };
    pthread_t threads[32];
    faulty_host *host = host_make(&memory, &lease);
    for (int i = 0; i < 32; i++)
        MUST(pthread_create(&threads[i], NULL, claim_and_end, &leases[i]) == 0, "pthread_create");
    cueball_lease_release(&lease);
    for (int i = 0; i < 32; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 32; i++)
        MUST(cueball_lease_release(&leases[i]) == CUEBALL_ESTALE, "it ended with its thread");
    host_end(host, &memory);
}

static void count_signal(int number)
{
    (void)number;
    atomic_fetch_add(&signals, 1);
}

/* A signal every millisecond, at any thread, whose handler does not restart calls: nobody is answered early. */
static void signals_change_nothing(void)
{
    counted_memory memory = { 0 };
    cueball_lease lease = { 0 };
    faulty_host *host = host_make(&memory, &lease);
    struct sigaction action = { .sa_handler = count_signal };
    struct itimerval every = { { 0, 1000 }, { 0, 1000 } }, never = { { 0, 0 }, { 0, 0 } };
    MUST(sigaction(SIGPROF, &action, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0, "sigaction");
    do { /* until the signals came in time: the machine may stand still for as long as they wait */
        atomic_store(&signals, 0);
        claimers_start(300);
        MUST(setitimer(ITIMER_PROF, &every, NULL) == 0, "setitimer");
        for (int i = 0; i < 200; i++) {
            for (unsigned t = 0; t < threads_n; t++)
                pthread_kill(claimers[t].thread, SIGUSR1);
            usleep(500);
        }
        setitimer(ITIMER_PROF, &never, NULL);
        claimers_join(CUEBALL_ECLAIM_TIMEOUT);
        for (unsigned i = 0; i < threads_n; i++)
            MUST(claimers[i].took_ms >= 300, "timed out after %.3f ms of 300", claimers[i].took_ms);
    } while (atomic_load(&signals) <= threads_n);
    cueball_lease_release(&lease);
    host_end(host, &memory);
}

int main(int count, char **words)
{
    if (count == 3 && strcmp(words[1], "--threads") == 0)
        threads_n = (unsigned)strtoul(words[2], NULL, 10);
    MUST(threads_n > 0 && threads_n <= THREADS_MAX, "%u threads", threads_n);
    must_describe("threaded_waiting --threads %u", threads_n);
    must_end_within(300);
    waiting_costs_nothing();
    stop_refuses_all(false);
    stop_refuses_all(true);
    cancelled_leave();
    the_dead_give_back();
    signals_change_nothing();
    puts("well");
    return 0;
}
