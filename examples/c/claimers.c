/* Ten threads, one pool: fifteen connections over three servers, one of which
 * goes away while they work.
 *
 * In this repository:  cmake -DCUEBALL_EXAMPLES=ON makes build/examples/claimers.
 * With cueball installed:
 *     cc claimers.c $(pkg-config --cflags --libs cueball-runtime) -pthread -o claimers && ./claimers
 *
 * Where the servers are and how to connect to them is said in Lua, which the
 * runtime runs in a thread of its own.  Each of the ten threads claims a
 * connection, sends a line, reads what comes back, and releases the connection.
 * The servers are threads of this very process. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cueball_runtime.h"

enum { THREADS = 10, REQUESTS = 500, SERVERS = 3, CLIENTS_MAX = 64 };

/* The script: its arguments are the servers' addresses.  It waits until the pool is
 * complete, and cueball_runtime_start() waits for the script. */
static const char SCRIPT[] = "local cueball = require 'cueball'\n"
                             "local pool = cueball.pool {\n"
                             "  name = 'echo',\n"
                             "  resolver = cueball.resolver.static { ... },\n"
                             "  connect = cueball.connection.tcp {},\n"
                             "  max_connections = 15, spares = 15,\n"
                             "  claim_timeout_ms = 10000,\n"
                             "}\n"
                             "assert(pool:ready { connections = 15 })\n";

typedef struct server {
    pthread_t thread;
    int listener;
    int life[2]; /* a pipe: the server ends when nobody can write to it any more */
    char address[32];
    atomic_uint lines; /* that it has answered */
} server;

static server servers[SERVERS];
static atomic_uint answered, repeated, given_up;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* ------------------------------------------------------------- the servers -- */

/* Sends back what comes.  false: the client has gone. */
static bool server_answer(server *one, int fd)
{
    char bytes[256];
    ssize_t size = read(fd, bytes, sizeof bytes);
    if (size <= 0)
        return false;
    atomic_fetch_add(&one->lines, 1);
    return send(fd, bytes, (size_t)size, MSG_NOSIGNAL) == size;
}

static void *server_run(void *given)
{
    server *one = given;
    struct pollfd fds[CLIENTS_MAX + 2] = { { .fd = one->life[0], .events = POLLIN }, { .fd = one->listener, .events = POLLIN } };
    nfds_t count = 2;
    while (poll(fds, count, -1) >= 0 && fds[0].revents == 0) {
        if (fds[1].revents != 0 && count < CLIENTS_MAX + 2)
            fds[count++] = (struct pollfd){ .fd = accept(one->listener, NULL, NULL), .events = POLLIN };
        for (nfds_t i = 2; i < count; i++) {
            if (fds[i].revents != 0 && !server_answer(one, fds[i].fd)) {
                close(fds[i].fd);
                fds[i--] = fds[--count];
            }
        }
    }
    for (nfds_t i = 0; i < count; i++)
        close(fds[i].fd);
    return NULL;
}

static void server_start(server *one)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    one->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (one->listener < 0 || bind(one->listener, (struct sockaddr *)&address, size) < 0 || listen(one->listener, CLIENTS_MAX) < 0
        || getsockname(one->listener, (struct sockaddr *)&address, &size) < 0 || pipe(one->life) < 0)
        die("a server");
    (void)snprintf(one->address, sizeof one->address, "127.0.0.1:%u", (unsigned)ntohs(address.sin_port));
    if (pthread_create(&one->thread, NULL, server_run, one) != 0)
        die("a server's thread");
}

static void server_end(server *one)
{
    close(one->life[1]);
    pthread_join(one->thread, NULL);
}

/* ------------------------------------------------------------ the claimers -- */

/* Sends a line and reads it back.  The descriptor blocks, as none was asked for that does not. */
static bool exchange(int fd, const char *line)
{
    char answer[64];
    size_t size = strlen(line), got = 0;
    if (send(fd, line, size, MSG_NOSIGNAL) != (ssize_t)size)
        return false;
    while (got < size) {
        ssize_t part = read(fd, answer + got, size - got);
        if (part <= 0)
            return false;
        got += (size_t)part;
    }
    return memcmp(line, answer, size) == 0;
}

/* One request, over whichever connection is free.  One that breaks is told to the
 * pool, which replaces it, and the request is repeated over another one. */
static void request(cueball_threaded *pool, const char *line)
{
    cueball_lease lease;
    while (cueball_threaded_claim(pool, 0, &lease) == CUEBALL_OK) { /* 0: as long as claim_timeout_ms says */
        if (exchange(lease.fd, line)) {
            cueball_lease_release(&lease);
            atomic_fetch_add(&answered, 1);
            return;
        }
        cueball_lease_fail(&lease, "no answer");
        atomic_fetch_add(&repeated, 1);
    }
    fprintf(stderr, "%s\n", cueball_last_error());
    atomic_fetch_add(&given_up, 1);
}

static void *claimer(void *given)
{
    cueball_threaded *pool = given;
    char line[32];
    for (int number = 1; number <= REQUESTS; number++) {
        (void)snprintf(line, sizeof line, "request %d\n", number);
        request(pool, line);
    }
    return NULL;
}

/* ---------------------------------------------------------------- the whole -- */

static unsigned open_connections(cueball_threaded *pool)
{
    cueball_stats stats = { .struct_size = sizeof stats };
    cueball_threaded_stats(pool, &stats);
    return stats.idle + stats.busy;
}

int main(void)
{
    const char *addresses[SERVERS];
    for (int i = 0; i < SERVERS; i++) {
        server_start(&servers[i]);
        addresses[i] = servers[i].address;
    }
    cueball_runtime_options options = { .struct_size = sizeof options, .text = SCRIPT, .arguments = addresses, .argument_count = SERVERS };
    cueball_runtime *runtime;
    cueball_threaded *pool;
    if (cueball_runtime_start(&options, &runtime) != CUEBALL_OK || cueball_runtime_pool(runtime, "echo", &pool) != CUEBALL_OK) {
        fprintf(stderr, "%s\n", cueball_last_error());
        return 1;
    }
    printf("%d servers, %u connections are open\n", SERVERS, open_connections(pool));

    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, claimer, pool) != 0)
            die("a claimer's thread");
    }
    while (atomic_load(&answered) < THREADS * REQUESTS / 4)
        poll(NULL, 0, 1);
    server_end(&servers[0]);
    printf("%s goes away\n", servers[0].address);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);

    char text[2048];
    cueball_threaded_explain(pool, text, sizeof text);
    printf("%s\n", text);
    for (int i = 0; i < SERVERS; i++)
        printf("%s answered %u\n", servers[i].address, atomic_load(&servers[i].lines));
    printf("%u requests were repeated over another connection\n", atomic_load(&repeated));
    printf("%d threads made %d requests each: %u were answered, %u were not\n", THREADS, REQUESTS, atomic_load(&answered),
           atomic_load(&given_up));

    int result = cueball_runtime_stop(runtime, 1000);
    printf("the pool is stopped, %u connections are open\n", open_connections(pool));
    cueball_threaded_drop(pool);
    cueball_runtime_free(runtime);
    server_end(&servers[1]);
    server_end(&servers[2]);
    return result != CUEBALL_OK || atomic_load(&given_up) != 0;
}
