/* A plan put into effect.  cueball_plan() says how many slots each backend
 * should have; here the surplus goes and the backends that lack some are noted.
 * New slots are made one by one as the ceiling allows, when a plan is made and
 * whenever a slot goes: that is O(1) a slot, without planning anew. */
#include "arrange.h"

#include "action.h"
#include "churn.h"
#include "demand.h"
#include "event.h"
#include "life.h"
#include "preference.h"
#include "priority.h"
#include "probe.h"
#include "slot.h"
#include "slow_start.h"

#include <string.h>

#define MEMORY_RETRY 1000000000 /* ns until what memory did not allow is tried again */

/* Forgets earlier decisions to drop slots of this backend. */
static void backend_reprieve(cueball_pool *pool, cueball__backend *backend)
{
    backend->have = backend->total;
    CUEBALL__LIST_EACH(link, following, &backend->slots)
    {
        cueball__slot *slot = CUEBALL__OWNER(link, cueball__slot, at_backend);
        slot->unwanted = 0;
        if (slot->on_return != CUEBALL_CAUSE_PLAN && slot->on_return != CUEBALL_CAUSE_DRAIN)
            continue;
        /* What was asked back already comes back, and is opened anew then. */
        if (cueball__chore_drop(pool, slot, CUEBALL__CHORE_RECALL) || !pool->is_set)
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
            if (slot->state != in_order[i] || slot->unwanted || cueball__slot_is_last(pool, slot))
                continue;
            if (!cueball__backend_may_change(pool, backend))
                return;
            cueball__backend_has_changed(pool, backend);
            slot->unwanted = 1;
            backend->have--;
            cueball__slot_drop(pool, slot, CUEBALL_CAUSE_PLAN);
            if (--surplus == 0)
                break;
        }
    }
    assert(surplus == 0 || pool->is_set);
}

/* Drops all slots of a drained backend, whatever max_churn_rate is: nothing of it is to
 * be lent.  A set's last connection stays until another is open, and then comes by here
 * again. */
void cueball__backend_empty(cueball_pool *pool, cueball__backend *backend)
{
    assert(backend->drained);
    assert(!backend->dead);
    backend->want = 0;
    cueball__list_remove(&backend->wanting);
    CUEBALL__LIST_EACH(link, following, &backend->slots)
    {
        cueball__slot *slot = CUEBALL__OWNER(link, cueball__slot, at_backend);
        if (slot->unwanted || cueball__slot_is_last(pool, slot))
            continue;
        slot->unwanted = 1;
        backend->have--;
        cueball__slot_drop(pool, slot, CUEBALL_CAUSE_DRAIN);
    }
    assert(!cueball__link_is_linked(&backend->wanting));
}

/* Where there are fewer connections than backends, all of them may be probes of
 * dead ones.  As long as a backend lives it is tried: the dead one that is
 * preferred least makes way for it, and has no probe. */
static void plan_favour_living(cueball_plan_backend *plan, uint32_t count)
{
    uint32_t living = count, probed = count;
    for (uint32_t i = 0; i < count; i++) {
        if (plan[i].dead) {
            probed = plan[i].want ? i : probed;
        } else if (plan[i].want) {
            return;
        } else if (living == count) {
            living = i;
        }
    }
    if (living < count && probed < count) {
        plan[probed].want = 0;
        plan[living].want = 1;
    }
}

/* Leaves backends alone while better ones live.  Nobody tries them meanwhile, so
 * that one was dead is forgotten: when it is needed it is tried like a new one. */
static void pool_put_aside(cueball_pool *pool)
{
    uint32_t priority = cueball__priority_used(pool);
    uint32_t aside = 0;
    for (uint32_t i = 0; i < pool->known; i++) {
        cueball__backend *backend = pool->preference[i];
        backend->standby = backend->priority > priority;
        aside += backend->standby;
        if (backend->standby && backend->dead)
            cueball__backend_excused(pool, backend);
        cueball__backend_noted(pool, backend);
    }
    bool differs = aside ? pool->standby == 0 || pool->priority != priority : pool->standby > 0;
    pool->standby = aside;
    pool->priority = priority;
    if (differs)
        cueball__event_note(pool, CUEBALL_EVENT_PRIORITY, NULL, priority);
}

/* Whether the planner is to know the backend.  Of dead ones it knows as many as may
 * be probed, those first that are; where that is not all, a dead backend without a
 * slot gets one when its time comes, see probe.c. */
static bool backend_is_planned(const cueball_pool *pool, const cueball__backend *backend, uint32_t *probes)
{
    if (backend->ejected || backend->standby || backend->drained)
        return false;
    if (!backend->dead)
        return true;
    if (backend->total == 0 && pool->dead > pool->probes_max)
        return false;
    return (*probes)++ < pool->probes_max;
}

/* What the planner is to know, in order of preference; how many dead ones are among
 * it comes out in `probes`. */
static uint32_t plan_prepare(cueball_pool *pool, cueball_plan_backend *plan, uint32_t *probes)
{
    uint32_t count = 0;
    bool is_slow = false;
    *probes = 0;
    for (uint32_t i = 0; i < pool->known; i++) {
        cueball__backend *backend = pool->preference[i];
        backend->is_planned = backend_is_planned(pool, backend, probes);
        if (!backend->is_planned)
            continue;
        uint32_t share = cueball__slow_start_share(pool, backend);
        is_slow |= share < CUEBALL__SLOW_STEPS;
        plan[count++] = (cueball_plan_backend){ .weight = backend->weight * share,
                                                .most = backend->takes ? backend->takes + backend->surplus : 0,
                                                .dead = backend->dead };
    }
    *probes = *probes < pool->probes_max ? *probes : pool->probes_max;
    for (uint32_t i = 0; i < count && !is_slow; i++)
        plan[i].weight /= CUEBALL__SLOW_STEPS;
    return count;
}

/* Deals so many slots.  Dead backends that got none (their weight comes to less than
 * one slot) are tried when their time comes: slots are left for that. */
static void plan_deal(const cueball_pool *pool, cueball_plan_backend *plan, uint32_t count, uint32_t room)
{
    uint32_t target = pool->planned_target < room ? pool->planned_target : room;
    cueball_plan(plan, count, target, room, pool->is_set, pool->plan_scratch);
    uint32_t wanted = 0, left_out = 0;
    bool has_living = false;
    for (uint32_t i = 0; i < count; i++) {
        has_living |= !plan[i].dead;
        left_out += plan[i].dead && plan[i].want == 0;
        wanted += plan[i].want;
    }
    if (!has_living || left_out == 0 || left_out >= room || wanted + left_out <= room)
        return;
    room -= left_out;
    cueball_plan(plan, count, target < room ? target : room, room, pool->is_set, pool->plan_scratch);
}

/* Probes that are there stay, though the target is less than there are backends. */
static void plan_keep_probes(const cueball_pool *pool, cueball_plan_backend *plan, uint32_t count, uint32_t room)
{
    uint32_t wanted = 0;
    for (uint32_t i = 0; i < count; i++)
        wanted += plan[i].want;
    for (uint32_t i = 0, planned = 0; planned < count && wanted < room; i++) {
        const cueball__backend *backend = pool->preference[i];
        if (!backend->is_planned)
            continue;
        if (backend->dead && backend->total > 0 && plan[planned].want == 0) {
            plan[planned].want = 1;
            wanted++;
        }
        planned++;
    }
}

/* What the plan has for the backend.  If it takes all of its share, what it took
 * before is of no interest any more. */
static void backend_take_share(cueball__backend *backend, const cueball_plan_backend *share)
{
    backend->want = share->want;
    if (backend->takes && !share->is_capped && share->want == backend->takes && backend->connected - backend->unproven >= backend->takes)
        backend->takes = 0;
}

void cueball__pool_plan(cueball_pool *pool)
{
    cueball_plan_backend *plan = pool->plan_room;
    uint32_t ceiling = pool->options.max_connections;
    pool->plan_is_due = pool->churn_holds = pool->hurries = false;
    pool->planned_at = pool->now;
    pool->counters.plans++;
    cueball__preference_planned(pool);
    uint32_t target_before = pool->planned_target;
    pool->planned_target = cueball__demand_target(pool);
    cueball__demand_planned(pool, target_before);
    pool->idle_low = pool->planned_target < ceiling && !pool->is_set ? pool->options.spares : 0;
    pool_put_aside(pool);
    pool->probes_max = cueball__probes_most(pool);
    uint32_t probes, count = plan_prepare(pool, plan, &probes);
    if (count) {
        /* Places for the probes that will be due. */
        uint32_t kept = pool->dead > probes ? pool->probes_max - probes : 0;
        uint32_t room = ceiling - kept > 0 ? ceiling - kept : 1;
        plan_deal(pool, plan, count, room);
        plan_favour_living(plan, count);
        plan_keep_probes(pool, plan, count, room);
    }
    uint32_t wanted = 0;
    for (uint32_t i = 0, planned = 0; i < pool->known; i++) {
        cueball__backend *backend = pool->preference[i];
        backend->want = 0;
        if (backend->is_planned)
            backend_take_share(backend, &plan[planned++]);
        wanted += backend->want;
        if (backend->drained) {
            cueball__backend_empty(pool, backend);
            continue;
        }
        backend_reprieve(pool, backend);
        if (backend->have > backend->want)
            backend_shed(pool, backend, backend->have - backend->want);
        cueball__list_remove(&backend->wanting);
        if (backend->have < backend->want)
            cueball__list_append(&pool->wanting, &backend->wanting);
    }
    CUEBALL__TRACE3(plan, pool, wanted, pool->slots.count);
    cueball__event_note(pool, CUEBALL_EVENT_PLANNED, NULL, wanted);
}

static bool pool_is_full(const cueball_pool *pool)
{
    return pool->slots.count - pool->orphans >= pool->options.max_connections + (uint32_t)pool->is_set;
}

/* Makes slots where some are lacking, one for each backend in turn, as far as
 * the ceiling and max_churn_rate allow. */
void cueball__pool_fill(cueball_pool *pool)
{
    bool goes_on = true;
    while (goes_on) {
        goes_on = false;
        CUEBALL__LIST_EACH(link, following, &pool->wanting)
        {
            cueball__backend *backend = CUEBALL__OWNER(link, cueball__backend, wanting);
            if (pool_is_full(pool))
                return;
            if (!cueball__backend_may_change(pool, backend))
                continue;
            if (!cueball__slot_add(pool, backend)) {
                cueball__event_note(pool, CUEBALL_EVENT_MEMORY_SHORT, NULL, 0);
                if (!cueball__timer_is_armed(&pool->rebalance))
                    cueball__timers_arm(&pool->timers, &pool->rebalance, cueball__time_after(pool->now, MEMORY_RETRY));
                return;
            }
            cueball__backend_has_changed(pool, backend);
            goes_on = true;
            cueball__list_remove(&backend->wanting);
            if (backend->have < backend->want)
                cueball__list_append(&pool->wanting, &backend->wanting);
        }
    }
}

/* Tries those that are due, as far as there are slots. */
void cueball__probes_begin(cueball_pool *pool)
{
    CUEBALL__LIST_EACH(link, following, &pool->probes_due)
    {
        if (pool->probed >= pool->probes_max || pool->slots.count - pool->orphans >= pool->options.max_connections)
            return;
        cueball__backend *backend = CUEBALL__OWNER(link, cueball__backend, probe);
        if (!cueball__backend_may_change(pool, backend))
            continue;
        if (!cueball__slot_add(pool, backend)) /* without memory: at the next occasion */
            return;
        cueball__backend_has_changed(pool, backend);
        backend->want = 1;
        cueball__list_remove(&backend->wanting);
    }
}
