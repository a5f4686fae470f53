/* The pools of a runtime, by name. */
#include "pools.h"

#include "runtime.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The newest of this name: one before it, which a reload removed, may not have stopped yet. */
static cueball__named_pool *pool_find(cueball_runtime *runtime, const char *name)
{
    assert(name != NULL);
    cueball__named_pool *found = NULL;
    for (cueball__named_pool *one = runtime->pools; one != NULL; one = one->next) {
        if (strcmp(one->name, name) == 0)
            found = one;
    }
    return found;
}

/* "no pool is named 'x'; there are: a, b" */
static void tell_unknown(cueball_runtime *runtime, const char *name)
{
    assert(name != NULL);
    assert(pool_find(runtime, name) == NULL);
    char text[512];
    size_t size = (size_t)snprintf(text, sizeof text, "no pool of the runtime %s has the name %.100s; ", runtime->name, name);
    const char *joint = "there are: ";
    if (runtime->pools == NULL && size < sizeof text)
        (void)snprintf(text + size, sizeof text - size, "there is none");
    for (cueball__named_pool *one = runtime->pools; one != NULL && size < sizeof text; one = one->next) {
        size += (size_t)snprintf(text + size, sizeof text - size, "%s%.100s", joint, one->name);
        joint = ", ";
    }
    cueball_last_error_set(text);
}

int cueball__pools_find(cueball_runtime *runtime, const char *name, cueball_threaded **pool)
{
    assert(name != NULL);
    assert(pool != NULL);
    cueball__named_pool *found = pool_find(runtime, name);
    if (runtime->state > CUEBALL__RUNNING) {
        cueball_last_error_set("the runtime was stopped");
        return CUEBALL_EPOOL_STOPPING;
    }
    if (found == NULL) {
        tell_unknown(runtime, name);
        return CUEBALL_ENOT_FOUND;
    }
    assert(found->pool != NULL);
    cueball_threaded_keep(found->pool);
    *pool = found->pool;
    return CUEBALL_OK;
}

bool cueball__pools_add(cueball_runtime *runtime, const char *name, cueball_threaded *pool)
{
    assert(name != NULL);
    assert(name[0] != 0);
    assert(pool != NULL);
    const size_t size = strlen(name) + 1;
    cueball__named_pool *one = malloc(sizeof *one + size);
    if (one == NULL)
        return false;
    memcpy(one->name, name, size);
    one->pool = pool;
    cueball_threaded_keep(pool);
    cueball__runtime_lock(runtime);
    cueball__named_pool **end = &runtime->pools;
    while (*end != NULL)
        end = &(*end)->next;
    one->next = NULL;
    *end = one;
    cueball__runtime_unlock(runtime);
    return true;
}

void cueball__pools_remove(cueball_runtime *runtime, const cueball_threaded *pool)
{
    assert(pool != NULL);
    cueball__named_pool *found = NULL;
    cueball__runtime_lock(runtime);
    for (cueball__named_pool **at = &runtime->pools; *at != NULL && found == NULL; at = &(*at)->next) {
        if ((*at)->pool != pool)
            continue;
        found = *at;
        *at = found->next;
        break;
    }
    cueball__runtime_unlock(runtime);
    if (found == NULL)
        return;
    cueball_threaded_drop(found->pool);
    free(found);
}

void cueball__pools_drop(cueball_runtime *runtime)
{
    assert(runtime->state != CUEBALL__RUNNING || runtime->references == 0);
    while (runtime->pools != NULL) {
        cueball__named_pool *one = runtime->pools;
        runtime->pools = one->next;
        cueball_threaded_drop(one->pool);
        free(one);
    }
    assert(runtime->pools == NULL);
}

void cueball__pools_stop(cueball_runtime *runtime)
{
    assert(runtime->state != CUEBALL__RUNNING);
    for (cueball__named_pool *one = runtime->pools; one != NULL; one = one->next) {
        cueball_pool *core = cueball_threaded_lock(one->pool);
        if (core == NULL)
            continue;
        (void)cueball_pool_stop(core, cueball_clock_now());
        cueball_threaded_unlock(one->pool);
    }
}
