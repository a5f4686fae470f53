/* The connections at rest, and the order in which they will be claimed; those in
 * doubt, which are lent last (evidence.c); and when something is due of one. */

#include "idle.h"

#include "evidence.h"
#include "latency.h"

#include <string.h>

void cueball__idle_init(cueball__idle *idle, cueball__memory *memory)
{
    memset(idle, 0, sizeof *idle);
    idle->memory = memory;
}

void cueball__idle_deinit(cueball__idle *idle)
{
    cueball__memory_release(idle->memory, idle->ring, idle->capacity * sizeof *idle->ring);
    cueball__idle_init(idle, idle->memory);
}

static cueball__slot **idle_place(const cueball__idle *idle, uint32_t at)
{
    assert(idle->capacity > 0);
    assert(idle->mask == idle->capacity - 1);
    return &idle->ring[at & idle->mask];
}

/* Moves what there is to the front of `ring`, without holes. */
static void idle_gather(cueball__idle *idle, cueball__slot **ring)
{
    uint32_t gathered = 0;
    for (uint32_t at = idle->head; at != idle->tail; at++) {
        cueball__slot *slot = *idle_place(idle, at);
        if (!slot)
            continue;
        slot->idle_at = gathered;
        ring[gathered++] = slot;
    }
    assert(gathered == cueball__idle_count(idle));
    idle->head = 0;
    idle->tail = gathered;
    idle->holes = 0;
    assert(idle->tail <= idle->capacity || idle->capacity == 0);
}

/* Twice as many places as slots: half of the ring has to be holes before it
 * needs gathering, which makes that O(1) a claim on average. */
bool cueball__idle_reserve(cueball__idle *idle, uint32_t slots)
{
    assert(slots > 0);
    if (idle->capacity >= slots * 2)
        return true;
    uint32_t capacity = idle->capacity ? idle->capacity : 16;
    while (capacity < slots * 2)
        capacity *= 2;
    cueball__slot **ring = cueball__memory_allocate(idle->memory, capacity * sizeof *ring);
    if (!ring)
        return false;
    memset(ring, 0, capacity * sizeof *ring); /* a claim looks ahead, beyond the tail too */
    idle_gather(idle, ring);
    cueball__memory_release(idle->memory, idle->ring, idle->capacity * sizeof *idle->ring);
    idle->ring = ring;
    idle->capacity = capacity;
    idle->mask = capacity - 1;
    assert((idle->capacity & idle->mask) == 0);
    assert(idle->capacity >= slots * 2);
    assert(idle->holes == 0);
    return true;
}

/* Drops the holes, in place: entries only ever move towards the head. */
static void idle_compact(cueball__idle *idle)
{
    assert(idle->holes <= idle->tail - idle->head);
    if (idle->holes == 0)
        return;
    uint32_t write = idle->head;
    for (uint32_t at = idle->head; at != idle->tail; at++) {
        cueball__slot *slot = *idle_place(idle, at);
        if (!slot)
            continue;
        *idle_place(idle, write) = slot;
        slot->idle_at = write++;
    }
    assert(write - idle->head == cueball__idle_count(idle));
    idle->tail = write;
    idle->holes = 0;
    assert(idle->tail - idle->head < idle->capacity);
}

void cueball__idle_append(cueball__idle *idle, cueball__slot *slot)
{
    if (idle->tail - idle->head == idle->capacity)
        idle_compact(idle);
    cueball__idle_push(idle, slot);
}

/* Holes at either end go at once, so that both ends are always slots. */
void cueball__idle_trim(cueball__idle *idle)
{
    assert(idle->holes <= idle->tail - idle->head);
    for (; idle->head != idle->tail && !*idle_place(idle, idle->head); idle->head++)
        idle->holes--;
    for (; idle->head != idle->tail && !*idle_place(idle, idle->tail - 1); idle->tail--)
        idle->holes--;
    assert(idle->head != idle->tail || idle->holes == 0);
}

void cueball__idle_remove(cueball__idle *idle, cueball__slot *slot)
{
    assert(slot->idle_at - idle->head < idle->tail - idle->head);
    assert(cueball__idle_count(idle) > 0);
    assert(*idle_place(idle, slot->idle_at) == slot);
    *idle_place(idle, slot->idle_at) = NULL;
    idle->holes++;
    cueball__idle_trim(idle);
    assert(idle->holes < idle->capacity);
}

/* Fisher and Yates' shuffle as Durstenfeld (1964) has it: every order equally
 * likely, the present one too. */
void cueball__idle_shuffle(cueball__idle *idle, cueball__random *random)
{
    idle_compact(idle);
    for (uint32_t left = idle->tail - idle->head; left > 0; left--) {
        cueball__slot **last = idle_place(idle, idle->head + left - 1);
        cueball__slot **drawn = left > 1 ? idle_place(idle, idle->head + (uint32_t)cueball__random_below(random, left)) : last;
        cueball__slot *slot = *drawn;
        *drawn = *last;
        *last = slot;
        slot->idle_at = idle->head + left - 1;
    }
    assert(idle->holes == 0);
}

#define SPAN_LEAST 0.05 /* of a connection's lifetime, however far it spreads */

/* A time that is not the same for all connections: up to `share` longer or shorter. */
cueball_time cueball__slot_span(const cueball__slot *slot, cueball_time span, double share)
{
    assert(share >= 0);
    assert(slot->spread >= -1);
    assert(slot->spread <= 1);
    if (span == 0 || span == CUEBALL_NEVER)
        return CUEBALL_NEVER;
    double factor = 1 + share * (double)slot->spread;
    return (cueball_time)((double)span * (factor > SPAN_LEAST ? factor : SPAN_LEAST));
}

/* The timer of a connection at rest: for what comes first.  A claim and a release
 * leave it alone; it may therefore fire early, and is then armed for the rest. */
void cueball__slot_arm_rest(cueball_pool *pool, cueball__slot *slot)
{
    assert(slot->state == CUEBALL_SLOT_IDLE);
    assert(slot->used_at <= pool->now);
    assert(slot->state_since <= pool->now);
    cueball_time check = cueball__time_after(slot->state_since, cueball__slot_span(slot, pool->settings.check_interval, CUEBALL__SPREAD));
    cueball_time unused = cueball__time_after(slot->used_at, cueball__slot_span(slot, pool->settings.idle_timeout, CUEBALL__SPREAD));
    cueball_time due = check < unused ? check : unused;
    due = due < slot->retire_at ? due : slot->retire_at;
    cueball_time proven = slot->unproven ? cueball__proof_due(pool, slot) : CUEBALL_NEVER;
    cueball__timers_arm(&pool->timers, &slot->timer, due < proven ? due : proven);
}

/* Comes to rest, to be lent in its turn, or last. */
void cueball__slot_rest(cueball_pool *pool, cueball__slot *slot)
{
    assert(!slot->doubted);
    assert(!slot->owner);
    assert(!cueball__link_is_linked(&slot->at_state));
    assert(slot->backend->connected > 0);
    assert(slot->state == CUEBALL_SLOT_IDLE);
    if (cueball__slot_is_doubtful(slot)) {
        cueball__list_append(&pool->doubtful, &slot->at_state);
        slot->doubted = 1;
        pool->doubtful_count++;
        return;
    }
    cueball__idle_append(&pool->idle, slot);
    if (pool->options.balance == CUEBALL_BALANCE_P2C)
        cueball__latency_rest(pool, slot);
}

/* The connection rests no longer. */
void cueball__slot_wake(cueball_pool *pool, cueball__slot *slot)
{
    assert(!slot->owner);
    assert(!slot->doubted || pool->doubtful_count > 0);
    if (slot->doubted) {
        slot->doubted = 0;
        cueball__list_remove(&slot->at_state);
        pool->doubtful_count--;
        return;
    }
    cueball__idle_remove(&pool->idle, slot);
    if (cueball__link_is_linked(&slot->at_state))
        cueball__latency_unrest(pool, slot);
    assert(!slot->doubted);
    assert(!cueball__link_is_linked(&slot->at_state));
}
