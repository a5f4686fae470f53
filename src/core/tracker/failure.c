/* Whether the backends can be found and, in words, why not; first of one lookup
 * that was given up: "A db.example: SERVFAIL from 10.0.0.53:53
 * (3 attempts)".  Silence is told from whatever else can keep an answer away. */
#include "state.h"

#include <stdio.h>
#include <string.h>

/* "a, b and c" of those asked, the first three; returns the length. */
static size_t servers_write(const cueball_tracker *tracker, uint64_t tried, char *text, size_t size)
{
    enum { NAMED = 3 };
    uint32_t count = 0, named = 0;
    size_t used = 0;
    for (uint32_t i = 0; i < tracker->servers_n; i++)
        count += (uint32_t)(tried >> i & 1);
    for (uint32_t i = 0; i < tracker->servers_n && named < NAMED && used < size; i++) {
        if (!(tried >> i & 1))
            continue;
        const char *between = named == 0 ? "" : named + 1 == count ? " and " : ", ";
        used += (size_t)snprintf(text + used, size - used, "%s%s", between, tracker->servers[i].text);
        named++;
    }
    if (count > NAMED && used < size)
        used += (size_t)snprintf(text + used, size - used, " and %u more", count - NAMED);
    return used < size ? used : size - 1;
}

/* "no answer from ", "connection refused, asking "; returns the length. */
static size_t causes_write(uint32_t causes, char *text, size_t size)
{
    static const char *const words[] = { [CUEBALL_SILENCE_TIMEOUT] = "no answer",
                                         [CUEBALL_SILENCE_NETWORK] = "unreachable",
                                         [CUEBALL_SILENCE_GARBAGE] = "nothing that can be read",
                                         [CUEBALL_SILENCE_REFUSED] = "connection refused",
                                         [CUEBALL_SILENCE_CUT] = "a cut answer",
                                         [CUEBALL_SILENCE_LOCAL] = "no descriptors or memory left here",
                                         [CUEBALL__LAME] = "a mere referral" };
    const uint32_t of_the_way = 1U << CUEBALL_SILENCE_NETWORK | 1U << CUEBALL_SILENCE_REFUSED | 1U << CUEBALL_SILENCE_LOCAL;
    size_t used = 0;
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        if (causes >> i & 1)
            used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "", words[i]);
    used += (size_t)snprintf(text + used, size - used, causes & of_the_way ? ", asking " : " from ");
    return used;
}

void cueball__failure_write(const cueball_tracker *tracker, const cueball__lookup *lookup, const cueball__vote *vote, char *message,
                            size_t size)
{
    char name[CUEBALL__NAME_TEXT];
    cueball__lookup_name(tracker, lookup, name, sizeof name);
    size_t used = (size_t)snprintf(message, size, "%s %.300s: ", cueball_rr_name(lookup->type), name);
    uint64_t servers = vote ? UINT64_C(1) << vote->server : lookup->tried;
    if (!vote)
        used += causes_write(lookup->causes, message + used, size - used);
    else if (vote->rcode <= CUEBALL_RCODE_REFUSED)
        used += (size_t)snprintf(message + used, size - used, "%s from ", cueball_rcode_name(vote->rcode));
    else
        used += (size_t)snprintf(message + used, size - used, "rcode %u from ", vote->rcode);
    used += servers_write(tracker, servers, message + used, size - used);
    if (used < size)
        snprintf(message + used, size - used, " (%u attempt%s)", lookup->attempt, lookup->attempt == 1 ? "" : "s");
}

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

static void lookup_failure_write(const cueball_tracker *tracker, const cueball__lookup *lookup, char *text, size_t size)
{
    char subject[CUEBALL__NAME_TEXT];
    if (lookup->message) {
        snprintf(text, size, "%s", lookup->message);
    } else {
        cueball__lookup_subject(tracker, lookup, subject, sizeof subject);
        snprintf(text, size, "%s %.300s: no answer", cueball_rr_name(lookup->type), subject);
    }
}

/* Every lookup is decided, and there is not one address. */
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
        lookup_failure_write(tracker, failed, text, size);
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
static void judgement_write(const cueball_tracker *tracker, char *text, size_t size)
{
    text[0] = '\0';
    if (tracker->has_no_service && tracker->srv.set)
        snprintf(text, size, "SRV %.300s: there is no such service (\".\" from %.100s)", tracker->srv.set->name, tracker->srv.set->server);
    else if (tracker->srv.has_failed)
        lookup_failure_write(tracker, &tracker->srv, text, size);
    else if (all_failed(tracker))
        lookup_failure_write(tracker, first_failed(tracker), text, size);
    else if (tracker->is_empty)
        emptiness_write(tracker, text, size);
}

void cueball__failure_judge(cueball_tracker *tracker)
{
    if (tracker->is_judged)
        return;
    tracker->is_judged = true;
    char text[CUEBALL__MESSAGE];
    judgement_write(tracker, text, sizeof text);
    if (text[0]) {
        tracker->is_failing = true;
        memcpy(tracker->message, text, sizeof text);
    } else if (tracker->undecided == 0) {
        tracker->is_failing = false;
    }
    tracker->tells_failure =
        tracker->is_failing != tracker->is_told_failing || (tracker->is_failing && strcmp(tracker->message, tracker->told_message) != 0);
}
