/* What comes of a lookup, and when it is asked again.  Rows as in
 * docs/dns.md, "The tracker". */
#include "state.h"

#include <stdio.h>
#include <string.h>

cueball_time cueball__next_time(cueball_tracker *tracker, const cueball__lookup *lookup, cueball_time ttl, cueball_time most)
{
    if (ttl > most)
        ttl = most;
    if (ttl > tracker->max_ttl)
        ttl = tracker->max_ttl;
    if (ttl < tracker->min_ttl)
        ttl = tracker->min_ttl;
    double late = (double)ttl * cueball__lookup_backoff(tracker, lookup)->spread;
    if (late > (double)CUEBALL__JITTER_MAX)
        late = (double)CUEBALL__JITTER_MAX;
    if (late > 0)
        late *= cueball__random_unit(&tracker->random);
    return cueball__later(cueball__later(tracker->now, ttl), (cueball_time)late);
}

/* The pause before a lookup is asked again whose answer was no use: doubled with
 * each, and by chance up to `spread` shorter, so that programs that failed together
 * do not ask together (RFC 8767, 5: failure recheck). */
static cueball_time recheck_pause(cueball_tracker *tracker, cueball__lookup *lookup, cueball_time most)
{
    cueball_time pause = CUEBALL__RECHECK_FIRST;
    for (uint32_t i = 0; i < lookup->rechecks && pause < most; i++)
        pause *= 2;
    if (pause < most)
        lookup->rechecks++; /* no further: another failure may have a longer limit */
    else
        pause = most;
    double spread = cueball__lookup_backoff(tracker, lookup)->spread;
    if (spread > 0)
        pause -= (cueball_time)((double)pause * spread * cueball__random_unit(&tracker->random));
    return pause > CUEBALL__SECOND / 1000 ? pause : CUEBALL__SECOND / 1000;
}

static void lookup_recheck(cueball_tracker *tracker, cueball__lookup *lookup, cueball_time most)
{
    lookup->is_hastened = true;
    cueball__lookup_rest(tracker, lookup, cueball__later(tracker->now, recheck_pause(tracker, lookup, most)));
}

static void lookup_hasten(cueball_tracker *tracker, cueball__lookup *lookup)
{
    if (lookup->state != CUEBALL__LOOKUP_IDLE || lookup->is_hastened)
        return;
    lookup->is_hastened = true;
    cueball_time next = cueball__later(tracker->now, recheck_pause(tracker, lookup, tracker->max_recheck));
    if (next < lookup->due)
        cueball__lookup_rest(tracker, lookup, next);
}

/* An answer that is not accepted is not obeyed for caching either. */
void cueball__recheck(cueball_tracker *tracker)
{
    if (!tracker->is_empty || tracker->has_no_service || tracker->is_judged)
        return;
    lookup_hasten(tracker, &tracker->srv);
    for (uint32_t i = 0; i < tracker->targets_n; i++)
        for (unsigned family = 0; family < 2; family++)
            lookup_hasten(tracker, &tracker->targets[i].name->lookups[family]);
}

static const char *server_text(const cueball_tracker *tracker, const cueball__lookup *lookup)
{
    return lookup->server < tracker->servers_n ? tracker->servers[lookup->server].text : "";
}

/* ---------------------------------------------------------------- failure -- */

static bool srv_record_is_used(const void *user, const char *owner)
{
    const cueball_tracker *tracker = user;
    const cueball__name *name = cueball__name_find(tracker, owner);
    return name && name->is_fed;
}

static int schedule_addresses(cueball_tracker *tracker, cueball__lookup *lookup, const cueball__accepted *accepted)
{
    const char *name = lookup->name->is_domain ? accepted->chain[0] : lookup->name->text;
    cueball__addresses *set = cueball__addresses_from(tracker, accepted, lookup->type, name, server_text(tracker, lookup));
    if (!set)
        return CUEBALL_ENOMEM;
    tracker->counters.records_ignored += cueball__accepted_foreign(accepted, NULL, NULL);
    cueball__addresses_replace(tracker, lookup, set);
    cueball__lookup_mark(tracker, lookup, true, false);
    lookup->rechecks = 0;
    cueball_time ttl = set->ttl * CUEBALL__SECOND;
    cueball__lookup_rest(tracker, lookup, cueball__next_time(tracker, lookup, ttl, CUEBALL_NEVER));
    return CUEBALL_OK;
}

static void srv_refused(cueball_tracker *tracker, cueball__lookup *lookup, const cueball__addresses *told)
{
    char message[CUEBALL__MESSAGE];
    snprintf(message, sizeof message, "SRV %.300s: its targets are addresses, and names are expected (RFC 2782), says %.100s", told->name,
             told->server);
    cueball__schedule_failed(tracker, lookup, message);
}

static int schedule_srv(cueball_tracker *tracker, cueball__lookup *lookup, const cueball__accepted *accepted)
{
    cueball__addresses *told = cueball__addresses_new(tracker, 0, accepted->chain[0], "", server_text(tracker, lookup));
    if (!told)
        return CUEBALL_ENOMEM;
    told->ttl = accepted->ttl;
    uint32_t least; /* the additionals', too */
    int result = cueball__srv_records(tracker, accepted, told->server, &least);
    if (result != CUEBALL_OK) {
        if (result == CUEBALL_EINVAL)
            srv_refused(tracker, lookup, told);
        cueball__addresses_free(tracker, told);
        return result == CUEBALL_EINVAL ? CUEBALL_OK : result;
    }
    tracker->counters.records_ignored += cueball__accepted_foreign(accepted, srv_record_is_used, tracker);
    cueball__addresses_free(tracker, lookup->set);
    lookup->set = told;
    cueball__lookup_mark(tracker, lookup, true, false);
    if (!tracker->is_empty) /* else its targets are as wrong as they were */
        lookup->rechecks = 0;
    cueball_time ttl = least * CUEBALL__SECOND;
    cueball__lookup_rest(tracker, lookup, cueball__next_time(tracker, lookup, ttl, CUEBALL_NEVER));
    return CUEBALL_OK;
}

int cueball__schedule_records(cueball_tracker *tracker, cueball__lookup *lookup, const cueball__accepted *accepted)
{
    int result = lookup->name ? schedule_addresses(tracker, lookup, accepted) : schedule_srv(tracker, lookup, accepted);
    if (result == CUEBALL_OK)
        lookup->was_found = true;
    return result;
}

static int32_t targets_from(uint32_t rcode)
{
    return rcode == CUEBALL_RCODE_NXDOMAIN ? CUEBALL_TARGETS_NXDOMAIN
           : rcode == CUEBALL_RCODE_NOTIMP ? CUEBALL_TARGETS_NOTIMP
                                           : CUEBALL_TARGETS_NODATA;
}

/* Empty where it was not.  A name that has addresses of the other family is well. */
static bool lookup_is_lost(const cueball__lookup *lookup)
{
    const cueball__name *name = lookup->name;
    bool has_any =
        name && ((name->lookups[0].set && name->lookups[0].set->count > 0) || (name->lookups[1].set && name->lookups[1].set->count > 0));
    return lookup->was_found && !has_any;
}

int cueball__schedule_negative(cueball_tracker *tracker, cueball__lookup *lookup, uint32_t rcode, cueball_time ttl)
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
        /* The domain's own addresses are second best: RFC 2782 has them tried for want of SRV. */
        ttl = ttl && ttl < tracker->max_recheck ? ttl : tracker->max_recheck;
    }
    cueball__lookup_mark(tracker, lookup, true, false);
    if (lookup_is_lost(lookup) && (CUEBALL__RECHECK_FIRST << (lookup->rechecks < 16 ? lookup->rechecks : 16)) < (ttl < most ? ttl : most))
        lookup_recheck(tracker, lookup, ttl); /* it may have gone for a moment only */
    else
        cueball__lookup_rest(tracker, lookup, cueball__next_time(tracker, lookup, ttl, most));
    return CUEBALL_OK;
}

static void lookup_tell(cueball_tracker *tracker, cueball__lookup *lookup, const char *message)
{
    size_t size = strlen(message) + 1;
    if (lookup->message)
        cueball__memory_release(&tracker->memory, lookup->message, strlen(lookup->message) + 1);
    lookup->message = cueball__memory_allocate(&tracker->memory, size);
    if (lookup->message)
        memcpy(lookup->message, message, size);
}

/* No answer is no reason to look elsewhere (RFC 2782): targets and addresses stay
 * as they are until SRV is asked again; and those of SRV are kept until then. */
static void srv_failed(cueball_tracker *tracker, cueball__lookup *lookup)
{
    lookup_recheck(tracker, lookup, tracker->max_recheck); /* before the others, so that it is asked before them */
    if (tracker->has_seen_srv)
        cueball__hold_until(tracker, lookup->due);
}

void cueball__schedule_failed(cueball_tracker *tracker, cueball__lookup *lookup, const char *message)
{
    cueball__lookup_mark(tracker, lookup, true, true);
    lookup_tell(tracker, lookup, message);
    if (!lookup->name) {
        srv_failed(tracker, lookup);
        return;
    }
    /* Many a server is deaf to AAAA for good.  Where the name has IPv4 addresses there is no hurry. */
    const cueball__addresses *ipv4 = lookup->name->lookups[0].set;
    bool is_spare = lookup->type == CUEBALL_RR_AAAA && ipv4 && ipv4->count > 0 && !(lookup->set && lookup->set->count > 0);
    lookup_recheck(tracker, lookup, is_spare ? CUEBALL__NEGATIVE_MAX : tracker->max_recheck);
}
