/* A host in C for the specs of pools for threads, and what such specs need.
 *
 * Connections are dummies (a pointer, no descriptor), or ends of socket pairs whose other
 * ends the spec has.  Included by one C file each, as it is all static. */
#ifndef CUEBALL_SPEC_THREADED_HOST_H
#define CUEBALL_SPEC_THREADED_HOST_H

#include "cueball_threaded.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#if defined __GNUC__
#define MAYBE_UNUSED __attribute__((unused))
#else
#define MAYBE_UNUSED
#endif

enum { HOST_SLOTS = 256 };

#define MUST(that)                                                                                                                         \
    do {                                                                                                                                   \
        if (!(that)) {                                                                                                                     \
            printf("%s:%d: %s; last error: %s\n", __FILE__, __LINE__, #that, cueball_last_error());                                        \
            fflush(stdout);                                                                                                                \
            abort();                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

typedef struct host_conn {
    cueball_handle conn;
    int fd, peer; /* -1: a dummy */
    bool is_orphan;
} host_conn;

typedef struct host {
    cueball_threaded *pool;
    pthread_t thread;
    atomic_bool ends, refuses; /* refuses: attempts fail */
    atomic_bool stands_still;  /* does nothing until it is false */
    atomic_uint opened, closed, failed, orphans, inspected, loops;
    int wake_fd;
    bool has_sockets;
    bool opens_broken; /* the other ends of sockets are closed already */
    bool gives_no_pointers;
    double drain_ms;
    host_conn conns[HOST_SLOTS];
    char told[256];
    atomic_uint heard;    /* failures that were told */
    atomic_size_t memory; /* bytes that the pool holds */
    atomic_long fails_at; /* the allocation that fails, counted down; below 0: none */
} host;

static void *host_allocate(void *user, size_t size)
{
    host *h = user;
    if (atomic_load(&h->fails_at) >= 0 && atomic_fetch_sub(&h->fails_at, 1) == 0)
        return NULL;
    atomic_fetch_add(&h->memory, size);
    return malloc(size);
}

static void host_release(void *user, void *memory, size_t size)
{
    host *h = user;
    atomic_fetch_sub(&h->memory, size);
    free(memory);
}

static void host_conn_close(host_conn *c)
{
    if (c->fd >= 0)
        close(c->fd);
    if (c->peer >= 0)
        close(c->peer);
    *c = (host_conn){ .fd = -1, .peer = -1 };
}

static void host_open(host *h, const cueball_action *action)
{
    cueball_time now = cueball_clock_now();
    host_conn *c = &h->conns[action->slot];
    if (atomic_load(&h->refuses)) {
        cueball_threaded_note(h->pool, "db1: refused");
        cueball_pool_conn_failed(cueball_threaded_lock(h->pool), now, action->conn);
        cueball_threaded_unlock(h->pool);
        atomic_fetch_add(&h->failed, 1);
        return;
    }
    int ends[2] = { -1, -1 };
    if (h->has_sockets)
        MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    if (h->opens_broken) {
        MUST(close(ends[1]) == 0);
        ends[1] = -1;
    }
    *c = (host_conn){ .conn = action->conn, .fd = ends[0], .peer = ends[1] };
    if (cueball_threaded_conn_opened(h->pool, now, action->conn, ends[0], h->gives_no_pointers ? NULL : c) == CUEBALL_OK)
        atomic_fetch_add(&h->opened, 1);
    else
        host_conn_close(c);
}

static host_conn orphans[HOST_SLOTS]; /* of the one host that a spec drains with leases out */

static void host_close(host *h, const cueball_action *action)
{
    host_conn *c = &h->conns[action->slot];
    if (cueball_threaded_is_held(h->pool, action->conn))
        orphans[action->slot] = *c;
    else
        host_conn_close(c);
    atomic_fetch_add(&h->closed, 1);
    cueball_pool_conn_closed(cueball_threaded_lock(h->pool), cueball_clock_now(), action->conn);
    cueball_threaded_unlock(h->pool);
}

static void host_perform(host *h, const cueball_action *action)
{
    switch (action->kind) {
    case CUEBALL_ACTION_OPEN:
        host_open(h, action);
        break;
    case CUEBALL_ACTION_CLOSE:
        host_close(h, action);
        break;
    case CUEBALL_ACTION_CHECK:
        cueball_pool_conn_checked(cueball_threaded_lock(h->pool), cueball_clock_now(), action->conn, true);
        cueball_threaded_unlock(h->pool);
        break;
    default:
        break;
    }
}

static void host_hear(host *h, const cueball_return *what)
{
    if (what->kind == CUEBALL_RETURN_ORPHAN) {
        host_conn_close(&orphans[what->slot]);
        atomic_fetch_add(&h->orphans, 1);
    } else if (what->kind == CUEBALL_RETURN_INSPECT) {
        atomic_fetch_add(&h->inspected, 1);
        cueball_pool_lease_released(cueball_threaded_lock(h->pool), cueball_clock_now(), what->lease);
        cueball_threaded_unlock(h->pool);
    } else {
        memcpy(h->told, what->text, sizeof h->told);
        atomic_fetch_add(&h->heard, 1);
    }
}

static void host_wait(host *h)
{
    struct pollfd fds[2] = { { .fd = h->wake_fd, .events = POLLIN }, { .fd = cueball_threaded_watch_fd(h->pool), .events = POLLIN } };
    cueball_time deadline = cueball_threaded_deadline(h->pool), now = cueball_clock_now();
    int timeout_ms = deadline <= now ? 0 : deadline - now > 60000000000u ? 60000 : (int)((deadline - now) / 1000000u) + 1;
    uint64_t count;
    (void)poll(fds, 2, timeout_ms);
    if (fds[0].revents)
        MUST(read(h->wake_fd, &count, sizeof count) == sizeof count);
    if (fds[1].revents)
        cueball_threaded_look(h->pool, cueball_clock_now());
}

static void *host_run(void *given)
{
    host *h = given;
    for (;;) {
        cueball_action action;
        cueball_return what;
        while (cueball_threaded_next_action(h->pool, &action))
            host_perform(h, &action);
        while (cueball_threaded_next_return(h->pool, &what))
            host_hear(h, &what);
        if (atomic_load(&h->ends) && cueball_threaded_state(h->pool) == CUEBALL_POOL_STOPPED)
            break;
        host_wait(h);
        while (atomic_load(&h->stands_still))
            usleep(1000);
        cueball_threaded_time_advanced(h->pool, cueball_clock_now());
        atomic_fetch_add(&h->loops, 1);
    }
    return NULL;
}

/* Has the host look at what was told it otherwise than through the pool. */
static void host_nudge(host *h)
{
    uint64_t one = 1;
    MUST(write(h->wake_fd, &one, sizeof one) == sizeof one);
}

/* With one backend, db1, and as many others as are wanted: db2 and so on. */
static void host_begin(host *h, cueball_threaded_options *options, const cueball_options *pool_options, int backends)
{
    cueball_allocator allocator = { .user = h, .allocate = host_allocate, .release = host_release };
    for (int i = 0; i < HOST_SLOTS; i++)
        h->conns[i].fd = h->conns[i].peer = -1;
    if (h->memory == 0)
        atomic_store(&h->fails_at, -1);
    h->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    options->struct_size = sizeof *options;
    options->wake_fd = h->wake_fd;
    MUST(cueball_threaded_new(options, pool_options, &allocator, 1, cueball_clock_now(), &h->pool) == CUEBALL_OK);
    for (int i = 1; i <= backends; i++) {
        char key[16];
        snprintf(key, sizeof key, "db%d", i);
        cueball_backend_spec spec = { .key = key, .address = "10.0.0.1", .port = 5432 };
        MUST(cueball_pool_backend_added(cueball_threaded_lock(h->pool), cueball_clock_now(), &spec) == CUEBALL_OK);
        cueball_threaded_unlock(h->pool);
    }
    MUST(pthread_create(&h->thread, NULL, host_run, h) == 0);
}

MAYBE_UNUSED static void host_until(host *h, unsigned opened)
{
    while (atomic_load(&h->opened) < opened)
        usleep(1000);
}

/* Waits until so many claims are queued. */
MAYBE_UNUSED static void host_until_waiting(host *h, uint32_t waiting)
{
    cueball_stats stats = { .struct_size = sizeof stats };
    do {
        usleep(1000);
        cueball_threaded_stats(h->pool, &stats);
    } while (stats.waiting != waiting);
}

/* Stops, drains, closes; what is left of memory is a fault. */
MAYBE_UNUSED static void host_end(host *h)
{
    cueball_pool_stop(cueball_threaded_lock(h->pool), cueball_clock_now());
    cueball_threaded_unlock(h->pool);
    atomic_store(&h->ends, true);
    host_nudge(h);
    pthread_join(h->thread, NULL);
    cueball_threaded_close(h->pool);
    close(h->wake_fd);
    MUST(atomic_load(&h->memory) == 0);
}

MAYBE_UNUSED static cueball_options host_options(uint32_t connections)
{
    cueball_options options;
    cueball_options_init(&options);
    options.max_connections = options.spares = connections;
    options.decoherence_interval_ms = 0;
    return options;
}

/* "0" or the error's name. */
MAYBE_UNUSED static const char *said(int result)
{
    return result == CUEBALL_OK ? "ok" : cueball_error_name(result);
}

#endif
