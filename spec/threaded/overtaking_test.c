/* Who waits while another thread has turns: what may come first, and what may not. */
#define _GNU_SOURCE

#include "host.h"

enum { ROUNDS = 40 };
#define OVERTAKE_NS 200000 /* the window of turn.c: whoever begins a release later hands over */
#define CLOCKS_DIFFER 1.05 /* the pool measures it with a clock of its own, whose rate it knows to 1 in 100 */

static host h;
static atomic_bool waits_surely, was_served;

static void begin(bool clocks)
{
    memset(&h, 0, sizeof h);
    cueball_threaded_options options = { .clocks = clocks, .turn_ms = 60000, .turn_leases = 16 };
    cueball_options pool_options = host_options(1);
    host_begin(&h, &options, &pool_options, 1);
    host_until(&h, 1);
}

static cueball_lease claimed(void)
{
    cueball_lease lease;
    MUST(cueball_threaded_claim(h.pool, 60000, &lease) == CUEBALL_OK);
    return lease;
}

static void *wait_run(void *unused)
{
    cueball_lease lease = claimed();
    atomic_store(&was_served, true); /* while nobody else has the one connection */
    MUST(cueball_lease_release(&lease) == CUEBALL_OK);
    return unused;
}

static void *watch_run(void *unused)
{
    cueball_stats stats = { .struct_size = sizeof stats };
    while (!atomic_load(&was_served) && !atomic_load(&waits_surely)) {
        cueball_threaded_stats(h.pool, &stats);
        if (stats.waiting == 1) /* the other thread does not wait as long as this one does */
            atomic_store(&waits_surely, true);
    }
    return unused;
}

/* Leases, one after the other, until the one who waits is served.  Returns for how long releases kept the connection from
 * it: from the end of the first that cannot but see it wait to the beginning of the last that kept it. */
static cueball_time overtake(bool adopts, unsigned held_us, unsigned *overtook)
{
    cueball_time seen = 0, begun = 0, longest = 0;
    for (;;) {
        cueball_lease lease = claimed();
        bool is_over = atomic_load(&was_served);
        if (begun > 0 && !is_over) {
            ++*overtook;
            longest = begun > seen && begun - seen > longest ? begun - seen : longest;
            MUST(longest < OVERTAKE_NS * CLOCKS_DIFFER);
        }
        if (held_us)
            usleep(held_us);
        if (adopts)
            MUST(cueball_lease_detach(&lease) == CUEBALL_OK && cueball_lease_adopt(&lease) == CUEBALL_OK);
        bool sees = atomic_load(&waits_surely);
        cueball_time now = cueball_clock_now();
        MUST(cueball_lease_release(&lease) == CUEBALL_OK);
        if (is_over)
            return longest;
        begun = sees ? now : 0;
        seen = sees && seen == 0 ? cueball_clock_now() : seen;
    }
}

static unsigned overtaken(bool clocks, bool adopts, unsigned held_us)
{
    unsigned overtook = 0;
    begin(clocks);
    for (int i = 0; i < ROUNDS; i++) {
        pthread_t waiting, watching;
        atomic_store(&waits_surely, false);
        atomic_store(&was_served, false);
        MUST(pthread_create(&waiting, NULL, wait_run, NULL) == 0);
        MUST(pthread_create(&watching, NULL, watch_run, NULL) == 0);
        (void)overtake(adopts, held_us, &overtook);
        MUST(pthread_join(waiting, NULL) == 0);
        MUST(pthread_join(watching, NULL) == 0);
    }
    host_end(&h);
    return overtook;
}

int main(void)
{
    for (int clocks = 0; clocks < 2; clocks++) {
        (void)overtaken(clocks, false, 0);
        (void)overtaken(clocks, true, 0);
        MUST(overtaken(clocks, false, 2000) == 0);
        printf("%s clocks: for a while by short leases, by long ones never\n", clocks ? "with" : "without");
    }
    return 0;
}
