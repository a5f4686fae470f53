#ifndef CUEBALL_THREADED_FAULT_H
#define CUEBALL_THREADED_FAULT_H

#include "state.h"

/* What went wrong in this thread, for cueball_last_error(); returns `error`. */
int cueball__fault(int error, const char *format, ...)
#if defined __GNUC__
    __attribute__((format(printf, 2, 3)))
#endif
    ;
/* The same in the words of cueball_error_message(). */
int cueball__fault_plain(int error);
/* A claim got nothing; with the lock.  `holder`: of cueball__holder_explain(), or "". */
int cueball__fault_of_claim(cueball_threaded *pool, int error, cueball_time waited, uint32_t ahead, const char *holder);

#endif
