/* Runs of resolvers: each in a thread, which says what it knows into a list that the thread of the pool's event loop takes from.
 *
 * The happy path: the resolver says something, the bell rings, it is taken.  Who said too much waits until some of it was taken; a set
 * takes the place of all that was said before it.
 *
 * What can go wrong: the pool stops while the resolver computes, or waits in something of its own.  Nobody waits for it: the sink is freed
 * by who lets go of it last, the thread or its reader. */
#define _POSIX_C_SOURCE 200809L

#include "native.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BACKENDS_MAX = 10000 };

typedef struct sink_saying {
    cueball__link link;
    cueball_native_saying saying;
    cueball_backend_spec backends[]; /* then the texts */
} sink_saying;

struct cueball_native_sink {
    cueball_native_registration *resolver; /* with a reference */
    cueball__link sayings;
    size_t backends;     /* in them */
    sink_saying *taken;  /* lives until the next is taken */
    sink_saying *ending; /* what is said at the end, which may not fail for want of memory; NULL: it was said */
    cueball__native_bell bell, end_bell;
    pthread_cond_t has_changed;
    uint32_t generation;
    uint32_t references; /* the thread's, and the reader's */
    bool is_woken;
    atomic_bool has_ended, has_failed;
};

/* With the lock, after each step of the thread's or the reader's. */
static void sink_check(const cueball_native_sink *sink)
{
    assert(sink->references >= 1 && sink->references <= 2);
    assert(sink->resolver && sink->resolver->is_resolver && sink->resolver->references > 0);
    assert(sink->bell.wake.read_fd >= 0 && sink->end_bell.wake.read_fd >= 0);
    assert(sink->bell.wake.read_fd != sink->end_bell.wake.read_fd);
    assert(sink->end_bell.is_rung == atomic_load(&sink->has_ended));
    assert(sink->bell.is_rung || cueball__list_is_empty(&sink->sayings));
    assert(sink->backends == 0 || !cueball__list_is_empty(&sink->sayings));
    assert(!sink->taken || !cueball__link_is_linked(&sink->taken->link));
    assert(!sink->ending || !cueball__link_is_linked(&sink->ending->link));
    (void)sink;
}

/* ------------------------------------------------------------- memory -- */

static void sayings_drop(cueball_native_sink *sink)
{
    CUEBALL__LIST_EACH(link, following, &sink->sayings)
    {
        cueball__list_remove(link);
        free(CUEBALL__OWNER(link, sink_saying, link));
    }
    sink->backends = 0;
}

static void sink_free(cueball_native_sink *sink)
{
    assert(sink->references == 0);
    assert(sink->resolver && sink->resolver->is_resolver);
    cueball_native_registration *resolver = sink->resolver;
    sayings_drop(sink);
    free(sink->taken);
    free(sink->ending);
    cueball__native_bell_deinit(&sink->bell);
    cueball__native_bell_deinit(&sink->end_bell);
    (void)pthread_cond_destroy(&sink->has_changed);
    free(sink);
    cueball_native_drop(resolver);
}

static void sink_release(cueball_native_sink *sink)
{
    cueball__native_lock();
    assert(sink->references > 0);
    bool is_last = --sink->references == 0;
    cueball__native_unlock();
    if (is_last)
        sink_free(sink);
}

static bool is_fit(const char *text)
{
    return !text || strnlen(text, NATIVE_TEXT_MAX + 1) <= NATIVE_TEXT_MAX;
}

static bool specs_are_fit(const cueball_backend_spec *specs, size_t count)
{
    if (count > 0 && specs[0].struct_size != 0 && specs[0].struct_size != sizeof *specs)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!specs[i].address || !is_fit(specs[i].key) || !is_fit(specs[i].name) || !is_fit(specs[i].address))
            return false;
    return true;
}

static size_t room_of(const char *text)
{
    return text ? strlen(text) + 1 : 0;
}

static const char *copy(char **at, const char *text)
{
    if (!text)
        return NULL;
    size_t size = strlen(text) + 1;
    assert(size <= NATIVE_TEXT_MAX + 1);
    char *copied = memcpy(*at, text, size);
    *at += size;
    return copied;
}

static sink_saying *saying_new(int kind, const cueball_backend_spec *specs, size_t count, const char *message)
{
    size_t size = room_of(message);
    for (size_t i = 0; i < count; i++)
        size += room_of(specs[i].key) + room_of(specs[i].name) + room_of(specs[i].address);
    if (count > (SIZE_MAX - size - sizeof(sink_saying)) / sizeof *specs)
        return NULL;
    sink_saying *made = malloc(sizeof *made + count * sizeof *specs + size);
    if (!made)
        return NULL;
    char *at = (char *)(made->backends + count);
    for (size_t i = 0; i < count; i++) {
        made->backends[i] = specs[i];
        made->backends[i].key = copy(&at, specs[i].key);
        made->backends[i].name = copy(&at, specs[i].name);
        made->backends[i].address = copy(&at, specs[i].address);
    }
    made->saying = (cueball_native_saying){ .kind = kind, .backends = made->backends, .count = count, .message = copy(&at, message) };
    assert(at == (char *)(made->backends + count) + size);
    cueball__link_init(&made->link);
    return made;
}

/* --------------------------------------------------------- what is said -- */

/* With the lock. */
static void sink_append(cueball_native_sink *sink, sink_saying *made)
{
    assert(!cueball__link_is_linked(&made->link));
    assert(made->saying.kind >= CUEBALL_NATIVE_SAYING_ADD && made->saying.kind <= CUEBALL_NATIVE_SAYING_END);
    cueball__list_append(&sink->sayings, &made->link);
    sink->backends += made->saying.count;
    cueball__native_bell_ring(&sink->bell);
    sink_check(sink);
}

/* Says something, and owns it from now on; waits while the reader is far behind.  NULL: there was no memory for it. */
static int sink_say(cueball_native_sink *sink, sink_saying *made)
{
    if (!made)
        return CUEBALL_ENOMEM;
    cueball__native_lock();
    if (made->saying.kind == CUEBALL_NATIVE_SAYING_SET)
        sayings_drop(sink);
    while (sink->backends >= BACKENDS_MAX && !atomic_load(&sink->has_ended))
        (void)cueball__native_cond_wait(&sink->has_changed, CUEBALL_NEVER);
    bool is_over = atomic_load(&sink->has_ended);
    if (!is_over)
        sink_append(sink, made);
    cueball__native_unlock();
    if (is_over)
        free(made);
    return is_over ? CUEBALL_EPOOL_STOPPING : CUEBALL_OK;
}

int cueball_native_sink_add(cueball_native_sink *sink, const cueball_backend_spec *backend)
{
    if (!sink || !backend || !specs_are_fit(backend, 1))
        return CUEBALL_EINVAL;
    return sink_say(sink, saying_new(CUEBALL_NATIVE_SAYING_ADD, backend, 1, NULL));
}

int cueball_native_sink_remove(cueball_native_sink *sink, const char *key)
{
    if (!sink || !key || !is_fit(key))
        return CUEBALL_EINVAL;
    cueball_backend_spec spec = { .key = key };
    return sink_say(sink, saying_new(CUEBALL_NATIVE_SAYING_REMOVE, &spec, 1, NULL));
}

int cueball_native_sink_set(cueball_native_sink *sink, const cueball_backend_spec *backends, size_t count)
{
    if (!sink || (count > 0 && !backends) || !specs_are_fit(backends, count))
        return CUEBALL_EINVAL;
    return sink_say(sink, saying_new(CUEBALL_NATIVE_SAYING_SET, backends, count, NULL));
}

int cueball_native_sink_fail(cueball_native_sink *sink, const char *message)
{
    if (!sink || !is_fit(message))
        return CUEBALL_EINVAL;
    return sink_say(sink, saying_new(CUEBALL_NATIVE_SAYING_FAIL, NULL, 0, message));
}

int cueball_native_sink_recover(cueball_native_sink *sink)
{
    if (!sink)
        return CUEBALL_EINVAL;
    return sink_say(sink, saying_new(CUEBALL_NATIVE_SAYING_RECOVER, NULL, 0, NULL));
}

bool cueball_native_sink_is_wanted(const cueball_native_sink *sink)
{
    return !atomic_load_explicit(&sink->has_ended, memory_order_relaxed);
}

bool cueball_native_sink_has_failed(const cueball_native_sink *sink)
{
    return atomic_load_explicit(&sink->has_failed, memory_order_relaxed);
}

int cueball_native_sink_end_fd(const cueball_native_sink *sink)
{
    return sink->end_bell.wake.read_fd;
}

bool cueball_native_sink_sleep(cueball_native_sink *sink, double ms)
{
    enum { DAY_MS = 86400000 };
    cueball_time until = ms > DAY_MS ? CUEBALL_NEVER : cueball__native_deadline(fmax(ms, 0));
    cueball__native_lock();
    while (!sink->is_woken && !atomic_load(&sink->has_ended))
        if (!cueball__native_cond_wait(&sink->has_changed, until))
            break;
    sink->is_woken = false;
    cueball__native_unlock();
    return cueball_native_sink_is_wanted(sink);
}

/* -------------------------------------------------------------- its thread -- */

/* A resolver may end its thread, too. */
static void thread_end(void *argument)
{
    cueball_native_sink *sink = argument;
    cueball__native_lock();
    assert(sink->ending != NULL);
    assert(sink->ending->saying.kind == CUEBALL_NATIVE_SAYING_END);
    sink_saying *ending = sink->ending;
    sink->ending = NULL;
    sink_append(sink, ending);
    assert(sink->resolver->load.threads > 0);
    sink->resolver->load.threads--;
    cueball__native_unlock();
    sink_release(sink);
}

static void *thread_run(void *argument)
{
    cueball_native_sink *sink = argument;
    int state = 0;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    pthread_cleanup_push(thread_end, sink);
    sink->ending->saying.status = sink->resolver->resolver.run(sink->resolver->resolver.user, sink);
    pthread_cleanup_pop(1);
    return NULL;
}

/* Makes the parts of a sink that is zeroed.  An error: none of them is left. */
static int sink_init(cueball_native_sink *sink)
{
    int result = cueball__native_cond_init(&sink->has_changed);
    if (result < 0)
        return result;
    result = cueball__native_bell_init(&sink->bell);
    if (result < 0)
        goto no_bell;
    result = cueball__native_bell_init(&sink->end_bell);
    if (result < 0)
        goto no_end_bell;
    sink->ending = saying_new(CUEBALL_NATIVE_SAYING_END, NULL, 0, NULL);
    if (!sink->ending) {
        result = CUEBALL_ENOMEM;
        goto no_ending;
    }
    sink->ending->saying.status = CUEBALL_ECANCELLED; /* if the thread is ended in the middle */
    cueball__link_init(&sink->sayings);
    return CUEBALL_OK;

no_ending:
    cueball__native_bell_deinit(&sink->end_bell);
no_end_bell:
    cueball__native_bell_deinit(&sink->bell);
no_bell:
    (void)pthread_cond_destroy(&sink->has_changed);
    return result;
}

int cueball_native_sink_start(cueball_native_registration *resolver, cueball_native_sink **sink)
{
    if (!resolver || !sink || !resolver->is_resolver)
        return CUEBALL_EINVAL;
    cueball_native_sink *made = calloc(1, sizeof *made);
    if (!made)
        return CUEBALL_ENOMEM;
    int result = sink_init(made);
    if (result < 0) {
        free(made);
        return result;
    }
    made->resolver = cueball_native_keep(resolver);
    made->references = 2;
    cueball__native_lock();
    cueball__native_adopt(resolver);
    made->generation = cueball__native_generation();
    sink_check(made);
    result = cueball__native_thread_start(resolver->name, thread_run, made);
    resolver->load.threads += result == CUEBALL_OK;
    cueball__native_unlock();
    if (result < 0) {
        made->references = 0;
        sink_free(made);
        return result;
    }
    *sink = made;
    return CUEBALL_OK;
}

/* -------------------------------------------------------------- its reader -- */

/* With the lock.  The thread of a sink that was made in a parent is not here, and its bells are the parent's too. */
static bool is_ours(const cueball_native_sink *sink)
{
    return sink->generation == cueball__native_generation();
}

int cueball_native_sink_fd(const cueball_native_sink *sink)
{
    return sink->bell.wake.read_fd;
}

bool cueball_native_sink_next(cueball_native_sink *sink, cueball_native_saying *saying)
{
    cueball__native_lock();
    bool is_there = is_ours(sink) && !cueball__list_is_empty(&sink->sayings);
    sink_saying *before = sink->taken;
    sink->taken = NULL;
    if (is_there) {
        sink->taken = CUEBALL__OWNER(sink->sayings.next, sink_saying, link);
        cueball__list_remove(&sink->taken->link);
        assert(sink->backends >= sink->taken->saying.count);
        sink->backends -= sink->taken->saying.count;
        *saying = sink->taken->saying;
        assert(saying->count == 0 || saying->backends);
        (void)pthread_cond_broadcast(&sink->has_changed);
    } else if (is_ours(sink)) {
        cueball__native_bell_clear(&sink->bell);
        sink_check(sink);
    }
    cueball__native_unlock();
    free(before);
    return is_there;
}

void cueball_native_sink_pool_failed(cueball_native_sink *sink, bool has_failed)
{
    cueball__native_lock();
    atomic_store(&sink->has_failed, has_failed);
    sink->is_woken = sink->is_woken || has_failed;
    (void)pthread_cond_broadcast(&sink->has_changed);
    cueball__native_unlock();
}

void cueball_native_sink_end(cueball_native_sink *sink)
{
    if (!sink)
        return;
    cueball__native_lock();
    bool is_here = is_ours(sink);
    assert(!is_here || !atomic_load(&sink->has_ended));
    atomic_store(&sink->has_ended, true);
    if (is_here) {
        cueball__native_bell_ring(&sink->end_bell);
        (void)pthread_cond_broadcast(&sink->has_changed);
        sink_check(sink);
    }
    cueball__native_unlock();
    if (is_here)
        sink_release(sink);
}
