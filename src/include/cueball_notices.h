/* Notices of a database server, kept until somebody reads them: what libpq tells
 * through a callback, for programs that cannot be called back (Lua through FFI).
 *
 *     cueball_notices notices = { .codes = "SCMDH", .field = field, .limit = 65536 };
 *     PQsetNoticeReceiver(conn, receive, &notices);
 *
 * where `field` is PQresultErrorField and `receive` cueball_notices_receive, each cast
 * to the type that the other side knows.  libpq is not needed to build or load this.
 *
 * Threads: one at a time for each cueball_notices. */
#ifndef CUEBALL_NOTICES_H
#define CUEBALL_NOTICES_H

#include "cueball_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What came and was not read yet.  Each notice is its fields, in the order of `codes`: the code (one byte), the
 * text and a NUL; fields that it lacks are left out; then one more NUL.  The caller sets `codes`, `field` and
 * `limit`, and zeroes the rest; the text is the library's, until cueball_notices_clear(). */
typedef struct cueball_notices {
    char *text;
    size_t length;    /* of what is kept, in bytes */
    size_t room;      /* of the memory at `text` */
    size_t limit;     /* keep no more bytes than these */
    uint64_t dropped; /* notices that did not fit, or for which there was no memory */
    const char *codes;
    const char *(*field)(const void *result, int code);
} cueball_notices;

/* A PQnoticeReceiver: `notices` is a cueball_notices *, `result` the PGresult. */
CUEBALL_API void cueball_notices_receive(void *notices, const void *result);

/* Forgets what is kept, and gives its memory back to malloc. */
CUEBALL_API void cueball_notices_clear(cueball_notices *notices);

#ifdef __cplusplus
}
#endif

#endif
