/* What the terminal is sent when it is given back, though poll() and write() are interrupted and take little at a time, and
 * by a process that has used up its stack.
 *
 *     cc -std=c11 -Isrc/include spec/cli/terminal_test.c src/terminal.c
 */
#define _GNU_SOURCE

#include "cueball_terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
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

/* Takes 1 KiB of the stack for each of so many. */
static unsigned deep(unsigned left)
{
    volatile char room[1024];
    room[left % sizeof(room)] = 1;
    return left == 0 ? 0 : deep(left - 1) + (unsigned)room[left % sizeof(room)];
}

/* A process of its own takes the terminal, and crashes with no stack left.  Who had another stack for that has it afterwards. */
static bool is_given_back_without_stack(int master)
{
    struct termios mode;
    pid_t child = fork();
    if (child == 0) {
        struct rlimit none = { 0 }, little = { .rlim_cur = 1 << 20, .rlim_max = 1 << 20 };
        setrlimit(RLIMIT_CORE, &none);
        setrlimit(RLIMIT_STACK, &little);
        signal(SIGSEGV, SIG_DFL); /* a sanitizer hears of it */
        if (cueball_terminal_open(STDIN_FILENO) < 0 || cueball_terminal_sequences(ENTER, LEAVE) != 0)
            _exit(1);
        (void)cueball_terminal_raw(true);
        _exit(2 + (int)(deep(1U << 24) & 1));
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV)
        return false;
    return is_sent(master, ENTER LEAVE) && tcgetattr(STDIN_FILENO, &mode) == 0 && (mode.c_lflag & ICANON);
}

/* Another stack for signals is left alone, and the own one is gone with the terminal. */
static bool leaves_stacks_alone(void)
{
    static char room[65536];
    stack_t ours = { .ss_sp = room, .ss_size = sizeof(room) }, none = { .ss_flags = SS_DISABLE }, before, during, after;
    if (sigaltstack(&ours, &before) != 0 || cueball_terminal_open(STDIN_FILENO) < 0 || sigaltstack(NULL, &during) != 0)
        return false;
    cueball_terminal_close();
    bool is_well = during.ss_sp == room && sigaltstack(NULL, &after) == 0 && after.ss_sp == room;
    if (sigaltstack(&none, NULL) != 0 || cueball_terminal_open(STDIN_FILENO) < 0 || sigaltstack(NULL, &during) != 0)
        return false;
    cueball_terminal_close();
    is_well = is_well && !(during.ss_flags & SS_DISABLE) && sigaltstack(NULL, &after) == 0 && (after.ss_flags & SS_DISABLE);
    return sigaltstack(&before, NULL) == 0 && is_well;
}

static void hear_it(int number)
{
    (void)number;
}

/* Whoever takes a signal while the terminal is open keeps it; the others are as they were. */
static bool leaves_later_handlers_alone(void)
{
    struct sigaction segv, term;
    if (signal(SIGTERM, SIG_DFL) == SIG_ERR || signal(SIGSEGV, SIG_DFL) == SIG_ERR || cueball_terminal_open(STDIN_FILENO) < 0)
        return false;
    signal(SIGSEGV, hear_it);
    cueball_terminal_close();
    bool is_well = sigaction(SIGSEGV, NULL, &segv) == 0 && sigaction(SIGTERM, NULL, &term) == 0;
    signal(SIGSEGV, SIG_DFL);
    return is_well && segv.sa_handler == hear_it && term.sa_handler == SIG_DFL;
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
    if (master >= 0 && (!is_given_back_without_stack(master) || !leaves_stacks_alone())) {
        fprintf(stderr, "a process without stack is not well\n");
        failed++;
    }
    if (master >= 0 && !leaves_later_handlers_alone()) {
        fprintf(stderr, "a handler that came later is gone, or the terminal's is still there\n");
        failed++;
    }
    return master < 0 || failed > 0;
}
