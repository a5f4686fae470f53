/* Threads claim from a pool whose resolver and factory are Lua, and talk to real servers through the descriptors.
 *
 *     claims_test SCRIPT SERVER…    "127.0.0.1:PORT" of servers that send back each line */
#include "check.h"

#include <pthread.h>
#include <unistd.h>

enum { THREADS = 8, CLAIMS = 200 };

static cueball_threaded *pool;

static void exchange(int fd, const char *line)
{
    char answer[64];
    size_t size = strlen(line), got = 0;
    CHECK(write(fd, line, size) == (ssize_t)size);
    while (got < size) { /* the descriptor blocks */
        ssize_t part = read(fd, answer + got, sizeof answer - got);
        CHECK(part > 0);
        got += (size_t)part;
    }
    CHECK(got == size && memcmp(line, answer, size) == 0);
}

static void *claimer(void *given)
{
    char line[64];
    for (int count = 0; count < CLAIMS; count++) {
        cueball_lease lease;
        cueball_threaded_backend backend = { .struct_size = sizeof backend };
        WELL(cueball_threaded_claim(pool, 10000, &lease));
        CHECK(lease.fd >= 0 && lease.pointer == NULL);
        WELL(cueball_lease_backend(&lease, &backend));
        CHECK(strcmp(backend.address, "127.0.0.1") == 0 && backend.port > 0);
        (void)snprintf(line, sizeof line, "thread %d claim %d\n", (int)(intptr_t)given, count);
        exchange(lease.fd, line);
        if (count % 50 == 49)
            WELL(cueball_lease_close(&lease));
        else
            WELL(cueball_lease_release(&lease));
    }
    return NULL;
}

int main(int count, char **arguments)
{
    pthread_t threads[THREADS];
    cueball_lease lease;
    cueball_stats stats = { .struct_size = sizeof stats };
    CHECK(count > 2);
    cueball_runtime *runtime = start_file(arguments[1], (const char *const *)arguments + 2, count - 2);
    pool = pool_of(runtime, "echo");
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, claimer, (void *)(intptr_t)i) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    cueball_threaded_stats(pool, &stats);
    CHECK(stats.granted == THREADS * CLAIMS && stats.busy == 0);
    CHECK(stats.leases_closed == THREADS * (CLAIMS / 50) && stats.lost == 0);
    WELL(cueball_runtime_stop(runtime, 1000));
    FAILS(CUEBALL_EPOOL_STOPPING, cueball_threaded_claim(pool, 1000, &lease));
    cueball_threaded_drop(pool);
    cueball_runtime_free(runtime);
    puts("well");
    return 0;
}
