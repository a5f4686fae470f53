#include "sized.h"

#include <string.h>

static size_t size_said(const void *given)
{
    uint32_t size;
    memcpy(&size, given, sizeof size);
    return size;
}

static bool is_zero(const unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (bytes[i])
            return false;
    return true;
}

void cueball__sized_init(void *to, uint32_t size, const void *defaults, size_t own)
{
    memset(to, 0, size);
    memcpy(to, defaults, size < own ? size : own);
    memcpy(to, &size, sizeof size);
}

bool cueball__sized_read(void *to, size_t own, size_t first, const void *from)
{
    size_t size = size_said(from) ? size_said(from) : first;
    if (size < first)
        return false;
    if (size > own && !is_zero((const unsigned char *)from + own, size - own))
        return false;
    memcpy(to, from, size < own ? size : own);
    memcpy(to, &(uint32_t){ (uint32_t)own }, sizeof(uint32_t));
    return true;
}

size_t cueball__sized_stride(size_t first, const void *from)
{
    return size_said(from) ? size_said(from) : first;
}

void cueball__sized_write(void *to, size_t first, const void *from, size_t own)
{
    size_t size = size_said(to) < first ? first : size_said(to) < own ? size_said(to) : own;
    memcpy((char *)to + sizeof(uint32_t), (const char *)from + sizeof(uint32_t), size - sizeof(uint32_t));
}
