/* One answer: its head, then its body in pieces, as they come.
 *
 * The happy path: llhttp is stopped after the head, after each piece of the body, and
 * after the last.  Nothing of a body is kept: a piece is the end of what was taken.
 * What can go wrong: the head or the body is longer than allowed, the latter already if
 * its announced length is; what is no body goes on for ever (answers with 1xx before the
 * answer, extensions of chunks, trailers): it is counted like a head; the connection
 * ends before the answer does. */
#include "http.h"

#include <assert.h>

static int check_body(cueball_http *http, uint64_t more)
{
    assert(http->body <= http->body_max);
    return more > http->body_max - http->body ? cueball__http_refuse(http, 502, "the body is too long") : HPE_OK;
}

static int on_headers_complete(llhttp_t *parser)
{
    cueball_http *http = cueball__http_of(parser);
    assert(http->is_answer && !http->is_whole);
    http->is_interim = parser->status_code / 100 == 1 && parser->status_code != 101;
    if (http->is_interim)
        return HPE_OK;
    /* These have no body, whatever length they tell (RFC 9110, 8.6). */
    if (parser->status_code == 204 || parser->status_code == 304)
        parser->flags |= F_SKIPBODY;
    else if ((parser->flags & F_CONTENT_LENGTH) && check_body(http, parser->content_length) != HPE_OK)
        return HPE_USER;
    http->is_whole = true;
    return HPE_PAUSED;
}

static int on_chunk_header(llhttp_t *parser)
{
    return check_body(cueball__http_of(parser), parser->content_length);
}

static int on_body(llhttp_t *parser, const char *at, size_t size)
{
    cueball_http *http = cueball__http_of(parser);
    (void)at;
    assert(http->is_whole && !http->is_over);
    if (size == 0)
        return HPE_OK;
    int result = check_body(http, size);
    if (result != HPE_OK)
        return result;
    http->body += size;
    http->piece = size;
    return HPE_PAUSED;
}

static int on_message_complete(llhttp_t *parser)
{
    cueball_http *http = cueball__http_of(parser);
    assert(!http->is_over);
    if (http->is_interim)
        return HPE_OK;
    http->is_over = true;
    return HPE_PAUSED;
}

int cueball_http_new_answer(uint32_t head_max, uint32_t headers_max, uint64_t body_max, cueball_http **http)
{
    int result = cueball__http_new(HTTP_RESPONSE, head_max, headers_max, http);
    if (result != CUEBALL_OK)
        return result;
    (*http)->body_max = body_max;
    (*http)->settings.on_headers_complete = on_headers_complete;
    (*http)->settings.on_chunk_header = on_chunk_header;
    (*http)->settings.on_body = on_body;
    (*http)->settings.on_message_complete = on_message_complete;
    return CUEBALL_OK;
}

/* llhttp was stopped, by the end of a head, of a piece or of the answer. */
static int paused(cueball_http *http, bool was_whole)
{
    assert(http->is_whole && !http->is_paused);
    http->is_paused = true;
    http->read = 0;
    if (!was_whole)
        return CUEBALL_HTTP_ANSWER;
    assert(http->piece > 0 || http->is_over);
    return http->piece > 0 ? CUEBALL_HTTP_PIECE : CUEBALL_HTTP_END;
}

int cueball__http_feed_answer(cueball_http *http, const void *bytes, size_t size, size_t *taken)
{
    assert(http->is_answer);
    http->piece = 0;
    if (http->is_over)
        return CUEBALL_HTTP_END;
    bool was_whole = http->is_whole;
    size_t room = http->head_max - http->read;
    size_t given = was_whole || size < room ? size : room;
    cueball__http_resume(http);
    llhttp_errno_t result = llhttp_execute(&http->parser, given ? bytes : "", given);
    if (result != HPE_OK && result != HPE_PAUSED)
        return cueball__http_fail(http, 502, cueball__http_reason(http, "this is no HTTP"));
    *taken = result == HPE_OK ? given : given ? (size_t)(llhttp_get_error_pos(&http->parser) - (const char *)bytes) : 0;
    assert(*taken <= given && http->piece <= *taken);
    if (result == HPE_PAUSED)
        return paused(http, was_whole);
    if (*taken >= room)
        return cueball__http_fail(http, 502, was_whole ? "what is between the pieces is too long" : "the head is too long");
    http->read += (uint32_t)*taken;
    return CUEBALL_HTTP_WANT;
}

int cueball_http_closed(cueball_http *http)
{
    assert(http->is_answer);
    http->piece = 0;
    if (http->is_failed || http->is_over)
        return http->is_over ? CUEBALL_HTTP_END : CUEBALL_HTTP_FAILED;
    cueball__http_resume(http);
    llhttp_finish(&http->parser); /* calls on_message_complete where the answer may end so */
    return http->is_over ? CUEBALL_HTTP_END : cueball__http_fail(http, 502, "the answer was cut");
}

size_t cueball_http_piece_size(const cueball_http *http)
{
    return http->piece;
}

int cueball_http_answer_of(const cueball_http *http, cueball_http_answer *answer)
{
    if (!http->is_whole || !http->is_answer)
        return CUEBALL_ENOT_FOUND;
    assert(http->parser.status_code >= 100);
    assert(http->header_count <= http->headers_max);
    answer->status = http->parser.status_code;
    answer->minor = http->parser.http_minor;
    answer->header_count = http->header_count;
    return CUEBALL_OK;
}
