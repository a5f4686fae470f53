/* A resolver in C that does what specs tell it to.  A library that is loaded with ffi.load. */
#define _GNU_SOURCE

#include <cueball_native.h>

#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PUBLIC __attribute__((visibility("default")))

enum behaviour {
    FOLLOWS,     /* says what the spec tells it, as that comes */
    RETURNS,     /* says one backend, and returns 0 */
    FAILS,       /* returns 7 */
    ENDS_THREAD, /* pthread_exit() */
    FLOODS,      /* adds and removes for ever */
    DEAF,        /* says one backend, and does not hear that it is to end until spec_let_go() */
    POLLS        /* waits in poll(2) for its end */
};

static struct {
    pthread_mutex_t lock;
    int behaviour, runs, ended, freed, refused, woken;
    bool has_let_go;
    char lines[8192]; /* what to say, in lines: "add 10.0.0.1 80", "remove KEY", "set 10.0.0.1 10.0.0.2", "fail why", "recover" */
} world = { .lock = PTHREAD_MUTEX_INITIALIZER };

PUBLIC void spec_resolver_behave(int behaviour)
{
    pthread_mutex_lock(&world.lock);
    world.behaviour = behaviour;
    world.runs = world.ended = world.freed = world.refused = world.woken = 0;
    world.has_let_go = false;
    world.lines[0] = '\0';
    pthread_mutex_unlock(&world.lock);
}

PUBLIC void spec_resolver_let_go(void)
{
    pthread_mutex_lock(&world.lock);
    world.has_let_go = true;
    pthread_mutex_unlock(&world.lock);
}

PUBLIC void spec_resolver_say(const char *line)
{
    pthread_mutex_lock(&world.lock);
    strncat(world.lines, line, sizeof world.lines - strlen(world.lines) - 2);
    strcat(world.lines, "\n");
    pthread_mutex_unlock(&world.lock);
}

#define ASK(name)                                                                                                                          \
    PUBLIC int spec_resolver_##name(void)                                                                                                  \
    {                                                                                                                                      \
        pthread_mutex_lock(&world.lock);                                                                                                   \
        int found = world.name;                                                                                                            \
        pthread_mutex_unlock(&world.lock);                                                                                                 \
        return found;                                                                                                                      \
    }
ASK(runs)
ASK(ended)
ASK(freed)
ASK(refused)
ASK(woken)

static void count(int *number)
{
    pthread_mutex_lock(&world.lock);
    (*number)++;
    pthread_mutex_unlock(&world.lock);
}

static int set(cueball_native_sink *sink, char *line)
{
    cueball_backend_spec specs[64];
    size_t specs_count = 0;
    memset(specs, 0, sizeof specs);
    for (char *rest = NULL, *word = strtok_r(line, " ", &rest); word && specs_count < 64; word = strtok_r(NULL, " ", &rest))
        specs[specs_count++] = (cueball_backend_spec){ .address = word, .port = 80 };
    return cueball_native_sink_set(sink, specs, specs_count);
}

static int say(cueball_native_sink *sink, char *line)
{
    char address[100];
    unsigned port = 0, weight = 0, priority = 0;
    if (sscanf(line, "add %99s %u %u %u", address, &port, &weight, &priority) >= 2) {
        cueball_backend_spec spec = { .address = address, .port = port, .weight = weight, .priority = priority };
        return cueball_native_sink_add(sink, &spec);
    }
    if (strncmp(line, "remove ", 7) == 0)
        return cueball_native_sink_remove(sink, line + 7);
    if (strncmp(line, "fail ", 5) == 0)
        return cueball_native_sink_fail(sink, line + 5);
    if (strcmp(line, "recover") == 0)
        return cueball_native_sink_recover(sink);
    return strncmp(line, "set", 3) == 0 ? set(sink, line + 3) : 1;
}

static void follow(cueball_native_sink *sink)
{
    char lines[sizeof world.lines];
    do {
        pthread_mutex_lock(&world.lock);
        memcpy(lines, world.lines, sizeof lines);
        world.lines[0] = '\0';
        pthread_mutex_unlock(&world.lock);
        for (char *rest = NULL, *line = strtok_r(lines, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
            if (say(sink, line) != 0)
                count(&world.refused);
    } while (cueball_native_sink_sleep(sink, 5));
}

static void flood(cueball_native_sink *sink)
{
    char address[32];
    for (unsigned i = 0;; i++) {
        (void)snprintf(address, sizeof address, "10.0.%u.%u", i / 250 % 4, i % 250 + 1);
        cueball_backend_spec spec = { .key = address, .address = address, .port = 80 };
        int result = i % 2000 < 1000 ? cueball_native_sink_add(sink, &spec) : cueball_native_sink_remove(sink, address);
        if (result == CUEBALL_EPOOL_STOPPING)
            break;
    }
}

static void wait_to_be_let_go(void)
{
    bool has_let_go = false;
    while (!has_let_go) {
        poll(NULL, 0, 2);
        pthread_mutex_lock(&world.lock);
        has_let_go = world.has_let_go;
        pthread_mutex_unlock(&world.lock);
    }
}

static int spec_run(void *user, cueball_native_sink *sink)
{
    (void)user;
    char first[] = "add 10.0.0.1 80";
    struct pollfd end = { .fd = cueball_native_sink_end_fd(sink), .events = POLLIN };
    count(&world.runs);
    pthread_mutex_lock(&world.lock);
    int behaviour = world.behaviour;
    pthread_mutex_unlock(&world.lock);
    if (behaviour != FOLLOWS && behaviour != FLOODS)
        (void)say(sink, first);
    if (behaviour == FOLLOWS)
        follow(sink);
    else if (behaviour == FLOODS)
        flood(sink);
    else if (behaviour == DEAF)
        wait_to_be_let_go();
    else if (behaviour == POLLS)
        while (poll(&end, 1, -1) < 1)
            ;
    else if (behaviour == ENDS_THREAD)
        pthread_exit(NULL);
    if (behaviour == DEAF && say(sink, first) == CUEBALL_EPOOL_STOPPING)
        count(&world.refused);
    count(&world.ended);
    return behaviour == FAILS ? 7 : 0;
}

/* Sleeps without a limit, and is woken when the pool fails. */
static int spec_run_sleeping(void *user, cueball_native_sink *sink)
{
    (void)user;
    char first[] = "add 127.0.0.1 7";
    (void)say(sink, first);
    while (cueball_native_sink_sleep(sink, INFINITY))
        if (cueball_native_sink_has_failed(sink))
            count(&world.woken);
    count(&world.ended);
    return 0;
}

static void spec_free(void *user)
{
    (void)user;
    count(&world.freed);
}

PUBLIC int spec_resolver_register(const char *name, bool sleeps)
{
    cueball_native_resolver resolver = { .run = sleeps ? spec_run_sleeping : spec_run, .free_user = spec_free };
    return cueball_native_resolver_register(name, &resolver);
}

/* What a program may do wrong, in its own thread: → how many of the calls were refused as they should be. */
PUBLIC int spec_resolver_misuse(void)
{
    static char text[2000];
    memset(text, 'x', sizeof text - 1);
    cueball_backend_spec spec = { .address = text }, sized = { .struct_size = 8, .address = "10.0.0.1" };
    cueball_native_sink *sink = (cueball_native_sink *)text; /* these are found before it is looked at */
    cueball_native_resolver none = { .run = NULL };
    return (cueball_native_sink_add(NULL, &spec) == CUEBALL_EINVAL) + (cueball_native_sink_add(sink, NULL) == CUEBALL_EINVAL)
           + (cueball_native_sink_add(sink, &spec) == CUEBALL_EINVAL) + (cueball_native_sink_add(sink, &sized) == CUEBALL_EINVAL)
           + (cueball_native_sink_remove(sink, NULL) == CUEBALL_EINVAL) + (cueball_native_sink_set(sink, NULL, 1) == CUEBALL_EINVAL)
           + (cueball_native_sink_fail(sink, text) == CUEBALL_EINVAL) + (cueball_native_sink_recover(NULL) == CUEBALL_EINVAL)
           + (cueball_native_resolver_register("none", &none) == CUEBALL_EINVAL);
}
