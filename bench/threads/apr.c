/* apr_reslist of apr-util: a stack, a mutex and one condition variable.  Debian: libaprutil1-dev, libapr1-dev. */
#define _POSIX_C_SOURCE 200809L
#include <apr_reslist.h>

struct peer_lease {
    void *connection;
};
#include "measure.h"

static apr_pool_t *memory;
static apr_reslist_t *list;
static char connections_made[1]; /* a connection is its address, as there is nothing in it */

static const char *peer_name(void)
{
    return "apr";
}

static bool peer_option(const char *name, const char *value)
{
    (void)name, (void)value;
    return false;
}

static apr_status_t connection_open(void **connection, void *user, apr_pool_t *pool)
{
    (void)user, (void)pool;
    *connection = connections_made;
    return APR_SUCCESS;
}

static apr_status_t connection_close(void *connection, void *user, apr_pool_t *pool)
{
    (void)connection, (void)user, (void)pool;
    return APR_SUCCESS;
}

static void peer_open(uint32_t connections)
{
    int most = (int)connections;
    MUST(apr_initialize() == APR_SUCCESS && apr_pool_create(&memory, NULL) == APR_SUCCESS);
    MUST(apr_reslist_create(&list, most, most, most, 0, connection_open, connection_close, NULL, memory) == APR_SUCCESS);
}

static void peer_over(void)
{
}

static void peer_close(void)
{
    apr_reslist_destroy(list);
    apr_pool_destroy(memory);
    apr_terminate();
}

static inline void peer_claim(peer_lease *lease)
{
    MUST(apr_reslist_acquire(list, &lease->connection) == APR_SUCCESS);
}

static inline void peer_release(peer_lease *lease)
{
    MUST(apr_reslist_release(list, lease->connection) == APR_SUCCESS);
}
