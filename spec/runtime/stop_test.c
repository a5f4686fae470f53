/* Stopping: with leases out, claims that wait, from several threads, in the runtime's own, with a script that hangs.
 *
 *     stop_test SCRIPT SERVER…    the script has a pool "echo" of 4 connections */
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

static char **arguments;
static int count;
static cueball_runtime *runtime;
static cueball_threaded *pool;
static atomic_bool is_started, hangs;

/* What scripts call: C functions of this program. */
bool spec_is_started(void);
int spec_stop(void);
int spec_state(void);
void spec_hang(void);

/* Does this program know what it started? */
bool spec_is_started(void)
{
    return atomic_load(&is_started);
}

int spec_stop(void)
{
    return cueball_runtime_stop(runtime, 0);
}

int spec_state(void)
{
    cueball_runtime_free(runtime); /* nothing */
    return cueball_runtime_state(runtime) == NULL && strstr(cueball_last_error(), "called in it") != NULL ? 7 : 0;
}

void spec_hang(void)
{
    atomic_store(&hangs, true);
    for (;;)
        (void)pause();
}

static void pause_ms(long ms)
{
    struct timespec span = { ms / 1000, ms % 1000 * 1000000 };
    (void)nanosleep(&span, NULL);
}

static double now_ms(void)
{
    return (double)cueball_clock_now() / 1e6;
}

static void begin(void)
{
    runtime = start_file(arguments[1], (const char *const *)arguments + 2, count - 2);
    pool = pool_of(runtime, "echo");
}

static void end(void)
{
    cueball_lease lease;
    cueball_threaded *none;
    FAILS(CUEBALL_EPOOL_STOPPING, cueball_threaded_claim(pool, 100, &lease));
    FAILS(CUEBALL_EPOOL_STOPPING, cueball_runtime_pool(runtime, "echo", &none));
    FAILS(CUEBALL_EPOOL_STOPPING, cueball_runtime_set(runtime, "echo", "spares = 1"));
    FAILS(CUEBALL_EPOOL_STOPPING, cueball_runtime_reload(runtime, true, NULL));
    CHECK(cueball_runtime_metrics(runtime) == NULL);
    WELL(cueball_runtime_stop(runtime, 0));
    cueball_threaded_drop(pool);
    cueball_runtime_free(runtime);
}

static void *claim_in_vain(void *given)
{
    cueball_lease lease;
    (void)given;
    FAILS(CUEBALL_EPOOL_STOPPING, cueball_threaded_claim(pool, 60000, &lease));
    return NULL;
}

static void *release_later(void *given)
{
    pause_ms(100);
    WELL(cueball_lease_release(given));
    return NULL;
}

static void *stop_too(void *given)
{
    (void)given;
    WELL(cueball_runtime_stop(runtime, 10000));
    CHECK(cueball_threaded_state(pool) == CUEBALL_POOL_STOPPED);
    return NULL;
}

/* Waiting claims are refused at once, leases are awaited, and all who stop wait for the end. */
static void waits_for_leases(void)
{
    cueball_lease leases[4];
    pthread_t waiter, releaser, stopper;
    cueball_stats stats = { .struct_size = sizeof stats };
    begin();
    for (int i = 0; i < 4; i++)
        WELL(cueball_threaded_claim(pool, 10000, &leases[i]));
    CHECK(pthread_create(&waiter, NULL, claim_in_vain, NULL) == 0);
    while (cueball_threaded_stats(pool, &stats), stats.waiting == 0)
        pause_ms(1);
    double began = now_ms();
    CHECK(pthread_create(&stopper, NULL, stop_too, NULL) == 0);
    CHECK(pthread_join(waiter, NULL) == 0); /* before any lease is back */
    for (int i = 0; i < 3; i++)
        WELL(cueball_lease_release(&leases[i]));
    CHECK(pthread_create(&releaser, NULL, release_later, &leases[3]) == 0);
    WELL(cueball_runtime_stop(runtime, 10000));
    CHECK(cueball_threaded_state(pool) == CUEBALL_POOL_STOPPED);
    CHECK(pthread_join(stopper, NULL) == 0);
    CHECK(pthread_join(releaser, NULL) == 0);
    CHECK(now_ms() - began < 9000);
    end();
}

static int open_descriptors(void)
{
    int found = 0;
    DIR *opened = opendir("/proc/self/fd");
    while (readdir(opened) != NULL)
        found++;
    (void)closedir(opened);
    return found;
}

/* A lease that is not given back in time: its descriptor ends, and stays open until it is. */
static void takes_leases_away(void)
{
    cueball_lease lease;
    char byte;
    const int before = open_descriptors();
    begin();
    WELL(cueball_threaded_claim(pool, 10000, &lease));
    const int fd = lease.fd;
    WELL(cueball_runtime_stop(runtime, 50));
    CHECK(read(fd, &byte, 1) == 0);
    CHECK(fcntl(fd, F_GETFD) >= 0);
    FAILS(CUEBALL_ESTALE, cueball_lease_report(&lease, true));
    FAILS(CUEBALL_ESTALE, cueball_lease_release(&lease));
    end();
    for (int i = 0; i < 5000 && open_descriptors() > before; i++)
        pause_ms(1); /* what is left of the thread ends by itself */
    CHECK(open_descriptors() == before);
}

static const char OWN[] = "local ffi, cueball = require 'ffi', require 'cueball'\n"
                          "ffi.cdef 'bool spec_is_started(void); int spec_stop(void); int spec_state(void); void spec_hang(void);'\n"
                          "local function started() repeat cueball.sleep(1) until ffi.C.spec_is_started() end\n"
                          "cueball.pool { name = 'echo', resolver = function() end, connect = function() end }\n";

static atomic_int rights;

static void hear(void *user, const char *level, const char *line)
{
    CHECK(user == &rights);
    rights += strcmp(level, "info") == 0 && strcmp(line, "right") == 0;
}

static void refuses_its_own_thread(void)
{
    char script[1000];
    (void)snprintf(script, sizeof script,
                   "%scueball.spawn(function() started()\n"
                   "if ffi.C.spec_stop() == %d and ffi.C.spec_state() == 7 then cueball.host().log('info', 'right') end end)",
                   OWN, CUEBALL_EDEADLOCK);
    cueball_runtime_options options = { .text = script, .log = hear, .log_user = &rights };
    WELL(cueball_runtime_start(&options, &runtime));
    pool = pool_of(runtime, "echo");
    atomic_store(&is_started, true);
    for (int i = 0; i < 5000 && rights == 0; i++)
        pause_ms(1);
    CHECK(rights == 1);
    WELL(cueball_runtime_stop(runtime, 0));
    end();
}

/* In a process of its own, as the thread stays. */
static void gives_up_one_that_hangs(void)
{
    char script[1000];
    cueball_lease lease;
    (void)snprintf(script, sizeof script, "%scueball.spawn(function() started() ffi.C.spec_hang() end)", OWN);
    runtime = start_text(script);
    pool = pool_of(runtime, "echo");
    atomic_store(&is_started, true);
    while (!atomic_load(&hangs))
        pause_ms(1);
    FAILS(CUEBALL_ESCRIPT, cueball_runtime_stop(runtime, 0));
    SAYS("hangs");
    FAILS(CUEBALL_EPOOL_STOPPING, cueball_threaded_claim(pool, 10000, &lease));
    WELL(cueball_runtime_stop(runtime, 0));
    end();
}

int main(int given, char **strings)
{
    count = given;
    arguments = strings;
    CHECK(count >= 2);
    if (strcmp(arguments[1], "hang") == 0) {
        gives_up_one_that_hangs();
        puts("well");
        (void)fflush(stdout);
        _exit(0); /* what the thread has is not lost: it still has it */
    } else {
        waits_for_leases();
        takes_leases_away();
        refuses_its_own_thread();
    }
    puts("well");
    return 0;
}
