/* Many threads on the pools of a runtime, over real sockets: servers hang up, options change, the script is loaded anew
 * (changed, the same, and with an error), threads end with leases and are cancelled, and in the middle it all stops.
 * Each thread gets back the line that it sent, and no other's.  Run by stress_spec.lua.
 *
 *     runtime_stress --seed 5 --threads 64 --ms 2000
 */
#include "cueball_runtime.h"
#include "echo_server.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { THREADS_MAX = 1000, SERVERS = 3, ERRORS = 40, ANSWERED_MIN = 100 };

static struct {
    uint64_t seed;
    unsigned threads, ms;
} run = { .seed = 1, .threads = 64, .ms = 2000 };

typedef struct test_claimer {
    pthread_t thread;
    unsigned number;
    kit_chance chance;
    uint64_t lines;
    bool is_cancelled;
    _Atomic bool has_ended;
    uint64_t claims, answered, broken, errors[ERRORS];
} test_claimer;

static cueball_threaded *pool;
static _Atomic bool is_over, is_stopping;
static _Atomic uint64_t answered_by_all;
static test_claimer claimers[THREADS_MAX];
static echo_server *servers[SERVERS];
static char script[200];

/* ---------------------------------------------------------------- claimers -- */

/* Whether the line came back: else the connection is broken. */
static bool claimer_talks(test_claimer *claimer, int fd)
{
    char line[64], back[64];
    int length = snprintf(line, sizeof line, "%u %llu\n", claimer->number, (unsigned long long)++claimer->lines);
    if (send(fd, line, (size_t)length, MSG_NOSIGNAL) != length)
        return false;
    for (int got = 0; got < length;) {
        ssize_t size = recv(fd, back + got, (size_t)(length - got), 0);
        if (size <= 0)
            return false;
        got += (int)size;
    }
    MUST(memcmp(line, back, (size_t)length) == 0, "somebody else's line: %.*s", length, back);
    return true;
}

static void claimer_uses(test_claimer *claimer, cueball_lease *lease)
{
    bool is_well = true;
    for (uint64_t n = 1 + chance_below(&claimer->chance, 3); n > 0 && is_well; n--)
        is_well = claimer_talks(claimer, lease->fd);
    claimer->answered += is_well;
    answered_by_all += is_well;
    claimer->broken += !is_well;
    int result = is_well ? chance_is(&claimer->chance, 0.95) ? cueball_lease_release(lease) : cueball_lease_close(lease)
                         : cueball_lease_fail(lease, "it hung up");
    MUST(result == CUEBALL_OK || (result == CUEBALL_ESTALE && atomic_load(&is_stopping)), "a lease in hand: %s",
         cueball_error_message(result));
}

static void claimer_step(test_claimer *claimer)
{
    cueball_lease lease = { 0 };
    bool tries = chance_is(&claimer->chance, 0.1);
    double timeout_ms = chance_is(&claimer->chance, 0.5) ? INFINITY : (double)(1 + chance_below(&claimer->chance, 50));
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    int result = tries ? cueball_threaded_try_claim(pool, &lease) : cueball_threaded_claim(pool, timeout_ms, &lease);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    claimer->claims++;
    MUST(-result < ERRORS, "claim: %d", result);
    claimer->errors[-result]++;
    if (result == CUEBALL_OK) {
        MUST(lease.fd >= 0, "a lease without a descriptor");
        claimer_uses(claimer, &lease);
        return;
    }
    MUST(result == CUEBALL_ECLAIM_TIMEOUT || result == CUEBALL_EOVERLOADED || result == CUEBALL_EPOOL_FAILED
             || (result == CUEBALL_EPOOL_STOPPING && atomic_load(&is_stopping)),
         "claim: %s", cueball_last_error());
    if (atomic_load(&is_stopping))
        usleep(1000);
}

static void *claimer_run(void *argument)
{
    test_claimer *claimer = argument;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    pthread_cleanup_push(ended_set, &claimer->has_ended);
    for (uint64_t steps = 20 + chance_below(&claimer->chance, 2000); steps > 0 && !atomic_load(&is_over); steps--)
        claimer_step(claimer);
    cueball_lease lease = { 0 };
    if (chance_is(&claimer->chance, 0.5))
        cueball_threaded_try_claim(pool, &lease); /* ends with the thread */
    pthread_cleanup_pop(1);
    return NULL;
}

static void claimer_start(test_claimer *claimer)
{
    claimer->is_cancelled = false;
    atomic_store(&claimer->has_ended, false);
    MUST(pthread_create(&claimer->thread, NULL, claimer_run, claimer) == 0, "pthread_create");
}

/* ------------------------------------------------------------------ script -- */

static void script_write(kit_chance *chance, bool is_well)
{
    FILE *file = fopen(script, "w");
    MUST(file, "%s: %s", script, strerror(errno));
    fprintf(file, "local cueball = require 'cueball'\ncueball.pool {\n  name = 'db',\n  resolver = cueball.resolver.static {");
    unsigned first = (unsigned)chance_below(chance, SERVERS), count = 1 + (unsigned)chance_below(chance, SERVERS);
    for (unsigned i = 0; i < count; i++)
        fprintf(file, " '127.0.0.1:%u',", echo_server_port(servers[(first + i) % SERVERS]));
    fprintf(file, " },\n  connect = cueball.connection.tcp { connect_timeout_ms = %u },\n", 500 + (unsigned)chance_below(chance, 2));
    fprintf(file, "  max_connections = %u,\n  claim_timeout_ms = 5000,\n}\n", 4 + (unsigned)chance_below(chance, 12));
    if (!is_well)
        fprintf(file, "error 'this script is no good'\n");
    MUST(fclose(file) == 0, "%s", strerror(errno));
}

static void runtime_look(cueball_runtime *runtime)
{
    char *text = cueball_runtime_metrics(runtime);
    MUST(text && strstr(text, "cueball_"), "metrics: %s", text ? text : cueball_last_error());
    cueball_runtime_text_free(text);
    text = cueball_runtime_state(runtime);
    MUST(text && strstr(text, "\"db\""), "state: %s", text ? text : cueball_last_error());
    cueball_runtime_text_free(text);
}

/* One of what a program may do to a runtime while others claim. */
static void runtime_change(cueball_runtime *runtime, kit_chance *chance)
{
    char *report = NULL, options[100];
    bool is_well = chance_is(chance, 0.8);
    int result;
    switch (chance_below(chance, 4)) {
    case 0:
        script_write(chance, is_well);
        result = cueball_runtime_reload(runtime, chance_is(chance, 0.2), &report);
        MUST(result == (is_well ? CUEBALL_OK : CUEBALL_ESCRIPT), "reload: %s; %s", cueball_error_message(result), cueball_last_error());
        cueball_runtime_text_free(report);
        break;
    case 1:
        snprintf(options, sizeof options, "max_connections = %u, spares = %u", 2 + (unsigned)chance_below(chance, 14),
                 (unsigned)chance_below(chance, 3));
        result = cueball_runtime_set(runtime, "db", options);
        MUST(result == CUEBALL_OK, "set: %s", cueball_last_error());
        break;
    case 2:
        MUST(cueball_runtime_set(runtime, "db", "max_connections = -1") != CUEBALL_OK, "it took -1 connections");
        break;
    default:
        runtime_look(runtime);
    }
}

/* -------------------------------------------------------------------- main -- */

/* For so long; with a runtime, until there was something to be seen, too: a machine may stand still for all of the time. */
static void tend(test_claimer *sum, cueball_runtime *runtime, kit_chance *chance, unsigned ms)
{
    cueball_time end = cueball_clock_now() + (cueball_time)ms * 1000000;
    while (cueball_clock_now() < end || (runtime && atomic_load(&answered_by_all) < ANSWERED_MIN)) {
        for (unsigned i = 0; i < run.threads; i++)
            if (atomic_load(&claimers[i].has_ended)) {
                pthread_join(claimers[i].thread, NULL);
                sum->lines++;
                claimer_start(&claimers[i]);
            }
        test_claimer *picked = &claimers[chance_below(chance, run.threads)];
        if (!picked->is_cancelled && chance_is(chance, 0.2)) {
            picked->is_cancelled = true;
            pthread_cancel(picked->thread);
        }
        if (runtime && chance_is(chance, 0.1))
            runtime_change(runtime, chance);
        usleep(2000);
    }
}

static void log_nothing(void *user, const char *level, const char *line)
{
    (void)user;
    (void)level;
    (void)line;
}

static void *stop_in_thread(void *argument)
{
    int result = cueball_runtime_stop(argument, 300);
    MUST(result == CUEBALL_OK, "stop: %s", cueball_last_error());
    return NULL;
}

static void run_all(test_claimer *sum)
{
    kit_chance chance = chance_of(run.seed, 1);
    script_write(&chance, true);
    cueball_runtime *runtime = NULL;
    cueball_runtime_options options = { .struct_size = sizeof options, .file = script, .log = log_nothing };
    int result = cueball_runtime_start(&options, &runtime);
    MUST(result == CUEBALL_OK, "start: %s", cueball_last_error());
    MUST(cueball_runtime_pool(runtime, "db", &pool) == CUEBALL_OK, "pool: %s", cueball_last_error());
    for (unsigned i = 0; i < run.threads; i++) {
        claimers[i].number = i;
        claimers[i].chance = chance_of(run.seed, 2 + i);
        claimer_start(&claimers[i]);
    }
    tend(sum, runtime, &chance, run.ms * 3 / 4);
    /* A drain may take as long as the slowest claimer; meanwhile all go on. */
    pthread_t stopper;
    atomic_store(&is_stopping, true);
    MUST(pthread_create(&stopper, NULL, stop_in_thread, runtime) == 0, "pthread_create");
    tend(sum, NULL, &chance, run.ms / 4);
    pthread_join(stopper, NULL);
    MUST(cueball_runtime_stop(runtime, 0) == CUEBALL_OK, "stop again");
    atomic_store(&is_over, true);
    for (unsigned i = 0; i < run.threads; i++)
        pthread_join(claimers[i].thread, NULL);
    cueball_threaded_drop(pool);
    cueball_runtime_free(runtime);
}

static void arguments_read(int count, char **words)
{
    for (int i = 1; i + 1 < count; i += 2) {
        if (strcmp(words[i], "--seed") == 0)
            run.seed = strtoull(words[i + 1], NULL, 10);
        else if (strcmp(words[i], "--threads") == 0)
            run.threads = (unsigned)strtoul(words[i + 1], NULL, 10);
        else if (strcmp(words[i], "--ms") == 0)
            run.ms = (unsigned)strtoul(words[i + 1], NULL, 10);
        else
            MUST(false, "no such option: %s", words[i]);
    }
    MUST(run.threads > 0 && run.threads <= THREADS_MAX, "%u threads", run.threads);
}

int main(int count, char **words)
{
    test_claimer sum = { 0 };
    arguments_read(count, words);
    must_describe("runtime_stress --seed %llu --threads %u --ms %u", (unsigned long long)run.seed, run.threads, run.ms);
    printf("seed %llu, %u threads, %u ms\n", (unsigned long long)run.seed, run.threads, run.ms);
    fflush(stdout);
    must_end_within(120 + run.ms / 100);
    snprintf(script, sizeof script, "/tmp/cueball-stress-XXXXXX");
    int file = mkstemp(script);
    MUST(file >= 0 && close(file) == 0, "%s: %s", script, strerror(errno));
    unsigned before = descriptors_open();
    for (int i = 0; i < SERVERS; i++)
        servers[i] = echo_server_start(run.seed + (uint64_t)i, 0.01);
    run_all(&sum);
    for (int i = 0; i < SERVERS; i++)
        echo_server_stop(servers[i]);
    unlink(script);
    for (unsigned i = 0; i < run.threads; i++) {
        sum.claims += claimers[i].claims;
        sum.answered += claimers[i].answered;
        sum.broken += claimers[i].broken;
    }
    MUST(descriptors_open() == before, "%u descriptors, and there were %u", descriptors_open(), before);
    MUST(sum.answered > 0, "nobody was served");
    printf("%llu claims, %llu leases went well, %llu broke, %llu lives of threads ended\n", (unsigned long long)sum.claims,
           (unsigned long long)sum.answered, (unsigned long long)sum.broken, (unsigned long long)sum.lines);
    return 0;
}
