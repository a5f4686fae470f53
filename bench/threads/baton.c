/* No pool: strictly first come, first served, and nothing else.  Each thread has a semaphore of its own; a release hands on to the thread that
 * waits longest, which is known without a queue, since all take turns.  No pool whose claims all wait in line, and sleep meanwhile, can do
 * more than this does.  For more threads than connections.
 *
 *     --turn N   each thread has its connection N times (1) before it hands on: what overtaking gains, and what it costs those who wait */
#define _POSIX_C_SOURCE 200809L
#include <semaphore.h>

struct peer_lease {
    unsigned next;
};
#include "measure.h"

static struct {
    alignas(LINE_BYTES) sem_t is_next;
} * turns;
static _Atomic uint32_t threads_known;
static uint32_t turn = 1;
static _Thread_local uint32_t number_plus_1, left;

static const char *peer_name(void)
{
    return "baton";
}

static bool peer_option(const char *name, const char *value)
{
    if (strcmp(name, "--turn") != 0)
        return false;
    turn = (uint32_t)strtoul(value, NULL, 10);
    return true;
}

static void peer_open(uint32_t connections)
{
    MUST(given.threads > connections);
    turns = aligned_alloc(LINE_BYTES, given.threads * sizeof *turns);
    MUST(turns);
    for (uint32_t i = 0; i < given.threads; i++)
        MUST(sem_init(&turns[i].is_next, 0, i < connections) == 0);
}

/* The thread that would hand on to this one may have ended. */
static void peer_over(void)
{
    for (uint32_t i = 0; i < given.threads; i++)
        MUST(sem_post(&turns[i].is_next) == 0);
}

static void peer_close(void)
{
}

static inline void peer_claim(peer_lease *lease)
{
    if (number_plus_1 == 0)
        number_plus_1 = ++threads_known;
    lease->next = (number_plus_1 - 1 + given.connections) % given.threads;
    if (left > 0)
        return;
    while (sem_wait(&turns[number_plus_1 - 1].is_next) != 0)
        ;
    left = turn;
}

static inline void peer_release(peer_lease *lease)
{
    /* When all is over nobody comes back to hand on. */
    if (--left > 0 && !window_is_over())
        return;
    left = 0;
    MUST(sem_post(&turns[lease->next].is_next) == 0);
}
