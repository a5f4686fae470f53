/* cueball_threaded with a host in C, over connections that do nothing.  Options of its own:
 *
 *     --clocks on | off     whether leases of a turn are timed
 *     --turn-ms X           how long a thread keeps its connection at most; negative: each claim and release takes the lock
 *     --turn-leases N       likewise, how many leases
 *     --backends N          10, or one for each connection if there are fewer of these
 *     --balance NAME        fifo, lifo or p2c */
#define _POSIX_C_SOURCE 200809L
#include "cueball_threaded.h"

struct peer_lease {
    cueball_lease lease;
};
#include "measure.h"

#include <math.h>
#include <poll.h>
#include <sys/eventfd.h>

static cueball_threaded_options threaded_options = { .struct_size = sizeof threaded_options, .name = "bench", .clocks = true };
static int32_t balance = CUEBALL_BALANCE_FIFO;
static uint32_t backends = 10;
static cueball_threaded *pool;
static pthread_t host;
static _Atomic bool is_open, is_to_stop;
static int nothing; /* what connections point to */

static const char *peer_name(void)
{
    return threaded_options.turn_ms < 0 ? "cueball-lock" : threaded_options.clocks ? "cueball" : "cueball-noclocks";
}

static bool peer_option(const char *name, const char *value)
{
    static const char *const SWITCH[] = { "off", "on", NULL };
    static const char *const BALANCES[] = { "fifo", "lifo", "p2c", NULL };
    if (strcmp(name, "--clocks") == 0)
        threaded_options.clocks = one_of(SWITCH, value) == 1;
    else if (strcmp(name, "--turn-ms") == 0)
        threaded_options.turn_ms = strtod(value, NULL);
    else if (strcmp(name, "--turn-leases") == 0)
        threaded_options.turn_leases = (uint32_t)strtoul(value, NULL, 10);
    else if (strcmp(name, "--backends") == 0)
        backends = (uint32_t)strtoul(value, NULL, 10);
    else if (strcmp(name, "--balance") == 0)
        balance = one_of(BALANCES, value);
    else
        return false;
    return true;
}

/* ------------------------------------------------------------------ host -- */

static void host_add_backends(void)
{
    cueball_pool *core = cueball_threaded_lock(pool);
    uint32_t count = backends < given.connections ? backends : given.connections;
    for (uint32_t i = 0; i < count; i++) {
        char key[16];
        snprintf(key, sizeof key, "node%u", i);
        cueball_backend_spec spec = { .struct_size = sizeof spec, .key = key, .name = key, .address = "127.0.0.1", .port = 1 };
        MUST(cueball_pool_backend_added(core, cueball_clock_now(), &spec) == CUEBALL_OK);
    }
    cueball_threaded_unlock(pool);
}

static void host_perform(void)
{
    cueball_action action;
    while (cueball_threaded_next_action(pool, &action)) {
        cueball_time now = cueball_clock_now();
        if (action.kind == CUEBALL_ACTION_OPEN) {
            /* CUEBALL_ESTALE: meanwhile the pool came to want it elsewhere, and there is nothing to close. */
            int result = cueball_threaded_conn_opened(pool, now, action.conn, -1, &nothing);
            MUST(result == CUEBALL_OK || result == CUEBALL_ESTALE);
        } else if (action.kind == CUEBALL_ACTION_CLOSE) {
            MUST(cueball_pool_conn_closed(cueball_threaded_lock(pool), now, action.conn) == CUEBALL_OK);
            cueball_threaded_unlock(pool);
        }
    }
}

/* Until the pool's deadline, or until threads want something. */
static void host_wait(void)
{
    struct pollfd watched[] = { { .fd = threaded_options.wake_fd, .events = POLLIN },
                                { .fd = cueball_threaded_watch_fd(pool), .events = POLLIN } };
    cueball_time now = cueball_clock_now(), deadline = cueball_threaded_deadline(pool);
    cueball_time rest = deadline > now ? (deadline - now + 999999) / 1000000 : 0;
    MUST(poll(watched, 2, rest < 1000 ? (int)rest : 1000) >= 0);
    uint64_t count;
    if (watched[0].revents)
        MUST(read(threaded_options.wake_fd, &count, sizeof count) == sizeof count);
    if (watched[1].revents)
        cueball_threaded_look(pool, cueball_clock_now());
    cueball_threaded_time_advanced(pool, cueball_clock_now());
}

static void *host_run(void *unused)
{
    cueball_options options;
    cueball_options_init(&options);
    options.max_connections = given.connections;
    options.spares = UINT32_MAX;
    options.balance = balance;
    threaded_options.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    cueball_threaded *made;
    MUST(cueball_threaded_new(&threaded_options, &options, cueball_allocator_libc(), 1, cueball_clock_now(), &made) == CUEBALL_OK);
    pool = made;
    host_add_backends();
    while (!is_to_stop) {
        host_perform();
        cueball_counts counts;
        cueball_pool_counts(cueball_threaded_lock(pool), &counts);
        cueball_threaded_unlock(pool);
        if (counts.idle == given.connections)
            is_open = true;
        host_wait();
    }
    cueball_threaded_close(pool);
    return unused;
}

/* ------------------------------------------------------------------ peer -- */

static void peer_open(uint32_t connections)
{
    MUST(pthread_create(&host, NULL, host_run, NULL) == 0);
    while (!is_open)
        sleep_ns(1000000);
    cueball_stats stats = { .struct_size = sizeof stats };
    cueball_threaded_stats(pool, &stats);
    MUST(stats.idle == connections && stats.total == connections);
}

static void peer_over(void)
{
}

static void peer_close(void)
{
    uint64_t one = 1;
    is_to_stop = true;
    MUST(write(threaded_options.wake_fd, &one, sizeof one) == sizeof one);
    MUST(pthread_join(host, NULL) == 0);
    close(threaded_options.wake_fd);
}

static inline void peer_claim(peer_lease *lease)
{
    MUST(cueball_threaded_claim(pool, INFINITY, &lease->lease) == CUEBALL_OK);
}

static inline void peer_release(peer_lease *lease)
{
    MUST(cueball_lease_release(&lease->lease) == CUEBALL_OK);
}
