/* What a program asks of its runtimes besides claims, and tasks of the script that claim from the same pools.
 *
 *     use_test SCRIPT SERVER…    the script has a pool "echo" of 4 connections, and tasks that claim from it */
#include "check.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

static char **servers;
static int count;
static const char *file;

static void pause_ms(long ms)
{
    struct timespec span = { ms / 1000, ms % 1000 * 1000000 };
    (void)nanosleep(&span, NULL);
}

static void expect(char *text, const char *what)
{
    CHECK(text != NULL);
    if (strstr(text, what) == NULL) {
        fprintf(stderr, "expected \"%s\" in: %s\n", what, text);
        exit(1);
    }
    cueball_runtime_text_free(text);
}

static atomic_int tasks_done, thrown, callbacks_thrown;

static void hear(void *user, const char *level, const char *line)
{
    (void)user;
    if (strcmp(line, "task done") == 0)
        tasks_done++;
    else if (strcmp(level, "error") == 0 && strstr(line, "thrown later") != NULL)
        thrown++;
    else if (strcmp(level, "error") == 0 && strstr(line, "a callback threw: ") != NULL)
        callbacks_thrown++;
}

static cueball_runtime *start(const char *name)
{
    cueball_runtime_options options = {
        .file = file,
        .arguments = (const char *const *)servers,
        .argument_count = (uint32_t)count,
        .name = name,
        .log = hear,
    };
    cueball_runtime *runtime;
    WELL(cueball_runtime_start(&options, &runtime));
    return runtime;
}

static void exchange(const cueball_lease *lease)
{
    char answer[5];
    CHECK(write(lease->fd, "hello", 5) == 5);
    for (ssize_t got = 0; got < 5;) {
        ssize_t part = read(lease->fd, answer + got, sizeof answer - (size_t)got);
        CHECK(part > 0);
        got += part;
    }
    CHECK(memcmp(answer, "hello", 5) == 0);
}

static void *claim_often(void *pool)
{
    for (int i = 0; i < 300; i++) {
        cueball_lease lease;
        WELL(cueball_threaded_claim(pool, 10000, &lease));
        exchange(&lease);
        WELL(cueball_lease_release(&lease));
    }
    return NULL;
}

/* The script's tasks do 200 claims meanwhile, through sockets of Lua's. */
static void shares_with_tasks(cueball_threaded *pool)
{
    pthread_t threads[6];
    cueball_stats stats = { .struct_size = sizeof stats };
    for (int i = 0; i < 6; i++)
        CHECK(pthread_create(&threads[i], NULL, claim_often, pool) == 0);
    for (int i = 0; i < 6; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    for (int i = 0; i < 20000 && tasks_done < 4; i++)
        pause_ms(1);
    CHECK(tasks_done == 4);
    cueball_threaded_stats(pool, &stats);
    CHECK(stats.granted >= 6 * 300 + 200 && stats.lost == 0 && stats.opened == 4);
    CHECK(thrown == 1); /* and harmed nobody */
    CHECK(callbacks_thrown == 3);
}

static void is_asked(cueball_runtime *runtime, cueball_threaded *pool)
{
    cueball_lease lease;
    char text[4000];
    expect(cueball_runtime_metrics(runtime), "# EOF");
    expect(cueball_runtime_metrics(runtime), "pool=\"echo\"");
    expect(cueball_runtime_state(runtime), "\"name\":\"echo\"");
    WELL(cueball_runtime_set(runtime, "echo", "max_connections = 2, claim_timeout_ms = 50, spares = 1"));
    expect(cueball_runtime_state(runtime), "\"max_connections\":2");
    FAILS(CUEBALL_EINVAL, cueball_runtime_set(runtime, "echo", "max_connections = -1"));
    SAYS("max_connections");
    FAILS(CUEBALL_EINVAL, cueball_runtime_set(runtime, "echo", "maximum = 1"));
    SAYS("maximum");
    FAILS(CUEBALL_EINVAL, cueball_runtime_set(runtime, "echo", "} os.exit() --"));
    FAILS(CUEBALL_EINVAL, cueball_runtime_set(runtime, "echo", "spares = os.exit()"));
    FAILS(CUEBALL_ENOT_FOUND, cueball_runtime_set(runtime, "other", "spares = 1"));
    cueball_threaded *other;
    FAILS(CUEBALL_ENOT_FOUND, cueball_runtime_pool(runtime, "other", &other));
    SAYS("there are: echo");

    /* A claimer's word is heard, and told to those who are refused. */
    WELL(cueball_threaded_claim(pool, 10000, &lease));
    CHECK(cueball_lease_explain(&lease, text, sizeof text) > 0);
    WELL(cueball_lease_fail(&lease, "it said nonsense"));
    for (int i = 0; i < 5000; i++) {
        char *state = cueball_runtime_state(runtime);
        bool is_told = strstr(state, "it said nonsense") != NULL;
        cueball_runtime_text_free(state);
        if (is_told)
            break;
        CHECK(i < 4999);
        pause_ms(1);
    }
    CHECK(cueball_threaded_explain(pool, text, sizeof text) > 0);
    CHECK(strstr(text, "127.0.0.1:") != NULL);
}

static void is_not_alone(cueball_runtime *runtime)
{
    cueball_threaded *found, *own;
    FAILS(CUEBALL_ESCRIPT, cueball_runtime_start(&(cueball_runtime_options){ .file = file,
                                                                             .arguments = (const char *const *)servers,
                                                                             .argument_count = (uint32_t)count,
                                                                             .name = "first" },
                                                 &runtime));
    SAYS("first/echo");
    cueball_runtime *second = start("second");
    WELL(cueball_threaded_find("second/echo", &found));
    own = pool_of(second, "echo");
    CHECK(found == own && strcmp(cueball_threaded_name(own), "second/echo") == 0);
    cueball_threaded_drop(found);
    cueball_threaded_drop(own);
    cueball_runtime_free(second);
    FAILS(CUEBALL_ENOT_FOUND, cueball_threaded_find("second/echo", &found));
    WELL(cueball_threaded_find("echo", &found));
    CHECK(strcmp(cueball_threaded_name(found), "first/echo") == 0);
    cueball_threaded_drop(found);
}

int main(int given, char **arguments)
{
    CHECK(given > 2);
    file = arguments[1];
    servers = arguments + 2;
    count = given - 2;
    cueball_runtime *runtime = start("first");
    cueball_threaded *pool = pool_of(runtime, "echo");
    shares_with_tasks(pool);
    is_not_alone(runtime);
    is_asked(runtime, pool);
    cueball_runtime_free(runtime);
    cueball_threaded_drop(pool);
    puts("well");
    return 0;
}
