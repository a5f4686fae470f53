/* The threads of each factory.
 *
 * Why not libuv's: its pool has four threads for the whole process, which look up names and read files too, so that one server that hangs
 * would stop all of that; and libuv waits for what runs there before its loop can end, as long as that takes.  These threads are not waited
 * for by anybody.
 *
 * The happy path: a task waits in its factory's list; a thread that is idle, or a new one, takes it, calls the function without the lock,
 * and puts the result where its loop finds it.  A thread that has nothing to do for some seconds ends.
 *
 * What can go wrong: a function does not return in time.  Its task is given up; the thread that is in it does not count any more, so that
 * another can take its place (up to a bound: a factory that never returns may not take all memory); once it returns, what it opened is
 * closed before anything else is done.  A function may end its thread (pthread_exit): the task has failed then. */
#define _POSIX_C_SOURCE 200809L

#include "native.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IDLE_NS ((cueball_time)5000000000) /* then a thread ends */

/* With the lock, after each step: what must hold of a factory's threads and calls. */
static void workers_check(const cueball_native_registration *factory)
{
    const cueball_native_load *load = &factory->load;
    assert(!factory->is_resolver && factory->factory.connect && !factory->factory.never_blocks);
    assert(factory->references > 0);
    assert(factory->generation == cueball__native_generation());
    assert(factory->factory.threads_max >= 1 && factory->factory.threads_max <= NATIVE_THREADS_MAX);
    assert(load->running <= factory->factory.threads_max);
    assert(load->threads <= factory->factory.threads_max * (1 + NATIVE_GIVEN_UP_FACTOR));
    assert(load->running + load->given_up + factory->idle <= load->threads);
    assert((load->waiting == 0) == cueball__list_is_empty(&factory->waiting));
    assert((load->running + load->given_up == 0) == cueball__list_is_empty(&factory->under_way));
    assert(factory->references >= load->threads);
    (void)load;
}

/* With the lock: what must hold of a call that its thread is in. */
static void under_way_check(const cueball__native_task *task)
{
    assert(task->is_begun && !task->is_done);
    assert(cueball__link_is_linked(&task->link));
    assert(task->factory && task->factory->references > 1);
    assert(!task->loop || cueball__link_is_linked(&task->of_loop));
    assert(!atomic_load(&task->is_given_up) || !task->loop);
    assert(!task->following || task->following->request.operation == CUEBALL_NATIVE_CLOSE);
    assert(!task->following || !cueball__link_is_linked(&task->following->link));
    (void)task;
}

bool cueball__native_task_free(cueball__native_task *task)
{
    assert(!cueball__link_is_linked(&task->link) && !cueball__link_is_linked(&task->of_loop));
    assert(!task->loop);
    assert(!task->following);
    cueball_native_registration *factory = task->factory;
    free(task);
    return cueball__native_release(factory);
}

/* ---------------------------------------------------------------- threads -- */

static void *worker_run(void *argument);

/* With the lock: somebody is to take what waits, if there may be one more. */
static int workers_call(cueball_native_registration *factory)
{
    cueball_native_load *load = &factory->load;
    uint32_t bound = factory->factory.threads_max * (1 + NATIVE_GIVEN_UP_FACTOR);
    if (load->waiting == 0 || load->running >= factory->factory.threads_max)
        return CUEBALL_OK;
    if (factory->idle > 0) {
        (void)pthread_cond_signal(&factory->is_waiting);
        return CUEBALL_OK;
    }
    /* Threads that have begun and did not look yet are neither idle nor busy. */
    if (load->threads - load->running - load->given_up >= load->waiting || load->threads >= bound)
        return CUEBALL_OK;
    factory->references++;
    load->threads++;
    if (cueball__native_thread_start(factory->name, worker_run, factory) == CUEBALL_OK)
        return CUEBALL_OK;
    load->threads--;
    factory->references--;
    assert(factory->references > 0);
    return CUEBALL_ENOMEM;
}

/* With the lock, the first that waits: closes go before all others, since they make room. */
static cueball__native_task *next_task(cueball_native_registration *factory)
{
    if (factory->load.running >= factory->factory.threads_max)
        return NULL;
    cueball__native_task *first = NULL;
    CUEBALL__LIST_EACH(link, following, &factory->waiting)
    {
        cueball__native_task *task = CUEBALL__OWNER(link, cueball__native_task, link);
        if (task->request.operation == CUEBALL_NATIVE_CLOSE)
            return task;
        first = first ? first : task;
    }
    return first;
}

static void task_begin(cueball_native_registration *factory, cueball__native_task *task)
{
    assert(!task->is_begun && !task->is_done);
    assert(factory->load.waiting > 0);
    assert(!atomic_load(&task->is_given_up));
    assert(task->loop || task->request.operation == CUEBALL_NATIVE_CLOSE);
    task->is_begun = true;
    cueball__list_remove(&task->link);
    cueball__list_append(&factory->under_way, &task->link);
    factory->load.waiting--;
    factory->load.running++;
    under_way_check(task);
    workers_check(factory);
}

static bool has_opened(const cueball__native_task *task)
{
    return task->request.operation == CUEBALL_NATIVE_CONNECT && task->result.status >= 0;
}

static void wait_for_thread(cueball__native_task *task)
{
    assert(!cueball__link_is_linked(&task->link));
    assert(!task->is_begun && !task->is_done);
    cueball__list_append(&task->factory->waiting, &task->link);
    task->factory->load.waiting++;
}

/* With the lock: a connect whose result nobody wants becomes the close of what it has opened. */
static void task_close(cueball__native_task *task)
{
    assert(has_opened(task) && !task->loop);
    assert(task->result.connection.pointer || task->result.connection.fd >= 0);
    assert(task->result.status == CUEBALL_NATIVE_DONE);
    task->request.operation = CUEBALL_NATIVE_CLOSE;
    task->request.connection = task->result.connection;
    task->is_begun = task->is_done = false;
    atomic_store(&task->is_given_up, false);
    wait_for_thread(task);
}

/* With the lock: the function has returned. */
static void task_end(cueball_native_registration *factory, cueball__native_task *task)
{
    under_way_check(task);
    assert(task->result.user == task->request.user && task->result.operation == task->request.operation);
    assert(task->result.status <= CUEBALL_NATIVE_DONE);
    assert((task->result.status < 0) == (task->result.message[0] != '\0'));
    cueball__list_remove(&task->link);
    if (atomic_load(&task->is_given_up)) {
        assert(factory->load.given_up > 0);
        factory->load.given_up--;
    } else {
        assert(factory->load.running > 0);
        factory->load.running--;
    }
    if (task->following) {
        wait_for_thread(task->following);
        task->following = NULL;
    }
    task->is_done = true;
    if (task->loop)
        cueball__native_loop_tell(task->loop);
    else if (has_opened(task))
        task_close(task);
    else
        (void)cueball__native_task_free(task); /* the thread has a reference too */
    workers_check(factory);
}

/* A function has ended its thread. */
static void worker_lost(void *argument)
{
    cueball__native_task *task = argument;
    cueball_native_registration *factory = task->factory;
    cueball__native_lock();
    memset(&task->result, 0, sizeof task->result);
    task->result.user = task->request.user;
    task->result.operation = task->request.operation;
    task->result.connection.fd = -1;
    task->result.status = CUEBALL_NATIVE_UNFIT;
    (void)snprintf(task->result.message, sizeof task->result.message, "the factory has ended the thread that it was called in");
    task_end(factory, task);
    factory->load.threads--;
    (void)workers_call(factory);
    bool is_last = cueball__native_release(factory);
    cueball__native_unlock();
    if (is_last)
        cueball__native_free(factory);
}

static void task_run(cueball__native_task *task)
{
    pthread_cleanup_push(worker_lost, task);
    cueball__native_call(&task->factory->factory, &task->request, task->deadline, &task->is_given_up, &task->result);
    pthread_cleanup_pop(0);
}

static void *worker_run(void *argument)
{
    cueball_native_registration *factory = argument;
    bool is_over = false;
    int state = 0;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    cueball__native_lock();
    while (!is_over) {
        cueball__native_task *task = next_task(factory);
        if (task) {
            task_begin(factory, task);
            (void)workers_call(factory);
            cueball__native_unlock();
            task_run(task);
            cueball__native_lock();
            task_end(factory, task);
        } else {
            factory->idle++;
            is_over = !cueball__native_cond_wait(&factory->is_waiting, cueball_clock_now() + IDLE_NS) && !next_task(factory);
            factory->idle--;
        }
    }
    assert(factory->load.threads > 0);
    factory->load.threads--;
    bool is_last = cueball__native_release(factory);
    assert(!is_last || factory->load.waiting == 0);
    cueball__native_unlock();
    if (is_last)
        cueball__native_free(factory);
    return NULL;
}

/* ------------------------------------------------------------------- tasks -- */

static bool is_same(const cueball_native_connection *one, const cueball_native_connection *other)
{
    return one->fd == other->fd && one->pointer == other->pointer;
}

/* A call of the same connection that did not return yet. */
static cueball__native_task *find_user_of(const cueball__native_task *task)
{
    CUEBALL__LIST_EACH(link, following, &task->factory->under_way)
    {
        cueball__native_task *one = CUEBALL__OWNER(link, cueball__native_task, link);
        bool is_connect = one->request.operation == CUEBALL_NATIVE_CONNECT;
        if (!is_connect && !one->following && is_same(&one->request.connection, &task->request.connection))
            return one;
    }
    return NULL;
}

int cueball__native_workers_take(cueball__native_task *task)
{
    cueball_native_registration *factory = task->factory;
    workers_check(factory);
    assert(!task->is_begun && !task->is_done && !task->following);
    cueball__native_task *user = task->request.operation == CUEBALL_NATIVE_CLOSE ? find_user_of(task) : NULL;
    if (user) {
        user->following = task;
        under_way_check(user);
        return CUEBALL_OK;
    }
    wait_for_thread(task);
    int result = workers_call(factory);
    if (result < 0 && factory->load.threads == 0) {
        cueball__list_remove(&task->link);
        factory->load.waiting--;
        return result;
    }
    return CUEBALL_OK;
}

bool cueball__native_workers_give_up(cueball__native_task *task)
{
    cueball_native_registration *factory = task->factory;
    bool is_close = task->request.operation == CUEBALL_NATIVE_CLOSE;
    workers_check(factory);
    assert(!task->loop && !cueball__link_is_linked(&task->of_loop));
    assert(factory->references > 1);
    if (task->is_done) {
        if (has_opened(task)) {
            task_close(task);
            (void)workers_call(factory);
        } else {
            (void)cueball__native_task_free(task); /* whoever gives it up has a reference to the factory */
        }
        return false;
    }
    if (task->is_begun) {
        assert(factory->load.running > 0 && !atomic_load(&task->is_given_up));
        atomic_store(&task->is_given_up, true);
        factory->load.running--;
        factory->load.given_up++;
        (void)workers_call(factory);
        workers_check(factory);
        return false;
    }
    if (is_close)
        return true; /* waits on, or follows another */
    cueball__list_remove(&task->link);
    factory->load.waiting--;
    (void)cueball__native_task_free(task);
    return true;
}
