#include "request.h"

#include "runtime.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ------------------------------------------------------------------ making -- */

cueball__request *cueball__request_new(const char *kind, const char *first, const char *second, double value)
{
    cueball__request *request = calloc(1, sizeof *request);
    assert(kind != NULL);
    if (request == NULL)
        return NULL;
    request->kind = kind;
    request->value = value;
    request->first = first != NULL ? strdup(first) : NULL;
    request->second = second != NULL ? strdup(second) : NULL;
    if ((first != NULL && request->first == NULL) || (second != NULL && request->second == NULL)) {
        cueball__request_free(request);
        return NULL;
    }
    return request;
}

void cueball__request_free(cueball__request *request)
{
    if (request == NULL)
        return;
    free(request->first);
    free(request->second);
    free(request->text);
    free(request);
}

/* ------------------------------------------------------------------ asking -- */

void cueball__request_append(cueball_runtime *runtime, cueball__request *request)
{
    assert(request->next == NULL);
    assert(request->number == 0);
    request->number = ++runtime->requests;
    if (runtime->last == NULL)
        runtime->first = request;
    else
        runtime->last->next = request;
    runtime->last = request;
}

static void unlink_request(cueball_runtime *runtime, cueball__request *request)
{
    assert(runtime->first != NULL);
    cueball__request *before = NULL;
    for (cueball__request *one = runtime->first; one != request; one = one->next)
        before = one;
    if (before == NULL)
        runtime->first = request->next;
    else
        before->next = request->next;
    if (runtime->last == request)
        runtime->last = before;
    request->next = NULL;
    assert((runtime->first == NULL) == (runtime->last == NULL));
}

static struct timespec deadline_in(double limit_ms)
{
    assert(limit_ms > 0);
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    double whole = floor(limit_ms / 1000);
    at.tv_sec += (time_t)whole;
    at.tv_nsec += (long)((limit_ms - whole * 1000) * 1e6);
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    assert(at.tv_nsec >= 0);
    assert(at.tv_nsec < 1000000000);
    return at;
}

/* Waits with the lock held. */
static void wait_for_answer(cueball_runtime *runtime, const cueball__request *request, double limit_ms)
{
    assert(request->number > 0);
    const struct timespec at = deadline_in(limit_ms);
    int waited = 0;
    while (!request->is_answered && waited != ETIMEDOUT)
        waited = pthread_cond_timedwait(&runtime->changed, &runtime->lock, &at);
}

/* With the lock held. */
static int take_answer(cueball_runtime *runtime, cueball__request *request, char **text)
{
    assert(request->number > 0);
    assert(!request->is_abandoned);
    if (!request->is_answered) {
        request->is_abandoned = true; /* it stays in the list, and goes with its answer */
        cueball_last_error_set("the runtime's thread does not answer: the script, or a function that it called, hangs");
        return CUEBALL_ESCRIPT;
    }
    int result = request->result;
    (void)runtime;
    if (result != CUEBALL_OK)
        cueball_last_error_set(request->text != NULL ? request->text : cueball_error_message(result));
    if (text != NULL && result == CUEBALL_OK) {
        *text = request->text;
        request->text = NULL;
    }
    cueball__request_free(request);
    return result;
}

int cueball__request_ask(cueball_runtime *runtime, cueball__request *request, double limit_ms, char **text)
{
    assert(limit_ms > 0);
    if (text != NULL)
        *text = NULL;
    if (request == NULL) {
        cueball_last_error_set(cueball_error_message(CUEBALL_ENOMEM));
        return CUEBALL_ENOMEM;
    }
    cueball__runtime_lock(runtime);
    if (runtime->state == CUEBALL__OVER && request->number == 0) {
        cueball__runtime_unlock(runtime);
        cueball__request_free(request);
        cueball_last_error_set("the runtime was stopped");
        return CUEBALL_EPOOL_STOPPING;
    }
    int cancel_state; /* a thread is not cancelled in here: it would take the lock along */
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    if (request->number == 0)
        cueball__request_append(runtime, request);
    cueball__wake_tell(runtime->wake.write_fd);
    wait_for_answer(runtime, request, limit_ms);
    int result = take_answer(runtime, request, text);
    cueball__runtime_unlock(runtime);
    (void)pthread_setcancelstate(cancel_state, NULL);
    return result;
}

/* --------------------------------------------------------------- answering -- */

cueball__request *cueball__request_take(cueball_runtime *runtime)
{
    assert(pthread_equal(pthread_self(), runtime->thread));
    cueball__runtime_lock(runtime);
    cueball__request *request = runtime->first;
    while (request != NULL && request->is_taken)
        request = request->next;
    if (request != NULL)
        request->is_taken = true;
    cueball__runtime_unlock(runtime);
    assert(request == NULL || !request->is_answered);
    return request; /* an abandoned one is freed by its answer only, so the thread may read it */
}

/* With the lock held. */
static bool answer(cueball_runtime *runtime, cueball__request *request, int result, const char *text)
{
    assert(!request->is_answered);
    assert(result <= CUEBALL_OK);
    unlink_request(runtime, request);
    if (request->is_abandoned) {
        cueball__request_free(request);
        return false;
    }
    request->result = result;
    request->text = text != NULL ? strdup(text) : NULL; /* without memory an error has its general message */
    if (text != NULL && request->text == NULL && result == CUEBALL_OK)
        request->result = CUEBALL_ENOMEM;
    request->is_answered = true;
    (void)pthread_cond_broadcast(&runtime->changed);
    return true;
}

bool cueball__request_answer(cueball_runtime *runtime, uint32_t number, int result, const char *text)
{
    assert(number > 0);
    bool is_heard = false;
    cueball__runtime_lock(runtime);
    for (cueball__request *one = runtime->first; one != NULL; one = one->next) {
        if (one->number != number)
            continue;
        is_heard = answer(runtime, one, result, text);
        break;
    }
    cueball__runtime_unlock(runtime);
    return is_heard;
}

void cueball__request_answer_all(cueball_runtime *runtime)
{
    assert(pthread_equal(pthread_self(), runtime->thread));
    while (runtime->first != NULL) {
        const bool is_stop = strcmp(runtime->first->kind, "stop") == 0;
        assert(runtime->state == CUEBALL__OVER);
        (void)answer(runtime, runtime->first, is_stop ? CUEBALL_OK : CUEBALL_EPOOL_STOPPING, is_stop ? NULL : "the runtime was stopped");
    }
}
