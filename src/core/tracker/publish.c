/* The backends are the union of the addresses of all targets.  It is worked out
 * when something changed, and compared with what was told: only the difference
 * becomes actions, and only what needs no memory happens after the first change. */
#include "state.h"

#include "kit/sort.h"

#include <stdio.h>
#include <string.h>

typedef struct find {
    const cueball__target *target;
    const cueball__addresses *set;
    const unsigned char *address;
    uint32_t type, port, priority, weight;
    cueball__tracked *made;
} find;

typedef struct delta {
    find *found;
    uint32_t count, max;
    cueball__tracked **merged; /* room for all that was and all that is */
    uint32_t merged_max;
    bool may_remove;
} delta;

/* ---------------------------------------------------------------- the union -- */

static int key_compare(uint32_t a_type, const unsigned char *a, uint32_t a_port, uint32_t b_type, const unsigned char *b, uint32_t b_port)
{
    if (a_type != b_type)
        return a_type > b_type ? -1 : 1; /* IPv6 first */
    int order = memcmp(a, b, 16);
    if (order != 0)
        return order;
    return (a_port > b_port) - (a_port < b_port);
}

int cueball__tracked_compare(const cueball__tracked *a, const cueball__tracked *b)
{
    return key_compare(a->facts.type, a->address, a->facts.port, b->facts.type, b->address, b->facts.port);
}

static int found_compare(const void *left, const void *right)
{
    const find *a = left, *b = right;
    int order = key_compare(a->type, a->address, a->port, b->type, b->address, b->port);
    if (order != 0)
        return order;
    if (a->priority != b->priority)
        return a->priority < b->priority ? -1 : 1;
    return (a->target > b->target) - (a->target < b->target);
}

/* Those of one target, as far as there is room; only counted without a list. */
static uint32_t target_find(const cueball_tracker *tracker, const cueball__target *target, find *list, uint32_t room)
{
    assert(target->name->references > 0);
    uint32_t count = 0;
    for (unsigned family = 0; family < 2; family++) {
        const cueball__lookup *lookup = &target->name->lookups[family];
        if (!lookup->set || !(tracker->families & cueball__family_of(lookup->type)))
            continue;
        for (uint32_t i = 0; i < lookup->set->count && count < room; i++, count++) {
            if (!list)
                continue;
            list[count] = (find){ .target = target, .set = lookup->set, .address = lookup->set->at[i], .type = lookup->type };
            list[count].port = target->port;
            list[count].priority = target->priority;
            list[count].weight = target->weight ? target->weight : 1;
        }
    }
    assert(count <= room);
    return count;
}

static uint32_t union_find(const cueball_tracker *tracker, find *list)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < tracker->targets_n; i++)
        count += target_find(tracker, &tracker->targets[i], list ? list + count : NULL, CUEBALL__TRACKED_MAX - count);
    assert(count <= CUEBALL__TRACKED_MAX);
    return count;
}

/* Each backend once: with the best priority, and the weights of that together. */
static uint32_t union_merge(find *list, uint32_t count)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        find *last = kept ? &list[kept - 1] : NULL;
        bool is_known = last && key_compare(last->type, last->address, last->port, list[i].type, list[i].address, list[i].port) == 0;
        if (!is_known)
            list[kept++] = list[i];
        else if (last->priority == list[i].priority)
            last->weight += list[i].weight; /* at most 65536 of 65535: within 32 bits */
    }
    for (uint32_t i = 0; i < kept; i++)
        if (list[i].weight > 65535)
            list[i].weight = 65535;
    assert(kept <= count);
    return kept;
}

/* ------------------------------------------------------------ what is told -- */

static const char *copied(char **at, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = memcpy(*at, text, size);
    *at += size;
    return copy;
}

/* A copy of these facts with their strings; NULL without memory. */
static cueball__tracked *tracked_new(cueball_tracker *tracker, const cueball_tracked *facts, const unsigned char *address)
{
    assert(facts->address[0]);
    assert(facts->weight > 0);
    size_t strings = strlen(facts->address) + strlen(facts->name) + strlen(facts->owner) + strlen(facts->server) + strlen(facts->srv_name)
                     + strlen(facts->srv_server) + 6;
    cueball__tracked *made = cueball__memory_allocate(&tracker->memory, sizeof *made + strings);
    if (!made)
        return NULL;
    memset(made, 0, sizeof *made);
    made->size = sizeof *made + strings;
    made->facts = *facts;
    memcpy(made->address, address, sizeof made->address);
    cueball__link_init(&made->at_state);
    char *at = (char *)(made + 1);
    made->facts.address = copied(&at, facts->address);
    made->facts.name = copied(&at, facts->name);
    made->facts.owner = copied(&at, facts->owner);
    made->facts.server = copied(&at, facts->server);
    made->facts.srv_name = copied(&at, facts->srv_name);
    made->facts.srv_server = copied(&at, facts->srv_server);
    assert(at == (char *)made + made->size);
    assert(!cueball__link_is_linked(&made->at_state));
    return made;
}

void cueball__tracked_free(cueball_tracker *tracker, cueball__tracked *tracked)
{
    if (!tracked)
        return;
    cueball__list_remove(&tracked->at_state);
    cueball__memory_release(&tracker->memory, tracked, tracked->size);
}

static cueball__tracked *tracked_from(cueball_tracker *tracker, const find *found)
{
    assert(found->weight > 0);
    assert(found->weight <= 65535);
    char text[CUEBALL__ADDRESS_TEXT];
    const cueball__addresses *told = tracker->srv.set;
    bool has_asked = told && tracker->targets_from != CUEBALL_TARGETS_DOMAIN;
    char asked[CUEBALL__NAME_TEXT] = "";
    if (tracker->targets_from != CUEBALL_TARGETS_DOMAIN)
        cueball__lookup_subject(tracker, &tracker->srv, asked, sizeof asked);
    cueball__address_write(found->type, found->address, text, sizeof text);
    cueball_tracked facts = { .address = text, .name = found->set->name, .owner = found->set->owner, .server = found->set->server };
    facts.srv_name = has_asked ? told->name : asked;
    facts.srv_server = has_asked ? told->server : "";
    facts.port = found->port;
    facts.priority = found->priority;
    facts.weight = found->weight;
    facts.type = found->type;
    facts.ttl = found->set->ttl;
    facts.srv_ttl = has_asked ? told->ttl : 0;
    facts.targets_from = tracker->targets_from;
    facts.is_additional = found->set->is_additional;
    cueball__tracked *made = tracked_new(tracker, &facts, found->address);
    if (made)
        made->is_of_domain = found->target->name->is_domain;
    return made;
}

/* Why it is gone, and who said so. */
static void removal_find(const cueball_tracker *tracker, const cueball__tracked *gone, cueball_tracked *facts)
{
    assert(!gone->is_gone);
    const char *srv_server = tracker->srv.set ? tracker->srv.set->server : "";
    facts->server = srv_server;
    facts->removal = CUEBALL_REMOVAL_TARGET;
    const cueball__target *target = NULL;
    if (!gone->is_of_domain)
        target = cueball__target_find(tracker, facts->name, facts->port);
    else if (tracker->targets_n > 0 && tracker->targets[0].name == tracker->domain)
        target = &tracker->targets[0];
    if (tracker->has_no_service) {
        facts->removal = CUEBALL_REMOVAL_NO_SERVICE;
    } else if (!(tracker->families & cueball__family_of(facts->type))) {
        facts->removal = CUEBALL_REMOVAL_FAMILY;
        facts->server = "";
    } else if (target && target->name->is_domain == gone->is_of_domain) {
        const cueball__addresses *set = cueball__name_lookup(target->name, facts->type)->set;
        facts->removal = set && set->count > 0 ? CUEBALL_REMOVAL_ADDRESS : CUEBALL_REMOVAL_NAME;
        if (target->name->is_fed)
            facts->removal = CUEBALL_REMOVAL_ADDRESS;
        else
            facts->server = set ? set->server : "";
    }
    assert(facts->removal != CUEBALL_REMOVAL_NONE);
}

static cueball__tracked *tracked_removed(cueball_tracker *tracker, const cueball__tracked *gone)
{
    cueball_tracked facts = gone->facts;
    removal_find(tracker, gone, &facts);
    cueball__tracked *made = tracked_new(tracker, &facts, gone->address);
    if (made)
        made->is_of_domain = gone->is_of_domain;
    return made;
}

/* ------------------------------------------------------------- the difference -- */

/* Told of and to stay: what of it is another now? */
static bool tracked_differs(const cueball__tracked *known, const find *found)
{
    assert(known->facts.type == found->type);
    assert(known->facts.port == found->port);
    return known->facts.priority != found->priority || known->facts.weight != found->weight
           || cueball__name_compare(known->facts.name, found->set->name) != 0;
}

/* Walks both sorted lists side by side: `known` NULL: it is new; `found` NULL: it is
 * gone.  Stops at false. */
static bool walk(cueball_tracker *tracker, delta *change, bool (*step)(cueball_tracker *, struct delta *, cueball__tracked *, find *))
{
    uint32_t i = 0, j = 0;
    while (i < tracker->backends_n || j < change->count) {
        cueball__tracked *known = i < tracker->backends_n ? tracker->backends[i] : NULL;
        find *found = j < change->count ? &change->found[j] : NULL;
        if (known && found) {
            int order = key_compare(known->facts.type, known->address, known->facts.port, found->type, found->address, found->port);
            if (order < 0)
                found = NULL;
            else if (order > 0)
                known = NULL;
        }
        if (!step(tracker, change, known, found))
            return false;
        i += known != NULL;
        j += found != NULL;
    }
    return true;
}

/* Whether what the answers lack is kept for the time being: a nameserver that tells
 * of a few of many nodes at a time would have all connections opened again and again. */
static bool tracked_is_kept(cueball_tracker *tracker, cueball__tracked *missing)
{
    assert(missing->pending != CUEBALL__TELL_REMOVE);
    assert(!missing->is_gone);
    bool can_return = !tracker->has_no_service && (tracker->families & cueball__family_of(missing->facts.type));
    if (tracker->keep_missing == 0 || !can_return)
        return false;
    if (missing->missing_since == 0)
        missing->missing_since = tracker->now ? tracker->now : 1;
    cueball_time until = cueball__later(missing->missing_since, tracker->keep_missing);
    if (until <= tracker->now)
        return false;
    if (until < tracker->missing_until)
        tracker->missing_until = until;
    return true;
}

/* Makes whatever has to be told. */
static bool step_prepare(cueball_tracker *tracker, delta *change, cueball__tracked *known, find *found)
{
    assert(known || found);
    assert(!known || !known->successor);
    assert(!found || !found->made);
    if (found && (!known || known->pending == CUEBALL__TELL_REMOVE || tracked_differs(known, found))) {
        found->made = tracked_from(tracker, found);
        return found->made != NULL;
    }
    if (known && found)
        known->missing_since = 0;
    if (known && !found && change->may_remove && known->pending != CUEBALL__TELL_REMOVE && known->pending != CUEBALL__TELL_ADD
        && !tracked_is_kept(tracker, known)) {
        known->successor = tracked_removed(tracker, known);
        return known->successor != NULL;
    }
    return true;
}

static bool step_undo(cueball_tracker *tracker, delta *change, cueball__tracked *known, find *found)
{
    (void)change;
    if (found)
        cueball__tracked_free(tracker, found->made);
    if (known) {
        cueball__tracked_free(tracker, known->successor);
        known->successor = NULL;
    }
    return true;
}

static cueball__tracked *tracked_succeed(cueball_tracker *tracker, cueball__tracked *known, cueball__tracked *made,
                                         cueball__pending pending)
{
    assert(!cueball__link_is_linked(&made->at_state));
    assert(made != known);
    cueball__tracked_free(tracker, known);
    made->pending = (uint8_t)pending;
    if (pending != CUEBALL__TELL_NONE)
        cueball__list_append(pending == CUEBALL__TELL_REMOVE ? &tracker->removals : &tracker->news, &made->at_state);
    assert((pending != CUEBALL__TELL_NONE) == cueball__link_is_linked(&made->at_state));
    return made;
}

static bool step_apply(cueball_tracker *tracker, delta *change, cueball__tracked *known, find *found)
{
    assert(known || found);
    cueball__tracked *stays = known;
    if (found && found->made) {
        cueball__pending pending = CUEBALL__TELL_ADD;
        if (known && known->pending == CUEBALL__TELL_REMOVE)
            pending = tracked_differs(known, found) ? CUEBALL__TELL_CHANGE : CUEBALL__TELL_NONE; /* it is not gone after all */
        else if (known && known->pending != CUEBALL__TELL_ADD)
            pending = CUEBALL__TELL_CHANGE;
        stays = tracked_succeed(tracker, known, found->made, pending);
    } else if (known && known->successor) {
        stays = tracked_succeed(tracker, known, known->successor, CUEBALL__TELL_REMOVE);
    } else if (known && !found && known->pending == CUEBALL__TELL_ADD) {
        cueball__tracked_free(tracker, known); /* came and went untold */
        stays = NULL;
    } else if (known && !found && !change->may_remove && known->pending != CUEBALL__TELL_REMOVE) {
        tracker->has_deferred = true;
    }
    if (stays)
        change->merged[change->merged_max++] = stays;
    return true;
}

/* ---------------------------------------------------------------- publishing -- */

/* Whether there is nothing, though there was: then what there was is kept. */
static bool union_is_lost(cueball_tracker *tracker, uint32_t count)
{
    bool is_decided = tracker->undecided == 0 && (tracker->targets_n > 0 || tracker->has_no_service);
    bool was_empty = tracker->is_empty;
    tracker->is_empty = is_decided && count == 0;
    tracker->is_judged = false;
    if (count > 0 || tracker->has_no_service)
        return false;
    if (!is_decided)
        tracker->has_deferred = true;
    else if (!was_empty)
        tracker->counters.empty_sets++;
    return true;
}

static bool change_make(cueball_tracker *tracker, delta *change)
{
    change->max = union_find(tracker, NULL);
    if (change->max > 0) {
        change->found = cueball__memory_allocate(&tracker->memory, change->max * sizeof *change->found);
        if (!change->found)
            return false;
    }
    union_find(tracker, change->found);
    if (change->max > 0)
        cueball__sort(change->found, change->max, sizeof *change->found, found_compare);
    change->count = union_merge(change->found, change->max);
    assert(change->count <= change->max);
    return true;
}

static bool change_apply(cueball_tracker *tracker, delta *change)
{
    uint32_t room = tracker->backends_n + change->count;
    if (room == 0)
        return true;
    change->merged = cueball__memory_allocate(&tracker->memory, room * sizeof(cueball__tracked *));
    if (!change->merged)
        return false;
    if (!walk(tracker, change, step_prepare)) {
        walk(tracker, change, step_undo);
        cueball__memory_release(&tracker->memory, change->merged, room * sizeof(cueball__tracked *));
        return false;
    }
    walk(tracker, change, step_apply);
    cueball__memory_release(&tracker->memory, tracker->backends, tracker->backends_max * sizeof(cueball__tracked *));
    tracker->backends = change->merged;
    tracker->backends_n = change->merged_max;
    tracker->backends_max = room;
    assert(tracker->backends_n <= tracker->backends_max);
    return true;
}

/* Those told to be gone leave the list. */
void cueball__backends_sweep(cueball_tracker *tracker)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < tracker->backends_n; i++) {
        cueball__tracked *backend = tracker->backends[i];
        if (backend->is_gone)
            cueball__tracked_free(tracker, backend);
        else
            tracker->backends[kept++] = backend;
    }
    tracker->backends_n = kept;
    tracker->gone = 0;
    assert(tracker->gone == 0);
}

/* Lookups at their first question hold up what is known, but not for long. */
static bool publish_waits(cueball_tracker *tracker)
{
    if (tracker->fresh == 0 || tracker->is_grace_over)
        return false;
    if (tracker->has_news && !cueball__timer_is_armed(&tracker->grace))
        cueball__timers_arm(&tracker->timers, &tracker->grace, cueball__later(tracker->now, CUEBALL__GRACE));
    return true;
}

void cueball__publish(cueball_tracker *tracker)
{
    if (tracker->has_deferred && tracker->undecided == 0)
        tracker->is_stale = true;
    if (!tracker->is_stale || publish_waits(tracker))
        return;
    cueball__timers_cancel(&tracker->timers, &tracker->grace);
    tracker->is_grace_over = tracker->has_news = false;
    tracker->missing_until = CUEBALL_NEVER;
    delta change = { .may_remove = tracker->undecided == 0 };
    if (tracker->gone > 0)
        cueball__backends_sweep(tracker);
    bool is_done = change_make(tracker, &change);
    if (is_done) {
        tracker->has_deferred = false;
        if (!union_is_lost(tracker, change.count))
            is_done = change_apply(tracker, &change);
    }
    cueball__memory_release(&tracker->memory, change.found, change.max * sizeof *change.found);
    tracker->is_stale = !is_done;
    cueball__timers_arm(&tracker->timers, &tracker->publish_again,
                        is_done ? tracker->missing_until : cueball__later(tracker->now, CUEBALL__PUT_OFF));
}
