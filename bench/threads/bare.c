/* No pool: each thread has a word of its own, and a pair is one compare-and-swap and one store.  What this does, a pool that
 * takes one locked instruction for a pair cannot exceed; how evenly its threads run is the kernel's doing alone; and with --measure wait
 * it tells what two clocks cost. */
#define _POSIX_C_SOURCE 200809L
struct peer_lease {
    int none;
};
#include "measure.h"

static _Thread_local struct {
    alignas(LINE_BYTES) _Atomic uint32_t taken;
} word;

static const char *peer_name(void)
{
    return "bare";
}

static bool peer_option(const char *name, const char *value)
{
    (void)name, (void)value;
    return false;
}

static void peer_open(uint32_t connections)
{
    /* Nothing here would keep threads waiting: thousands that wake every millisecond leave no time for others. */
    MUST(given.held != HELD_SLEEP || given.threads <= connections);
}

static void peer_over(void)
{
}

static void peer_close(void)
{
}

static inline void peer_claim(peer_lease *lease)
{
    uint32_t free_word = 0;
    lease->none = 0;
    MUST(atomic_compare_exchange_strong_explicit(&word.taken, &free_word, 1, memory_order_acquire, memory_order_relaxed));
}

static inline void peer_release(peer_lease *lease)
{
    (void)lease;
    atomic_store_explicit(&word.taken, 0, memory_order_release);
}
