/* Search: a name with few dots stands for several, its candidates (resolv.conf(5)).
 * One of them is found, and A and AAAA are both asked of that one: addresses of
 * two candidates would be two services.
 *
 * The happy path: nothing is found yet, so the lookups of a name walk: both ask of
 * the first candidate; the first that has records there ends the walk, and that
 * candidate is chosen.  From then on each lookup asks for itself, of the chosen one.
 *
 * What can go wrong: a candidate has nothing for one family: it holds until the
 * other family has its answer, and both go on together.  One cannot be had: the
 * walk ends there, since a worse candidate is no answer to that.  The chosen one
 * has nothing any more: nobody is moved elsewhere for that (a name may be gone
 * for a moment), until the backends have failed too.  Better candidates than the
 * chosen one come back: now and then the walk begins with them. */
#include "tracker.h"

#include <stdio.h>
#include <string.h>

/* How often better candidates are looked at, in rechecks at their slowest. */
enum { RECHECKS_PER_LOOK = 2 };

cueball__search *cueball__search_of(cueball_tracker *tracker, const cueball__lookup *lookup)
{
    return lookup->name ? &lookup->name->search : &tracker->srv_search;
}

static const cueball__search *search_at(const cueball_tracker *tracker, const cueball__lookup *lookup)
{
    return lookup->name ? &lookup->name->search : &tracker->srv_search;
}

/* The lookup of the other family, or NULL: none, or it is off. */
static cueball__lookup *search_partner(const cueball__lookup *lookup)
{
    if (!lookup->name)
        return NULL;
    cueball__lookup *other = &lookup->name->lookups[lookup->type == CUEBALL_RR_A];
    return other->state == CUEBALL__LOOKUP_OFF ? NULL : other;
}

/* ------------------------------------------------------------- candidates -- */

static bool lookup_is_searched(const cueball_tracker *tracker, const cueball__lookup *lookup)
{
    const char *domain = tracker->options.domain;
    return (!lookup->name || lookup->name->is_domain) && cueball__name_length(domain) == strlen(domain);
}

static uint32_t lookup_dots(const cueball_tracker *tracker, const cueball__lookup *lookup)
{
    return lookup->name ? tracker->domain_dots : tracker->srv_dots;
}

static uint32_t lookup_candidates(const cueball_tracker *tracker, const cueball__lookup *lookup)
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
static uint32_t candidate_find(const cueball_tracker *tracker, const cueball__lookup *lookup, uint32_t from)
{
    char text[CUEBALL__NAME_TEXT];
    uint32_t count = lookup_candidates(tracker, lookup);
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
    return search->chosen == CUEBALL__NOWHERE ? candidate_find(tracker, lookup, 0) : search->chosen;
}

void cueball__lookup_name(const cueball_tracker *tracker, const cueball__lookup *lookup, char *text, size_t size)
{
    candidate_write(tracker, lookup, lookup_candidate(tracker, lookup), text, size);
}

/* ------------------------------------------------------------------ walking -- */

bool cueball__search_looks(const cueball_tracker *tracker, const cueball__lookup *lookup)
{
    const cueball__search *search = search_at(tracker, lookup);
    return search->is_walking && search->chosen != CUEBALL__NOWHERE && search->at < search->chosen;
}

static void search_join(cueball_tracker *tracker, cueball__lookup *lookup)
{
    lookup->said = CUEBALL__SAID_NOTHING;
    lookup->saw_nodata = false;
    lookup->negative_ttl = 0;
    cueball__lookup_restart(tracker, lookup);
}

void cueball__search_begin(cueball_tracker *tracker, cueball__lookup *lookup)
{
    cueball__search *search = cueball__search_of(tracker, lookup);
    lookup->said = CUEBALL__SAID_NOTHING;
    lookup->saw_nodata = false;
    lookup->negative_ttl = 0;
    if (search->is_walking || lookup_candidates(tracker, lookup) < 2)
        return;
    bool is_better_due = search->chosen != CUEBALL__NOWHERE && search->better_at <= tracker->now;
    uint32_t first = candidate_find(tracker, lookup, 0);
    if (search->chosen != CUEBALL__NOWHERE && (!is_better_due || search->chosen <= first))
        return;
    search->is_walking = true;
    search->at = first;
    search->better_at = cueball__later(tracker->now, RECHECKS_PER_LOOK * tracker->max_recheck);
    cueball__lookup *partner = search_partner(lookup);
    if (partner && partner->state != CUEBALL__LOOKUP_STALLED)
        search_join(tracker, partner);
}

static void search_end(cueball_tracker *tracker, cueball__lookup *lookup)
{
    cueball__search *search = cueball__search_of(tracker, lookup);
    search->is_walking = false;
}

cueball_time cueball__search_due(cueball_tracker *tracker, cueball__lookup *lookup, cueball_time due)
{
    const cueball__search *search = cueball__search_of(tracker, lookup);
    if (search->chosen == CUEBALL__NOWHERE || search->chosen == 0 || due <= search->better_at || !lookup_is_searched(tracker, lookup))
        return due;
    cueball_time least = cueball__later(tracker->now, tracker->min_ttl), look = search->better_at > least ? search->better_at : least;
    return look < due && search->chosen > candidate_find(tracker, lookup, 0) ? look : due;
}

/* Nothing was found at any candidate, or it has to stay at this one. */
static int search_negative(cueball_tracker *tracker, cueball__lookup *lookup)
{
    uint32_t rcode = lookup->saw_nodata ? CUEBALL_RCODE_NOERROR : CUEBALL_RCODE_NXDOMAIN;
    return cueball__schedule_negative(tracker, lookup, rcode, lookup->negative_ttl);
}

static void search_release(cueball_tracker *tracker, cueball__lookup *lookup)
{
    if (lookup && lookup->state == CUEBALL__LOOKUP_HELD && search_negative(tracker, lookup) != CUEBALL_OK)
        cueball__lookup_put_off(tracker, lookup);
}

/* On to the next candidate, or to the end. */
static int search_advance(cueball_tracker *tracker, cueball__lookup *lookup)
{
    cueball__search *search = cueball__search_of(tracker, lookup);
    cueball__lookup *partner = search_partner(lookup);
    uint32_t count = lookup_candidates(tracker, lookup);
    uint32_t last = search->chosen != CUEBALL__NOWHERE && search->chosen < count ? search->chosen : count - 1;
    uint32_t next = candidate_find(tracker, lookup, search->at + 1);
    if (next > last) {
        search_end(tracker, lookup);
        search_release(tracker, partner);
        return search_negative(tracker, lookup);
    }
    search->at = next;
    lookup->said = CUEBALL__SAID_NOTHING;
    cueball__lookup_restart(tracker, lookup);
    if (partner && partner->state != CUEBALL__LOOKUP_STALLED) {
        partner->said = CUEBALL__SAID_NOTHING;
        cueball__lookup_restart(tracker, partner);
    }
    return CUEBALL_OK;
}

static bool said_none(const cueball__lookup *lookup)
{
    return lookup->said == CUEBALL__SAID_NODATA || lookup->said == CUEBALL__SAID_NXDOMAIN;
}

/* One of the two said none, or was given up: is the candidate settled by that? */
static int search_settle(cueball_tracker *tracker, cueball__lookup *lookup)
{
    const cueball__lookup *partner = search_partner(lookup);
    if (!partner || said_none(partner))
        return search_advance(tracker, lookup);
    /* Who does not exist has no records of any type: a server that is deaf to the other type holds nobody up. */
    if (lookup->said == CUEBALL__SAID_NXDOMAIN && (partner->said == CUEBALL__SAID_FAILED || partner->stumbles_here))
        return search_advance(tracker, lookup);
    if (partner->said == CUEBALL__SAID_FAILED) {
        search_end(tracker, lookup);
        return search_negative(tracker, lookup);
    }
    cueball__lookup_hold(tracker, lookup);
    return CUEBALL_OK;
}

int cueball__search_absent(cueball_tracker *tracker, cueball__lookup *lookup, uint32_t rcode, cueball_time ttl)
{
    bool is_nodata = rcode == CUEBALL_RCODE_NOERROR;
    lookup->saw_nodata |= is_nodata;
    if (ttl && (lookup->negative_ttl == 0 || ttl < lookup->negative_ttl))
        lookup->negative_ttl = ttl;
    if (!cueball__search_of(tracker, lookup)->is_walking)
        return search_negative(tracker, lookup);
    lookup->said = is_nodata ? CUEBALL__SAID_NODATA : CUEBALL__SAID_NXDOMAIN;
    return search_settle(tracker, lookup);
}

void cueball__search_found(cueball_tracker *tracker, cueball__lookup *lookup)
{
    cueball__search *search = cueball__search_of(tracker, lookup);
    if (!search->is_walking)
        return;
    search->chosen = search->at;
    search_end(tracker, lookup);
    cueball__lookup_rest(tracker, lookup, lookup->due); /* and no later than the next look */
    cueball__lookup *partner = search_partner(lookup);
    search_release(tracker, partner);
    if (!partner || !partner->set || partner->set->count == 0)
        return;
    char name[CUEBALL__NAME_TEXT];
    cueball__lookup_name(tracker, partner, name, sizeof name);
    if (cueball__name_compare(partner->set->name, name) != 0) /* of another candidate, which is another service */
        cueball__addresses_replace(tracker, partner, NULL);
}

void cueball__search_failed(cueball_tracker *tracker, cueball__lookup *lookup)
{
    cueball__search *search = cueball__search_of(tracker, lookup);
    if (!search->is_walking)
        return;
    lookup->said = CUEBALL__SAID_FAILED;
    cueball__lookup *partner = search_partner(lookup);
    if (partner && partner->said == CUEBALL__SAID_NXDOMAIN) {
        search_advance(tracker, lookup);
    } else if (!partner || partner->said != CUEBALL__SAID_NOTHING) {
        search_end(tracker, lookup);
        search_release(tracker, partner);
    }
}

bool cueball__search_stumbled(cueball_tracker *tracker, cueball__lookup *lookup)
{
    const cueball__lookup *partner = search_partner(lookup);
    lookup->stumbles_here = true;
    if (!cueball__search_of(tracker, lookup)->is_walking || !partner || partner->said != CUEBALL__SAID_NXDOMAIN)
        return false;
    if (search_advance(tracker, lookup) != CUEBALL_OK)
        cueball__lookup_put_off(tracker, lookup);
    return true;
}

void cueball__search_left(cueball_tracker *tracker, cueball__lookup *lookup)
{
    cueball__search *search = cueball__search_of(tracker, lookup);
    cueball__lookup *partner = search_partner(lookup);
    if (!search->is_walking)
        return;
    if (!partner)
        search->is_walking = false;
    else if (partner->state == CUEBALL__LOOKUP_HELD && search_advance(tracker, partner) != CUEBALL_OK)
        cueball__lookup_put_off(tracker, partner);
}

/* -------------------------------------------------------------- beginning anew -- */

static void search_forget(cueball__search *search)
{
    search->is_walking = false;
    search->chosen = CUEBALL__NOWHERE;
}

static void lookup_anew(cueball_tracker *tracker, cueball__lookup *lookup)
{
    if (lookup->state == CUEBALL__LOOKUP_OFF || lookup->state == CUEBALL__LOOKUP_STALLED)
        return;
    cueball__search_begin(tracker, lookup);
    cueball__lookup_restart(tracker, lookup);
}

void cueball__searches_anew(cueball_tracker *tracker)
{
    search_forget(&tracker->srv_search);
    if (tracker->domain)
        search_forget(&tracker->domain->search);
    lookup_anew(tracker, &tracker->srv);
    for (unsigned family = 0; family < 2 && tracker->domain; family++)
        lookup_anew(tracker, &tracker->domain->lookups[family]);
}
