/* Memory that fails: a whole life of a tracker is played again and again, each
 * time with the 1st, 2nd, ... n-th allocation failing, once alone and once with
 * the next nine.  Whatever it was, the tracker agrees with itself, what is known
 * stays, some time later it knows what it would know otherwise, and after free no
 * byte is held.  Run by tracker_memory_spec.lua. */
#include "cueball_tracker.h"
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(condition, ...)                                                                                                               \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            printf("allocation %u and %u more, phase %u: %s: ", failing.n, failing.more, failing.phase, #condition);                       \
            printf(__VA_ARGS__);                                                                                                           \
            printf("\n");                                                                                                                  \
            exit(1);                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

enum { NODES = 12, SECOND = 1000000000 };

static struct {
    unsigned n, more, phase, seen, failed;
    size_t held;
} failing;

typedef struct world {
    cueball_tracker *tracker;
    cueball_time now;
    cueball_handle asked[64];
    uint32_t types[64], asked_n;
    char names[64][64];
    uint32_t known; /* backends by ADD and REMOVE */
} world;

static void *test_allocate(void *user, size_t size)
{
    (void)user;
    unsigned number = failing.seen++;
    if (number >= failing.n && number <= failing.n + failing.more) {
        failing.failed++;
        return NULL;
    }
    failing.held += size;
    return malloc(size);
}

static void test_release(void *user, void *memory, size_t size)
{
    (void)user;
    MUST(failing.held >= size, "%zu of %zu", size, failing.held);
    failing.held -= size;
    free(memory);
}

static void check(const world *w)
{
    char text[300] = "";
    MUST(cueball_tracker_check(w->tracker, text, sizeof text) == CUEBALL_OK, "%s", text);
    MUST(cueball_tracker_memory(w->tracker) == failing.held, "%zu, held %zu", cueball_tracker_memory(w->tracker), failing.held);
}

static void drain(world *w)
{
    cueball_tracker_action action;
    while (cueball_tracker_next_action(w->tracker, &action)) {
        if (action.kind == CUEBALL_TRACKER_ASK) {
            w->types[w->asked_n] = action.type;
            snprintf(w->names[w->asked_n], sizeof w->names[0], "%s", action.name);
            w->asked[w->asked_n++] = action.question;
        } else if (action.kind == CUEBALL_TRACKER_FORGET) {
            for (uint32_t i = 0; i < w->asked_n; i++)
                if (w->asked[i] == action.question)
                    w->asked[i] = 0;
        }
        w->known += action.kind == CUEBALL_TRACKER_ADD;
        w->known -= action.kind == CUEBALL_TRACKER_REMOVE;
        check(w);
    }
}

/* Phase 1: twelve nodes by name; 2: the last six of them and six more, whose
 * addresses come along; 3: no SRV, the domain has two addresses. */
static void records_of(uint32_t type, const char *name, cueball_record *records, cueball_answer *answer)
{
    static char nodes[NODES][32];
    unsigned first = failing.phase == 2 ? NODES / 2 : 0, node = 0;
    *answer = (cueball_answer){ .records = records };
    if (type == CUEBALL_RR_SRV && failing.phase < 3) {
        for (unsigned i = 0; i < NODES; i++) {
            snprintf(nodes[i], sizeof nodes[i], "node%u.example", first + i);
            records[answer->count++] = (cueball_record){ .name = name, .target = nodes[i], .type = type, .ttl = 10, .port = 80 };
            if (failing.phase == 2)
                records[answer->count++] = (cueball_record){ .name = nodes[i],
                                                             .type = CUEBALL_RR_A,
                                                             .section = CUEBALL_SECTION_ADDITIONAL,
                                                             .ttl = 10,
                                                             .address = { 10, 0, 0, (unsigned char)(first + i) } };
        }
    } else if (type == CUEBALL_RR_SRV) {
        answer->rcode = CUEBALL_RCODE_NXDOMAIN;
    } else if (type == CUEBALL_RR_A && sscanf(name, "node%u.", &node) == 1) {
        records[answer->count++] = (cueball_record){ .name = name, .type = type, .ttl = 10, .address = { 10, 0, 0, (unsigned char)node } };
    } else if (type == CUEBALL_RR_A) {
        records[answer->count++] = (cueball_record){ .name = name, .type = type, .ttl = 10, .address = { 10, 0, 0, 100 } };
        records[answer->count++] = (cueball_record){ .name = name, .type = type, .ttl = 10, .address = { 10, 0, 0, 101 } };
    }
}

static void answer_all(world *w)
{
    static cueball_record records[2 * NODES];
    while (w->asked_n > 0) {
        cueball_answer answer;
        w->asked_n--;
        if (!w->asked[w->asked_n])
            continue;
        records_of(w->types[w->asked_n], w->names[w->asked_n], records, &answer);
        int result = cueball_tracker_answered(w->tracker, w->now, w->asked[w->asked_n], &answer);
        MUST(result == CUEBALL_OK || (result == CUEBALL_ENOMEM && failing.failed > 0), "%d", result);
        check(w);
        drain(w);
    }
}

static void pass(world *w, unsigned seconds, uint32_t at_least)
{
    cueball_time until = w->now + (cueball_time)seconds * SECOND;
    for (;;) {
        answer_all(w);
        MUST(w->known >= at_least, "%u, not %u", w->known, at_least);
        cueball_time deadline = cueball_tracker_deadline(w->tracker);
        if (deadline > until)
            break;
        w->now = deadline > w->now ? deadline : w->now;
        cueball_tracker_time_advanced(w->tracker, w->now);
        check(w);
        drain(w);
    }
    w->now = until;
}

/* Whether something failed. */
static bool play(void)
{
    const char *servers[] = { "127.0.0.1:53", "127.0.0.2:53" };
    world w = { .now = 1 };
    cueball_allocator allocator = { &w, test_allocate, test_release };
    cueball_tracker_options options;
    cueball_tracker_options_init(&options);
    options.domain = "db.example";
    options.service = "_pg._tcp";
    failing.seen = failing.failed = failing.phase = 0;
    int result = cueball_tracker_new(&options, &allocator, 1, w.now, &w.tracker);
    MUST(result == CUEBALL_OK || (result == CUEBALL_ENOMEM && failing.failed > 0 && failing.held == 0), "%d", result);
    if (result != CUEBALL_OK)
        return true;
    failing.phase = 1;
    while ((result = cueball_tracker_nameservers_replaced(w.tracker, w.now, servers, 2)) != CUEBALL_OK)
        MUST(result == CUEBALL_ENOMEM && failing.failed > 0, "%d", result);
    drain(&w);
    pass(&w, 25, 0);
    MUST(w.known == NODES, "%u", w.known);
    failing.phase = 2;
    pass(&w, 25, NODES / 2);
    MUST(w.known == NODES, "%u", w.known);
    failing.phase = 3;
    pass(&w, 25, 2);
    MUST(w.known == 2, "%u", w.known);
    cueball_tracker_free(w.tracker);
    MUST(failing.held == 0, "%zu bytes are left", failing.held);
    return failing.failed > 0;
}

int main(void)
{
    unsigned failures = 0;
    for (failing.more = 0; failing.more < 10; failing.more += 9)
        for (failing.n = 0; play(); failing.n++)
            failures += failing.failed;
    printf("%u failed allocations\n", failures);
    return 0;
}
