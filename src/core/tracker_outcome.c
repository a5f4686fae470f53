/* What the outcome of a lookup changes, and when it asks again.  Rows as in
 * docs/dns.md, "The tracker". */
#include "tracker.h"

#include <string.h>

cueball_time cueball__next_time(cueball_tracker *tracker, const cueball__lookup *lookup, cueball_time ttl, cueball_time most)
{
    if (ttl > most)
        ttl = most;
    if (ttl > tracker->max_ttl)
        ttl = tracker->max_ttl;
    if (ttl < tracker->min_ttl)
        ttl = tracker->min_ttl;
    double late = (double)ttl * cueball__lookup_patience(tracker, lookup)->spread;
    if (late > (double)CUEBALL__JITTER_MAX)
        late = (double)CUEBALL__JITTER_MAX;
    if (late > 0)
        late *= cueball__random_unit(&tracker->random);
    return cueball__later(cueball__later(tracker->now, ttl), (cueball_time)late);
}

/* Addresses are kept, and not asked for, until this moment. */
void cueball__hold_until(cueball_tracker *tracker, cueball_time moment)
{
    if (tracker->hold == moment)
        return;
    tracker->hold = moment;
    for (uint32_t i = 0; i < tracker->targets_n; i++) {
        for (unsigned family = 0; family < 2; family++) {
            cueball__lookup *lookup = &tracker->targets[i].name->lookups[family];
            if (lookup->state == CUEBALL__LOOKUP_IDLE)
                cueball__timers_arm(&tracker->timers, &lookup->timer, lookup->due < moment ? moment : lookup->due);
        }
    }
}

static const char *server_text(const cueball_tracker *tracker, const cueball__lookup *lookup)
{
    return lookup->server < tracker->servers_n ? tracker->servers[lookup->server].text : "";
}

/* ---------------------------------------------------------------- records -- */

static bool srv_record_is_used(const void *user, const char *owner)
{
    const cueball_tracker *tracker = user;
    const cueball__name *name = cueball__name_find(tracker, owner);
    return name && name->is_fed;
}

static int outcome_addresses(cueball_tracker *tracker, cueball__lookup *lookup, const cueball__belief *belief)
{
    const char *name = lookup->name->is_domain ? belief->chain[0] : lookup->name->text;
    cueball__addresses *set = cueball__addresses_from(tracker, belief, lookup->type, name, server_text(tracker, lookup));
    if (!set)
        return CUEBALL_ENOMEM;
    tracker->counters.records_ignored += cueball__belief_foreign(belief, NULL, NULL);
    tracker->has_seen_addresses = true;
    cueball__addresses_replace(tracker, lookup, set);
    cueball__lookup_mark(tracker, lookup, true, false);
    cueball_time ttl = set->ttl * CUEBALL__SECOND;
    tracker->last_ttl = ttl;
    cueball__lookup_rest(tracker, lookup, cueball__next_time(tracker, lookup, ttl, CUEBALL_NEVER));
    return CUEBALL_OK;
}

static int outcome_srv(cueball_tracker *tracker, cueball__lookup *lookup, const cueball__belief *belief)
{
    cueball__addresses *told = cueball__addresses_new(tracker, 0, belief->chain[0], "", server_text(tracker, lookup));
    if (!told)
        return CUEBALL_ENOMEM;
    told->ttl = belief->ttl;
    uint32_t least; /* the additionals', too */
    int result = cueball__srv_records(tracker, belief, told->server, &least);
    if (result != CUEBALL_OK) {
        cueball__addresses_free(tracker, told);
        return result;
    }
    tracker->counters.records_ignored += cueball__belief_foreign(belief, srv_record_is_used, tracker);
    cueball__addresses_free(tracker, lookup->set);
    lookup->set = told;
    cueball__lookup_mark(tracker, lookup, true, false);
    cueball_time ttl = least * CUEBALL__SECOND;
    tracker->last_ttl = tracker->last_srv_ttl = ttl;
    cueball__lookup_rest(tracker, lookup, cueball__next_time(tracker, lookup, ttl, CUEBALL_NEVER));
    return CUEBALL_OK;
}

int cueball__outcome_records(cueball_tracker *tracker, cueball__lookup *lookup, const cueball__belief *belief)
{
    int result = lookup->name ? outcome_addresses(tracker, lookup, belief) : outcome_srv(tracker, lookup, belief);
    if (result == CUEBALL_OK)
        lookup->preferred = cueball__lookup_candidate(lookup);
    return result;
}

/* ------------------------------------------------------------ no records -- */

static int32_t targets_from(uint32_t rcode)
{
    return rcode == CUEBALL_RCODE_NXDOMAIN ? CUEBALL_TARGETS_NXDOMAIN
           : rcode == CUEBALL_RCODE_NOTIMP ? CUEBALL_TARGETS_NOTIMP
                                           : CUEBALL_TARGETS_NODATA;
}

int cueball__outcome_negative(cueball_tracker *tracker, cueball__lookup *lookup, uint32_t rcode, cueball_time ttl)
{
    char name[CUEBALL__NAME_TEXT];
    cueball__lookup_subject(tracker, lookup, name, sizeof name);
    cueball__addresses *none = cueball__addresses_new(tracker, 0, name, name, server_text(tracker, lookup));
    if (!none)
        return CUEBALL_ENOMEM;
    none->rcode = rcode;
    none->ttl = (uint32_t)(ttl / CUEBALL__SECOND);
    cueball_time most = CUEBALL_NEVER;
    if (lookup->name) {
        cueball__addresses_replace(tracker, lookup, none);
        ttl = ttl ? ttl : CUEBALL__TTL_UNKNOWN;
        most = CUEBALL__NEGATIVE_MAX;
    } else {
        if (!cueball__srv_fall_back(tracker, targets_from(rcode))) {
            cueball__addresses_free(tracker, none);
            return CUEBALL_ENOMEM;
        }
        cueball__hold_until(tracker, 0);
        cueball__addresses_free(tracker, lookup->set);
        lookup->set = none;
        ttl = ttl ? ttl : CUEBALL__SRV_ABSENT;
    }
    cueball__lookup_mark(tracker, lookup, true, false);
    cueball__lookup_rest(tracker, lookup, cueball__next_time(tracker, lookup, ttl, most));
    return CUEBALL_OK;
}

/* ---------------------------------------------------------------- failure -- */

static void lookup_tell(cueball_tracker *tracker, cueball__lookup *lookup, const char *message)
{
    size_t size = strlen(message) + 1;
    if (lookup->message)
        cueball__memory_release(&tracker->memory, lookup->message, strlen(lookup->message) + 1);
    lookup->message = cueball__memory_allocate(&tracker->memory, size);
    if (lookup->message)
        memcpy(lookup->message, message, size);
}

/* Once there were SRV records, no answer is no reason to look elsewhere: targets
 * and addresses stay as they are until SRV is asked again (anti-flap). */
static void srv_failed(cueball_tracker *tracker, cueball__lookup *lookup)
{
    cueball_time pause = tracker->last_srv_ttl;
    if (!tracker->has_seen_srv) {
        if (tracker->targets_n == 0 && !cueball__srv_fall_back(tracker, CUEBALL_TARGETS_FAILED)) {
            cueball__lookup_put_off(tracker, lookup);
            return;
        }
        if (tracker->has_seen_addresses)
            pause = CUEBALL__SRV_RETURN;
    }
    cueball_time next = cueball__next_time(tracker, lookup, pause, CUEBALL_NEVER);
    cueball__lookup_rest(tracker, lookup, next); /* before the others, so that it is asked before them */
    if (tracker->has_seen_srv)
        cueball__hold_until(tracker, next);
}

void cueball__outcome_failed(cueball_tracker *tracker, cueball__lookup *lookup, const char *message)
{
    cueball__lookup_mark(tracker, lookup, true, true);
    lookup_tell(tracker, lookup, message);
    if (!lookup->name) {
        srv_failed(tracker, lookup);
        return;
    }
    /* Many a server is deaf to AAAA.  Where the name has IPv4 addresses there is no hurry. */
    const cueball__addresses *ipv4 = lookup->name->lookups[0].set;
    bool is_spare = lookup->type == CUEBALL_RR_AAAA && ipv4 && ipv4->count > 0 && !(lookup->set && lookup->set->count > 0);
    cueball_time pause = is_spare ? CUEBALL__NEGATIVE_MAX : tracker->last_ttl;
    cueball__lookup_rest(tracker, lookup, cueball__next_time(tracker, lookup, pause, CUEBALL__NEGATIVE_MAX));
}
