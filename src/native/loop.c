/* Where the results of calls come for one event loop. */
#define _POSIX_C_SOURCE 200809L

#include "native.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct cueball_native_loop {
    cueball__link tasks; /* whose result was not taken, in the order of their beginnings */
    cueball__native_bell bell;
    uint32_t generation;
    uint32_t done; /* so many of them are done */
};

/* With the lock, after each step: what must hold of a loop. */
static void loop_check(const cueball_native_loop *loop)
{
    assert(loop->generation == cueball__native_generation());
    assert(loop->bell.wake.read_fd >= 0 && loop->bell.wake.write_fd >= 0);
    assert((loop->done > 0) == loop->bell.is_rung);
    assert(loop->done == 0 || !cueball__list_is_empty(&loop->tasks));
    (void)loop;
}

int cueball_native_loop_new(cueball_native_loop **loop)
{
    if (!loop)
        return CUEBALL_EINVAL;
    cueball_native_loop *made = calloc(1, sizeof *made);
    if (!made)
        return CUEBALL_ENOMEM;
    if (cueball__native_bell_init(&made->bell) < 0) {
        free(made);
        return CUEBALL_ENOMEM;
    }
    cueball__link_init(&made->tasks);
    cueball__native_lock();
    made->generation = cueball__native_generation();
    cueball__native_unlock();
    *loop = made;
    return CUEBALL_OK;
}

int cueball_native_loop_fd(const cueball_native_loop *loop)
{
    return loop->bell.wake.read_fd;
}

void cueball__native_loop_tell(cueball_native_loop *loop)
{
    assert(!cueball__list_is_empty(&loop->tasks));
    loop->done++;
    cueball__native_bell_ring(&loop->bell);
    loop_check(loop);
}

/* With the lock: takes the task off the loop's list. */
static void loop_forget(cueball_native_loop *loop, cueball__native_task *task)
{
    assert(task->loop == loop);
    assert(cueball__link_is_linked(&task->of_loop));
    assert(!task->is_done || task->is_begun);
    cueball__list_remove(&task->of_loop);
    if (task->is_done) {
        assert(loop->done > 0);
        loop->done--;
        if (loop->done == 0)
            cueball__native_bell_clear(&loop->bell);
    }
    task->loop = NULL;
    loop_check(loop);
}

bool cueball_native_loop_next(cueball_native_loop *loop, cueball_native_result *result)
{
    cueball_native_registration *factory = NULL;
    bool is_found = false;
    cueball__native_lock();
    if (loop->generation == cueball__native_generation() && loop->done > 0) {
        CUEBALL__LIST_EACH(link, following, &loop->tasks)
        {
            cueball__native_task *task = CUEBALL__OWNER(link, cueball__native_task, of_loop);
            if (!task->is_done)
                continue;
            assert(task->result.user == task->request.user);
            assert(!atomic_load(&task->is_given_up));
            *result = task->result;
            is_found = true;
            loop_forget(loop, task);
            cueball_native_registration *used = task->factory;
            factory = cueball__native_task_free(task) ? used : NULL;
            break;
        }
        assert(is_found);
    }
    cueball__native_unlock();
    if (factory)
        cueball__native_free(factory);
    return is_found;
}

/* With the lock: the task of this user, whose result was not taken; NULL: there is none. */
static cueball__native_task *loop_find(cueball_native_loop *loop, uint64_t user)
{
    CUEBALL__LIST_EACH(link, following, &loop->tasks)
    {
        cueball__native_task *task = CUEBALL__OWNER(link, cueball__native_task, of_loop);
        if (task->request.user == user)
            return task;
    }
    return NULL;
}

/* With the lock: nobody waits for the task any more.  true: it had not begun. */
static bool give_up(cueball_native_loop *loop, cueball__native_task *task, cueball_native_registration **last)
{
    cueball_native_registration *factory = task->factory;
    factory->references++;
    loop_forget(loop, task);
    bool had_not_begun = cueball__native_workers_give_up(task);
    *last = cueball__native_release(factory) ? factory : NULL;
    return had_not_begun;
}

int cueball_native_give_up(cueball_native_loop *loop, uint64_t user)
{
    cueball_native_registration *last = NULL;
    int result = CUEBALL_ENOT_FOUND;
    cueball__native_lock();
    cueball__native_task *task = loop->generation == cueball__native_generation() ? loop_find(loop, user) : NULL;
    if (task)
        result = give_up(loop, task, &last) ? 1 : 0;
    cueball__native_unlock();
    if (last)
        cueball__native_free(last);
    return result;
}

void cueball_native_loop_free(cueball_native_loop *loop)
{
    if (!loop)
        return;
    for (;;) {
        cueball_native_registration *last = NULL;
        cueball__native_lock();
        bool is_ours = loop->generation == cueball__native_generation();
        bool has_more = is_ours && !cueball__list_is_empty(&loop->tasks);
        if (has_more)
            (void)give_up(loop, CUEBALL__OWNER(loop->tasks.next, cueball__native_task, of_loop), &last);
        cueball__native_unlock();
        if (last)
            cueball__native_free(last);
        if (!has_more)
            break;
    }
    cueball__native_bell_deinit(&loop->bell);
    assert(loop->bell.wake.read_fd < 0);
    free(loop);
}

/* ------------------------------------------------------------------- tasks -- */

static size_t length_of(const char *text)
{
    return text ? strnlen(text, NATIVE_TEXT_MAX) : 0;
}

static char *keep_text(char *at, const char **text)
{
    size_t length = length_of(*text);
    memcpy(at, *text ? *text : "", length);
    at[length] = '\0';
    *text = at;
    return at + length + 1;
}

static cueball__native_task *task_new(cueball_native_registration *factory, const cueball_native_request *request)
{
    size_t size = 4 + length_of(request->pool) + length_of(request->key) + length_of(request->name) + length_of(request->address);
    cueball__native_task *task = calloc(1, sizeof *task + size);
    if (!task)
        return NULL;
    task->factory = factory;
    task->request = *request;
    char *at = keep_text(task->texts, &task->request.pool);
    at = keep_text(at, &task->request.key);
    at = keep_text(at, &task->request.name);
    at = keep_text(at, &task->request.address);
    assert(at == task->texts + size);
    assert(task->request.pool && task->request.key && task->request.name && task->request.address);
    assert(strlen(task->request.key) <= NATIVE_TEXT_MAX && strlen(task->request.address) <= NATIVE_TEXT_MAX);
    task->deadline = cueball__native_deadline(request->limit_ms);
    cueball__link_init(&task->link);
    cueball__link_init(&task->of_loop);
    return task;
}

static bool can_begin(const cueball_native_loop *loop, const cueball_native_registration *factory, const cueball_native_request *request)
{
    enum { DAY_MS = 86400000 };
    if (!factory || !request || factory->is_resolver || factory->factory.never_blocks
        || !(request->limit_ms >= 0 && request->limit_ms <= DAY_MS))
        return false;
    bool is_at_once = request->operation == CUEBALL_NATIVE_BROKEN || request->operation == CUEBALL_NATIVE_LOOK;
    if (is_at_once || request->operation == CUEBALL_NATIVE_STEP)
        return false;
    return cueball__native_is_possible(&factory->factory, request->operation) && (loop || request->operation == CUEBALL_NATIVE_CLOSE);
}

int cueball_native_begin(cueball_native_loop *loop, cueball_native_registration *factory, const cueball_native_request *request)
{
    if (!can_begin(loop, factory, request))
        return CUEBALL_EINVAL;
    cueball__native_task *task = task_new(factory, request);
    if (!task)
        return CUEBALL_ENOMEM;
    int result = CUEBALL_EFORKED;
    cueball__native_lock();
    if (!loop || loop->generation == cueball__native_generation()) {
        cueball__native_adopt(factory);
        factory->references++;
        task->loop = loop;
        if (loop)
            cueball__list_append(&loop->tasks, &task->of_loop);
        result = cueball__native_workers_take(task);
        assert(result >= 0 || factory->load.threads == 0);
        if (loop)
            loop_check(loop);
        if (result < 0) {
            cueball__list_remove(&task->of_loop);
            factory->references--;
        }
    }
    cueball__native_unlock();
    if (result < 0)
        free(task);
    return result;
}

void cueball_native_open_lost(cueball_native_open *open)
{
    cueball_native_registration *factory = open->factory;
    if (!factory)
        return;
    open->factory = NULL;
    cueball_native_request request = { .operation = CUEBALL_NATIVE_CLOSE, .connection = open->connection };
    cueball_native_result result;
    /* Without a thread it is closed here, since nobody can be told. */
    if (factory->factory.never_blocks || cueball_native_begin(NULL, factory, &request) < 0)
        (void)cueball_native_perform(factory, &request, &result);
    assert(!open->factory);
    cueball_native_drop(factory);
}
