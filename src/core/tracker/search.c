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
#include "state.h"

static void search_end(cueball_tracker *tracker, cueball__lookup *lookup)
{
    cueball__search *search = cueball__search_of(tracker, lookup);
    search->is_walking = false;
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
    cueball__lookup *partner = cueball__search_partner(lookup);
    uint32_t count = cueball__candidates_count(tracker, lookup);
    uint32_t last = search->chosen != CUEBALL__NOWHERE && search->chosen < count ? search->chosen : count - 1;
    uint32_t next = cueball__candidate_find(tracker, lookup, search->at + 1);
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
    const cueball__lookup *partner = cueball__search_partner(lookup);
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
    cueball__lookup *partner = cueball__search_partner(lookup);
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
    cueball__lookup *partner = cueball__search_partner(lookup);
    if (partner && partner->said == CUEBALL__SAID_NXDOMAIN) {
        search_advance(tracker, lookup);
    } else if (!partner || partner->said != CUEBALL__SAID_NOTHING) {
        search_end(tracker, lookup);
        search_release(tracker, partner);
    }
}

bool cueball__search_stumbled(cueball_tracker *tracker, cueball__lookup *lookup)
{
    const cueball__lookup *partner = cueball__search_partner(lookup);
    lookup->stumbles_here = true;
    if (!cueball__search_of(tracker, lookup)->is_walking || !partner || partner->said != CUEBALL__SAID_NXDOMAIN)
        return false;
    if (search_advance(tracker, lookup) != CUEBALL_OK)
        cueball__lookup_put_off(tracker, lookup);
    return true;
}

/* A lookup of the domain was stopped, whose answer the other one may have waited for. */
void cueball__search_left(cueball_tracker *tracker)
{
    tracker->has_left = false;
    if (!tracker->domain || !tracker->domain->search.is_walking)
        return;
    bool is_asked = false;
    for (unsigned family = 0; family < 2; family++) {
        cueball__lookup *lookup = &tracker->domain->lookups[family];
        is_asked |= lookup->state != CUEBALL__LOOKUP_OFF;
        if (lookup->state == CUEBALL__LOOKUP_HELD && search_advance(tracker, lookup) != CUEBALL_OK)
            cueball__lookup_put_off(tracker, lookup);
    }
    tracker->domain->search.is_walking &= is_asked;
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
