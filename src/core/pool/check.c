/* Whether everything in a pool agrees with everything else.  Each rule is one
 * line; the first that does not hold is told with its numbers. */
#include "state.h"

#include "backend.h"

#include "kit/check.h"

static uint32_t list_length(const cueball__link *list)
{
    uint32_t length = 0;
    for (const cueball__link *link = list->next; link != list; link = link->next)
        length++;
    return length;
}

static bool list_is_sound(const cueball__link *list)
{
    for (const cueball__link *link = list->next; link != list; link = link->next)
        if (link->next->prev != link || link->prev->next != link)
            return false;
    return true;
}

static int slot_check(const cueball_pool *pool, const cueball__slot *slot, const disagreement *report)
{
    uint32_t index = slot->member.index;
    bool rests_in_doubt = slot->state == CUEBALL_SLOT_IDLE && cueball__slot_is_doubtful(slot);
    bool awaits_check = slot->state == CUEBALL_SLOT_CHECKING && slot->doubted;
    bool waits_for_time = slot->state == CUEBALL_SLOT_CONNECTING || slot->state == CUEBALL_SLOT_BACKOFF
                          || slot->state == CUEBALL_SLOT_CHECKING || slot->state == CUEBALL_SLOT_CLOSING;
    MUST(slot->state < CUEBALL__SLOT_STATES, "slot %u in state %u", index, slot->state);
    MUST((slot->chores != 0) == cueball__link_is_linked(&slot->chore), "slot %u has chores %u", index, slot->chores);
    if (slot->state == CUEBALL_SLOT_FREE) {
        MUST(!cueball__timer_is_armed(&slot->timer), "free slot %u", index);
        MUST(!cueball__link_is_linked(&slot->at_backend), "free slot %u", index);
        MUST(!(slot->chores & ~CUEBALL__CHORE_GIVE_UP), "free slot %u has chores %u", index, slot->chores);
        MUST(!slot->owner, "free slot %u", index);
        return CUEBALL_OK;
    }
    MUST(slot->backend && slot->backend->key, "slot %u", index);
    MUST(!waits_for_time || awaits_check || cueball__timer_is_armed(&slot->timer), "slot %u in state %u", index, slot->state);
    MUST(!(slot->chores & CUEBALL__CHORE_OPEN) || slot->state == CUEBALL_SLOT_CONNECTING, "slot %u in state %u", index, slot->state);
    MUST(!(slot->chores & CUEBALL__CHORE_CHECK) || slot->state == CUEBALL_SLOT_CHECKING, "slot %u in state %u", index, slot->state);
    MUST(!(slot->chores & CUEBALL__CHORE_RECALL) || (slot->state == CUEBALL_SLOT_BUSY && slot->on_return), "slot %u", index);
    MUST(!(slot->chores & CUEBALL__CHORE_CLOSE) || slot->state == CUEBALL_SLOT_CLOSING, "slot %u in state %u", index, slot->state);
    MUST(slot->state == CUEBALL_SLOT_BUSY || !slot->owner, "slot %u in state %u", index, slot->state);
    MUST(slot->state == CUEBALL_SLOT_BUSY || !slot->on_return, "slot %u in state %u", index, slot->state);
    MUST(slot->doubted == (rests_in_doubt || awaits_check), "slot %u in state %u", index, slot->state);
    bool is_indexed = slot->state == CUEBALL_SLOT_IDLE && !rests_in_doubt && pool->options.balance == CUEBALL_BALANCE_P2C;
    MUST((slot->owner != NULL || is_indexed || slot->doubted) == cueball__link_is_linked(&slot->at_state), "slot %u", index);
    MUST((slot->owner != NULL) == slot->owned, "slot %u", index);
    MUST(cueball__handle_index(slot->conn) == index && cueball__handle_index(slot->lease) == index, "slot %u", index);
    MUST(!slot->pauses || slot->state == CUEBALL_SLOT_CLOSING, "slot %u in state %u", index, slot->state);
    MUST(!(slot->backend->removed || slot->unwanted) || slot->state == CUEBALL_SLOT_BUSY || slot->state == CUEBALL_SLOT_CLOSING,
         "slot %u, which must go, in state %u", index, slot->state);
    MUST(!cueball__slot_is_connected(slot) || !slot->backend->dead || slot->unproven, "slot %u in state %u at a dead backend", index,
         slot->state);
    MUST(cueball__slot_is_connected(slot) || !(slot->unproven || slot->suspect || slot->doubted), "slot %u in state %u", index,
         slot->state);
    MUST(!slot->blame || slot->state == CUEBALL_SLOT_CLOSING, "slot %u in state %u", index, slot->state);
    if (slot->state == CUEBALL_SLOT_BUSY && !slot->untimed) {
        MUST(pool->now < slot->retire_at || pool->now >= pool->timers.earliest, "slot %u", index);
        MUST(cueball__timer_is_armed(&slot->timer) || slot->retire_at == CUEBALL_NEVER, "slot %u", index);
    }
    if (slot->state == CUEBALL_SLOT_IDLE && !rests_in_doubt) {
        MUST(slot->idle_at - pool->idle.head < pool->idle.tail - pool->idle.head, "slot %u at %u", index, slot->idle_at);
        MUST(pool->idle.ring[slot->idle_at & pool->idle.mask] == slot, "slot %u at %u", index, slot->idle_at);
    }
    return CUEBALL_OK;
}

static int slots_check(const cueball_pool *pool, const disagreement *report)
{
    uint32_t counts[CUEBALL__SLOT_STATES] = { 0 };
    uint32_t orphans = 0, doubtful = 0, checks = 0;
    for (uint32_t i = 0; i < pool->slots.made; i++) {
        const cueball__slot *slot = cueball__table_at(&pool->slots, i);
        if (slot_check(pool, slot, report) != CUEBALL_OK)
            return CUEBALL_EINVAL;
        counts[slot->state]++;
        doubtful += slot->state == CUEBALL_SLOT_IDLE && slot->doubted;
        checks += slot->state == CUEBALL_SLOT_CHECKING && !slot->doubted;
        orphans += slot->state != CUEBALL_SLOT_FREE && slot->orphan;
    }
    uint32_t rest = counts[CUEBALL_SLOT_IDLE], total = 0;
    uint32_t lendable = rest + counts[CUEBALL_SLOT_BUSY];
    counts[CUEBALL_SLOT_IDLE] = counts[CUEBALL_SLOT_BUSY] = counts[CUEBALL_SLOT_FREE] = 0;
    counts[CUEBALL__COUNT_LENDABLE] = lendable;
    for (unsigned state = 0; state < CUEBALL__SLOT_STATES; state++) {
        MUST(counts[state] == pool->counts[state], "%u slots in state %u, %u counted", counts[state], state, pool->counts[state]);
        total += counts[state];
    }
    MUST(total == pool->slots.count, "%u slots, %u counted", total, pool->slots.count);
    MUST(orphans == pool->orphans, "%u orphans, %u counted", orphans, pool->orphans);
    MUST(doubtful == pool->doubtful_count && doubtful == list_length(&pool->doubtful), "%u rest in doubt, %u counted", doubtful,
         pool->doubtful_count);
    MUST(checks == pool->checks_running, "%u checks, %u counted", checks, pool->checks_running);
    MUST(cueball__idle_count(&pool->idle) + doubtful == rest, "%u idle, %u in the idle order", rest, cueball__idle_count(&pool->idle));
    MUST((rest == doubtful) == cueball__idle_is_empty(&pool->idle), "%u idle", rest);
    MUST(pool->outlook.waiting == 0 || rest == 0 || pool->is_paused, "%u claims wait while %u connections rest", pool->outlook.waiting,
         rest);
    return CUEBALL_OK;
}

static int backend_check(const cueball_pool *pool, const cueball__backend *backend, const disagreement *report)
{
    uint32_t have = 0, total = 0, connected = 0, leased = 0, unproven = 0;
    uint64_t leased_sum = 0;
    MUST(list_is_sound(&backend->slots), "backend %s", backend->key);
    for (const cueball__link *link = backend->slots.next; link != &backend->slots; link = link->next) {
        const cueball__slot *slot = CUEBALL__OWNER(link, cueball__slot, at_backend);
        MUST(slot->backend == backend, "slot %u in the list of %s", slot->member.index, backend->key);
        MUST(slot->state != CUEBALL_SLOT_FREE, "slot %u in the list of %s", slot->member.index, backend->key);
        total++;
        have += !slot->unwanted;
        connected += cueball__slot_is_connected(slot);
        unproven += slot->unproven;
        if (slot->state == CUEBALL_SLOT_BUSY && pool->options.balance == CUEBALL_BALANCE_P2C) {
            leased++;
            leased_sum += slot->state_since;
        }
    }
    MUST(backend->state == cueball__backend_state_of(backend), "backend %s is in state %u, noted as %u", backend->key,
         cueball__backend_state_of(backend), backend->state);
    MUST(backend->state_since <= pool->now, "backend %s has its state from later on", backend->key);
    MUST(total <= backend->total_max, "backend %s has %u slots, %u at most", backend->key, total, backend->total_max);
    MUST(total == backend->total, "backend %s has %u slots, %u counted", backend->key, total, backend->total);
    MUST(have == backend->have, "backend %s keeps %u slots, %u counted", backend->key, have, backend->have);
    MUST(leased == backend->latency.leased && leased_sum == backend->latency.leased_sum, "backend %s: %u leased, %u counted", backend->key,
         leased, backend->latency.leased);
    MUST(backend->latency.failing >= 0 && backend->latency.failing <= 1 && backend->latency.average >= 0, "backend %s: %g fail, %g ns",
         backend->key, backend->latency.failing, backend->latency.average);
    MUST(unproven == backend->unproven, "backend %s: %u unproven, %u counted", backend->key, unproven, backend->unproven);
    MUST(connected == backend->connected, "backend %s: %u connected, %u counted", backend->key, connected, backend->connected);
    return CUEBALL_OK;
}

/* The order of preference. */
static int preference_check(const cueball_pool *pool, const disagreement *report)
{
    uint32_t newcomers = 0, place = 0;
    for (uint32_t i = 0; i < pool->known; i++)
        newcomers += pool->preference[i]->is_new;
    MUST(newcomers == pool->newcomers, "%u came, %u counted", newcomers, pool->newcomers);
    MUST(pool->vacancies <= pool->known_max, "%u places are free of %u", pool->vacancies, pool->known_max);
    for (uint32_t i = 0; i < pool->vacancies; i++) {
        uint32_t next = (uint32_t)pool->plan_scratch[pool->known_max + i];
        MUST(next >= place && next <= pool->known, "place %u of %u", next, pool->known);
        place = next;
    }
    return CUEBALL_OK;
}

/* What people in charge asked for. */
static int wishes_check(const cueball_pool *pool, const disagreement *report)
{
    uint32_t drained = 0, asked = 0;
    for (uint32_t i = 0; i < pool->known; i++) {
        const cueball__backend *backend = pool->preference[i];
        drained += backend->drained;
        asked += backend->asked;
        MUST(!backend->asked || backend->dead, "backend %s is not dead", backend->key);
        if (!backend->drained)
            continue;
        MUST(!(backend->dead || backend->ejected), "backend %s is drained", backend->key);
        MUST(backend->want == 0 && (backend->have == 0 || (pool->is_set && backend->have == 1)),
             "backend %s is drained and keeps %u slots of %u", backend->key, backend->have, backend->want);
        for (const cueball__link *link = backend->slots.next; link != &backend->slots; link = link->next) {
            const cueball__slot *slot = CUEBALL__OWNER(link, cueball__slot, at_backend);
            MUST(slot->state == CUEBALL_SLOT_BUSY || slot->state == CUEBALL_SLOT_CLOSING, "slot %u in state %u at a drained backend",
                 slot->member.index, slot->state);
        }
    }
    MUST(drained == pool->drained, "%u drained, %u counted", drained, pool->drained);
    MUST(asked == pool->asked, "%u tried as asked, %u counted", asked, pool->asked);
    MUST(!pool->is_paused || !(cueball__pool_is_over(pool) || pool->is_set), "paused");
    MUST(!pool->is_paused || !cueball__timer_is_armed(&pool->sample), "paused");
    return CUEBALL_OK;
}

static int backends_check(const cueball_pool *pool, const disagreement *report)
{
    uint32_t dead = 0, slots = 0, ceiling = 0, ejected = 0, failing = 0, standby = 0, probed = 0;
    for (uint32_t i = 0; i < pool->known; i++) {
        const cueball__backend *backend = pool->preference[i];
        if (backend_check(pool, backend, report) != CUEBALL_OK)
            return CUEBALL_EINVAL;
        MUST(!backend->removed, "backend %s", backend->key);
        MUST(cueball__backend_by_key(pool, backend->key) == backend, "backend %s", backend->key);
        MUST(cueball__pool_is_over(pool) || pool->plan_is_due || cueball__timer_is_armed(&pool->rebalance)
                 || cueball__link_is_linked(&backend->wanting) == (backend->have < backend->want),
             "backend %s has %u slots of %u", backend->key, backend->have, backend->want);
        MUST(!backend->ejected || !backend->dead, "backend %s", backend->key);
        MUST(!backend->dead || backend->have <= 1 || pool->plan_is_due || pool->churn_holds || cueball__pool_is_over(pool),
             "backend %s is dead and keeps %u slots", backend->key, backend->have);
        MUST(!backend->ejected || cueball__timer_is_armed(&backend->back), "backend %s", backend->key);
        MUST(!backend->ejected || backend->want == 0 || pool->plan_is_due, "backend %s is ejected", backend->key);
        MUST(!backend->standby || !backend->dead, "backend %s", backend->key);
        MUST(!backend->standby || backend->want == 0 || pool->plan_is_due, "backend %s is left alone", backend->key);
        standby += backend->standby;
        ejected += backend->ejected;
        failing += backend->failures > 0;
        dead += backend->dead;
        probed += backend->dead && backend->total > 0;
        if (backend->dead && backend->total == 0 && !cueball__pool_is_over(pool)) {
            MUST(cueball__timer_is_armed(&backend->back) || cueball__link_is_linked(&backend->probe), "nobody tries %s", backend->key);
        } else {
            MUST(backend->ejected || cueball__pool_is_over(pool) || !cueball__timer_is_armed(&backend->back), "backend %s", backend->key);
            MUST(cueball__pool_is_over(pool) || !cueball__link_is_linked(&backend->probe), "backend %s", backend->key);
        }
        slots += backend->total;
        ceiling += backend->want;
    }
    MUST(dead == pool->dead, "%u dead, %u counted", dead, pool->dead);
    MUST(probed == pool->probed, "%u probed, %u counted", probed, pool->probed);
    MUST(standby == pool->standby, "%u stand by, %u counted", standby, pool->standby);
    MUST(ejected == pool->ejected, "%u ejected, %u counted", ejected, pool->ejected);
    MUST(failing == pool->failing, "%u failing, %u counted", failing, pool->failing);
    uint32_t in_use = cueball__pool_in_use(pool);
    MUST(ejected == 0 || dead + ejected < in_use || cueball__pool_is_over(pool), "%u ejected, %u dead of %u", ejected, dead, in_use);
    MUST((pool->outlook.waiting > 0 && !pool->is_paused) || !pool->overload.lasts, "nobody waits, or all are to");
    MUST(pool->state != CUEBALL_POOL_FAILED || pool->known == 0 || (dead == in_use && in_use > 0), "%u of %u dead", dead, in_use);
    MUST(cueball__pool_is_over(pool) || in_use == 0 || dead < in_use || pool->state == CUEBALL_POOL_FAILED, "all dead");
    for (const cueball__link *link = pool->leaving.next; link != &pool->leaving; link = link->next) {
        const cueball__backend *backend = CUEBALL__OWNER(link, cueball__backend, leaving);
        if (backend_check(pool, backend, report) != CUEBALL_OK)
            return CUEBALL_EINVAL;
        MUST(backend->removed && !backend->dead, "backend %s", backend->key);
        MUST(backend->total > 0, "backend %s", backend->key);
        slots += backend->total;
    }
    MUST(slots == pool->slots.count, "backends have %u slots, the pool %u", slots, pool->slots.count);
    MUST(pool->plan_is_due || ceiling <= pool->options.max_connections || cueball__pool_is_over(pool), "%u planned", ceiling);
    MUST(list_is_sound(&pool->wanting), "-");
    MUST(cueball__list_is_empty(&pool->left), "a backend that left was not collected");
    return CUEBALL_OK;
}

static int claims_check(const cueball_pool *pool, const disagreement *report)
{
    MUST(list_is_sound(&pool->queue), "-");
    MUST(list_is_sound(&pool->answers), "-");
    MUST(list_is_sound(&pool->chores), "-");
    MUST(list_length(&pool->queue) == pool->outlook.waiting, "%u claims wait, %u counted", list_length(&pool->queue),
         pool->outlook.waiting);
    uint32_t answers = list_length(&pool->answers), chores = list_length(&pool->chores);
    MUST(answers + pool->outlook.waiting == pool->claims.count, "%u answers, %u wait, %u claims", answers, pool->outlook.waiting,
         pool->claims.count);
    MUST(answers + chores == pool->outlook.actions, "%u answers, %u chores, %u actions", answers, chores, pool->outlook.actions);
    MUST(answers == pool->outlook.answers, "%u answers, %u counted", answers, pool->outlook.answers);
    cueball_time last = 0;
    for (const cueball__link *link = pool->queue.next; link != &pool->queue; link = link->next) {
        const cueball__claim *claim = CUEBALL__OWNER(link, cueball__claim, at_state);
        MUST(claim->state == CLAIM_WAITING, "claim %u", claim->member.index);
        MUST(!cueball__timer_is_armed(&claim->timer) || claim->timer.deadline <= claim->limit, "claim %u", claim->member.index);
        MUST(claim->waiting_since >= last, "claim %u stands behind a younger one", claim->member.index);
        last = claim->waiting_since;
    }
    for (const cueball__link *link = pool->answers.next; link != &pool->answers; link = link->next) {
        const cueball__claim *claim = CUEBALL__OWNER(link, cueball__claim, at_state);
        MUST(claim->state == CLAIM_GRANTED || claim->state == CLAIM_REFUSED, "claim %u", claim->member.index);
        MUST(claim->state == CLAIM_REFUSED || claim->slot->state == CUEBALL_SLOT_BUSY, "claim %u", claim->member.index);
    }
    bool may_wait = !cueball__pool_is_over(pool) && !cueball__pool_is_failed(pool);
    MUST(pool->outlook.waiting == 0 || may_wait, "%u claims wait in state %u", pool->outlook.waiting, pool->state);
    return CUEBALL_OK;
}

int cueball_pool_check(const cueball_pool *pool, char *text, size_t size)
{
    const disagreement whole = { text, size }, *report = &whole;
    if (slots_check(pool, report) != CUEBALL_OK || preference_check(pool, report) != CUEBALL_OK || wishes_check(pool, report) != CUEBALL_OK
        || backends_check(pool, report) != CUEBALL_OK || claims_check(pool, report) != CUEBALL_OK)
        return CUEBALL_EINVAL;
    MUST(pool->state != CUEBALL_POOL_STOPPED || pool->slots.count == 0, "%u slots", pool->slots.count);
    MUST(pool->outlook.deadline <= pool->timers.earliest, "-");
    MUST(pool->calm_until <= pool->outlook.deadline, "-");
    MUST(!pool->calm_until || !(pool->outlook.waiting || pool->watched || pool->is_unsettled || pool->is_paused), "%u wait",
         pool->outlook.waiting);
    MUST(pool->outlook.events <= pool->events_max, "%u", pool->outlook.events);
    return CUEBALL_OK;
}
