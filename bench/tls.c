/* TLS as a bare C loop has it: OpenSSL on a socket, blocking, nothing between.  bench/tls.lua compiles it, and measures itself beside it.
 *
 *     tls serve CERTIFICATE KEY            prints its port; a thread for each connection
 *     tls handshakes PORT COUNT resume     so many connections, one after the other, each with one small request; resume: 0 or 1
 *     tls receive PORT BYTES               one connection
 *     tls send PORT BYTES
 *     tls requests PORT COUNT              one connection, 64 bytes there and back
 * Each but the first prints seconds on the wall's clock, and seconds of its own processor time.
 *
 * A connection's requests: "R<bytes>\n": so many bytes are sent; "S<bytes>\n": so many are read, and "k" sent; any other line is sent back. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 64 * 1024, LINE = 64 };

static void die(const char *what)
{
    fprintf(stderr, "bench/tls.c: %s\n", what);
    exit(1);
}

static void send_all(SSL *ssl, const char *bytes, size_t size)
{
    size_t count = 0;
    if (SSL_write_ex(ssl, bytes, size, &count) != 1) {
        die("write");
    }
}

static void receive_all(SSL *ssl, char *bytes, size_t size)
{
    while (size > 0) {
        size_t count = 0;
        if (SSL_read_ex(ssl, bytes, size, &count) != 1) {
            die("read");
        }
        bytes += count;
        size -= count;
    }
}

/* A line, byte by byte out of OpenSSL's buffer; 0: the end. */
static size_t receive_line(SSL *ssl, char *line, size_t room)
{
    size_t size = 0, count = 0;
    while (size < room && SSL_read_ex(ssl, line + size, 1, &count) == 1) {
        size++;
        if (line[size - 1] == '\n') {
            return size;
        }
    }
    return 0;
}

static void stream(SSL *ssl, long long left, int is_sending)
{
    static char zeros[PIECE];
    char *room = malloc(PIECE);
    while (left > 0) {
        size_t size = left < PIECE ? (size_t)left : PIECE, count = 0;
        if ((is_sending ? SSL_write_ex(ssl, zeros, size, &count) : SSL_read_ex(ssl, room, size, &count)) != 1) {
            break;
        }
        left -= (long long)count;
    }
    free(room);
}

static void *serve_one(void *user)
{
    SSL *ssl = user;
    char line[256];
    size_t size = 0;
    if (SSL_accept(ssl) == 1) {
        while ((size = receive_line(ssl, line, sizeof line)) > 0) {
            if (line[0] == 'R') {
                stream(ssl, atoll(line + 1), 1);
            } else if (line[0] == 'S') {
                stream(ssl, atoll(line + 1), 0);
                send_all(ssl, "k", 1);
            } else {
                send_all(ssl, line, size);
            }
        }
        SSL_shutdown(ssl);
    }
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
    return NULL;
}

static void serve(const char *certificate, const char *key)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1 || SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1) {
        die("certificate");
    }
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 512) != 0
        || getsockname(listener, (struct sockaddr *)&at, &size) != 0) {
        die("listen");
    }
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        pthread_t thread;
        SSL *ssl = SSL_new(context);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        SSL_set_fd(ssl, fd);
        if (pthread_create(&thread, &detached, serve_one, ssl) != 0) {
            die("thread");
        }
    }
}

static SSL *connect_to(SSL_CTX *context, int port, SSL_SESSION *session)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((unsigned short)port) };
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (connect(fd, (struct sockaddr *)&at, sizeof at) != 0) {
        die("connect");
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    if (session != NULL) {
        SSL_set_session(ssl, session);
    }
    if (SSL_connect(ssl) != 1) {
        die("handshake");
    }
    return ssl;
}

static void close_it(SSL *ssl)
{
    SSL_shutdown(ssl);
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
}

static void request(SSL *ssl)
{
    char line[LINE];
    memset(line, 'x', sizeof line);
    line[LINE - 1] = '\n';
    send_all(ssl, line, sizeof line);
    receive_all(ssl, line, sizeof line);
}

static void handshakes(SSL_CTX *context, int port, long count, int is_resuming)
{
    SSL_SESSION *session = NULL;
    for (long index = 0; index < count; index++) {
        SSL *ssl = connect_to(context, port, session);
        request(ssl);
        if (is_resuming) {
            SSL_SESSION_free(session);
            session = SSL_get1_session(ssl);
        }
        close_it(ssl);
    }
    SSL_SESSION_free(session);
}

static void transfer(SSL *ssl, const char *kind, long long bytes)
{
    char line[LINE];
    if (strcmp(kind, "requests") == 0) {
        for (long long index = 0; index < bytes; index++) {
            request(ssl);
        }
        return;
    }
    int is_sending = strcmp(kind, "send") == 0;
    int size = snprintf(line, sizeof line, "%c%lld\n", is_sending ? 'S' : 'R', bytes);
    send_all(ssl, line, (size_t)size);
    stream(ssl, bytes, is_sending);
    if (is_sending) {
        receive_all(ssl, line, 1);
    }
}

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int count, char **words)
{
    signal(SIGPIPE, SIG_IGN);
    if (count == 4 && strcmp(words[1], "serve") == 0) {
        serve(words[2], words[3]);
    }
    if (count < 4) {
        die("usage: see bench/tls.c");
    }
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    int port = atoi(words[2]);
    double began = seconds(CLOCK_MONOTONIC), spent = seconds(CLOCK_PROCESS_CPUTIME_ID);
    if (strcmp(words[1], "handshakes") == 0) {
        handshakes(context, port, atol(words[3]), count > 4 && atoi(words[4]) != 0);
    } else {
        SSL *ssl = connect_to(context, port, NULL);
        began = seconds(CLOCK_MONOTONIC);
        spent = seconds(CLOCK_PROCESS_CPUTIME_ID);
        transfer(ssl, words[1], atoll(words[3]));
        close_it(ssl);
    }
    printf("%.6f %.6f\n", seconds(CLOCK_MONOTONIC) - began, seconds(CLOCK_PROCESS_CPUTIME_ID) - spent);
    return 0;
}
