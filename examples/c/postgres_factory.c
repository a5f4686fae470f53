/* Connections to PostgreSQL on libpq, as a connection factory in C: docs/native.md.
 *
 *     postgres_factory_register("pg", "dbname=shop user=ann password=sesame");
 *
 * and in the script: cueball.pool { connect = cueball.native "pg", … }.  A lease has the PGconn * as its pointer.
 *
 * All of it runs in threads of cueball's, so it may wait; it waits in slices, so that it hears when nobody wants its result any more.
 *
 *     cc -shared -fPIC -o libpostgres_factory.so postgres_factory.c $(pkg-config --cflags --libs cueball libpq)
 */
#define _GNU_SOURCE
#include "postgres_factory.h"

#include <cueball_native.h>
#include <libpq-fe.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLICE_MS = 50 };

static int fail(const cueball_native_call *call, int status, const char *why)
{
    (void)snprintf(call->message, call->message_size, "%s", why);
    return status;
}

/* Waits until libpq's socket is ready.  false: nobody waits for the call any more, or its time is up. */
static bool wait_for(PGconn *conn, short events, const cueball_native_call *call)
{
    struct pollfd ready = { .fd = PQsocket(conn), .events = events };
    while (cueball_native_is_wanted(call)) {
        int found = poll(&ready, 1, SLICE_MS);
        if (found > 0)
            return true;
        if (found < 0 && errno != EINTR)
            return false;
    }
    return false;
}

/* Goes on with connecting until it is done. */
static bool establish(PGconn *conn, const cueball_native_call *call)
{
    PostgresPollingStatusType state = PQstatus(conn) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;
    while (state == PGRES_POLLING_READING || state == PGRES_POLLING_WRITING) {
        if (!wait_for(conn, state == PGRES_POLLING_READING ? POLLIN : POLLOUT, call))
            return false;
        state = PQconnectPoll(conn);
    }
    return state == PGRES_POLLING_OK;
}

static void ignore_notice(void *unused, const PGresult *notice)
{
    (void)unused;
    (void)notice;
}

static int postgres_connect(void *user, cueball_native_connection *connection, const cueball_native_call *call)
{
    char port[16];
    (void)snprintf(port, sizeof port, "%u", (unsigned)call->port);
    /* A conninfo string may stand where the name of a database is expected; what comes after it counts more. */
    const char *const keywords[] = { "dbname", "hostaddr", "port", NULL };
    const char *const values[] = { user, call->address, port, NULL };
    PGconn *conn = PQconnectStartParams(keywords, values, 1);
    if (!conn)
        return fail(call, CUEBALL_NATIVE_UNFIT, "out of memory");
    (void)PQsetNoticeReceiver(conn, ignore_notice, NULL);
    if (!establish(conn, call)) {
        const char *why = PQerrorMessage(conn);
        (void)fail(call, CUEBALL_NATIVE_UNFIT, *why ? why : "no connection in time");
        PQfinish(conn);
        return CUEBALL_NATIVE_UNFIT;
    }
    connection->pointer = conn;
    connection->fd = PQsocket(conn);
    return CUEBALL_NATIVE_DONE;
}

static void postgres_close(void *user, const cueball_native_connection *connection)
{
    (void)user;
    PQfinish(connection->pointer);
}

/* Takes the results of what was sent, until there are no more. */
static int finish(PGconn *conn, const cueball_native_call *call)
{
    int status = CUEBALL_NATIVE_DONE;
    for (;;) {
        while (PQisBusy(conn)) {
            if (!wait_for(conn, POLLIN, call))
                return fail(call, CUEBALL_NATIVE_TIMEOUT, "no answer in time");
            if (!PQconsumeInput(conn))
                return fail(call, CUEBALL_NATIVE_LOST, PQerrorMessage(conn));
        }
        PGresult *result = PQgetResult(conn);
        if (!result)
            return status;
        ExecStatusType found = PQresultStatus(result);
        if (found != PGRES_COMMAND_OK && found != PGRES_EMPTY_QUERY && found != PGRES_TUPLES_OK)
            status = fail(call, CUEBALL_NATIVE_UNFIT, PQresultErrorMessage(result));
        PQclear(result);
    }
}

static int ask(PGconn *conn, const char *sql, const cueball_native_call *call)
{
    if (!PQsendQuery(conn, sql))
        return fail(call, CUEBALL_NATIVE_LOST, PQerrorMessage(conn));
    return finish(conn, call);
}

static int postgres_check(void *user, const cueball_native_connection *connection, const cueball_native_call *call)
{
    (void)user;
    return ask(connection->pointer, "", call);
}

static int postgres_reset(void *user, const cueball_native_connection *connection, const cueball_native_call *call)
{
    (void)user;
    return ask(connection->pointer, "rollback", call);
}

/* Where nothing may wait: in the thread of the event loop. */
static int postgres_broken(void *user, const cueball_native_connection *connection, const cueball_native_call *call)
{
    (void)user;
    PGconn *conn = connection->pointer;
    PGnotify *notify = NULL;
    if (!PQconsumeInput(conn) || PQstatus(conn) != CONNECTION_OK)
        return fail(call, CUEBALL_NATIVE_LOST, PQerrorMessage(conn));
    while ((notify = PQnotifies(conn)))
        PQfreemem(notify);
    switch (PQtransactionStatus(conn)) {
    case PQTRANS_IDLE:
        return CUEBALL_NATIVE_DONE;
    case PQTRANS_INTRANS:
    case PQTRANS_INERROR:
        return fail(call, CUEBALL_NATIVE_DIRTY, "left in a transaction");
    case PQTRANS_ACTIVE:
        return fail(call, CUEBALL_NATIVE_TIMEOUT, "a query is under way");
    default:
        return fail(call, CUEBALL_NATIVE_LOST, PQerrorMessage(conn));
    }
}

int postgres_factory_register(const char *name, const char *conninfo)
{
    char *copied = strdup(conninfo);
    if (!copied)
        return CUEBALL_ENOMEM;
    cueball_native_factory factory = {
        .user = copied,
        .connect = postgres_connect,
        .close = postgres_close,
        .check = postgres_check,
        .reset = postgres_reset,
        .broken = postgres_broken,
        .free_user = free,
    };
    int result = cueball_native_factory_register(name, &factory);
    if (result < 0)
        free(copied);
    return result;
}
