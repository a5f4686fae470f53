/* The names whose addresses are followed: one for each name among the targets,
 * however many targets have it. */
#include "state.h"

#include <string.h>

cueball__name *cueball__name_find(const cueball_tracker *tracker, const char *text)
{
    if (tracker->buckets_n == 0)
        return NULL;
    uint32_t hash = cueball__name_hash(text);
    cueball__name *name = tracker->buckets[hash & (tracker->buckets_n - 1)];
    while (name && (name->hash != hash || cueball__name_compare(name->text, text) != 0))
        name = name->same_bucket;
    return name;
}

/* Room for one name more, at most one to a bucket on average. */
static bool names_widen(cueball_tracker *tracker)
{
    if (tracker->names_n < tracker->buckets_n)
        return true;
    uint32_t wider = tracker->buckets_n ? tracker->buckets_n * 2 : 16;
    cueball__name **buckets = cueball__memory_allocate(&tracker->memory, wider * sizeof(cueball__name *));
    if (!buckets)
        return false;
    memset(buckets, 0, wider * sizeof(cueball__name *));
    for (uint32_t i = 0; i < tracker->buckets_n; i++) {
        while (tracker->buckets[i]) {
            cueball__name *moved = tracker->buckets[i];
            tracker->buckets[i] = moved->same_bucket;
            moved->same_bucket = buckets[moved->hash & (wider - 1)];
            buckets[moved->hash & (wider - 1)] = moved;
        }
    }
    cueball__memory_release(&tracker->memory, tracker->buckets, tracker->buckets_n * sizeof(cueball__name *));
    tracker->buckets = buckets;
    tracker->buckets_n = wider;
    return true;
}

static cueball__name *name_new(cueball_tracker *tracker, const char *text)
{
    size_t length = cueball__name_length(text), size = sizeof(cueball__name) + length + 1;
    cueball__name *name = cueball__memory_allocate(&tracker->memory, size);
    if (!name)
        return NULL;
    memset(name, 0, sizeof *name);
    name->size = size;
    name->hash = cueball__name_hash(text);
    name->references = 1;
    memcpy(name->text, text, length);
    name->text[length] = '\0';
    name->search.chosen = CUEBALL__NOWHERE;
    cueball__lookup_init(&name->lookups[0], name, CUEBALL_RR_A);
    cueball__lookup_init(&name->lookups[1], name, CUEBALL_RR_AAAA);
    tracker->states[CUEBALL__LOOKUP_OFF] += 2;
    return name;
}

cueball__name *cueball__name_acquire(cueball_tracker *tracker, const char *text)
{
    cueball__name *name = cueball__name_find(tracker, text);
    if (name) {
        name->references++;
        return name;
    }
    if (!names_widen(tracker))
        return NULL;
    name = name_new(tracker, text);
    if (!name)
        return NULL;
    name->same_bucket = tracker->buckets[name->hash & (tracker->buckets_n - 1)];
    tracker->buckets[name->hash & (tracker->buckets_n - 1)] = name;
    tracker->names_n++;
    return name;
}

/* Not in the table: as an SRV target the same name would be absolute. */
cueball__name *cueball__domain_acquire(cueball_tracker *tracker)
{
    if (tracker->domain) {
        tracker->domain->references++;
    } else {
        tracker->domain = name_new(tracker, tracker->options.domain);
        if (tracker->domain)
            tracker->domain->is_domain = true;
    }
    return tracker->domain;
}

static void name_unlink(cueball_tracker *tracker, cueball__name *name)
{
    if (name->is_domain) {
        tracker->domain = NULL;
        return;
    }
    cueball__name **place = &tracker->buckets[name->hash & (tracker->buckets_n - 1)];
    while (*place != name)
        place = &(*place)->same_bucket;
    *place = name->same_bucket;
    tracker->names_n--;
}

void cueball__name_release(cueball_tracker *tracker, cueball__name *name)
{
    assert(name->references > 0);
    if (--name->references > 0)
        return;
    name_unlink(tracker, name);
    name->search.is_walking = false;
    for (unsigned i = 0; i < 2; i++) {
        cueball__lookup_stop(tracker, &name->lookups[i]);
        cueball__addresses_free(tracker, name->lookups[i].set);
        assert(!name->offered[i]);
    }
    tracker->states[CUEBALL__LOOKUP_OFF] -= 2;
    cueball__memory_release(&tracker->memory, name, name->size);
}

/* Whether the SRV answer gave an address that can be used. */
static bool name_is_served(const cueball_tracker *tracker, const cueball__name *name)
{
    for (unsigned i = 0; i < 2 && name->is_fed; i++) {
        const cueball__lookup *lookup = &name->lookups[i];
        if ((tracker->families & cueball__family_of(lookup->type)) && lookup->set && lookup->set->is_additional && lookup->set->count > 0)
            return true;
    }
    return false;
}

void cueball__name_arrange(cueball_tracker *tracker, cueball__name *name)
{
    bool is_served = name_is_served(tracker, name);
    for (unsigned i = 0; i < 2; i++) {
        cueball__lookup *lookup = &name->lookups[i];
        bool is_wanted = !is_served && (tracker->families & cueball__family_of(lookup->type));
        if (!is_wanted) {
            if (lookup->state != CUEBALL__LOOKUP_OFF)
                cueball__lookup_stop(tracker, lookup);
        } else if (lookup->state == CUEBALL__LOOKUP_OFF) {
            if (lookup->is_decided && lookup->due > tracker->now) {
                cueball__lookup_rest(tracker, lookup, lookup->due);
            } else {
                /* What was known before a family went is too old by now. */
                if (lookup->set && !lookup->set->is_additional)
                    cueball__addresses_replace(tracker, lookup, NULL);
                lookup->is_decided = false;
                cueball__lookup_begin(tracker, lookup);
            }
        }
    }
}

void cueball__names_arrange(cueball_tracker *tracker)
{
    for (uint32_t i = 0; i < tracker->targets_n; i++)
        cueball__name_arrange(tracker, tracker->targets[i].name);
}
