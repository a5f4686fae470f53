#include "pool.h"

#define HOLE UINT32_MAX

void cueball__idle_init(cueball__idle *idle, cueball__memory *memory, const cueball__table *slots)
{
    idle->memory = memory;
    idle->slots = slots;
    idle->ring = NULL;
    idle->capacity = idle->head = idle->tail = idle->count = 0;
}

void cueball__idle_deinit(cueball__idle *idle)
{
    cueball__memory_release(idle->memory, idle->ring, idle->capacity * sizeof *idle->ring);
    idle->ring = NULL;
    idle->capacity = 0;
}

static uint32_t *idle_place(const cueball__idle *idle, uint32_t at)
{
    return &idle->ring[at & (idle->capacity - 1)];
}

/* Moves what there is to the front of `ring`, without holes. */
static void idle_gather(cueball__idle *idle, uint32_t *ring)
{
    uint32_t gathered = 0;
    for (uint32_t at = idle->head; at != idle->tail; at++) {
        uint32_t index = *idle_place(idle, at);
        if (index == HOLE)
            continue;
        cueball__slot *slot = cueball__table_at(idle->slots, index);
        slot->idle_at = gathered;
        ring[gathered++] = index;
    }
    assert(gathered == idle->count);
    idle->head = 0;
    idle->tail = gathered;
}

/* Twice as many places as slots: half of the ring has to be holes before it
 * needs gathering, which makes that O(1) a claim on average. */
bool cueball__idle_reserve(cueball__idle *idle, uint32_t slots)
{
    if (idle->capacity >= slots * 2)
        return true;
    uint32_t capacity = idle->capacity ? idle->capacity : 16;
    while (capacity < slots * 2)
        capacity *= 2;
    uint32_t *ring = cueball__memory_allocate(idle->memory, capacity * sizeof *ring);
    if (!ring)
        return false;
    idle_gather(idle, ring);
    cueball__memory_release(idle->memory, idle->ring, idle->capacity * sizeof *idle->ring);
    idle->ring = ring;
    idle->capacity = capacity;
    return true;
}

/* Drops the holes, in place: entries only ever move towards the head. */
void cueball__idle_compact(cueball__idle *idle)
{
    if (idle->tail - idle->head == idle->count)
        return;
    uint32_t write = idle->head;
    for (uint32_t at = idle->head; at != idle->tail; at++) {
        uint32_t index = *idle_place(idle, at);
        if (index == HOLE)
            continue;
        cueball__slot *slot = cueball__table_at(idle->slots, index);
        *idle_place(idle, write) = index;
        slot->idle_at = write++;
    }
    assert(write - idle->head == idle->count);
    idle->tail = write;
}

void cueball__idle_append(cueball__idle *idle, cueball__slot *slot)
{
    if (idle->tail - idle->head == idle->capacity)
        cueball__idle_compact(idle);
    assert(idle->tail - idle->head < idle->capacity);
    *idle_place(idle, idle->tail) = slot->member.index;
    slot->idle_at = idle->tail++;
    idle->count++;
}

/* Holes at either end go at once, so that both ends are always slots. */
void cueball__idle_remove(cueball__idle *idle, cueball__slot *slot)
{
    assert(idle->count > 0);
    assert(*idle_place(idle, slot->idle_at) == slot->member.index);
    *idle_place(idle, slot->idle_at) = HOLE;
    idle->count--;
    while (idle->head != idle->tail && *idle_place(idle, idle->head) == HOLE)
        idle->head++;
    while (idle->head != idle->tail && *idle_place(idle, idle->tail - 1) == HOLE)
        idle->tail--;
}

/* Fisher and Yates' shuffle as Durstenfeld (1964) has it: every order equally
 * likely, the present one too. */
void cueball__idle_shuffle(cueball__idle *idle, cueball__random *random)
{
    cueball__idle_compact(idle);
    for (uint32_t left = idle->count; left > 1; left--) {
        uint32_t *last = idle_place(idle, idle->head + left - 1);
        uint32_t *drawn = idle_place(idle, idle->head + (uint32_t)cueball__random_below(random, left));
        uint32_t index = *last;
        *last = *drawn;
        *drawn = index;
        ((cueball__slot *)cueball__table_at(idle->slots, *last))->idle_at = idle->head + left - 1;
    }
    if (idle->count)
        ((cueball__slot *)cueball__table_at(idle->slots, *idle_place(idle, idle->head)))->idle_at = idle->head;
}
