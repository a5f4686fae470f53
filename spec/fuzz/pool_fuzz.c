/* The core's whole interface under random programs: the fuzzer's bytes are read
 * as calls on one pool, with failing memory, stale and invented handles, a host
 * that drains or does not.  After each input the pool's own check must hold, and
 * what the pool says must agree with what this file knows by itself:
 *
 * - a claim is answered exactly once, and granted only before its deadline and,
 *   but for adaptive_lifo, after every older one was answered; refused as
 *   overloaded only where a queue may do that, and not before its target;
 * - a lease is on one connection, a connection in one lease; a handle works as
 *   long as what it means lives, and never again;
 * - an opened connection is closed exactly once, an attempt is reported on or
 *   given up;
 * - the counts in the statistics are those of what was told, the reasons of a
 *   wait add up to it;
 * - slots stay within max_connections but for removed backends' leases, and for
 *   one more in a set; only sets ask leases back;
 * - a dead backend revives by a proof: a release in order, a check, a connection
 *   that delivered or lasted; it dies of what it did, not of what claimers did;
 * - what is lost, unfit or renewed is lent no more; dead backends have a fifth of
 *   the slots at most, and one with a single slot none, while others live;
 * - while the pool is paused nothing is granted, and nobody refused for overload or
 *   because all backends are dead; a drained backend is neither lent from nor opened to;
 * - once faults end the distribution is the plan's; after stop() all is closed;
 *   after free() no byte is held.
 *
 * Built by CMakeLists.txt here for libFuzzer, or with -DREPLAY as a program that
 * runs the files it is given. */
#include "cueball.h"
#include "internal.h"
#include "replay.h"

#include <inttypes.h>
#include <math.h>

enum { CLAIMS_MAX = 2048, LEASES_MAX = 2048, CONNS_MAX = 4096, OWNERS_MAX = 6, KEYS = 6, HEAL_ROUNDS = 400 };
enum { BLAMED_MAX = 512, PROVEN_MAX = 8 };

#define MS UINT64_C(1000000)

typedef struct claim {
    cueball_handle handle;
    cueball_time begun, limit;
    int owner; /* -1: none */
    bool is_open;
} claim;

typedef struct lease {
    cueball_handle lease, conn;
    uint32_t slot;
    int owner;
} lease;

typedef enum { OPENING, OPEN, CLOSING } conn_state;

typedef struct conn {
    cueball_handle conn, backend;
    conn_state state;
    bool is_checking;
    bool is_lost;
    int unfit_for; /* the cause that was told; 0: none */
    cueball_time opened_at;
    cueball_time renew_by; /* at rest it is closed then; 0: it was not renewed */
} conn;

typedef struct owner {
    cueball_owner *owner;
    bool is_gone;
    bool has_left; /* what it had ends at the next input */
} owner;

typedef struct world {
    const uint8_t *at, *end;
    cueball_pool *pool;
    cueball_options options;
    bool is_set;
    unsigned drains;
    cueball_time now, behind; /* the next input's time lags so far */
    cueball_time known;       /* the time that the pool goes by */
    cueball_time drain_at;
    bool is_stopping;
    bool was_lifo;                 /* while claims that wait now did, the queue was adaptive_lifo */
    double target_ms;              /* the least target_claim_delay_ms there was meanwhile; INFINITY: it was fifo */
    size_t held;                   /* bytes */
    unsigned fail_after, fail_for; /* allocations */
    uint32_t total;                /* slots, after the last input */
    claim claims[CLAIMS_MAX];      /* by `user` */
    lease leases[LEASES_MAX];
    conn conns[CONNS_MAX];
    owner owners[OWNERS_MAX];
    uint32_t claims_n, leases_n, conns_n, oldest_open;
    cueball_handle last;       /* the last handle of any kind */
    cueball_handle dead[KEYS]; /* backends, after the last input */
    bool outranked[KEYS];      /* of these, whether there was a better one */
    uint32_t dead_n;
    cueball_handle proven[PROVEN_MAX]; /* the backends that the present input says work */
    uint32_t proven_n;
    cueball_time least_span;           /* the least there was for a connection to have lasted */
    cueball_handle blamed[BLAMED_MAX]; /* backends against which there was evidence */
    uint32_t blamed_n;
    bool is_paused;
    cueball_time paused_at, resumed_at; /* the last times */
    uint64_t timeouts;                  /* attempts and checks, after the last input */
    cueball_stats told;                 /* the same counts as the pool's, as far as they can be known here */
} world;

static world the_world;

/* ---------------------------------------------------------------- memory -- */

/* Each block is preceded by its size, which release() must give again. */
static void *fuzz_allocate(void *user, size_t size)
{
    world *w = user;
    if (w->fail_after > 0) {
        w->fail_after--;
    } else if (w->fail_for > 0) {
        w->fail_for--;
        return NULL;
    }
    char *block = malloc(size + 16);
    if (!block)
        return NULL;
    memcpy(block, &size, sizeof size);
    memset(block + 16, 0xa5, size);
    w->held += size;
    return block + 16;
}

static void fuzz_release(void *user, void *memory, size_t size)
{
    world *w = user;
    char *block = (char *)memory - 16;
    size_t was;
    memcpy(&was, block, sizeof was);
    MUST(was == size, "%zu bytes given back as %zu", was, size);
    w->held -= size;
    free(block);
}

/* ----------------------------------------------------------------- bytes -- */

static unsigned next_byte(world *w)
{
    return w->at < w->end ? *w->at++ : 0;
}

static double one_of(world *w, const double *values, size_t count)
{
    return values[next_byte(w) % count];
}

#define ONE_OF(w, ...) one_of(w, (const double[]){ __VA_ARGS__ }, sizeof(double[]){ __VA_ARGS__ } / sizeof(double))

static void read_recovery(world *w, cueball_recovery *recovery)
{
    recovery->attempts = (uint32_t)ONE_OF(w, 3, 1, 2, 10);
    recovery->timeout_ms = ONE_OF(w, 10, 0.001, 100, 2000);
    recovery->max_timeout_ms = recovery->timeout_ms * ONE_OF(w, 4, 1, 3, 1000);
    recovery->delay_ms = ONE_OF(w, 5, 0, 100, 0.001);
    recovery->max_delay_ms = recovery->delay_ms + ONE_OF(w, 20, 0, 1, 100);
    recovery->spread = ONE_OF(w, 0.2, 0, 1);
}

static void read_control(world *w, cueball_options *options)
{
    options->spares = (uint32_t)ONE_OF(w, UINT32_MAX, 0, 1, 2, 5);
    options->balance = next_byte(w) % 3;
    options->queue = next_byte(w) % 3;
    options->target_claim_delay_ms = ONE_OF(w, 5, 0.001, 40, 300);
    options->max_churn_rate = ONE_OF(w, INFINITY, 1, 4, 1000);
    options->slow_start_ms = ONE_OF(w, 0, 0.001, 50, 10000);
    options->outlier.consecutive = (uint32_t)ONE_OF(w, 0, 1, 2, 5);
    options->outlier.interval_ms = ONE_OF(w, 1, 10, 1000);
    options->outlier.ejection_ms = ONE_OF(w, 1, 10, 1000);
    options->outlier.max_ejected = ONE_OF(w, 0.1, 0, 0.5, 1);
    options->recovery_initial.jitter = next_byte(w) % 3;
    options->recovery_connect.jitter = next_byte(w) % 3;
}

static void read_proof(world *w, cueball_options *options)
{
    options->proven_after_ms = ONE_OF(w, 0, 0.001, 3, 1000, 86400000);
    options->has_check = next_byte(w) % 2;
}

static void span_seen(world *w, const cueball_options *options)
{
    cueball_time span = options->proven_after_ms > 0 ? (cueball_time)(options->proven_after_ms * 1e6) : 1000 * MS;
    if (w->least_span == 0 || span < w->least_span)
        w->least_span = span;
}

/* True: it would be a set. */
static bool read_options(world *w, cueball_options *options)
{
    cueball_options_init(options);
    options->max_connections = (uint32_t)ONE_OF(w, 3, 1, 2, 5, 15, 40);
    options->max_waiters = (uint32_t)ONE_OF(w, UINT32_MAX, 0, 1, 3);
    options->claim_timeout_ms = ONE_OF(w, INFINITY, 0, 1, 50);
    options->rebalance_delay_ms = ONE_OF(w, 0, 10, 100);
    options->decoherence_interval_ms = ONE_OF(w, 0, 7, 1000);
    options->check_interval_ms = ONE_OF(w, 0, 20, 1000);
    options->check_timeout_ms = ONE_OF(w, 5, 0.001, 100);
    options->idle_timeout_ms = ONE_OF(w, 0, 30, 5000);
    options->max_lifetime_ms = ONE_OF(w, 0, 40, 10000);
    options->drain_timeout_ms = ONE_OF(w, 25, 0, 1000);
    options->balance = (int32_t)ONE_OF(w, CUEBALL_BALANCE_FIFO, CUEBALL_BALANCE_LIFO);
    unsigned which = next_byte(w);
    if (which & 1)
        read_recovery(w, &options->recovery_default);
    if (which & 2)
        read_recovery(w, &options->recovery_initial);
    if (which & 4)
        read_recovery(w, &options->recovery_connect);
    if (which & 0x20) /* that one, as it is not set in the older inputs of the corpus */
        read_control(w, options);
    if (which & 0x40)
        read_proof(w, options);
    span_seen(w, options);
    return (which & 0xa0) == 0xa0;
}

/* ---------------------------------------------------------------- handles -- */

static cueball_handle handle_seen(world *w, cueball_handle handle)
{
    MUST(handle != 0, "a handle is 0");
    MUST(handle < UINT64_C(1) << 53, "handle %" PRIu64, handle);
    w->last = handle;
    return handle;
}

/* Any handle: invented, or a neighbour of one that was seen. */
static cueball_handle handle_invented(world *w)
{
    unsigned how = next_byte(w);
    uint64_t generation = UINT64_C(1) << 21;
    switch (how % 8) {
    case 0:
        return w->last;
    case 1:
        return w->last + generation;
    case 2:
        return w->last - generation;
    case 3:
        return how >> 3;
    case 4:
        return w->last | UINT64_C(1) << (32 + how / 8);
    default:
        return generation * (next_byte(w) % 16) + (how >> 3) % 8;
    }
}

static conn *conn_find(world *w, cueball_handle handle)
{
    for (uint32_t i = 0; i < w->conns_n; i++)
        if (w->conns[i].conn == handle)
            return &w->conns[i];
    return NULL;
}

static void conn_forget(world *w, conn *gone)
{
    *gone = w->conns[--w->conns_n];
}

static lease *lease_find(world *w, cueball_handle handle)
{
    for (uint32_t i = 0; i < w->leases_n; i++)
        if (w->leases[i].lease == handle)
            return &w->leases[i];
    return NULL;
}

static void lease_forget(world *w, lease *gone)
{
    *gone = w->leases[--w->leases_n];
}

static claim *claim_find(world *w, cueball_handle handle)
{
    for (uint32_t i = w->oldest_open; i < w->claims_n; i++)
        if (w->claims[i].is_open && w->claims[i].handle == handle)
            return &w->claims[i];
    return NULL;
}

static void claim_over(world *w, claim *over)
{
    over->is_open = false;
    while (w->oldest_open < w->claims_n && !w->claims[w->oldest_open].is_open)
        w->oldest_open++;
}

/* One of the list or an invented handle. */
static cueball_handle conn_pick(world *w)
{
    unsigned which = next_byte(w);
    return which < 224 && w->conns_n ? w->conns[which % w->conns_n].conn : handle_invented(w);
}

static cueball_handle lease_pick(world *w)
{
    unsigned which = next_byte(w);
    return which < 224 && w->leases_n ? w->leases[which % w->leases_n].lease : handle_invented(w);
}

static cueball_handle claim_pick(world *w)
{
    unsigned which = next_byte(w);
    if (which >= 224 || w->oldest_open == w->claims_n)
        return handle_invented(w);
    const claim *picked = &w->claims[w->oldest_open + which % (w->claims_n - w->oldest_open)];
    return picked->handle;
}

/* ----------------------------------------------------------------- inputs -- */

static bool is_proven(const world *w, cueball_handle backend)
{
    for (uint32_t i = 0; i < w->proven_n; i++)
        if (w->proven[i] == backend)
            return true;
    return w->proven_n == PROVEN_MAX;
}

static void prove(world *w, cueball_handle backend)
{
    if (!is_proven(w, backend))
        w->proven[w->proven_n++] = backend;
}

/* The pool takes a lease back: its connection may have delivered before. */
static void lease_taken(world *w, lease *taken)
{
    const conn *on = conn_find(w, taken->conn);
    if (on->unfit_for == CUEBALL_CAUSE_WORN && !on->is_lost)
        prove(w, on->backend);
    lease_forget(w, taken);
    w->told.leases_revoked++;
}

static void owner_ended(world *w, int index)
{
    for (uint32_t i = w->oldest_open; i < w->claims_n; i++)
        if (w->claims[i].is_open && w->claims[i].owner == index) {
            w->claims[i].is_open = false;
            w->told.claims_cancelled++;
        }
    while (w->oldest_open < w->claims_n && !w->claims[w->oldest_open].is_open)
        w->oldest_open++;
    for (uint32_t i = w->leases_n; i-- > 0;)
        if (w->leases[i].owner == index)
            lease_taken(w, &w->leases[i]);
    w->owners[index].has_left = false;
    if (w->owners[index].is_gone)
        w->owners[index] = (owner){ NULL, false, false };
}

/* The time of the next input, and what the pool does before the input itself. */
static cueball_time begin(world *w)
{
    cueball_time now = w->now - (w->behind < w->now ? w->behind : w->now);
    w->behind = 0;
    if (now > w->known)
        w->known = now;
    if (w->is_stopping && w->known >= w->drain_at) {
        while (w->leases_n > 0)
            lease_taken(w, &w->leases[w->leases_n - 1]);
    }
    for (int i = 0; i < OWNERS_MAX; i++)
        if (w->owners[i].is_gone || w->owners[i].has_left)
            owner_ended(w, i);
    return now;
}

static uint32_t removed_total(const world *w)
{
    cueball_backend_info info = { .struct_size = sizeof info };
    uint32_t total = 0;
    for (uint32_t i = 0; cueball_pool_backend_at(w->pool, i, &info); i++)
        total += info.removed ? info.total : 0;
    return total;
}

static void check_counts(const world *w, const cueball_stats *stats)
{
    const cueball_stats *told = &w->told;
#define SAME(field) MUST(stats->field == told->field, #field ": %" PRIu64 ", told %" PRIu64, stats->field, told->field)
    SAME(claims);
    SAME(granted);
    SAME(granted_at_once);
    SAME(claim_timeouts);
    SAME(claims_refused);
    SAME(claims_cancelled);
    SAME(released);
    SAME(leases_closed);
    SAME(leases_failed);
    SAME(leases_revoked);
    SAME(opened);
    SAME(open_failures);
#undef SAME
    uint32_t open_claims = 0;
    for (uint32_t i = w->oldest_open; i < w->claims_n; i++)
        open_claims += w->claims[i].is_open;
    MUST(stats->waiting <= open_claims, "%u wait of %u", stats->waiting, open_claims);
    MUST(stats->busy >= w->leases_n, "%u busy, %u leases", stats->busy, w->leases_n);
    if (cueball_pool_outlook(w->pool)->actions == 0) {
        MUST(stats->waiting == open_claims, "%u wait of %u", stats->waiting, open_claims);
        MUST(stats->busy == w->leases_n, "%u busy, %u leases", stats->busy, w->leases_n);
    }
}

/* What the queue may have been to the claims that wait. */
static void queue_seen(world *w)
{
    if (w->oldest_open == w->claims_n) {
        w->was_lifo = false;
        w->target_ms = INFINITY;
    }
    w->was_lifo |= w->options.queue == CUEBALL_QUEUE_ADAPTIVE_LIFO;
    if (w->options.queue != CUEBALL_QUEUE_FIFO && w->options.target_claim_delay_ms < w->target_ms)
        w->target_ms = w->options.target_claim_delay_ms;
}

/* ---------------------------------------------------------------- evidence -- */

static void tell_backends(const world *w)
{
    cueball_backend_info info = { .struct_size = sizeof info };
    for (uint32_t i = 0; cueball_pool_backend_at(w->pool, i, &info); i++)
        TELL("backend %s: weight %u, priority %u, %u slots, %u idle, takes %u%s%s%s\n", info.key, info.weight, info.priority, info.total,
             info.idle, info.takes, info.dead ? ", dead" : "", info.standby ? ", stands by" : "", info.ejected ? ", ejected" : "");
}

static bool is_blamed(const world *w, cueball_handle backend)
{
    for (uint32_t i = 0; i < w->blamed_n; i++)
        if (w->blamed[i] == backend)
            return true;
    return w->blamed_n == BLAMED_MAX;
}

static void blame(world *w, cueball_handle backend)
{
    if (!is_blamed(w, backend))
        w->blamed[w->blamed_n++] = backend;
}

static bool has_lasted(const world *w, cueball_handle backend)
{
    for (uint32_t i = 0; i < w->conns_n; i++) {
        const conn *one = &w->conns[i];
        if (one->backend == backend && one->state == OPEN && w->known - one->opened_at >= w->least_span)
            return true;
    }
    return false;
}

static bool conn_is_drained(const world *w, cueball_handle backend)
{
    cueball_backend_info info = { .struct_size = sizeof info };
    return cueball_pool_backend_info(w->pool, backend, &info) == CUEBALL_OK && info.drained;
}

/* Whether the backend may have been left alone for a better one, which forgets that
 * it was dead. */
static bool has_better(const world *w, uint32_t priority)
{
    cueball_backend_info info = { .struct_size = sizeof info };
    for (uint32_t i = 0; cueball_pool_backend_at(w->pool, i, &info); i++)
        if (!info.removed && info.priority < priority)
            return w->options.priorities == CUEBALL_PRIORITIES_STRICT;
    return false;
}

/* Whether there was a better one before the present input: a plan that was due may have
 * left the backend alone before the input said that the better one is gone. */
static bool was_outranked(const world *w, cueball_handle backend)
{
    for (uint32_t i = 0; i < w->dead_n; i++)
        if (w->dead[i] == backend)
            return w->outranked[i];
    return false;
}

static bool was_dead(const world *w, cueball_handle backend)
{
    for (uint32_t i = 0; i < w->dead_n; i++)
        if (w->dead[i] == backend)
            return true;
    return false;
}

static void check_revival(const world *w, const cueball_backend_info *info)
{
    bool is_left = has_better(w, info->priority) || was_outranked(w, info->backend) || info->drained;
    bool has_reason = is_left || is_proven(w, info->backend) || has_lasted(w, info->backend);
    if (!has_reason)
        tell_backends(w);
    MUST(has_reason, "backend %s revived without proof", info->key);
}

/* Dead backends leave the places to those that live. */
static void check_probes(const world *w, uint32_t probes, uint32_t living)
{
    const cueball_options *options = &w->options;
    uint32_t most = options->max_connections / 5 > 1 ? options->max_connections / 5 : options->max_connections > 1;
    bool has_use = options->spares >= options->max_connections && isinf(options->max_churn_rate) && !w->is_set;
    bool is_well = living == 0 || !has_use || w->is_stopping || probes <= most;
    if (!is_well)
        tell_backends(w);
    MUST(is_well, "%u probes, and %u backends live", probes, living);
}

/* Who died and who revived, and whether there was reason to. */
static void check_backends(world *w, const cueball_stats *stats)
{
    cueball_backend_info info = { .struct_size = sizeof info };
    cueball_handle dead[KEYS];
    bool outranked[KEYS];
    uint32_t dead_n = 0, probes = 0, living = 0;
    bool is_late = stats->open_timeouts + stats->checks_failed > w->timeouts; /* somebody's, and so anybody's */
    w->timeouts = stats->open_timeouts + stats->checks_failed;
    for (uint32_t i = 0; cueball_pool_backend_at(w->pool, i, &info); i++) {
        if (info.removed)
            continue;
        if (is_late)
            blame(w, info.backend);
        MUST(!info.drained || info.idle + info.connecting == 0, "backend %s is drained", info.key);
        living += !info.dead && !info.drained && info.total > 0; /* others may be new, and not planned for yet */
        probes += info.dead && info.idle + info.connecting > 0;
        if (info.dead && !was_dead(w, info.backend))
            MUST(is_blamed(w, info.backend), "backend %s died, and nothing was wrong with it", info.key);
        if (!info.dead && was_dead(w, info.backend))
            check_revival(w, &info);
        if (!info.dead)
            continue;
        outranked[dead_n] = has_better(w, info.priority);
        dead[dead_n++] = info.backend;
    }
    check_probes(w, probes, living);
    memcpy(w->dead, dead, dead_n * sizeof *dead);
    memcpy(w->outranked, outranked, dead_n * sizeof *outranked);
    w->dead_n = dead_n;
    w->proven_n = 0;
}

/* After every input: does all agree? */
static void check(world *w)
{
    char text[300] = "";
    cueball_stats stats = { .struct_size = sizeof stats };
    if (cueball_pool_check(w->pool, text, sizeof text) != CUEBALL_OK)
        FAIL("%s", text);
    cueball_pool_stats(w->pool, &stats);
    uint32_t sum = stats.idle + stats.busy + stats.connecting + stats.backing_off + stats.checking + stats.closing;
    MUST(sum == stats.total, "%u slots, %u in all states", stats.total, sum);
    uint32_t ceiling = w->options.max_connections + (uint32_t)w->is_set;
    MUST(stats.total <= w->total || stats.total <= ceiling + removed_total(w), "%u slots of %u", stats.total, ceiling);
    w->total = stats.total;
    queue_seen(w);
    MUST(cueball_pool_memory(w->pool) == w->held, "%zu bytes, held %zu", cueball_pool_memory(w->pool), w->held);
    check_counts(w, &stats);
    check_backends(w, &stats);
}

static void granted(world *w, cueball_handle handle, cueball_handle conn_handle, uint32_t slot, int owner_index)
{
    for (uint32_t i = 0; i < w->leases_n; i++) {
        const lease *other = &w->leases[i];
        MUST(other->slot != slot && other->conn != conn_handle && other->lease != handle, "slot %u is leased twice", slot);
    }
    const conn *on = conn_find(w, conn_handle);
    MUST(on && on->state == OPEN, "conn %" PRIu64 " is leased and not open", conn_handle);
    MUST(w->leases_n < LEASES_MAX, "leases");
    w->leases[w->leases_n++] = (lease){ handle_seen(w, handle), conn_handle, slot, owner_index };
    w->told.granted++;
}

/* What rests may be lent. */
static void check_fit(world *w, cueball_handle handle)
{
    const conn *on = conn_find(w, handle);
    MUST(!on->is_lost && !on->unfit_for && !on->is_checking, "conn %" PRIx64 " is lent and not fit", handle);
    MUST(on->renew_by == 0 || w->known < on->renew_by, "conn %" PRIx64 " is lent and should have been renewed", handle);
}

static void op_claim(world *w)
{
    static const double timeouts[] = { 0, CUEBALL_NO_WAIT, 1, 50, 0.0000001, INFINITY, 1e12, (double)NAN };
    unsigned how = next_byte(w);
    cueball_claim_options options = { .timeout_ms = timeouts[how % 8], .user = w->claims_n, .error_on_empty = how & 8 };
    int owner_index = how & 16 ? (int)(how >> 5) % OWNERS_MAX : -1;
    if (owner_index >= 0 && (!w->owners[owner_index].owner || w->owners[owner_index].is_gone))
        owner_index = -1;
    options.owner = owner_index >= 0 ? w->owners[owner_index].owner : NULL;
    if (w->claims_n == CLAIMS_MAX || w->leases_n == LEASES_MAX)
        return;
    cueball_grant grant;
    memset(&grant, 0, sizeof grant);
    cueball_time now = begin(w);
    bool has_failed_memory = w->fail_for > 0;
    int result = cueball_pool_claim(w->pool, now, &options, &grant);
    TELL("claim %u, %g ms: %d\n", w->claims_n, options.timeout_ms, result);
    w->told.claims += result != CUEBALL_EINVAL;
    switch (result) {
    case CUEBALL_OK:
        w->told.granted_at_once++;
        cueball_stats stats = { .struct_size = sizeof stats };
        cueball_pool_stats(w->pool, &stats);
        MUST(stats.waiting == 0, "granted at once while %u wait", stats.waiting);
        granted(w, grant.lease, grant.conn, grant.slot, owner_index);
        MUST(!w->is_paused && !conn_is_drained(w, grant.backend), "granted in a pause, or from a drained backend");
        check_fit(w, grant.conn);
        break;
    case CUEBALL_WAITING: {
        double timeout = options.timeout_ms == 0 ? w->options.claim_timeout_ms : options.timeout_ms;
        MUST(!claim_find(w, grant.claim), "claim %" PRIu64 " twice", grant.claim);
        cueball_time limit = timeout * 1e6 < 1 ? 1 : timeout * 1e6 > 9e18 ? CUEBALL_NEVER : (cueball_time)(timeout * 1e6);
        w->claims[w->claims_n++] = (claim){ handle_seen(w, grant.claim), w->known, limit, owner_index, true };
        break;
    }
    case CUEBALL_ECLAIM_TIMEOUT:
        w->told.claim_timeouts++;
        break;
    case CUEBALL_EINVAL:
        MUST(isnan(options.timeout_ms), "a claim is invalid");
        break;
    default:
        MUST(result != CUEBALL_ENOMEM || has_failed_memory, "no memory, though there is");
        MUST(result < 0 && result != CUEBALL_ESTALE, "%d", result);
        MUST(w->is_paused ? result != CUEBALL_EPOOL_FAILED && result != CUEBALL_EOVERLOADED : result != CUEBALL_EPAUSED, "%d", result);
        w->told.claims_refused++;
    }
}

static void op_cancel(world *w)
{
    cueball_handle handle = claim_pick(w);
    cueball_time now = begin(w);
    claim *meant = claim_find(w, handle);
    int result = cueball_pool_claim_cancelled(w->pool, now, handle);
    TELL("cancel %" PRIx64 ": %d\n", handle, result);
    MUST(result == (meant ? CUEBALL_OK : CUEBALL_ESTALE), "cancel: %d", result);
    if (meant) {
        w->told.claims_cancelled++;
        claim_over(w, meant);
    }
}

static void lease_end(world *w, unsigned how, cueball_handle handle)
{
    cueball_time now = begin(w);
    lease *meant = lease_find(w, handle);
    int result;
    if (how > 5) {
        result = cueball_pool_lease_reported(w->pool, now, handle, how % 2);
        TELL("lease %" PRIx64 " went %s: %d\n", handle, how % 2 ? "well" : "badly", result);
        MUST(result == (meant ? CUEBALL_OK : CUEBALL_ESTALE), "lease %" PRIx64 ", reported: %d", handle, result);
    }
    if (how % 3 == 0)
        result = cueball_pool_lease_released(w->pool, now, handle);
    else if (how % 3 == 1)
        result = cueball_pool_lease_closed(w->pool, now, handle);
    else
        result = cueball_pool_lease_failed(w->pool, now, handle);
    TELL("end lease %" PRIx64 " by %u: %d\n", handle, how % 3, result);
    MUST(result == (meant ? CUEBALL_OK : CUEBALL_ESTALE), "lease %" PRIx64 ", ended by %u: %d", handle, how % 3, result);
    if (!meant)
        return;
    const conn *on = conn_find(w, meant->conn);
    bool is_known = on->unfit_for != CUEBALL_CAUSE_UNFIT && on->unfit_for != CUEBALL_CAUSE_TIMEOUT && !on->is_lost;
    if (how % 3 == 2)
        blame(w, on->backend);
    else if (is_known && (how % 3 == 0 || on->unfit_for == CUEBALL_CAUSE_WORN))
        prove(w, on->backend);
    uint64_t *counters[] = { &w->told.released, &w->told.leases_closed, &w->told.leases_failed };
    ++*counters[how % 3];
    lease_forget(w, meant);
}

/* A lease that was given back and had again, a few times, without the pool. */
static void op_repeat(world *w)
{
    static const uint32_t spans[] = { 5, 0, UINT32_MAX, 70000 };
    cueball_handle handle = lease_pick(w);
    unsigned how = next_byte(w);
    cueball_time now = begin(w);
    lease *meant = lease_find(w, handle);
    uint32_t count = how % 5, most = cueball_pool_lease_repeats_max(w->pool, now, handle);
    MUST(meant || most == 0, "lease %" PRIx64 " may be repeated %u times", handle, most);
    int result = cueball_pool_lease_repeated(w->pool, now, &handle, now - (how >> 4), how & 8 ? spans : NULL, count);
    TELL("repeat lease %" PRIx64 " %u times: %d\n", handle, count, result);
    MUST(meant || result == CUEBALL_ESTALE, "%d", result);
    MUST(!meant || result == CUEBALL_OK || (result == CUEBALL_EINVAL && count > most), "%d", result);
    if (result != CUEBALL_OK)
        return;
    w->told.claims += count;
    w->told.granted += count;
    w->told.granted_at_once += count;
    w->told.released += count;
    meant->lease = handle_seen(w, handle);
    if (count > 0)
        prove(w, conn_find(w, meant->conn)->backend);
}

typedef enum { REPORT_OPENED, REPORT_FAILED, REPORT_FIT, REPORT_UNFIT, REPORT_LOST, REPORT_CLOSED, REPORTS } report;

static void op_unfit(world *w)
{
    static const int causes[] = { CUEBALL_CAUSE_UNFIT, CUEBALL_CAUSE_WORN, CUEBALL_CAUSE_TIMEOUT, CUEBALL_CAUSE_LOST };
    int cause = causes[next_byte(w) % 4];
    cueball_handle handle = conn_pick(w);
    if (cause == CUEBALL_CAUSE_LOST) {
        MUST(cueball_pool_conn_unfit(w->pool, w->now, handle, cause) == CUEBALL_EINVAL, "unfit for that");
        return;
    }
    cueball_time now = begin(w);
    int result = cueball_pool_conn_unfit(w->pool, now, handle, cause);
    TELL("conn %" PRIx64 " is unfit for %d: %d\n", handle, cause, result);
    MUST(result == CUEBALL_OK || result == CUEBALL_ESTALE, "unfit: %d", result);
    conn *meant = conn_find(w, handle);
    MUST(result != CUEBALL_OK || (meant && meant->state == OPEN), "a conn that is not open is unfit");
    if (result != CUEBALL_OK)
        return;
    bool is_leased = false;
    for (uint32_t i = 0; i < w->leases_n; i++)
        is_leased |= w->leases[i].conn == handle;
    meant->unfit_for = cause;
    if (cause == CUEBALL_CAUSE_WORN && !is_leased)
        prove(w, meant->backend);
}

static void conn_report(world *w, report what, cueball_handle handle)
{
    cueball_time now = begin(w);
    int result = CUEBALL_OK;
    switch (what) {
    case REPORT_OPENED:
        result = cueball_pool_conn_opened(w->pool, now, handle);
        break;
    case REPORT_FAILED:
        result = cueball_pool_conn_failed(w->pool, now, handle);
        break;
    case REPORT_FIT:
    case REPORT_UNFIT:
        result = cueball_pool_conn_checked(w->pool, now, handle, what == REPORT_FIT);
        break;
    case REPORT_LOST:
        result = cueball_pool_conn_lost(w->pool, now, handle);
        break;
    default:
        result = cueball_pool_conn_closed(w->pool, now, handle);
    }
    TELL("report %d on %" PRIx64 ": %d\n", (int)what, handle, result);
    MUST(result == CUEBALL_OK || result == CUEBALL_ESTALE, "report %d: %d", (int)what, result);
    if (result != CUEBALL_OK)
        return;
    conn *meant = conn_find(w, handle);
    MUST(meant, "report %d on an unknown conn is taken", (int)what);
    if (what == REPORT_FAILED || what == REPORT_UNFIT || what == REPORT_LOST)
        blame(w, meant->backend);
    if (what == REPORT_FIT && w->options.has_check)
        prove(w, meant->backend);
    if (what == REPORT_OPENED || what == REPORT_FAILED) {
        MUST(meant->state == OPENING, "report %d, not opening", (int)what);
        meant->state = OPEN;
        if (what == REPORT_OPENED) {
            w->told.opened++;
            meant->opened_at = w->known;
        } else {
            w->told.open_failures++;
            conn_forget(w, meant);
        }
    } else if (what == REPORT_FIT || what == REPORT_UNFIT) {
        MUST(meant->state == OPEN && meant->is_checking, "report %d, not checking", (int)what);
        meant->is_checking = false;
    } else if (what == REPORT_LOST) {
        MUST(meant->state == OPEN, "lost, not open");
        meant->is_lost = true;
    } else {
        MUST(meant->state == CLOSING, "closed, not closing");
        conn_forget(w, meant);
    }
}

/* ---------------------------------------------------------------- actions -- */

/* What held a claim adds up to its wait. */
static void check_reasons(const world *w, cueball_time begun, cueball_time waited)
{
    cueball_wait waits[100];
    cueball_time sum = 0;
    uint32_t count = cueball_pool_explain(w->pool, begun, begun + waited, waits, 100);
    for (uint32_t i = 0; i < count; i++)
        sum += waits[i].span;
    MUST(sum == waited, "a claim waited %" PRIu64 ", and %" PRIu64 " for %u reasons", waited, sum, count);
}

/* Whether what is his ends at the next input. */
static bool owner_ends(const world *w, int owner)
{
    return owner >= 0 && (w->owners[owner].is_gone || w->owners[owner].has_left);
}

static void answer_told(world *w, const cueball_action *action)
{
    MUST(action->user < w->claims_n, "claim %" PRIu64, action->user);
    claim *answered = &w->claims[action->user];
    MUST(answered->is_open, "claim %" PRIu64 " is answered twice, or was cancelled", action->user);
    MUST(answered->handle == action->claim, "claim %" PRIu64 " under another handle", action->user);
    MUST(action->waited <= w->known - answered->begun, "claim %" PRIu64, action->user);
    check_reasons(w, answered->begun, action->waited);
    cueball_time answered_at = answered->begun + action->waited;
    MUST(!w->is_paused || answered_at <= w->paused_at || action->error == CUEBALL_ECLAIM_TIMEOUT,
         "claim %" PRIu64 " is answered in a pause", action->user);
    if (action->kind == CUEBALL_ACTION_GRANT) {
        MUST(action->waited < answered->limit, "claim %" PRIu64 " is granted at its deadline", action->user);
        for (uint32_t i = w->oldest_open; i < action->user && !w->was_lifo; i++)
            MUST(!w->claims[i].is_open || owner_ends(w, w->claims[i].owner), "claim %" PRIu64 " overtook %u", action->user, i);
        granted(w, action->lease, action->conn, action->slot, answered->owner);
    } else if (action->error == CUEBALL_ECLAIM_TIMEOUT) {
        MUST(action->waited >= answered->limit, "claim %" PRIu64 " is refused early", action->user);
        w->told.claim_timeouts++;
    } else if (action->error == CUEBALL_EOVERLOADED) {
        bool is_after = answered_at > w->resumed_at; /* in that very moment it may have been refused before the pause */
        cueball_time since = is_after && w->resumed_at > answered->begun ? w->resumed_at : answered->begun;
        MUST((double)(answered_at - since) >= w->target_ms * 1e6, "claim %" PRIu64 " is refused after %" PRIu64, action->user,
             action->waited);
        w->told.claims_refused++;
    } else {
        MUST(action->error == CUEBALL_EPOOL_FAILED || action->error == CUEBALL_EPOOL_STOPPING, "%d", action->error);
        w->told.claims_refused++;
    }
    claim_over(w, answered);
}

static void conn_told(world *w, const cueball_action *action)
{
    conn *meant = conn_find(w, action->conn);
    switch (action->kind) {
    case CUEBALL_ACTION_OPEN:
        MUST(!meant, "conn %" PRIx64 " opens twice", action->conn);
        MUST(w->conns_n < CONNS_MAX, "conns");
        w->conns[w->conns_n++] = (conn){ .conn = handle_seen(w, action->conn), .backend = action->backend, .state = OPENING };
        break;
    case CUEBALL_ACTION_GIVE_UP:
        MUST(meant && meant->state == OPENING, "conn %" PRIx64 " is given up, and not opening", action->conn);
        conn_forget(w, meant);
        break;
    case CUEBALL_ACTION_CLOSE:
        MUST(meant && meant->state == OPEN, "conn %" PRIx64 " closes, and is not open", action->conn);
        meant->state = CLOSING;
        break;
    default:
        MUST(action->kind == CUEBALL_ACTION_CHECK, "action %d", action->kind);
        MUST(meant && meant->state == OPEN, "conn %" PRIx64 " is checked, and not open", action->conn);
        meant->is_checking = true;
    }
}

static void recall_told(world *w, const cueball_action *action)
{
    const lease *meant = lease_find(w, action->lease);
    MUST(w->is_set, "a lease is asked back, and this is no set");
    MUST(meant && meant->conn == action->conn && meant->slot == action->slot, "lease %" PRIx64 " is asked back, and not out",
         action->lease);
    bool is_of_conn = action->cause == CUEBALL_CAUSE_LOST || action->cause == CUEBALL_CAUSE_UNFIT || action->cause == CUEBALL_CAUSE_WORN
                      || action->cause == CUEBALL_CAUSE_TIMEOUT;
    MUST(action->cause == CUEBALL_CAUSE_PLAN || action->cause == CUEBALL_CAUSE_REMOVED || action->cause == CUEBALL_CAUSE_STOP
             || action->cause == CUEBALL_CAUSE_DRAIN || is_of_conn,
         "asked back for %d", action->cause);
}

/* Takes up to so many actions; a helpful host does them at once, and well. */
/* Both outlets in one; every other time chores come before answers. */
static bool next_action(const world *w, cueball_action *action)
{
    if (w->drains % 2 == 0)
        return cueball_pool_next_action(w->pool, action);
    return cueball_pool_next_chore(w->pool, action) || cueball_pool_next_answer(w->pool, action);
}

static void drain(world *w, unsigned most, bool is_helpful)
{
    cueball_action action;
    w->drains++;
    while (most-- > 0 && w->conns_n < CONNS_MAX && w->leases_n < LEASES_MAX && next_action(w, &action)) {
        TELL("%" PRIu64 ": action %d, conn %" PRIx64 ", user %" PRIu64 ", error %d\n", w->now, action.kind, action.conn, action.user,
             action.error);
        if (action.kind == CUEBALL_ACTION_GRANT || action.kind == CUEBALL_ACTION_REFUSE)
            answer_told(w, &action);
        else if (action.kind == CUEBALL_ACTION_RECALL)
            recall_told(w, &action);
        else
            conn_told(w, &action);
        check(w);
        if (!is_helpful)
            continue;
        if (action.kind == CUEBALL_ACTION_OPEN)
            conn_report(w, REPORT_OPENED, action.conn);
        else if (action.kind == CUEBALL_ACTION_CLOSE)
            conn_report(w, REPORT_CLOSED, action.conn);
        else if (action.kind == CUEBALL_ACTION_CHECK)
            conn_report(w, REPORT_FIT, action.conn);
        check(w);
    }
}

/* --------------------------------------------------------------- backends -- */

static const char *const keys[KEYS] = { "a", "b", "c", "d", "e", "f" };

static cueball_backend_spec read_spec(unsigned which)
{
    static const char *const addresses[] = { "10.0.0.1", "10.0.0.2" };
    static const char *const names[] = { NULL, NULL, "n", "a longer name" };
    static const uint32_t weights[] = { 1, 1, 1, 2, 7, 65535 };
    cueball_backend_spec spec = { .key = keys[which % KEYS], .address = addresses[which / 64 % 2], .port = 80 };
    spec.weight = weights[which / 6 % 6];
    spec.priority = which / 36 % 2;
    spec.name = names[which / 36 % 4];
    return spec;
}

static void op_add(world *w)
{
    cueball_backend_spec spec = read_spec(next_byte(w));
    bool may_fail = w->fail_for > 0;
    int result = cueball_pool_backend_added(w->pool, begin(w), &spec);
    TELL("add %s %s weight %u: %d\n", spec.key, spec.address, spec.weight, result);
    MUST(result == CUEBALL_OK || result == CUEBALL_EEXISTS || (result == CUEBALL_ENOMEM && may_fail), "%d", result);
}

static void op_remove(world *w)
{
    const char *key = keys[next_byte(w) % KEYS];
    int result = cueball_pool_backend_removed(w->pool, begin(w), key);
    TELL("remove %s: %d\n", key, result);
    MUST(result == CUEBALL_OK || result == CUEBALL_ENOT_FOUND, "%d", result);
}

static void op_replace(world *w)
{
    cueball_backend_spec specs[8];
    size_t count = next_byte(w) % 8;
    for (size_t i = 0; i < count; i++)
        specs[i] = read_spec(next_byte(w));
    bool may_fail = w->fail_for > 0;
    int result = cueball_pool_backends_replaced(w->pool, begin(w), specs, count);
    TELL("replace by %zu: %d\n", count, result);
    MUST(result == CUEBALL_OK || (result == CUEBALL_ENOMEM && may_fail), "%d", result);
}

/* Connections that are open now are replaced in time. */
static void op_renew(world *w)
{
    unsigned how = next_byte(w);
    const char *key = how & 1 ? keys[how / 2 % KEYS] : NULL;
    double over_ms = ONE_OF(w, 0, 5, 1000, -1, INFINITY, (double)NAN);
    if (!(over_ms >= 0 && over_ms < INFINITY)) {
        MUST(cueball_pool_renew(w->pool, w->now, key, over_ms) == CUEBALL_EINVAL, "renew over %g", over_ms);
        return;
    }
    cueball_time now = begin(w);
    int result = cueball_pool_renew(w->pool, now, key, over_ms);
    TELL("renew %s over %g: %d\n", key ? key : "all", over_ms, result);
    cueball_backend_info info = { .struct_size = sizeof info };
    bool is_known = !key;
    for (uint32_t i = 0; cueball_pool_backend_at(w->pool, i, &info); i++) {
        if (info.removed || (key && strcmp(key, info.key) != 0))
            continue;
        is_known = true;
        for (uint32_t k = 0; k < w->conns_n; k++) {
            conn *one = &w->conns[k];
            cueball_time by = w->known + (cueball_time)(over_ms * 1e6);
            if (one->backend == info.backend && one->state == OPEN && (one->renew_by == 0 || by < one->renew_by))
                one->renew_by = by;
        }
    }
    MUST(result == (is_known ? CUEBALL_OK : CUEBALL_ENOT_FOUND), "renew: %d", result);
}

/* ------------------------------------------------------------ other inputs -- */

static void op_time(world *w)
{
    unsigned how = next_byte(w);
    cueball_time steps = how & 31, deadline;
    switch (how >> 5) {
    case 0:
        w->now += steps;
        break;
    case 1:
        w->now += steps * MS;
        break;
    case 2:
        w->now += steps * 10 * MS;
        break;
    case 3:
        w->now += steps * 1000 * MS;
        break;
    case 4:
        w->now += steps * 3600000 * MS;
        break;
    case 5:
        w->behind = steps * MS;
        break;
    default:
        deadline = cueball_pool_deadline(w->pool);
        if (deadline != CUEBALL_NEVER && deadline > w->now)
            w->now = deadline;
    }
    if (how % 2)
        cueball_pool_time_advanced(w->pool, begin(w));
    TELL("time %" PRIu64 "\n", w->now);
}

static void op_owner(world *w)
{
    unsigned how = next_byte(w);
    owner *meant = &w->owners[how % OWNERS_MAX];
    if (meant->is_gone)
        return;
    if (!meant->owner) {
        bool may_fail = w->fail_for > 0;
        int result = cueball_pool_owner_new(w->pool, &meant->owner);
        MUST(result == CUEBALL_OK || (result == CUEBALL_ENOMEM && may_fail), "%d", result);
        if (result != CUEBALL_OK)
            meant->owner = NULL;
    } else if (how & 64) {
        meant->has_left |= cueball_owner_left(meant->owner);
    } else {
        cueball_owner_gone(meant->owner);
        meant->is_gone = true;
    }
    TELL("owner %u is %s\n", how % OWNERS_MAX, meant->is_gone ? "gone" : meant->has_left ? "away" : "new");
}

static void op_options(world *w)
{
    cueball_options options;
    (void)read_options(w, &options);
    cueball_time now = begin(w);
    cueball_pool_time_advanced(w->pool, now); /* what is due goes by the old ones */
    check(w);
    TELL("options, max_connections %u\n", options.max_connections);
    MUST(cueball_pool_options_changed(w->pool, now, &options) == CUEBALL_OK, "options");
    w->options = options;
}

static void op_stop(world *w)
{
    cueball_time now = begin(w);
    if (!w->is_stopping)
        w->drain_at = w->known + (cueball_time)(w->options.drain_timeout_ms * 1e6);
    w->is_stopping = true;
    w->is_paused = false;
    MUST(cueball_pool_stop(w->pool, now) == CUEBALL_OK, "stop");
    TELL("stop\n");
}

static void op_pause(world *w, bool ends)
{
    if (w->is_set && !ends) {
        MUST(cueball_pool_paused(w->pool, w->now) == CUEBALL_EINVAL, "a set is paused"); /* and hears nothing of the time */
        return;
    }
    cueball_time now = begin(w);
    int result = ends ? cueball_pool_resumed(w->pool, now) : cueball_pool_paused(w->pool, now);
    TELL("%s: %d\n", ends ? "resume" : "pause", result);
    MUST(result == (w->is_stopping ? CUEBALL_EPOOL_STOPPING : CUEBALL_OK), "%d", result);
    if (result != CUEBALL_OK || w->is_paused != ends)
        return;
    w->is_paused = !ends;
    *(ends ? &w->resumed_at : &w->paused_at) = w->known;
    MUST((cueball_pool_paused_since(w->pool) == CUEBALL_NEVER) == ends, "paused or not");
}

/* What is said of each slot adds up to the statistics. */
static void op_slots(world *w)
{
    uint32_t counts[CUEBALL_SLOT_CLOSING + 1] = { 0 };
    cueball_slot_info slot = { .struct_size = sizeof slot };
    cueball_stats stats = { .struct_size = sizeof stats };
    uint32_t known = 0;
    for (uint32_t i = 0; cueball_pool_slot_at(w->pool, i, &slot); i++) {
        MUST(slot.slot == i && slot.since <= w->known && slot.opened_at <= w->known, "slot %u", i);
        counts[slot.state]++;
        known += slot.lease != 0 && lease_find(w, slot.lease) != NULL;
    }
    cueball_pool_stats(w->pool, &stats);
    MUST(counts[CUEBALL_SLOT_IDLE] == stats.idle && counts[CUEBALL_SLOT_BUSY] == stats.busy, "%u idle", counts[CUEBALL_SLOT_IDLE]);
    MUST(counts[CUEBALL_SLOT_BACKOFF] == stats.backing_off && counts[CUEBALL_SLOT_CLOSING] == stats.closing, "%u pause",
         counts[CUEBALL_SLOT_BACKOFF]);
    MUST(known <= w->leases_n, "%u leases of %u", known, w->leases_n);
}

static void op_kill(world *w)
{
    cueball_handle handle = lease_pick(w);
    cueball_time now = begin(w);
    lease *meant = lease_find(w, handle);
    int result = cueball_pool_lease_killed(w->pool, now, handle);
    TELL("kill lease %" PRIx64 ": %d\n", handle, result);
    MUST(result == (meant ? CUEBALL_OK : CUEBALL_ESTALE), "kill: %d", result);
    if (meant)
        lease_taken(w, meant);
}

/* A preview is told, and changes nothing. */
static void op_preview(world *w)
{
    unsigned how = next_byte(w);
    cueball_backend_spec specs[3];
    const char *removed[2] = { keys[how % KEYS], keys[how / 8 % KEYS] };
    cueball_change change = { .struct_size = sizeof change, .added_count = how % 4, .added = specs, .removed = removed };
    change.removed_count = how / 4 % 3;
    for (uint32_t i = 0; i < change.added_count; i++)
        specs[i] = read_spec(next_byte(w));
    cueball_options options = w->options;
    options.max_connections = how & 128 ? how % 7 + 1 : options.max_connections;
    change.options = how & 128 ? &options : NULL;
    cueball_stats before = { .struct_size = sizeof before }, after = before;
    cueball_outlook outlook = *cueball_pool_outlook(w->pool);
    cueball_pool_stats(w->pool, &before);
    cueball_preview told = { .struct_size = sizeof told };
    cueball_preview_backend rows[2 * KEYS];
    bool may_fail = w->fail_for > 0;
    int result = cueball_pool_preview(w->pool, w->now, &change, &told, rows, 2 * KEYS);
    TELL("preview: %d, %u backends, %u opens, %u closes, %g ms\n", result, told.backends, told.opens, told.closes,
         (double)told.settle_time / 1e6);
    MUST(result == CUEBALL_OK || result == CUEBALL_ENOT_FOUND || (result == CUEBALL_EPOOL_STOPPING && w->is_stopping)
             || (result == CUEBALL_ENOMEM && may_fail),
         "%d", result);
    cueball_pool_stats(w->pool, &after);
    MUST(memcmp(&before, &after, sizeof before) == 0, "a preview changes the statistics");
    MUST(memcmp(&outlook, cueball_pool_outlook(w->pool), sizeof outlook) == 0, "a preview changes the outlook");
    uint32_t sum = 0, most = options.max_connections + (uint32_t)w->is_set;
    for (uint32_t i = 0; result == CUEBALL_OK && i < told.backends; i++)
        sum += rows[i].after;
    most = told.settles || before.total < most ? most : before.total; /* it gave up before all went that had to */
    MUST(sum == told.after && told.after <= most, "%u slots of %u, %u at most", sum, told.after, most);
}

/* What people in charge do. */
static void op_manage(world *w)
{
    unsigned how = next_byte(w);
    const char *key = keys[how / 8 % KEYS];
    int result = CUEBALL_OK;
    switch (how % 8) {
    case 0:
        op_pause(w, false);
        break;
    case 1:
        op_pause(w, true);
        break;
    case 2:
    case 3:
        result = cueball_pool_backend_drained(w->pool, begin(w), key);
        TELL("drain %s: %d\n", key, result);
        break;
    case 4:
        result = cueball_pool_backend_restored(w->pool, begin(w), key);
        TELL("restore %s: %d\n", key, result);
        break;
    case 5:
        result = cueball_pool_backend_retried(w->pool, begin(w), how & 128 ? NULL : key);
        TELL("retry %s: %d\n", key, result);
        break;
    case 6:
        op_kill(w);
        break;
    default:
        (how & 128 ? op_slots : op_preview)(w);
    }
    MUST(result == CUEBALL_OK || result == CUEBALL_ENOT_FOUND, "%d", result);
}

static void op_watch(world *w)
{
    unsigned how = next_byte(w);
    bool may_fail = w->fail_for > 0;
    cueball_event event;
    if (how & 1) {
        for (unsigned left = how / 2; left > 0 && cueball_pool_next_event(w->pool, &event); left--)
            MUST(event.time <= w->now && cueball_event_name(event.kind)[0] != 'u', "event %d", event.kind);
        return;
    }
    int result = cueball_pool_watch(w->pool, how & 2 ? UINT32_MAX : how * 40503, how % 16);
    MUST(result == CUEBALL_OK || result == CUEBALL_EINVAL || (result == CUEBALL_ENOMEM && may_fail), "%d", result);
}

static void op_look(world *w)
{
    cueball_backend_info info = { .struct_size = sizeof info };
    cueball_handle handle = handle_invented(w);
    int result = cueball_pool_backend_info(w->pool, handle, &info);
    MUST(result == CUEBALL_OK || result == CUEBALL_ESTALE, "%d", result);
    MUST(result != CUEBALL_OK || info.backend == handle, "another backend");
    double low = cueball_pool_quantile(w->pool, (int)(handle & 1), 0.3), high = cueball_pool_quantile(w->pool, (int)(handle & 1), 0.9);
    MUST(low <= high, "quantiles %g, %g", low, high);
}

static void step(world *w)
{
    unsigned op = next_byte(w);
    switch (op % 20) {
    case 0:
    case 1:
        op_time(w);
        break;
    case 2:
        drain(w, next_byte(w) % 8 + 1, false);
        break;
    case 3:
    case 4:
        drain(w, 200, true);
        break;
    case 5:
    case 6:
        if (op >= 120) {
            op_unfit(w);
            break;
        }
        conn_report(w, (report)(next_byte(w) % REPORTS), conn_pick(w));
        break;
    case 7:
    case 8:
        op_claim(w);
        break;
    case 9:
        op_cancel(w);
        break;
    case 10:
    case 11:
        lease_end(w, op / 20, lease_pick(w));
        break;
    case 12:
        op_add(w);
        break;
    case 13:
        op_remove(w);
        break;
    case 14:
        op_replace(w);
        break;
    case 15:
        if (op & 128)
            cueball_pool_resolver_failed(w->pool, begin(w));
        else
            cueball_pool_resolver_recovered(w->pool, begin(w));
        break;
    case 16:
        op_owner(w);
        break;
    case 17:
        op_options(w);
        break;
    case 18:
        if (op == 18)
            op_stop(w);
        else if (op == 38)
            op_renew(w);
        else if (op == 58)
            op_repeat(w);
        else
            (op & 128 ? op_watch : op == 78 || op == 98 ? op_manage : op_look)(w);
        break;
    default:
        w->fail_after = next_byte(w) % 8;
        w->fail_for = next_byte(w) % 4;
    }
    check(w);
}

/* -------------------------------------------------------------- the finale -- */

/* The planner may give all slots to dead backends; a pool then takes one back for
 * the first that lives. */
static void favour_living(cueball_plan_backend *plan, uint32_t count)
{
    uint32_t last_dead = count, first_living = count;
    for (uint32_t i = 0; i < count; i++) {
        if (!plan[i].dead && plan[i].want > 0)
            return;
        if (plan[i].dead && plan[i].want > 0)
            last_dead = i;
        if (!plan[i].dead && first_living == count)
            first_living = i;
    }
    if (last_dead < count && first_living < count) {
        plan[last_dead].want = 0;
        plan[first_living].want = 1;
    }
}

/* Whether every backend has the slots that the plan gives it, all at rest. */
static bool is_even(const world *w)
{
    cueball_plan_backend plan[KEYS];
    uint64_t scratch[2 * KEYS];
    cueball_backend_info infos[KEYS + 1];
    uint32_t count = 0;
    for (; count < KEYS + 1; count++) {
        infos[count].struct_size = sizeof *infos;
        if (!cueball_pool_backend_at(w->pool, count, &infos[count]))
            break;
    }
    if (count > KEYS)
        return false; /* removed ones are still there */
    bool has_probes = w->options.max_connections > 1;
    uint32_t used = 0, best = UINT32_MAX; /* where there is a single slot, nobody learns that a dead one is back */
    for (uint32_t i = 0; i < count; i++)
        if (infos[i].priority < best && !(infos[i].dead && infos[i].total == 0))
            best = infos[i].priority;
    for (uint32_t i = 0; i < count; i++) {
        if (infos[i].drained)
            return false;
        bool is_dead = infos[i].dead && (has_probes || infos[i].total > 0);
        if (infos[i].removed || is_dead || infos[i].ejected || infos[i].idle != infos[i].total)
            return false;
        if (infos[i].standby != (infos[i].priority > best) || (infos[i].standby && infos[i].total > 0))
            return false;
        if (infos[i].standby || (infos[i].dead && !has_probes))
            continue;
        infos[used] = infos[i];
        plan[used++] = (cueball_plan_backend){ .weight = infos[i].weight, .dead = infos[i].dead };
    }
    count = used;
    cueball_plan(plan, count, w->options.max_connections, w->options.max_connections, w->is_set, scratch);
    favour_living(plan, count);
    for (uint32_t i = 0; i < count; i++)
        if (plan[i].want != infos[i].total)
            return false;
    return true;
}

/* Faults end: the pool has to come back to an even distribution. */
static void heal(world *w)
{
    cueball_options options;
    cueball_options_init(&options);
    options.max_connections = w->options.max_connections;
    span_seen(w, &options);
    cueball_pool_options_changed(w->pool, begin(w), &options);
    w->options = options;
    op_pause(w, true);
    for (unsigned i = 0; i < KEYS; i++)
        (void)cueball_pool_backend_restored(w->pool, begin(w), keys[i]);
    cueball_backend_spec spec = read_spec(0);
    cueball_pool_backend_added(w->pool, begin(w), &spec);
    check(w);
    for (unsigned round = 0; round < HEAL_ROUNDS; round++) {
        while (w->leases_n > 0) {
            lease_end(w, 0, w->leases[0].lease);
            check(w);
        }
        drain(w, UINT32_MAX, true);
        if (w->leases_n == 0 && is_even(w)) {
            MUST(cueball_pool_state_of(w->pool) == CUEBALL_POOL_RUNNING, "healed, and in state %d", cueball_pool_state_of(w->pool));
            return;
        }
        cueball_time deadline = cueball_pool_deadline(w->pool);
        MUST(deadline != CUEBALL_NEVER, "not even, and nothing to wait for");
        if (deadline > w->now)
            w->now = deadline;
        cueball_pool_time_advanced(w->pool, begin(w));
        check(w);
    }
    tell_backends(w);
    FAIL("not even after %d deadlines", HEAL_ROUNDS);
}

static void stop(world *w)
{
    op_stop(w);
    check(w);
    for (unsigned round = 0; round < HEAL_ROUNDS && cueball_pool_state_of(w->pool) != CUEBALL_POOL_STOPPED; round++) {
        drain(w, UINT32_MAX, true);
        cueball_time deadline = cueball_pool_deadline(w->pool);
        if (cueball_pool_state_of(w->pool) == CUEBALL_POOL_STOPPED)
            break;
        MUST(deadline != CUEBALL_NEVER, "stopping, and nothing to wait for");
        if (deadline > w->now)
            w->now = deadline;
        cueball_pool_time_advanced(w->pool, begin(w));
        check(w);
    }
    drain(w, UINT32_MAX, true);
    MUST(cueball_pool_state_of(w->pool) == CUEBALL_POOL_STOPPED, "stopped after %d deadlines", HEAL_ROUNDS);
    MUST(w->leases_n == 0, "%u leases after stop", w->leases_n);
    for (uint32_t i = 0; i < w->conns_n; i++)
        MUST(w->conns[i].state == CLOSING, "conn %" PRIx64 " in state %d after stop", w->conns[i].conn, (int)w->conns[i].state);
    MUST(w->oldest_open == w->claims_n, "claim %u was not answered", w->oldest_open);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const cueball_time origins[] = { 0, 1, 5000 * MS, UINT64_C(1) << 40, UINT64_C(1) << 61 };
    world *w = &the_world;
    memset(w, 0, sizeof *w);
    w->at = bytes;
    w->end = bytes + size;
    unsigned how = next_byte(w);
    w->now = w->known = origins[how % 5];
    w->is_set = read_options(w, &w->options);
    if (how & 64) {
        w->fail_after = next_byte(w) % 4;
        w->fail_for = 1;
    }
    cueball_allocator allocator = { w, fuzz_allocate, fuzz_release };
    unsigned seed = next_byte(w);
    int result = (w->is_set ? cueball_set_new : cueball_pool_new)(&w->options, &allocator, seed, w->now, &w->pool);
    if (result == CUEBALL_OK) {
        check(w);
        while (w->at < w->end && w->conns_n < CONNS_MAX)
            step(w);
        w->fail_for = 0;
        if (!(how & 128)) {
            drain(w, UINT32_MAX, true);
            for (int i = 0; i < OWNERS_MAX && !w->is_stopping; i++)
                if (w->owners[i].owner && !w->owners[i].is_gone) {
                    cueball_owner_gone(w->owners[i].owner);
                    w->owners[i].is_gone = true;
                }
            if (!w->is_stopping)
                heal(w);
            stop(w);
        }
        cueball_pool_free(w->pool);
    } else {
        MUST(result == CUEBALL_ENOMEM && w->pool == NULL, "%d", result);
    }
    MUST(w->held == 0, "%zu bytes are left", w->held);
    return 0;
}
