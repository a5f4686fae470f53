/* Search: which names a short one may stand for, its candidates (resolv.conf(5)), and
 * which of them a lookup asks.  How one is found is in search.c. */
#include "state.h"

#include <stdio.h>
#include <string.h>

cueball__search *cueball__search_of(cueball_tracker *tracker, const cueball__lookup *lookup)
{
    return lookup->name ? &lookup->name->search : &tracker->srv_search;
}

static const cueball__search *search_at(const cueball_tracker *tracker, const cueball__lookup *lookup)
{
    return lookup->name ? &lookup->name->search : &tracker->srv_search;
}

/* The lookup of the other family, or NULL: none, or it is off. */
cueball__lookup *cueball__search_partner(const cueball__lookup *lookup)
{
    if (!lookup->name)
        return NULL;
    cueball__lookup *other = &lookup->name->lookups[lookup->type == CUEBALL_RR_A];
    return other->state == CUEBALL__LOOKUP_OFF ? NULL : other;
}

static bool lookup_is_searched(const cueball_tracker *tracker, const cueball__lookup *lookup)
{
    const char *domain = tracker->options.domain;
    return (!lookup->name || lookup->name->is_domain) && cueball__name_length(domain) == strlen(domain);
}

static uint32_t lookup_dots(const cueball_tracker *tracker, const cueball__lookup *lookup)
{
    return lookup->name ? tracker->domain_dots : tracker->srv_dots;
}

uint32_t cueball__candidates_count(const cueball_tracker *tracker, const cueball__lookup *lookup)
{
    uint32_t count = tracker->search_count;
    if (!lookup_is_searched(tracker, lookup))
        return 1;
    bool is_bare = tracker->domain_dots == 0 && count > 0 && lookup_dots(tracker, lookup) < tracker->ndots;
    return count + !(is_bare && tracker->no_tld_query);
}

void cueball__lookup_subject(const cueball_tracker *tracker, const cueball__lookup *lookup, char *text, size_t size)
{
    const char *name = lookup->name ? lookup->name->text : tracker->options.domain;
    int length = (int)cueball__name_length(name);
    if (lookup->name)
        snprintf(text, size, "%.*s", length, name);
    else
        snprintf(text, size, "%s.%.*s", tracker->options.service, length, name);
}

static void candidate_write(const cueball_tracker *tracker, const cueball__lookup *lookup, uint32_t candidate, char *text, size_t size)
{
    cueball__lookup_subject(tracker, lookup, text, size);
    if (!lookup_is_searched(tracker, lookup))
        return;
    bool is_first = lookup_dots(tracker, lookup) >= tracker->ndots; /* as it is */
    if (candidate == (is_first ? 0 : tracker->search_count))
        return;
    const char *within = tracker->search[candidate - is_first];
    size_t used = strlen(text), length = cueball__name_length(within);
    if (length > 0)
        snprintf(text + used, size - used, ".%.*s", (int)length, within);
    uint32_t octets, dots;
    if (!cueball__name_measure(text, &octets, &dots) || octets > CUEBALL__NAME_MAX)
        text[0] = '\0';
}

/* The first from `from` that is none too long; as many as there are: none is. */
uint32_t cueball__candidate_find(const cueball_tracker *tracker, const cueball__lookup *lookup, uint32_t from)
{
    char text[CUEBALL__NAME_TEXT];
    uint32_t count = cueball__candidates_count(tracker, lookup);
    for (; from < count; from++) {
        candidate_write(tracker, lookup, from, text, sizeof text);
        if (text[0])
            return from;
    }
    return count;
}

static uint32_t lookup_candidate(const cueball_tracker *tracker, const cueball__lookup *lookup)
{
    const cueball__search *search = search_at(tracker, lookup);
    if (search->is_walking)
        return search->at;
    return search->chosen == CUEBALL__NOWHERE ? cueball__candidate_find(tracker, lookup, 0) : search->chosen;
}

void cueball__lookup_name(const cueball_tracker *tracker, const cueball__lookup *lookup, char *text, size_t size)
{
    candidate_write(tracker, lookup, lookup_candidate(tracker, lookup), text, size);
}

bool cueball__search_looks(const cueball_tracker *tracker, const cueball__lookup *lookup)
{
    const cueball__search *search = search_at(tracker, lookup);
    return search->is_walking && search->chosen != CUEBALL__NOWHERE && search->at < search->chosen;
}

cueball_time cueball__search_due(cueball_tracker *tracker, cueball__lookup *lookup, cueball_time due)
{
    const cueball__search *search = cueball__search_of(tracker, lookup);
    if (search->chosen == CUEBALL__NOWHERE || search->chosen == 0 || due <= search->better_at || !lookup_is_searched(tracker, lookup))
        return due;
    cueball_time least = cueball__later(tracker->now, tracker->min_ttl), look = search->better_at > least ? search->better_at : least;
    return look < due && search->chosen > cueball__candidate_find(tracker, lookup, 0) ? look : due;
}
