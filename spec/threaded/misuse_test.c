/* What callers must not do, and what they may do too late: an error each time, never a crash.  Run by threaded_spec.lua. */
#include "faulty_host.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAYS(error, call)                                                                                                                  \
    do {                                                                                                                                   \
        int result_ = (call);                                                                                                              \
        MUST(result_ == (error), "%s says %s, not %s", #call, cueball_error_name(result_), cueball_error_name(error));                     \
    } while (0)

static counted_memory memory;
static faulty_host *host;
static cueball_threaded *pool;

static void host_begin(void)
{
    faulty_options options;
    faulty_options_init(&options);
    options.name = "misused";
    options.has_descriptors = true;
    options.pool.max_connections = 3;
    options.pool.drain_timeout_ms = 20;
    host = faulty_host_start(&options, &memory);
    pool = faulty_host_pool(host);
    faulty_host_await_idle(host, 3);
}

static void host_end(void)
{
    faulty_host_stop(host);
    faulty_host_join(host, NULL);
    faulty_host_free(host);
    MUST(atomic_load(&memory.held) == 0, "%zu bytes are left", atomic_load(&memory.held));
}

/* -------------------------------------------------------------------- NULL -- */

static void claimers_null(void)
{
    cueball_lease lease = { 0 };
    char text[10];
    SAYS(CUEBALL_EINVAL, cueball_threaded_claim(NULL, 1, &lease));
    MUST(cueball_last_error()[0] != 0, "nothing is said");
    SAYS(CUEBALL_EINVAL, cueball_threaded_claim(pool, 1, NULL));
    SAYS(CUEBALL_EINVAL, cueball_threaded_try_claim(NULL, &lease));
    SAYS(CUEBALL_EINVAL, cueball_threaded_try_claim(pool, NULL));
    SAYS(CUEBALL_EINVAL, cueball_threaded_claim_with(NULL, NULL, &lease));
    SAYS(CUEBALL_EINVAL, cueball_threaded_claim_with(pool, NULL, NULL));
    SAYS(CUEBALL_EINVAL, cueball_lease_release(NULL));
    SAYS(CUEBALL_EINVAL, cueball_lease_close(NULL));
    SAYS(CUEBALL_EINVAL, cueball_lease_fail(NULL, NULL));
    SAYS(CUEBALL_EINVAL, cueball_lease_report(NULL, true));
    SAYS(CUEBALL_EINVAL, cueball_lease_backend(NULL, NULL));
    SAYS(CUEBALL_EINVAL, cueball_lease_explain(NULL, text, sizeof text));
    SAYS(CUEBALL_EINVAL, cueball_lease_detach(NULL));
    SAYS(CUEBALL_EINVAL, cueball_lease_adopt(NULL));
    cueball_threaded_stats(NULL, NULL);
    cueball_threaded_stats(pool, NULL);
    SAYS(CUEBALL_EINVAL, cueball_threaded_state(NULL));
    MUST(strcmp(cueball_threaded_name(NULL), "") == 0, "name");
    SAYS(CUEBALL_EINVAL, cueball_threaded_explain(NULL, text, sizeof text));
    MUST(cueball_threaded_explain(pool, NULL, 0) > 0, "explain");
    MUST(cueball_threaded_explain(pool, text, 1) > 0 && text[0] == 0, "explain");
    cueball_threaded *found = NULL;
    SAYS(CUEBALL_EINVAL, cueball_threaded_find(NULL, &found));
    SAYS(CUEBALL_EINVAL, cueball_threaded_find("misused", NULL));
    SAYS(CUEBALL_ENOT_FOUND, cueball_threaded_find("", &found));
    SAYS(CUEBALL_ENOT_FOUND, cueball_threaded_find("misuse", &found));
    cueball_threaded_keep(NULL);
    cueball_threaded_drop(NULL);
    MUST(found == NULL, "found");
}

static void hosts_null(void)
{
    cueball_threaded_options options = { .struct_size = sizeof options, .wake_fd = -1 };
    cueball_options core;
    cueball_options_init(&core);
    cueball_allocator allocator = counted_allocator(&memory);
    cueball_threaded *made = NULL;
    cueball_action action;
    cueball_return what;
    cueball_grant grant;
    SAYS(CUEBALL_EINVAL, cueball_threaded_new(&options, NULL, &allocator, 1, 1, &made));
    SAYS(CUEBALL_EINVAL, cueball_threaded_new(&options, &core, NULL, 1, 1, &made));
    SAYS(CUEBALL_EINVAL, cueball_threaded_new(&options, &core, &allocator, 1, 1, NULL));
    options.name = "misused";
    SAYS(CUEBALL_EEXISTS, cueball_threaded_new(&options, &core, &allocator, 1, 1, &made));
    options.name = NULL;
    core.max_connections = 0;
    SAYS(CUEBALL_EINVAL, cueball_threaded_new(&options, &core, &allocator, 1, 1, &made));
    MUST(made == NULL, "a pool was made");
    cueball_threaded_close(NULL);
    MUST(cueball_threaded_lock(NULL) == NULL, "lock");
    cueball_threaded_unlock(NULL);
    SAYS(CUEBALL_EINVAL, cueball_threaded_host_claim(NULL, 1, NULL, &grant));
    MUST(!cueball_threaded_next_action(NULL, &action) && !cueball_threaded_next_return(NULL, &what), "something");
    SAYS(CUEBALL_EINVAL, cueball_threaded_conn_opened(NULL, 1, 1, -1, NULL));
    MUST(!cueball_threaded_is_held(NULL, 1), "held");
    MUST(cueball_threaded_watch_fd(NULL) == -1, "watch_fd");
    cueball_threaded_look(NULL, 1);
    cueball_threaded_note(NULL, NULL);
    MUST(cueball_threaded_deadline(NULL) == CUEBALL_NEVER, "deadline");
    cueball_threaded_time_advanced(NULL, 1);
}

/* ------------------------------------------------------------------ values -- */

static void values_are_refused(void)
{
    cueball_lease lease = { 0 };
    cueball_threaded_claim_options options = { .struct_size = sizeof options, .timeout_ms = NAN };
    SAYS(CUEBALL_EINVAL, cueball_threaded_claim(pool, NAN, &lease));
    SAYS(CUEBALL_EINVAL, cueball_threaded_claim_with(pool, &options, &lease));
    options.timeout_ms = 1;
    options.struct_size = 1;
    SAYS(CUEBALL_EINVAL, cueball_threaded_claim_with(pool, &options, &lease));
    MUST(lease.pool == NULL && lease.loan == NULL && lease.pointer == NULL, "refused, with a lease");
    /* Of no member beyond those known to this header may anything be said. */
    struct {
        cueball_threaded_claim_options options;
        uint64_t more;
    } later = { .options = { .struct_size = sizeof later, .timeout_ms = 1 }, .more = 1 };
    SAYS(CUEBALL_EINVAL, cueball_threaded_claim_with(pool, &later.options, &lease));
    later.more = 0;
    SAYS(CUEBALL_OK, cueball_threaded_claim_with(pool, &later.options, &lease));
    SAYS(CUEBALL_OK, cueball_lease_release(&lease));
    SAYS(CUEBALL_OK, cueball_threaded_claim(pool, 1e300, &lease));
    SAYS(CUEBALL_OK, cueball_lease_release(&lease));
    SAYS(CUEBALL_OK, cueball_threaded_claim(pool, -INFINITY, &lease));
    SAYS(CUEBALL_OK, cueball_lease_release(&lease));
}

/* ------------------------------------------------------------------- stale -- */

static void all_say(int error, const cueball_lease *lease)
{
    cueball_threaded_backend backend = { .struct_size = sizeof backend };
    char text[100];
    cueball_lease copy = *lease;
    SAYS(error, cueball_lease_report(&copy, true));
    SAYS(error, cueball_lease_backend(&copy, &backend));
    SAYS(error, cueball_lease_explain(&copy, text, sizeof text));
    SAYS(error, cueball_lease_detach(&copy));
    copy = *lease;
    SAYS(error, cueball_lease_adopt(&copy));
    copy = *lease;
    SAYS(error, cueball_lease_release(&copy));
    copy = *lease;
    SAYS(error, cueball_lease_close(&copy));
    copy = *lease;
    SAYS(error, cueball_lease_fail(&copy, "stale"));
    if (error == CUEBALL_ESTALE)
        MUST(copy.pool == NULL, "stale, and still a lease");
}

static void stale_leases(void)
{
    cueball_lease lease = { 0 }, others[3] = { { 0 } };
    all_say(CUEBALL_ESTALE, &lease);
    for (int way = 0; way < 3; way++) {
        faulty_host_await_idle(host, 3);
        SAYS(CUEBALL_OK, cueball_threaded_claim(pool, 30000, &lease));
        cueball_lease copy = lease;
        SAYS(CUEBALL_OK, way == 0   ? cueball_lease_release(&lease)
                         : way == 1 ? cueball_lease_close(&lease)
                                    : cueball_lease_fail(&lease, ""));
        all_say(CUEBALL_ESTALE, &lease);
        all_say(CUEBALL_ESTALE, &copy);
        /* Nor when others have all connections, that one too. */
        for (int i = 0; i < 3; i++)
            SAYS(CUEBALL_OK, cueball_threaded_claim(pool, 30000, &others[i]));
        all_say(CUEBALL_ESTALE, &copy);
        for (int i = 0; i < 3; i++)
            SAYS(CUEBALL_OK, cueball_lease_release(&others[i]));
    }
}

/* The lease is one's own until its end, whatever is asked of it meanwhile. */
static void leases_that_last(void)
{
    cueball_lease lease = { 0 };
    cueball_threaded_backend backend = { .struct_size = sizeof backend };
    char text[300], why[2000];
    memset(why, 'x', sizeof why - 1);
    why[sizeof why - 1] = 0;
    faulty_host_await_idle(host, 3);
    SAYS(CUEBALL_OK, cueball_threaded_claim(pool, 30000, &lease));
    SAYS(CUEBALL_EINVAL, cueball_lease_backend(&lease, NULL));
    SAYS(CUEBALL_OK, cueball_lease_backend(&lease, &backend));
    MUST(backend.key[0] == 'b' && strcmp(backend.address, "127.0.0.1") == 0 && backend.port > 0, "%s", backend.key);
    MUST(cueball_lease_explain(&lease, text, sizeof text) >= 0 && cueball_lease_explain(&lease, NULL, 0) >= 0, "explain");
    for (int i = 0; i < 3; i++) {
        SAYS(CUEBALL_OK, cueball_lease_report(&lease, i == 1));
        SAYS(CUEBALL_OK, cueball_lease_detach(&lease));
        SAYS(CUEBALL_OK, cueball_lease_detach(&lease));
        SAYS(CUEBALL_OK, cueball_lease_adopt(&lease));
        SAYS(CUEBALL_OK, cueball_lease_adopt(&lease));
    }
    SAYS(CUEBALL_OK, cueball_lease_fail(&lease, why));
    MUST(lease.pool == NULL && lease.loan == NULL, "over, and still a lease");
}

/* ------------------------------------------------------------------ forked -- */

static int child_run(cueball_lease *lease)
{
    cueball_lease other = { 0 };
    cueball_threaded *found = NULL;
    char text[100] = "";
    SAYS(CUEBALL_EFORKED, cueball_threaded_claim(pool, INFINITY, &other));
    MUST(strstr(cueball_last_error(), "fork"), "%s", cueball_last_error());
    SAYS(CUEBALL_EFORKED, cueball_threaded_try_claim(pool, &other));
    SAYS(CUEBALL_EFORKED, cueball_threaded_claim_with(pool, NULL, &other));
    all_say(CUEBALL_EFORKED, lease);
    SAYS(CUEBALL_EFORKED, cueball_threaded_state(pool));
    SAYS(CUEBALL_EFORKED, cueball_threaded_explain(pool, text, sizeof text));
    cueball_stats stats = { .struct_size = sizeof stats };
    cueball_threaded_stats(pool, &stats);
    MUST(stats.claims == 0, "%llu claims", (unsigned long long)stats.claims);
    int result = cueball_threaded_find("misused", &found);
    MUST(result == CUEBALL_EFORKED || result == CUEBALL_ENOT_FOUND, "find: %d", result);
    MUST(cueball_threaded_lock(pool) == NULL, "lock");
    cueball_threaded_drop(pool);
    return 0;
}

static void *claim_often(void *argument)
{
    _Atomic bool *is_over = argument;
    while (!atomic_load(is_over)) {
        cueball_lease lease;
        if (cueball_threaded_claim(pool, 30000, &lease) == CUEBALL_OK)
            MUST(cueball_lease_release(&lease) == CUEBALL_OK, "release");
    }
    return NULL;
}

/* While others claim, so that the lock may be taken at that moment.  A pool of the child's own works. */
static void forked(void)
{
    pthread_t threads[4];
    _Atomic bool is_over = false;
    cueball_lease lease = { 0 };
    faulty_host_await_idle(host, 3);
    SAYS(CUEBALL_OK, cueball_threaded_claim(pool, 30000, &lease));
    for (int i = 0; i < 4; i++)
        MUST(pthread_create(&threads[i], NULL, claim_often, &is_over) == 0, "pthread_create");
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        MUST(child >= 0, "fork");
        if (child == 0) {
            must_end_within(60);
            child_run(&lease);
            if (i == 0) {
                host_begin();
                cueball_lease own = { 0 };
                SAYS(CUEBALL_OK, cueball_threaded_claim(pool, 30000, &own));
                SAYS(CUEBALL_OK, cueball_lease_release(&own));
                faulty_host_stop(host);
                faulty_host_join(host, NULL);
            }
            _exit(0);
        }
        int status = 0;
        MUST(waitpid(child, &status, 0) == child, "waitpid");
        MUST(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %d", status);
    }
    atomic_store(&is_over, true);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    SAYS(CUEBALL_OK, cueball_lease_release(&lease));
}

/* ----------------------------------------------------------------- stopped -- */

static void stopped(void)
{
    cueball_lease held = { 0 }, other = { 0 };
    cueball_threaded *found = NULL;
    char text[100];
    faulty_host_await_idle(host, 3);
    SAYS(CUEBALL_OK, cueball_threaded_claim(pool, 30000, &held));
    faulty_host_stop(host);
    faulty_host_stop(host);
    int result = cueball_threaded_claim(pool, INFINITY, &other);
    while (result == CUEBALL_OK) { /* the host has not heard yet */
        cueball_lease_release(&other);
        result = cueball_threaded_claim(pool, INFINITY, &other);
    }
    SAYS(CUEBALL_EPOOL_STOPPING, result);
    /* After drain_timeout_ms the lease is taken away. */
    MUST(recv(held.fd, text, 1, MSG_PEEK) == 0, "the descriptor of a lease that was taken away was not shut down");
    other = held;
    SAYS(CUEBALL_ESTALE, cueball_lease_report(&other, false));
    SAYS(CUEBALL_ESTALE, cueball_lease_release(&other)); /* the host waits for that */
    all_say(CUEBALL_ESTALE, &held);
    faulty_host_join(host, NULL);
    for (int i = 0; i < 2; i++) {
        SAYS(CUEBALL_EPOOL_STOPPING, cueball_threaded_claim(pool, INFINITY, &other));
        SAYS(CUEBALL_EPOOL_STOPPING, cueball_threaded_try_claim(pool, &other));
        SAYS(CUEBALL_EPOOL_STOPPING, cueball_threaded_claim_with(pool, NULL, &other));
        MUST(cueball_last_error()[0] != 0, "nothing is said");
    }
    all_say(CUEBALL_ESTALE, &held);
    SAYS(CUEBALL_ENOT_FOUND, cueball_threaded_find("misused", &found));
    SAYS(CUEBALL_POOL_STOPPED, cueball_threaded_state(pool));
    MUST(strcmp(cueball_threaded_name(pool), "misused") == 0, "%s", cueball_threaded_name(pool));
    MUST(cueball_threaded_explain(pool, text, sizeof text) >= 0, "explain");
    MUST(cueball_threaded_lock(pool) == NULL, "lock");
    faulty_host_free(host);
    MUST(atomic_load(&memory.held) == 0, "%zu bytes are left", atomic_load(&memory.held));
}

int main(void)
{
    must_describe("threaded_misuse");
    must_end_within(300);
    host_begin();
    claimers_null();
    hosts_null();
    values_are_refused();
    stale_leases();
    leases_that_last();
#if !defined __SANITIZE_ADDRESS__ /* whose malloc may be locked for good in a child */
    forked();
#else
    (void)forked;
#endif
    host_end();
    host_begin();
    stopped();
    puts("well");
    return 0;
}
