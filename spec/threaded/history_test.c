/* Random histories of claims, tries and ends by several threads, each judged: see history.h.  Run by history_spec.lua.
 *
 *     threaded_history --seed 7 --runs 20 [--plant FAULT] [--descriptors]
 *
 * A planted fault is something that the program does behind its own back; the judge has to find it. */
#include "faulty_host.h"
#include "history.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CLAIMERS_MAX = 32, SAMPLES_MAX = 3000, TURN_LEASES = 16 };

typedef enum plant {
    PLANT_NONE,
    PLANT_SHARED,
    PLANT_POCKETED,
    PLANT_REFUSED,
    PLANT_OVERTAKEN,
    PLANT_TWICE,
    PLANT_UNANSWERED,
    PLANT_EARLY
} test_plant;
static const char *const plant_names[] = { "none", "shared", "pocketed", "refused", "overtaken", "twice", "unanswered", "early" };

static struct {
    uint64_t seed;
    unsigned runs;
    int plant;
    bool has_descriptors;
} run = { .seed = 1, .runs = 10 };

/* What one run is about. */
typedef struct scene {
    uint64_t seed;
    unsigned claimers, connections, operations;
    bool is_steady; /* connections are only released */
    bool has_turns;
    double pauses; /* share of leases that are held for a while */
    cueball_threaded *pool;
} test_scene;

typedef struct claimer {
    pthread_t thread;
    test_scene *scene;
    kit_chance chance;
    uint64_t number, leases;
    history_operation *operations;
    uint32_t operations_n, room;
} test_claimer;

static _Atomic uint64_t stamps;
static _Atomic bool is_over;

static uint64_t stamp(void)
{
    return atomic_fetch_add(&stamps, 1) + 1;
}

static double now_ms(void)
{
    return (double)cueball_clock_now() / 1e6;
}

static bool plants(test_claimer *claimer, int plant)
{
    return run.plant == plant && chance_is(&claimer->chance, 0.2);
}

static history_operation *claimer_begins(test_claimer *claimer, int kind)
{
    MUST(claimer->operations_n < claimer->room, "%u operations", claimer->room);
    history_operation *made = &claimer->operations[claimer->operations_n++];
    *made = (history_operation){ .kind = kind, .invoked = stamp() };
    return made;
}

static void claimer_pause(test_claimer *claimer)
{
    if (!chance_is(&claimer->chance, claimer->scene->pauses))
        return;
    if (chance_is(&claimer->chance, 0.5))
        sched_yield();
    else
        usleep((useconds_t)chance_below(&claimer->chance, 500));
}

/* ------------------------------------------------------------------ claims -- */

static int claimer_asks(test_claimer *claimer, history_operation *asked, cueball_lease *lease)
{
    if (asked->kind == OPERATION_TRY)
        return cueball_threaded_try_claim(claimer->scene->pool, lease);
    asked->timeout_ms = chance_is(&claimer->chance, 0.7) ? INFINITY : (double)chance_below(&claimer->chance, 1500) / 1000 + 0.001;
    cueball_time began = cueball_clock_now();
    int result = cueball_threaded_claim(claimer->scene->pool, asked->timeout_ms, lease);
    asked->took_ms = (double)(cueball_clock_now() - began) / 1e6;
    if (plants(claimer, PLANT_EARLY))
        asked->took_ms /= 2;
    return result;
}

static faulty_conn *claimer_claims(test_claimer *claimer, cueball_lease *lease, uint64_t *id)
{
    history_operation *asked = claimer_begins(claimer, chance_is(&claimer->chance, 0.2) ? OPERATION_TRY : OPERATION_CLAIM);
    asked->result = claimer_asks(claimer, asked, lease);
    if (!plants(claimer, PLANT_UNANSWERED))
        asked->answered = stamp();
    MUST(asked->result == CUEBALL_OK || asked->result == CUEBALL_ECLAIM_TIMEOUT, "claim: %s", cueball_error_message(asked->result));
    if (asked->result != CUEBALL_OK)
        return NULL;
    *id = claimer->number << 32 | ++claimer->leases;
    faulty_conn *conn = lease_take(lease, *id << 1);
    asked->lease = *id;
    asked->conn = conn->number;
    return conn;
}

/* -------------------------------------------------------------------- ends -- */

static int claimer_end(test_claimer *claimer, cueball_lease *lease)
{
    if (!claimer->scene->is_steady && chance_is(&claimer->chance, 0.1))
        return chance_is(&claimer->chance, 0.5) ? cueball_lease_close(lease) : cueball_lease_fail(lease, "no answer");
    return cueball_lease_release(lease);
}

/* As if it had given the connection back, and had it again at once, though others wait. */
static uint64_t claimer_keeps(test_claimer *claimer, faulty_conn *conn, uint64_t id)
{
    uint64_t next = claimer->number << 32 | ++claimer->leases;
    history_operation *end = claimer_begins(claimer, OPERATION_END);
    end->lease = id;
    end->conn = conn->number;
    end->answered = stamp();
    history_operation *claim = claimer_begins(claimer, OPERATION_CLAIM);
    claim->lease = next;
    claim->conn = conn->number;
    claim->answered = stamp();
    lease_leave(conn, id << 1);
    atomic_store_explicit(&conn->holder, next << 1, memory_order_relaxed);
    usleep(300);
    return next;
}

static void claimer_ends(test_claimer *claimer, cueball_lease *lease, faulty_conn *conn, uint64_t id)
{
    if (plants(claimer, PLANT_OVERTAKEN))
        id = claimer_keeps(claimer, conn, id);
    uint64_t number = conn->number;
    cueball_lease copy = *lease;
    bool is_shared = plants(claimer, PLANT_SHARED), is_pocketed = plants(claimer, PLANT_POCKETED);
    lease_leave(conn, id << 1);
    if (is_shared) {
        /* Back already, and used on. */
        cueball_lease_release(lease);
        usleep(300);
    }
    history_operation *asked = claimer_begins(claimer, OPERATION_END);
    asked->lease = id;
    asked->conn = number;
    asked->began_ms = now_ms();
    asked->result = is_shared || is_pocketed ? CUEBALL_OK : claimer_end(claimer, lease);
    asked->over_ms = now_ms();
    asked->answered = stamp();
    if (is_pocketed) {
        usleep(2000);
        cueball_lease_release(lease);
    }
    if (chance_is(&claimer->chance, 0.1)) {
        history_operation *again = claimer_begins(claimer, OPERATION_END);
        again->lease = id;
        again->conn = number;
        again->result = claimer_end(claimer, &copy);
        again->answered = stamp();
        if (plants(claimer, PLANT_TWICE))
            again->result = CUEBALL_OK;
    }
}

static void *claimer_run(void *argument)
{
    test_claimer *claimer = argument;
    for (unsigned i = 0; i < claimer->scene->operations; i++) {
        cueball_lease lease = { 0 };
        uint64_t id = 0;
        faulty_conn *conn = claimer_claims(claimer, &lease, &id);
        if (conn && run.plant == PLANT_REFUSED && claimer->operations[claimer->operations_n - 1].kind == OPERATION_TRY) {
            history_operation *asked = &claimer->operations[claimer->operations_n - 1];
            lease_leave(conn, id << 1);
            cueball_lease_release(&lease);
            asked->result = CUEBALL_ECLAIM_TIMEOUT;
            asked->lease = asked->conn = 0;
            conn = NULL;
        }
        claimer_pause(claimer);
        if (conn)
            claimer_ends(claimer, &lease, conn, id);
        claimer_pause(claimer);
    }
    return NULL;
}

/* ------------------------------------------------------------------- scene -- */

typedef struct observer {
    pthread_t thread;
    test_scene *scene;
    history_sample samples[SAMPLES_MAX];
    uint32_t samples_n;
} test_observer;

static void *observer_run(void *argument)
{
    test_observer *observer = argument;
    while (!atomic_load(&is_over) && observer->samples_n < SAMPLES_MAX) {
        cueball_stats stats = { .struct_size = sizeof stats };
        history_sample *made = &observer->samples[observer->samples_n++];
        made->before = stamp();
        cueball_threaded_stats(observer->scene->pool, &stats);
        made->after = stamp();
        made->waiting = stats.waiting;
        made->ms = now_ms();
        usleep(100);
    }
    return NULL;
}

static void scene_play(test_scene *scene, test_claimer *claimers, test_observer *observer)
{
    atomic_store(&is_over, false);
    observer->scene = scene;
    observer->samples_n = 0;
    MUST(pthread_create(&observer->thread, NULL, observer_run, observer) == 0, "pthread_create");
    for (unsigned i = 0; i < scene->claimers; i++) {
        test_claimer *one = &claimers[i];
        *one = (test_claimer){ .scene = scene, .chance = chance_of(scene->seed, 10 + i), .number = i + 1, .room = scene->operations * 5 };
        one->operations = calloc(one->room, sizeof *one->operations);
        MUST(one->operations, "memory");
    }
    for (unsigned i = 0; i < scene->claimers; i++)
        MUST(pthread_create(&claimers[i].thread, NULL, claimer_run, &claimers[i]) == 0, "pthread_create");
    for (unsigned i = 0; i < scene->claimers; i++)
        pthread_join(claimers[i].thread, NULL);
    atomic_store(&is_over, true);
    pthread_join(observer->thread, NULL);
}

static history_record scene_history(const test_scene *scene, test_claimer *claimers, test_observer *observer)
{
    history_record made = { .stamps = atomic_load(&stamps) + 1,
                            .connections = scene->is_steady ? scene->connections : 0,
                            .samples = observer->samples,
                            .samples_n = observer->samples_n };
    if (scene->has_turns) {
        made.overtaking_ms = 0.2 * 1.05; /* OVERTAKE_NS of turn.c, by another clock */
        made.idle_ms = 20000;            /* two turns, on a machine that stands still */
    }
    for (unsigned i = 0; i < scene->claimers; i++)
        made.operations_n += claimers[i].operations_n;
    made.operations = calloc(made.operations_n + 1, sizeof *made.operations);
    MUST(made.operations, "memory");
    uint32_t at = 0;
    for (unsigned i = 0; i < scene->claimers; i++) {
        memcpy(made.operations + at, claimers[i].operations, claimers[i].operations_n * sizeof *made.operations);
        at += claimers[i].operations_n;
        free(claimers[i].operations);
    }
    return made;
}

static test_scene scene_of(uint64_t seed)
{
    static const double pauses[] = { 0, 0.05, 0.5, 1 };
    kit_chance chance = chance_of(seed, 3);
    test_scene made = { .seed = seed };
    made.claimers = 2 + (unsigned)chance_below(&chance, chance_is(&chance, 0.5) ? 4 : CLAIMERS_MAX - 2);
    made.connections = 1 + (unsigned)chance_below(&chance, chance_is(&chance, 0.5) ? 3 : 10);
    made.operations = 200;
    made.is_steady = chance_is(&chance, 0.7);
    made.pauses = pauses[chance_below(&chance, 4)];
    made.has_turns = seed % 3 == 0;
    return made;
}

/* True: the judge has nothing to say. */
static bool scene_run(uint64_t seed, history_found *found)
{
    static test_claimer claimers[CLAIMERS_MAX];
    static test_observer observer;
    counted_memory memory = { 0 };
    test_scene scene = scene_of(seed);
    faulty_options options;
    faulty_options_init(&options);
    options.seed = seed;
    options.has_descriptors = run.has_descriptors;
    options.clocks = seed % 2 == 0;
    options.turn_leases = TURN_LEASES;
    options.turn_ms = scene.has_turns ? 1 : -1;
    options.pool.max_connections = scene.connections;
    atomic_store(&stamps, 0);
    faulty_host *host = faulty_host_start(&options, &memory);
    scene.pool = faulty_host_pool(host);
    faulty_host_await_idle(host, scene.connections);
    scene_play(&scene, claimers, &observer);
    history_record history = scene_history(&scene, claimers, &observer);
    char text[400] = "";
    bool is_well = history_check(&history, found, text, sizeof text);
    printf("seed %llu, %u claimers, %u connections, %u operations%s: %s\n", (unsigned long long)seed, scene.claimers, scene.connections,
           history.operations_n, scene.has_turns ? ", turns" : "", is_well ? "well" : text);
    free(history.operations);
    faulty_host_stop(host);
    faulty_host_join(host, NULL);
    faulty_host_free(host);
    MUST(atomic_load(&memory.held) == 0, "%zu bytes are left", atomic_load(&memory.held));
    return is_well;
}

static void arguments_read(int count, char **words)
{
    for (int i = 1; i < count; i++) {
        const char *value = i + 1 < count ? words[i + 1] : "";
        if (strcmp(words[i], "--descriptors") == 0) {
            run.has_descriptors = true;
        } else if (strcmp(words[i], "--seed") == 0) {
            run.seed = strtoull(value, NULL, 10), i++;
        } else if (strcmp(words[i], "--runs") == 0) {
            run.runs = (unsigned)strtoul(value, NULL, 10), i++;
        } else {
            MUST(strcmp(words[i], "--plant") == 0, "no such option: %s", words[i]);
            for (run.plant = PLANT_EARLY; run.plant > PLANT_NONE && strcmp(plant_names[run.plant], value) != 0; run.plant--)
                continue;
            i++;
        }
    }
}

int main(int count, char **words)
{
    arguments_read(count, words);
    history_found found = { 0 };
    unsigned faults = 0;
    for (unsigned i = 0; i < run.runs; i++) {
        uint64_t seed = run.seed + i;
        must_describe("threaded_history --seed %llu --runs 1%s --plant %s", (unsigned long long)seed,
                      run.has_descriptors ? " --descriptors" : "", plant_names[run.plant]);
        must_end_within(120);
        faults += !scene_run(seed, &found);
    }
    printf("%u of %u histories cannot have been; %u tries refused, %u claims surely waited, %u the most that overtook one, %.1f ms idle\n",
           faults, run.runs, found.tries_refused, found.waited_surely, found.overtaken_most, found.idle_ms_most);
    return faults > 0;
}
