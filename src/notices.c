/* Notices, see cueball_notices.h. */
#include "cueball_notices.h"

#include <stdlib.h>
#include <string.h>

#define ROOM_MIN 1024u

static size_t length_of(const cueball_notices *notices, const void *result)
{
    size_t length = 1;
    for (const char *code = notices->codes; *code; code++) {
        const char *text = notices->field(result, *code);
        if (text)
            length += 1 + strlen(text) + 1;
    }
    return length;
}

/* Makes room for `length` more bytes.  False: there is none. */
static bool make_room(cueball_notices *notices, size_t length)
{
    if (length > notices->limit || notices->length > notices->limit - length)
        return false;
    size_t wanted = notices->length + length;
    if (wanted <= notices->room)
        return true;
    size_t room = notices->room ? notices->room : ROOM_MIN;
    while (room < wanted)
        room *= 2;
    char *text = realloc(notices->text, room);
    if (!text)
        return false;
    notices->text = text;
    notices->room = room;
    return true;
}

static void append(cueball_notices *notices, const char *bytes, size_t length)
{
    memcpy(notices->text + notices->length, bytes, length);
    notices->length += length;
}

void cueball_notices_receive(void *kept, const void *result)
{
    cueball_notices *notices = kept;
    if (!make_room(notices, length_of(notices, result))) {
        notices->dropped++;
        return;
    }
    for (const char *code = notices->codes; *code; code++) {
        const char *text = notices->field(result, *code);
        if (text) {
            append(notices, code, 1);
            append(notices, text, strlen(text) + 1);
        }
    }
    append(notices, "", 1);
}

void cueball_notices_clear(cueball_notices *notices)
{
    free(notices->text);
    notices->text = NULL;
    notices->length = 0;
    notices->room = 0;
}
