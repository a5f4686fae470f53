/* Connections of several kinds, as threads get them.
 *
 *     kinds_test KIND SCRIPT ARGUMENT…    the script has a pool of the kind's name */
#include "check.h"

#include <dlfcn.h>
#include <time.h>
#include <unistd.h>

static cueball_runtime *runtime;
static cueball_threaded *pool;

static void pause_ms(long ms)
{
    struct timespec span = { ms / 1000, ms % 1000 * 1000000 };
    (void)nanosleep(&span, NULL);
}

static cueball_stats stats_now(void)
{
    cueball_stats stats = { .struct_size = sizeof stats };
    cueball_threaded_stats(pool, &stats);
    return stats;
}

/* Redis: bytes on the descriptor; its factory's `broken` is Lua, and is asked after each lease. */
static void redis(void)
{
    cueball_lease lease;
    char answer[16];
    for (int i = 0; i < 100; i++) {
        WELL(cueball_threaded_claim(pool, 10000, &lease));
        CHECK(write(lease.fd, "PING\r\n", 6) == 6);
        CHECK(read(lease.fd, answer, sizeof answer) == 7 && memcmp(answer, "+PONG\r\n", 7) == 0);
        WELL(cueball_lease_release(&lease));
    }
    CHECK(stats_now().opened == 1);
    /* Left with an answer under way: nobody else gets it. */
    WELL(cueball_threaded_claim(pool, 10000, &lease));
    CHECK(write(lease.fd, "PING\r\n", 6) == 6);
    CHECK(read(lease.fd, answer, 1) == 1);
    WELL(cueball_lease_release(&lease));
    WELL(cueball_threaded_claim(pool, 10000, &lease));
    CHECK(write(lease.fd, "PING\r\n", 6) == 6);
    CHECK(read(lease.fd, answer, sizeof answer) == 7);
    CHECK(stats_now().opened == 2);
    WELL(cueball_lease_release(&lease));
}

/* PostgreSQL: the factory's PGconn *, with the functions of libpq that wait. */
static void postgres(void)
{
    void *library = dlopen("libpq.so.5", RTLD_NOW);
    CHECK(library != NULL);
    void *(*exec)(void *, const char *);
    char *(*value)(const void *, int, int);
    int (*transaction)(const void *), (*is_nonblocking)(const void *);
    void (*clear)(void *);
    *(void **)&exec = dlsym(library, "PQexec");
    *(void **)&value = dlsym(library, "PQgetvalue");
    *(void **)&transaction = dlsym(library, "PQtransactionStatus");
    *(void **)&is_nonblocking = dlsym(library, "PQisnonblocking");
    *(void **)&clear = dlsym(library, "PQclear");
    for (int i = 0; i < 50; i++) {
        cueball_lease lease;
        WELL(cueball_threaded_claim(pool, 10000, &lease));
        CHECK(lease.pointer != NULL && lease.fd >= 0 && !is_nonblocking(lease.pointer));
        CHECK(transaction(lease.pointer) == 0);
        clear(exec(lease.pointer, "begin"));
        void *result = exec(lease.pointer, "select 'well'");
        CHECK(strcmp(value(result, 0, 0), "well") == 0);
        clear(result);
        CHECK(transaction(lease.pointer) == 2);
        WELL(cueball_lease_release(&lease)); /* left in a transaction: Lua rolls it back */
    }
    CHECK(stats_now().opened == 1);
}

static void tls(void)
{
    cueball_lease lease;
    FAILS(CUEBALL_EUNSUPPORTED, cueball_threaded_claim(pool, 10000, &lease));
    SAYS("TLS");
}

/* A factory of the script's own, with `descriptor` and `pointer`. */
static void pair(void)
{
    cueball_lease lease;
    char byte;
    for (int i = 0; i < 100; i++) {
        WELL(cueball_threaded_claim(pool, 10000, &lease));
        CHECK(lease.pointer == (void *)4711 && lease.fd >= 0);
        CHECK(write(lease.fd, "x", 1) == 1);
        CHECK(read(lease.fd + 1, &byte, 1) == 1 && byte == 'x'); /* the other end, which the factory made next */
        WELL(cueball_lease_release(&lease));
    }
}

static void odd(void)
{
    cueball_lease lease;
    FAILS(CUEBALL_EUNSUPPORTED, cueball_threaded_claim(pool, 10000, &lease));
}

/* The only server ends: the loss is noticed at rest, and claims are told why there is no connection. */
static void lost(const char *process)
{
    cueball_lease lease;
    char command[64];
    WELL(cueball_threaded_claim(pool, 10000, &lease));
    WELL(cueball_lease_release(&lease));
    (void)snprintf(command, sizeof command, "kill -9 %s", process);
    CHECK(system(command) == 0);
    for (int i = 0; i < 10000 && stats_now().lost == 0; i++)
        pause_ms(1);
    CHECK(stats_now().lost >= 1); /* the system may let in one more, as the process ends */
    int result;
    do {
        result = cueball_threaded_claim(pool, 50, &lease);
        if (result == CUEBALL_OK)
            WELL(cueball_lease_close(&lease));
    } while (result == CUEBALL_OK || (result == CUEBALL_ECLAIM_TIMEOUT && strstr(cueball_last_error(), "refused") == NULL));
    SAYS("connection refused");
}

int main(int count, char **arguments)
{
    CHECK(count > 2);
    const char *kind = arguments[1];
    runtime = start_file(arguments[2], (const char *const *)arguments + 3, count - 3);
    pool = pool_of(runtime, kind);
    if (strcmp(kind, "redis") == 0)
        redis();
    else if (strcmp(kind, "postgres") == 0)
        postgres();
    else if (strcmp(kind, "tls") == 0)
        tls();
    else if (strcmp(kind, "pair") == 0)
        pair();
    else if (strcmp(kind, "lost") == 0)
        lost(arguments[4]);
    else
        odd();
    WELL(cueball_runtime_stop(runtime, 1000));
    cueball_threaded_drop(pool);
    cueball_runtime_free(runtime);
    puts("well");
    return 0;
}
