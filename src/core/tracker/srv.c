/* The targets: what the SRV answer says, or the domain itself instead. */
#include "state.h"

#include "kit/sort.h"

#include <string.h>

static int target_compare(const void *left, const void *right)
{
    const cueball__target *a = left, *b = right;
    if (a->name != b->name) {
        int order = cueball__name_compare(a->name->text, b->name->text);
        return order ? order : (a->name->is_domain > b->name->is_domain) - (a->name->is_domain < b->name->is_domain);
    }
    if (a->port != b->port)
        return a->port < b->port ? -1 : 1;
    if (a->priority != b->priority)
        return a->priority < b->priority ? -1 : 1;
    return (a->weight > b->weight) - (a->weight < b->weight);
}

/* The first target not before that name and port. */
static uint32_t target_bound(const cueball__target *targets, uint32_t count, const char *name, uint32_t port)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = cueball__name_compare(targets[middle].name->text, name);
        if (order < 0 || (order == 0 && targets[middle].port < port))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const cueball__target *cueball__target_find(const cueball_tracker *tracker, const char *name, uint32_t port)
{
    uint32_t at = target_bound(tracker->targets, tracker->targets_n, name, port);
    if (at == tracker->targets_n)
        return NULL;
    const cueball__target *target = &tracker->targets[at];
    return target->port == port && cueball__name_compare(target->name->text, name) == 0 ? target : NULL;
}

/* ------------------------------------------------------------- an answer -- */

/* What is made of an answer before anything is changed. */
typedef struct plan {
    cueball__target *targets;
    uint32_t count, max;
} plan;

static void draft_drop(cueball_tracker *tracker, plan *draft)
{
    for (uint32_t i = 0; i < draft->count; i++) {
        cueball__name *name = draft->targets[i].name;
        for (unsigned family = 0; family < 2; family++) {
            cueball__addresses_free(tracker, name->offered[family]);
            name->offered[family] = NULL;
        }
        cueball__name_release(tracker, name);
    }
    cueball__memory_release(&tracker->memory, draft->targets, draft->max * sizeof *draft->targets);
}

/* No name of a host ends with a number (RFC 3696, 2), so it is an address, which
 * is no target (RFC 2782); nor is "2001:db8::1" one. */
static bool target_is_address(const char *target)
{
    size_t length = cueball__name_length(target), digits = 0;
    while (digits < length && target[length - 1 - digits] >= '0' && target[length - 1 - digits] <= '9')
        digits++;
    return (digits > 0 && (digits == length || target[length - 1 - digits] == '.')) || memchr(target, ':', length) != NULL;
}

static bool record_is_named(const cueball__accepted *accepted, const cueball_record *record)
{
    return cueball__accepted_has(accepted, record, CUEBALL_RR_SRV) && cueball__name_length(record->target) > 0;
}

static bool record_is_target(const cueball__accepted *accepted, const cueball_record *record)
{
    return record_is_named(accepted, record) && !target_is_address(record->target);
}

static bool draft_targets(cueball_tracker *tracker, plan *draft, const cueball__accepted *accepted)
{
    draft->targets = cueball__memory_allocate(&tracker->memory, draft->max * sizeof *draft->targets);
    if (!draft->targets)
        return false;
    for (uint32_t i = 0; i < accepted->answer->count; i++) {
        const cueball_record *record = &accepted->answer->records[i];
        if (!record_is_target(accepted, record))
            continue;
        cueball__name *name = cueball__name_acquire(tracker, record->target);
        if (!name)
            return false;
        uint32_t port = record->port ? record->port : tracker->options.default_port;
        draft->targets[draft->count++] =
            (cueball__target){ .name = name, .port = port, .priority = record->priority, .weight = record->weight };
    }
    cueball__sort(draft->targets, draft->count, sizeof *draft->targets, target_compare);
    uint32_t kept = 0; /* the same record twice is one */
    for (uint32_t i = 0; i < draft->count; i++) {
        if (kept > 0 && target_compare(&draft->targets[kept - 1], &draft->targets[i]) == 0)
            cueball__name_release(tracker, draft->targets[i].name);
        else
            draft->targets[kept++] = draft->targets[i];
    }
    draft->count = kept;
    return true;
}

/* An address that came along, and whose it is. */
typedef struct companion {
    cueball__name *name;
    const cueball_record *record;
    uint32_t target; /* the first of that name, for the order */
} companion;

static int companion_compare(const void *left, const void *right)
{
    const companion *a = left, *b = right;
    if (a->target != b->target)
        return a->target < b->target ? -1 : 1;
    return (a->record->type > b->record->type) - (a->record->type < b->record->type);
}

/* Those that belong to a target, in its order; all are counted without a list. */
static uint32_t companions_find(const plan *draft, const cueball__accepted *accepted, companion *companions)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < accepted->answer->count; i++) {
        const cueball_record *record = &accepted->answer->records[i];
        if (record->section != CUEBALL_SECTION_ADDITIONAL || (record->type != CUEBALL_RR_A && record->type != CUEBALL_RR_AAAA))
            continue;
        uint32_t at = target_bound(draft->targets, draft->count, record->name, 0);
        if (at == draft->count || cueball__name_compare(draft->targets[at].name->text, record->name) != 0)
            continue;
        if (companions)
            companions[count] = (companion){ .name = draft->targets[at].name, .record = record, .target = at };
        count++;
    }
    return count;
}

/* One name's addresses of one family. */
static bool companions_offer(cueball_tracker *tracker, const companion *companions, uint32_t count, const char *server, uint32_t *least)
{
    cueball__name *name = companions[0].name;
    uint32_t type = companions[0].record->type;
    cueball__addresses *set = cueball__addresses_new(tracker, count, name->text, name->text, server);
    if (!set)
        return false;
    set->is_additional = true;
    set->ttl = UINT32_MAX;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t ttl = cueball__ttl_of(companions[i].record->ttl);
        memcpy(set->at[i], companions[i].record->address, type == CUEBALL_RR_A ? 4 : 16);
        set->ttl = ttl < set->ttl ? ttl : set->ttl;
    }
    *least = set->ttl < *least ? set->ttl : *least;
    cueball__addresses_finish(set);
    name->offered[type == CUEBALL_RR_AAAA] = set;
    return true;
}

static bool draft_companions(cueball_tracker *tracker, const plan *draft, const cueball__accepted *accepted, const char *server,
                             uint32_t *least)
{
    uint32_t count = companions_find(draft, accepted, NULL);
    if (count == 0)
        return true;
    companion *companions = cueball__memory_allocate(&tracker->memory, count * sizeof *companions);
    if (!companions)
        return false;
    companions_find(draft, accepted, companions);
    cueball__sort(companions, count, sizeof *companions, companion_compare);
    bool is_done = true;
    for (uint32_t i = 0, next; i < count && is_done; i = next) {
        for (next = i + 1; next < count && companion_compare(&companions[i], &companions[next]) == 0;)
            next++;
        is_done = companions_offer(tracker, companions + i, next - i, server, least);
    }
    cueball__memory_release(&tracker->memory, companions, count * sizeof *companions);
    return is_done;
}

/* ----------------------------------------------------------- taking effect -- */

/* What came along replaces what was known of that name, in both families. */
static void name_take_offer(cueball_tracker *tracker, cueball__name *name)
{
    if (!name->offered[0] && !name->offered[1])
        return;
    name->is_fed = true;
    for (unsigned family = 0; family < 2; family++) {
        cueball__addresses_replace(tracker, &name->lookups[family], name->offered[family]);
        cueball__lookup_mark(tracker, &name->lookups[family], false, false); /* it knows nothing of its own */
        name->offered[family] = NULL;
    }
}

static void targets_replace(cueball_tracker *tracker, const plan *draft)
{
    cueball__target *old = tracker->targets;
    uint32_t old_n = tracker->targets_n, old_max = tracker->targets_max;
    bool is_same = old_n == draft->count;
    for (uint32_t i = 0; i < old_n && is_same; i++)
        is_same = target_compare(&old[i], &draft->targets[i]) == 0;
    if (!is_same || tracker->has_no_service)
        tracker->is_stale = true;
    tracker->is_judged = false;
    tracker->targets = draft->targets;
    tracker->targets_n = draft->count;
    tracker->targets_max = draft->max;
    for (uint32_t i = 0; i < draft->count; i++)
        draft->targets[i].name->is_fed = false;
    for (uint32_t i = 0; i < draft->count; i++)
        name_take_offer(tracker, draft->targets[i].name);
    cueball__names_arrange(tracker);
    for (uint32_t i = 0; i < old_n; i++)
        cueball__name_release(tracker, old[i].name);
    cueball__memory_release(&tracker->memory, old, old_max * sizeof *old);
}

/* Every record says ".": decidedly not here (RFC 2782). */
static void srv_no_service(cueball_tracker *tracker)
{
    targets_replace(tracker, &(plan){ .targets = NULL });
    tracker->is_stale = tracker->has_no_service = true;
}

int cueball__srv_records(cueball_tracker *tracker, const cueball__accepted *accepted, const char *server, uint32_t *ttl)
{
    plan draft = { .targets = NULL };
    *ttl = accepted->ttl;
    uint32_t named = 0;
    for (uint32_t i = 0; i < accepted->answer->count; i++) {
        named += record_is_named(accepted, &accepted->answer->records[i]);
        draft.max += record_is_target(accepted, &accepted->answer->records[i]);
    }
    tracker->counters.targets_refused += named - draft.max;
    if (named > 0 && draft.max == 0)
        return CUEBALL_EINVAL;
    if (draft.max > 0 && (!draft_targets(tracker, &draft, accepted) || !draft_companions(tracker, &draft, accepted, server, ttl))) {
        draft_drop(tracker, &draft);
        return CUEBALL_ENOMEM;
    }
    cueball__hold_until(tracker, 0);
    if (draft.max == 0) {
        srv_no_service(tracker);
    } else {
        targets_replace(tracker, &draft);
        tracker->has_no_service = false;
    }
    tracker->targets_from = CUEBALL_TARGETS_SRV;
    tracker->has_seen_srv = true;
    return CUEBALL_OK;
}

bool cueball__srv_fall_back(cueball_tracker *tracker, int32_t from)
{
    if (tracker->targets_n == 0 || tracker->targets[0].name != tracker->domain) {
        plan draft = { .max = 1 };
        draft.targets = cueball__memory_allocate(&tracker->memory, sizeof *draft.targets);
        cueball__name *domain = draft.targets ? cueball__domain_acquire(tracker) : NULL;
        if (!domain) {
            cueball__memory_release(&tracker->memory, draft.targets, sizeof *draft.targets);
            return false;
        }
        draft.targets[0] = (cueball__target){ .name = domain, .port = tracker->options.default_port, .weight = 1 };
        draft.count = 1;
        targets_replace(tracker, &draft);
        tracker->has_no_service = false;
    }
    tracker->targets_from = from;
    return true;
}

void cueball__targets_free(cueball_tracker *tracker)
{
    for (uint32_t i = 0; i < tracker->targets_n; i++)
        cueball__name_release(tracker, tracker->targets[i].name);
    cueball__memory_release(&tracker->memory, tracker->targets, tracker->targets_max * sizeof *tracker->targets);
    tracker->targets = NULL;
    tracker->targets_n = 0;
}
