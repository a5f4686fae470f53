/* Whether a backend is alive, where no pool holds it: for balancers.
 *
 * It is the recovery of a pool's slots without the slots: so many failures in a
 * row, then pauses that double.  A pool's pauses begin with the first failure and
 * end to grow with its last attempt; here the first pause comes with death, and
 * they grow until max_delay_ms. */
#include "cueball.h"

#include "kit/backoff.h"

#include <assert.h>
#include <string.h>

bool cueball_health_failed(cueball_health *health, const cueball_recovery *recovery, cueball_time now, double chance)
{
    assert(chance >= 0);
    assert(chance < 1);
    if (health->failures < UINT32_MAX)
        health->failures++;
    bool was_dead = health->is_dead;
    bool is_news = !was_dead || now >= health->retry_at;
    if (!is_news || health->failures < recovery->attempts)
        return false;
    cueball__backoff backoff = cueball__backoff_from(recovery);
    backoff.attempts = UINT32_MAX;
    if (health->pauses < UINT32_MAX)
        health->pauses++;
    health->pause = cueball__backoff_pause_of(&backoff, health->pauses, health->pause, chance);
    health->retry_at = now + health->pause < now ? CUEBALL_NEVER : now + health->pause;
    health->is_dead = true;
    return !was_dead;
}

bool cueball_health_worked(cueball_health *health)
{
    bool was_dead = health->is_dead;
    memset(health, 0, sizeof *health);
    return was_dead;
}
