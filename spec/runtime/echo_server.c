#include "echo_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS_MAX = 256, LINE_MAX_ = 200 };

struct echo_server {
    pthread_t thread;
    int listener, ends[2];
    uint16_t port;
    kit_chance chance;
    double hangs_up;
    _Atomic bool is_calm;
    struct pollfd polled[CLIENTS_MAX];
    struct client {
        char line[LINE_MAX_];
        size_t length;
    } clients[CLIENTS_MAX];
    nfds_t polled_n; /* the first two are the end and the listener */
};

static void server_accept(echo_server *server)
{
    int one = 1, fd = accept(server->listener, NULL, NULL);
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (server->polled_n == CLIENTS_MAX) {
        close(fd);
        return;
    }
    server->clients[server->polled_n].length = 0;
    server->polled[server->polled_n++] = (struct pollfd){ .fd = fd, .events = POLLIN };
}

static void server_hang_up(echo_server *server, nfds_t index)
{
    close(server->polled[index].fd);
    server->polled_n--;
    server->polled[index] = server->polled[server->polled_n];
    server->clients[index] = server->clients[server->polled_n];
}

/* False: it is gone, and another stands in its place. */
static bool server_read(echo_server *server, nfds_t index)
{
    struct client *client = &server->clients[index];
    int fd = server->polled[index].fd;
    ssize_t size = recv(fd, client->line + client->length, sizeof client->line - client->length, MSG_DONTWAIT);
    if (size <= 0) {
        server_hang_up(server, index);
        return false;
    }
    client->length += (size_t)size;
    char *end = memchr(client->line, '\n', client->length);
    if (!end)
        return true;
    size_t length = (size_t)(end - client->line) + 1;
    bool hangs_up = !atomic_load(&server->is_calm) && chance_is(&server->chance, server->hangs_up);
    if (hangs_up || client->length != length || send(fd, client->line, length, MSG_NOSIGNAL) != (ssize_t)length) {
        server_hang_up(server, index);
        return false;
    }
    client->length = 0;
    return true;
}

static void *server_run(void *argument)
{
    echo_server *server = argument;
    for (;;) {
        if (poll(server->polled, server->polled_n, -1) < 0)
            continue;
        if (server->polled[0].revents)
            break;
        bool has_caller = server->polled[1].revents & POLLIN;
        for (nfds_t i = 2; i < server->polled_n;)
            if (!server->polled[i].revents || server_read(server, i))
                server->polled[i++].revents = 0;
        if (has_caller)
            server_accept(server);
    }
    while (server->polled_n > 2)
        server_hang_up(server, 2);
    return NULL;
}

echo_server *echo_server_start(uint64_t seed, double hangs_up)
{
    echo_server *server = calloc(1, sizeof *server);
    MUST(server, "memory");
    server->chance = chance_of(seed, 77);
    server->hangs_up = hangs_up;
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(server->listener >= 0 && pipe(server->ends) == 0, "socket: %s", strerror(errno));
    MUST(bind(server->listener, (struct sockaddr *)&address, size) == 0 && listen(server->listener, 128) == 0, "listen: %s",
         strerror(errno));
    MUST(getsockname(server->listener, (struct sockaddr *)&address, &size) == 0, "getsockname");
    server->port = ntohs(address.sin_port);
    server->polled[0] = (struct pollfd){ .fd = server->ends[0], .events = POLLIN };
    server->polled[1] = (struct pollfd){ .fd = server->listener, .events = POLLIN };
    server->polled_n = 2;
    MUST(pthread_create(&server->thread, NULL, server_run, server) == 0, "pthread_create");
    return server;
}

uint16_t echo_server_port(const echo_server *server)
{
    return server->port;
}

void echo_server_calm(echo_server *server)
{
    atomic_store(&server->is_calm, true);
}

void echo_server_stop(echo_server *server)
{
    MUST(write(server->ends[1], "x", 1) == 1, "write");
    pthread_join(server->thread, NULL);
    close(server->listener);
    close(server->ends[0]);
    close(server->ends[1]);
    free(server);
}
