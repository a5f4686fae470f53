/* PostgreSQL for threads: libpq connects in C, by the factory of postgres_factory.c,
 * which the script names; eight threads share four connections.
 *
 * In this repository:  cmake -DCUEBALL_EXAMPLES=ON makes build/examples/postgres, where libpq is found (libpq-dev).
 * With cueball installed:
 *     cc postgres.c postgres_factory.c $(pkg-config --cflags --libs cueball-runtime libpq) -pthread -o postgres
 *     PGUSER=me PGPASSWORD=… PGDATABASE=test ./postgres 127.0.0.1:5432
 *
 * Its arguments are the addresses of servers; libpq takes what else it needs from
 * the environment.  It makes a table of its own, and drops it. */
#define _GNU_SOURCE
#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "cueball_runtime.h"
#include "postgres_factory.h"

enum { THREADS = 8, ROWS = 100 };

static const char SCRIPT[] = "local cueball = require 'cueball'\n"
                             "cueball.pool {\n"
                             "  name = 'db',\n"
                             "  resolver = cueball.resolver.static { ... },\n"
                             "  connect = cueball.native 'pg',\n"
                             "  max_connections = 4,\n"
                             "  claim_timeout_ms = 20000,\n"
                             "}\n";

static cueball_threaded *pool;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

/* Claims a connection, as its factory gave it out. */
static PGconn *take(cueball_lease *lease)
{
    if (cueball_threaded_claim(pool, 0, lease) != CUEBALL_OK)
        die(cueball_last_error());
    return lease->pointer;
}

/* Runs one query.  Returns the first value of its result; "": it has none. */
static void query(PGconn *conn, const char *text, char *value, size_t size)
{
    PGresult *result = PQexec(conn, text);
    const ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        die(PQerrorMessage(conn));
    if (value != NULL)
        (void)snprintf(value, size, "%s", PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
}

/* The same over whichever connection is free. */
static void query_once(const char *text, char *value, size_t size)
{
    cueball_lease lease;
    query(take(&lease), text, value, size);
    cueball_lease_release(&lease);
}

static void *worker(void *given)
{
    char text[80];
    for (int row = 1; row <= ROWS; row++) {
        (void)snprintf(text, sizeof text, "insert into cueball_example values (%d, %d)", *(const int *)given, row);
        query_once(text, NULL, 0);
    }
    return NULL;
}

static void work(void)
{
    pthread_t threads[THREADS];
    int numbers[THREADS];
    char rows[32], connections[32];
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        if (pthread_create(&threads[i], NULL, worker, &numbers[i]) != 0)
            die("no thread can be made");
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    query_once("select count(*) from cueball_example", rows, sizeof rows);
    query_once("select count(*) <= 4 from pg_stat_activity where application_name = 'cueball'", connections, sizeof connections);
    printf("%d threads wrote %s rows, over 4 connections at most: %s\n", THREADS, rows, connections[0] == 't' ? "yes" : "no");
}

/* A claimer forgets to end its transaction: the pool rolls it back before anybody else has the connection. */
static void leave_a_transaction_open(void)
{
    char rows[32];
    cueball_lease lease;
    PGconn *conn = take(&lease);
    query(conn, "begin", NULL, 0);
    query(conn, "delete from cueball_example", NULL, 0);
    cueball_lease_release(&lease);
    query_once("select count(*) from cueball_example", rows, sizeof rows);
    printf("a transaction was left open: %s rows are there still\n", rows);
}

/* The server ends all connections but one: those at rest are replaced before anybody gets them. */
static void lose_connections(void)
{
    char answer[32];
    query_once("select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity"
               " where application_name = 'cueball' and pid <> pg_backend_pid()",
               NULL, 0);
    for (int i = 0; i < 20; i++)
        query_once("select 'well'", answer, sizeof answer);
    printf("connections were ended by the server: %s\n", answer);
}

int main(int count, char **arguments)
{
    cueball_runtime *runtime;
    cueball_runtime_options options = {
        .struct_size = sizeof options,
        .text = SCRIPT,
        .arguments = (const char *const *)arguments + 1,
        .argument_count = (uint32_t)(count - 1),
    };
    if (count < 2)
        die("usage: postgres ADDRESS:PORT…");
    if (postgres_factory_register("pg", "application_name=cueball") != CUEBALL_OK || cueball_runtime_start(&options, &runtime) != CUEBALL_OK
        || cueball_runtime_pool(runtime, "db", &pool) != CUEBALL_OK)
        die(cueball_last_error());
    query_once("create unlogged table cueball_example (thread integer, number integer)", NULL, 0);
    work();
    leave_a_transaction_open();
    lose_connections();
    query_once("drop table cueball_example", NULL, 0);
    cueball_runtime_stop(runtime, 1000);
    printf("the pool is %s\n", cueball_threaded_state(pool) == CUEBALL_POOL_STOPPED ? "stopped" : "not stopped");
    cueball_threaded_drop(pool);
    cueball_runtime_free(runtime);
    return 0;
}
