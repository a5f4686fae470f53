/* What people in charge ask for: that claims wait, that a backend has no connections, that
 * one is tried again. */
#include "arrange.h"
#include "backend.h"
#include "claim.h"
#include "demand.h"
#include "event.h"
#include "life.h"
#include "meet.h"
#include "outlier.h"
#include "probe.h"
#include "slot.h"
#include "turn.h"

/* ------------------------------------------------------------------- pause -- */

/* The happy path: claims wait, leases come back, somebody does what cannot be done while
 * connections are used, and claims are served again.
 *
 * What can go wrong is that the pool takes the pause for something that it is not:
 * - for overload: it is over, and does not begin, while the pause lasts (claim.c);
 * - for too few connections, or for too many: the demand is taken for what it was (demand.c);
 * - for a failure: what was paused for may have all backends die.  Those who wait are not
 *   refused for that, but only when all was tried again after the pause. */
int cueball_pool_paused(cueball_pool *pool, cueball_time now)
{
    if (pool->is_set)
        return CUEBALL_EINVAL;
    cueball__turn_begin(pool, now);
    if (cueball__pool_is_over(pool))
        return cueball__turn_end(pool, CUEBALL_EPOOL_STOPPING);
    if (!pool->is_paused) {
        pool->is_paused = true;
        pool->paused_since = pool->now;
        cueball__queue_relieve(pool);
        cueball__demand_paused(pool);
        cueball__event_note(pool, CUEBALL_EVENT_PAUSED, NULL, pool->outlook.waiting);
    }
    return cueball__turn_end(pool, CUEBALL_OK);
}

static void backend_retry(cueball_pool *pool, cueball__backend *backend)
{
    assert(!backend->removed);
    if (backend->dead && !backend->asked) {
        backend->asked = true;
        pool->asked++;
    }
    for (cueball__link *link = backend->slots.next; link != &backend->slots; link = link->next) {
        cueball__slot *slot = CUEBALL__OWNER(link, cueball__slot, at_backend);
        if (slot->state != CUEBALL_SLOT_BACKOFF)
            continue;
        cueball__timers_cancel(&pool->timers, &slot->timer);
        cueball__slot_open(pool, slot, CUEBALL_CAUSE_DELAY);
    }
    if (backend->dead && backend->total == 0 && !cueball__link_is_linked(&backend->probe)) {
        cueball__timers_cancel(&pool->timers, &backend->back);
        backend->probe_at = pool->now;
        cueball__probe_due(pool, backend);
    }
    pool->is_unsettled = true;
    assert(pool->asked <= pool->dead);
}

static void pool_resume(cueball_pool *pool)
{
    assert(pool->is_paused);
    pool->is_paused = false;
    pool->resumed_at = pool->now;
    assert(pool->paused_since <= pool->resumed_at);
    cueball__event_note(pool, CUEBALL_EVENT_RESUMED, NULL, pool->outlook.waiting);
    cueball__claims_serve(pool);
    cueball__claims_bound(pool);
    cueball__demand_resumed(pool);
    for (uint32_t i = 0; i < pool->known && pool->state == CUEBALL_POOL_FAILED; i++)
        if (pool->preference[i]->dead)
            backend_retry(pool, pool->preference[i]);
    pool->is_unsettled = true;
}

int cueball_pool_resumed(cueball_pool *pool, cueball_time now)
{
    cueball__turn_begin(pool, now);
    if (cueball__pool_is_over(pool))
        return cueball__turn_end(pool, CUEBALL_EPOOL_STOPPING);
    if (pool->is_paused)
        pool_resume(pool);
    return cueball__turn_end(pool, CUEBALL_OK);
}

cueball_time cueball_pool_paused_since(const cueball_pool *pool)
{
    assert(!pool->is_paused || pool->paused_since <= pool->now);
    return pool->is_paused ? pool->paused_since : CUEBALL_NEVER;
}

/* ---------------------------------------------------------------- backends -- */

static void backend_drain(cueball_pool *pool, cueball__backend *backend)
{
    assert(!backend->drained);
    assert(!backend->removed);
    uint32_t leased = 0;
    for (const cueball__link *link = backend->slots.next; link != &backend->slots; link = link->next)
        leased += CUEBALL__OWNER(link, cueball__slot, at_backend)->state == CUEBALL_SLOT_BUSY;
    cueball__outlier_forgive(pool, backend);
    cueball__outlier_returns(pool, backend);
    if (backend->dead)
        cueball__backend_excused(pool, backend);
    backend->takes = 0;
    backend->drained = true;
    cueball__backend_noted(pool, backend);
    pool->drained++;
    cueball__event_note(pool, CUEBALL_EVENT_BACKEND_DRAINED, backend, leased);
    cueball__backend_empty(pool, backend);
    pool->plan_is_due = pool->is_unsettled = true;
    assert(pool->drained <= pool->known);
    assert(backend->connected == leased || pool->is_set);
}

/* With slow_start_ms it gets its share in steps, as a backend that was dead and lives. */
static void backend_restore(cueball_pool *pool, cueball__backend *backend)
{
    assert(backend->drained);
    assert(pool->drained > 0);
    backend->drained = false;
    cueball__backend_noted(pool, backend);
    backend->revived_at = pool->now;
    pool->drained--;
    cueball__event_note(pool, CUEBALL_EVENT_BACKEND_RESTORED, backend, 0);
    pool->plan_is_due = pool->is_unsettled = true;
}

int cueball_pool_backend_drained(cueball_pool *pool, cueball_time now, const char *key)
{
    cueball__turn_begin(pool, now);
    cueball__backend *backend = key ? cueball__backend_by_key(pool, key) : NULL;
    if (backend && !backend->drained && !cueball__pool_is_over(pool))
        backend_drain(pool, backend);
    return cueball__turn_end(pool, backend ? CUEBALL_OK : CUEBALL_ENOT_FOUND);
}

int cueball_pool_backend_restored(cueball_pool *pool, cueball_time now, const char *key)
{
    cueball__turn_begin(pool, now);
    cueball__backend *backend = key ? cueball__backend_by_key(pool, key) : NULL;
    if (backend && backend->drained && !cueball__pool_is_over(pool))
        backend_restore(pool, backend);
    return cueball__turn_end(pool, backend ? CUEBALL_OK : CUEBALL_ENOT_FOUND);
}

int cueball_pool_backend_retried(cueball_pool *pool, cueball_time now, const char *key)
{
    cueball__turn_begin(pool, now);
    cueball__backend *backend = key ? cueball__backend_by_key(pool, key) : NULL;
    if (backend && !cueball__pool_is_over(pool))
        backend_retry(pool, backend);
    for (uint32_t i = 0; i < pool->known && !key && !cueball__pool_is_over(pool); i++)
        if (pool->preference[i]->dead)
            backend_retry(pool, pool->preference[i]);
    return cueball__turn_end(pool, key && !backend ? CUEBALL_ENOT_FOUND : CUEBALL_OK);
}
