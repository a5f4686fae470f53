/* Many threads, each with an event loop of its own, have connections opened, checked and closed by factories in C, and give up on every
 * third call at some time; resolvers say what they like meanwhile, and factories come and go.  In the end all that was opened is closed.
 * The spec compiles it with and without sanitizers.  Arguments: a seed, and how many calls each thread makes. */
#define _GNU_SOURCE

#include <cueball_native.h>

#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(condition)                                                                                                                    \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            printf("%s:%d: %s\n", __FILE__, __LINE__, #condition);                                                                         \
            exit(1);                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

enum { LOOPS = 4, IN_HAND = 16 };

typedef struct object {
    atomic_int users; /* calls of this connection: never two at once */
} object;

static atomic_int opened, closed, freed, overlaps;
static unsigned seed = 1;
static int calls = 300;

static unsigned draw(unsigned *state)
{
    *state = *state * 1103515245u + 12345u;
    return *state >> 16;
}

static void pause_us(unsigned us)
{
    struct timespec span = { .tv_nsec = (long)us * 1000 };
    (void)nanosleep(&span, NULL);
}

static void use(const cueball_native_connection *connection)
{
    object *one = connection->pointer;
    if (atomic_fetch_add(&one->users, 1) != 0)
        atomic_fetch_add(&overlaps, 1);
    pause_us(200);
    atomic_fetch_sub(&one->users, 1);
}

static int test_connect(void *user, cueball_native_connection *connection, const cueball_native_call *call)
{
    (void)user;
    for (unsigned i = 0; i < call->port % 8 && cueball_native_is_wanted(call); i++)
        pause_us(300);
    if (call->port % 5 == 0) {
        (void)snprintf(call->message, call->message_size, "no luck with %s", call->key);
        return -1;
    }
    if (call->port % 97 == 0)
        pthread_exit(NULL);
    object *one = calloc(1, sizeof *one);
    MUST(one != NULL);
    connection->pointer = one;
    atomic_fetch_add(&opened, 1);
    return CUEBALL_NATIVE_DONE;
}

static int test_check(void *user, const cueball_native_connection *connection, const cueball_native_call *call)
{
    (void)user;
    (void)call;
    use(connection);
    return CUEBALL_NATIVE_DONE;
}

static void test_close(void *user, const cueball_native_connection *connection)
{
    (void)user;
    use(connection);
    free(connection->pointer);
    atomic_fetch_add(&closed, 1);
}

static void test_free(void *user)
{
    (void)user;
    atomic_fetch_add(&freed, 1);
}

static const cueball_native_factory FACTORY = {
    .threads_max = 5, .connect = test_connect, .check = test_check, .close = test_close, .free_user = test_free
};

static int test_run(void *user, cueball_native_sink *sink)
{
    (void)user;
    char key[32];
    for (unsigned i = 0; cueball_native_sink_is_wanted(sink); i++) {
        (void)snprintf(key, sizeof key, "10.0.0.%u", i % 200);
        cueball_backend_spec specs[2] = { { .key = key, .address = key, .port = 80 }, { .address = "10.1.1.1" } };
        if (i % 50 == 0)
            (void)cueball_native_sink_set(sink, specs, 2);
        else if (i % 3 == 0)
            (void)cueball_native_sink_remove(sink, key);
        else
            (void)cueball_native_sink_add(sink, specs);
        if (i % 20 == 0)
            (void)cueball_native_sink_sleep(sink, i % 40 ? 0.5 : 0);
    }
    return 0;
}

static const cueball_native_resolver RESOLVER = { .run = test_run, .free_user = test_free };

/* ---------------------------------------------------------------- loops -- */

typedef struct hand {
    uint64_t user; /* of the call under way; 0: none */
    cueball_native_connection connection;
    bool is_open;
} hand;

static void take_results(cueball_native_loop *loop, hand *hands)
{
    cueball_native_result result;
    while (cueball_native_loop_next(loop, &result)) {
        hand *one = &hands[result.user % IN_HAND];
        MUST(one->user == result.user);
        one->user = 0;
        MUST(result.status >= 0 || result.message[0]);
        if (result.operation == CUEBALL_NATIVE_CONNECT && result.status == CUEBALL_NATIVE_DONE) {
            one->is_open = true;
            one->connection = result.connection;
        } else if (result.operation == CUEBALL_NATIVE_CLOSE) {
            one->is_open = false;
        }
    }
}

static void begin(cueball_native_loop *loop, cueball_native_registration *factory, hand *one, uint64_t user, unsigned chance)
{
    cueball_native_request request = { .user = user, .limit_ms = 1000, .port = chance % 1000 + 1, .key = "one" };
    request.operation = !one->is_open ? CUEBALL_NATIVE_CONNECT : chance % 3 ? CUEBALL_NATIVE_CHECK : CUEBALL_NATIVE_CLOSE;
    request.connection = one->connection;
    MUST(cueball_native_begin(loop, factory, &request) == CUEBALL_OK);
    one->user = user;
}

/* A call that was given up: a close is done all the same, and a check is followed by a close, as a pool does it. */
static void give_up(cueball_native_loop *loop, cueball_native_registration *factory, hand *one, bool is_close)
{
    int result = cueball_native_give_up(loop, one->user);
    MUST(result == 0 || result == 1);
    MUST(cueball_native_give_up(loop, one->user) == CUEBALL_ENOT_FOUND);
    one->user = 0;
    cueball_native_open open = { .factory = cueball_native_keep(factory), .connection = one->connection };
    if (one->is_open && !is_close)
        cueball_native_open_lost(&open);
    else
        cueball_native_drop(open.factory);
    one->is_open = false;
}

static void *loop_run(void *argument)
{
    unsigned state = seed + *(unsigned *)argument;
    hand hands[IN_HAND];
    bool is_close[IN_HAND] = { false };
    memset(hands, 0, sizeof hands);
    cueball_native_loop *loop = NULL;
    MUST(cueball_native_loop_new(&loop) == CUEBALL_OK);
    cueball_native_registration *factory = cueball_native_factory_find("test");
    MUST(factory != NULL);
    struct pollfd ready = { .fd = cueball_native_loop_fd(loop), .events = POLLIN };
    for (int i = 0; i < calls; i++) {
        unsigned which = draw(&state) % IN_HAND, chance = draw(&state);
        hand *one = &hands[which];
        if (!one->user) {
            is_close[which] = one->is_open && chance % 3 == 0;
            begin(loop, factory, one, (uint64_t)(i + 1) * IN_HAND + which, chance);
        } else if (chance % 3 == 0) {
            give_up(loop, factory, one, is_close[which]);
        }
        if (poll(&ready, 1, chance % 4 == 0) > 0)
            take_results(loop, hands);
    }
    for (unsigned i = 0; i < IN_HAND; i++)
        if (!hands[i].user && !hands[i].is_open)
            begin(loop, factory, &hands[i], i + IN_HAND, i);
    pause_us(10000); /* some are done then, and were not taken */
    for (unsigned i = 0; i < IN_HAND; i++)
        if (hands[i].user)
            give_up(loop, factory, &hands[i], is_close[i]);
        else if (hands[i].is_open && i % 2 == 0)
            begin(loop, factory, &hands[i], i + IN_HAND, 0); /* a close that the end of the loop gives up */
        else if (hands[i].is_open)
            cueball_native_open_lost(&(cueball_native_open){ .factory = cueball_native_keep(factory), .connection = hands[i].connection });
    cueball_native_loop_free(loop);
    cueball_native_drop(factory);
    return NULL;
}

static void *resolver_run(void *unused)
{
    (void)unused;
    for (int run = 0; run < 20; run++) {
        cueball_native_registration *resolver = cueball_native_resolver_find("test");
        cueball_native_sink *sink = NULL;
        cueball_native_saying saying;
        MUST(resolver && cueball_native_sink_start(resolver, &sink) == CUEBALL_OK);
        cueball_native_drop(resolver);
        struct pollfd said = { .fd = cueball_native_sink_fd(sink), .events = POLLIN };
        for (int i = 0; i < 200; i++) {
            (void)poll(&said, 1, 1);
            if (cueball_native_sink_next(sink, &saying))
                MUST(saying.kind != CUEBALL_NATIVE_SAYING_SET
                     || (saying.count == 2 && strcmp(saying.backends[1].address, "10.1.1.1") == 0));
            cueball_native_sink_pool_failed(sink, i % 7 == 0);
        }
        cueball_native_sink_end(sink);
    }
    return NULL;
}

static void *registry_run(void *unused)
{
    (void)unused;
    for (int i = 0; i < 200; i++) {
        char names[100];
        int result = cueball_native_factory_register("other", &FACTORY);
        MUST(result == CUEBALL_OK);
        MUST(cueball_native_factory_register("other", &FACTORY) == CUEBALL_EEXISTS);
        (void)cueball_native_names(false, names, sizeof names);
        MUST(strcmp(names, "test\nother") == 0);
        cueball_native_registration *one = cueball_native_factory_find("other");
        MUST(cueball_native_factory_unregister("other") == CUEBALL_OK);
        cueball_native_request request = { .operation = CUEBALL_NATIVE_CONNECT, .limit_ms = 10, .port = 1 };
        cueball_native_result result_of;
        MUST(cueball_native_perform(one, &request, &result_of) == CUEBALL_OK && result_of.status == CUEBALL_NATIVE_DONE);
        cueball_native_open_lost(&(cueball_native_open){ .factory = one, .connection = result_of.connection });
    }
    return NULL;
}

/* ----------------------------------------------------------------- fork -- */

/* In a child: what is the parent's is refused, and what is begun anew works. */
static int child(cueball_native_loop *loop, cueball_native_sink *sink, cueball_native_registration *factory)
{
    cueball_native_request request = { .operation = CUEBALL_NATIVE_CONNECT, .user = 77, .limit_ms = 10000, .port = 1 };
    cueball_native_result result;
    cueball_native_saying saying;
    cueball_native_loop *own = NULL;
    if (cueball_native_begin(loop, factory, &request) != CUEBALL_EFORKED || cueball_native_loop_next(loop, &result))
        return 1;
    if (cueball_native_give_up(loop, 1) != CUEBALL_ENOT_FOUND || cueball_native_sink_next(sink, &saying))
        return 2;
    cueball_native_sink_end(sink);
    cueball_native_loop_free(loop);
    if (cueball_native_loop_new(&own) < 0 || cueball_native_begin(own, factory, &request) != CUEBALL_OK)
        return 3;
    struct pollfd ready = { .fd = cueball_native_loop_fd(own), .events = POLLIN };
    if (poll(&ready, 1, 60000) != 1 || !cueball_native_loop_next(own, &result))
        return 4;
    return result.status == CUEBALL_NATIVE_DONE && result.user == 77 ? 0 : 5;
}

static void test_fork(void)
{
    cueball_native_loop *loop = NULL;
    cueball_native_sink *sink = NULL;
    cueball_native_registration *factory = cueball_native_factory_find("test"), *resolver = cueball_native_resolver_find("test");
    MUST(cueball_native_loop_new(&loop) == CUEBALL_OK && cueball_native_sink_start(resolver, &sink) == CUEBALL_OK);
    cueball_native_request request = { .operation = CUEBALL_NATIVE_CONNECT, .user = 1, .limit_ms = 10000, .port = 7 };
    MUST(cueball_native_begin(loop, factory, &request) == CUEBALL_OK);
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0)
        _exit(child(loop, sink, factory));
    int status = 0;
    MUST(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    printf("the child ended with %d\n", WEXITSTATUS(status));
    MUST(status == 0);
    cueball_native_loop_free(loop);
    cueball_native_sink_end(sink);
    cueball_native_drop(factory);
    cueball_native_drop(resolver);
}

int main(int count, char **arguments)
{
    pthread_t threads[LOOPS + 2];
    unsigned numbers[LOOPS];
    seed = count > 1 ? (unsigned)atoi(arguments[1]) : seed;
    calls = count > 2 ? atoi(arguments[2]) : calls;
    MUST(cueball_native_factory_register("test", &FACTORY) == CUEBALL_OK);
    MUST(cueball_native_resolver_register("test", &RESOLVER) == CUEBALL_OK);
    for (unsigned i = 0; i < LOOPS; i++) {
        numbers[i] = i * 1000;
        MUST(pthread_create(&threads[i], NULL, loop_run, &numbers[i]) == 0);
    }
    MUST(pthread_create(&threads[LOOPS], NULL, resolver_run, NULL) == 0);
    MUST(pthread_create(&threads[LOOPS + 1], NULL, registry_run, NULL) == 0);
    for (int i = 0; i < LOOPS + 2; i++)
        MUST(pthread_join(threads[i], NULL) == 0);
    if (count > 3)
        test_fork();
    MUST(cueball_native_factory_unregister("test") == CUEBALL_OK && cueball_native_resolver_unregister("test") == CUEBALL_OK);
    for (int i = 0; i < 6000 && (atomic_load(&opened) != atomic_load(&closed) || atomic_load(&freed) < 202); i++)
        pause_us(10000); /* threads end when they had nothing to do for five seconds */
    printf("%d opened, %d closed, %d freed, %d overlaps\n", atomic_load(&opened), atomic_load(&closed), atomic_load(&freed),
           atomic_load(&overlaps));
    MUST(atomic_load(&opened) == atomic_load(&closed) && atomic_load(&opened) > 0);
    MUST(atomic_load(&freed) == 202 && atomic_load(&overlaps) == 0);
    return 0;
}
