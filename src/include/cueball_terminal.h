/* The terminal of a process, for prompts and screens: keys as they are pressed, the
 * size, and Ctrl-C, which can be asked for by a program that does not come back to
 * its event loop.
 *
 *     int fd = cueball_terminal_open(0);     poll it beside descriptor 0
 *     cueball_terminal_raw(true);
 *     …
 *     cueball_terminal_close();
 *
 * Ctrl-C, Ctrl-Z and Ctrl-\ stay signals.  After the third Ctrl-C that nobody has
 * heard of, SIGINT ends the process as it does by default.  The terminal is as it
 * was once the process ends by exit(), SIGINT, SIGTERM, SIGHUP or SIGQUIT, or crashes (SIGSEGV, SIGBUS, SIGABRT, SIGFPE,
 * SIGILL, SIGTRAP, SIGSYS; also where the thread that opened it has used up its stack), and while it is suspended; what a
 * screen needs for that, besides, is cueball_terminal_sequences().
 *
 * Threads: one calls all of these.  There is one terminal for each process. */
#ifndef CUEBALL_TERMINAL_H
#define CUEBALL_TERMINAL_H

#include "cueball_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What cueball_terminal_next() returns. */
enum cueball_terminal_news {
    CUEBALL_TERMINAL_NOTHING = 0,
    CUEBALL_TERMINAL_INTERRUPTED = 1, /* Ctrl-C, once or more */
    CUEBALL_TERMINAL_RESIZED = 2,     /* SIGWINCH */
    CUEBALL_TERMINAL_CONTINUED = 3    /* the process was suspended; its lines have to be drawn anew */
};

/* Begins to listen: takes the signals SIGINT, SIGWINCH, SIGCONT, and SIGTERM, SIGHUP, SIGQUIT, SIGTSTP and those of a crash
 * where they would end or stop the process.  A descriptor that is readable when cueball_terminal_next() has news; or negative: -errno
 * (ENOTTY: `input` is no terminal, EALREADY: it is open). */
CUEBALL_API int cueball_terminal_open(int input);

/* Gives terminal and signals back, but for signals that somebody else has taken since; the descriptor is closed.  Harmless if
 * nothing is open. */
CUEBALL_API void cueball_terminal_close(void);

/* true: each key can be read when it is pressed, and is not echoed; false: lines, as it was.  0; or -errno. */
CUEBALL_API int cueball_terminal_raw(bool is_raw);

#define CUEBALL_TERMINAL_SEQUENCE_MAX 64

/* What the terminal is sent from now on whenever it becomes raw, also when a suspended process goes on, and whenever it
 * is given back, by whichever end: the other screen, pastes that are marked.  Texts of CUEBALL_TERMINAL_SEQUENCE_MAX
 * bytes at most, copied; "" for nothing, which is what cueball_terminal_open() begins with.
 * 0; -EBADF: nothing is open; -EINVAL: one is too long. */
CUEBALL_API int cueball_terminal_sequences(const char *enter, const char *leave);

/* The size of a terminal in characters.  0; or -errno, and the numbers are as they were. */
CUEBALL_API int cueball_terminal_size(int fd, int *columns, int *rows);

/* What has happened; one of enum cueball_terminal_news at a time, until it is nothing. */
CUEBALL_API int cueball_terminal_next(void);

/* How often Ctrl-C was pressed since cueball_terminal_open().  A load: may be asked as often as one likes. */
CUEBALL_API int cueball_terminal_interrupts(void);

/* Somebody has heard of the Ctrl-C's so far: the next one is the first again. */
CUEBALL_API void cueball_terminal_heard(void);

/* Reads what is there, at least one byte: the number of bytes; 0: the end; or -errno (EAGAIN where nothing is there). */
CUEBALL_API int cueball_terminal_read(int fd, char *bytes, int size);

/* If the signal `number` comes, and cueball_signal_heard() is not called within so many seconds, the process ends by it as
 * it does by default: also one that does not come back to its event loop.  A second signal ends it at once.  Who hears the
 * signal hears the first one as before; this is to be called behind that.  alarm() and SIGALRM are used for it.
 * CUEBALL_SIGNALS_MAX signals at most.  0; or -errno (EINVAL: `number` or `within_s` is none, ENOSPC). */
#define CUEBALL_SIGNALS_MAX 4
CUEBALL_API int cueball_signal_bound(int number, unsigned within_s);

/* Somebody has heard of it. */
CUEBALL_API void cueball_signal_heard(void);

#ifdef __cplusplus
}
#endif

#endif
