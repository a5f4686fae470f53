/* The sockets of a client: c-ares opens and closes them through here.  What it
 * closes is kept open until whoever watches the socket has stopped: otherwise the
 * kernel could give its number to another, and that one would be watched. */
#define _GNU_SOURCE /* SOCK_CLOEXEC */

#include "dns.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

cueball__dns_socket *cueball__dns_socket_find(cueball_dns *dns, int fd)
{
    for (size_t i = 0; i < dns->socket_count; i++)
        if (dns->sockets[i].fd == fd)
            return &dns->sockets[i];
    return NULL;
}

static void socket_remove(cueball_dns *dns, cueball__dns_socket *one)
{
    (void)close(one->fd);
    *one = dns->sockets[--dns->socket_count];
}

static bool sockets_reserve(cueball_dns *dns)
{
    if (dns->socket_count < dns->socket_room)
        return true;
    size_t room = dns->socket_room ? 2 * dns->socket_room : 8;
    cueball__dns_socket *sockets = realloc(dns->sockets, room * sizeof *sockets);
    if (!sockets)
        return false;
    dns->sockets = sockets;
    dns->socket_room = room;
    return true;
}

/* Neither blocking nor inherited by programs that are started. */
static int socket_open(int family, int kind, int protocol)
{
#ifdef SOCK_CLOEXEC
    return socket(family, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
#else
    int fd = socket(family, kind, protocol);
    if (fd >= 0 && (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0)) {
        (void)close(fd);
        return -1;
    }
    return fd;
#endif
}

static ares_socket_t ares_open(int family, int kind, int protocol, void *user)
{
    cueball__dns_question *question = user;
    cueball_dns *dns = question->dns;
    if (!sockets_reserve(dns)) {
        question->fault = errno = ENOMEM;
        return ARES_SOCKET_BAD;
    }
    int fd = socket_open(family, kind, protocol);
    if (fd < 0) {
        question->fault = errno;
        return ARES_SOCKET_BAD;
    }
    if (kind == SOCK_STREAM) {
        int on = 1; /* a question is one small segment; without it, it is only slower */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    dns->sockets[dns->socket_count++] = (cueball__dns_socket){ .question = question, .fd = fd, .is_stream = kind == SOCK_STREAM };
    return fd;
}

static int ares_close(ares_socket_t fd, void *user)
{
    const cueball__dns_question *question = user;
    cueball__dns_socket *one = cueball__dns_socket_find(question->dns, fd);
    if (!one)
        return -1;
    one->question = NULL;
    one->is_changed = true;
    if (!one->is_told)
        socket_remove(question->dns, one);
    return 0;
}

static int ares_connect(ares_socket_t fd, const struct sockaddr *address, ares_socklen_t size, void *user)
{
    cueball__dns_question *question = user;
    struct sockaddr_in6 scoped;
    if (question->scope_id && address->sa_family == AF_INET6) { /* c-ares knows of no links */
        memcpy(&scoped, address, sizeof scoped);
        scoped.sin6_scope_id = question->scope_id;
        address = (const struct sockaddr *)(const void *)&scoped;
    }
    int result = connect(fd, address, size);
    if (result < 0 && errno != EINPROGRESS)
        question->fault = errno;
    return result;
}

/* A datagram that can be an answer to anything: an echo of the question is none. */
static bool is_response(const unsigned char *bytes, size_t size)
{
    enum { QR = 0x80 };
    return size >= DNS_HEADER_SIZE && (bytes[2] & QR);
}

/* Old servers answer what they cannot read with an error and nothing but a header,
 * which c-ares takes for the answer to something else: the question would time out.
 * It counts for the query that was sent last, which may be one without EDNS. */
static int bare_rcode(const cueball__dns_question *question, const unsigned char *bytes)
{
    enum { RCODE = 0x0f };
    int rcode = bytes[3] & RCODE;
    unsigned id = (unsigned)bytes[0] << 8 | bytes[1];
    bool is_ours = id == question->ids[0];
    bool is_bare = bytes[4] == 0 && bytes[5] == 0;
    return is_ours && is_bare && (rcode == CUEBALL_RCODE_FORMERR || rcode == CUEBALL_RCODE_NOTIMP) ? rcode : 0;
}

static ares_ssize_t ares_receive(ares_socket_t fd, void *buffer, size_t room, int flags, struct sockaddr *from, ares_socklen_t *from_size,
                                 void *user)
{
    cueball__dns_question *question = user;
    const cueball__dns_socket *one = cueball__dns_socket_find(question->dns, fd);
    bool is_datagram = one && !one->is_stream;
    ares_socklen_t from_room = from_size ? *from_size : 0;
    for (;;) {
        if (from_size)
            *from_size = from_room;
        ares_ssize_t size = recvfrom(fd, buffer, room, flags, from, from_size);
        if (size < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
            question->fault = errno;
        if (size < 0 || !is_datagram)
            return size;
        if (!is_response(buffer, (size_t)size))
            continue;
        if (question->bare_rcode == 0)
            question->bare_rcode = bare_rcode(question, buffer);
        return size;
    }
}

static ares_ssize_t ares_send_all(ares_socket_t fd, const struct iovec *parts, int count, void *user)
{
    cueball__dns_question *question = user;
    const cueball__dns_socket *one = cueball__dns_socket_find(question->dns, fd);
    if (one && !one->is_stream && count > 0 && parts[0].iov_len >= 2) {
        const unsigned char *bytes = parts[0].iov_base;
        question->ids[1] = question->ids[0];
        question->ids[0] = (uint16_t)(bytes[0] << 8 | bytes[1]);
    }
    struct msghdr message = { .msg_iov = (struct iovec *)(uintptr_t)parts };
    message.msg_iovlen = (size_t)count;
    ares_ssize_t size = sendmsg(fd, &message, MSG_NOSIGNAL);
    if (size < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
        question->fault = errno;
    return size;
}

/* From now on the question's channel uses these. */
void cueball__dns_sockets_install(cueball__dns_question *question)
{
    static const struct ares_socket_functions functions = {
        .asocket = ares_open, .aclose = ares_close, .aconnect = ares_connect, .arecvfrom = ares_receive, .asendv = ares_send_all
    };
    ares_set_socket_functions(question->channel, &functions, question);
}

/* What c-ares wants watched; neither: it is about to close it. */
void cueball__dns_socket_state(void *dns, ares_socket_t fd, int is_readable, int is_writable)
{
    cueball__dns_socket *one = cueball__dns_socket_find(dns, fd);
    if (!one || (!is_readable && !is_writable))
        return;
    one->is_changed = true;
    one->is_readable_wanted = is_readable != 0;
    one->is_writable_wanted = is_writable != 0;
}

bool cueball_dns_next_socket(cueball_dns *dns, cueball_dns_socket *told)
{
    for (size_t i = 0; i < dns->socket_count; i++) {
        cueball__dns_socket *one = &dns->sockets[i];
        if (!one->is_changed)
            continue;
        one->is_changed = false;
        one->is_told = true;
        bool is_closing = !one->question;
        *told = (cueball_dns_socket){ .fd = one->fd, .is_closing = is_closing };
        told->is_readable_wanted = !is_closing && one->is_readable_wanted;
        told->is_writable_wanted = !is_closing && one->is_writable_wanted;
        return true;
    }
    return false;
}

int cueball_dns_socket_released(cueball_dns *dns, int32_t fd)
{
    cueball__dns_socket *one = cueball__dns_socket_find(dns, fd);
    if (!one || one->question)
        return CUEBALL_ENOT_FOUND;
    socket_remove(dns, one);
    return CUEBALL_OK;
}

void cueball__dns_sockets_free(cueball_dns *dns)
{
    while (dns->socket_count > 0)
        socket_remove(dns, &dns->sockets[dns->socket_count - 1]);
    free(dns->sockets);
}
