/* What is registered, by name; and what all of src/native stands on: the lock, forks, threads. */
#define _GNU_SOURCE /* dladdr, pthread_setname_np */

#include "native.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct {
    pthread_mutex_t lock;
    pthread_once_t once;
    uint32_t generation;
    cueball__link factories, resolvers;
} registry = { .lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT };

/* ------------------------------------------------------ the lock, and forks -- */

static void in_child(void)
{
    registry.generation++;
    (void)pthread_mutex_unlock(&registry.lock);
}

static void registry_begin(void)
{
    cueball__link_init(&registry.factories);
    cueball__link_init(&registry.resolvers);
    /* Without memory for that a child would find the lock taken, perhaps: no worse than with any other lock. */
    (void)pthread_atfork(cueball__native_lock, cueball__native_unlock, in_child);
}

void cueball__native_lock(void)
{
    (void)pthread_once(&registry.once, registry_begin);
    int failure = pthread_mutex_lock(&registry.lock);
    assert(failure == 0);
    (void)failure;
}

void cueball__native_unlock(void)
{
    int failure = pthread_mutex_unlock(&registry.lock);
    assert(failure == 0);
    (void)failure;
}

uint32_t cueball__native_generation(void)
{
    return registry.generation;
}

/* ----------------------------------------------------------------- threads -- */

/* Whoever unloads code that a thread runs ends the process: the code at this address stays loaded for good.  Without the lock, since a
 * library may register what it has while the linker loads it, with the linker's lock. */
static void keep_loaded(void *address)
{
    Dl_info info;
    assert(address != NULL);
    /* What the program itself was made of cannot be unloaded, and is not found by its name, perhaps. */
    if (dladdr(address, &info) != 0 && info.dli_fname)
        (void)dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

int cueball__native_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) != 0)
        return CUEBALL_ENOMEM;
#ifndef __APPLE__
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    int failure = pthread_cond_init(cond, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    return failure == 0 ? CUEBALL_OK : CUEBALL_ENOMEM;
}

static bool cond_wait(pthread_cond_t *cond, cueball_time until)
{
    enum { SECOND = 1000000000 };
    if (until == CUEBALL_NEVER)
        return pthread_cond_wait(cond, &registry.lock) == 0;
#ifdef __APPLE__
    cueball_time now = cueball_clock_now();
    cueball_time left = until > now ? until - now : 0;
    struct timespec at = { .tv_sec = (time_t)(left / SECOND), .tv_nsec = (long)(left % SECOND) };
    return pthread_cond_timedwait_relative_np(cond, &registry.lock, &at) != ETIMEDOUT;
#else
    struct timespec at = { .tv_sec = (time_t)(until / SECOND), .tv_nsec = (long)(until % SECOND) };
    return pthread_cond_timedwait(cond, &registry.lock, &at) != ETIMEDOUT;
#endif
}

bool cueball__native_cond_wait(pthread_cond_t *cond, cueball_time until)
{
    int state;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state); /* it would take the lock along */
    bool is_told = cond_wait(cond, until);
    (void)pthread_setcancelstate(state, NULL);
    return is_told;
}

int cueball__native_thread_start(const char *name, void *(*run)(void *), void *argument)
{
    sigset_t all, before;
    pthread_t thread;
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0)
        return CUEBALL_ENOMEM;
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(&thread, &attributes, run, argument);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    if (failure != 0)
        return CUEBALL_ENOMEM;
#ifdef __linux__
    char shown[16]; /* as much as Linux keeps */
    (void)snprintf(shown, sizeof shown, "%s", name);
    (void)pthread_setname_np(thread, shown);
#else
    (void)name;
#endif
    return CUEBALL_OK;
}

/* ----------------------------------------------------------- registrations -- */

static bool is_name(const char *name)
{
    size_t length = name ? strnlen(name, NATIVE_NAME_MAX + 1) : 0;
    if (length == 0 || length > NATIVE_NAME_MAX)
        return false;
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return false;
    return true;
}

static cueball__link *list_of(bool is_resolver)
{
    return is_resolver ? &registry.resolvers : &registry.factories;
}

/* With the lock. */
static cueball_native_registration *find(bool is_resolver, const char *name)
{
    CUEBALL__LIST_EACH(link, following, list_of(is_resolver))
    {
        cueball_native_registration *one = CUEBALL__OWNER(link, cueball_native_registration, link);
        if (strcmp(one->name, name) == 0)
            return one;
    }
    return NULL;
}

/* Copies what the caller knows of a struct of ours.  false: it knows more than we, or less than the first version had. */
static bool take(void *into, size_t into_size, const void *given, uint32_t struct_size)
{
    size_t size = struct_size ? struct_size : into_size;
    if (size != into_size)
        return false; /* there is one version so far */
    memcpy(into, given, into_size);
    return true;
}

static bool complete(cueball_native_factory *factory)
{
    factory->struct_size = sizeof *factory;
    factory->threads_max = factory->threads_max ? factory->threads_max : NATIVE_THREADS;
    return factory->connect && factory->threads_max <= NATIVE_THREADS_MAX && (factory->never_blocks || !factory->step);
}

static int add(bool is_resolver, const char *name, cueball_native_registration *made)
{
    assert(made->references == 0 && made->load.threads == 0);
    assert(is_resolver ? made->resolver.run != NULL : made->factory.connect != NULL);
    assert(is_name(name));
    int result = cueball__native_cond_init(&made->is_waiting);
    if (result < 0) {
        free(made);
        return result;
    }
    keep_loaded((void *)(uintptr_t)cueball__native_thread_start);
    keep_loaded((void *)(is_resolver ? (uintptr_t)made->resolver.run : (uintptr_t)made->factory.connect));
    made->is_resolver = is_resolver;
    made->references = 1;
    cueball__link_init(&made->link);
    cueball__link_init(&made->waiting);
    cueball__link_init(&made->under_way);
    (void)snprintf(made->name, sizeof made->name, "%s", name);
    cueball__native_lock();
    made->generation = registry.generation;
    assert(registry.factories.next && registry.resolvers.next);
    bool is_known = find(is_resolver, name) != NULL;
    if (!is_known)
        cueball__list_append(list_of(is_resolver), &made->link);
    cueball__native_unlock();
    if (!is_known)
        return CUEBALL_OK;
    (void)pthread_cond_destroy(&made->is_waiting);
    free(made);
    return CUEBALL_EEXISTS;
}

int cueball_native_factory_register(const char *name, const cueball_native_factory *factory)
{
    if (!is_name(name) || !factory)
        return CUEBALL_EINVAL;
    cueball_native_registration *made = calloc(1, sizeof *made);
    if (!made)
        return CUEBALL_ENOMEM;
    if (!take(&made->factory, sizeof made->factory, factory, factory->struct_size) || !complete(&made->factory)) {
        free(made);
        return CUEBALL_EINVAL;
    }
    return add(false, name, made);
}

int cueball_native_resolver_register(const char *name, const cueball_native_resolver *resolver)
{
    if (!is_name(name) || !resolver)
        return CUEBALL_EINVAL;
    cueball_native_registration *made = calloc(1, sizeof *made);
    if (!made)
        return CUEBALL_ENOMEM;
    if (!take(&made->resolver, sizeof made->resolver, resolver, resolver->struct_size) || !made->resolver.run) {
        free(made);
        return CUEBALL_EINVAL;
    }
    return add(true, name, made);
}

static int forget(bool is_resolver, const char *name)
{
    if (!is_name(name))
        return CUEBALL_ENOT_FOUND;
    cueball__native_lock();
    cueball_native_registration *one = find(is_resolver, name);
    if (one)
        cueball__list_remove(&one->link);
    assert(!find(is_resolver, name));
    bool is_last = one && cueball__native_release(one);
    cueball__native_unlock();
    if (is_last)
        cueball__native_free(one);
    return one ? CUEBALL_OK : CUEBALL_ENOT_FOUND;
}

int cueball_native_factory_unregister(const char *name)
{
    return forget(false, name);
}

int cueball_native_resolver_unregister(const char *name)
{
    return forget(true, name);
}

/* ------------------------------------------------------------------- users -- */

static cueball_native_registration *find_for_user(bool is_resolver, const char *name)
{
    if (!is_name(name))
        return NULL;
    cueball__native_lock();
    cueball_native_registration *one = find(is_resolver, name);
    if (one)
        one->references++;
    cueball__native_unlock();
    return one;
}

cueball_native_registration *cueball_native_factory_find(const char *name)
{
    return find_for_user(false, name);
}

cueball_native_registration *cueball_native_resolver_find(const char *name)
{
    return find_for_user(true, name);
}

cueball_native_registration *cueball_native_keep(cueball_native_registration *registration)
{
    cueball__native_lock();
    assert(registration->references > 0);
    registration->references++;
    cueball__native_unlock();
    return registration;
}

bool cueball__native_release(cueball_native_registration *registration)
{
    assert(registration->references > 0);
    return --registration->references == 0;
}

void cueball__native_free(cueball_native_registration *registration)
{
    assert(registration->references == 0);
    assert(!cueball__link_is_linked(&registration->link));
    assert(registration->idle == 0 && registration->load.waiting == 0);
    assert(cueball__list_is_empty(&registration->waiting) && cueball__list_is_empty(&registration->under_way));
    assert(registration->load.threads == 0);
    void (*free_user)(void *) = registration->is_resolver ? registration->resolver.free_user : registration->factory.free_user;
    void *user = registration->is_resolver ? registration->resolver.user : registration->factory.user;
    (void)pthread_cond_destroy(&registration->is_waiting);
    free(registration);
    if (free_user)
        free_user(user);
}

void cueball_native_drop(cueball_native_registration *registration)
{
    if (!registration)
        return;
    cueball__native_lock();
    bool is_last = cueball__native_release(registration);
    cueball__native_unlock();
    if (is_last)
        cueball__native_free(registration);
}

void cueball__native_adopt(cueball_native_registration *registration)
{
    if (registration->generation == registry.generation)
        return;
    assert(registration->generation < registry.generation);
    assert(registration->references > 0);
    /* Calls and threads of the parent's keep their references: it is never freed here. */
    registration->generation = registry.generation;
    registration->load = (cueball_native_load){ 0 };
    registration->idle = 0;
    cueball__link_init(&registration->waiting);
    cueball__link_init(&registration->under_way);
    (void)cueball__native_cond_init(&registration->is_waiting);
}

const cueball_native_factory *cueball_native_factory_of(const cueball_native_registration *registration)
{
    return registration->is_resolver ? NULL : &registration->factory;
}

void cueball_native_load_of(const cueball_native_registration *registration, cueball_native_load *load)
{
    cueball__native_lock();
    *load = registration->generation == registry.generation ? registration->load : (cueball_native_load){ 0 };
    cueball__native_unlock();
}

size_t cueball_native_names(bool resolvers, char *text, size_t size)
{
    size_t length = 0;
    if (size)
        text[0] = '\0';
    cueball__native_lock();
    CUEBALL__LIST_EACH(link, following, list_of(resolvers))
    {
        const cueball_native_registration *one = CUEBALL__OWNER(link, cueball_native_registration, link);
        size_t at = length < size ? length : size;
        length += (size_t)snprintf(size ? text + at : NULL, size - at, "%s%s", length ? "\n" : "", one->name);
    }
    cueball__native_unlock();
    return length;
}
