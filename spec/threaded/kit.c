#include "kit.h"

#include <dirent.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char description[200] = "this program";

void must_describe(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(description, sizeof description, format, arguments);
    va_end(arguments);
}

void must_fail(const char *file, int line, const char *condition, const char *format, ...)
{
    char text[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fflush(stdout);
    fprintf(stderr, "%s:%d: %s: %s\nrepeat with: %s\n", file, line, condition, text, description);
    abort();
}

/* Only what a handler of signals may do. */
static void must_be_over(int number)
{
    static const char text[] = ": still running at its time limit: somebody waits for ever\n";
    (void)number;
    (void)!write(2, description, strlen(description));
    (void)!write(2, text, sizeof text - 1);
    abort();
}

void must_end_within(unsigned seconds)
{
    signal(SIGALRM, must_be_over);
    alarm(seconds);
}

kit_chance chance_of(uint64_t seed, uint64_t stream)
{
    /* splitmix64 of both: neighbours have nothing in common, and 0 does not come out. */
    uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + stream * UINT64_C(0xd1342543de82ef95) + 1;
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (kit_chance){ (x ^ (x >> 31)) | 1 };
}

uint64_t chance_next(kit_chance *from)
{
    from->state ^= from->state >> 12;
    from->state ^= from->state << 25;
    from->state ^= from->state >> 27;
    return from->state * UINT64_C(2685821657736338717);
}

uint64_t chance_below(kit_chance *from, uint64_t bound)
{
    return (chance_next(from) >> 11) % bound;
}

bool chance_is(kit_chance *from, double probability)
{
    return (double)(chance_next(from) >> 11) / 9007199254740992.0 < probability;
}

void ended_set(void *flag)
{
    atomic_store((_Atomic bool *)flag, true);
}

static void *counted_allocate(void *user, size_t size)
{
    counted_memory *memory = user;
    uint64_t number = atomic_fetch_add(&memory->allocations, 1) + 1;
    uint64_t fails_at = atomic_load(&memory->fails_at);
    if (fails_at != 0 && (number == fails_at || (number > fails_at && atomic_load(&memory->fails_for_good)))) {
        atomic_fetch_add(&memory->failed, 1);
        return NULL;
    }
    void *block = malloc(size);
    MUST(block, "%zu bytes", size);
    memset(block, 0xa5, size);
    atomic_fetch_add(&memory->held, size);
    return block;
}

static void counted_release(void *user, void *block, size_t size)
{
    counted_memory *memory = user;
    size_t held = atomic_fetch_sub(&memory->held, size);
    MUST(held >= size, "%zu bytes come back of %zu", size, held);
    memset(block, 0x5a, size);
    free(block);
}

cueball_allocator counted_allocator(counted_memory *memory)
{
    return (cueball_allocator){ memory, counted_allocate, counted_release };
}

unsigned descriptors_open(void)
{
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (folder && readdir(folder))
        count++;
    if (folder)
        closedir(folder);
    return count;
}
