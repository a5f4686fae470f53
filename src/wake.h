/* A descriptor that becomes readable when somebody has something for its owner: an eventfd, or a pipe where there is none. */
#ifndef CUEBALL_WAKE_H
#define CUEBALL_WAKE_H

#include <stdbool.h>

typedef struct cueball__wake {
    int read_fd, write_fd; /* the same number, but of a pipe; -1: none.  Neither blocks, neither goes along with exec() */
} cueball__wake;

/* false: no descriptor is left. */
bool cueball__wake_open(cueball__wake *wake);
void cueball__wake_close(cueball__wake *wake);
/* Makes it readable; it stays so until it is cleared.  From any thread.  None of these waits, nor is cancelled half way (pthread_cancel). */
void cueball__wake_tell(int write_fd);
void cueball__wake_clear(int read_fd);

#endif
