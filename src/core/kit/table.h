/* A table of members that never move, found by index in O(1), reused through a
 * free list.  A handle is index and generation; freeing a member ends its
 * generation, which is how a stale handle is told from a good one. */
#ifndef CUEBALL_CORE_TABLE_H
#define CUEBALL_CORE_TABLE_H

#include "memory.h"

#define CUEBALL__INDEX_BITS 21
#define CUEBALL__MEMBERS_MAX ((UINT32_C(1) << CUEBALL__INDEX_BITS) - 1)
#define CUEBALL__MEMBER_NONE UINT32_MAX
#define CUEBALL__CHUNK_BITS 6
#define CUEBALL__CHUNK_MEMBERS (1U << CUEBALL__CHUNK_BITS)
#define CUEBALL__CACHE_LINE 64

/* To stand first in whatever a table holds. */
typedef struct cueball__member {
    uint32_t index;
    uint32_t generation; /* never 0 */
    uint32_t next_free;  /* index; in use: CUEBALL__MEMBER_NONE */
} cueball__member;

typedef struct cueball__table {
    cueball__memory *memory;
    char **chunks;     /* each CUEBALL__CHUNK_MEMBERS members, on a cache line */
    void **blocks;     /* the same as they were allocated */
    size_t size;       /* of one member */
    uint32_t chunks_n; /* in use */
    uint32_t chunks_max;
    uint32_t made;  /* members handed out at least once: indices below it exist */
    uint32_t count; /* members in use */
    uint32_t free;  /* index of the first free one */
} cueball__table;

void cueball__table_init(cueball__table *table, cueball__memory *memory, size_t member_size);
void cueball__table_deinit(cueball__table *table);

/* Makes `copy`, which was not initialized, the same members in memory of their own, byte for
 * byte.  False: there is no memory; it is to be deinitialized all the same. */
bool cueball__table_copy(cueball__table *copy, cueball__memory *memory, const cueball__table *table);

/* A member, zeroed but for its index and generation when it is handed out for
 * the first time and as it was left otherwise (see cueball__table_remove); NULL
 * without memory or beyond CUEBALL__MEMBERS_MAX. */
void *cueball__table_add(cueball__table *table, bool *is_new);
/* Back to the free list; its generation ends. */
void cueball__table_remove(cueball__table *table, void *removed);

static inline void *cueball__table_at(const cueball__table *table, uint32_t index)
{
    assert(index < table->made);
    return table->chunks[index >> CUEBALL__CHUNK_BITS] + (index & (CUEBALL__CHUNK_MEMBERS - 1)) * table->size;
}

static inline cueball_handle cueball__handle(uint32_t index, uint32_t generation)
{
    return (uint64_t)generation << CUEBALL__INDEX_BITS | index;
}

/* The same member's next handle.  Generation 0 is left out, so that no handle is 0. */
static inline cueball_handle cueball__handle_next(cueball_handle handle)
{
    cueball_handle next = handle + (UINT64_C(1) << CUEBALL__INDEX_BITS);
    return next >> (CUEBALL__INDEX_BITS + 32) ? cueball__handle((uint32_t)next & CUEBALL__MEMBERS_MAX, 1) : next;
}

static inline uint32_t cueball__handle_index(cueball_handle handle)
{
    return (uint32_t)(handle & CUEBALL__MEMBERS_MAX);
}

static inline uint32_t cueball__handle_generation(cueball_handle handle)
{
    return (uint32_t)(handle >> CUEBALL__INDEX_BITS);
}

static inline cueball_handle cueball__member_handle(const cueball__member *member)
{
    return cueball__handle(member->index, member->generation);
}

/* The member that the handle means, or NULL if its time is over.  A handle
 * beyond 2^53 is none of ours. */
static inline void *cueball__table_find(const cueball__table *table, cueball_handle handle)
{
    uint32_t index = cueball__handle_index(handle);
    if (index >= table->made || handle >> (CUEBALL__INDEX_BITS + 32))
        return NULL;
    cueball__member *member = cueball__table_at(table, index);
    return member->generation == cueball__handle_generation(handle) ? member : NULL;
}

/* The generation after this one; 0 is left out so that no handle is 0. */
static inline uint32_t cueball__generation_next(uint32_t generation)
{
    generation++;
    return generation + (generation == 0);
}

#endif
