/* HTTP/1.1 for whoever has bytes and an event loop: reads the requests of one
 * connection, or one answer, by llhttp.  It does no I/O, waits for nothing and calls
 * nobody back:
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
 * (has_body), and nothing is read after it.  Answers have one, see cueball_http_new_answer().
 *
 * Memory is bounded: what a head may hold is allocated when the connection is made, and
 * not a byte more.  It comes from malloc().  A connection is used by one thread at a time. */
#ifndef CUEBALL_HTTP_H
#define CUEBALL_HTTP_H

#include "cueball_types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cueball_http cueball_http; /* the requests of one connection, or one answer */

typedef enum cueball_http_result {
    CUEBALL_HTTP_WANT = 0,    /* all was read, and a request or answer is not whole */
    CUEBALL_HTTP_REQUEST = 1, /* the head of a request is whole: it is there until the next cueball_http_feed() */
    CUEBALL_HTTP_FAILED = 2,  /* what came is no request or answer, or too much: nothing more is read of this connection */
    CUEBALL_HTTP_ANSWER = 3,  /* the head of the answer is whole, and remains */
    CUEBALL_HTTP_PIECE = 4,   /* a piece of the answer's body: the last cueball_http_piece_size() of the bytes that were taken */
    CUEBALL_HTTP_END = 5      /* the answer is whole; nothing behind it is read */
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

/* Reads bytes: all of them, or up to where there is something to tell.  *taken becomes how many.  cueball_http_result. */
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

/* One answer, to any request but HEAD and CONNECT:
 *
 *     while (result != CUEBALL_HTTP_END && result != CUEBALL_HTTP_FAILED) {
 *         result = cueball_http_feed(http, bytes, size, &taken);
 *         bytes += taken, size -= taken;
 *         if (result == CUEBALL_HTTP_ANSWER) ...cueball_http_answer_of(), cueball_http_header_at()...
 *         if (result == CUEBALL_HTTP_PIECE) ...take what is in front of `bytes`...
 *         if (result == CUEBALL_HTTP_WANT) ...read more; at the end of the connection result = cueball_http_closed(http)...
 *     }
 *
 * Answers of status 1xx before it are left out, but for 101.  Whatever stands between
 * pieces (extensions of chunks, trailers) is left out, and bounded like a head.  A body
 * of more than `body_max` bytes fails, as soon as its length is announced.  Errors as
 * cueball_http_new(). */
CUEBALL_API int cueball_http_new_answer(uint32_t head_max, uint32_t headers_max, uint64_t body_max, cueball_http **http);
/* The connection has ended: CUEBALL_HTTP_END if the answer has, too, else CUEBALL_HTTP_FAILED. */
CUEBALL_API int cueball_http_closed(cueball_http *http);
/* 0 if the last cueball_http_feed() did not return CUEBALL_HTTP_PIECE. */
CUEBALL_API size_t cueball_http_piece_size(const cueball_http *http);

typedef struct cueball_http_answer {
    uint32_t status, header_count;
    uint32_t minor; /* HTTP/1.minor */
} cueball_http_answer;

/* CUEBALL_ENOT_FOUND: the head is not whole. */
CUEBALL_API int cueball_http_answer_of(const cueball_http *http, cueball_http_answer *answer);

/* What to answer requests that failed: 400, 414 (the target is too long), 431 (the head is), 505.  Of an answer: a status
 * all the same.  0: it has not failed. */
CUEBALL_API int cueball_http_status(const cueball_http *http);
/* Why it failed, in llhttp's words or ours.  "" if it has not.  Lives as long as the connection. */
CUEBALL_API const char *cueball_http_error(const cueball_http *http);

#ifdef __cplusplus
}
#endif

#endif
