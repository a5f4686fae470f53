/* What the terminal is sent when it is given back, though poll() and write() are interrupted and take little at a time.
 *
 *     cc -std=c11 -Isrc/include spec/cli/terminal_test.c src/terminal.c
 */
#define _GNU_SOURCE

#include "cueball_terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#define ENTER "<on>"
#define LEAVE "<off>"

/* A letter for each call: of poll '.' ready, 'i' interrupted, 's' stuck; of write '1' one byte, 'i' interrupted, 'a' it would
 * block.  Behind the last one all goes well. */
static const char *polls = "", *writes = "";
static bool is_watched;

static char next(const char **script)
{
    return is_watched && **script ? *(*script)++ : '\0';
}

/* In the place of the C library's. */
int poll(struct pollfd *fds, nfds_t count, int timeout)
{
    switch (next(&polls)) {
    case 'i':
        errno = EINTR;
        return -1;
    case 's':
        return 0;
    default:
        return (int)syscall(SYS_ppoll, fds, count, timeout < 0 ? NULL : &(struct timespec){ .tv_sec = timeout / 1000 }, NULL, 0);
    }
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    switch (next(&writes)) {
    case 'i':
        errno = EINTR;
        return -1;
    case 'a':
        errno = EAGAIN;
        return -1;
    case '1':
        size = 1;
    }
    return syscall(SYS_write, fd, bytes, size);
}

static int open_terminal(void)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0)
        return -1;
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    if (slave < 0 || dup2(slave, STDIN_FILENO) < 0 || fcntl(master, F_SETFL, O_NONBLOCK) != 0)
        return -1;
    return master;
}

static bool is_sent(int master, const char *expected)
{
    char seen[256] = "";
    size_t size = 0;
    ssize_t count;
    while ((count = read(master, seen + size, sizeof(seen) - 1 - size)) > 0)
        size += (size_t)count;
    if (strcmp(seen, expected) == 0)
        return true;
    fprintf(stderr, "sent: %s, and not: %s\n", seen, expected);
    return false;
}

/* Takes the terminal and gives it back, by these calls. */
static bool gives_back(int master, const char *poll_script, const char *write_script, const char *expected)
{
    struct termios mode;
    if (cueball_terminal_open(STDIN_FILENO) < 0 || cueball_terminal_sequences(ENTER, LEAVE) != 0 || cueball_terminal_raw(true) != 0)
        return false;
    bool is_well = is_sent(master, ENTER);
    polls = poll_script, writes = write_script, is_watched = true;
    cueball_terminal_close();
    is_watched = false;
    is_well = is_sent(master, expected) && is_well;
    return tcgetattr(STDIN_FILENO, &mode) == 0 && (mode.c_lflag & ICANON) && is_well;
}

int main(void)
{
    static const struct {
        const char *polls, *writes, *expected;
    } cases[] = {
        { "", "", LEAVE },
        { "i", "", LEAVE },
        { "iii", "i", LEAVE },
        { "", "11111", LEAVE },
        { "", "1a1i", LEAVE },
        { "..i", "11", "<o" LEAVE }, /* a handler may have sent something in between */
        { ".s", "1", "<" },          /* it takes nothing any more */
        { "", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "" },
    };
    int master = open_terminal(), failed = 0;
    for (size_t i = 0; master >= 0 && i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (gives_back(master, cases[i].polls, cases[i].writes, cases[i].expected))
            continue;
        fprintf(stderr, "case %zu is not well\n", i);
        failed++;
    }
    return master < 0 || failed > 0;
}
