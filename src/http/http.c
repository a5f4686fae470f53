/* Requests, read by llhttp: its callbacks put what they are given into one piece of
 * memory of a fixed size, and stop it when a head is whole.
 *
 * What can go wrong: the head is too long, or has too many headers: the callback that
 * finds no room says so, and llhttp stops.  A client that sends nothing but spaces, or
 * line ends, calls no callback at all: so all bytes of a head are counted as well. */
#include "cueball_http.h"

#include <assert.h>
#include <llhttp.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD_MIN = 64, HEAD_MAX = 1048576, HEADERS_MAX = 1000 };

#define TEXT_OF(number) #number
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

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
    uint32_t read; /* bytes of the present head */
    uint32_t used; /* of `text` */
    uint32_t header_count;
    piece target;
    bool has_target; /* all of it was read */
    bool is_whole;   /* the head is */
    bool is_failed;  /* nothing more is read */
    bool is_paused;  /* llhttp stopped after a head */
    int status;
    const char *error;
    char *text;
    head_header *headers;
};

const char *cueball_http_version_text(void)
{
    return CUEBALL_VERSION;
}

const char *cueball_http_llhttp_version(void)
{
    return VERSION_TEXT(LLHTTP_VERSION_MAJOR, LLHTTP_VERSION_MINOR, LLHTTP_VERSION_PATCH);
}

static cueball_http *http_of(llhttp_t *parser)
{
    assert(parser->data);
    return parser->data;
}

static int refuse(cueball_http *http, int status, const char *error)
{
    assert(status >= 400 && status < 600);
    assert(error && *error);
    if (!http->status) {
        http->status = status;
        http->error = error;
    }
    return HPE_USER;
}

/* Appends to a piece, which is the last in `text`, and keeps a 0 behind it. */
static bool piece_add(cueball_http *http, piece *last, const char *at, size_t size)
{
    assert(http->used <= http->head_max);
    assert(last->size == 0 || last->at + last->size == http->used);
    if (last->size == 0)
        last->at = http->used;
    if (size >= http->head_max - http->used)
        return false;
    memcpy(http->text + http->used, at, size);
    http->used += (uint32_t)size;
    last->size += (uint32_t)size;
    http->text[http->used] = '\0';
    return true;
}

/* The piece is whole: its 0 stays.  An empty one has a 0 of its own. */
static int piece_end(cueball_http *http, piece *last)
{
    assert(http->used <= http->head_max);
    assert(last->size == 0 || last->at + last->size == http->used);
    if (last->size == 0)
        last->at = http->used;
    if (http->used + 1 >= http->head_max)
        return refuse(http, 431, "the head is too long");
    http->text[http->used++] = '\0';
    return HPE_OK;
}

static int on_message_begin(llhttp_t *parser)
{
    cueball_http *http = http_of(parser);
    http->used = http->header_count = 0;
    http->target = (piece){ 0, 0 };
    http->has_target = false;
    return HPE_OK;
}

static int on_url(llhttp_t *parser, const char *at, size_t size)
{
    cueball_http *http = http_of(parser);
    return piece_add(http, &http->target, at, size) ? HPE_OK : refuse(http, 414, "the target is too long");
}

static int on_url_complete(llhttp_t *parser)
{
    cueball_http *http = http_of(parser);
    http->has_target = true;
    return piece_end(http, &http->target);
}

static int on_header_field(llhttp_t *parser, const char *at, size_t size)
{
    cueball_http *http = http_of(parser);
    if (http->header_count == http->headers_max)
        return refuse(http, 431, "there are too many headers");
    head_header *header = &http->headers[http->header_count];
    assert(header->value.size == 0);
    return piece_add(http, &header->name, at, size) ? HPE_OK : refuse(http, 431, "the head is too long");
}

/* A space before the colon is refused (RFC 9112, 5.1): others read such a header as another. */
static int on_header_field_complete(llhttp_t *parser)
{
    cueball_http *http = http_of(parser);
    piece *name = &http->headers[http->header_count].name;
    if (memchr(http->text + name->at, ' ', name->size))
        return refuse(http, 400, "a header's name has a space");
    return piece_end(http, name);
}

static int on_header_value(llhttp_t *parser, const char *at, size_t size)
{
    cueball_http *http = http_of(parser);
    head_header *header = &http->headers[http->header_count];
    assert(header->name.size > 0);
    return piece_add(http, &header->value, at, size) ? HPE_OK : refuse(http, 431, "the head is too long");
}

static int on_header_value_complete(llhttp_t *parser)
{
    cueball_http *http = http_of(parser);
    assert(http->header_count < http->headers_max);
    int result = piece_end(http, &http->headers[http->header_count].value);
    if (result != HPE_OK)
        return result;
    http->header_count++;
    if (http->header_count < http->headers_max)
        http->headers[http->header_count] = (head_header){ { 0, 0 }, { 0, 0 } };
    return HPE_OK;
}

static int on_headers_complete(llhttp_t *parser)
{
    cueball_http *http = http_of(parser);
    assert(!http->is_whole);
    assert(http->has_target);
    http->is_whole = true;
    return HPE_PAUSED;
}

static void settings_make(llhttp_settings_t *settings)
{
    llhttp_settings_init(settings);
    settings->on_message_begin = on_message_begin;
    settings->on_url = on_url;
    settings->on_url_complete = on_url_complete;
    settings->on_header_field = on_header_field;
    settings->on_header_field_complete = on_header_field_complete;
    settings->on_header_value = on_header_value;
    settings->on_header_value_complete = on_header_value_complete;
    settings->on_headers_complete = on_headers_complete;
}

int cueball_http_new(uint32_t head_max, uint32_t headers_max, cueball_http **http)
{
    if (head_max < HEAD_MIN || head_max > HEAD_MAX || headers_max < 1 || headers_max > HEADERS_MAX)
        return CUEBALL_EINVAL;
    cueball_http *made = calloc(1, sizeof *made);
    if (!made)
        return CUEBALL_ENOMEM;
    made->text = malloc(head_max);
    made->headers = calloc(headers_max, sizeof *made->headers);
    if (!made->text || !made->headers) {
        cueball_http_free(made);
        return CUEBALL_ENOMEM;
    }
    made->head_max = head_max;
    made->headers_max = headers_max;
    made->error = "";
    settings_make(&made->settings);
    llhttp_init(&made->parser, HTTP_REQUEST, &made->settings);
    made->parser.data = made;
    *http = made;
    return CUEBALL_OK;
}

void cueball_http_free(cueball_http *http)
{
    if (!http)
        return;
    free(http->text);
    free(http->headers);
    free(http);
}

/* The request before was answered: the next one begins. */
static void next_begins(cueball_http *http)
{
    assert(http->is_whole);
    assert(!http->is_failed);
    http->is_whole = false;
    http->read = http->used = http->header_count = 0;
    http->headers[0] = (head_header){ { 0, 0 }, { 0, 0 } };
    if (!http->is_paused)
        return;
    http->is_paused = false;
    llhttp_resume(&http->parser);
}

static int fail(cueball_http *http, int status, const char *error)
{
    refuse(http, status, error);
    http->is_failed = true;
    http->is_whole = false;
    return CUEBALL_HTTP_FAILED;
}

static bool has_body(const cueball_http *http)
{
    const llhttp_t *parser = &http->parser;
    return parser->upgrade || (parser->flags & (F_CHUNKED | F_TRANSFER_ENCODING))
           || ((parser->flags & F_CONTENT_LENGTH) && parser->content_length > 0);
}

int cueball_http_feed(cueball_http *http, const void *bytes, size_t size, size_t *taken)
{
    assert(bytes || size == 0);
    *taken = 0;
    if (http->is_failed)
        return CUEBALL_HTTP_FAILED;
    if (http->is_whole) {
        if (has_body(http))
            return fail(http, 400, "there was a body, which is not read");
        next_begins(http);
    }
    if (size == 0)
        return CUEBALL_HTTP_WANT;
    assert(!http->is_paused);
    assert(http->read < http->head_max);
    size_t room = http->head_max - http->read;
    size_t given = size < room ? size : room;
    llhttp_errno_t result = llhttp_execute(&http->parser, bytes, given);
    if (result == HPE_PAUSED && http->is_whole && http->parser.http_major != 1)
        return fail(http, 505, "this is no HTTP/1");
    if (result == HPE_PAUSED && http->is_whole) {
        http->is_paused = true;
        *taken = (size_t)(llhttp_get_error_pos(&http->parser) - (const char *)bytes);
        http->read = 0;
        return CUEBALL_HTTP_REQUEST;
    }
    if (result != HPE_OK) {
        const char *reason = llhttp_get_error_reason(&http->parser); /* none where a callback refused, which told its own */
        return fail(http, 400, reason && *reason ? reason : "this is no HTTP");
    }
    *taken = given;
    http->read += (uint32_t)given;
    assert(http->read <= http->head_max);
    assert(!http->is_whole);
    if (http->read == http->head_max && http->used > 0 && !http->has_target)
        return fail(http, 414, "the target is too long");
    if (http->read == http->head_max)
        return fail(http, 431, "the head is too long");
    return CUEBALL_HTTP_WANT;
}

bool cueball_http_is_between(const cueball_http *http)
{
    return http->is_whole || http->read == 0;
}

int cueball_http_request_of(const cueball_http *http, cueball_http_request *request)
{
    if (!http->is_whole)
        return CUEBALL_ENOT_FOUND;
    assert(http->has_target);
    assert(http->header_count <= http->headers_max);
    request->method = llhttp_method_name((llhttp_method_t)http->parser.method);
    request->target = http->text + http->target.at;
    request->target_size = http->target.size;
    request->header_count = http->header_count;
    request->minor = http->parser.http_minor;
    request->has_body = has_body(http);
    request->keeps_alive = !request->has_body && llhttp_should_keep_alive(&http->parser);
    return CUEBALL_OK;
}

bool cueball_http_header_at(const cueball_http *http, uint32_t index, cueball_http_header *header)
{
    if (!http->is_whole || index >= http->header_count)
        return false;
    const head_header *found = &http->headers[index];
    assert(found->value.at + found->value.size < http->head_max);
    header->name = http->text + found->name.at;
    header->name_size = found->name.size;
    header->value = http->text + found->value.at;
    header->value_size = found->value.size;
    return true;
}

int cueball_http_status(const cueball_http *http)
{
    return http->status;
}

const char *cueball_http_error(const cueball_http *http)
{
    return http->error;
}
