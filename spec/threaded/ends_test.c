/* Connections that break, that are taken away, and processes that fork. */
#define _GNU_SOURCE

#include "host.h"

#include <fcntl.h>
#include <sys/wait.h>

static host h;

static void begin_with(cueball_threaded_options options, cueball_options pool_options, bool gives_no_pointers)
{
    memset(&h, 0, sizeof h);
    h.has_sockets = true;
    h.gives_no_pointers = gives_no_pointers;
    host_begin(&h, &options, &pool_options, 1);
    host_until(&h, pool_options.max_connections);
}

static void begin(cueball_threaded_options options, cueball_options pool_options)
{
    begin_with(options, pool_options, false);
}

static cueball_stats stats_of(void)
{
    cueball_stats stats = { .struct_size = sizeof stats };
    cueball_threaded_stats(h.pool, &stats);
    return stats;
}

static cueball_lease claim(void)
{
    cueball_lease lease;
    MUST(cueball_threaded_claim(h.pool, 60000, &lease) == CUEBALL_OK && lease.fd >= 0);
    return lease;
}

/* Its peer closes a connection at rest: the pool has another before anybody claims. */
static void test_lost_at_rest(void)
{
    begin((cueball_threaded_options){ 0 }, host_options(1));
    cueball_lease lease = claim();
    host_conn *c = lease.pointer;
    MUST(cueball_lease_close(&lease) == CUEBALL_OK); /* not kept, so that it rests */
    host_until(&h, 2);
    while (stats_of().idle == 0)
        usleep(1000);
    shutdown(c->peer, SHUT_RDWR);
    host_until(&h, 3);
    MUST(stats_of().lost == 1);
    host_end(&h);
    printf("lost at rest: replaced\n");
}

/* What was sent unasked is not for the next claimer, nor is a connection that is lost. */
static void test_seen_at_release(void)
{
    for (int turns = 0; turns < 2; turns++) {
        begin((cueball_threaded_options){ .turn_ms = turns ? 60000 : -1 }, host_options(1));
        usleep(5000);
        for (int lost = 0; lost < 2; lost++) {
            cueball_lease lease = claim();
            MUST(cueball_lease_release(&lease) == CUEBALL_OK); /* with turns: it is kept */
            lease = claim();
            host_conn *c = lease.pointer;
            if (lost)
                shutdown(c->peer, SHUT_RDWR);
            else
                MUST(write(c->peer, "x", 1) == 1);
            MUST(cueball_lease_release(&lease) == CUEBALL_OK);
            lease = claim();
            char byte;
            MUST(recv(lease.fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0);
            MUST(cueball_lease_release(&lease) == CUEBALL_OK);
        }
        cueball_pool *core = cueball_threaded_lock(h.pool);
        MUST(cueball_pool_closed_by(core, CUEBALL_CAUSE_UNFIT) == 1 && cueball_pool_closed_by(core, CUEBALL_CAUSE_LOST) == 1);
        cueball_threaded_unlock(h.pool);
        host_end(&h);
    }
    printf("seen at release: bytes that nobody read, and the end\n");
}

static bool blocks(int fd)
{
    return !(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

static void test_nonblocking(void)
{
    begin_with((cueball_threaded_options){ 0 }, host_options(1), true); /* else the descriptor is a library's, and left as it is */
    for (int i = 0; i < 4; i++) {
        cueball_lease lease;
        cueball_threaded_claim_options options = { .struct_size = sizeof options, .timeout_ms = 60000, .nonblocking = i % 2 == 1 };
        MUST(cueball_threaded_claim_with(h.pool, &options, &lease) == CUEBALL_OK);
        MUST(blocks(lease.fd) == !options.nonblocking);
        MUST(cueball_lease_release(&lease) == CUEBALL_OK);
    }
    host_end(&h);
    printf("nonblocking: as the claim says\n");
}

/* The drain time is over while a thread has a connection: it is shut down, and closed
 * when the thread gives it back. */
static void test_orphan(void)
{
    cueball_options options = host_options(1);
    options.drain_timeout_ms = 20;
    begin((cueball_threaded_options){ 0 }, options);
    cueball_lease lease = claim();
    cueball_pool_stop(cueball_threaded_lock(h.pool), cueball_clock_now());
    cueball_threaded_unlock(h.pool);
    char byte;
    MUST(read(lease.fd, &byte, 1) == 0); /* until it is shut down */
    while (cueball_threaded_state(h.pool) != CUEBALL_POOL_STOPPED)
        usleep(1000);
    MUST(fcntl(lease.fd, F_GETFD) >= 0); /* not closed: its number is nobody else's */
    printf("orphan: %s", said(cueball_lease_release(&lease)));
    while (atomic_load(&h.orphans) == 0)
        usleep(1000);
    printf(", then closed\n");
    host_end(&h);
}

static void test_fork(void)
{
    begin((cueball_threaded_options){ .name = "db" }, host_options(2));
    usleep(5000);
    cueball_lease lease = claim(), kept = claim();
    MUST(cueball_lease_release(&kept) == CUEBALL_OK);
    fflush(stdout);
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0) {
        cueball_lease other;
        cueball_threaded *pool;
        cueball_threaded_backend backend = { 0 };
        bool refuses = cueball_threaded_claim(h.pool, 1, &other) == CUEBALL_EFORKED
                       && cueball_lease_backend(&lease, &backend) == CUEBALL_EFORKED && cueball_lease_release(&lease) == CUEBALL_EFORKED
                       && cueball_threaded_state(h.pool) == CUEBALL_EFORKED && cueball_threaded_find("db", &pool) == CUEBALL_ENOT_FOUND
                       && !cueball_threaded_lock(h.pool);
        cueball_threaded_drop(h.pool);
        cueball_options options = host_options(1);
        cueball_threaded_options threaded = { .struct_size = sizeof threaded, .wake_fd = -1, .name = "db" };
        refuses =
            refuses && cueball_threaded_new(&threaded, &options, cueball_allocator_libc(), 1, cueball_clock_now(), &pool) == CUEBALL_OK;
        cueball_threaded_close(pool);
        _exit(refuses ? 0 : 1);
    }
    int status = -1;
    MUST(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    MUST(cueball_lease_release(&lease) == CUEBALL_OK);
    host_end(&h);
    printf("fork: the child is refused, the parent goes on\n");
}

static void test_inspects(void)
{
    begin((cueball_threaded_options){ .inspects = true }, host_options(1));
    for (int i = 0; i < 10; i++) {
        cueball_lease lease = claim();
        MUST(cueball_lease_release(&lease) == CUEBALL_OK);
    }
    while (stats_of().released != 10)
        usleep(1000);
    MUST(atomic_load(&h.inspected) == 10);
    host_end(&h);
    printf("inspects: by the host, each time\n");
}

/* A connection that is told to the core alone is not for threads; the host has claims. */
static void test_host_claims(void)
{
    cueball_options options = host_options(1);
    cueball_threaded *pool;
    cueball_threaded_options threaded = { .struct_size = sizeof threaded, .wake_fd = -1 };
    MUST(cueball_threaded_new(&threaded, &options, cueball_allocator_libc(), 1, cueball_clock_now(), &pool) == CUEBALL_OK);
    cueball_backend_spec spec = { .key = "db1", .address = "10.0.0.1" };
    cueball_pool_backend_added(cueball_threaded_lock(pool), cueball_clock_now(), &spec);
    cueball_threaded_unlock(pool);
    cueball_action action;
    cueball_grant grant;
    cueball_lease lease;
    cueball_claim_options mine = { .timeout_ms = 60000, .user = 7 };
    MUST(cueball_threaded_host_claim(pool, cueball_clock_now(), &mine, &grant) == CUEBALL_WAITING);
    MUST(cueball_threaded_next_action(pool, &action) && action.kind == CUEBALL_ACTION_OPEN);
    cueball_handle conn = action.conn;
    MUST(cueball_threaded_claim(pool, 60000, &lease) == CUEBALL_EDEADLOCK);
    cueball_pool_conn_opened(cueball_threaded_lock(pool), cueball_clock_now(), conn);
    MUST(cueball_threaded_try_claim(pool, &lease) == CUEBALL_ECLAIM_TIMEOUT); /* with the lock: nothing waits */
    cueball_threaded_unlock(pool);
    MUST(cueball_threaded_next_action(pool, &action) && action.kind == CUEBALL_ACTION_GRANT && action.user == 7);
    MUST(cueball_threaded_deadline(pool) != 0);
    cueball_pool_lease_released(cueball_threaded_lock(pool), cueball_clock_now(), action.lease);
    cueball_threaded_unlock(pool);
    printf("host: %s: %s\n", said(cueball_threaded_try_claim(pool, &lease)), cueball_last_error());
    cueball_threaded_close(pool);
}

/* The allocation that fails, one after the other: an error, and nothing is left. */
static void test_memory(void)
{
    cueball_allocator allocator = { .user = &h, .allocate = host_allocate, .release = host_release };
    cueball_threaded_options threaded = { .struct_size = sizeof threaded, .wake_fd = -1, .name = "db", .clocks = true };
    cueball_options options = host_options(1);
    cueball_backend_spec spec = { .key = "db1", .address = "10.0.0.1" };
    int errors = 0;
    for (long n = 0;; n++) {
        cueball_threaded *pool;
        cueball_action action;
        cueball_lease lease;
        memset(&h, 0, sizeof h);
        atomic_store(&h.fails_at, n);
        int result = cueball_threaded_new(&threaded, &options, &allocator, 1, cueball_clock_now(), &pool);
        if (result == CUEBALL_OK) {
            result = cueball_pool_backend_added(cueball_threaded_lock(pool), cueball_clock_now(), &spec);
            cueball_threaded_unlock(pool);
            while (cueball_threaded_next_action(pool, &action))
                if (action.kind == CUEBALL_ACTION_OPEN && cueball_threaded_conn_opened(pool, cueball_clock_now(), action.conn, -1, &h))
                    result = CUEBALL_ENOMEM;
            if (result == CUEBALL_OK && cueball_threaded_try_claim(pool, &lease) == CUEBALL_OK)
                MUST(cueball_lease_fail(&lease, "why") == CUEBALL_OK);
            cueball_threaded_close(pool);
        }
        MUST(result == CUEBALL_OK || result == CUEBALL_ENOMEM);
        MUST(atomic_load(&h.memory) == 0);
        errors += result != CUEBALL_OK;
        if (atomic_load(&h.fails_at) >= 0)
            break;
    }
    MUST(errors > 5);
    printf("memory: each allocation may fail\n");
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    test_lost_at_rest();
    test_seen_at_release();
    test_nonblocking();
    test_orphan();
    test_fork();
    test_inspects();
    test_host_claims();
    test_memory();
    return 0;
}
