#ifndef CUEBALL_THREADED_WATCH_H
#define CUEBALL_THREADED_WATCH_H

#include "state.h"

/* What a look at a socket that nobody uses shows. */
typedef enum cueball__sight {
    SIGHT_QUIET,  /* as it should be, or no socket */
    SIGHT_LOST,   /* its peer closed it, or it broke */
    SIGHT_WAITING /* bytes wait that nobody asked for */
} cueball__sight;

cueball__sight cueball__socket_peek(int32_t fd);
/* Tells the core what was seen of a connection. */
void cueball__sight_tell(cueball_threaded *pool, cueball_handle conn, cueball__sight sight, cueball_time now);
int cueball__watch_begin(cueball_threaded *pool);
void cueball__watch_end(cueball_threaded *pool);
void cueball__watch_add(const cueball_threaded *pool, cueball_loan *loan);
void cueball__watch_remove(const cueball_threaded *pool, const cueball_loan *loan);
void cueball__loan_set_nonblocking(cueball_loan *loan, bool nonblocking);

#endif
