#include "wake.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/eventfd.h>

bool cueball__wake_open(cueball__wake *wake)
{
    wake->read_fd = wake->write_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return wake->read_fd >= 0;
}

#else
#include <fcntl.h>

static bool set_flags(int fd)
{
    return fcntl(fd, F_SETFL, O_NONBLOCK) == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

bool cueball__wake_open(cueball__wake *wake)
{
    int ends[2];
    wake->read_fd = wake->write_fd = -1;
    if (pipe(ends) != 0)
        return false;
    wake->read_fd = ends[0];
    wake->write_fd = ends[1];
    if (set_flags(ends[0]) && set_flags(ends[1]))
        return true;
    cueball__wake_close(wake);
    return false;
}

#endif

void cueball__wake_close(cueball__wake *wake)
{
    int state;
    assert((wake->read_fd < 0) == (wake->write_fd < 0));
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    if (wake->read_fd >= 0)
        (void)close(wake->read_fd);
    if (wake->write_fd >= 0 && wake->write_fd != wake->read_fd)
        (void)close(wake->write_fd);
    (void)pthread_setcancelstate(state, NULL);
    wake->read_fd = wake->write_fd = -1;
}

/* Full is as good as written: there is something to read already. */
void cueball__wake_tell(int write_fd)
{
    const uint64_t one = 1;
    ssize_t written;
    int state;
    assert(write_fd >= 0);
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    do
        written = write(write_fd, &one, sizeof one);
    while (written < 0 && errno == EINTR);
    (void)pthread_setcancelstate(state, NULL);
}

void cueball__wake_clear(int read_fd)
{
    uint64_t numbers[32];
    ssize_t got;
    int state;
    assert(read_fd >= 0);
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    do
        got = read(read_fd, numbers, sizeof numbers);
    while (got == (ssize_t)sizeof numbers || (got < 0 && errno == EINTR));
    (void)pthread_setcancelstate(state, NULL);
}
