/* What went wrong last, one text for each thread.
 *
 * The text is not in the thread's static storage: of that there is little for libraries
 * that are loaded late, as this one is by LuaJIT.  It is made when first something goes
 * wrong, and freed as the thread ends.  Without memory for it there is no text. */
#include "fault.h"

#include <stdarg.h>
#include <stdio.h>

#define TEXT_SIZE 4096 /* a script's traceback */

static _Thread_local char *text;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool has_key;

static void text_free(void *ended)
{
    const cueball_allocator *allocator = cueball_allocator_libc();
    text = NULL;
    allocator->release(allocator->user, ended, TEXT_SIZE);
}

static void key_make(void)
{
    has_key = pthread_key_create(&key, text_free) == 0;
}

#if defined __GNUC__
/* The library may be unloaded before threads end that used it. */
__attribute__((destructor)) static void key_drop(void)
{
    if (has_key)
        (void)pthread_key_delete(key);
    has_key = false;
}
#endif

/* The room of this thread's text; NULL: there is no memory. */
static char *text_make(void)
{
    const cueball_allocator *allocator = cueball_allocator_libc();
    if (text)
        return text;
    (void)pthread_once(&once, key_make);
    char *made = has_key ? allocator->allocate(allocator->user, TEXT_SIZE) : NULL;
    if (made && pthread_setspecific(key, made) != 0) {
        allocator->release(allocator->user, made, TEXT_SIZE);
        made = NULL;
    }
    if (made)
        made[0] = '\0';
    text = made;
    return made;
}

const char *cueball_last_error(void)
{
    return text ? text : "";
}

void cueball_last_error_set(const char *message)
{
    char *room = text_make();
    if (room)
        (void)snprintf(room, TEXT_SIZE, "%s", message ? message : "");
}

int cueball__fault(int error, const char *format, ...)
{
    assert(error < 0);
    char *room = text_make();
    va_list arguments;
    va_start(arguments, format);
    if (room)
        (void)vsnprintf(room, TEXT_SIZE, format, arguments);
    va_end(arguments);
    return error;
}

int cueball__fault_plain(int error)
{
    return cueball__fault(error, "%s", cueball_error_message(error));
}

/* Where the connections are, for a claim that got none: "10 busy, 2 connecting". */
static void situation(const cueball_counts *counts, double paused_s, char *to, size_t size)
{
    assert(counts);
    uint32_t opening = counts->connecting + counts->backing_off;
    int length = snprintf(to, size, "%u busy", counts->busy);
    assert(length > 0);
    assert((size_t)length < size);
    size_t used = (size_t)length;
    if (opening > 0)
        used += (size_t)snprintf(to + used, size - used, ", %u connecting", opening);
    if (paused_s >= 0)
        used += (size_t)snprintf(to + used, size - used, ", paused for %.3g s", paused_s);
    if (counts->backends == 0)
        (void)snprintf(to + used, size - used, ", no backend is known");
    else if (counts->dead_backends > 0)
        (void)snprintf(to + used, size - used, ", %u of %u backends dead", counts->dead_backends, counts->backends);
}

/* For how long the pool is paused; below 0: it is not. */
static double paused_for(const cueball_threaded *pool)
{
    assert(pool);
    cueball_time since = pool->core ? cueball_pool_paused_since(pool->core) : CUEBALL_NEVER, now = cueball_clock_now();
    return since == CUEBALL_NEVER ? -1 : now > since ? (double)(now - since) / 1e9 : 0;
}

int cueball__fault_of_claim(cueball_threaded *pool, int error, cueball_time waited, uint32_t ahead, const char *holder)
{
    assert(pool);
    assert(holder);
    char where[128];
    const char *name = pool->name ? pool->name : "without a name";
    const char *last = pool->note[0] ? "; last failure: " : "";
    double waited_ms = (double)waited / 1e6;
    cueball_counts counts = { 0 };
    if (pool->core)
        cueball_pool_counts(pool->core, &counts);
    double paused_s = paused_for(pool);
    situation(&counts, paused_s, where, sizeof where);
    switch (error) {
    case CUEBALL_ECLAIM_TIMEOUT:
        return cueball__fault(error, "claim timed out after %.6g ms (%u ahead, %s)%s%s%s", waited_ms, ahead, where, holder, last,
                              pool->note);
    case CUEBALL_EOVERLOADED:
        if (waited == 0)
            return cueball__fault(error, "overloaded: %u claims wait already (%s)%s%s", counts.waiting, where, last, pool->note);
        return cueball__fault(error, "overloaded: refused after %.6g ms in the queue (%u ahead, %s)%s%s%s", waited_ms, ahead, where, holder,
                              last, pool->note);
    case CUEBALL_EPOOL_FAILED:
        return cueball__fault(error, "pool %s has failed: %u of %u backends dead%s%s", name, counts.dead_backends, counts.backends, last,
                              pool->note);
    case CUEBALL_ENO_BACKENDS:
        return cueball__fault(error, "pool %s: no backend is known%s%s", name, last, pool->note);
    case CUEBALL_EPAUSED:
        return cueball__fault(error, "pool %s is paused for %.3g s, and the claim may not wait (%u claims wait)", name,
                              paused_s > 0 ? paused_s : 0, counts.waiting);
    case CUEBALL_EPOOL_STOPPING:
        return cueball__fault(error, "pool %s is %s", name,
                              pool->core ? cueball_pool_state_name(cueball_pool_state_of(pool->core)) : "stopped");
    case CUEBALL_EUNSUPPORTED:
        return cueball__fault(error,
                              "pool %s: its connections cannot be handed to threads: they have neither a descriptor nor a pointer%s%s",
                              name, last, pool->note);
    default:
        return cueball__fault_plain(error);
    }
}
