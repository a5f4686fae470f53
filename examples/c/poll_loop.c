/* The core alone under poll(2), driven by hand: no libuv, no Lua.  A pool of
 * four connections over two servers.
 *
 * In this repository:  cmake -DCUEBALL_EXAMPLES=ON makes build/examples/poll_loop.
 * With cueball installed:  cc poll_loop.c $(pkg-config --cflags --libs cueball) -o poll_loop && ./poll_loop
 *
 * The core does nothing itself.  This file is what stands around it: it opens
 * and closes what the actions say, tells what became of it, and sleeps until a
 * socket stirs or the core's deadline comes.  The servers are two listening
 * sockets of this very process; nobody needs to accept for a connection to open.
 */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cueball.h"

enum { CONNECTIONS = 4, SERVERS = 2, CLAIMS = 6, SLOTS_MAX = 64 };

/* What we keep for each slot of the pool. */
typedef struct connection {
    int fd; /* -1: none */
    cueball_handle conn;
    bool is_opening;
} connection;

static cueball_pool *pool;
static connection connections[SLOTS_MAX];
static int answered;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* A listening socket on a free port; nobody has to accept. */
static uint32_t listen_somewhere(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, 16) < 0
        || getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        die("listen");
    return ntohs(address.sin_port);
}

/* ------------------------------------------------------------ the actions -- */

static void do_open(const cueball_action *action)
{
    connection *one = &connections[action->slot];
    cueball_backend_info backend = { .struct_size = sizeof backend };
    if (cueball_pool_backend_info(pool, action->backend, &backend) < 0)
        return;
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)backend.port) };
    inet_pton(AF_INET, backend.address, &address.sin_addr);
    *one = (connection){ .fd = socket(AF_INET, SOCK_STREAM, 0), .conn = action->conn, .is_opening = true };
    if (one->fd < 0 || fcntl(one->fd, F_SETFL, O_NONBLOCK) < 0)
        die("socket");
    printf("open     slot %u to %s, attempt %u\n", action->slot, backend.key, action->attempt);
    /* Whether it succeeded is seen when poll() says that it can be written to. */
    if (connect(one->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        die("connect");
}

static void close_fd(uint32_t slot)
{
    close(connections[slot].fd);
    connections[slot].fd = -1;
}

/* The claimer's work, which takes it no time, and its end. */
static void use(cueball_handle lease, uint32_t slot, uint64_t user)
{
    printf("claim %d  has slot %u\n", (int)user, slot);
    answered++;
    cueball_pool_lease_released(pool, cueball_clock_now(), lease);
}

static void drain(void)
{
    cueball_action action;
    while (cueball_pool_next_action(pool, &action)) {
        switch (action.kind) {
        case CUEBALL_ACTION_OPEN:
            do_open(&action);
            break;
        case CUEBALL_ACTION_GIVE_UP:
            close_fd(action.slot);
            break;
        case CUEBALL_ACTION_CLOSE:
            printf("close    slot %u\n", action.slot);
            close_fd(action.slot);
            cueball_pool_conn_closed(pool, cueball_clock_now(), action.conn);
            break;
        case CUEBALL_ACTION_CHECK:
            cueball_pool_conn_checked(pool, cueball_clock_now(), action.conn, true);
            break;
        case CUEBALL_ACTION_GRANT:
            use(action.lease, action.slot, action.user);
            break;
        case CUEBALL_ACTION_REFUSE:
            printf("claim %d  is refused: %s\n", (int)action.user, cueball_error_message(action.error));
            answered++;
            break;
        default:
            break;
        }
    }
}

/* --------------------------------------------------------------- the facts -- */

static void claim(uint64_t user)
{
    cueball_claim_options options = { .timeout_ms = 1000, .user = user };
    cueball_grant grant;
    int result = cueball_pool_claim(pool, cueball_clock_now(), &options, &grant);
    if (result == CUEBALL_OK) {
        use(grant.lease, grant.slot, user);
    } else if (result == CUEBALL_WAITING) {
        printf("claim %d  waits, %u before it\n", (int)user, grant.ahead);
    } else {
        printf("claim %d  is refused: %s\n", (int)user, cueball_error_message(result));
        answered++;
    }
}

/* What poll() saw at the socket of this slot. */
static void stirred(connection *one)
{
    cueball_time now = cueball_clock_now();
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(one->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (one->is_opening && error == 0) {
        one->is_opening = false;
        cueball_pool_conn_opened(pool, now, one->conn);
    } else if (one->is_opening) {
        close(one->fd);
        one->fd = -1;
        cueball_pool_conn_failed(pool, now, one->conn);
    } else {
        cueball_pool_conn_lost(pool, now, one->conn); /* a CLOSE follows */
    }
}

/* How long poll() may sleep, in its whole milliseconds, rounded up. */
static int poll_timeout_ms(void)
{
    cueball_time deadline = cueball_pool_deadline(pool), now = cueball_clock_now();
    if (deadline == CUEBALL_NEVER)
        return -1;
    if (deadline <= now)
        return 0;
    cueball_time ms = (deadline - now + 999999) / 1000000;
    return ms > 60000 ? 60000 : (int)ms;
}

static void turn(void)
{
    struct pollfd fds[SLOTS_MAX];
    nfds_t count = 0;
    uint32_t slots[SLOTS_MAX];
    drain();
    for (uint32_t slot = 0; slot < SLOTS_MAX; slot++) {
        if (connections[slot].fd < 0)
            continue;
        slots[count] = slot;
        fds[count++] = (struct pollfd){ .fd = connections[slot].fd, .events = connections[slot].is_opening ? POLLOUT : POLLIN };
    }
    if (poll(fds, count, poll_timeout_ms()) < 0)
        die("poll");
    for (nfds_t i = 0; i < count; i++) {
        if (fds[i].revents)
            stirred(&connections[slots[i]]);
    }
    cueball_pool_time_advanced(pool, cueball_clock_now());
    drain();
}

int main(void)
{
    cueball_options options;
    cueball_options_init(&options);
    options.max_connections = CONNECTIONS;
    for (uint32_t slot = 0; slot < SLOTS_MAX; slot++)
        connections[slot].fd = -1;
    int result = cueball_pool_new(&options, cueball_allocator_libc(), 42, cueball_clock_now(), &pool);
    if (result < 0) {
        fprintf(stderr, "%s\n", cueball_error_message(result));
        return 1;
    }
    for (int i = 1; i <= SERVERS; i++) {
        char key[16];
        snprintf(key, sizeof key, "server %d", i);
        cueball_backend_spec spec = { .key = key, .address = "127.0.0.1", .port = listen_somewhere() };
        cueball_pool_backend_added(pool, cueball_clock_now(), &spec);
    }
    for (uint64_t user = 1; user <= CLAIMS; user++)
        claim(user);
    cueball_stats stats = { .struct_size = sizeof stats };
    do {
        turn();
        cueball_pool_stats(pool, &stats);
    } while (answered < CLAIMS || stats.idle < CONNECTIONS);
    printf("all %d claims are answered, %u connections are idle\n", answered, stats.idle);

    cueball_pool_stop(pool, cueball_clock_now());
    drain(); /* everything closes at once here; a host that waits for that turns on until the pool has stopped */
    printf("the pool is %s\n", cueball_pool_state_name(cueball_pool_state_of(pool)));
    cueball_pool_free(pool);
    return 0;
}
