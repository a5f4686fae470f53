/* What goes wrong by chance, so often a second each. */
#include "faulty_state.h"

#include <math.h>
#include <string.h>
#include <sys/socket.h>

cueball_backend_spec faulty_backend(unsigned number)
{
    static const char *const keys[FAULTY_BACKENDS] = { "b0", "b1", "b2", "b3", "b4", "b5" };
    return (cueball_backend_spec){ .key = keys[number], .address = "127.0.0.1", .port = 1 + number, .weight = 1 };
}

static void host_change_backends(faulty_host *host, cueball_pool *core, cueball_time now)
{
    unsigned number = (unsigned)chance_below(&host->chance, FAULTY_BACKENDS);
    cueball_backend_spec spec = faulty_backend(number);
    cueball_pool_resolver_recovered(core, now);
    if (chance_is(&host->chance, 0.05))
        cueball_pool_resolver_failed(core, now); /* until the next change */
    else if (chance_is(&host->chance, 0.1))
        cueball_pool_renew(core, now, NULL, 5);
    else if (host->has_backend[number])
        cueball_pool_backend_removed(core, now, spec.key);
    else
        cueball_pool_backend_added(core, now, &spec);
    cueball_backend_info info = { .struct_size = sizeof info };
    memset(host->has_backend, 0, sizeof host->has_backend);
    for (uint32_t i = 0; cueball_pool_backend_at(core, i, &info); i++)
        if (!info.removed)
            host->has_backend[info.key[1] - '0'] = true;
}

/* The first of the group is known for its number; the others are left at their defaults as often. */
static void host_change_options(faulty_host *host, cueball_pool *core, cueball_time now)
{
    kit_chance *chance = &host->chance;
    cueball_options changed = host->options.pool;
    changed.max_connections = 1 + (uint32_t)chance_below(chance, 2 * host->options.pool.max_connections);
    changed.spares = chance_is(chance, 0.5) ? UINT32_MAX : 0;
    changed.balance = (int32_t)chance_below(chance, 3);
    changed.claim_timeout_ms = chance_is(chance, 0.5) ? INFINITY : 5;
    changed.max_uses = chance_is(chance, 0.5) ? UINT32_MAX : 50;
    changed.max_lifetime_ms = chance_is(chance, 0.5) ? 0 : 20;
    changed.idle_timeout_ms = chance_is(chance, 0.5) ? 0 : 5;
    changed.check_interval_ms = chance_is(chance, 0.5) ? 0 : 10;
    changed.decoherence_interval_ms = chance_is(chance, 0.5) ? 0 : 10;
    changed.max_waiters = chance_is(chance, 0.9) ? UINT32_MAX : 8;
    changed.target_claim_delay_ms = chance_is(chance, 0.7) ? 0 : 2;
    changed.queue = changed.target_claim_delay_ms > 0 ? (int32_t)chance_below(chance, 3) : CUEBALL_QUEUE_FIFO;
    changed.outlier.consecutive = chance_is(chance, 0.5) ? 0 : 3;
    char text[200] = "";
    MUST(cueball_options_check(&changed, text, sizeof text) == CUEBALL_OK, "%s", text);
    MUST(cueball_pool_options_changed(core, now, &changed) == CUEBALL_OK, "options");
}

static void host_claim(faulty_host *host, cueball_time now)
{
    cueball_grant grant;
    if (host->own_claim != 0 || host->own[0].lease != 0 || host->own[1].lease != 0)
        return;
    cueball_claim_options options = { .user = ++host->own_users, .timeout_ms = 5 };
    int result = cueball_threaded_host_claim(host->pool, now, &options, &grant);
    if (result == CUEBALL_WAITING)
        host->own_claim = grant.claim;
    else if (result == CUEBALL_OK)
        faulty_host_has(host, grant.lease, now);
}

static faulty_conn *host_pick(faulty_host *host)
{
    unsigned count = 0;
    for (faulty_conn *conn = host->conns; conn; conn = conn->next)
        count++;
    faulty_conn *picked = host->conns;
    for (uint64_t i = count ? chance_below(&host->chance, count) : 0; i > 0; i--)
        picked = picked->next;
    return picked && picked->is_open && !picked->is_orphan ? picked : NULL;
}

/* How many of what comes so often a second have come since the last time. */
static unsigned host_due(faulty_host *host, double rate, cueball_time passed)
{
    double expected = fmin(rate * (double)passed / 1e9, 3);
    unsigned whole = (unsigned)expected;
    return whole + (chance_is(&host->chance, expected - whole) ? 1 : 0);
}

static void host_break(faulty_host *host, cueball_pool *core, cueball_time now)
{
    faulty_conn *conn = host_pick(host);
    if (conn && conn->far >= 0)
        faulty_conn_hang_up(conn);
    else if (conn)
        cueball_pool_conn_lost(core, now, conn->conn);
}

void faulty_host_misbehave(faulty_host *host, cueball_time now)
{
    const faulty_options *options = &host->options;
    cueball_time passed = now - host->last_faults;
    host->last_faults = now;
    if (atomic_load(&host->is_calm) || host->is_stopping)
        return;
    cueball_pool *core = cueball_threaded_lock(host->pool);
    for (unsigned n = host_due(host, options->breaks, passed); n > 0; n--)
        host_break(host, core, now);
    for (unsigned n = host_due(host, options->stray_bytes, passed); n > 0; n--) {
        faulty_conn *conn = host_pick(host);
        if (conn && conn->far >= 0)
            (void)!send(conn->far, "?", 1, MSG_NOSIGNAL);
    }
    for (unsigned n = host_due(host, options->backend_changes, passed); n > 0; n--)
        host_change_backends(host, core, now);
    for (unsigned n = host_due(host, options->option_changes, passed); n > 0; n--)
        host_change_options(host, core, now);
    for (unsigned n = host_due(host, options->own_claims, passed); n > 0; n--)
        host_claim(host, now);
    cueball_threaded_unlock(host->pool);
}

void faulty_host_give_back(faulty_host *host, cueball_time now)
{
    for (int i = 0; i < OWN_LEASES; i++) {
        struct own_lease *own = &host->own[i];
        if (own->lease == 0 || (own->until > now && !host->is_stopping))
            continue;
        cueball_pool *core = cueball_threaded_lock(host->pool);
        int result = cueball_pool_lease_released(core, now, own->lease);
        cueball_threaded_unlock(host->pool);
        MUST(result == CUEBALL_OK || result == CUEBALL_ESTALE, "own lease: %d", result);
        own->lease = 0;
    }
}
