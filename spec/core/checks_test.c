/* That builds with checks look at a pool after every input.  One counter of a pool is
 * made wrong behind its back, in a process of its own for each input: that process has
 * to end with the text of the check.
 *
 *     cc -std=c11 -DCUEBALL_CHECKS=1 -Isrc/include -Isrc/core spec/core/checks_test.c src/core/(all)/(all).c -lm */
#define _POSIX_C_SOURCE 200809L

#include "pool/state.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *allocate(void *user, size_t size)
{
    (void)user;
    return malloc(size);
}

static void release(void *user, void *memory, size_t size)
{
    (void)user;
    (void)size;
    free(memory);
}

typedef struct scene {
    cueball_pool *pool;
    cueball_options options;
    cueball_time now;
    cueball_grant grant; /* of one of two connections */
    cueball_handle claim;
} scene;

static const cueball_backend_spec db1 = { .key = "db1", .address = "10.0.0.1" }, db2 = { .key = "db2", .address = "10.0.0.2" };

/* Two connections, one leased and one at rest, or none at rest and a claim that waits. */
static scene scene_of(bool waits)
{
    const cueball_allocator allocator = { NULL, allocate, release };
    scene s = { .now = 1 };
    cueball_action action;
    cueball_options_init(&s.options);
    s.options.max_connections = waits ? 1 : 2;
    if (cueball_pool_new(&s.options, &allocator, 1, s.now, &s.pool) != CUEBALL_OK)
        exit(3);
    cueball_pool_backend_added(s.pool, s.now, &db1);
    cueball_pool_time_advanced(s.pool, ++s.now);
    while (cueball_pool_next_action(s.pool, &action))
        if (action.kind == CUEBALL_ACTION_OPEN)
            cueball_pool_conn_opened(s.pool, ++s.now, action.conn);
    cueball_pool_claim(s.pool, ++s.now, NULL, &s.grant);
    cueball_grant other = { 0 };
    if (waits)
        cueball_pool_claim(s.pool, ++s.now, NULL, &other);
    s.claim = other.claim;
    return s;
}

enum { CLAIM_INPUTS = 6, CONN_INPUTS = 6, OTHER_INPUTS = 11, INPUTS = CLAIM_INPUTS + CONN_INPUTS + OTHER_INPUTS };

static void claim_input(scene *s, cueball_time now, int which)
{
    cueball_grant grant;
    switch (which) {
    case 0:
        cueball_pool_claim(s->pool, now, NULL, &grant);
        break;
    case 1:
        cueball_pool_claim_cancelled(s->pool, now, s->claim);
        break;
    case 2:
        cueball_pool_lease_released(s->pool, now, s->grant.lease);
        break;
    case 3:
        cueball_pool_lease_closed(s->pool, now, s->grant.lease);
        break;
    case 4:
        cueball_pool_lease_failed(s->pool, now, s->grant.lease);
        break;
    default:
        cueball_pool_lease_reported(s->pool, now, s->grant.lease, true);
        break;
    }
}

/* Stale ones among them: after those the pool is looked at, too. */
static void conn_input(scene *s, cueball_time now, int which)
{
    switch (which) {
    case 0:
        cueball_pool_conn_opened(s->pool, now, s->grant.conn);
        break;
    case 1:
        cueball_pool_conn_failed(s->pool, now, s->grant.conn);
        break;
    case 2:
        cueball_pool_conn_checked(s->pool, now, s->grant.conn, true);
        break;
    case 3:
        cueball_pool_conn_lost(s->pool, now, s->grant.conn);
        break;
    case 4:
        cueball_pool_conn_unfit(s->pool, now, s->grant.conn, CUEBALL_CAUSE_WORN);
        break;
    default:
        cueball_pool_conn_closed(s->pool, now, s->grant.conn);
        break;
    }
}

static void other_input(scene *s, cueball_time now, int which)
{
    cueball_action action;
    switch (which) {
    case 0:
        cueball_pool_backend_added(s->pool, now, &db2);
        break;
    case 1:
        cueball_pool_backend_removed(s->pool, now, "db1");
        break;
    case 2:
        cueball_pool_backends_replaced(s->pool, now, &db2, 1);
        break;
    case 3:
        cueball_pool_resolver_failed(s->pool, now);
        break;
    case 4:
        cueball_pool_resolver_recovered(s->pool, now);
        break;
    case 5:
        cueball_pool_renew(s->pool, now, NULL, 10);
        break;
    case 6:
        cueball_pool_options_changed(s->pool, now, &s->options);
        break;
    case 7:
        cueball_pool_stop(s->pool, now);
        break;
    case 8:
        cueball_pool_time_advanced(s->pool, now);
        break;
    case 9:
        cueball_pool_next_answer(s->pool, &action);
        break;
    default:
        cueball_pool_next_chore(s->pool, &action);
        break;
    }
}

static void input(scene *s, int which)
{
    cueball_time now = ++s->now;
    if (which < CLAIM_INPUTS)
        claim_input(s, now, which);
    else if (which < CLAIM_INPUTS + CONN_INPUTS)
        conn_input(s, now, which - CLAIM_INPUTS);
    else
        other_input(s, now, which - CLAIM_INPUTS - CONN_INPUTS);
}

/* What the process said that did this input; "" if it went on. */
static const char *complaint_of(bool waits, int which)
{
    static char text[512];
    int ends[2];
    memset(text, 0, sizeof text);
    if (pipe(ends) != 0)
        exit(3);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        scene s = scene_of(waits);
        s.pool->checks_running++;
        input(&s, which);
        _exit(0);
    }
    close(ends[1]);
    for (size_t used = 0; used < sizeof text - 1;) {
        ssize_t count = read(ends[0], text + used, sizeof text - 1 - used);
        if (count <= 0)
            break;
        used += (size_t)count;
    }
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? text : "";
}

int main(void)
{
    int faults = 0;
    for (int waits = 0; waits < 2; waits++)
        for (int which = 0; which < INPUTS; which++)
            if (!strstr(complaint_of(waits, which), "checks, 1 counted")) {
                printf("input %d%s was not checked\n", which, waits ? " with a claim that waits" : "");
                faults++;
            }
    return faults > 0;
}
