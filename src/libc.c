/* What the core must not ask the machine for, offered beside it: memory, the
 * time, and the version of this build. */
#define _POSIX_C_SOURCE 200112L

#include "cueball_types.h"

#include <stdlib.h>
#include <time.h>

static void *libc_allocate(void *user, size_t size)
{
    (void)user;
    return malloc(size);
}

static void libc_release(void *user, void *memory, size_t size)
{
    (void)user;
    (void)size;
    free(memory);
}

const cueball_allocator *cueball_allocator_libc(void)
{
    static const cueball_allocator allocator = { .user = NULL, .allocate = libc_allocate, .release = libc_release };
    return &allocator;
}

cueball_time cueball_clock_now(void)
{
    struct timespec now = { 0 };
    /* Cannot fail: POSIX systems without this clock do not compile it. */
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (cueball_time)now.tv_sec * 1000000000u + (cueball_time)now.tv_nsec;
}

const char *cueball_version(void)
{
    return CUEBALL_VERSION;
}
