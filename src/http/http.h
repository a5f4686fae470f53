/* head.c keeps the head of a request or an answer, request.c and answer.c read on from
 * there, http.c has what they share. */
#ifndef CUEBALL_HTTP_INTERNAL_H
#define CUEBALL_HTTP_INTERNAL_H

#include "cueball_http.h"

#include <assert.h>
#include <llhttp.h>

typedef struct piece {
    uint32_t at, size;
} piece;

typedef struct head_header {
    piece name, value;
} head_header;

struct cueball_http {
    llhttp_t parser;
    llhttp_settings_t settings;
    uint32_t head_max, headers_max;
    uint32_t read; /* bytes of the present head; in a body, those that are no body since its last piece */
    uint32_t used; /* of `text` */
    uint32_t header_count;
    piece target;
    bool has_target; /* all of it was read */
    bool is_whole;   /* the head is */
    bool is_failed;  /* nothing more is read */
    bool is_paused;  /* llhttp stopped: after a head, a piece of a body, an answer */
    bool is_answer;  /* what is read is an answer, no request */
    bool is_interim; /* the head is that of a 1xx answer: the answer follows */
    bool is_over;    /* the answer is whole */
    int status;
    uint64_t body, body_max; /* bytes of an answer's body */
    size_t piece;            /* bytes of the body that were read last */
    const char *error;
    char *text;
    head_header *headers;
};

static inline cueball_http *cueball__http_of(llhttp_t *parser)
{
    assert(parser->data);
    return parser->data;
}

/* A parser without callbacks for what comes behind the head. */
int cueball__http_new(llhttp_type_t type, uint32_t head_max, uint32_t headers_max, cueball_http **http);
/* For callbacks: notes why nothing more is read, unless that is known.  Returns what stops llhttp. */
int cueball__http_refuse(cueball_http *http, int status, const char *error);
/* The same, and nothing more is read.  Returns CUEBALL_HTTP_FAILED. */
int cueball__http_fail(cueball_http *http, int status, const char *error);
int cueball__http_feed_request(cueball_http *http, const void *bytes, size_t size, size_t *taken);
int cueball__http_feed_answer(cueball_http *http, const void *bytes, size_t size, size_t *taken);
/* The callbacks that keep a head. */
void cueball__http_keep_head(llhttp_settings_t *settings);
/* Forgets the head. */
void cueball__http_head_begins(cueball_http *http);
/* llhttp goes on if it was stopped. */
void cueball__http_resume(cueball_http *http);
/* Why llhttp stopped, in its words or `otherwise`. */
const char *cueball__http_reason(const cueball_http *http, const char *otherwise);

#endif
