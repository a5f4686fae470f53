#include "table.h"

#include <string.h>

void cueball__table_init(cueball__table *table, cueball__memory *memory, size_t member_size)
{
    assert(member_size >= sizeof(cueball__member));
    memset(table, 0, sizeof *table);
    table->memory = memory;
    table->free = CUEBALL__MEMBER_NONE;
    table->size = (member_size + CUEBALL__CACHE_LINE - 1) / CUEBALL__CACHE_LINE * CUEBALL__CACHE_LINE;
    assert(table->size % CUEBALL__CACHE_LINE == 0);
    assert(table->size >= member_size);
}

static size_t table_block_size(const cueball__table *table)
{
    return table->size * CUEBALL__CHUNK_MEMBERS + CUEBALL__CACHE_LINE;
}

void cueball__table_deinit(cueball__table *table)
{
    for (uint32_t i = 0; i < table->chunks_n; i++)
        cueball__memory_release(table->memory, table->blocks[i], table_block_size(table));
    cueball__memory_release(table->memory, table->chunks, table->chunks_max * sizeof *table->chunks);
    cueball__memory_release(table->memory, table->blocks, table->chunks_max * sizeof *table->blocks);
    table->chunks = NULL;
    table->blocks = NULL;
    table->chunks_n = table->chunks_max = table->made = table->count = 0;
    table->free = CUEBALL__MEMBER_NONE;
    assert(table->count == 0);
}

/* Room for the pointers to more chunks. */
static bool table_widen(cueball__table *table)
{
    uint32_t wider = table->chunks_max ? table->chunks_max * 2 : 4;
    char **chunks = cueball__memory_allocate(table->memory, wider * sizeof *chunks);
    void **blocks = chunks ? cueball__memory_allocate(table->memory, wider * sizeof *blocks) : NULL;
    if (!blocks) {
        cueball__memory_release(table->memory, chunks, wider * sizeof *chunks);
        return false;
    }
    if (table->chunks_n) {
        memcpy(chunks, table->chunks, table->chunks_n * sizeof *chunks);
        memcpy(blocks, table->blocks, table->chunks_n * sizeof *blocks);
    }
    cueball__memory_release(table->memory, table->chunks, table->chunks_max * sizeof *chunks);
    cueball__memory_release(table->memory, table->blocks, table->chunks_max * sizeof *blocks);
    table->chunks = chunks;
    table->blocks = blocks;
    table->chunks_max = wider;
    assert(table->chunks_n < table->chunks_max);
    return true;
}

static bool table_add_chunk(cueball__table *table)
{
    if (table->chunks_n == table->chunks_max && !table_widen(table))
        return false;
    void *block = cueball__memory_allocate(table->memory, table_block_size(table));
    if (!block)
        return false;
    memset(block, 0, table_block_size(table));
    size_t past = (uintptr_t)block % CUEBALL__CACHE_LINE;
    table->blocks[table->chunks_n] = block;
    table->chunks[table->chunks_n] = (char *)block + (past ? CUEBALL__CACHE_LINE - past : 0);
    table->chunks_n++;
    assert((uintptr_t)table->chunks[table->chunks_n - 1] % CUEBALL__CACHE_LINE == 0);
    assert(table->chunks_n <= table->chunks_max);
    return true;
}

bool cueball__table_copy(cueball__table *copy, cueball__memory *memory, const cueball__table *table)
{
    cueball__table_init(copy, memory, table->size);
    while (copy->chunks_n < table->chunks_n) {
        if (!table_add_chunk(copy))
            return false;
        memcpy(copy->chunks[copy->chunks_n - 1], table->chunks[copy->chunks_n - 1], table->size * CUEBALL__CHUNK_MEMBERS);
    }
    copy->made = table->made;
    copy->count = table->count;
    copy->free = table->free;
    assert(copy->size == table->size);
    return true;
}

void *cueball__table_add(cueball__table *table, bool *is_new)
{
    assert(table->count <= table->made);
    cueball__member *member;
    *is_new = table->free == CUEBALL__MEMBER_NONE;
    if (!*is_new) {
        member = cueball__table_at(table, table->free);
        table->free = member->next_free;
    } else {
        if (table->made == CUEBALL__MEMBERS_MAX)
            return NULL;
        if (table->made == table->chunks_n * CUEBALL__CHUNK_MEMBERS && !table_add_chunk(table))
            return NULL;
        uint32_t index = table->made++;
        member = cueball__table_at(table, index);
        member->index = index;
        member->generation = 1;
    }
    member->next_free = CUEBALL__MEMBER_NONE;
    table->count++;
    assert(member->generation != 0);
    assert(table->count <= table->made);
    return member;
}

void cueball__table_remove(cueball__table *table, void *removed)
{
    cueball__member *member = removed;
    assert(table->count > 0);
    assert(member->next_free == CUEBALL__MEMBER_NONE);
    member->generation = cueball__generation_next(member->generation);
    member->next_free = table->free;
    table->free = member->index;
    table->count--;
    assert(member->generation != 0);
    assert(table->count < table->made);
}
