/* Requests: each is read up to the end of its head, where llhttp is stopped.
 *
 * What can go wrong: a client that sends nothing but spaces, or line ends, calls no
 * callback at all, so all bytes of a head are counted; there is a body, which nobody
 * reads: nothing more is read then. */
#include "http.h"

#include <assert.h>

static int on_headers_complete(llhttp_t *parser)
{
    cueball_http *http = cueball__http_of(parser);
    assert(!http->is_whole);
    assert(http->has_target);
    http->is_whole = true;
    return HPE_PAUSED;
}

int cueball_http_new(uint32_t head_max, uint32_t headers_max, cueball_http **http)
{
    int result = cueball__http_new(HTTP_REQUEST, head_max, headers_max, http);
    if (result == CUEBALL_OK)
        (*http)->settings.on_headers_complete = on_headers_complete;
    return result;
}

/* The request before was answered: the next one begins. */
static void next_begins(cueball_http *http)
{
    assert(http->is_whole);
    http->is_whole = false;
    http->read = 0;
    cueball__http_head_begins(http);
    cueball__http_resume(http);
}

static bool has_body(const cueball_http *http)
{
    const llhttp_t *parser = &http->parser;
    return parser->upgrade || (parser->flags & (F_CHUNKED | F_TRANSFER_ENCODING))
           || ((parser->flags & F_CONTENT_LENGTH) && parser->content_length > 0);
}

int cueball__http_feed_request(cueball_http *http, const void *bytes, size_t size, size_t *taken)
{
    assert(!http->is_answer);
    if (http->is_whole) {
        if (has_body(http))
            return cueball__http_fail(http, 400, "there was a body, which is not read");
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
        return cueball__http_fail(http, 505, "this is no HTTP/1");
    if (result == HPE_PAUSED && http->is_whole) {
        http->is_paused = true;
        *taken = (size_t)(llhttp_get_error_pos(&http->parser) - (const char *)bytes);
        http->read = 0;
        return CUEBALL_HTTP_REQUEST;
    }
    if (result != HPE_OK)
        return cueball__http_fail(http, 400, cueball__http_reason(http, "this is no HTTP"));
    *taken = given;
    http->read += (uint32_t)given;
    assert(http->read <= http->head_max);
    assert(!http->is_whole);
    if (http->read == http->head_max && http->used > 0 && !http->has_target)
        return cueball__http_fail(http, 414, "the target is too long");
    if (http->read == http->head_max)
        return cueball__http_fail(http, 431, "the head is too long");
    return CUEBALL_HTTP_WANT;
}

bool cueball_http_is_between(const cueball_http *http)
{
    return http->is_whole || http->read == 0;
}

int cueball_http_request_of(const cueball_http *http, cueball_http_request *request)
{
    if (!http->is_whole || http->is_answer)
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
