/* Too many claims for the connections there are: how that is found out.
 *
 * As CoDel does (RFC 8289): once every claim that leaves the queue during one
 * INTERVAL has waited longer than the target, there is a standing queue, which
 * no burst explains.  It lasts until a claim leaves that waited less.
 *
 * What follows differs.  RFC 8289 then drops one packet after the other at
 * intervals of INTERVAL / sqrt(n), for senders that slow down when they notice.
 * Claims do not: their number is decided elsewhere, and with that spacing the
 * wait grows without bound.  So while overload lasts every claim that leaves
 * later than the target is refused. */
#include "overload.h"

#define INTERVAL 100000000    /* ns, RFC 8289 section 4.2 */
#define WAIT_MAX 10           /* targets a claim may wait at most, */
#define WAIT_MAX_OVERLOADED 3 /* and while overload lasts */

/* The claim that waited longest has waited so long and leaves, or could. */
void cueball__overload_observe(cueball__overload *overload, cueball_time now, cueball_time waited, cueball_time target)
{
    if (waited < target) {
        overload->above_until = 0;
        overload->lasts = false;
    } else if (overload->above_until == 0) {
        overload->above_until = now + INTERVAL;
    } else if (now >= overload->above_until) {
        overload->lasts = true;
    }
}

/* Nobody waits. */
void cueball__overload_end(cueball__overload *overload)
{
    overload->above_until = 0;
    overload->lasts = false;
}

/* How long a claim may wait at most, whatever its own time limit: nothing may leave the
 * queue for a long time, and then nothing would find out. */
cueball_time cueball__overload_wait_max(const cueball__overload *overload, cueball_time target)
{
    cueball_time targets = overload->lasts ? WAIT_MAX_OVERLOADED : WAIT_MAX;
    return target < CUEBALL_NEVER / targets ? target * targets : CUEBALL_NEVER;
}
