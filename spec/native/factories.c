/* Factories in C that do what specs tell them to: well, or badly.  A library that is loaded with ffi.load. */
#define _GNU_SOURCE

#include <cueball_native.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

enum behaviour {
    WELL,
    FAILS,
    HANGS,       /* until spec_let_go(), and then does well */
    ASKS,        /* until nobody waits for it, and then fails */
    NEITHER,     /* no descriptor, no pointer */
    NOT_OPEN,    /* a descriptor that is not open, and a pointer */
    NUMBER,      /* returns 77 */
    ENDLESS,     /* a message that does not end */
    SPEECHLESS,  /* no message */
    ENDS_THREAD, /* pthread_exit() */
    POINTER_ONLY,
    STEPS /* wants a step */
};

/* What is open: the other end of a socket pair, for specs. */
typedef struct spec_connection {
    int peer;
    bool was_checked; /* a check began, at least */
} spec_connection;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int behaviour[6]; /* by operation */
    int status[6];    /* what check, reset and broken return if they do well */
    int opened, closed, in_connect, in_connect_most, freed, called[6], overlaps, closed_checked;
    int in_use; /* calls of a connection, to see overlaps of two of one: specs have one connection then */
    bool has_let_go;
    char text[512]; /* of the last connect */
} world = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

PUBLIC void spec_behave(int operation, int behaviour, int status)
{
    pthread_mutex_lock(&world.lock);
    world.behaviour[operation] = behaviour;
    world.status[operation] = status;
    pthread_mutex_unlock(&world.lock);
}

PUBLIC void spec_let_go(bool has_let_go)
{
    pthread_mutex_lock(&world.lock);
    world.has_let_go = has_let_go;
    pthread_cond_broadcast(&world.changed);
    pthread_mutex_unlock(&world.lock);
}

#define ASK(name)                                                                                                                          \
    PUBLIC int spec_##name(void)                                                                                                           \
    {                                                                                                                                      \
        pthread_mutex_lock(&world.lock);                                                                                                   \
        int found = world.name;                                                                                                            \
        pthread_mutex_unlock(&world.lock);                                                                                                 \
        return found;                                                                                                                      \
    }
ASK(opened)
ASK(closed)
ASK(closed_checked)
ASK(in_connect)
ASK(in_connect_most)
ASK(freed)
ASK(overlaps)

PUBLIC int spec_called(int operation)
{
    pthread_mutex_lock(&world.lock);
    int found = world.called[operation];
    pthread_mutex_unlock(&world.lock);
    return found;
}

PUBLIC const char *spec_text(void)
{
    return world.text;
}

PUBLIC int spec_peer(void *pointer)
{
    return ((spec_connection *)pointer)->peer;
}

PUBLIC void spec_reset(void)
{
    pthread_mutex_lock(&world.lock);
    memset(world.behaviour, 0, sizeof world.behaviour);
    memset(world.status, 0, sizeof world.status);
    memset(world.called, 0, sizeof world.called);
    world.opened = world.closed = world.closed_checked = world.in_connect_most = world.freed = world.overlaps = 0;
    world.has_let_go = false;
    pthread_mutex_unlock(&world.lock);
}

/* With the lock, which is let go of meanwhile. */
static void hang(int behaviour, const cueball_native_call *call)
{
    while (behaviour == HANGS && !world.has_let_go)
        pthread_cond_wait(&world.changed, &world.lock);
    while (behaviour == ASKS && cueball_native_is_wanted(call)) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 2000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&world.changed, &world.lock, &until);
    }
}

static int open_pair(cueball_native_connection *connection, bool has_descriptor)
{
    int pair[2];
    spec_connection *made = malloc(sizeof *made);
    if (!made || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        abort();
    made->peer = pair[1];
    made->was_checked = false;
    connection->pointer = made;
    if (has_descriptor)
        connection->fd = pair[0];
    else
        close(pair[0]);
    world.opened++;
    return CUEBALL_NATIVE_DONE;
}

static int misbehave(int behaviour, cueball_native_connection *connection, const cueball_native_call *call)
{
    switch (behaviour) {
    case FAILS:
    case ASKS:
        snprintf(call->message, call->message_size, "told to fail");
        return CUEBALL_NATIVE_UNFIT;
    case NEITHER:
        return CUEBALL_NATIVE_DONE;
    case NOT_OPEN:
        open_pair(connection, false);
        connection->fd = 9999;
        return CUEBALL_NATIVE_DONE;
    case NUMBER:
        return 77;
    case ENDLESS:
        memset(call->message, 'x', call->message_size);
        return -1;
    case SPEECHLESS:
        return -44;
    case ENDS_THREAD:
        pthread_mutex_unlock(&world.lock);
        pthread_exit(NULL);
    case STEPS:
        open_pair(connection, true);
        return CUEBALL_NATIVE_READABLE;
    default:
        return open_pair(connection, behaviour != POINTER_ONLY);
    }
}

static int spec_connect(void *user, cueball_native_connection *connection, const cueball_native_call *call)
{
    (void)user;
    pthread_mutex_lock(&world.lock);
    world.called[0]++;
    world.in_connect++;
    if (world.in_connect > world.in_connect_most)
        world.in_connect_most = world.in_connect;
    snprintf(world.text, sizeof world.text, "%s %s %s %s %u %u attempt %u, %s", call->pool, call->key, call->name, call->address,
             (unsigned)call->port, (unsigned)call->weight, (unsigned)call->attempt,
             cueball_native_left_ms(call) > 0 && cueball_native_left_ms(call) < 60000 ? "in time" : "at no time");
    int behaviour = world.behaviour[0];
    hang(behaviour, call);
    world.in_connect--;
    int result = misbehave(behaviour, connection, call);
    pthread_mutex_unlock(&world.lock);
    return result;
}

static int use(int operation, const cueball_native_connection *connection, const cueball_native_call *call)
{
    pthread_mutex_lock(&world.lock);
    world.called[operation]++;
    world.overlaps += world.in_use++ > 0;
    int behaviour = world.behaviour[operation];
    hang(behaviour, call);
    int result = world.status[operation];
    if (behaviour == FAILS || behaviour == ASKS)
        snprintf(call->message, call->message_size, "told to fail");
    if (behaviour == ENDLESS)
        memset(call->message, 'x', call->message_size);
    if (result == 0 && behaviour == FAILS)
        result = CUEBALL_NATIVE_UNFIT;
    world.in_use--;
    pthread_mutex_unlock(&world.lock);
    (void)connection;
    return result;
}

static int spec_check(void *user, const cueball_native_connection *connection, const cueball_native_call *call)
{
    (void)user;
    pthread_mutex_lock(&world.lock);
    ((spec_connection *)connection->pointer)->was_checked = true;
    pthread_mutex_unlock(&world.lock);
    return use(2, connection, call);
}

static int spec_reset_connection(void *user, const cueball_native_connection *connection, const cueball_native_call *call)
{
    (void)user;
    int result = use(3, connection, call);
    spec_behave(4, WELL, 0); /* it is clean */
    return result;
}

static int spec_broken(void *user, const cueball_native_connection *connection, const cueball_native_call *call)
{
    (void)user;
    char bytes[100];
    (void)!recv(connection->fd, bytes, sizeof bytes, MSG_DONTWAIT); /* it is used to that */
    return use(4, connection, call);
}

static void spec_close(void *user, const cueball_native_connection *connection)
{
    (void)user;
    spec_connection *made = connection->pointer;
    pthread_mutex_lock(&world.lock);
    world.called[5]++;
    world.overlaps += world.in_use > 0;
    if (world.behaviour[5] == HANGS)
        hang(HANGS, NULL);
    world.closed++;
    world.closed_checked += made->was_checked;
    pthread_mutex_unlock(&world.lock);
    close(made->peer);
    if (connection->fd >= 0)
        close(connection->fd);
    free(made);
}

static void spec_free(void *user)
{
    pthread_mutex_lock(&world.lock);
    world.freed += *(int *)user;
    pthread_mutex_unlock(&world.lock);
}

/* ------------------------------------------------------- without threads -- */

static int stepping_connect(void *user, cueball_native_connection *connection, const cueball_native_call *call)
{
    (void)user;
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)call->port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (inet_pton(AF_INET, call->address, &address.sin_addr) != 1 || fd < 0)
        return -1;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS) {
        snprintf(call->message, call->message_size, "%s", strerror(errno));
        close(fd);
        return -1;
    }
    connection->fd = fd;
    return CUEBALL_NATIVE_WRITABLE;
}

/* Connected: then the server has to greet. */
static int stepping_step(void *user, cueball_native_connection *connection, const cueball_native_call *call)
{
    (void)user;
    int failure = 0;
    socklen_t size = sizeof failure;
    getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &failure, &size);
    char greeting[6] = "";
    ssize_t got = failure ? -1 : recv(connection->fd, greeting, 5, 0);
    if (got < 0 && !failure && errno == EAGAIN)
        return CUEBALL_NATIVE_READABLE;
    if (got == 5 && strcmp(greeting, "HELLO") == 0)
        return CUEBALL_NATIVE_DONE;
    snprintf(call->message, call->message_size, "%s", failure ? strerror(failure) : got == 0 ? "closed" : greeting);
    close(connection->fd);
    return CUEBALL_NATIVE_UNFIT;
}

/* ------------------------------------------------------------------ names -- */

static int once = 1;

PUBLIC int spec_register(const char *name, int threads_max, bool has_all)
{
    cueball_native_factory factory = {
        .threads_max = (uint32_t)threads_max, .user = &once, .connect = spec_connect, .close = spec_close, .free_user = spec_free
    };
    if (has_all) {
        factory.check = spec_check;
        factory.reset = spec_reset_connection;
        factory.broken = spec_broken;
    }
    return cueball_native_factory_register(name, &factory);
}

PUBLIC int spec_register_at_once(const char *name, bool has_all)
{
    cueball_native_factory factory = { .never_blocks = true, .connect = spec_connect, .close = spec_close };
    if (has_all) {
        factory.check = spec_check;
        factory.reset = spec_reset_connection;
        factory.broken = spec_broken;
    }
    return cueball_native_factory_register(name, &factory);
}

PUBLIC int spec_register_stepping(const char *name)
{
    static const cueball_native_factory FACTORY = { .never_blocks = true, .connect = stepping_connect, .step = stepping_step };
    return cueball_native_factory_register(name, &FACTORY);
}
