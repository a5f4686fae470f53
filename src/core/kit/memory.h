/* Memory by way of the pool's allocator, counted. */
#ifndef CUEBALL_CORE_MEMORY_H
#define CUEBALL_CORE_MEMORY_H

#include "cueball_types.h"

#include <assert.h>

typedef struct cueball__memory {
    cueball_allocator allocator;
    size_t held; /* bytes */
} cueball__memory;

static inline void *cueball__memory_allocate(cueball__memory *memory, size_t size)
{
    void *block = memory->allocator.allocate(memory->allocator.user, size);
    if (block)
        memory->held += size;
    return block;
}

static inline void cueball__memory_release(cueball__memory *memory, void *block, size_t size)
{
    if (!block)
        return;
    assert(memory->held >= size);
    memory->held -= size;
    memory->allocator.release(memory->allocator.user, block, size);
}

#endif
