#include "runtime.h"

#include <assert.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ANSWER_MS = 10000 }; /* within which a thread that does not hang answers */

static const uint32_t ARGUMENTS_MAX = 4096; /* Lua takes no more than some 8,000 values apart */
static const double START_TIMEOUT_MS = 10000, DAY_MS = 86400000;

static int fail(int error, const char *text)
{
    assert(error < 0);
    assert(text != NULL);
    cueball_last_error_set(text);
    return error;
}

/* ------------------------------------------------------------------- names -- */

/* Runtimes without a name are told apart by numbers, the lowest that is free. */
static pthread_mutex_t numbers_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t numbers_taken;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* In the child of a fork there are no runtimes; their threads have the locks, perhaps. */
static void forked(void)
{
    (void)pthread_mutex_init(&numbers_lock, NULL);
    numbers_taken = 0;
    cueball__thread_forked();
}

static void begin(void)
{
    (void)pthread_atfork(NULL, NULL, forked);
}

static unsigned number_take(void)
{
    unsigned number = 0;
    (void)pthread_mutex_lock(&numbers_lock);
    while (number < 64 && (numbers_taken >> number & 1) != 0)
        number++;
    if (number < 64)
        numbers_taken |= UINT64_C(1) << number;
    (void)pthread_mutex_unlock(&numbers_lock);
    return number;
}

static void number_return(unsigned number)
{
    (void)pthread_mutex_lock(&numbers_lock);
    assert(number >= 64 || (numbers_taken >> number & 1) != 0);
    if (number < 64)
        numbers_taken &= ~(UINT64_C(1) << number);
    (void)pthread_mutex_unlock(&numbers_lock);
}

static char *numbered_name(unsigned number)
{
    char name[32];
    if (number == 0)
        return strdup("cueball");
    (void)snprintf(name, sizeof name, "cueball-%u", number + 1);
    return strdup(name);
}

/* ----------------------------------------------------------------- options -- */

/* What is wrong with the options, as a message; NULL: nothing. */
static const char *options_fault(const cueball_runtime_options *options)
{
    if (options->struct_size != 0 && options->struct_size < sizeof *options)
        return "cueball_runtime_start: struct_size is too small";
    if (options->struct_size > sizeof *options)
        return "cueball_runtime_start: struct_size is of a later version";
    if ((options->file == NULL) == (options->text == NULL))
        return "cueball_runtime_start: one of file and text must be given";
    if (options->name != NULL && (options->name[0] == 0 || strlen(options->name) > 127 || strchr(options->name, '/') != NULL))
        return "cueball_runtime_start: name must have 1 to 127 bytes, and no slash";
    if (options->argument_count > 0 && options->arguments == NULL)
        return "cueball_runtime_start: arguments is NULL";
    if (options->argument_count > ARGUMENTS_MAX)
        return "cueball_runtime_start: a script has 4096 arguments at most";
    for (uint32_t index = 0; index < options->argument_count; index++) {
        if (options->arguments[index] == NULL)
            return "cueball_runtime_start: one of the arguments is NULL";
    }
    const double limit = options->start_timeout_ms;
    if (limit != 0 && !(limit >= 1 && limit <= DAY_MS))
        return "cueball_runtime_start: start_timeout_ms must be from 1 to 86400000, or 0 for 10000";
    return NULL;
}

/* false: no memory. */
static bool copy_text(char **copy, const char *text)
{
    *copy = text != NULL ? strdup(text) : NULL;
    return text == NULL || *copy != NULL;
}

static bool copy_options(cueball__script *script, const cueball_runtime_options *options)
{
    assert(options_fault(options) == NULL);
    script->start_timeout_ms = options->start_timeout_ms != 0 ? options->start_timeout_ms : START_TIMEOUT_MS;
    script->log = options->log;
    script->log_user = options->log_user;
    if (!copy_text(&script->file, options->file) || !copy_text(&script->text, options->text)
        || !copy_text(&script->lua_path, options->lua_path) || !copy_text(&script->lua_cpath, options->lua_cpath))
        return false;
    if (options->argument_count == 0)
        return true;
    script->arguments = calloc(options->argument_count, sizeof *script->arguments);
    if (script->arguments == NULL)
        return false;
    for (; script->argument_count < options->argument_count; script->argument_count++) {
        if (!copy_text(&script->arguments[script->argument_count], options->arguments[script->argument_count]))
            return false;
    }
    return true;
}

static void free_script(cueball__script *script)
{
    assert(script->argument_count == 0 || script->arguments != NULL);
    for (uint32_t index = 0; index < script->argument_count; index++)
        free(script->arguments[index]);
    free(script->arguments);
    free(script->file);
    free(script->text);
    free(script->lua_path);
    free(script->lua_cpath);
}

/* ---------------------------------------------------------- making, freeing -- */

static void destroy(cueball_runtime *runtime)
{
    assert(runtime->references == 0);
    assert(runtime->first == NULL);
    assert(runtime->last == NULL);
    cueball__pools_drop(runtime);
    if (runtime->number < 64)
        number_return(runtime->number);
    cueball__wake_close(&runtime->wake);
    free_script(&runtime->script);
    free(runtime->name);
    (void)pthread_cond_destroy(&runtime->changed);
    (void)pthread_mutex_destroy(&runtime->lock);
    free(runtime);
}

void cueball__runtime_release(cueball_runtime *runtime)
{
    cueball__runtime_lock(runtime);
    assert(runtime->references > 0);
    bool is_last = --runtime->references == 0;
    cueball__runtime_unlock(runtime);
    if (is_last)
        destroy(runtime);
}

static bool init_locks(cueball_runtime *runtime)
{
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) != 0)
        return false;
    bool is_well = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0;
    if (is_well && pthread_cond_init(&runtime->changed, &attributes) != 0)
        is_well = false;
    (void)pthread_condattr_destroy(&attributes);
    if (is_well && pthread_mutex_init(&runtime->lock, NULL) != 0) {
        (void)pthread_cond_destroy(&runtime->changed);
        is_well = false;
    }
    return is_well;
}

static cueball_runtime *runtime_new(const cueball_runtime_options *options)
{
    cueball_runtime *runtime = calloc(1, sizeof *runtime);
    if (runtime == NULL)
        return NULL;
    if (!init_locks(runtime)) {
        free(runtime);
        return NULL;
    }
    runtime->process = getpid();
    atomic_init(&runtime->is_muted, false);
    runtime->number = options->name != NULL ? UINT32_MAX : number_take();
    runtime->name = options->name != NULL ? strdup(options->name) : numbered_name(runtime->number);
    bool has_wake = cueball__wake_open(&runtime->wake);
    if (runtime->name == NULL || !has_wake || !copy_options(&runtime->script, options)) {
        destroy(runtime);
        return NULL;
    }
    return runtime;
}

/* The thread gets no signal from its first instruction on. */
static bool thread_begin(cueball_runtime *runtime, cueball__request *start)
{
    assert(runtime->references == 0);
    assert(start != NULL);
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    cueball__runtime_lock(runtime); /* which the thread takes first, so that it knows its own number */
    runtime->references = 2;
    bool has_begun = pthread_create(&runtime->thread, NULL, cueball__thread_run, runtime) == 0;
    if (has_begun)
        cueball__request_append(runtime, start); /* which the thread looks for first */
    cueball__runtime_unlock(runtime);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return has_begun;
}

/* Nobody waits for the thread any more.  With the lock held. */
static void leave_alone(cueball_runtime *runtime)
{
    if (runtime->is_left_alone || runtime->is_joined)
        return;
    assert(!pthread_equal(pthread_self(), runtime->thread) || runtime->state != CUEBALL__RUNNING);
    runtime->is_left_alone = true;
    runtime->state = CUEBALL__OVER;
    atomic_store(&runtime->is_muted, true);
    (void)pthread_detach(runtime->thread);
}

/* The thread is about to end, or has. */
static void join(cueball_runtime *runtime)
{
    cueball__runtime_lock(runtime);
    bool is_mine = !runtime->is_joined && !runtime->is_left_alone;
    if (is_mine)
        runtime->is_joined = true;
    cueball__runtime_unlock(runtime);
    int state;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    if (is_mine)
        (void)pthread_join(runtime->thread, NULL);
    (void)pthread_setcancelstate(state, NULL);
}

void cueball__runtime_over(cueball_runtime *runtime)
{
    assert(pthread_equal(pthread_self(), runtime->thread));
    cueball__runtime_lock(runtime);
    runtime->state = CUEBALL__OVER;
    cueball__pools_stop(runtime); /* if it ended before its pools */
    cueball__pools_drop(runtime);
    cueball__request_answer_all(runtime);
    (void)pthread_cond_broadcast(&runtime->changed);
    cueball__runtime_unlock(runtime);
}

void cueball__runtime_linger(cueball_runtime *runtime)
{
    assert(pthread_equal(pthread_self(), runtime->thread));
    cueball__runtime_lock(runtime);
    leave_alone(runtime);
    cueball__pools_drop(runtime);
    cueball__request_answer_all(runtime);
    cueball__runtime_unlock(runtime);
}

/* ------------------------------------------------------------------- start -- */

int cueball_runtime_start(const cueball_runtime_options *options, cueball_runtime **runtime)
{
    if (runtime == NULL)
        return fail(CUEBALL_EINVAL, "cueball_runtime_start: runtime is NULL");
    *runtime = NULL;
    if (options == NULL)
        return fail(CUEBALL_EINVAL, "cueball_runtime_start: options is NULL");
    const char *fault = options_fault(options);
    if (fault != NULL)
        return fail(CUEBALL_EINVAL, fault);
    (void)pthread_once(&once, begin);
    cueball_runtime *made = runtime_new(options);
    if (made == NULL)
        return fail(CUEBALL_ENOMEM, "cueball_runtime_start: no memory, or no descriptor is left");
    cueball__request *request = cueball__request_new("start", NULL, NULL, made->script.start_timeout_ms);
    if (request == NULL || !thread_begin(made, request)) {
        cueball__request_free(request);
        made->references = 0;
        destroy(made);
        return fail(CUEBALL_ENOMEM, "cueball_runtime_start: no memory, or no thread can be made");
    }
    /* A script that loops is broken off at its limit, and the thread answers then. */
    int result = cueball__request_ask(made, request, made->script.start_timeout_ms + ANSWER_MS, NULL);
    if (result == CUEBALL_OK) {
        assert(made->state == CUEBALL__RUNNING);
        *runtime = made;
        return CUEBALL_OK;
    }
    cueball__runtime_lock(made);
    if (made->first != NULL) /* not answered */
        leave_alone(made);
    cueball__runtime_unlock(made);
    join(made);
    cueball__runtime_release(made);
    return result;
}

/* ------------------------------------------------------------------- pools -- */

/* Every public function of a runtime begins with this. */
static int runtime_fault(const cueball_runtime *runtime, const char *function)
{
    assert(function != NULL);
    char text[96];
    if (runtime != NULL && runtime->process == getpid())
        return CUEBALL_OK;
    if (runtime != NULL)
        return fail(CUEBALL_EFORKED, "a runtime is of no use in a child process: start one after the fork");
    (void)snprintf(text, sizeof text, "%s: runtime is NULL", function);
    return fail(CUEBALL_EINVAL, text);
}

int cueball_runtime_pool(cueball_runtime *runtime, const char *name, cueball_threaded **pool)
{
    if (pool == NULL)
        return fail(CUEBALL_EINVAL, "cueball_runtime_pool: pool is NULL");
    *pool = NULL;
    int result = runtime_fault(runtime, "cueball_runtime_pool");
    if (result != CUEBALL_OK)
        return result;
    if (name == NULL)
        return fail(CUEBALL_EINVAL, "cueball_runtime_pool: name is NULL");
    cueball__runtime_lock(runtime);
    result = cueball__pools_find(runtime, name, pool);
    cueball__runtime_unlock(runtime);
    return result;
}

/* -------------------------------------------------------- stopping, freeing -- */

static bool is_own_thread(const cueball_runtime *runtime)
{
    return pthread_equal(pthread_self(), runtime->thread) != 0;
}

static int own_thread_fault(const char *function)
{
    assert(function != NULL);
    char text[160];
    (void)snprintf(text, sizeof text, "%s waits for the runtime's thread, and was called in it", function);
    return fail(CUEBALL_EDEADLOCK, text);
}

int cueball_runtime_stop(cueball_runtime *runtime, double drain_timeout_ms)
{
    int result = runtime_fault(runtime, "cueball_runtime_stop");
    if (result != CUEBALL_OK)
        return result;
    if (!(drain_timeout_ms >= 0 && drain_timeout_ms <= DAY_MS))
        return fail(CUEBALL_EINVAL, "cueball_runtime_stop: drain_timeout_ms must be from 0 to 86400000");
    cueball__runtime_lock(runtime);
    const bool is_over = runtime->state == CUEBALL__OVER;
    const bool is_own = !is_over && is_own_thread(runtime);
    const cueball_time now = cueball_clock_now(), until = now + (cueball_time)(drain_timeout_ms * 1e6);
    if (!is_over && !is_own) {
        runtime->state = CUEBALL__STOPPING;
        runtime->stops_by = until > runtime->stops_by ? until : runtime->stops_by; /* whoever came first may wait for longer */
    }
    const double limit_ms = runtime->stops_by > now ? (double)(runtime->stops_by - now) / 1e6 : 0;
    cueball__runtime_unlock(runtime);
    if (is_own)
        return own_thread_fault("cueball_runtime_stop");
    if (!is_over) {
        cueball__request *request = cueball__request_new("stop", NULL, NULL, drain_timeout_ms);
        result = cueball__request_ask(runtime, request, limit_ms + ANSWER_MS, NULL);
    }
    if (result == CUEBALL_EPOOL_STOPPING) /* it was over just before */
        result = CUEBALL_OK;
    if (result == CUEBALL_ESCRIPT) {
        cueball__runtime_lock(runtime);
        cueball__pools_stop(runtime);
        leave_alone(runtime);
        cueball__runtime_unlock(runtime);
    }
    if (result == CUEBALL_OK)
        join(runtime);
    assert(result == CUEBALL_OK || result == CUEBALL_ESCRIPT || result == CUEBALL_ENOMEM);
    return result;
}

void cueball_runtime_free(cueball_runtime *runtime)
{
    if (runtime == NULL || runtime->process != getpid())
        return;
    if (cueball_runtime_stop(runtime, 0) == CUEBALL_EDEADLOCK)
        return;
    cueball__runtime_lock(runtime);
    leave_alone(runtime); /* without memory for the request to stop */
    cueball__runtime_unlock(runtime);
    cueball__runtime_release(runtime);
}

/* ------------------------------------------------------ asking for something -- */

static int ask(cueball_runtime *runtime, const char *function, cueball__request *request, double limit_ms, char **text)
{
    assert(limit_ms >= ANSWER_MS);
    cueball__runtime_lock(runtime);
    const bool is_own = runtime->state != CUEBALL__OVER && is_own_thread(runtime); /* its number may be another's once it has ended */
    cueball__runtime_unlock(runtime);
    if (is_own) {
        cueball__request_free(request);
        return own_thread_fault(function);
    }
    return cueball__request_ask(runtime, request, limit_ms, text);
}

int cueball_runtime_reload(cueball_runtime *runtime, bool dry_run, char **report)
{
    if (report != NULL)
        *report = NULL;
    int result = runtime_fault(runtime, "cueball_runtime_reload");
    if (result != CUEBALL_OK)
        return result;
    cueball__request *request = cueball__request_new("reload", NULL, NULL, dry_run ? 1 : 0);
    return ask(runtime, "cueball_runtime_reload", request, runtime->script.start_timeout_ms + ANSWER_MS, report);
}

int cueball_runtime_set(cueball_runtime *runtime, const char *pool, const char *options)
{
    int result = runtime_fault(runtime, "cueball_runtime_set");
    if (result != CUEBALL_OK)
        return result;
    if (pool == NULL || options == NULL)
        return fail(CUEBALL_EINVAL, "cueball_runtime_set: pool or options is NULL");
    return ask(runtime, "cueball_runtime_set", cueball__request_new("set", pool, options, 0), ANSWER_MS, NULL);
}

static char *ask_text(cueball_runtime *runtime, const char *function, const char *kind)
{
    assert(kind != NULL);
    char *text = NULL;
    if (runtime_fault(runtime, function) != CUEBALL_OK)
        return NULL;
    (void)ask(runtime, function, cueball__request_new(kind, NULL, NULL, 0), ANSWER_MS, &text);
    return text;
}

char *cueball_runtime_metrics(cueball_runtime *runtime)
{
    return ask_text(runtime, "cueball_runtime_metrics", "metrics");
}

char *cueball_runtime_state(cueball_runtime *runtime)
{
    return ask_text(runtime, "cueball_runtime_state", "state");
}

void cueball_runtime_text_free(char *text)
{
    free(text);
}
