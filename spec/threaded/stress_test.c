/* Many threads on one pool whose host misbehaves: see faulty_host.c for the faults.  Threads claim, wait, hold, give back in
 * every way, hand leases to others, end with leases, are cancelled while they wait and while they hold.  In the middle the
 * pool stops.  What must hold: a connection is in the hands of one; every claim is answered; what is given back is counted
 * once; at the end no byte, no descriptor and no connection is left.
 *
 *     threaded_stress --seed 5 --threads 64 --ms 1000 [--dummy] [--inspects] [--abandon] [--no-cancel]
 *
 * The choices of each thread come from the seed; what they meet depends on the machine. */
#include "faulty_host.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>

enum { HANDS = 3, THREADS_MAX = 1000, SHELF = 8, ERRORS = 20, GRANTED_MIN = 500 };

typedef struct hand {
    cueball_lease lease;
    faulty_conn *conn;
    uint64_t token;
    bool is_detached;
} test_hand;

typedef struct claimer {
    pthread_t thread;
    unsigned number;
    kit_chance chance;
    uint64_t tokens;
    test_hand hands[HANDS];
    unsigned held;
    bool is_cancelled;
    _Atomic bool has_ended;
    uint64_t claims, granted, ended, answers[ERRORS]; /* read by main when the thread has ended */
} test_claimer;

static struct {
    uint64_t seed;
    unsigned threads, ms;
    bool is_dummy, inspects, abandons, spares; /* spares: nobody is cancelled */
} run = { .seed = 1, .threads = 64, .ms = 1000 };

static cueball_threaded *pool;
static _Atomic bool is_over, is_stopping;
static _Atomic uint64_t granted_to_all;
static test_claimer claimers[THREADS_MAX];

/* Leases on their way from one thread to another. */
static struct {
    pthread_mutex_t lock;
    test_hand hands[SHELF];
    unsigned count;
} shelf = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ------------------------------------------------------------- what is held -- */

/* From here on the thread may end with what it holds, and back. */
static void claimer_may_end(test_claimer *claimer)
{
    for (unsigned i = 0; i < claimer->held; i++)
        atomic_fetch_or_explicit(&claimer->hands[i].conn->holder, HOLDER_GONE, memory_order_relaxed);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
}

static void claimer_stays(test_claimer *claimer)
{
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    for (unsigned i = 0; i < claimer->held; i++)
        atomic_fetch_and_explicit(&claimer->hands[i].conn->holder, ~(uint64_t)HOLDER_GONE, memory_order_relaxed);
}

static test_hand claimer_let_go(test_claimer *claimer, unsigned index)
{
    MUST(index < claimer->held, "nothing there");
    test_hand hand = claimer->hands[index];
    claimer->hands[index] = claimer->hands[--claimer->held];
    return hand;
}

/* Zero, or stale where the pool may have taken the lease away. */
static void must_be_over(int result, const cueball_lease *lease)
{
    MUST(result == CUEBALL_OK || (result == CUEBALL_ESTALE && atomic_load(&is_stopping)), "a lease in hand: %s",
         cueball_error_message(result));
    MUST(result != CUEBALL_OK || lease->pool == NULL, "over, and still a lease");
}

static int lease_end(test_claimer *claimer, cueball_lease *lease)
{
    switch (chance_below(&claimer->chance, 20)) {
    case 0:
        return cueball_lease_close(lease);
    case 1:
        return cueball_lease_fail(lease, "the answer made no sense");
    case 2:
        return cueball_lease_fail(lease, NULL);
    default:
        return cueball_lease_release(lease);
    }
}

static void claimer_give_back(test_claimer *claimer, unsigned index)
{
    test_hand hand = claimer_let_go(claimer, index);
    cueball_lease copy = hand.lease;
    if (chance_is(&claimer->chance, 0.1)) {
        int result = cueball_lease_report(&hand.lease, chance_is(&claimer->chance, 0.5));
        MUST(result == CUEBALL_OK || result == CUEBALL_ESTALE, "report: %d", result);
    }
    lease_leave(hand.conn, hand.token);
    must_be_over(lease_end(claimer, &hand.lease), &hand.lease);
    claimer->ended++;
    if (chance_is(&claimer->chance, 0.05)) {
        int result = lease_end(claimer, &copy);
        MUST(result == CUEBALL_ESTALE, "ended twice: %d", result);
    }
}

/* ------------------------------------------------------------------- shelf -- */

static void claimer_hand_over(test_claimer *claimer, unsigned index)
{
    test_hand hand = claimer_let_go(claimer, index);
    bool is_detached = chance_is(&claimer->chance, 0.5);
    /* One that is not detached ends with this thread, wherever it is. */
    atomic_fetch_or_explicit(&hand.conn->holder, HOLDER_GONE, memory_order_relaxed);
    if (is_detached || hand.is_detached) {
        hand.is_detached = true;
        int result = cueball_lease_detach(&hand.lease);
        MUST(result == CUEBALL_OK || (result == CUEBALL_ESTALE && atomic_load(&is_stopping)), "detach: %d", result);
    }
    pthread_mutex_lock(&shelf.lock);
    bool has_room = shelf.count < SHELF;
    if (has_room)
        shelf.hands[shelf.count++] = hand;
    pthread_mutex_unlock(&shelf.lock);
    if (!has_room) {
        atomic_fetch_and_explicit(&hand.conn->holder, ~(uint64_t)HOLDER_GONE, memory_order_relaxed);
        claimer->hands[claimer->held++] = hand;
    }
}

/* A lease that was not detached may have ended with its thread meanwhile: then its connection is not touched. */
static void claimer_take_over(test_claimer *claimer)
{
    test_hand hand;
    pthread_mutex_lock(&shelf.lock);
    bool has_one = shelf.count > 0;
    if (has_one)
        hand = shelf.hands[--shelf.count];
    pthread_mutex_unlock(&shelf.lock);
    if (!has_one)
        return;
    int result = cueball_lease_adopt(&hand.lease);
    if (result == CUEBALL_ESTALE) {
        MUST(!hand.is_detached || atomic_load(&is_stopping), "a detached lease ended by itself");
        cueball_lease_release(&hand.lease); /* a connection that was shut down under it is waited for */
        return;
    }
    MUST(result == CUEBALL_OK, "adopt: %d", result);
    hand.is_detached = false;
    atomic_fetch_and_explicit(&hand.conn->holder, ~(uint64_t)HOLDER_GONE, memory_order_relaxed);
    claimer->hands[claimer->held++] = hand;
}

/* ------------------------------------------------------------------ claims -- */

static bool is_answer(int result, bool waits)
{
    switch (result) {
    case CUEBALL_OK:
    case CUEBALL_ECLAIM_TIMEOUT:
    case CUEBALL_EPOOL_FAILED:
        return true;
    case CUEBALL_EOVERLOADED:
    case CUEBALL_ENO_BACKENDS:
        return waits;
    case CUEBALL_EPOOL_STOPPING:
        return atomic_load(&is_stopping);
    default:
        return false;
    }
}

static void claimer_answered(test_claimer *claimer, int result, bool waits, const cueball_lease *lease, bool is_nonblocking,
                             bool is_detached)
{
    MUST(is_answer(result, waits), "claim: %s", cueball_error_message(result));
    MUST(result == CUEBALL_OK || (lease->pool == NULL && cueball_last_error()[0]), "refused, with a lease or without a word");
    claimer->claims++;
    claimer->answers[-result]++;
    if (result != CUEBALL_OK)
        return;
    claimer->granted++, granted_to_all++;
    uint64_t token = ((uint64_t)claimer->number + 1) << 40 | ++claimer->tokens << 1;
    test_hand hand = { .lease = *lease, .token = token, .conn = lease_take(lease, token), .is_detached = is_detached };
    if (lease->fd >= 0) {
        int flags = fcntl(lease->fd, F_GETFL);
        MUST(!(flags & O_NONBLOCK) == !is_nonblocking, "a descriptor with flags %o", (unsigned)flags);
    }
    claimer->hands[claimer->held++] = hand;
}

/* A thread that has leases does not wait for long: those who wait for each other would wait for ever. */
static void claimer_claim(test_claimer *claimer)
{
    cueball_lease lease = { 0 };
    kit_chance *chance = &claimer->chance;
    double timeout_ms = chance_is(chance, 0.1) ? 0 : (double)(1 + chance_below(chance, 20));
    bool for_ever = claimer->held == 0 && chance_is(chance, 0.3);
    cueball_threaded_claim_options options = { .struct_size = sizeof options,
                                               .error_on_empty = chance_is(chance, 0.1),
                                               .nonblocking = chance_is(chance, 0.2),
                                               .timeout_ms = for_ever            ? INFINITY
                                                             : claimer->held > 0 ? 1
                                                                                 : timeout_ms };
    bool is_plain = chance_is(chance, 0.5);
    claimer_may_end(claimer);
    int result = is_plain ? cueball_threaded_claim(pool, options.timeout_ms, &lease) : cueball_threaded_claim_with(pool, &options, &lease);
    claimer_stays(claimer);
    claimer_answered(claimer, result, true, &lease, !is_plain && options.nonblocking, false);
}

static void claimer_try(test_claimer *claimer)
{
    cueball_lease lease = { 0 };
    int result = cueball_threaded_try_claim(pool, &lease);
    claimer_answered(claimer, result, false, &lease, false, false);
}

/* -------------------------------------------------------------------- rest -- */

static void claimer_look(test_claimer *claimer)
{
    char text[400] = "";
    cueball_stats stats = { .struct_size = sizeof stats };
    cueball_threaded *found = NULL;
    switch (chance_below(&claimer->chance, 4)) {
    case 0:
        cueball_threaded_stats(pool, &stats);
        MUST(stats.busy + stats.idle <= stats.total, "%u busy and %u idle of %u", stats.busy, stats.idle, stats.total);
        break;
    case 1:
        MUST(cueball_threaded_explain(pool, text, sizeof text) >= 0, "explain");
        MUST(cueball_threaded_state(pool) <= CUEBALL_POOL_STOPPED, "state");
        break;
    case 2:
        if (cueball_threaded_find("stress", &found) == CUEBALL_OK) {
            MUST(found == pool && strcmp(cueball_threaded_name(found), "stress") == 0, "another pool");
            cueball_threaded_drop(found);
        } else {
            MUST(atomic_load(&is_stopping), "it has no name");
        }
        break;
    default:
        if (claimer->held > 0) {
            cueball_threaded_backend backend = { 0 };
            backend.struct_size = sizeof backend;
            int result = cueball_lease_backend(&claimer->hands[0].lease, &backend);
            MUST((result == CUEBALL_OK && backend.key[0] == 'b') || (result == CUEBALL_ESTALE && atomic_load(&is_stopping)), "backend: %d",
                 result);
            cueball_lease_explain(&claimer->hands[0].lease, text, sizeof text);
        }
    }
}

static void claimer_hold(test_claimer *claimer)
{
    switch (chance_below(&claimer->chance, 4)) {
    case 0:
        sched_yield();
        break;
    case 1:
        usleep((useconds_t)chance_below(&claimer->chance, 1000));
        claimer_may_end(claimer);
        pthread_testcancel(); /* not in usleep(): the thread sanitizer would lose sight of the thread */
        claimer_stays(claimer);
        break;
    default:
        break;
    }
}

static void claimer_step(test_claimer *claimer)
{
    uint64_t choice = chance_below(&claimer->chance, 100);
    unsigned index = claimer->held ? (unsigned)chance_below(&claimer->chance, claimer->held) : 0;
    if (claimer->held == HANDS || (claimer->held > 0 && choice < 50))
        claimer_give_back(claimer, index);
    else if (choice < 80)
        claimer_claim(claimer);
    else if (choice < 88)
        claimer_try(claimer);
    else if (choice < 91)
        claimer_take_over(claimer);
    else if (choice < 94 && claimer->held > 0)
        claimer_hand_over(claimer, index);
    else if (choice < 97)
        claimer_look(claimer);
    claimer_hold(claimer);
    if (atomic_load(&is_stopping))
        usleep(1000);
}

/* Ends by itself now and then, with all that it holds. */
static void *claimer_run(void *argument)
{
    test_claimer *claimer = argument;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    pthread_cleanup_push(ended_set, &claimer->has_ended);
    for (uint64_t steps = 50 + chance_below(&claimer->chance, 5000); steps > 0 && !atomic_load(&is_over); steps--)
        claimer_step(claimer);
    for (unsigned i = 0; i < claimer->held; i++)
        atomic_fetch_or_explicit(&claimer->hands[i].conn->holder, HOLDER_GONE, memory_order_relaxed);
    if (chance_is(&claimer->chance, 0.5))
        pthread_exit(NULL);
    pthread_cleanup_pop(1);
    return NULL;
}

static void claimer_start(test_claimer *claimer)
{
    claimer->held = 0;
    claimer->is_cancelled = false;
    atomic_store(&claimer->has_ended, false);
    MUST(pthread_create(&claimer->thread, NULL, claimer_run, claimer) == 0, "pthread_create");
}

/* -------------------------------------------------------------------- main -- */

typedef struct tally {
    uint64_t claims, granted, ended, lives, cancelled, answers[ERRORS];
} test_tally;

static void tally_join(test_tally *tally, test_claimer *claimer)
{
    MUST(pthread_join(claimer->thread, NULL) == 0, "pthread_join");
    tally->lives++;
    tally->cancelled += claimer->is_cancelled;
    tally->claims += claimer->claims;
    tally->granted += claimer->granted;
    tally->ended += claimer->ended;
    for (int i = 0; i < ERRORS; i++)
        tally->answers[i] += claimer->answers[i];
    claimer->claims = claimer->granted = claimer->ended = 0;
    memset(claimer->answers, 0, sizeof claimer->answers);
}

/* New threads for those that ended; some are cancelled, wherever they are.  A machine may stand still for all of the time. */
static void tend(test_tally *tally, kit_chance *chance, unsigned ms)
{
    cueball_time end = cueball_clock_now() + (cueball_time)ms * 1000000;
    while (cueball_clock_now() < end || atomic_load(&granted_to_all) < GRANTED_MIN) {
        for (unsigned i = 0; i < run.threads; i++)
            if (atomic_load(&claimers[i].has_ended)) {
                tally_join(tally, &claimers[i]);
                claimer_start(&claimers[i]);
            }
        test_claimer *picked = &claimers[chance_below(chance, run.threads)];
        if (!picked->is_cancelled && !run.spares && chance_is(chance, 0.3)) {
            picked->is_cancelled = true;
            pthread_cancel(picked->thread);
        }
        usleep(1000);
    }
}

static faulty_options faults(void)
{
    faulty_options options;
    faulty_options_init(&options);
    options.seed = run.seed;
    options.name = "stress";
    options.has_descriptors = !run.is_dummy;
    options.inspects = run.inspects;
    options.clocks = run.seed % 2 == 0;
    options.open_ms = 2;
    options.open_fails = 0.1;
    options.open_hangs = 0.02;
    options.check_fails = 0.1;
    options.inspection_fails = 0.02;
    options.breaks = options.stray_bytes = 100;
    options.backend_changes = 50;
    options.option_changes = 50;
    options.own_claims = 100;
    options.pool.drain_timeout_ms = 30;
    return options;
}

static void arguments_read(int count, char **words)
{
    for (int i = 1; i < count; i++) {
        const char *value = i + 1 < count ? words[i + 1] : "";
        if (strcmp(words[i], "--dummy") == 0)
            run.is_dummy = true;
        else if (strcmp(words[i], "--inspects") == 0)
            run.inspects = true;
        else if (strcmp(words[i], "--abandon") == 0)
            run.abandons = true;
        else if (strcmp(words[i], "--no-cancel") == 0)
            run.spares = true;
        else if (strcmp(words[i], "--seed") == 0)
            run.seed = strtoull(value, NULL, 10), i++;
        else if (strcmp(words[i], "--threads") == 0)
            run.threads = (unsigned)strtoul(value, NULL, 10), i++;
        else if (strcmp(words[i], "--ms") == 0)
            run.ms = (unsigned)strtoul(value, NULL, 10), i++;
        else
            MUST(false, "no such option: %s", words[i]);
    }
    MUST(run.threads > 0 && run.threads <= THREADS_MAX, "%u threads", run.threads);
}

static void shelf_clear(void)
{
    for (; shelf.count > 0; shelf.count--) {
        test_hand *hand = &shelf.hands[shelf.count - 1];
        if (cueball_lease_adopt(&hand->lease) == CUEBALL_OK)
            lease_leave(hand->conn, hand->token);
        cueball_lease_close(&hand->lease);
    }
}

static void compare(const test_tally *tally, const cueball_stats *last, uint64_t own_grants)
{
    uint64_t answered = last->granted + last->claim_timeouts + last->claims_refused + last->claims_cancelled + last->waiting;
    MUST(last->claims == answered, "%llu claims, %llu answers", (unsigned long long)last->claims, (unsigned long long)answered);
    if (run.abandons) /* what threads did in their last turns was not told; nor is it of leases that were revoked */
        return;
    uint64_t granted = last->granted - own_grants;
    MUST(last->leases_revoked > 0 || tally->granted <= granted, "%llu grants, more were seen", (unsigned long long)granted);
    /* A claim whose connection broke at rest closes it, and is granted another. */
    uint64_t unseen = tally->cancelled + (run.is_dummy ? 0 : last->leases_closed);
    MUST(granted <= tally->granted + unseen, "%llu grants, %llu seen", (unsigned long long)granted, (unsigned long long)tally->granted);
    uint64_t ended = last->released + last->leases_closed + last->leases_failed + last->leases_revoked;
    MUST(ended == last->granted, "%llu leases, %llu ended", (unsigned long long)last->granted, (unsigned long long)ended);
    MUST(last->waiting == 0, "%u still wait", last->waiting);
}

static void run_all(test_tally *tally, counted_memory *memory)
{
    faulty_options options = faults();
    cueball_stats last = { .struct_size = sizeof last };
    faulty_host *host = faulty_host_start(&options, memory);
    kit_chance chance = chance_of(run.seed, 1);
    pool = faulty_host_pool(host);
    for (unsigned i = 0; i < run.threads; i++) {
        claimers[i].number = i;
        claimers[i].chance = chance_of(run.seed, 2 + i);
        claimer_start(&claimers[i]);
    }
    tend(tally, &chance, run.ms * 3 / 4);
    atomic_store(&is_stopping, true);
    if (run.abandons)
        faulty_host_abandon(host);
    else
        faulty_host_stop(host);
    tend(tally, &chance, run.ms / 4);
    atomic_store(&is_over, true);
    for (unsigned i = 0; i < run.threads; i++)
        tally_join(tally, &claimers[i]);
    shelf_clear();
    faulty_host_join(host, &last);
    compare(tally, &last, faulty_host_own_grants(host));
    faulty_host_free(host);
}

int main(int count, char **words)
{
    arguments_read(count, words);
    must_describe("threaded_stress --seed %llu --threads %u --ms %u%s%s%s%s", (unsigned long long)run.seed, run.threads, run.ms,
                  run.is_dummy ? " --dummy" : "", run.inspects ? " --inspects" : "", run.abandons ? " --abandon" : "",
                  run.spares ? " --no-cancel" : "");
    printf("seed %llu, %u threads, %u ms\n", (unsigned long long)run.seed, run.threads, run.ms);
    fflush(stdout);
    must_end_within(120 + run.ms / 100);
    unsigned before = descriptors_open();
    counted_memory memory = { 0 };
    test_tally tally = { 0 };
    run_all(&tally, &memory);
    MUST(atomic_load(&memory.held) == 0, "%zu bytes are left", atomic_load(&memory.held));
    MUST(descriptors_open() == before, "%u descriptors, and there were %u", descriptors_open(), before);
    printf("%llu lives of threads, %llu cancelled\n%llu claims:", (unsigned long long)tally.lives, (unsigned long long)tally.cancelled,
           (unsigned long long)tally.claims);
    for (int i = 0; i < ERRORS; i++)
        if (tally.answers[i])
            printf(" %llu %s", (unsigned long long)tally.answers[i], i == 0 ? "granted" : cueball_error_name(-i));
    putchar('\n');
    return 0;
}
