/* A plan put into effect.  cueball_plan() says how many slots each backend
 * should have; here the surplus goes and the backends that lack some are noted.
 * New slots are made one by one as the ceiling allows, when a plan is made and
 * whenever a slot goes: that is O(1) a slot, without planning anew. */
#include "pool.h"

#define MEMORY_RETRY 1000000000 /* ns until what memory did not allow is tried again */

/* Forgets earlier decisions to drop slots of this backend. */
static void backend_reprieve(cueball__backend *backend)
{
    backend->have = backend->total;
    CUEBALL__LIST_EACH(link, following, &backend->slots)
    {
        cueball__slot *slot = CUEBALL__OWNER(link, cueball__slot, at_backend);
        slot->unwanted = 0;
        if (slot->on_return == CUEBALL_CAUSE_PLAN)
            slot->on_return = 0;
    }
}

/* Drops so many slots, those first whose loss is felt least, and of equals the
 * oldest. */
static void backend_shed(cueball_pool *pool, cueball__backend *backend, uint32_t surplus)
{
    static const cueball_slot_state in_order[] = { CUEBALL_SLOT_BACKOFF, CUEBALL_SLOT_CLOSING,  CUEBALL_SLOT_CONNECTING,
                                                   CUEBALL_SLOT_IDLE,    CUEBALL_SLOT_CHECKING, CUEBALL_SLOT_BUSY };
    for (size_t i = 0; i < sizeof in_order / sizeof *in_order && surplus > 0; i++) {
        CUEBALL__LIST_EACH(link, following, &backend->slots)
        {
            cueball__slot *slot = CUEBALL__OWNER(link, cueball__slot, at_backend);
            if (slot->state != in_order[i] || slot->unwanted)
                continue;
            slot->unwanted = 1;
            backend->have--;
            cueball__slot_drop(pool, slot, CUEBALL_CAUSE_PLAN);
            if (--surplus == 0)
                break;
        }
    }
    assert(surplus == 0);
}

/* Where there are fewer connections than backends, all of them may be monitors of
 * dead ones.  As long as a backend lives it is tried: the dead one that is
 * preferred least makes way for it, and has no monitor. */
static void plan_favour_living(cueball_plan_backend *plan, uint32_t count)
{
    uint32_t living = count, monitored = count;
    for (uint32_t i = 0; i < count; i++) {
        if (plan[i].dead) {
            monitored = plan[i].want ? i : monitored;
        } else if (plan[i].want) {
            return;
        } else if (living == count) {
            living = i;
        }
    }
    if (living < count && monitored < count) {
        plan[monitored].want = 0;
        plan[living].want = 1;
    }
}

void cueball__pool_plan(cueball_pool *pool)
{
    cueball_plan_backend *plan = pool->plan_room;
    pool->plan_is_due = false;
    pool->planned_at = pool->now;
    pool->counters.plans++;
    for (uint32_t i = 0; i < pool->known; i++) {
        const cueball__backend *backend = pool->preference[i];
        plan[i] = (cueball_plan_backend){ .weight = backend->weight, .dead = backend->dead };
    }
    if (pool->known)
        cueball_plan(plan, pool->known, pool->options.max_connections, pool->options.max_connections, false, pool->plan_scratch);
    plan_favour_living(plan, pool->known);
    uint32_t wanted = 0;
    for (uint32_t i = 0; i < pool->known; i++) {
        cueball__backend *backend = pool->preference[i];
        backend->want = plan[i].want;
        wanted += backend->want;
        backend_reprieve(backend);
        if (backend->have > backend->want)
            backend_shed(pool, backend, backend->have - backend->want);
        cueball__list_remove(&backend->wanting);
        if (backend->have < backend->want)
            cueball__list_append(&pool->wanting, &backend->wanting);
    }
    cueball__event_note(pool, CUEBALL_EVENT_PLANNED, NULL, wanted);
}

/* Makes slots where some are lacking, one backend after the other, as far as the
 * ceiling allows. */
void cueball__pool_fill(cueball_pool *pool)
{
    while (!cueball__list_is_empty(&pool->wanting) && pool->slots.count - pool->orphans < pool->options.max_connections) {
        cueball__backend *backend = CUEBALL__OWNER(pool->wanting.next, cueball__backend, wanting);
        if (!cueball__slot_add(pool, backend)) {
            cueball__event_note(pool, CUEBALL_EVENT_MEMORY_SHORT, NULL, 0);
            if (!cueball__timer_is_armed(&pool->rebalance))
                cueball__timers_arm(&pool->timers, &pool->rebalance, cueball__time_after(pool->now, MEMORY_RETRY));
            return;
        }
        cueball__list_remove(&backend->wanting);
        if (backend->have < backend->want)
            cueball__list_append(&pool->wanting, &backend->wanting);
    }
}
