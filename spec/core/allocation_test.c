/* Memory that fails: for every input that needs memory, the 1st, 2nd, ... n-th
 * allocation of it fails, once alone and once with all after it.  The input then
 * says CUEBALL_ENOMEM and has changed nothing, or what it asked for is put off;
 * the pool agrees with itself; said again, or some time later, it is as if
 * nothing had failed; and after free no byte is held.  Run by allocation_spec.lua.
 *
 *     cc -std=c11 -Isrc/include -Isrc/core spec/core/allocation_test.c src/core/(all)/(all).c -lm */
#include "cueball.h"
#include "internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(condition, ...)                                                                                                               \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            printf("%s, allocation %u%s: %s: ", at.name, at.n, at.is_for_good ? " and all after it" : "", #condition);                     \
            printf(__VA_ARGS__);                                                                                                           \
            printf("\n");                                                                                                                  \
            exit(1);                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

enum { NEVER = 1000000, ROUNDS = 500, CLAIMS = 70, BACKENDS = 70 };

/* What is tried, for messages. */
static struct {
    const char *name;
    unsigned n;
    bool is_for_good;
} at;

typedef struct world {
    cueball_pool *pool;
    cueball_options options;
    cueball_time now;
    size_t held;
    unsigned good; /* allocations that succeed before one fails */
    unsigned failed;
    cueball_owner *owner;
    cueball_handle leases[CLAIMS * 2];
    unsigned leases_n, answers;
} world;

static void *test_allocate(void *user, size_t size)
{
    world *w = user;
    if (w->good == 0) {
        w->failed++;
        if (!at.is_for_good)
            w->good = NEVER;
        return NULL;
    }
    w->good--;
    w->held += size;
    return malloc(size);
}

static void test_release(void *user, void *memory, size_t size)
{
    world *w = user;
    MUST(w->held >= size, "%zu bytes of %zu", size, w->held);
    w->held -= size;
    free(memory);
}

static void check(const world *w)
{
    char text[300] = "";
    MUST(cueball_pool_check(w->pool, text, sizeof text) == CUEBALL_OK, "%s", text);
    MUST(cueball_pool_memory(w->pool) == w->held, "%zu, held %zu", cueball_pool_memory(w->pool), w->held);
}

/* Does all that the pool wants; every connection opens. */
static void drain(world *w)
{
    cueball_action action;
    while (cueball_pool_next_action(w->pool, &action)) {
        if (action.kind == CUEBALL_ACTION_OPEN)
            cueball_pool_conn_opened(w->pool, w->now, action.conn);
        else if (action.kind == CUEBALL_ACTION_CLOSE)
            cueball_pool_conn_closed(w->pool, w->now, action.conn);
        else if (action.kind == CUEBALL_ACTION_CHECK)
            cueball_pool_conn_checked(w->pool, w->now, action.conn, true);
        else if (action.kind == CUEBALL_ACTION_GRANT)
            w->leases[w->leases_n++] = action.lease;
        w->answers += action.kind == CUEBALL_ACTION_GRANT || action.kind == CUEBALL_ACTION_REFUSE;
        check(w);
    }
}

/* On to the next deadline. */
static void go_on(world *w)
{
    cueball_time deadline = cueball_pool_deadline(w->pool);
    MUST(deadline != CUEBALL_NEVER, "nothing to wait for");
    if (deadline > w->now)
        w->now = deadline;
    cueball_pool_time_advanced(w->pool, w->now);
    check(w);
    drain(w);
}

static cueball_backend_spec spec_of(unsigned number, const char *address)
{
    static char keys[BACKENDS * 2][16];
    snprintf(keys[number], sizeof keys[number], "backend %u", number);
    return (cueball_backend_spec){ .key = keys[number], .address = address, .port = 1, .weight = 1 };
}

static unsigned known(const world *w)
{
    cueball_backend_info info = { .struct_size = sizeof info };
    unsigned count = 0;
    while (cueball_pool_backend_at(w->pool, count, &info) && !info.removed)
        count++;
    return count;
}

static cueball_stats stats_of(const world *w)
{
    cueball_stats stats = { .struct_size = sizeof stats };
    cueball_pool_stats(w->pool, &stats);
    return stats;
}

/* Until there are so many connections at rest, and no other slots. */
static void settle(world *w, uint32_t idle)
{
    drain(w);
    for (unsigned round = 0; round < ROUNDS; round++) {
        cueball_stats stats = stats_of(w);
        if (stats.idle == idle && stats.total == idle)
            return;
        go_on(w);
    }
    MUST(false, "%u idle of %u", stats_of(w).idle, idle);
}

/* --------------------------------------------------------------- scenarios -- */

/* Each: prepare with good memory; act while it fails, giving the result; then,
 * with good memory again, what must hold if it said ENOMEM before it is said
 * again, and in the end. */
typedef struct scenario {
    const char *name;
    void (*prepare)(world *w);
    int (*act)(world *w);
    void (*refused)(world *w);
    void (*finish)(world *w);
} scenario;

static void nothing(world *w)
{
    (void)w;
}

static void know(world *w, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        cueball_backend_spec spec = spec_of(i, "10.0.0.1");
        MUST(cueball_pool_backend_added(w->pool, w->now, &spec) == CUEBALL_OK, "backend %u", i);
    }
}

static int add_first(world *w)
{
    cueball_backend_spec spec = spec_of(0, "10.0.0.1");
    return cueball_pool_backend_added(w->pool, w->now, &spec);
}

static void knows_none(world *w)
{
    MUST(known(w) == 0, "%u", known(w));
}

static void has_all(world *w)
{
    settle(w, w->options.max_connections);
}

static void know_64(world *w)
{
    know(w, 64);
}

static int add_65th(world *w)
{
    cueball_backend_spec spec = spec_of(64, "10.0.0.1");
    return cueball_pool_backend_added(w->pool, w->now, &spec);
}

static void knows_64(world *w)
{
    MUST(known(w) == 64, "%u", known(w));
    MUST(cueball_pool_backend_removed(w->pool, w->now, spec_of(64, "").key) == CUEBALL_ENOT_FOUND, "half known");
}

static void settled_1(world *w)
{
    know(w, 1);
    settle(w, w->options.max_connections);
}

static int move_it(world *w)
{
    cueball_backend_spec spec = spec_of(0, "10.0.0.2");
    return cueball_pool_backend_added(w->pool, w->now, &spec);
}

static void did_not_move(world *w)
{
    cueball_backend_info info = { .struct_size = sizeof info };
    MUST(cueball_pool_backend_at(w->pool, 0, &info) && strcmp(info.address, "10.0.0.1") == 0, "moved");
    MUST(info.idle == w->options.max_connections, "%u idle", info.idle);
}

static void has_moved(world *w)
{
    cueball_backend_info info = { .struct_size = sizeof info };
    has_all(w);
    MUST(known(w) == 1, "%u", known(w));
    MUST(cueball_pool_backend_at(w->pool, 0, &info) && strcmp(info.address, "10.0.0.2") == 0, "did not move");
}

/* A name that cannot be kept for want of memory is put off for good: the old one
 * stays until it is said again. */
static int rename_it(world *w)
{
    cueball_backend_spec spec = spec_of(0, "10.0.0.1");
    spec.name = "another name, longer than the first";
    int result = cueball_pool_backend_added(w->pool, w->now, &spec);
    return result == CUEBALL_EEXISTS ? CUEBALL_OK : result;
}

static void is_renamed(world *w)
{
    cueball_backend_info info = { .struct_size = sizeof info };
    MUST(cueball_pool_backend_at(w->pool, 0, &info), "gone");
    bool has_old = strcmp(info.name, info.key) == 0;
    MUST(has_old == (w->failed > 0), "%s", info.name);
    MUST(strcmp(info.address, "10.0.0.1") == 0, "%s", info.address);
    MUST(rename_it(w) == CUEBALL_OK, "again");
    MUST(cueball_pool_backend_at(w->pool, 0, &info) && strcmp(info.name, info.key) != 0, "%s", info.name);
}

static void settled_9(world *w)
{
    know(w, 9);
    settle(w, w->options.max_connections);
}

/* Half of the old ones and many new ones. */
static int replace_all(world *w)
{
    cueball_backend_spec specs[BACKENDS];
    for (unsigned i = 0; i < BACKENDS; i++)
        specs[i] = spec_of(i + 5, "10.0.0.1");
    return cueball_pool_backends_replaced(w->pool, w->now, specs, BACKENDS);
}

static void lost_none(world *w)
{
    for (unsigned i = 0; i < 9; i++) {
        cueball_backend_spec spec = spec_of(i, "10.0.0.1");
        MUST(cueball_pool_backend_added(w->pool, w->now, &spec) == CUEBALL_EEXISTS, "backend %u is gone", i);
    }
}

static void has_replaced(world *w)
{
    MUST(known(w) == BACKENDS, "%u", known(w));
    has_all(w);
}

static int claim_one(world *w)
{
    cueball_grant grant;
    cueball_claim_options options = { .timeout_ms = INFINITY, .owner = w->owner };
    int result = cueball_pool_claim(w->pool, w->now, &options, &grant);
    MUST(result == CUEBALL_WAITING || result == CUEBALL_ENOMEM, "%d", result);
    return result == CUEBALL_WAITING ? CUEBALL_OK : result;
}

static void waits_none(world *w)
{
    MUST(stats_of(w).waiting == 0, "%u", stats_of(w).waiting);
}

/* All who wait get one. */
static void serve(world *w, unsigned waiting)
{
    MUST(stats_of(w).waiting == waiting, "%u", stats_of(w).waiting);
    know(w, 1);
    for (unsigned round = 0; w->answers < waiting; round++) {
        MUST(round < ROUNDS, "%u answers", w->answers);
        go_on(w);
        while (w->leases_n > 0)
            MUST(cueball_pool_lease_released(w->pool, w->now, w->leases[--w->leases_n]) == CUEBALL_OK, "lease");
        drain(w);
    }
    MUST(w->answers == waiting, "%u", w->answers);
}

static void serves_1(world *w)
{
    serve(w, 1);
}

static void wait_64(world *w)
{
    for (unsigned i = 0; i < 64; i++)
        claim_one(w);
}

static void waits_64(world *w)
{
    MUST(stats_of(w).waiting == 64, "%u", stats_of(w).waiting);
}

static void serves_65(world *w)
{
    serve(w, 65);
}

/* Slots are made when the plan is due: the time input is never refused. */
static void know_3(world *w)
{
    know(w, 3);
}

static int plan_due(world *w)
{
    w->now = cueball_pool_deadline(w->pool);
    return cueball_pool_time_advanced(w->pool, w->now);
}

static int grow(world *w)
{
    w->options.max_connections = 300;
    return cueball_pool_options_changed(w->pool, w->now, &w->options);
}

static void is_told(world *w)
{
    cueball_event event;
    bool is_short = false;
    while (cueball_pool_next_event(w->pool, &event))
        is_short |= event.kind == CUEBALL_EVENT_MEMORY_SHORT;
    MUST(is_short == (w->failed > 0), "%s", is_short ? "memory was short" : "nobody was told");
    has_all(w);
}

static int make_owner(world *w)
{
    return cueball_pool_owner_new(w->pool, &w->owner);
}

static void use_owner(world *w)
{
    claim_one(w);
    cueball_owner_gone(w->owner);
    w->owner = NULL;
    cueball_pool_time_advanced(w->pool, w->now);
    waits_none(w);
}

static void watch_some(world *w)
{
    MUST(cueball_pool_watch(w->pool, UINT32_MAX, 10) == CUEBALL_OK, "watch");
    know(w, 2);
}

static int watch_more(world *w)
{
    return cueball_pool_watch(w->pool, UINT32_MAX, 100);
}

static void still_watches(world *w)
{
    MUST(cueball_pool_outlook(w->pool)->events == 2, "%u events", cueball_pool_outlook(w->pool)->events);
}

static const scenario scenarios[] = {
    { "the first backend", nothing, add_first, knows_none, has_all },
    { "the 65th backend", know_64, add_65th, knows_64, has_all },
    { "a backend at another address", settled_1, move_it, did_not_move, has_moved },
    { "a backend renamed", settled_1, rename_it, nothing, is_renamed },
    { "all backends replaced", settled_9, replace_all, lost_none, nothing },
    { "all backends replaced, to the end", settled_9, replace_all, nothing, has_replaced },
    { "the first claim", nothing, claim_one, waits_none, serves_1 },
    { "the 65th claim", wait_64, claim_one, waits_64, serves_65 },
    { "a plan", know_3, plan_due, nothing, is_told },
    { "more connections", settled_9, grow, nothing, has_all },
    { "more connections, watched", settled_1, grow, nothing, is_told },
    { "an owner", nothing, make_owner, nothing, use_owner },
    { "watching", nothing, watch_more, nothing, nothing },
    { "watching more", watch_some, watch_more, still_watches, nothing },
};

static bool pool_make(world *w, unsigned good)
{
    cueball_allocator allocator = { w, test_allocate, test_release };
    cueball_options_init(&w->options);
    w->now = 1;
    w->good = good;
    int result = cueball_pool_new(&w->options, &allocator, 1, w->now, &w->pool);
    MUST(result == CUEBALL_OK || (result == CUEBALL_ENOMEM && !w->pool && w->held == 0), "%d", result);
    return result == CUEBALL_OK;
}

/* Fails the n-th allocation of the act; false if it has fewer. */
static bool try(const scenario *tried, unsigned n)
{
    world w = { .good = NEVER };
    pool_make(&w, NEVER);
    if (strstr(tried->name, "watched") || strcmp(tried->name, "a plan") == 0)
        MUST(cueball_pool_watch(w.pool, UINT32_MAX, 4000) == CUEBALL_OK, "watch");
    tried->prepare(&w);
    drain(&w);
    check(&w);
    w.good = n;
    int result = tried->act(&w);
    w.good = NEVER;
    check(&w);
    MUST(result == CUEBALL_OK || (result == CUEBALL_ENOMEM && w.failed > 0), "%d", result);
    if (result == CUEBALL_ENOMEM) {
        tried->refused(&w);
        check(&w);
        MUST(tried->act(&w) == CUEBALL_OK, "refused again");
        check(&w);
    }
    tried->finish(&w);
    check(&w);
    cueball_pool_free(w.pool);
    MUST(w.held == 0, "%zu bytes are left", w.held);
    return w.failed > 0;
}

int main(void)
{
    unsigned failures = 0;
    at.name = "a pool";
    for (at.n = 0;; at.n++) {
        world w = { .good = NEVER };
        if (pool_make(&w, at.n)) {
            cueball_pool_free(w.pool);
            MUST(w.held == 0, "%zu bytes are left", w.held);
            break;
        }
        failures++;
    }
    MUST(at.n > 0, "a pool needs no memory?");
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        at.name = scenarios[i].name;
        for (int is_for_good = 0; is_for_good < 2; is_for_good++) {
            at.is_for_good = is_for_good;
            for (at.n = 0; try(&scenarios[i], at.n); at.n++)
                failures++;
            MUST(at.n > 0, "needs no memory");
        }
    }
    printf("%u failed allocations\n", failures);
    return 0;
}
