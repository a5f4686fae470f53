/* The tracker's interface under random programs: the fuzzer's bytes are read as
 * inputs, with answers of any shape, failing memory, stale and invented handles.
 * After each input the tracker's own check must hold, and what it says must agree
 * with what this file knows by itself:
 *
 * - a question is answered or forgotten once; no more of them than were allowed;
 * - a backend is added once before it is removed, and changed only in between;
 * - FAIL and RECOVER take turns, but for FAIL with another message;
 * - the list of backends is what ADD and REMOVE made it, once all is drained;
 * - time passes: no deadline leads nowhere;
 * - after free no byte is held.
 *
 * Built by CMakeLists.txt here for libFuzzer, or with -DREPLAY as a program that
 * runs the files it is given. */
#include "cueball_tracker.h"
#include "internal.h"
#include "replay.h"

enum { QUESTIONS_MAX = 4096, BACKENDS_MAX = 4096, RECORDS_MAX = 24, QUIET_ROUNDS = 200 };

typedef struct world {
    const uint8_t *at, *end;
    cueball_tracker *tracker;
    cueball_tracker_options options;
    cueball_time now;
    cueball_handle asked[QUESTIONS_MAX], last;
    uint32_t types[QUESTIONS_MAX], asked_n;
    char names[QUESTIONS_MAX][260];
    char backends[BACKENDS_MAX][64];
    uint32_t backends_n;
    bool is_failing;
    char message[600];
    size_t held;
    unsigned fail_after, fail_for;
} world;

static world the_world;

static void *fuzz_allocate(void *user, size_t size)
{
    world *w = user;
    if (w->fail_after > 0) {
        w->fail_after--;
    } else if (w->fail_for > 0) {
        w->fail_for--;
        return NULL;
    }
    void *block = malloc(size);
    if (block) {
        memset(block, 0xa5, size);
        w->held += size;
    }
    return block;
}

static void fuzz_release(void *user, void *memory, size_t size)
{
    world *w = user;
    MUST(w->held >= size, "%zu of %zu", size, w->held);
    w->held -= size;
    free(memory);
}

static unsigned next_byte(world *w)
{
    return w->at < w->end ? *w->at++ : 0;
}

static void check(const world *w)
{
    char text[300] = "";
    MUST(cueball_tracker_check(w->tracker, text, sizeof text) == CUEBALL_OK, "%s", text);
    MUST(cueball_tracker_memory(w->tracker) == w->held, "%zu, held %zu", cueball_tracker_memory(w->tracker), w->held);
}

/* --------------------------------------------------------------- actions -- */

static void backend_told(world *w, const cueball_tracker_action *action)
{
    char key[64];
    uint32_t at = 0;
    snprintf(key, sizeof key, "%s %u", action->backend.address, action->backend.port);
    while (at < w->backends_n && strcmp(w->backends[at], key) != 0)
        at++;
    bool is_known = at < w->backends_n;
    MUST(is_known == (action->kind != CUEBALL_TRACKER_ADD), "%s, action %d", key, action->kind);
    MUST(action->backend.weight >= 1 && action->backend.weight <= 65535, "%s: %u", key, action->backend.weight);
    if (action->kind == CUEBALL_TRACKER_ADD) {
        MUST(w->backends_n < BACKENDS_MAX, "too many");
        memcpy(w->backends[w->backends_n++], key, sizeof key);
    } else if (action->kind == CUEBALL_TRACKER_REMOVE) {
        MUST(action->backend.removal != CUEBALL_REMOVAL_NONE, "%s", key);
        memmove(w->backends[at], w->backends[--w->backends_n], sizeof key);
    }
}

static void question_end(world *w, uint32_t at)
{
    w->last = w->asked[at];
    w->asked_n--;
    w->asked[at] = w->asked[w->asked_n];
    w->types[at] = w->types[w->asked_n];
    memcpy(w->names[at], w->names[w->asked_n], sizeof w->names[at]);
}

static void question_told(world *w, const cueball_tracker_action *action)
{
    if (action->kind == CUEBALL_TRACKER_ASK) {
        MUST(w->asked_n < QUESTIONS_MAX && action->server[0] && action->name[0], "%s", action->name);
        MUST(action->deadline != CUEBALL_NEVER, "%s", action->name);
        w->types[w->asked_n] = action->type;
        snprintf(w->names[w->asked_n], sizeof w->names[0], "%s", action->name);
        w->asked[w->asked_n++] = action->question;
        return;
    }
    uint32_t at = 0;
    while (at < w->asked_n && w->asked[at] != action->question)
        at++;
    MUST(at < w->asked_n, "forgets what nobody asked");
    question_end(w, at);
}

static void verdict_told(world *w, const cueball_tracker_action *action)
{
    if (action->kind == CUEBALL_TRACKER_RECOVER) {
        MUST(w->is_failing, "recovers from nothing");
        w->is_failing = false;
        return;
    }
    MUST(action->message && action->message[0], "no message");
    MUST(!w->is_failing || strcmp(w->message, action->message) != 0, "says again: %s", w->message);
    w->is_failing = true;
    snprintf(w->message, sizeof w->message, "%s", action->message);
}

static void drain(world *w, unsigned most)
{
    cueball_tracker_action action;
    while (most-- > 0 && cueball_tracker_next_action(w->tracker, &action)) {
        if (action.kind == CUEBALL_TRACKER_ASK || action.kind == CUEBALL_TRACKER_FORGET)
            question_told(w, &action);
        else if (action.kind == CUEBALL_TRACKER_FAIL || action.kind == CUEBALL_TRACKER_RECOVER)
            verdict_told(w, &action);
        else if (action.kind != CUEBALL_TRACKER_SETTLE)
            backend_told(w, &action);
        check(w);
    }
}

/* --------------------------------------------------------------- answers -- */

static const char *const names[] = { "a.example", "b.example", "db.example", "_x._tcp.db.example", "A.EXAMPLE.", "c.example", ".", "db",
                                     "db.search", "",          "example",    "x\\.y.example",      "d\\032e" };

static const char *name_of(world *w, const char *asked)
{
    unsigned which = next_byte(w);
    return which & 0x10 ? asked : names[which % (sizeof names / sizeof *names)];
}

static void record_read(world *w, cueball_record *record, const char *asked)
{
    static const uint32_t types[] = { CUEBALL_RR_A, CUEBALL_RR_AAAA, CUEBALL_RR_SRV, CUEBALL_RR_CNAME, CUEBALL_RR_SOA, 99 };
    static const uint32_t ttls[] = { 1, 0, 5, 60, 86400, 5000000, 0x7fffffff, 0x80000000, 0xffffffff };
    unsigned kind = next_byte(w);
    memset(record, 0, sizeof *record);
    record->type = types[kind % 6];
    record->section = kind / 6 % 8 < 5 ? CUEBALL_SECTION_ANSWER : kind / 6 % 8 < 7 ? CUEBALL_SECTION_ADDITIONAL : CUEBALL_SECTION_AUTHORITY;
    record->name = name_of(w, asked);
    record->target = name_of(w, asked);
    record->ttl = ttls[next_byte(w) % 9];
    record->minimum = ttls[next_byte(w) % 9];
    record->priority = next_byte(w) % 3;
    record->weight = next_byte(w) * 257U;
    record->port = 80 + next_byte(w) % 3;
    record->address[3] = (unsigned char)(next_byte(w) % 5);
    record->address[15] = record->type == CUEBALL_RR_AAAA ? (unsigned char)next_byte(w) % 5 : 0;
    if (next_byte(w) == 255)
        record->name = NULL;
}

static void answer(world *w, cueball_handle question, const char *asked)
{
    static const uint32_t rcodes[] = { 0, 0, 0, 3, 2, 5, 4, 1, 9, 4000, 0xffffffff };
    static cueball_record records[RECORDS_MAX];
    cueball_answer given = { .rcode = rcodes[next_byte(w) % 11], .count = next_byte(w) % RECORDS_MAX, .records = records };
    given.is_referral = next_byte(w) % 16 == 15;
    for (uint32_t i = 0; i < given.count; i++)
        record_read(w, &records[i], asked);
    int result = cueball_tracker_answered(w->tracker, w->now, question, &given);
    if (result != CUEBALL_EINVAL && result != CUEBALL_ESTALE)
        for (uint32_t i = 0; i < w->asked_n; i++)
            if (w->asked[i] == question) {
                question_end(w, i);
                break;
            }
}

static void reply(world *w)
{
    if (w->asked_n == 0)
        return;
    uint32_t at = next_byte(w) % w->asked_n;
    cueball_handle question = w->asked[at];
    unsigned what = next_byte(w) % 16;
    char asked[260];
    memcpy(asked, w->names[at], sizeof asked);
    if (what <= CUEBALL_SILENCE_LOCAL) {
        int result = cueball_tracker_unanswered(w->tracker, w->now, question, (int)what);
        if (result == CUEBALL_OK)
            question_end(w, at);
        MUST(result == CUEBALL_OK || result == CUEBALL_ESTALE, "%d", result);
    } else {
        answer(w, question, asked);
    }
}

/* ---------------------------------------------------------------- inputs -- */

static void servers(world *w)
{
    static const char *const texts[] = { "127.0.0.1:53", "127.0.0.2:53", "[::1]:53", "127.0.0.3:53" };
    const char *list[4];
    uint32_t count = next_byte(w) % 5;
    for (uint32_t i = 0; i < count; i++)
        list[i] = texts[next_byte(w) % 4];
    cueball_tracker_nameservers_replaced(w->tracker, w->now, list, count);
}

static void search(world *w)
{
    static const char *const texts[] = { "search", "example", "a..b", "." };
    const char *list[3];
    uint32_t count = next_byte(w) % 4;
    for (uint32_t i = 0; i < count; i++)
        list[i] = texts[next_byte(w) % 4];
    cueball_tracker_search_replaced(w->tracker, w->now, list, count, next_byte(w) % 4, next_byte(w) % 2);
}

static void input(world *w)
{
    switch (next_byte(w) % 16) {
    case 0:
        servers(w);
        break;
    case 1:
        cueball_tracker_families_changed(w->tracker, w->now, next_byte(w) % 5);
        break;
    case 2:
        cueball_tracker_expired(w->tracker, w->now);
        break;
    case 3:
        w->fail_after = next_byte(w) % 8;
        w->fail_for = next_byte(w) % 8;
        break;
    case 4:
        MUST(cueball_tracker_unanswered(w->tracker, w->now, w->last, 0) == CUEBALL_ESTALE, "answered twice");
        MUST(cueball_tracker_unanswered(w->tracker, w->now, (cueball_handle)next_byte(w) << 40 | 7, 0) == CUEBALL_ESTALE, "invented");
        break;
    case 5: {
        cueball_time deadline = cueball_tracker_deadline(w->tracker);
        if (deadline != CUEBALL_NEVER && deadline > w->now)
            w->now = deadline;
        cueball_tracker_time_advanced(w->tracker, w->now);
        break;
    }
    case 6:
        w->now += (cueball_time)next_byte(w) * next_byte(w) * next_byte(w) * 100000;
        cueball_tracker_time_advanced(w->tracker, w->now);
        break;
    case 7:
        drain(w, next_byte(w) % 4);
        break;
    case 8:
        cueball_tracker_backends_failed(w->tracker, w->now);
        break;
    case 9:
        search(w);
        break;
    default:
        drain(w, UINT32_MAX);
        reply(w);
    }
    check(w);
}

/* Nobody answers any more: it goes on from deadline to deadline, without haste. */
static void go_quiet(world *w)
{
    const char *server = "127.0.0.1:53";
    w->fail_for = 0;
    cueball_tracker_nameservers_replaced(w->tracker, w->now, &server, 1);
    drain(w, UINT32_MAX);
    cueball_time since = w->now;
    uint32_t rounds = 0;
    for (; rounds < QUIET_ROUNDS && w->now - since < UINT64_C(3600000000000); rounds++) {
        cueball_time deadline = cueball_tracker_deadline(w->tracker);
        MUST(deadline != CUEBALL_NEVER || w->options.service == NULL || w->asked_n == 0, "waits for nothing");
        if (deadline == CUEBALL_NEVER)
            break;
        w->now = deadline > w->now ? deadline : w->now;
        cueball_tracker_time_advanced(w->tracker, w->now);
        check(w);
        drain(w, UINT32_MAX);
        cueball_tracker_stats stats;
        cueball_tracker_stats_of(w->tracker, &stats);
        MUST(stats.asking <= w->options.max_dns_concurrency, "%u", stats.asking);
    }
    MUST(w->now > since || rounds < 2, "time stands still");
    cueball_tracked backend;
    uint32_t listed = 0;
    while (cueball_tracker_backend_at(w->tracker, listed, &backend))
        listed++;
    MUST(listed == w->backends_n, "%u listed, %u told", listed, w->backends_n);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char *const search[] = { "search", "example" };
    world *w = &the_world;
    memset(w, 0, sizeof *w);
    w->at = bytes;
    w->end = bytes + size;
    w->now = 1;
    cueball_tracker_options_init(&w->options);
    unsigned which = next_byte(w);
    w->options.domain = which & 1 ? "db" : which & 2 ? "db.example." : "db.example";
    w->options.service = which & 4 ? NULL : "_x._tcp";
    w->options.search = search;
    w->options.search_count = which & 8 ? 2 : 0;
    w->options.max_dns_concurrency = which & 16 ? 2 : 50;
    w->options.rotate = which >> 5 & 1;
    w->options.keep_missing_ms = next_byte(w) % 2 * 7000;
    w->options.recovery_dns.attempts = which & 64 ? 1 : 3;
    cueball_allocator allocator = { w, fuzz_allocate, fuzz_release };
    if (cueball_tracker_new(&w->options, &allocator, which, w->now, &w->tracker) != CUEBALL_OK)
        return 0;
    check(w);
    if (!(which & 128))
        servers(w);
    while (w->at < w->end)
        input(w);
    go_quiet(w);
    cueball_tracker_free(w->tracker);
    MUST(w->held == 0, "%zu bytes are left", w->held);
    return 0;
}
