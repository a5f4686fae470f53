/* Whether the backends can be found, and in words why not. */
#include "tracker.h"

#include <stdio.h>
#include <string.h>

/* The first lookup among the targets that was given up. */
static const cueball__lookup *first_failed(const cueball_tracker *tracker)
{
    for (uint32_t i = 0; i < tracker->targets_n; i++)
        for (unsigned family = 0; family < 2; family++) {
            const cueball__lookup *lookup = &tracker->targets[i].name->lookups[family];
            if (lookup->state != CUEBALL__LOOKUP_OFF && lookup->has_failed)
                return lookup;
        }
    return NULL;
}

static void failure_write(const cueball_tracker *tracker, const cueball__lookup *lookup, char *text, size_t size)
{
    char subject[CUEBALL__NAME_TEXT];
    if (lookup->message) {
        snprintf(text, size, "%s", lookup->message);
    } else {
        cueball__lookup_subject(tracker, lookup, subject, sizeof subject);
        snprintf(text, size, "%s %.300s: no answer", cueball_rr_name(lookup->type), subject);
    }
}

/* Every name has its outcome, and there is not one address. */
static void emptiness_write(const cueball_tracker *tracker, char *text, size_t size)
{
    if (tracker->targets_n == 0)
        return;
    if (tracker->families == 0) {
        snprintf(text, size, "%.250s: neither IPv4 nor IPv6 is in use", tracker->options.domain);
        return;
    }
    const cueball__lookup *failed = first_failed(tracker);
    if (failed) {
        failure_write(tracker, failed, text, size);
        return;
    }
    const cueball__name *name = tracker->targets[0].name;
    const cueball__addresses *set = name->lookups[0].state != CUEBALL__LOOKUP_OFF ? name->lookups[0].set : name->lookups[1].set;
    const char *server = set && set->server[0] ? set->server : "no nameserver";
    const char *rcode = set && set->rcode == CUEBALL_RCODE_NOERROR ? "NODATA" : set ? cueball_rcode_name(set->rcode) : "NODATA";
    char others[128] = "", subject[300];
    if (tracker->targets_n > 1)
        snprintf(others, sizeof others, ", nor have %u other targets any", tracker->targets_n - 1);
    if (tracker->families != tracker->options.families)
        snprintf(others + strlen(others), sizeof others - strlen(others), "; %s was not asked for, since this host has no IPv%c address",
                 tracker->families & CUEBALL_FAMILY_IPV4 ? "AAAA" : "A", tracker->families & CUEBALL_FAMILY_IPV4 ? '6' : '4');
    const char *alias = name->lookups[0].alias ? name->lookups[0].alias : name->lookups[1].alias;
    snprintf(subject, sizeof subject, "%.*s%s%.130s", alias ? 130 : 250, name->text, alias ? " is an alias of " : "", alias ? alias : "");
    const char *which = alias ? ", which" : "";
    if (set && set->rcode == CUEBALL_RCODE_NXDOMAIN)
        snprintf(text, size, "%s%s does not exist (NXDOMAIN from %.40s)%s", subject, which, server, others);
    else
        snprintf(text, size, "%s%s has no addresses (%s from %.40s)%s", subject, which, rcode, server, others);
}

/* Every lookup of every name was given up; names whose addresses came with the SRV
 * answer have none. */
static bool all_failed(const cueball_tracker *tracker)
{
    uint32_t names = tracker->names_n + (tracker->domain != NULL);
    uint32_t families = (tracker->families & CUEBALL_FAMILY_IPV4 ? 1U : 0U) + (tracker->families & CUEBALL_FAMILY_IPV6 ? 1U : 0U);
    return tracker->on > 0 && tracker->failed == tracker->on && tracker->on == names * families;
}

/* "" if all is well. */
static void verdict_write(const cueball_tracker *tracker, char *text, size_t size)
{
    text[0] = '\0';
    if (tracker->has_no_service && tracker->srv.set)
        snprintf(text, size, "SRV %.300s: there is no such service (\".\" from %.100s)", tracker->srv.set->name, tracker->srv.set->server);
    else if (tracker->srv.has_failed)
        failure_write(tracker, &tracker->srv, text, size);
    else if (all_failed(tracker))
        failure_write(tracker, first_failed(tracker), text, size);
    else if (tracker->is_empty)
        emptiness_write(tracker, text, size);
}

void cueball__verdict(cueball_tracker *tracker)
{
    if (tracker->is_judged)
        return;
    tracker->is_judged = true;
    char text[CUEBALL__MESSAGE];
    verdict_write(tracker, text, sizeof text);
    if (text[0]) {
        tracker->is_failing = true;
        memcpy(tracker->message, text, sizeof text);
    } else if (tracker->undecided == 0) {
        tracker->is_failing = false;
    }
    tracker->tells_verdict = tracker->is_failing != tracker->is_told_failing
                             || (tracker->is_failing && strcmp(tracker->message, tracker->told_message) != 0);
}
