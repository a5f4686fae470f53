/* What the core costs, without a host: no sockets, no Lua, no clock but the
 * bench's own.  Prints one line for each figure, for bench/run to take medians
 * of: name, value, unit and limit, with tabs between. */
#define _POSIX_C_SOURCE 200809L
#include "cueball.h"
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MS UINT64_C(1000000)
#define PAIRS 4000000
#define CLAIMS 1000000

static void must(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "bench/core: not so: %s\n", what);
    exit(1);
}

#define MUST(condition) must(condition, #condition)

/* The processor's time, in ns: the core never waits, so that what others do on
 * the machine meanwhile is all that a wall clock would add. */
static uint64_t cpu_ns(void)
{
    struct timespec spent;
    MUST(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent) == 0);
    return (uint64_t)spent.tv_sec * 1000 * MS + (uint64_t)spent.tv_nsec;
}

static void say(const char *name, double value, const char *unit, double limit)
{
    printf("%s\t%.4g\t%s\t%.4g\n", name, value, unit, limit);
    fflush(stdout);
}

/* A pool, and the time it lives in. */
typedef struct world {
    cueball_pool *pool;
    cueball_time now;
    cueball_options options;
} world;

static world world_new(const cueball_options *options)
{
    world made = { .now = MS, .options = *options };
    MUST(cueball_pool_new(options, cueball_allocator_libc(), 1, made.now, &made.pool) == CUEBALL_OK);
    return made;
}

static void world_add_backends(world *in, uint32_t count)
{
    cueball_backend_spec *specs = calloc(count, sizeof *specs);
    char(*keys)[16] = calloc(count, sizeof *keys);
    MUST(specs && keys);
    for (uint32_t i = 0; i < count; i++) {
        snprintf(keys[i], sizeof keys[i], "node%u", i);
        specs[i] = (cueball_backend_spec){ .key = keys[i], .address = "127.0.0.1", .port = 1, .weight = 1 };
    }
    MUST(cueball_pool_backends_replaced(in->pool, in->now, specs, count) == CUEBALL_OK);
    free(keys);
    free(specs);
}

/* Opens what the pool wants opened. */
static void world_open_all(world *in)
{
    cueball_action action;
    while (cueball_pool_next_action(in->pool, &action)) {
        MUST(action.kind == CUEBALL_ACTION_OPEN);
        MUST(cueball_pool_conn_opened(in->pool, ++in->now, action.conn) == CUEBALL_OK);
    }
}

static cueball_stats world_stats(const world *in)
{
    cueball_stats stats = { .struct_size = sizeof stats };
    cueball_pool_stats(in->pool, &stats);
    return stats;
}

static void world_free(world *in)
{
    char text[256] = "";
    if (cueball_pool_check(in->pool, text, sizeof text) != CUEBALL_OK)
        must(false, text);
    cueball_pool_free(in->pool);
}

static world world_of_connections(uint32_t connections, uint32_t backends, cueball_balance balance)
{
    cueball_options options;
    cueball_options_init(&options);
    options.max_connections = connections;
    options.balance = balance;
    world made = world_new(&options);
    world_add_backends(&made, backends);
    world_open_all(&made);
    MUST(world_stats(&made).idle == connections);
    return made;
}

/* Has the pool put its idle connections into random order, once. */
static void world_shuffle(world *in)
{
    cueball_options often = in->options;
    often.decoherence_interval_ms = 1;
    MUST(cueball_pool_options_changed(in->pool, in->now, &often) == CUEBALL_OK);
    in->now += MS;
    MUST(cueball_pool_time_advanced(in->pool, in->now) == CUEBALL_OK);
    MUST(cueball_pool_options_changed(in->pool, in->now, &in->options) == CUEBALL_OK);
    MUST(world_stats(in).shuffles == 1);
}

/* Claims and releases again and again.  Time moves on with each input, so that
 * leases last from 1 to 64 ns and fill as many buckets of the histogram. */
static double pair_ns(world *in, uint32_t pairs)
{
    cueball_grant grant;
    int failures = 0;
    cueball_time now = in->now;
    uint64_t begun = cpu_ns();
    for (uint32_t i = 0; i < pairs; i++) {
        now += 8;
        failures += cueball_pool_claim(in->pool, now, NULL, &grant);
        now += 1 + (i & 63);
        failures += cueball_pool_lease_released(in->pool, now, grant.lease);
    }
    uint64_t ended = cpu_ns();
    in->now = now;
    MUST(failures == 0);
    return (double)(ended - begun) / pairs;
}

static void bench_pairs(uint32_t connections, cueball_balance balance, bool is_shuffled)
{
    char name[80];
    world in = world_of_connections(connections, 10, balance);
    if (is_shuffled)
        world_shuffle(&in);
    (void)pair_ns(&in, connections > PAIRS / 8 ? connections : PAIRS / 8);
    double ns = pair_ns(&in, PAIRS);
    cueball_stats stats = world_stats(&in);
    MUST(stats.claims == stats.released && stats.granted_at_once == stats.claims && stats.lease_ms_max > 0);
    const char *order = balance == CUEBALL_BALANCE_LIFO ? "lifo" : is_shuffled ? "fifo, shuffled" : "fifo";
    snprintf(name, sizeof name, "claim + release, %u connections, %s", connections, order);
    say(name, ns, "ns/pair", 15);
    world_free(&in);
}

static void bench_memory(uint32_t connections)
{
    char name[80];
    world in = world_of_connections(connections, 10, CUEBALL_BALANCE_FIFO);
    snprintf(name, sizeof name, "memory, %u idle connections", connections);
    say(name, (double)cueball_pool_memory(in.pool) / connections, "bytes/connection", 256);
    world_free(&in);
}

/* The planner alone, then a pool that has to act on it. */
static void bench_plan(bool is_weighted)
{
    enum { BACKENDS = 10000, SLOTS = 100000, PLANS = 10 };
    cueball_plan_backend *backends = calloc(BACKENDS, sizeof *backends);
    uint64_t *scratch = calloc(2 * BACKENDS, sizeof *scratch);
    MUST(backends && scratch);
    for (uint32_t i = 0; i < BACKENDS; i++) {
        backends[i].weight = is_weighted ? 1 + i * 7919 % 1000 : 1;
        backends[i].dead = i % 10 == 0;
    }
    uint64_t begun = cpu_ns();
    for (int i = 0; i < PLANS; i++)
        cueball_plan(backends, BACKENDS, SLOTS, SLOTS, false, scratch);
    double ms = (double)(cpu_ns() - begun) / MS / PLANS;
    uint64_t slots = 0;
    for (uint32_t i = 0; i < BACKENDS; i++)
        slots += backends[i].want;
    MUST(slots == SLOTS);
    say(is_weighted ? "plan, 10000 backends x 100000 slots, weighted" : "plan, 10000 backends x 100000 slots", ms, "ms", 20);
    free(scratch);
    free(backends);
}

static void bench_replan(void)
{
    world in = world_of_connections(100000, 10000, CUEBALL_BALANCE_FIFO);
    uint64_t plans = world_stats(&in).plans;
    in.now += 60 * MS; /* of planning there is no more than about a tenth of the time */
    MUST(cueball_pool_backend_removed(in.pool, in.now, "node5000") == CUEBALL_OK);
    in.now += 200 * MS;
    uint64_t begun = cpu_ns();
    MUST(cueball_pool_time_advanced(in.pool, in.now) == CUEBALL_OK);
    double ms = (double)(cpu_ns() - begun) / MS;
    MUST(world_stats(&in).plans == plans + 1);
    say("replan of a living pool of that size, one backend gone", ms, "ms", 20);
    world_free(&in);
}

static double claims_queue_ns(world *in, double timeout_ms)
{
    cueball_claim_options options = { .timeout_ms = timeout_ms };
    cueball_grant grant;
    uint32_t waiting = 0;
    uint64_t begun = cpu_ns();
    for (uint32_t i = 0; i < CLAIMS; i++) {
        options.user = i;
        waiting += (uint32_t)cueball_pool_claim(in->pool, ++in->now, &options, &grant);
    }
    uint64_t ended = cpu_ns();
    MUST(waiting == CLAIMS);
    return (double)(ended - begun) / CLAIMS;
}

/* A million claims wait for 10 connections and time out, one by one as their
 * deadlines come (`is_late`: the host overslept, all are due at once). */
static void bench_timeouts(bool is_late)
{
    world in = world_of_connections(10, 10, CUEBALL_BALANCE_FIFO);
    cueball_grant grant;
    for (int i = 0; i < 10; i++)
        MUST(cueball_pool_claim(in.pool, ++in.now, NULL, &grant) == CUEBALL_OK);
    double queue_ns = claims_queue_ns(&in, 1000);
    if (!is_late)
        say("1000000 waiting claims: enqueue, memory new", queue_ns, "ns/claim", 200);
    uint32_t refused = 0;
    cueball_action action;
    uint64_t begun = cpu_ns();
    if (is_late)
        in.now += 2000 * MS;
    while (refused < CLAIMS) {
        if (!is_late)
            in.now = cueball_pool_deadline(in.pool);
        cueball_pool_time_advanced(in.pool, in.now);
        while (cueball_pool_next_action(in.pool, &action))
            refused += action.kind == CUEBALL_ACTION_REFUSE;
    }
    double ns = (double)(cpu_ns() - begun) / CLAIMS;
    MUST(world_stats(&in).claim_timeouts == CLAIMS);
    say(is_late ? "1000000 waiting claims: time out, all at once" : "1000000 waiting claims: time out, one by one", ns, "ns/claim", 200);
    if (!is_late)
        say("1000000 waiting claims: enqueue, memory used before", claims_queue_ns(&in, 1000), "ns/claim", 200);
    world_free(&in);
}

/* A million claims wait for one connection, which comes back and goes out again
 * until all have had it. */
static void bench_grants(void)
{
    world in = world_of_connections(1, 1, CUEBALL_BALANCE_FIFO);
    cueball_grant grant;
    MUST(cueball_pool_claim(in.pool, ++in.now, NULL, &grant) == CUEBALL_OK);
    (void)claims_queue_ns(&in, 10000);
    cueball_handle lease = grant.lease;
    cueball_action action;
    uint32_t granted = 0;
    uint64_t begun = cpu_ns();
    for (uint32_t i = 0; i < CLAIMS; i++) {
        cueball_pool_lease_released(in.pool, ++in.now, lease);
        granted += cueball_pool_next_action(in.pool, &action) && action.kind == CUEBALL_ACTION_GRANT && action.user == i;
        lease = action.lease;
    }
    double ns = (double)(cpu_ns() - begun) / CLAIMS;
    MUST(granted == CLAIMS);
    say("1000000 waiting claims: release + grant", ns, "ns/claim", 200);
    world_free(&in);
}

int main(int count, char **words)
{
    static const uint32_t sizes[] = { 10, 1000, 100000 };
    bool is_quick = count > 1 && strcmp(words[1], "pairs") == 0; /* for perf and the like */
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        bench_pairs(sizes[i], CUEBALL_BALANCE_FIFO, false);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        bench_pairs(sizes[i], CUEBALL_BALANCE_FIFO, true);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        bench_pairs(sizes[i], CUEBALL_BALANCE_LIFO, false);
    if (is_quick)
        return 0;
    bench_memory(1000);
    bench_memory(100000);
    bench_plan(false);
    bench_plan(true);
    bench_replan();
    bench_timeouts(false);
    bench_timeouts(true);
    bench_grants();
    return 0;
}
