/* What the specs in C of pools for threads are made of: what must hold, chance, memory that is counted. */
#ifndef KIT_H
#define KIT_H

#include "cueball_types.h"

#include <stdatomic.h>

/* Said with the seed, so that a failure can be repeated; ends the program. */
_Noreturn void must_fail(const char *file, int line, const char *condition, const char *format, ...) __attribute__((format(printf, 4, 5)));
#define MUST(condition, ...)                                                                                                               \
    do {                                                                                                                                   \
        if (!(condition))                                                                                                                  \
            must_fail(__FILE__, __LINE__, #condition, __VA_ARGS__);                                                                        \
    } while (0)
/* What must_fail() says of the run: "stress --seed 5". */
void must_describe(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Ends the program, with that description, if it is not over after so many seconds. */
void must_end_within(unsigned seconds);

/* xorshift64*: one for each thread, so that no choice of one depends on another. */
typedef struct chance {
    uint64_t state;
} kit_chance;

kit_chance chance_of(uint64_t seed, uint64_t stream);
uint64_t chance_next(kit_chance *from);
uint64_t chance_below(kit_chance *from, uint64_t bound);
bool chance_is(kit_chance *from, double probability);

/* Memory that is counted, and that fails on demand: allocation number `fails_at` (from 1; 0: none), and all after it if
 * `fails_for_good`. */
typedef struct counted_memory {
    _Atomic size_t held;
    _Atomic uint64_t allocations, failed;
    _Atomic uint64_t fails_at;
    _Atomic bool fails_for_good;
} counted_memory;

cueball_allocator counted_allocator(counted_memory *memory);

/* For pthread_cleanup_push(): sets an `_Atomic bool`, however the thread ends. */
void ended_set(void *flag);

/* How many descriptors the process has. */
unsigned descriptors_open(void);

#endif
