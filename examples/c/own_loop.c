/* Asynchronous claims in a program with an event loop of its own, here epoll: one
 * thread, hundreds of claims that wait at a time.
 *
 * In this repository:  cmake -DCUEBALL_EXAMPLES=ON makes build/examples/own_loop.
 * With cueball installed:
 *     cc own_loop.c $(pkg-config --cflags --libs cueball-runtime) -o own_loop && ./own_loop
 *
 * Two echo servers (children of this process) are the service.  Where they are and
 * how to connect to them is said in Lua, which the runtime runs in a thread of its
 * own.  Each job claims a connection, sends a line, and compares what comes back.
 * A claim that cannot be granted at once is answered in the mailbox, whose
 * descriptor is one more in the loop. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cueball_runtime.h"

enum { SERVERS = 2, CONNECTIONS = 8, JOBS = 3000, AT_ONCE = 400, CLIENTS_MAX = 64, MAILBOX = JOBS };

static const char SCRIPT[] = "local cueball = require 'cueball'\n"
                             "local ports, backends = { ... }, {}\n"
                             "for number, port in ipairs(ports) do backends[number] = '127.0.0.1:' .. port end\n"
                             "cueball.pool {\n"
                             "  name = 'echo',\n"
                             "  resolver = cueball.resolver.static(backends),\n"
                             "  connect = cueball.connection.tcp {},\n"
                             "  max_connections = 8, spares = 8,\n"
                             "}\n";

typedef struct job {
    cueball_lease lease; /* while it has a connection */
    char line[32];
    size_t received;
} job;

static job jobs[JOBS];
static int epoll_fd;
static cueball_threaded *pool;
static cueball_mailbox *mailbox;
static int begun, waiting, waited, ended, failed, waiting_most;
static int served[SERVERS];
static uint32_t numbers[SERVERS]; /* their ports */
static char ports[SERVERS][8];    /* the same as texts, for the script */

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* ------------------------------------------------------------- the service -- */

/* Sends back what comes, until `parent` is closed: that is, until the program ends. */
static void serve(int listener, int parent)
{
    struct pollfd fds[CLIENTS_MAX + 2] = { { .fd = parent, .events = POLLIN }, { .fd = listener, .events = POLLIN } };
    nfds_t count = 2;
    for (;;) {
        if (poll(fds, count, -1) < 0)
            die("poll");
        if (fds[0].revents)
            _exit(0);
        if (fds[1].revents && count < CLIENTS_MAX + 2)
            fds[count++] = (struct pollfd){ .fd = accept(listener, NULL, NULL), .events = POLLIN };
        for (nfds_t i = 2; i < count; i++) {
            char bytes[4096];
            ssize_t size = fds[i].revents ? read(fds[i].fd, bytes, sizeof bytes) : 0;
            if (size > 0 && write(fds[i].fd, bytes, (size_t)size) < 0)
                die("write");
            if (fds[i].revents && size <= 0) {
                close(fds[i].fd);
                fds[i--] = fds[--count];
            }
        }
    }
}

/* Starts server number `i`; its end of `life` tells it when the program is gone. */
static void start_server(int i, const int life[2])
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 16) < 0
        || getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        die("listen");
    numbers[i] = ntohs(address.sin_port);
    snprintf(ports[i], sizeof ports[i], "%u", numbers[i]);
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        close(life[1]);
        serve(listener, life[0]);
    }
    close(listener);
}

/* ---------------------------------------------------------------- the jobs -- */

/* The job has a connection: it sends its line, and its answer is waited for. */
static void job_talk(job *one)
{
    cueball_threaded_backend backend = { .struct_size = sizeof backend };
    if (cueball_lease_backend(&one->lease, &backend) == CUEBALL_OK)
        served[backend.port == numbers[0] ? 0 : 1]++;
    snprintf(one->line, sizeof one->line, "job %d\n", (int)(one - jobs));
    one->received = 0;
    struct epoll_event event = { .events = EPOLLIN, .data.u64 = (uint64_t)(one - jobs) };
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, one->lease.fd, &event) < 0)
        die("epoll_ctl");
    /* A line is short: the kernel takes it whole. */
    if (write(one->lease.fd, one->line, strlen(one->line)) < 0)
        die("write");
}

static void job_refused(int error)
{
    fprintf(stderr, "%s: %s\n", cueball_error_name(error), cueball_last_error());
    failed++;
    ended++;
}

/* Begins one more job, if there is any. */
static void job_begin(void)
{
    if (begun == JOBS)
        return;
    job *one = &jobs[begun++];
    cueball_threaded_claim_options options = {
        .struct_size = sizeof options, .nonblocking = true, .timeout_ms = 10000, .user = (uint64_t)(one - jobs)
    };
    cueball_handle claim; /* a program that gives up a claim needs it: cueball_threaded_claim_cancel() */
    int result = cueball_threaded_claim_async(pool, &options, mailbox, &one->lease, &claim);
    if (result == CUEBALL_OK) {
        job_talk(one);
    } else if (result == CUEBALL_WAITING) {
        waited++;
        if (++waiting > waiting_most)
            waiting_most = waiting;
    } else {
        job_refused(result);
    }
}

/* The mailbox is readable: takes every answer there is. */
static void answers_take(void)
{
    cueball_claim_answer answer;
    while (cueball_mailbox_next(mailbox, &answer)) {
        waiting--;
        if (answer.error == CUEBALL_OK) {
            jobs[answer.user].lease = answer.lease;
            job_talk(&jobs[answer.user]);
        } else {
            job_refused(answer.error);
            job_begin();
        }
    }
}

/* Something has come for a job; once its line is whole the connection goes back. */
static void job_listen(job *one)
{
    char bytes[sizeof one->line];
    ssize_t size = read(one->lease.fd, bytes, sizeof one->line - one->received);
    if (size < 0 && errno == EAGAIN)
        return;
    bool is_right = size > 0 && memcmp(bytes, one->line + one->received, (size_t)size) == 0;
    if (is_right) {
        one->received += (size_t)size;
        if (one->received < strlen(one->line))
            return;
    }
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, one->lease.fd, NULL); /* before somebody else has it */
    if (is_right) {
        cueball_lease_release(&one->lease);
    } else {
        cueball_lease_fail(&one->lease, size > 0 ? "another answer" : "the connection ended");
        failed++;
    }
    ended++;
    job_begin();
}

/* ---------------------------------------------------------------- the loop -- */

static void loop(void)
{
    struct epoll_event event = { .events = EPOLLIN, .data.u64 = MAILBOX }, events[64];
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, cueball_mailbox_fd(mailbox), &event) < 0)
        die("epoll_ctl");
    for (int i = 0; i < AT_ONCE; i++)
        job_begin();
    while (ended < JOBS) {
        int count = epoll_wait(epoll_fd, events, 64, -1);
        if (count < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < count; i++) {
            if (events[i].data.u64 == MAILBOX)
                answers_take();
            else
                job_listen(&jobs[events[i].data.u64]);
        }
    }
}

int main(void)
{
    int life[2];
    if (pipe(life) < 0)
        die("pipe");
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < SERVERS; i++)
        start_server(i, life); /* before there are threads: a child has this one only */
    const char *arguments[SERVERS] = { ports[0], ports[1] };
    cueball_runtime_options options = { .struct_size = sizeof options, .text = SCRIPT, .arguments = arguments, .argument_count = SERVERS };
    cueball_runtime *runtime;
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        die("epoll_create1");
    if (cueball_runtime_start(&options, &runtime) < 0 || cueball_runtime_pool(runtime, "echo", &pool) < 0
        || cueball_mailbox_new(&mailbox) < 0) {
        fprintf(stderr, "%s\n", cueball_last_error());
        return 1;
    }
    loop();
    printf("%d jobs, %d failed; %d claims waited, up to %d at a time\n", ended, failed, waited, waiting_most);
    printf("server 1 had %d, server 2 had %d\n", served[0], served[1]);
    cueball_mailbox_free(mailbox);
    cueball_threaded_drop(pool);
    cueball_runtime_stop(runtime, 1000);
    cueball_runtime_free(runtime);
    close(life[1]); /* the servers end */
    while (wait(NULL) > 0)
        ;
    return failed != 0;
}
