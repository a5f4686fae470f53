/* Why a lookup was given up, in words: "A db.example: SERVFAIL from 10.0.0.53:53
 * (3 attempts)".  Silence is told from whatever else can keep an answer away. */
#include "tracker.h"

#include <stdio.h>

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

void cueball__failure_write(const cueball_tracker *tracker, const cueball__lookup *lookup, const cueball__vote *verdict, char *message,
                            size_t size)
{
    char name[CUEBALL__NAME_TEXT];
    cueball__lookup_name(tracker, lookup, name, sizeof name);
    size_t used = (size_t)snprintf(message, size, "%s %.300s: ", cueball_rr_name(lookup->type), name);
    uint64_t servers = verdict ? UINT64_C(1) << verdict->server : lookup->tried;
    if (!verdict)
        used += causes_write(lookup->causes, message + used, size - used);
    else if (verdict->rcode <= CUEBALL_RCODE_REFUSED)
        used += (size_t)snprintf(message + used, size - used, "%s from ", cueball_rcode_name(verdict->rcode));
    else
        used += (size_t)snprintf(message + used, size - used, "rcode %u from ", verdict->rcode);
    used += servers_write(tracker, servers, message + used, size - used);
    if (used < size)
        snprintf(message + used, size - used, " (%u attempt%s)", lookup->attempt, lookup->attempt == 1 ? "" : "s");
}
