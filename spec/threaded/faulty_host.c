/* The happy path is: the pool asks for connections, each attempt takes a while and opens, CHECK and CLOSE are done at
 * once, until the pool has stopped.  What goes wrong is drawn: attempts fail or hang, checks fail, "the server" ends
 * connections or sends what nobody asked for, backends come and go, options change. */
#include "faulty_state.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The connection that has this descriptor: what a claimer who is given a number alone would talk to. */
static _Atomic(faulty_conn *) by_descriptor[DESCRIPTORS];

void faulty_options_init(faulty_options *options)
{
    *options = (faulty_options){ .seed = 1, .backends = 3, .turn_leases = 1000, .turn_ms = 1, .clocks = true };
    cueball_options_init(&options->pool);
    options->pool.max_connections = 10;
    options->pool.spares = UINT32_MAX;
    options->pool.claim_timeout_ms = INFINITY;
    options->pool.max_churn_rate = INFINITY;
    options->pool.rebalance_delay_ms = 1;
    cueball_recovery *each[] = { &options->pool.recovery_default, &options->pool.recovery_initial, &options->pool.recovery_connect };
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        each[i]->attempts = 3;
        each[i]->timeout_ms = 20;
        each[i]->max_timeout_ms = 2000; /* what is slowed down ten times opens, too */
        each[i]->delay_ms = 2;
        each[i]->max_delay_ms = 10;
    }
}

/* ------------------------------------------------------------- connections -- */

static faulty_conn **conn_link(faulty_host *host, cueball_handle conn)
{
    faulty_conn **link = &host->conns;
    while (*link && (*link)->conn != conn)
        link = &(*link)->next;
    return link;
}

static faulty_conn *conn_new(faulty_host *host, cueball_handle conn)
{
    faulty_conn *made = calloc(1, sizeof *made);
    MUST(made, "memory");
    made->conn = conn;
    made->fd = made->far = -1;
    made->number = ++host->numbers;
    made->next = host->conns;
    host->conns = made;
    return made;
}

void faulty_conn_hang_up(faulty_conn *conn)
{
    if (conn->far >= 0)
        close(conn->far);
    conn->far = -1;
}

/* Nobody may have it: this is what a descriptor closed under its claimer would look like. */
static void conn_end(faulty_host *host, faulty_conn *conn)
{
    uint64_t holder = atomic_load(&conn->holder);
    MUST((holder & ~(uint64_t)HOLDER_GONE) == HOLDER_NONE || (holder & HOLDER_GONE), "connection %llu ends in the hands of %llx",
         (unsigned long long)conn->number, (unsigned long long)holder);
    faulty_conn **link = conn_link(host, conn->conn);
    MUST(*link == conn, "connection %llu is known twice", (unsigned long long)conn->number);
    *link = conn->next;
    faulty_conn_hang_up(conn);
    if (conn->fd >= 0) {
        atomic_store_explicit(&by_descriptor[conn->fd], NULL, memory_order_relaxed);
        close(conn->fd);
    }
    free(conn);
}

static void conn_connect(faulty_host *host, faulty_conn *conn)
{
    if (host->options.has_descriptors) {
        int ends[2];
        MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0, "socketpair: %s", strerror(errno));
        conn->fd = ends[0];
        conn->far = ends[1];
        MUST(conn->fd < DESCRIPTORS, "descriptor %d", conn->fd);
        atomic_store_explicit(&by_descriptor[conn->fd], conn, memory_order_relaxed);
    }
    conn->is_open = true;
}

/* ------------------------------------------------------------------ chores -- */

static void host_open(faulty_host *host, const cueball_action *action, cueball_time now)
{
    faulty_conn *conn = conn_new(host, action->conn);
    bool is_calm = atomic_load(&host->is_calm);
    conn->fails = !is_calm && chance_is(&host->chance, host->options.open_fails);
    conn->due = now + chance_below(&host->chance, 1 + (uint64_t)(host->options.open_ms * MILLISECOND));
    if (chance_is(&host->chance, host->options.open_hangs) && !is_calm)
        conn->due = CUEBALL_NEVER;
}

static void host_close(faulty_host *host, faulty_conn *conn, cueball_time now)
{
    cueball_handle handle = conn->conn;
    if (cueball_threaded_is_held(host->pool, handle))
        conn->is_orphan = true;
    else
        conn_end(host, conn);
    cueball_pool *core = cueball_threaded_lock(host->pool);
    cueball_pool_conn_closed(core, now, handle);
    cueball_threaded_unlock(host->pool);
}

static void host_check(faulty_host *host, cueball_handle conn, cueball_time now)
{
    bool is_fit = atomic_load(&host->is_calm) || !chance_is(&host->chance, host->options.check_fails);
    cueball_pool *core = cueball_threaded_lock(host->pool);
    int result = cueball_pool_conn_checked(core, now, conn, is_fit);
    cueball_threaded_unlock(host->pool);
    MUST(result == CUEBALL_OK || result == CUEBALL_ESTALE, "checked: %d", result);
}

void faulty_host_has(faulty_host *host, cueball_handle lease, cueball_time now)
{
    atomic_fetch_add(&host->own_grants, 1);
    for (int i = 0; i < OWN_LEASES; i++)
        if (host->own[i].lease == 0) {
            host->own[i].lease = lease;
            host->own[i].until = now + chance_below(&host->chance, 3 * MILLISECOND);
            return;
        }
    MUST(false, "more leases than claims");
}

static void host_perform(faulty_host *host, const cueball_action *action, cueball_time now)
{
    faulty_conn *conn = *conn_link(host, action->conn);
    switch (action->kind) {
    case CUEBALL_ACTION_OPEN:
        MUST(!conn, "opened twice");
        host_open(host, action, now);
        break;
    case CUEBALL_ACTION_GIVE_UP:
        if (conn) /* else it has failed meanwhile */
            conn_end(host, conn);
        break;
    case CUEBALL_ACTION_CLOSE:
        MUST(conn && conn->is_open && !conn->is_orphan, "closes what is not open");
        host_close(host, conn, now);
        break;
    case CUEBALL_ACTION_CHECK:
        MUST(conn && conn->is_open, "checks what is not open");
        host_check(host, action->conn, now);
        break;
    case CUEBALL_ACTION_GRANT:
        MUST(action->claim == host->own_claim && action->user == host->own_users, "a grant of somebody else");
        host->own_claim = 0;
        faulty_host_has(host, action->lease, now);
        break;
    case CUEBALL_ACTION_REFUSE:
        MUST(action->claim == host->own_claim && action->user == host->own_users, "a refusal of somebody else");
        host->own_claim = 0;
        break;
    default:
        MUST(false, "action %d", action->kind);
    }
}

static void host_attempt_over(faulty_host *host, faulty_conn *conn, cueball_time now)
{
    int result;
    if (conn->fails) {
        cueball_handle handle = conn->conn;
        conn_end(host, conn);
        cueball_threaded_note(host->pool, chance_is(&host->chance, 0.1) ? NULL : "b0: connection refused");
        cueball_pool *core = cueball_threaded_lock(host->pool);
        result = cueball_pool_conn_failed(core, now, handle);
        cueball_threaded_unlock(host->pool);
        MUST(result == CUEBALL_OK || result == CUEBALL_ESTALE, "failed: %d", result);
        return;
    }
    conn_connect(host, conn);
    result = cueball_threaded_conn_opened(host->pool, now, conn->conn, conn->fd, conn->fd < 0 ? conn : NULL);
    if (result != CUEBALL_OK) {
        MUST(result == CUEBALL_ESTALE || result == CUEBALL_ENOMEM, "opened: %d", result);
        conn_end(host, conn);
    }
}

/* Returns when the next one is due. */
static cueball_time host_attempts(faulty_host *host, cueball_time now)
{
    cueball_time next = CUEBALL_NEVER;
    faulty_conn *conn = host->conns;
    while (conn) {
        faulty_conn *following = conn->next;
        if (!conn->is_open && conn->due <= now)
            host_attempt_over(host, conn, now);
        else if (!conn->is_open && conn->due < next)
            next = conn->due;
        conn = following;
    }
    return next;
}

static void host_inspect(faulty_host *host, cueball_handle lease, cueball_time now)
{
    bool is_fit = atomic_load(&host->is_calm) || !chance_is(&host->chance, host->options.inspection_fails);
    cueball_pool *core = cueball_threaded_lock(host->pool);
    int result = is_fit ? cueball_pool_lease_released(core, now, lease) : cueball_pool_lease_closed(core, now, lease);
    cueball_threaded_unlock(host->pool);
    MUST(result == CUEBALL_OK || result == CUEBALL_ESTALE, "inspected: %d", result);
}

static void host_returns(faulty_host *host, cueball_time now)
{
    cueball_return what;
    while (cueball_threaded_next_return(host->pool, &what)) {
        if (what.kind == CUEBALL_RETURN_INSPECT) {
            MUST(host->options.inspects, "inspection was not asked for");
            host_inspect(host, what.lease, now);
        } else if (what.kind == CUEBALL_RETURN_ORPHAN) {
            faulty_conn *conn = *conn_link(host, what.conn);
            MUST(conn && conn->is_orphan, "an orphan that is none");
            conn_end(host, conn);
        } else {
            MUST(what.kind == CUEBALL_RETURN_FAILED && memchr(what.text, 0, sizeof what.text), "return %d", what.kind);
        }
    }
}

/* ------------------------------------------------------------------ thread -- */

static bool host_has_faults(const faulty_host *host)
{
    const faulty_options *options = &host->options;
    return options->breaks + options->stray_bytes + options->backend_changes + options->option_changes + options->own_claims > 0
           && !atomic_load(&host->is_calm);
}

static void host_sleep(faulty_host *host, cueball_time until)
{
    struct pollfd fds[] = { { .fd = host->wake, .events = POLLIN }, { .fd = cueball_threaded_watch_fd(host->pool), .events = POLLIN } };
    cueball_time now = cueball_clock_now();
    if (host_has_faults(host) && until > now + MILLISECOND)
        until = now + MILLISECOND;
    struct timespec span = { 0, 0 };
    if (until > now) {
        cueball_time wait = until - now > 5 * UINT64_C(1000000000) ? 5 * UINT64_C(1000000000) : until - now;
        span = (struct timespec){ (time_t)(wait / 1000000000), (long)(wait % 1000000000) };
    }
    if (ppoll(fds, 2, &span, NULL) > 0 && (fds[0].revents & POLLIN)) {
        uint64_t count;
        (void)!read(host->wake, &count, sizeof count);
    }
    cueball_threaded_look(host->pool, cueball_clock_now());
}

/* Out of memory: some are not known yet. */
static void host_know(faulty_host *host)
{
    cueball_pool *core = cueball_threaded_lock(host->pool);
    for (unsigned i = 0; i < host->options.backends; i++) {
        cueball_backend_spec spec = faulty_backend(i);
        int result = host->has_backend[i] ? CUEBALL_OK : cueball_pool_backend_added(core, cueball_clock_now(), &spec);
        MUST(result == CUEBALL_OK || result == CUEBALL_ENOMEM, "backend: %d", result);
        host->has_backend[i] = result == CUEBALL_OK;
        host->knows_all = host->knows_all && result == CUEBALL_OK;
    }
    cueball_threaded_unlock(host->pool);
}

/* Everything that is due; returns when to come back. */
static cueball_time host_turn(faulty_host *host)
{
    cueball_time now = cueball_clock_now();
    cueball_threaded_time_advanced(host->pool, now);
    if (!host->knows_all) {
        host->knows_all = true;
        host_know(host);
    }
    faulty_host_misbehave(host, now);
    faulty_host_give_back(host, now);
    cueball_time next = host_attempts(host, now);
    cueball_action action;
    while (cueball_threaded_next_action(host->pool, &action))
        host_perform(host, &action, now);
    host_returns(host, now);
    for (int i = 0; i < OWN_LEASES; i++)
        if (host->own[i].lease != 0 && host->own[i].until < next)
            next = host->own[i].until;
    for (faulty_conn *conn = host->conns; conn; conn = conn->next)
        if (!conn->is_open && conn->due < next)
            next = conn->due;
    cueball_time deadline = cueball_threaded_deadline(host->pool);
    return deadline < next ? deadline : next;
}

static bool host_is_over(faulty_host *host)
{
    int wanted = atomic_load(&host->wish);
    if (wanted == WISH_STOP && !host->is_stopping) {
        cueball_pool *core = cueball_threaded_lock(host->pool);
        cueball_pool_stop(core, cueball_clock_now());
        cueball_threaded_unlock(host->pool);
        host->is_stopping = true;
    }
    /* Orphans come back when their claimers give them back, which may be after the pool has stopped. */
    return wanted == WISH_ABANDON || (host->is_stopping && cueball_threaded_state(host->pool) == CUEBALL_POOL_STOPPED && !host->conns);
}

static int host_make(faulty_host *host)
{
    const faulty_options *options = &host->options;
    cueball_allocator allocator = counted_allocator(host->memory);
    cueball_threaded_options made = { .struct_size = sizeof made,
                                      .wake_fd = host->wake,
                                      .name = options->name,
                                      .clocks = options->clocks,
                                      .inspects = options->inspects,
                                      .turn_ms = options->turn_ms,
                                      .turn_leases = options->turn_leases };
    int result = cueball_threaded_new(&made, &options->pool, &allocator, options->seed, cueball_clock_now(), &host->pool);
    if (result == CUEBALL_OK)
        cueball_threaded_keep(host->pool); /* the spec's own: it looks at the pool after the host's end */
    return result;
}

static void *host_run(void *argument)
{
    faulty_host *host = argument;
    host->made = host_make(host);
    sem_post(&host->is_made);
    if (host->made != CUEBALL_OK)
        return NULL;
    host->last_faults = cueball_clock_now();
    while (!host_is_over(host)) {
        cueball_time next = host_turn(host);
        if (!host_is_over(host))
            host_sleep(host, next);
    }
    host->last.struct_size = sizeof host->last;
    cueball_threaded_stats(host->pool, &host->last);
    cueball_threaded_close(host->pool);
    return NULL;
}

/* ------------------------------------------------------------------- spec's -- */

faulty_host *faulty_host_try(const faulty_options *options, counted_memory *memory, int *result)
{
    faulty_host *host = calloc(1, sizeof *host);
    MUST(host, "memory");
    host->options = *options;
    host->memory = memory;
    host->chance = chance_of(options->seed, 0);
    host->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    MUST(host->wake >= 0 && sem_init(&host->is_made, 0, 0) == 0, "eventfd: %s", strerror(errno));
    MUST(pthread_create(&host->thread, NULL, host_run, host) == 0, "pthread_create");
    while (sem_wait(&host->is_made) != 0)
        continue;
    *result = host->made;
    if (host->made == CUEBALL_OK)
        return host;
    MUST(!host->pool && pthread_join(host->thread, NULL) == 0, "no pool, and yet one");
    sem_destroy(&host->is_made);
    close(host->wake);
    free(host);
    return NULL;
}

faulty_host *faulty_host_start(const faulty_options *options, counted_memory *memory)
{
    int result;
    faulty_host *host = faulty_host_try(options, memory, &result);
    MUST(host, "a pool for threads: %s", cueball_error_message(result));
    return host;
}

cueball_threaded *faulty_host_pool(faulty_host *host)
{
    return host->pool;
}

static void host_wake(faulty_host *host)
{
    uint64_t one = 1;
    (void)!write(host->wake, &one, sizeof one);
}

void faulty_host_calm(faulty_host *host)
{
    atomic_store(&host->is_calm, true);
    host_wake(host);
}

void faulty_host_await_idle(faulty_host *host, uint32_t idle)
{
    cueball_stats stats = { .struct_size = sizeof stats };
    for (int waited_ms = 0; waited_ms < 30000; waited_ms++) {
        cueball_threaded_stats(host->pool, &stats);
        if (stats.idle == idle)
            return;
        usleep(1000);
    }
    MUST(false, "%u at rest of %u", stats.idle, idle);
}

void faulty_host_stop(faulty_host *host)
{
    atomic_store(&host->wish, WISH_STOP);
    host_wake(host);
}

void faulty_host_abandon(faulty_host *host)
{
    atomic_store(&host->wish, WISH_ABANDON);
    host_wake(host);
}

void faulty_host_join(faulty_host *host, cueball_stats *stats)
{
    MUST(pthread_join(host->thread, NULL) == 0, "pthread_join");
    if (stats)
        *stats = host->last;
}

uint64_t faulty_host_own_grants(const faulty_host *host)
{
    return atomic_load(&host->own_grants);
}

void faulty_host_free(faulty_host *host)
{
    cueball_threaded_drop(host->pool);
    while (host->conns)
        conn_end(host, host->conns);
    close(host->wake);
    sem_destroy(&host->is_made);
    free(host);
}

/* ---------------------------------------------------------------- claimers -- */

faulty_conn *lease_take(const cueball_lease *lease, uint64_t token)
{
    MUST(lease->pool && lease->loan && (lease->pointer == NULL) == (lease->fd >= 0), "a lease of nothing");
    faulty_conn *conn = lease->pointer ? lease->pointer : atomic_load_explicit(&by_descriptor[lease->fd], memory_order_relaxed);
    MUST(conn && conn->fd == lease->fd, "descriptor %d is closed", lease->fd);
    uint64_t holder = HOLDER_NONE;
    MUST(atomic_compare_exchange_strong_explicit(&conn->holder, &holder, token, memory_order_relaxed, memory_order_relaxed),
         "connection %llu, lent to %llx, is in the hands of %llx", (unsigned long long)conn->number, (unsigned long long)token,
         (unsigned long long)holder);
    conn->uses++;
    return conn;
}

void lease_leave(faulty_conn *conn, uint64_t token)
{
    uint64_t holder = atomic_exchange_explicit(&conn->holder, HOLDER_NONE, memory_order_relaxed);
    MUST((holder & ~(uint64_t)HOLDER_GONE) == token, "connection %llu of %llx was taken by %llx", (unsigned long long)conn->number,
         (unsigned long long)token, (unsigned long long)holder);
    conn->uses++;
}
