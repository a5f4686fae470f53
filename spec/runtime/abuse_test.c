/* A runtime whose program asks for what it should not: options that are computed without end, a stop in two threads with two
 * drain times, a thread that is cancelled as it asks.  And a factory in C whose connections are pointers alone. */
#include "check.h"
#include "cueball_native.h"

#include <pthread.h>
#include <unistd.h>

static int pointer_connect(void *user, cueball_native_connection *connection, const cueball_native_call *call)
{
    (void)call;
    connection->pointer = user;
    return CUEBALL_NATIVE_DONE;
}

static void test_pointer(void)
{
    static int thing;
    cueball_native_factory factory = { .user = &thing, .connect = pointer_connect };
    WELL(cueball_native_factory_register("pointer", &factory));
    cueball_runtime *runtime = start_text("local cueball = require 'cueball'\n"
                                          "cueball.pool { name = 'p', resolver = cueball.resolver.static { '127.0.0.1:1' },\n"
                                          "  connect = cueball.native 'pointer' }");
    cueball_threaded *pool = pool_of(runtime, "p");
    cueball_lease lease;
    WELL(cueball_threaded_claim(pool, 60000, &lease));
    CHECK(lease.fd == -1 && lease.pointer == &thing);
    WELL(cueball_lease_release(&lease));
    cueball_threaded_drop(pool);
    cueball_runtime_free(runtime);
    printf("a pointer is enough\n");
}

static cueball_runtime *start_pool(void)
{
    return start_text("local cueball = require 'cueball'\n"
                      "cueball.pool { name = 'p', resolver = cueball.resolver.static {}, connect = cueball.connection.tcp {} }");
}

static void test_endless_options(void)
{
    cueball_runtime *runtime = start_pool();
    FAILS(CUEBALL_EINVAL, cueball_runtime_set(runtime, "p", "spares = (function() while true do end end)()"));
    SAYS("too long");
    FAILS(CUEBALL_EINVAL, cueball_runtime_set(runtime, "p", "spares = 1 }, { spares = 2"));
    FAILS(CUEBALL_EINVAL, cueball_runtime_set(runtime, "p", "name = 'q'"));
    CHECK(strstr(cueball_last_error(), "'name' cannot be changed") != NULL);
    WELL(cueball_runtime_set(runtime, "p", "spares = 1"));
    cueball_runtime_free(runtime);
    printf("endless options are refused\n");
}

static void *ask_run(void *runtime)
{
    int state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    pthread_cancel(pthread_self());
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
    char *text = cueball_runtime_metrics(runtime);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    cueball_runtime_text_free(text);
    return NULL;
}

static void test_cancelled(void)
{
    cueball_runtime *runtime = start_pool();
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, ask_run, runtime) == 0);
    pthread_join(thread, NULL);
    WELL(cueball_runtime_set(runtime, "p", "spares = 1"));
    cueball_runtime_free(runtime);
    printf("a thread that is cancelled leaves no lock behind\n");
}

static void test_broken_boot(void)
{
    cueball_runtime_options options = { .text = "string.format = nil" };
    cueball_runtime *runtime = NULL;
    int result = cueball_runtime_start(&options, &runtime);
    CHECK(result == CUEBALL_OK || result == CUEBALL_ESCRIPT);
    if (result == CUEBALL_OK)
        cueball_runtime_free(runtime);
    printf("a script that breaks Lua is blamed for it\n");
}

int main(void)
{
    test_pointer();
    test_endless_options();
    test_cancelled();
    test_broken_boot();
    return 0;
}
