/* The terminal, see cueball_terminal.h.  What a signal's handler touches is written with the signals blocked, or is one
 * sig_atomic_t. */
#define _DEFAULT_SOURCE
#define _DARWIN_C_SOURCE

#include "cueball_terminal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define UNHEARD_MAX 3
#define STUCK_MS 200
#define REFUSALS_MAX 16

static const int signals[] = {
    SIGINT, SIGWINCH, SIGCONT, SIGTSTP, SIGTERM, SIGHUP, SIGQUIT, SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGTRAP, SIGSYS,
};
#define SIGNALS ((int)(sizeof(signals) / sizeof(signals[0])))

/* A process that has used up its stack has none for a handler. */
#define CRASH_STACK_SIZE 65536
static char crash_stack[CRASH_STACK_SIZE];

static struct sigaction before[SIGNALS];
static bool is_taken[SIGNALS];
static struct termios ordinary, raw;
static int terminal_fd = -1, screen_fd = -1;
static struct sequence {
    char bytes[CUEBALL_TERMINAL_SEQUENCE_MAX];
    size_t size;
} on_enter, on_leave;
static int bell[2] = { -1, -1 };
static volatile sig_atomic_t is_raw_now, interrupts, unheard, has_interrupt, has_resize, has_continued;

/* Only what is safe in a handler: tcsetattr is, by POSIX. */
static void apply(const struct termios *mode)
{
    while (tcsetattr(terminal_fd, TCSANOW, mode) != 0 && errno == EINTR) {
    }
}

/* Only what is safe in a handler.  A terminal that takes nothing for so long is not waited for; -1: it is.  After a signal it
 * begins anew, as the signal's handler may have sent something: a terminal forgets a sequence that another one breaks off. */
static void send(const struct sequence *sequence, int wait_ms)
{
    struct pollfd one = { .fd = screen_fd, .events = POLLOUT };
    size_t sent = 0;
    for (int refusals = 0; sent < sequence->size && refusals < REFUSALS_MAX;) {
        int ready = poll(&one, 1, wait_ms);
        if (ready < 0 && errno == EINTR) {
            sent = 0;
            continue;
        }
        if (ready != 1 || !(one.revents & POLLOUT))
            return;
        ssize_t written = write(screen_fd, sequence->bytes + sent, sequence->size - sent);
        if (written > 0)
            sent += (size_t)written;
        else
            refusals++;
    }
}

static void leave(void)
{
    if (!is_raw_now)
        return;
    send(&on_leave, STUCK_MS);
    apply(&ordinary);
}

static void end_by(int number)
{
    leave();
    signal(number, SIG_DFL);
    raise(number);
}

/* The process stops inside of raise(), and goes on there: then the terminal is taken again, unless the process goes on
 * in the background, where to ask for it would stop it once more. */
static void suspend(void)
{
    sigset_t stop;
    leave();
    signal(SIGTSTP, SIG_DFL);
    sigemptyset(&stop);
    sigaddset(&stop, SIGTSTP);
    raise(SIGTSTP);
    sigprocmask(SIG_UNBLOCK, &stop, NULL);
    sigprocmask(SIG_BLOCK, &stop, NULL);
}

static void hear(int number);

static void take(int number, struct sigaction *was)
{
    struct sigaction action = { .sa_handler = hear, .sa_flags = SA_RESTART };
    if (number == SIGSEGV || number == SIGBUS)
        action.sa_flags |= SA_ONSTACK;
    sigfillset(&action.sa_mask);
    sigaction(number, &action, was);
}

/* Not by whoever took the signal after that: it stays theirs. */
static bool is_heard(int number)
{
    struct sigaction now;
    return sigaction(number, NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) && now.sa_handler == hear;
}

/* Of this thread, unless it has one already: a sanitizer's, for example. */
static void open_crash_stack(void)
{
    stack_t known, ours = { .ss_sp = crash_stack, .ss_size = sizeof(crash_stack) };
    if (sigaltstack(NULL, &known) == 0 && (known.ss_flags & SS_DISABLE))
        (void)sigaltstack(&ours, NULL);
}

static void close_crash_stack(void)
{
    stack_t known, none = { .ss_flags = SS_DISABLE };
    if (sigaltstack(NULL, &known) == 0 && known.ss_sp == crash_stack)
        (void)sigaltstack(&none, NULL);
}

static void ring(volatile sig_atomic_t *what)
{
    *what = 1;
    ssize_t written = write(bell[1], "!", 1);
    (void)written; /* a full pipe is readable anyway */
}

static void hear(int number)
{
    int saved = errno;
    switch (number) {
    case SIGINT:
        interrupts++;
        if (++unheard >= UNHEARD_MAX)
            end_by(number);
        ring(&has_interrupt);
        break;
    case SIGWINCH:
        ring(&has_resize);
        break;
    case SIGTSTP:
        suspend();
        take(SIGTSTP, NULL);
        break;
    case SIGCONT:
        if (is_raw_now && tcgetpgrp(terminal_fd) == getpgrp()) {
            apply(&raw);
            send(&on_enter, STUCK_MS);
        }
        ring(&has_continued);
        break;
    default:
        end_by(number);
    }
    errno = saved;
}

static void close_at_exit(void)
{
    cueball_terminal_close();
}

static int open_bell(void)
{
    if (pipe(bell) != 0)
        return -errno;
    for (int i = 0; i < 2; i++) {
        (void)fcntl(bell[i], F_SETFL, fcntl(bell[i], F_GETFL) | O_NONBLOCK);
        (void)fcntl(bell[i], F_SETFD, FD_CLOEXEC);
    }
    return 0;
}

int cueball_terminal_open(int input)
{
    static bool is_registered;
    assert(input >= 0);
    if (terminal_fd >= 0)
        return -EALREADY;
    assert(bell[0] < 0 && bell[1] < 0 && !is_raw_now);
    if (tcgetattr(input, &ordinary) != 0)
        return -errno;
    int failed = open_bell();
    if (failed)
        return failed;
    assert(bell[0] >= 0 && bell[1] >= 0 && bell[0] != bell[1]);
    raw = ordinary;
    raw.c_iflag &= ~(tcflag_t)(ICRNL | INLCR | IGNCR | IXON | ISTRIP);
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
    raw.c_lflag |= ISIG;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    terminal_fd = input;
    screen_fd = isatty(STDOUT_FILENO) ? STDOUT_FILENO : input;
    on_enter.size = on_leave.size = 0;
    is_raw_now = interrupts = unheard = has_interrupt = has_resize = has_continued = 0;
    open_crash_stack();
    for (int i = 0; i < SIGNALS; i++) {
        take(signals[i], &before[i]);
        /* Where somebody else hears the others, which end or stop a process, they stay as they are. */
        bool is_ours = signals[i] == SIGINT || signals[i] == SIGWINCH || signals[i] == SIGCONT;
        is_taken[i] = is_ours || before[i].sa_handler == SIG_DFL;
        if (!is_taken[i])
            sigaction(signals[i], &before[i], NULL);
    }
    if (!is_registered)
        is_registered = atexit(close_at_exit) == 0;
    return bell[0];
}

void cueball_terminal_close(void)
{
    if (terminal_fd < 0)
        return;
    assert(bell[0] >= 0 && bell[1] >= 0);
    (void)cueball_terminal_raw(false);
    assert(!is_raw_now);
    for (int i = 0; i < SIGNALS; i++) {
        if (is_taken[i] && is_heard(signals[i]))
            sigaction(signals[i], &before[i], NULL);
    }
    close_crash_stack();
    close(bell[0]);
    close(bell[1]);
    bell[0] = bell[1] = terminal_fd = screen_fd = -1;
}

int cueball_terminal_raw(bool is_raw)
{
    if (terminal_fd < 0)
        return -EBADF;
    if (is_raw_now && !is_raw)
        send(&on_leave, -1);
    bool is_new = is_raw && !is_raw_now;
    int failed;
    if (is_new)
        is_raw_now = true; /* before it is, and until it is not: a signal that ends the process gives it back */
    do
        failed = tcsetattr(terminal_fd, TCSADRAIN, is_raw ? &raw : &ordinary) == 0 ? 0 : -errno;
    while (failed == -EINTR);
    is_raw_now = is_raw;
    if (is_new)
        send(&on_enter, -1);
    return failed;
}

/* With the signals blocked: a handler may want to send it. */
static void keep(struct sequence *sequence, const char *bytes, size_t size)
{
    assert(size <= sizeof(sequence->bytes));
    sigset_t all, before_it;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before_it);
    for (size_t i = 0; i < size; i++)
        sequence->bytes[i] = bytes[i];
    sequence->size = size;
    sigprocmask(SIG_SETMASK, &before_it, NULL);
}

int cueball_terminal_sequences(const char *enter, const char *leave_by)
{
    assert(enter && leave_by);
    size_t enter_size = strlen(enter), leave_size = strlen(leave_by);
    if (terminal_fd < 0)
        return -EBADF;
    if (enter_size > sizeof(on_enter.bytes) || leave_size > sizeof(on_leave.bytes))
        return -EINVAL;
    keep(&on_enter, enter, enter_size);
    keep(&on_leave, leave_by, leave_size);
    return 0;
}

int cueball_terminal_size(int fd, int *columns, int *rows)
{
    struct winsize size;
    assert(columns && rows);
    if (ioctl(fd, TIOCGWINSZ, &size) != 0)
        return -errno;
    if (size.ws_col == 0 || size.ws_row == 0)
        return -ENOTTY;
    *columns = size.ws_col;
    *rows = size.ws_row;
    return 0;
}

/* Whether it was set; it is not any more. */
static bool clear(volatile sig_atomic_t *what)
{
    assert(what == &has_interrupt || what == &has_resize || what == &has_continued);
    bool was = *what != 0;
    if (was)
        *what = 0;
    return was;
}

int cueball_terminal_next(void)
{
    char rung[64];
    while (bell[0] >= 0 && read(bell[0], rung, sizeof(rung)) > 0) {
    }
    if (clear(&has_interrupt)) {
        cueball_terminal_heard();
        return CUEBALL_TERMINAL_INTERRUPTED;
    }
    if (clear(&has_continued))
        return CUEBALL_TERMINAL_CONTINUED;
    return clear(&has_resize) ? CUEBALL_TERMINAL_RESIZED : CUEBALL_TERMINAL_NOTHING;
}

int cueball_terminal_interrupts(void)
{
    return (int)interrupts;
}

void cueball_terminal_heard(void)
{
    unheard = 0;
}

int cueball_terminal_read(int fd, char *bytes, int size)
{
    assert(fd >= 0 && bytes && size > 0);
    struct pollfd one = { .fd = fd, .events = POLLIN };
    int ready = poll(&one, 1, 0);
    if (ready == 0)
        return -EAGAIN;
    if (ready < 0)
        return errno == EINTR ? -EAGAIN : -errno;
    ssize_t count = read(fd, bytes, (size_t)size);
    if (count >= 0)
        return (int)count;
    return errno == EINTR ? -EAGAIN : -errno;
}

/* ------------------------------------------------- signals that nobody hears -- */

static struct bounded {
    int number;
    unsigned within_s;
    void (*before)(int number);
} bounded[CUEBALL_SIGNALS_MAX];
static volatile sig_atomic_t came;

static void end_unheard(int number)
{
    (void)number;
    signal((int)came, SIG_DFL);
    raise((int)came);
}

static void hear_bounded(int number)
{
    int saved = errno;
    signal(number, SIG_DFL);
    for (int i = 0; i < CUEBALL_SIGNALS_MAX; i++) {
        if (bounded[i].number != number)
            continue;
        came = number;
        alarm(bounded[i].within_s);
        if (bounded[i].before != SIG_DFL && bounded[i].before != SIG_IGN)
            bounded[i].before(number);
        break;
    }
    errno = saved;
}

int cueball_signal_bound(int number, unsigned within_s)
{
    struct sigaction action = { .sa_handler = hear_bounded, .sa_flags = SA_RESTART }, before_it;
    int at = 0;
    while (at < CUEBALL_SIGNALS_MAX && bounded[at].number != 0 && bounded[at].number != number)
        at++;
    if (at == CUEBALL_SIGNALS_MAX)
        return -ENOSPC;
    if (number <= 0 || within_s == 0 || sigaction(number, NULL, &before_it) != 0)
        return -EINVAL;
    assert(!(before_it.sa_flags & SA_SIGINFO));
    if (before_it.sa_handler != hear_bounded)
        bounded[at].before = before_it.sa_handler;
    bounded[at].within_s = within_s;
    bounded[at].number = number;
    struct sigaction ending = { .sa_handler = end_unheard };
    sigemptyset(&ending.sa_mask);
    sigfillset(&action.sa_mask);
    if (sigaction(SIGALRM, &ending, NULL) == 0 && sigaction(number, &action, NULL) == 0)
        return 0;
    bounded[at].number = 0; /* SIGKILL and SIGSTOP are heard by nobody */
    return -errno;
}

void cueball_signal_heard(void)
{
    alarm(0);
}
