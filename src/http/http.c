/* What reads requests and what reads answers have in common: their memory, and their end. */
#include "http.h"

#include <assert.h>
#include <stdlib.h>

enum { HEAD_MIN = 64, HEAD_MAX = 1048576, HEADERS_MAX = 1000 };

#define TEXT_OF(number) #number
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

const char *cueball_http_version_text(void)
{
    return CUEBALL_VERSION;
}

const char *cueball_http_llhttp_version(void)
{
    return VERSION_TEXT(LLHTTP_VERSION_MAJOR, LLHTTP_VERSION_MINOR, LLHTTP_VERSION_PATCH);
}

int cueball__http_refuse(cueball_http *http, int status, const char *error)
{
    assert(status >= 400 && status < 600);
    assert(error && *error);
    if (!http->status) {
        http->status = status;
        http->error = error;
    }
    return HPE_USER;
}

int cueball__http_fail(cueball_http *http, int status, const char *error)
{
    cueball__http_refuse(http, status, error);
    http->is_failed = true;
    http->is_whole = false;
    return CUEBALL_HTTP_FAILED;
}

void cueball__http_resume(cueball_http *http)
{
    assert(!http->is_failed);
    if (http->is_paused)
        llhttp_resume(&http->parser);
    http->is_paused = false;
}

const char *cueball__http_reason(const cueball_http *http, const char *otherwise)
{
    const char *reason = llhttp_get_error_reason(&http->parser); /* none where a callback refused, which told its own */
    return reason && *reason ? reason : otherwise;
}

int cueball__http_new(llhttp_type_t type, uint32_t head_max, uint32_t headers_max, cueball_http **http)
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
    made->is_answer = type == HTTP_RESPONSE;
    llhttp_settings_init(&made->settings);
    cueball__http_keep_head(&made->settings);
    llhttp_init(&made->parser, type, &made->settings);
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

int cueball_http_feed(cueball_http *http, const void *bytes, size_t size, size_t *taken)
{
    assert(bytes || size == 0);
    *taken = 0;
    if (http->is_failed)
        return CUEBALL_HTTP_FAILED;
    return http->is_answer ? cueball__http_feed_answer(http, bytes, size, taken) : cueball__http_feed_request(http, bytes, size, taken);
}

int cueball_http_status(const cueball_http *http)
{
    return http->status;
}

const char *cueball_http_error(const cueball_http *http)
{
    return http->error;
}
