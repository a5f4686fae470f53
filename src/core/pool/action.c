/* What the host is to do, to be drained: answers to claims first, since somebody
 * waits for them, then the chores of slots. */
#include "action.h"

/* A slot is listed once however many chores it has. */
void cueball__chore_add(cueball_pool *pool, cueball__slot *slot, uint8_t chore)
{
    assert(chore == CUEBALL__CHORE_GIVE_UP || slot->state != CUEBALL_SLOT_FREE);
    assert((slot->chores != 0) == cueball__link_is_linked(&slot->chore));
    assert((chore & (chore - 1)) == 0);
    assert(!(slot->chores & chore));
    if (!slot->chores) {
        cueball__list_append(&pool->chores, &slot->chore);
        pool->outlook.actions++;
    }
    slot->chores |= chore;
    assert(cueball__link_is_linked(&slot->chore));
    assert(pool->outlook.actions > pool->outlook.answers);
}

/* The host need not be told after all; false if it was. */
bool cueball__chore_drop(cueball_pool *pool, cueball__slot *slot, uint8_t chore)
{
    assert((slot->chores != 0) == cueball__link_is_linked(&slot->chore));
    assert(!slot->chores || pool->outlook.actions > pool->outlook.answers);
    if (!(slot->chores & chore))
        return false;
    slot->chores &= (uint8_t)~chore;
    if (!slot->chores) {
        cueball__list_remove(&slot->chore);
        pool->outlook.actions--;
    }
    assert((slot->chores != 0) == cueball__link_is_linked(&slot->chore));
    return true;
}

void cueball__answer_add(cueball_pool *pool, cueball__claim *claim)
{
    assert(claim->state != CLAIM_WAITING);
    assert(!cueball__link_is_linked(&claim->at_state));
    assert(!cueball__timer_is_armed(&claim->timer));
    assert(claim->state != CLAIM_GRANTED || claim->slot->untold);
    assert(claim->state != CLAIM_REFUSED || claim->error < 0);
    cueball__list_append(&pool->answers, &claim->at_state);
    pool->outlook.actions++;
    pool->outlook.answers++;
    assert(pool->outlook.answers <= pool->outlook.actions);
}

void cueball__answer_drop(cueball_pool *pool, cueball__claim *claim)
{
    assert(cueball__link_is_linked(&claim->at_state));
    assert(claim->state != CLAIM_WAITING);
    assert(pool->outlook.answers > 0);
    assert(pool->outlook.actions >= pool->outlook.answers);
    cueball__list_remove(&claim->at_state);
    pool->outlook.actions--;
    pool->outlook.answers--;
}

/* Tells a claim's answer and forgets the claim.  Counted here and not before:
 * until it is told, the claim can be cancelled instead. */
static void answer_take(cueball_pool *pool, cueball__claim *claim, cueball_action *action)
{
    assert(claim->state != CLAIM_GRANTED || claim->slot->state == CUEBALL_SLOT_BUSY);
    assert(claim->state != CLAIM_GRANTED || claim->slot->untold);
    assert(claim->state != CLAIM_REFUSED || claim->slot == NULL);
    assert(claim->waiting_since <= pool->now);
    cueball__answer_drop(pool, claim);
    action->claim = cueball__member_handle(&claim->member);
    action->user = claim->user;
    action->waited = claim->waited;
    action->ahead = claim->ahead;
    if (claim->state == CLAIM_GRANTED) {
        claim->slot->untold = 0;
        cueball__histogram_add(&pool->wait_histogram, claim->waited);
        action->kind = CUEBALL_ACTION_GRANT;
        action->slot = claim->slot->member.index;
        action->conn = claim->slot->conn;
        action->lease = claim->slot->lease;
        CUEBALL__TRACE4(grant, pool, action->slot, action->lease, claim->waited);
        action->backend = cueball__member_handle(&claim->slot->backend->member);
    } else {
        assert(claim->state == CLAIM_REFUSED);
        action->kind = CUEBALL_ACTION_REFUSE;
        action->error = claim->error;
        CUEBALL__TRACE3(refuse, pool, action->error, claim->waited);
        pool->counters.refused_by[-claim->error]++;
    }
    if (claim->owner)
        cueball__list_remove(&claim->at_owner);
    claim->owner = NULL;
    claim->slot = NULL;
    claim->state = 0;
    cueball__table_remove(&pool->claims, claim);
    assert(!cueball__link_is_linked(&claim->at_state));
    assert(!cueball__link_is_linked(&claim->at_owner));
    assert(action->claim != 0);
}

static void chore_take(cueball_pool *pool, cueball__slot *slot, cueball_action *action)
{
    assert(slot->chores != 0);
    assert(cueball__link_is_linked(&slot->chore));
    assert(slot->chores == CUEBALL__CHORE_GIVE_UP || slot->state != CUEBALL_SLOT_FREE);
    static const struct {
        uint8_t chore;
        int32_t kind; /* cueball_action_kind */
    } in_order[] = { { CUEBALL__CHORE_GIVE_UP, CUEBALL_ACTION_GIVE_UP },
                     { CUEBALL__CHORE_CLOSE, CUEBALL_ACTION_CLOSE },
                     { CUEBALL__CHORE_CHECK, CUEBALL_ACTION_CHECK },
                     { CUEBALL__CHORE_RECALL, CUEBALL_ACTION_RECALL },
                     { CUEBALL__CHORE_OPEN, CUEBALL_ACTION_OPEN } };
    unsigned which = 0;
    while (!(slot->chores & in_order[which].chore))
        which++;
    cueball__chore_drop(pool, slot, in_order[which].chore);
    action->kind = in_order[which].kind;
    action->slot = slot->member.index;
    if (action->kind == CUEBALL_ACTION_GIVE_UP) {
        action->conn = cueball__handle(slot->member.index, slot->given_up);
        return;
    }
    action->conn = slot->conn;
    action->backend = cueball__member_handle(&slot->backend->member);
    action->attempt = slot->attempt;
    action->deadline = slot->timer.deadline;
    if (action->kind == CUEBALL_ACTION_RECALL) {
        action->lease = slot->lease;
        action->cause = slot->on_return;
    }
}

/* The next slot about which something is to be done.  That a lease is wanted back is
 * not told before the lease is. */
static cueball__slot *chore_next(const cueball_pool *pool)
{
    for (cueball__link *link = pool->chores.next; link != &pool->chores; link = link->next) {
        cueball__slot *slot = CUEBALL__OWNER(link, cueball__slot, chore);
        if (slot->chores != CUEBALL__CHORE_RECALL || !slot->untold)
            return slot;
    }
    return NULL;
}

bool cueball__answer_next(cueball_pool *pool, cueball_action *action)
{
    *action = (cueball_action){ 0 };
    if (cueball__list_is_empty(&pool->answers))
        return false;
    answer_take(pool, CUEBALL__OWNER(pool->answers.next, cueball__claim, at_state), action);
    return true;
}

bool cueball__chore_next(cueball_pool *pool, cueball_action *action)
{
    *action = (cueball_action){ 0 };
    cueball__slot *slot = chore_next(pool);
    if (!slot)
        return false;
    chore_take(pool, slot, action);
    return true;
}
