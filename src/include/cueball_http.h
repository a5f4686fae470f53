/* HTTP/1.1 for whoever has bytes and an event loop: reads the requests of one
 * connection, by llhttp.  It does no I/O, waits for nothing and calls nobody back:
 *
 *     while (size > 0) {
 *         size_t taken;
 *         result = cueball_http_feed(http, bytes, size, &taken);
 *         bytes += taken, size -= taken;
 *         if (result == CUEBALL_HTTP_REQUEST) ...cueball_http_request_of(), cueball_http_header_at(), answer it...
 *         if (result == CUEBALL_HTTP_FAILED) ...answer cueball_http_status(), and close...
 *     }
 *
 * It is a library of its own (libcueball_http), so that libcueball needs no llhttp.
 * Requests have no body here: one that announces a body is told when its head is read
 * (has_body), and nothing is read after it.
 *
 * Memory is bounded: what a head may hold is allocated when the connection is made, and
 * not a byte more.  It comes from malloc().  A connection is used by one thread at a time. */
#ifndef CUEBALL_HTTP_H
#define CUEBALL_HTTP_H

#include "cueball_types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cueball_http cueball_http; /* the requests of one connection */

typedef enum cueball_http_result {
    CUEBALL_HTTP_WANT = 0,    /* all was read, and a request is not whole */
    CUEBALL_HTTP_REQUEST = 1, /* the head of a request is whole: it is there until the next cueball_http_feed() */
    CUEBALL_HTTP_FAILED = 2   /* what came is no request, or too much: nothing more is read of this connection */
} cueball_http_result;

/* "1.2.3" of this library's build.  Static. */
CUEBALL_API const char *cueball_http_version_text(void);
/* "8.1.0" of llhttp, as it was compiled in.  Static. */
CUEBALL_API const char *cueball_http_llhttp_version(void);
/* As cueball_layout_at(), of this header as this library was compiled. */
CUEBALL_API bool cueball_http_layout_at(uint32_t index, cueball_layout *layout);

/* A request's head may have `head_max` bytes, its target among them, and `headers_max`
 * headers.  CUEBALL_EINVAL: not from 64 to 1048576, or not from 1 to 1000.  CUEBALL_ENOMEM. */
CUEBALL_API int cueball_http_new(uint32_t head_max, uint32_t headers_max, cueball_http **http);
CUEBALL_API void cueball_http_free(cueball_http *http); /* NULL is allowed */

/* Reads bytes: all of them, or up to the end of a request's head.  *taken becomes how many.  cueball_http_result. */
CUEBALL_API int cueball_http_feed(cueball_http *http, const void *bytes, size_t size, size_t *taken);
/* Whether nothing was read yet of the next request. */
CUEBALL_API bool cueball_http_is_between(const cueball_http *http);

typedef struct cueball_http_request {
    const char *method; /* "GET"; static */
    const char *target; /* "/path?query" as it came, ended by 0; there is no 0 in it */
    uint32_t target_size, header_count;
    uint32_t minor;   /* HTTP/1.minor */
    bool keeps_alive; /* the client may send another request */
    bool has_body;    /* a body follows, which is not read, or another protocol: the connection is of no more use after the answer */
} cueball_http_request;

/* CUEBALL_ENOT_FOUND: the last cueball_http_feed() did not return CUEBALL_HTTP_REQUEST. */
CUEBALL_API int cueball_http_request_of(const cueball_http *http, cueball_http_request *request);

typedef struct cueball_http_header {
    const char *name, *value; /* as they came, each ended by 0 */
    uint32_t name_size, value_size;
} cueball_http_header;

/* The header number `index`, from 0; false beyond the last. */
CUEBALL_API bool cueball_http_header_at(const cueball_http *http, uint32_t index, cueball_http_header *header);

/* What to answer a connection that failed: 400, 414 (the target is too long), 431 (the head is), 505. 0: it has not. */
CUEBALL_API int cueball_http_status(const cueball_http *http);
/* Why it failed, in llhttp's words or ours.  "" if it has not.  Lives as long as the connection. */
CUEBALL_API const char *cueball_http_error(const cueball_http *http);

#ifdef __cplusplus
}
#endif

#endif
