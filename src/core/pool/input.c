/* The public facts.  Each takes the time and runs what is due, then does what it is
 * about, then settles (turn.h).  A report on what the pool gave up before is stale and
 * changes nothing. */
#include "state.h"

#include "action.h"
#include "backend.h"
#include "conn.h"
#include "demand.h"
#include "event.h"
#include "idle.h"
#include "lease.h"
#include "life.h"
#include "meet.h"
#include "slot.h"
#include "turn.h"

#define RENEW_MS_MAX 86400000.0

/* ---------------------------------------------------------------- backends -- */

#define IN_ONE_GO 1000000 /* ns: what a resolver says without a pause comes closer together */

/* Begins what a resolver says.  What it said just before is planned for together with
 * it, also by a clock that goes on meanwhile. */
static void change_begin(cueball_pool *pool, cueball_time now)
{
    bool goes_on = pool->hurries && now < cueball__time_after(pool->hurried_at, IN_ONE_GO);
    if (goes_on)
        pool->hurries = false;
    cueball__turn_begin(pool, now);
    pool->hurries |= goes_on;
}

int cueball_pool_backend_added(cueball_pool *pool, cueball_time now, const cueball_backend_spec *given)
{
    cueball_backend_spec spec;
    if (!cueball__spec_read(&spec, given))
        return CUEBALL_EINVAL;
    change_begin(pool, now);
    int result = cueball__backend_add(pool, &spec);
    if (result == CUEBALL_OK)
        cueball__backends_changed(pool);
    return cueball__turn_end(pool, result);
}

int cueball_pool_backend_removed(cueball_pool *pool, cueball_time now, const char *key)
{
    change_begin(pool, now);
    cueball__backend *backend = key ? cueball__backend_by_key(pool, key) : NULL;
    if (backend) {
        cueball__backend_remove(pool, backend);
        cueball__backends_changed(pool);
    }
    return cueball__turn_end(pool, backend ? CUEBALL_OK : CUEBALL_ENOT_FOUND);
}

int cueball_pool_backends_replaced(cueball_pool *pool, cueball_time now, const cueball_backend_spec *specs, size_t count)
{
    if (!cueball__specs_are_fit(specs, count))
        return CUEBALL_EINVAL;
    change_begin(pool, now);
    return cueball__turn_end(pool, cueball__backends_replace(pool, specs, count));
}

int cueball_pool_resolver_failed(cueball_pool *pool, cueball_time now)
{
    change_begin(pool, now);
    if (!pool->resolver_has_failed)
        cueball__event_note(pool, CUEBALL_EVENT_RESOLVER_FAILED, NULL, 0);
    pool->resolver_has_failed = pool->is_unsettled = true;
    return cueball__turn_end(pool, CUEBALL_OK);
}

int cueball_pool_resolver_recovered(cueball_pool *pool, cueball_time now)
{
    change_begin(pool, now);
    if (pool->resolver_has_failed)
        cueball__event_note(pool, CUEBALL_EVENT_RESOLVER_RECOVERED, NULL, 0);
    pool->resolver_has_failed = false;
    pool->is_unsettled = true;
    return cueball__turn_end(pool, CUEBALL_OK);
}

int cueball_pool_renew(cueball_pool *pool, cueball_time now, const char *key, double over_ms)
{
    if (!(over_ms >= 0 && over_ms <= RENEW_MS_MAX))
        return CUEBALL_EINVAL;
    cueball__turn_begin(pool, now);
    cueball__backend *backend = key ? cueball__backend_by_key(pool, key) : NULL;
    cueball_time span = cueball__ns_from_ms(over_ms);
    if (backend)
        cueball__backend_renew(pool, backend, span, 0);
    for (uint32_t i = 0; i < pool->known && !key; i++)
        cueball__backend_renew(pool, pool->preference[i], span, (double)i / pool->known);
    return cueball__turn_end(pool, key && !backend ? CUEBALL_ENOT_FOUND : CUEBALL_OK);
}

/* ------------------------------------------------------- claims and leases -- */

static CUEBALL__ASIDE int claim_in_full(cueball_pool *pool, cueball_time now, const cueball_claim_options *options, cueball_grant *grant)
{
    cueball__turn_begin(pool, now);
    return cueball__turn_end(pool, cueball__claim_meet(pool, options, grant));
}

/* Whether a claim gets the connection that is next, without ado. */
static bool claim_is_plain(const cueball_pool *pool)
{
    return cueball__idle_count(&pool->idle) > pool->idle_plain && !pool->idle.holes;
}

/* Most claims go this short way, which does the same as claim_in_full(). */
int cueball_pool_claim(cueball_pool *pool, cueball_time now, const cueball_claim_options *options, cueball_grant *grant)
{
    CUEBALL__TRACE2(claim, pool, pool->outlook.waiting);
    if (!cueball__pool_is_calm(pool, now) || !claim_is_plain(pool))
        return claim_in_full(pool, now, options, grant);
    pool->now = now;
    pool->counters.granted_at_once++;
    cueball__slot *slot = cueball__idle_take(&pool->idle, pool->options.balance == CUEBALL_BALANCE_LIFO);
    cueball__slot_lend(slot, now);
    if (options && options->owner)
        cueball__lease_own(slot, options->owner);
    cueball__grant_tell(slot, grant);
    CUEBALL__TRACE4(grant, pool, slot->member.index, slot->lease, 0);
    CUEBALL__VERIFY(pool);
    return CUEBALL_OK;
}

int cueball_pool_claim_cancelled(cueball_pool *pool, cueball_time now, cueball_handle handle)
{
    cueball__turn_begin(pool, now);
    cueball__claim *claim = cueball__table_find(&pool->claims, handle);
    bool is_ours = claim && claim->state != 0; /* 0: an invented handle, of a claim to come */
    if (is_ours)
        cueball__claim_give_up(pool, claim);
    return cueball__turn_end(pool, is_ours ? CUEBALL_OK : CUEBALL_ESTALE);
}

uint64_t cueball_pool_claim_user(const cueball_pool *pool, cueball_handle handle)
{
    const cueball__claim *claim = cueball__table_find(&pool->claims, handle);
    assert(!claim || claim->state != 0);
    return claim && claim->state == CLAIM_WAITING ? claim->user : 0;
}

cueball_time cueball_pool_claim_deadline(const cueball_pool *pool, cueball_handle handle)
{
    const cueball__claim *claim = cueball__table_find(&pool->claims, handle);
    bool waits = claim && claim->state == CLAIM_WAITING;
    assert(!waits || pool->outlook.waiting > 0);
    return !waits ? 0 : cueball__timer_is_armed(&claim->timer) ? claim->timer.deadline : CUEBALL_NEVER;
}

/* The slot that `lease` is on, if it still is, and if its claimer was told. */
static cueball__slot *slot_by_lease(const cueball_pool *pool, cueball_handle lease)
{
    uint32_t index = cueball__handle_index(lease);
    if (index >= pool->slots.made)
        return NULL;
    cueball__slot *slot = cueball__table_at(&pool->slots, index);
    return slot->state == CUEBALL_SLOT_BUSY && !slot->untold && slot->lease == lease ? slot : NULL;
}

static int lease_end(cueball_pool *pool, cueball_time now, cueball_handle lease, cueball_cause cause, uint64_t *counter)
{
    cueball__turn_begin(pool, now);
    cueball__slot *slot = slot_by_lease(pool, lease);
    if (slot) {
        if (counter)
            ++*counter;
        cueball__lease_return(pool, slot, cause);
    }
    return cueball__turn_end(pool, slot ? CUEBALL_OK : CUEBALL_ESTALE);
}

static CUEBALL__ASIDE int release_in_full(cueball_pool *pool, cueball_time now, cueball_handle lease)
{
    return lease_end(pool, now, lease, CUEBALL_CAUSE_RELEASE, NULL);
}

/* Whether the connection has just to be put to rest.  It need not be closed (of
 * its lifetime its timer would have told), and its timer runs. */
static bool release_is_plain(const cueball_pool *pool, const cueball__slot *slot)
{
    return !slot->on_return && !slot->untimed && !slot->unproven && !slot->suspect && !pool->idle.holes;
}

/* Most releases go this short way, which does the same as release_in_full(). */
int cueball_pool_lease_released(cueball_pool *pool, cueball_time now, cueball_handle lease)
{
    cueball__slot *slot = slot_by_lease(pool, lease);
    if (!slot || !cueball__pool_is_calm(pool, now) || !release_is_plain(pool, slot))
        return release_in_full(pool, now, lease);
    assert(now < slot->retire_at);
    pool->now = now;
    cueball__histogram_add(&pool->lease_histogram, now - slot->state_since);
    pool->lease_sum += now - slot->state_since;
    CUEBALL__TRACE5(release, pool, slot->member.index, lease, CUEBALL_CAUSE_RELEASE, now - slot->state_since);
    if (slot->owned)
        cueball__lease_disown(slot);
    slot->state = CUEBALL_SLOT_IDLE;
    slot->state_since = slot->used_at = now;
    cueball__idle_push(&pool->idle, slot);
    CUEBALL__VERIFY(pool);
    return CUEBALL_OK;
}

int cueball_pool_lease_closed(cueball_pool *pool, cueball_time now, cueball_handle lease)
{
    return lease_end(pool, now, lease, CUEBALL_CAUSE_CLOSE, &pool->counters.leases_closed);
}

int cueball_pool_lease_failed(cueball_pool *pool, cueball_time now, cueball_handle lease)
{
    return lease_end(pool, now, lease, CUEBALL_CAUSE_FAIL, &pool->counters.leases_failed);
}

int cueball_pool_lease_revoked(cueball_pool *pool, cueball_time now, cueball_handle lease)
{
    return lease_end(pool, now, lease, CUEBALL_CAUSE_OWNER, &pool->counters.leases_revoked);
}

int cueball_pool_lease_killed(cueball_pool *pool, cueball_time now, cueball_handle lease)
{
    return lease_end(pool, now, lease, CUEBALL_CAUSE_KILLED, &pool->counters.leases_revoked);
}

/* What would have to be told of each lease by itself. */
#define EACH_LEASE (1u << CUEBALL_EVENT_CLAIM_GRANTED | 1u << CUEBALL_EVENT_LEASE_ENDED | 1u << CUEBALL_EVENT_SLOT_STATE)

uint32_t cueball_pool_lease_repeats_max(const cueball_pool *pool, cueball_time now, cueball_handle lease)
{
    const cueball__slot *slot = slot_by_lease(pool, lease);
    if (!slot || slot->on_return || slot->backend->removed || now >= slot->retire_at || slot->went != WENT_UNTOLD)
        return 0;
    if (pool->is_set || pool->is_paused || cueball__pool_is_over(pool) || pool->watched & EACH_LEASE)
        return 0;
    if (slot->owner && !cueball__list_is_empty(&pool->owners_gone)) /* it may be one of those */
        return 0;
    assert(slot->state == CUEBALL_SLOT_BUSY);
    return cueball__lease_uses_left(pool, slot);
}

int cueball_pool_lease_repeated(cueball_pool *pool, cueball_time now, cueball_handle *lease, cueball_time began, const uint32_t *spans,
                                uint32_t count)
{
    cueball__turn_begin(pool, now);
    cueball__slot *slot = slot_by_lease(pool, *lease);
    if (!slot)
        return cueball__turn_end(pool, CUEBALL_ESTALE);
    if (count > cueball__lease_uses_left(pool, slot))
        return cueball__turn_end(pool, CUEBALL_EINVAL);
    cueball__lease_repeat(pool, slot, began, spans, count);
    *lease = slot->lease;
    return cueball__turn_end(pool, CUEBALL_OK);
}

int cueball_pool_lease_reported(cueball_pool *pool, cueball_time now, cueball_handle lease, bool went_well)
{
    cueball__turn_begin(pool, now);
    cueball__slot *slot = slot_by_lease(pool, lease);
    if (slot) {
        slot->went = went_well ? WENT_WELL : WENT_BADLY;
        slot->untimed = 1; /* its release takes the long way */
    }
    return cueball__turn_end(pool, slot ? CUEBALL_OK : CUEBALL_ESTALE);
}

/* ------------------------------------------------------------- connections -- */

/* The slot whose present connection, or attempt, is `conn`; NULL if it is none's. */
static cueball__slot *slot_by_conn(const cueball_pool *pool, cueball_handle conn)
{
    uint32_t index = cueball__handle_index(conn);
    if (index >= pool->slots.made)
        return NULL;
    cueball__slot *slot = cueball__table_at(&pool->slots, index);
    return slot->state != CUEBALL_SLOT_FREE && slot->conn == conn ? slot : NULL;
}

int cueball_pool_conn_info(const cueball_pool *pool, cueball_handle conn, cueball_conn_info *info)
{
    const cueball__slot *slot = slot_by_conn(pool, conn);
    if (!slot || slot->state == CUEBALL_SLOT_BACKOFF)
        return CUEBALL_ESTALE;
    info->state = slot->state;
    info->slot = slot->member.index;
    info->backend = cueball__member_handle(&slot->backend->member);
    assert(info->backend != 0);
    return CUEBALL_OK;
}

/* Takes the time.  Who reports may be late, because its loop stood still; what it
 * reports happened all the same, so the limit of what waits for it does not run
 * out before it is heard.  The slot, or NULL. */
static cueball__slot *slot_begin(cueball_pool *pool, cueball_time now, cueball_handle conn)
{
    cueball__slot *slot = slot_by_conn(pool, conn);
    bool is_awaited =
        slot && (slot->state == CUEBALL_SLOT_CONNECTING || slot->state == CUEBALL_SLOT_CHECKING || slot->state == CUEBALL_SLOT_CLOSING);
    cueball_time limit = CUEBALL_NEVER;
    if (is_awaited && cueball__timer_is_armed(&slot->timer) && slot->timer.deadline < now) {
        limit = slot->timer.deadline;
        cueball__timers_cancel(&pool->timers, &slot->timer);
    }
    cueball__turn_begin(pool, now);
    slot = slot_by_conn(pool, conn);
    if (slot && limit != CUEBALL_NEVER && !cueball__timer_is_armed(&slot->timer))
        cueball__timers_arm(&pool->timers, &slot->timer, limit);
    return slot;
}

int cueball_pool_conn_opened(cueball_pool *pool, cueball_time now, cueball_handle conn)
{
    cueball__slot *slot = slot_begin(pool, now, conn);
    if (!slot || slot->state != CUEBALL_SLOT_CONNECTING || slot->chores & CUEBALL__CHORE_OPEN) {
        return cueball__turn_end(pool, CUEBALL_ESTALE);
    }
    cueball__timers_cancel(&pool->timers, &slot->timer);
    pool->counters.opened++;
    slot->has_opened = 1;
    slot->opened_at = slot->used_at = pool->now;
    slot->spread = (float)(2 * cueball__random_unit(&pool->random) - 1);
    slot->leases_before = cueball__handle_generation(slot->lease);
    cueball__slot_limit_life(pool, slot);
    slot->unproven = 1;
    slot->backend->connected++;
    slot->backend->unproven++;
    cueball_time took = pool->now - slot->state_since;
    cueball__histogram_add(&pool->create_histogram, took);
    CUEBALL__TRACE4(opened, pool, slot->member.index, slot->backend->key, took);
    bool is_probe = slot->backend->dead;
    if (!is_probe)
        cueball__pool_connected(pool);
    cueball__slot_offer(pool, slot, CUEBALL_CAUSE_OPENED);
    cueball__demand_connected(pool, took);
    if (pool->is_set && !is_probe)
        cueball__set_has_another(pool);
    return cueball__turn_end(pool, CUEBALL_OK);
}

int cueball_pool_conn_failed(cueball_pool *pool, cueball_time now, cueball_handle conn)
{
    cueball__turn_begin(pool, now);
    cueball__slot *slot = slot_by_conn(pool, conn);
    bool is_ours = slot && slot->state == CUEBALL_SLOT_CONNECTING && !(slot->chores & CUEBALL__CHORE_OPEN);
    if (is_ours) {
        pool->counters.open_failures++;
        slot->conn = cueball__handle_next(slot->conn);
        cueball__slot_retry(pool, slot, 0, CUEBALL_CAUSE_FAILED, CUEBALL_CAUSE_FAILED);
    }
    return cueball__turn_end(pool, is_ours ? CUEBALL_OK : CUEBALL_ESTALE);
}

int cueball_pool_conn_checked(cueball_pool *pool, cueball_time now, cueball_handle conn, bool is_fit)
{
    cueball__slot *slot = slot_begin(pool, now, conn);
    bool is_ours = slot && slot->state == CUEBALL_SLOT_CHECKING && !(slot->chores & CUEBALL__CHORE_CHECK) && !slot->doubted;
    if (is_ours && is_fit) {
        cueball__timers_cancel(&pool->timers, &slot->timer);
        cueball__slot_checked(pool, slot);
        if (pool->options.has_check) /* else the check asked nothing */
            cueball__slot_prove(pool, slot, CUEBALL_CAUSE_CHECK);
        if (slot->unwanted)
            cueball__slot_close(pool, slot, CUEBALL_CAUSE_PLAN);
        else
            cueball__slot_offer(pool, slot, CUEBALL_CAUSE_CHECK);
    } else if (is_ours) {
        pool->counters.checks_failed++;
        cueball__slot_blame(pool, slot, CUEBALL_CAUSE_UNFIT);
    }
    return cueball__turn_end(pool, is_ours ? CUEBALL_OK : CUEBALL_ESTALE);
}

int cueball_pool_conn_lost(cueball_pool *pool, cueball_time now, cueball_handle conn)
{
    cueball__turn_begin(pool, now);
    cueball__slot *slot = slot_by_conn(pool, conn);
    bool is_ours = slot && cueball__slot_is_connected(slot) && slot->on_return != CUEBALL_CAUSE_LOST;
    if (is_ours) {
        if (slot->state == CUEBALL_SLOT_BUSY)
            cueball__slot_want_back(pool, slot, CUEBALL_CAUSE_LOST);
        else
            cueball__slot_lose(pool, slot);
    }
    return cueball__turn_end(pool, is_ours ? CUEBALL_OK : CUEBALL_ESTALE);
}

int cueball_pool_conn_unfit(cueball_pool *pool, cueball_time now, cueball_handle conn, int cause)
{
    if (cause != CUEBALL_CAUSE_UNFIT && cause != CUEBALL_CAUSE_WORN && cause != CUEBALL_CAUSE_TIMEOUT)
        return CUEBALL_EINVAL;
    cueball__turn_begin(pool, now);
    cueball__slot *slot = slot_by_conn(pool, conn);
    bool is_ours = slot && cueball__slot_is_connected(slot) && slot->on_return != CUEBALL_CAUSE_LOST;
    if (is_ours && slot->state == CUEBALL_SLOT_BUSY) {
        cueball__slot_want_back(pool, slot, (cueball_cause)cause);
    } else if (is_ours) {
        if (cause == CUEBALL_CAUSE_WORN)
            cueball__slot_prove(pool, slot, CUEBALL_CAUSE_WORN);
        cueball__slot_close(pool, slot, (cueball_cause)cause);
    }
    return cueball__turn_end(pool, is_ours ? CUEBALL_OK : CUEBALL_ESTALE);
}

int cueball_pool_conn_closed(cueball_pool *pool, cueball_time now, cueball_handle conn)
{
    cueball__slot *slot = slot_begin(pool, now, conn);
    bool is_ours = slot && slot->state == CUEBALL_SLOT_CLOSING && !(slot->chores & CUEBALL__CHORE_CLOSE);
    if (is_ours) {
        cueball__timers_cancel(&pool->timers, &slot->timer);
        cueball__slot_closed(pool, slot, CUEBALL_CAUSE_CLOSED);
    }
    return cueball__turn_end(pool, is_ours ? CUEBALL_OK : CUEBALL_ESTALE);
}

/* ----------------------------------------------------------------- driving -- */

bool cueball_pool_next_answer(cueball_pool *pool, cueball_action *action)
{
    bool is_there = cueball__answer_next(pool, action);
    CUEBALL__VERIFY(pool);
    return is_there;
}

bool cueball_pool_next_chore(cueball_pool *pool, cueball_action *action)
{
    bool is_there = cueball__chore_next(pool, action);
    CUEBALL__VERIFY(pool);
    return is_there;
}

bool cueball_pool_next_action(cueball_pool *pool, cueball_action *action)
{
    return cueball_pool_next_answer(pool, action) || cueball_pool_next_chore(pool, action);
}

cueball_time cueball_pool_deadline(cueball_pool *pool)
{
    if (!cueball__list_is_empty(&pool->owners_gone))
        return 0;
    cueball_time deadline = cueball__timers_deadline(&pool->timers);
    pool->outlook.deadline = pool->hurries && pool->now < deadline ? pool->now : deadline;
    cueball__pool_calm(pool);
    return pool->outlook.deadline;
}

int cueball_pool_time_advanced(cueball_pool *pool, cueball_time now)
{
    if (pool->hurries)
        cueball__pool_hurry(pool);
    cueball__turn_begin(pool, now);
    CUEBALL__VERIFY(pool);
    return CUEBALL_OK;
}
