/* What the benches of threads in C share: options, threads, clocks, the histogram of waits, the line that is printed.
 * The peers in other languages do the same, in their own words.
 *
 * A program defines _POSIX_C_SOURCE and `struct peer_lease`, includes this, and defines the functions of "the peer"
 * below, which are compiled into the loop that is measured.
 *
 *     --threads N --connections N --held nothing | yield | sleep --seconds S --warmup S --measure rate | wait | memory
 *
 * The line that is printed has words of the form name=value.  Two clocks around a claim cost as much as the claim, so waits are
 * measured in runs of their own. */
#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)
#define STACK_BYTES ((size_t)128 * 1024)
#define LINE_BYTES 128 /* two cache lines: the processor fetches them in pairs */

/* -------------------------------------------------------------- the peer -- */

typedef struct peer_lease peer_lease;

static const char *peer_name(void);
static bool peer_option(const char *name, const char *value); /* an option of its own; false: there is none of this name */
static void peer_open(uint32_t connections);                  /* returns once they are all open */
static void peer_over(void);                                  /* what was measured is over: threads end after their next release */
static void peer_close(void);
static inline void peer_claim(peer_lease *lease); /* waits as long as it takes */
static inline void peer_release(peer_lease *lease);

static void must(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "bench/threads: not so: %s\n", what);
    exit(1);
}

#define MUST(condition) must(condition, #condition)

/* --------------------------------------------------------------- options -- */

enum held { HELD_NOTHING, HELD_YIELD, HELD_SLEEP };
enum measure { MEASURE_RATE, MEASURE_WAIT, MEASURE_MEMORY };
static const char *const HELD_NAMES[] = { "nothing", "yield", "sleep", NULL };
static const char *const MEASURE_NAMES[] = { "rate", "wait", "memory", NULL };

static struct {
    uint32_t threads, connections;
    int held, measure;
    double seconds, warmup;
} given = { .threads = 1, .connections = 10, .held = HELD_NOTHING, .measure = MEASURE_RATE, .seconds = 1, .warmup = 1 };

static int one_of(const char *const *names, const char *name)
{
    for (int i = 0; names[i]; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    fprintf(stderr, "bench/threads: what is %s?\n", name);
    exit(2);
}

static void options_read(int count, char **words)
{
    for (int i = 1; i < count; i += 2) {
        const char *name = words[i], *value = i + 1 < count ? words[i + 1] : "";
        if (strcmp(name, "--threads") == 0)
            given.threads = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(name, "--connections") == 0)
            given.connections = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(name, "--held") == 0)
            given.held = one_of(HELD_NAMES, value);
        else if (strcmp(name, "--measure") == 0)
            given.measure = one_of(MEASURE_NAMES, value);
        else if (strcmp(name, "--seconds") == 0)
            given.seconds = strtod(value, NULL);
        else if (strcmp(name, "--warmup") == 0)
            given.warmup = strtod(value, NULL);
        else if (!peer_option(name, value)) {
            fprintf(stderr, "bench/threads: there is no option %s\n", name);
            exit(2);
        }
    }
    MUST(given.threads > 0 && given.connections > 0 && given.seconds > 0);
}

/* ------------------------------------------------------------ the machine -- */

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

static uint64_t sleep_ns(uint64_t span)
{
    uint64_t began = clock_ns(CLOCK_MONOTONIC);
    struct timespec rest = { .tv_sec = (time_t)(span / SECOND), .tv_nsec = (long)(span % SECOND) };
    while (nanosleep(&rest, &rest) != 0)
        ;
    return clock_ns(CLOCK_MONOTONIC) - began;
}

static size_t resident_bytes(void)
{
    unsigned long all = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    MUST(file);
    MUST(fscanf(file, "%lu %lu", &all, &resident) == 2);
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* ------------------------------------------------------------- histogram -- */

/* Buckets of a 32nd of their power of two: what they tell is at most 3 % too much. */
#define BUCKETS (60 * 32)

static uint32_t bucket_of(uint64_t ns)
{
    if (ns < 32)
        return (uint32_t)ns;
    uint32_t shift = 58 - (uint32_t)__builtin_clzll(ns);
    return shift * 32 + (uint32_t)(ns >> shift);
}

static uint64_t bucket_most(uint32_t bucket)
{
    uint32_t shift = bucket < 64 ? 0 : bucket / 32 - 1;
    return (((uint64_t)bucket - shift * 32 + 1) << shift) - 1;
}

/* --------------------------------------------------------------- threads -- */

typedef struct worker {
    alignas(LINE_BYTES) _Atomic uint64_t pairs; /* written by its thread alone */
    uint64_t slept_ns, sleeps;                  /* those that began and ended within the window */
    uint64_t began, half, ended;                /* pairs at these times; the main thread's */
    uint32_t *waits;
    pthread_t thread;
} worker;

/* When the measured window begins and ends: a wait counts if any of it lies within, so that one who starves is seen.  Read seldom
 * written, apart from what is written often. */
static struct {
    alignas(LINE_BYTES) _Atomic uint64_t begin, end;
    _Atomic bool is_over;
} window = { .begin = UINT64_MAX, .end = UINT64_MAX };

static inline bool window_is_over(void)
{
    return atomic_load_explicit(&window.is_over, memory_order_relaxed);
}

static inline void worker_hold(worker *self)
{
    if (given.held == HELD_YIELD)
        sched_yield();
    else if (given.held == HELD_SLEEP) {
        bool counts = atomic_load_explicit(&window.begin, memory_order_relaxed) != UINT64_MAX;
        uint64_t slept = sleep_ns(SECOND / 1000);
        counts = counts && !window_is_over();
        self->slept_ns += counts ? slept : 0;
        self->sleeps += counts;
    }
}

static inline void worker_count(worker *self)
{
    uint64_t pairs = atomic_load_explicit(&self->pairs, memory_order_relaxed);
    atomic_store_explicit(&self->pairs, pairs + 1, memory_order_relaxed);
}

static void *worker_rate(void *given_self)
{
    worker *self = given_self;
    while (!window_is_over()) {
        peer_lease lease;
        peer_claim(&lease);
        worker_hold(self);
        peer_release(&lease);
        worker_count(self);
    }
    return NULL;
}

static void *worker_wait(void *given_self)
{
    worker *self = given_self;
    while (!window_is_over()) {
        peer_lease lease;
        uint64_t asked = clock_ns(CLOCK_MONOTONIC);
        peer_claim(&lease);
        uint64_t got = clock_ns(CLOCK_MONOTONIC);
        if (got >= atomic_load_explicit(&window.begin, memory_order_relaxed)
            && asked < atomic_load_explicit(&window.end, memory_order_relaxed))
            self->waits[bucket_of(got - asked)]++;
        worker_hold(self);
        peer_release(&lease);
        worker_count(self);
    }
    return NULL;
}

static worker *workers_start(void)
{
    worker *workers = aligned_alloc(LINE_BYTES, given.threads * sizeof *workers);
    pthread_attr_t attributes;
    MUST(workers && pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0);
    memset(workers, 0, given.threads * sizeof *workers);
    for (uint32_t i = 0; i < given.threads; i++) {
        worker *self = &workers[i];
        self->waits = calloc(BUCKETS, sizeof *self->waits);
        MUST(self->waits);
        MUST(pthread_create(&self->thread, &attributes, given.measure == MEASURE_WAIT ? worker_wait : worker_rate, self) == 0);
    }
    pthread_attr_destroy(&attributes);
    return workers;
}

static void workers_join(worker *workers)
{
    for (uint32_t i = 0; i < given.threads; i++)
        MUST(pthread_join(workers[i].thread, NULL) == 0);
}

/* ---------------------------------------------------------------- report -- */

static void report_waits(const worker *workers)
{
    static const double QUANTILES[] = { 0.5, 0.99, 0.999, 0.9999, 1 };
    static const char *const NAMES[] = { "p50", "p99", "p99.9", "p99.99", "longest" };
    static uint64_t sum[BUCKETS];
    uint64_t total = 0, below = 0;
    for (uint32_t b = 0; b < BUCKETS; b++) {
        for (uint32_t i = 0; i < given.threads; i++)
            sum[b] += workers[i].waits[b];
        total += sum[b];
    }
    for (uint32_t q = 0, b = 0; q < 5 && total; q++) {
        while (b < BUCKETS && (double)(below + sum[b]) < QUANTILES[q] * (double)total)
            below += sum[b++];
        printf(" %s=%llu", NAMES[q], (unsigned long long)bucket_most(b < BUCKETS ? b : BUCKETS - 1));
    }
}

static void report(const worker *workers, uint64_t span, uint64_t cpu)
{
    uint64_t all = 0, first = 0, slept = 0, sleeps = 0, least = UINT64_MAX, most = 0;
    for (uint32_t i = 0; i < given.threads; i++) {
        const worker *one = &workers[i];
        uint64_t pairs = one->ended - one->began;
        all += pairs;
        first += one->half - one->began;
        least = pairs < least ? pairs : least;
        most = pairs > most ? pairs : most;
        slept += one->slept_ns;
        sleeps += one->sleeps;
    }
    printf("peer=%s measure=%s threads=%u connections=%u held=%s seconds=%.3f", peer_name(), MEASURE_NAMES[given.measure], given.threads,
           given.connections, HELD_NAMES[given.held], (double)span / 1e9);
    printf(" pairs_s=%.0f least=%llu mean=%.1f most=%llu cpu_s=%.3f first_half=%.3f", (double)all * 1e9 / (double)span,
           (unsigned long long)least, (double)all / given.threads, (unsigned long long)most, (double)cpu / 1e9,
           all ? (double)first / (double)all : 0);
    if (given.held == HELD_SLEEP)
        printf(" held_ns=%.0f", sleeps ? (double)slept / (double)sleeps : 0);
    if (given.measure == MEASURE_WAIT)
        report_waits(workers);
    printf("\n");
}

static void report_memory(size_t resident)
{
    printf("peer=%s measure=memory connections=%u resident=%.1f\n", peer_name(), given.connections,
           (double)(resident_bytes() - resident) / given.connections);
}

int main(int count, char **words)
{
    options_read(count, words);
    size_t resident = resident_bytes();
    peer_open(given.connections);
    if (given.measure == MEASURE_MEMORY) {
        report_memory(resident);
        peer_close();
        return 0;
    }
    worker *workers = workers_start();
    sleep_ns((uint64_t)(given.warmup * 1e9));
    for (uint32_t i = 0; i < given.threads; i++)
        workers[i].began = workers[i].pairs;
    uint64_t begin = clock_ns(CLOCK_MONOTONIC), cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    window.begin = begin;
    sleep_ns((uint64_t)(given.seconds * 5e8));
    for (uint32_t i = 0; i < given.threads; i++)
        workers[i].half = workers[i].pairs;
    sleep_ns((uint64_t)(given.seconds * 5e8));
    for (uint32_t i = 0; i < given.threads; i++)
        workers[i].ended = workers[i].pairs;
    uint64_t end = clock_ns(CLOCK_MONOTONIC);
    cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    window.end = end;
    window.is_over = true;
    peer_over();
    workers_join(workers);
    report(workers, end - begin, cpu);
    peer_close();
    return 0;
}
