/* One call of a factory's function.  What the function returns is not believed: a connection that is none has failed, a message that does
 * not end is ended, and a number that is on no list is the worst that is. */
#define _POSIX_C_SOURCE 200809L

#include "native.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Where a call's `under_way` leads. */
typedef struct call_state {
    const atomic_bool *is_given_up;
} call_state;

static const char *const NAMES[] = { "connect", "step", "check", "reset", "broken", "close", "descriptor" };
_Static_assert(sizeof NAMES / sizeof *NAMES == CUEBALL_NATIVE_LOOK + 1, "an operation without a name");
_Static_assert(CUEBALL_NATIVE_CONNECT == 0 && CUEBALL_NATIVE_STEP == 1, "those that open come first");
_Static_assert(CUEBALL_NATIVE_DIRTY < CUEBALL_NATIVE_TIMEOUT && CUEBALL_NATIVE_TIMEOUT < CUEBALL_NATIVE_UNFIT,
               "judge_condition() takes them for a range");

cueball_time cueball__native_deadline(double limit_ms)
{
    assert(limit_ms >= 0);
    return cueball_clock_now() + (cueball_time)llround(limit_ms * 1e6);
}

double cueball_native_left_ms(const cueball_native_call *call)
{
    cueball_time now = cueball_clock_now();
    return now < call->deadline ? (double)(call->deadline - now) / 1e6 : 0;
}

bool cueball_native_is_wanted(const cueball_native_call *call)
{
    const call_state *state = call->under_way;
    assert(state != NULL);
    assert(call->struct_size == sizeof *call);
    if (state->is_given_up && atomic_load_explicit(state->is_given_up, memory_order_relaxed))
        return false;
    return cueball_clock_now() < call->deadline;
}

bool cueball__native_is_possible(const cueball_native_factory *factory, int operation)
{
    switch (operation) {
    case CUEBALL_NATIVE_CONNECT:
    case CUEBALL_NATIVE_BROKEN:
    case CUEBALL_NATIVE_CLOSE:
    case CUEBALL_NATIVE_LOOK:
        return true;
    case CUEBALL_NATIVE_STEP:
        return factory->step != NULL;
    case CUEBALL_NATIVE_CHECK:
        return factory->check != NULL;
    case CUEBALL_NATIVE_RESET:
        return factory->reset != NULL;
    default:
        return false;
    }
}

static bool is_open(int32_t fd)
{
    return fd >= 0 && fcntl(fd, F_GETFD) >= 0;
}

static void connection_close(const cueball_native_factory *factory, const cueball_native_connection *connection)
{
    if (factory->close)
        factory->close(factory->user, connection);
    else if (connection->fd >= 0)
        (void)close(connection->fd);
}

static void fail(cueball_native_result *result, const char *why)
{
    result->status = CUEBALL_NATIVE_UNFIT;
    assert(why ? *why : result->message[0]);
    if (why)
        (void)snprintf(result->message, sizeof result->message, "%s", why);
}

/* connect and step: have they returned a connection, or the way to one? */
static void judge_opened(const cueball_native_factory *factory, cueball_native_result *result)
{
    cueball_native_connection *connection = &result->connection;
    bool is_opened = result->status == CUEBALL_NATIVE_DONE;
    bool goes_on = result->status == CUEBALL_NATIVE_READABLE || result->status == CUEBALL_NATIVE_WRITABLE;
    char why[sizeof result->message] = "";
    if (connection->fd < 0)
        connection->fd = -1;
    if (connection->fd >= 0 && !is_open(connection->fd) && (is_opened || goes_on)) {
        (void)snprintf(why, sizeof why, "the factory's %s has returned descriptor %d, which is not open", NAMES[result->operation],
                       (int)connection->fd);
        connection->fd = -1; /* it may be somebody else's by the time that it is closed */
    } else if (is_opened && connection->fd < 0 && !connection->pointer) {
        (void)snprintf(why, sizeof why, "the factory's %s has returned neither a descriptor nor a pointer", NAMES[result->operation]);
    } else if (goes_on && (!factory->step || connection->fd < 0)) {
        (void)snprintf(why, sizeof why, "the factory's %s has returned %d, and it has %s", NAMES[result->operation], (int)result->status,
                       factory->step ? "no descriptor to wait for" : "no step");
    } else if (result->status > CUEBALL_NATIVE_WRITABLE) {
        (void)snprintf(why, sizeof why, "the factory's %s has returned %d", NAMES[result->operation], (int)result->status);
    }
    if (*why) {
        if (connection->pointer || is_open(connection->fd))
            connection_close(factory, connection);
        fail(result, why);
    }
    if (result->status < 0)
        *connection = (cueball_native_connection){ .fd = -1 };
    assert(result->status <= CUEBALL_NATIVE_WRITABLE);
    assert(result->status != CUEBALL_NATIVE_DONE || connection->pointer || connection->fd >= 0);
    assert(result->status <= CUEBALL_NATIVE_DONE || (factory->step && connection->fd >= 0));
}

/* The other functions: may they return this result? */
static void judge_condition(cueball_native_result *result)
{
    if (result->status >= CUEBALL_NATIVE_TIMEOUT && result->status <= CUEBALL_NATIVE_DONE)
        return;
    if (result->status == CUEBALL_NATIVE_DIRTY && result->operation == CUEBALL_NATIVE_BROKEN)
        return;
    char why[sizeof result->message];
    (void)snprintf(why, sizeof why, "the factory's %s has returned %d", NAMES[result->operation], (int)result->status);
    fail(result, result->message[0] ? NULL : why);
}

/* What can be told of a connection of which nothing is known but its descriptor. */
static int look(const cueball_native_connection *connection, const cueball_native_call *call)
{
    char byte = 0;
    ssize_t got = connection->fd >= 0 ? recv(connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) : -1;
    int code = errno;
    if (got > 0) {
        (void)snprintf(call->message, call->message_size, "unexpected data");
        return CUEBALL_NATIVE_UNFIT;
    }
    /* Whatever is no connected socket tells nothing this way. */
    bool is_silent = connection->fd < 0 || code == EAGAIN || code == EWOULDBLOCK || code == EINTR || code == ENOTSOCK || code == ENOTCONN;
    if (got < 0 && is_silent)
        return CUEBALL_NATIVE_DONE;
    (void)snprintf(call->message, call->message_size, got == 0 ? "closed" : "connection reset by peer");
    return CUEBALL_NATIVE_LOST;
}

static int call_function(const cueball_native_factory *factory, cueball_native_result *result, const cueball_native_call *call)
{
    cueball_native_connection *connection = &result->connection;
    switch (result->operation) {
    case CUEBALL_NATIVE_CONNECT:
        return factory->connect(factory->user, connection, call);
    case CUEBALL_NATIVE_STEP:
        return factory->step(factory->user, connection, call);
    case CUEBALL_NATIVE_CHECK:
        return factory->check(factory->user, connection, call);
    case CUEBALL_NATIVE_RESET:
        return factory->reset(factory->user, connection, call);
    case CUEBALL_NATIVE_BROKEN:
        return factory->broken ? factory->broken(factory->user, connection, call) : look(connection, call);
    case CUEBALL_NATIVE_LOOK:
        return look(connection, call);
    default:
        assert(result->operation == CUEBALL_NATIVE_CLOSE);
        connection_close(factory, connection);
        return CUEBALL_NATIVE_DONE;
    }
}

static const char *text_or_none(const char *text)
{
    return text ? text : "";
}

void cueball__native_call(const cueball_native_factory *factory, const cueball_native_request *request, cueball_time deadline,
                          const atomic_bool *is_given_up, cueball_native_result *result)
{
    assert(cueball__native_is_possible(factory, request->operation));
    call_state state = { .is_given_up = is_given_up };
    memset(result, 0, sizeof *result);
    result->user = request->user;
    result->operation = request->operation;
    result->connection = request->operation == CUEBALL_NATIVE_CONNECT ? (cueball_native_connection){ .fd = -1 } : request->connection;
    cueball_native_call call = {
        .struct_size = sizeof call,
        .attempt = request->attempt,
        .deadline = deadline,
        .pool = text_or_none(request->pool),
        .key = text_or_none(request->key),
        .name = text_or_none(request->name),
        .address = text_or_none(request->address),
        .port = request->port,
        .weight = request->weight,
        .message = result->message,
        .message_size = sizeof result->message,
        .under_way = &state,
    };
    result->status = call_function(factory, result, &call);
    result->message[sizeof result->message - 1] = '\0';
    if (request->operation <= CUEBALL_NATIVE_STEP)
        judge_opened(factory, result);
    else
        judge_condition(result);
    if (result->status < 0 && !result->message[0])
        (void)snprintf(result->message, sizeof result->message, "the factory's %s gave no reason", NAMES[request->operation]);
    if (result->status >= 0)
        result->message[0] = '\0';
    assert(result->user == request->user && result->operation == request->operation);
    assert((result->status < 0) == (result->message[0] != '\0'));
    assert(memchr(result->message, 0, sizeof result->message) != NULL);
}

int cueball_native_perform(cueball_native_registration *factory, const cueball_native_request *request, cueball_native_result *result)
{
    if (!factory || !request || !result || factory->is_resolver || !(request->limit_ms >= 0)
        || !cueball__native_is_possible(&factory->factory, request->operation))
        return CUEBALL_EINVAL;
    double limit_ms = fmin(request->limit_ms, 86400000);
    cueball__native_call(&factory->factory, request, cueball__native_deadline(limit_ms), NULL, result);
    return CUEBALL_OK;
}
