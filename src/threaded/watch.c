/* Connections that break while nobody uses them.
 *
 * The happy path: each descriptor is registered once, when its connection opens, for the
 * edge at which its peer closes it or sends something.  What is at rest then is looked at
 * with a peek.  What can go wrong: the edge comes while somebody uses the connection, and
 * is not seen again; so it is peeked at when it comes back, and when it is claimed from
 * rest.  Where there is no epoll, those two are all. */
#define _POSIX_C_SOURCE 200809L

#include "watch.h"

#include "lock.h"
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#if defined __linux__
#include <sys/epoll.h>
#endif

cueball__sight cueball__socket_peek(int32_t fd)
{
    char byte;
    int state;
    assert(fd >= 0);
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state); /* recv() is a cancellation point; a claim or release is none */
    ssize_t size = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    int code = errno;
    (void)pthread_setcancelstate(state, NULL);
    if (size > 0)
        return SIGHT_WAITING;
    if (size < 0 && (code == EAGAIN || code == EWOULDBLOCK || code == EINTR || code == ENOTSOCK))
        return SIGHT_QUIET;
    return SIGHT_LOST;
}

void cueball__sight_tell(cueball_threaded *pool, cueball_handle conn, cueball__sight sight, cueball_time now)
{
    assert(pool);
    assert(pool->core);
    if (sight == SIGHT_LOST)
        (void)cueball_pool_conn_lost(pool->core, now, conn);
    else if (sight == SIGHT_WAITING)
        (void)cueball_pool_conn_unfit(pool->core, now, conn, CUEBALL_CAUSE_UNFIT);
}

/* What the next user expects of the descriptor.  To be called by whoever has it.  A
 * connection that is a pointer belongs to a library, which has its descriptor as it wants. */
void cueball__loan_set_nonblocking(cueball_loan *loan, bool nonblocking)
{
    assert(loan);
    if (loan->fd < 0 || loan->pointer || loan->is_nonblocking == nonblocking)
        return;
    int flags = fcntl(loan->fd, F_GETFL);
    if (flags >= 0 && fcntl(loan->fd, F_SETFL, nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) == 0)
        loan->is_nonblocking = nonblocking;
}

#if defined __linux__

int cueball__watch_begin(cueball_threaded *pool)
{
    assert(pool);
    pool->watch_fd = epoll_create1(EPOLL_CLOEXEC);
    return pool->watch_fd < 0 ? CUEBALL_ENOMEM : CUEBALL_OK;
}

void cueball__watch_end(cueball_threaded *pool)
{
    assert(pool);
    if (pool->watch_fd >= 0)
        (void)close(pool->watch_fd);
    pool->watch_fd = -1;
}

/* What cannot be watched (a file) is peeked at only. */
void cueball__watch_add(const cueball_threaded *pool, cueball_loan *loan)
{
    assert(loan->pool == pool);
    int flags = loan->fd < 0 ? -1 : fcntl(loan->fd, F_GETFL);
    loan->is_nonblocking = flags >= 0 && flags & O_NONBLOCK;
    if (flags < 0)
        return;
    struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data = { .ptr = loan } };
    (void)epoll_ctl(pool->watch_fd, EPOLL_CTL_ADD, loan->fd, &event);
}

void cueball__watch_remove(const cueball_threaded *pool, const cueball_loan *loan)
{
    assert(loan->pool == pool);
    struct epoll_event none = { 0 };
    if (loan->fd >= 0)
        (void)epoll_ctl(pool->watch_fd, EPOLL_CTL_DEL, loan->fd, &none);
}

static void loan_look(cueball_threaded *pool, const cueball_loan *loan, cueball_time now)
{
    assert(loan->pool == pool);
    cueball_conn_info info;
    if (loan->is_orphan || loan->fd < 0 || cueball_pool_conn_info(pool->core, loan->conn, &info) != CUEBALL_OK)
        return;
    if (info.state != CUEBALL_SLOT_IDLE)
        return;
    cueball__sight_tell(pool, loan->conn, cueball__socket_peek(loan->fd), now);
}

void cueball_threaded_look(cueball_threaded *pool, cueball_time now)
{
    enum { AT_ONCE = 64 };
    struct epoll_event events[AT_ONCE];
    int count = AT_ONCE;
    if (!pool || pool->generation != cueball__process_generation())
        return;
    cueball__threaded_enter(pool);
    while (pool->core && count == AT_ONCE) {
        count = epoll_wait(pool->watch_fd, events, AT_ONCE, 0);
        for (int i = 0; i < count; i++)
            loan_look(pool, events[i].data.ptr, now);
    }
    cueball__threaded_leave(pool);
}

#else

int cueball__watch_begin(cueball_threaded *pool)
{
    assert(pool);
    pool->watch_fd = -1;
    return CUEBALL_OK;
}

void cueball__watch_end(cueball_threaded *pool)
{
    assert(pool);
    assert(pool->watch_fd == -1);
}

void cueball__watch_add(const cueball_threaded *pool, cueball_loan *loan)
{
    assert(loan->pool == pool);
    int flags = loan->fd < 0 ? -1 : fcntl(loan->fd, F_GETFL);
    assert(pool->watch_fd == -1);
    loan->is_nonblocking = flags >= 0 && flags & O_NONBLOCK;
}

void cueball__watch_remove(const cueball_threaded *pool, const cueball_loan *loan)
{
    assert(loan->pool == pool);
    assert(pool->watch_fd == -1);
}

void cueball_threaded_look(cueball_threaded *pool, cueball_time now)
{
    assert(!pool || pool->watch_fd == -1);
    (void)now;
}

#endif

int cueball_threaded_watch_fd(const cueball_threaded *pool)
{
    return pool ? pool->watch_fd : -1;
}
