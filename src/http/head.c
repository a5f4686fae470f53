/* The head of a request or an answer: llhttp's callbacks put what they are given into
 * one piece of memory of a fixed size.
 *
 * What can go wrong: the head is too long, or has too many headers: the callback that
 * finds no room says so, and llhttp stops. */
#include "http.h"

#include <assert.h>
#include <string.h>

void cueball__http_head_begins(cueball_http *http)
{
    http->used = http->header_count = 0;
    http->headers[0] = (head_header){ { 0, 0 }, { 0, 0 } };
    http->target = (piece){ 0, 0 };
    http->has_target = false;
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
        return cueball__http_refuse(http, 431, "the head is too long");
    http->text[http->used++] = '\0';
    return HPE_OK;
}

static int on_message_begin(llhttp_t *parser)
{
    cueball__http_head_begins(cueball__http_of(parser));
    return HPE_OK;
}

static int on_url(llhttp_t *parser, const char *at, size_t size)
{
    cueball_http *http = cueball__http_of(parser);
    return piece_add(http, &http->target, at, size) ? HPE_OK : cueball__http_refuse(http, 414, "the target is too long");
}

static int on_url_complete(llhttp_t *parser)
{
    cueball_http *http = cueball__http_of(parser);
    http->has_target = true;
    return piece_end(http, &http->target);
}

static int on_header_field(llhttp_t *parser, const char *at, size_t size)
{
    cueball_http *http = cueball__http_of(parser);
    if (http->is_whole)
        return HPE_OK; /* a trailer, behind the body */
    if (http->header_count == http->headers_max)
        return cueball__http_refuse(http, 431, "there are too many headers");
    head_header *header = &http->headers[http->header_count];
    assert(header->value.size == 0);
    return piece_add(http, &header->name, at, size) ? HPE_OK : cueball__http_refuse(http, 431, "the head is too long");
}

/* A space before the colon is refused (RFC 9112, 5.1): others read such a header as another. */
static int on_header_field_complete(llhttp_t *parser)
{
    cueball_http *http = cueball__http_of(parser);
    if (http->is_whole)
        return HPE_OK;
    piece *name = &http->headers[http->header_count].name;
    if (memchr(http->text + name->at, ' ', name->size))
        return cueball__http_refuse(http, 400, "a header's name has a space");
    return piece_end(http, name);
}

static int on_header_value(llhttp_t *parser, const char *at, size_t size)
{
    cueball_http *http = cueball__http_of(parser);
    if (http->is_whole)
        return HPE_OK;
    head_header *header = &http->headers[http->header_count];
    assert(header->name.size > 0);
    return piece_add(http, &header->value, at, size) ? HPE_OK : cueball__http_refuse(http, 431, "the head is too long");
}

static int on_header_value_complete(llhttp_t *parser)
{
    cueball_http *http = cueball__http_of(parser);
    if (http->is_whole)
        return HPE_OK;
    assert(http->header_count < http->headers_max);
    int result = piece_end(http, &http->headers[http->header_count].value);
    if (result != HPE_OK)
        return result;
    http->header_count++;
    if (http->header_count < http->headers_max)
        http->headers[http->header_count] = (head_header){ { 0, 0 }, { 0, 0 } };
    return HPE_OK;
}

void cueball__http_keep_head(llhttp_settings_t *settings)
{
    settings->on_message_begin = on_message_begin;
    settings->on_url = on_url;
    settings->on_url_complete = on_url_complete;
    settings->on_header_field = on_header_field;
    settings->on_header_field_complete = on_header_field_complete;
    settings->on_header_value = on_header_value;
    settings->on_header_value_complete = on_header_value_complete;
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
