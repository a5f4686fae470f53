/* What there is to say of a pool, in words. */
#include "fault.h"
#include "lock.h"
#include "process.h"

#include <stdarg.h>
#include <stdio.h>

/* A text that is cut to its room, and counts all the same. */
typedef struct cueball__writing {
    char *text;
    size_t size, length;
} cueball__writing;

#if defined __GNUC__
__attribute__((format(printf, 2, 3)))
#endif
static void
writing_add(cueball__writing *writing, const char *format, ...)
{
    assert(writing);
    size_t used = writing->length < writing->size ? writing->length : writing->size;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(writing->text ? writing->text + used : NULL, writing->size - used, format, arguments);
    va_end(arguments);
    assert(length >= 0);
    writing->length += (size_t)length;
}

static void backend_add(cueball__writing *writing, const cueball_backend_info *info)
{
    assert(writing);
    assert(info->key != NULL);
    writing_add(writing, "\n  %s", info->name);
    writing_add(writing, info->port ? " (%s:%u)" : " (%s)", info->address, info->port);
    writing_add(writing, ": %u idle, %u busy, %u connecting", info->idle, info->busy, info->connecting);
    if (info->dead)
        writing_add(writing, ", dead");
    if (info->ejected)
        writing_add(writing, ", left out since its leases failed");
    if (info->removed)
        writing_add(writing, ", removed");
    if (info->drained)
        writing_add(writing, ", drained");
    if (info->standby)
        writing_add(writing, ", left alone for its priority");
}

static void pool_write(cueball_threaded *pool, cueball__writing *writing)
{
    assert(pool);
    assert(writing);
    const char *name = pool->name ? pool->name : "without a name";
    if (!pool->core) {
        writing_add(writing, "pool %s: stopped", name);
        return;
    }
    cueball_counts counts;
    cueball_pool_counts(pool->core, &counts);
    writing_add(writing, "pool %s: %s; %u idle, %u busy, %u connecting, %u backing off, %u waiting; %u backends, %u dead", name,
                cueball_pool_state_name(cueball_pool_state_of(pool->core)), counts.idle, counts.busy, counts.connecting, counts.backing_off,
                counts.waiting, counts.backends, counts.dead_backends);
    cueball_time since = cueball_pool_paused_since(pool->core), now = cueball_clock_now();
    if (since != CUEBALL_NEVER)
        writing_add(writing, "; paused for %.3g s", now > since ? (double)(now - since) / 1e9 : 0.0);
    if (pool->note[0])
        writing_add(writing, "; last failure: %s", pool->note);
    cueball_backend_info info = { .struct_size = sizeof info };
    for (uint32_t i = 0; cueball_pool_backend_at(pool->core, i, &info); i++)
        backend_add(writing, &info);
}

int cueball_threaded_explain(cueball_threaded *pool, char *text, size_t size)
{
    if (!pool || (!text && size > 0))
        return cueball__fault(CUEBALL_EINVAL, "a pool is needed, and room for a text, not NULL");
    if (size > 0)
        text[0] = '\0';
    if (pool->generation != cueball__process_generation())
        return cueball__fault_plain(CUEBALL_EFORKED);
    cueball__writing writing = { .text = text, .size = size };
    cueball__threaded_enter(pool);
    pool_write(pool, &writing);
    cueball__threaded_leave(pool);
    return (int)writing.length;
}
