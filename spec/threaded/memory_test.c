/* Memory that fails: the 1st, 2nd, ... n-th allocation of a pool for threads, once alone and once with all after it.  Every
 * call then says CUEBALL_ENOMEM and has changed nothing, or does without; with good memory again all goes on; and after
 * the end no byte is held.  Run by threaded_spec.lua.
 *
 *     threaded_memory [--from N] [--for-good]
 */
#include "faulty_host.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CONNECTIONS = 3, WAITERS = 70 };

static counted_memory memory;
static cueball_threaded *pool;

static bool is_short(void)
{
    return atomic_load(&memory.fails_at) != 0;
}

static void memory_fails(uint64_t at, bool for_good)
{
    atomic_store(&memory.allocations, 0);
    atomic_store(&memory.failed, 0);
    atomic_store(&memory.fails_for_good, for_good);
    atomic_store(&memory.fails_at, at);
}

static bool memory_heals(void)
{
    atomic_store(&memory.fails_at, 0);
    return atomic_load(&memory.failed) > 0;
}

/* A claim may be refused for want of memory, while there is. */
static int claim(double timeout_ms, cueball_lease *lease)
{
    int result = cueball_threaded_claim(pool, timeout_ms, lease);
    MUST(result == CUEBALL_OK || result == CUEBALL_ECLAIM_TIMEOUT || result == CUEBALL_EPOOL_FAILED
             || (result == CUEBALL_ENOMEM && atomic_load(&memory.failed) > 0),
         "claim: %s", cueball_error_message(result));
    MUST(result == CUEBALL_OK || (lease->pool == NULL && cueball_last_error()[0]), "refused, with a lease or without a word");
    return result;
}

static void must_end(int result)
{
    MUST(result == CUEBALL_OK, "a lease in hand: %s", cueball_error_message(result));
}

static void *wait_in_thread(void *argument)
{
    cueball_lease lease = { 0 };
    (void)argument;
    if (claim(20, &lease) == CUEBALL_OK)
        must_end(cueball_lease_release(&lease));
    return NULL;
}

/* More than there is room for at first. */
static void many_wait(void)
{
    pthread_t threads[WAITERS];
    for (int i = 0; i < WAITERS; i++)
        MUST(pthread_create(&threads[i], NULL, wait_in_thread, NULL) == 0, "pthread_create");
    for (int i = 0; i < WAITERS; i++)
        pthread_join(threads[i], NULL);
}

static void use(void)
{
    cueball_lease leases[CONNECTIONS] = { { 0 } };
    char text[200];
    for (int i = 0; i < CONNECTIONS; i++)
        if (claim(5, &leases[i]) == CUEBALL_OK) {
            must_end(cueball_lease_detach(&leases[i]));
            int result = cueball_lease_adopt(&leases[i]);
            MUST(result == CUEBALL_OK || (result == CUEBALL_ENOMEM && is_short()), "adopt: %d", result);
            MUST(cueball_lease_explain(&leases[i], text, sizeof text) >= 0, "explain");
        }
    many_wait();
    for (int i = 0; i < CONNECTIONS; i++)
        if (leases[i].pool)
            must_end(i == 0 ? cueball_lease_fail(&leases[i], "no memory, no words") : cueball_lease_release(&leases[i]));
    MUST(cueball_threaded_explain(pool, text, sizeof text) >= 0, "explain");
}

/* All that was promised holds when memory is good again. */
static void use_well(void)
{
    cueball_lease leases[CONNECTIONS] = { { 0 } };
    for (int i = 0; i < CONNECTIONS; i++) {
        int result = cueball_threaded_claim(pool, 30000, &leases[i]);
        MUST(result == CUEBALL_OK, "with good memory: %s", cueball_last_error());
    }
    for (int i = 0; i < CONNECTIONS; i++)
        must_end(cueball_lease_release(&leases[i]));
}

/* False: fewer allocations than that. */
static bool try(uint64_t n, bool for_good)
{
    faulty_options options;
    faulty_options_init(&options);
    options.name = "short";
    options.has_descriptors = n % 2 == 0;
    options.own_claims = 1000;
    options.inspects = n % 5 == 0;
    options.pool.max_connections = CONNECTIONS;
    options.pool.recovery_initial.attempts = options.pool.recovery_connect.attempts = 1000;
    options.pool.drain_timeout_ms = 1000;
    int result;
    memory_fails(n, for_good);
    faulty_host *host = faulty_host_try(&options, &memory, &result);
    if (!host) {
        MUST(result == CUEBALL_ENOMEM && is_short(), "new: %d", result);
        MUST(atomic_load(&memory.held) == 0, "no pool, and %zu bytes are held", atomic_load(&memory.held));
        memory_heals();
        return true;
    }
    pool = faulty_host_pool(host);
    use();
    bool has_failed = memory_heals();
    faulty_host_calm(host);
    use_well();
    faulty_host_stop(host);
    faulty_host_join(host, NULL);
    faulty_host_free(host);
    MUST(atomic_load(&memory.held) == 0, "%zu bytes are left", atomic_load(&memory.held));
    return has_failed;
}

int main(int count, char **words)
{
    uint64_t from = 1, failures = 0;
    bool is_repeated = false;
    for (int i = 1; i < count; i++) {
        if (strcmp(words[i], "--for-good") == 0)
            is_repeated = true;
        else if (strcmp(words[i], "--from") == 0 && i + 1 < count)
            from = strtoull(words[++i], NULL, 10);
    }
    must_end_within(300);
    for (int for_good = is_repeated; for_good < 2; for_good++) {
        uint64_t n = from;
        do
            must_describe("threaded_memory --from %llu%s", (unsigned long long)n, for_good ? " --for-good" : "");
        while (try(n, for_good) && n++ > 0);
        MUST(n > 1, "a pool needs no memory?");
        failures += n - from;
    }
    printf("%llu failed allocations\n", (unsigned long long)failures);
    return 0;
}
