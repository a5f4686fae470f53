/* The lock of a runtime, and what must hold of one whenever nobody has it. */
#include "runtime.h"

#include <assert.h>

#ifndef NDEBUG
static void check_requests(const cueball_runtime *runtime)
{
    const cueball__request *last = NULL;
    uint32_t number = 0;
    for (const cueball__request *one = runtime->first; one != NULL; one = one->next) {
        assert(one->kind != NULL);
        assert(one->number > number); /* in the order in which they came */
        assert(!one->is_answered);    /* those that are, are their askers' */
        assert(last == NULL || last->is_taken || !one->is_taken);
        number = one->number;
        last = one;
    }
    assert(last == runtime->last);
    assert(number <= runtime->requests);
}

static void check(const cueball_runtime *runtime)
{
    assert(runtime->references >= 0);
    assert(runtime->references <= 2);
    assert(runtime->state >= CUEBALL__RUNNING);
    assert(runtime->state <= CUEBALL__OVER);
    assert(!runtime->is_left_alone || runtime->state == CUEBALL__OVER);
    assert(!runtime->is_left_alone || !runtime->is_joined); /* detached, or joined */
    assert(!runtime->is_left_alone || atomic_load(&runtime->is_muted));
    assert(!runtime->is_joined || runtime->state == CUEBALL__OVER || runtime->requests <= 1);
    assert(runtime->name != NULL);
    assert(runtime->wake.write_fd >= 0);
    check_requests(runtime);
    for (const cueball__named_pool *one = runtime->pools; one != NULL; one = one->next) {
        assert(one->pool != NULL);
        assert(one->name[0] != 0);
    }
}
#else
static void check(const cueball_runtime *runtime)
{
    (void)runtime;
}
#endif

void cueball__runtime_lock(cueball_runtime *runtime)
{
    int result = pthread_mutex_lock(&runtime->lock);
    assert(result == 0);
    (void)result;
    check(runtime);
}

void cueball__runtime_unlock(cueball_runtime *runtime)
{
    check(runtime);
    int result = pthread_mutex_unlock(&runtime->lock);
    assert(result == 0);
    (void)result;
}
