/* The nodes of the service: what is known of them, and how that changes. */
#include "backend.h"

#include "event.h"
#include "outlier.h"
#include "preference.h"
#include "probe.h"
#include "slot.h"

#include <string.h>

#define SPEC_FIRST CUEBALL__END_OF(cueball_backend_spec, priority)
#define INFO_FIRST CUEBALL__END_OF(cueball_backend_info, success_rate)
#define TEXT_MAX 1023
#define PORT_MAX 65535
#define WEIGHT_MAX 65535
#define PRIORITY_MAX 65535
#define CHANGE_DELAYS_MAX 10 /* a resolver that never rests is planned for after so many delays */

/* FNV-1a, 64 bits (Fowler, Noll, Vo). */
static uint64_t key_hash(const char *key)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (; *key; key++)
        hash = (hash ^ (unsigned char)*key) * UINT64_C(1099511628211);
    return hash ^ hash >> 32;
}

static cueball__backend **key_bucket(const cueball_pool *pool, const char *key)
{
    return &pool->buckets[key_hash(key) & (pool->known_max - 1)];
}

cueball__backend *cueball__backend_by_key(const cueball_pool *pool, const char *key)
{
    if (pool->known == 0)
        return NULL;
    cueball__backend *backend = *key_bucket(pool, key);
    while (backend && strcmp(backend->key, key) != 0)
        backend = backend->same_bucket;
    return backend;
}

static bool text_is_fit(const char *text)
{
    if (!text || !*text)
        return false;
    for (size_t length = 0; length <= TEXT_MAX; length++)
        if (!text[length])
            return true;
    return false;
}

static bool spec_is_fit(const cueball_backend_spec *spec)
{
    return text_is_fit(spec->key) && text_is_fit(spec->address) && (!spec->name || text_is_fit(spec->name)) && spec->port <= PORT_MAX
           && spec->weight <= WEIGHT_MAX && spec->priority <= PRIORITY_MAX;
}

/* The spec as this version knows it; false: it is not fit. */
bool cueball__spec_read(cueball_backend_spec *spec, const cueball_backend_spec *given)
{
    memset(spec, 0, sizeof *spec);
    if (!given || !cueball__sized_read(spec, sizeof *spec, SPEC_FIRST, given) || !spec_is_fit(spec))
        return false;
    spec->weight = spec->weight ? spec->weight : 1;
    return true;
}

/* The rooms that grow with the number of backends. */
typedef struct rooms {
    cueball__backend **preference, **buckets, **resting;
    cueball_plan_backend *plan;
    uint64_t *scratch;
} rooms;

static void rooms_free(cueball_pool *pool, const rooms *old, uint32_t size)
{
    cueball__memory_release(&pool->memory, old->preference, size * sizeof *old->preference);
    cueball__memory_release(&pool->memory, old->buckets, size * sizeof *old->buckets);
    cueball__memory_release(&pool->memory, old->resting, size * sizeof *old->resting);
    cueball__memory_release(&pool->memory, old->plan, size * sizeof *old->plan);
    cueball__memory_release(&pool->memory, old->scratch, (size_t)size * 2 * sizeof *old->scratch);
}

static rooms pool_rooms(const cueball_pool *pool)
{
    return (rooms){ pool->preference, pool->buckets, pool->resting, pool->plan_room, pool->plan_scratch };
}

static void bucket_add(cueball_pool *pool, cueball__backend *backend)
{
    cueball__backend **bucket = key_bucket(pool, backend->key);
    backend->same_bucket = *bucket;
    *bucket = backend;
}

static bool pool_make_room(cueball_pool *pool)
{
    if (pool->known < pool->known_max)
        return true;
    uint32_t wider = pool->known_max ? pool->known_max * 2 : 8;
    rooms new = { NULL, NULL, NULL, NULL, NULL };
    new.preference = cueball__memory_allocate(&pool->memory, wider * sizeof *new.preference);
    new.buckets = cueball__memory_allocate(&pool->memory, wider * sizeof *new.buckets);
    new.resting = cueball__memory_allocate(&pool->memory, wider * sizeof *new.resting);
    new.plan = cueball__memory_allocate(&pool->memory, wider * sizeof *new.plan);
    new.scratch = cueball__memory_allocate(&pool->memory, (size_t)wider * 2 * sizeof *new.scratch);
    if (!new.preference || !new.buckets || !new.resting || !new.plan || !new.scratch) {
        rooms_free(pool, &new, wider);
        return false;
    }
    rooms old = pool_rooms(pool);
    if (pool->known)
        memcpy(new.preference, old.preference, pool->known * sizeof *new.preference);
    if (pool->resting_count)
        memcpy(new.resting, old.resting, pool->resting_count * sizeof *new.resting);
    if (pool->vacancies)
        memcpy(new.scratch + wider, old.scratch + pool->known_max, pool->vacancies * sizeof *new.scratch);
    memset(new.buckets, 0, wider * sizeof *new.buckets);
    rooms_free(pool, &old, pool->known_max);
    pool->preference = new.preference;
    pool->buckets = new.buckets;
    pool->resting = new.resting;
    pool->plan_room = new.plan;
    pool->plan_scratch = new.scratch;
    pool->known_max = wider;
    for (uint32_t i = 0; i < pool->known; i++)
        bucket_add(pool, pool->preference[i]);
    return true;
}

static void backend_free(cueball_pool *pool, cueball__backend *backend)
{
    assert(backend->total == 0);
    cueball__list_remove(&backend->leaving);
    cueball__memory_release(&pool->memory, backend->key, backend->block_size);
    backend->key = NULL;
    cueball__table_remove(&pool->backends, backend);
}

/* Copies the strings of the spec; false without memory. */
static bool backend_name(cueball_pool *pool, cueball__backend *backend, const cueball_backend_spec *spec)
{
    const char *name = spec->name ? spec->name : spec->key;
    size_t key_size = strlen(spec->key) + 1, name_size = strlen(name) + 1, address_size = strlen(spec->address) + 1;
    char *block = cueball__memory_allocate(&pool->memory, key_size + name_size + address_size);
    if (!block)
        return false;
    backend->block_size = key_size + name_size + address_size;
    backend->key = memcpy(block, spec->key, key_size);
    backend->name = memcpy(block + key_size, name, name_size);
    backend->address = memcpy(block + key_size + name_size, spec->address, address_size);
    return true;
}

/* Whether some connection is open, as far as is known to some purpose. */
static bool pool_has_open(const cueball_pool *pool)
{
    return pool->state != CUEBALL_POOL_FAILED && pool->counts[CUEBALL__COUNT_LENDABLE] + pool->counts[CUEBALL_SLOT_CHECKING] > 0;
}

/* Something changed: plan once the resolver has been quiet for a while, but do
 * not wait for ever for a resolver that is never quiet. */
void cueball__backends_changed(cueball_pool *pool)
{
    pool->is_unsettled = true;
    if (cueball__pool_is_over(pool))
        return;
    /* Only what is new can serve claims, or there is no delay; more may be said in this turn of the host's loop. */
    if (!pool_has_open(pool) || pool->settings.rebalance_delay == 0) {
        pool->hurries = true;
        pool->hurried_at = pool->now;
        return;
    }
    if (!pool->change_is_delayed) {
        pool->change_is_delayed = true;
        pool->changed_at = pool->now;
    }
    cueball_time quiet = cueball__time_after(pool->now, pool->settings.rebalance_delay);
    cueball_time latest = cueball__time_after(pool->changed_at, pool->settings.rebalance_delay * CHANGE_DELAYS_MAX);
    cueball__timers_arm(&pool->timers, &pool->rebalance, quiet < latest ? quiet : latest);
}

static int backend_new(cueball_pool *pool, const cueball_backend_spec *spec)
{
    if (!pool_make_room(pool))
        return CUEBALL_ENOMEM;
    bool is_new;
    cueball__backend *backend = cueball__table_add(&pool->backends, &is_new);
    if (!backend)
        return CUEBALL_ENOMEM;
    cueball__member member = backend->member;
    memset(backend, 0, sizeof *backend);
    backend->member = member;
    cueball__link_init(&backend->slots);
    cueball__link_init(&backend->wanting);
    cueball__link_init(&backend->leaving);
    cueball__link_init(&backend->resting);
    cueball__link_init(&backend->probe);
    if (!backend_name(pool, backend, spec)) {
        cueball__table_remove(&pool->backends, backend);
        return CUEBALL_ENOMEM;
    }
    backend->port = spec->port;
    backend->weight = spec->weight;
    backend->priority = spec->priority;
    backend->said = true;
    backend->state_since = pool->now;
    cueball__preference_add(pool, backend);
    bucket_add(pool, backend);
    cueball__event_note(pool, CUEBALL_EVENT_BACKEND_ADDED, backend, 0);
    return CUEBALL_OK;
}

/* Out of the index and into the list of those whose slots are awaited.  The
 * caller takes it out of the order of preference. */
static void backend_leave(cueball_pool *pool, cueball__backend *backend)
{
    cueball__backend **place = key_bucket(pool, backend->key);
    while (*place != backend)
        place = &(*place)->same_bucket;
    *place = backend->same_bucket;
    cueball__list_remove(&backend->wanting);
    if (backend->dead) {
        cueball__probe_end(pool, backend);
        pool->dead--;
    }
    if (backend->standby)
        pool->standby--;
    if (backend->drained)
        pool->drained--;
    backend->dead = backend->standby = backend->drained = false;
    backend->removed = true;
    cueball__backend_noted(pool, backend);
    cueball__outlier_forgive(pool, backend);
    cueball__outlier_returns(pool, backend);
    cueball__event_note(pool, CUEBALL_EVENT_BACKEND_REMOVED, backend, 0);
    CUEBALL__LIST_EACH(link, following, &backend->slots)
    {
        cueball__slot_drop(pool, CUEBALL__OWNER(link, cueball__slot, at_backend), CUEBALL_CAUSE_REMOVED);
    }
    cueball__list_append(&pool->leaving, &backend->leaving);
    if (backend->total == 0)
        backend_free(pool, backend);
}

void cueball__backend_remove(cueball_pool *pool, cueball__backend *backend)
{
    cueball__preference_remove(pool, backend);
    backend_leave(pool, backend);
}

/* Same place?  Then the rest is taken over; a name that cannot be for want of
 * memory stays what it was. */
static bool backend_meets(cueball_pool *pool, cueball__backend *backend, const cueball_backend_spec *spec)
{
    if (strcmp(backend->address, spec->address) != 0 || backend->port != spec->port)
        return false;
    bool has_changed = backend->weight != spec->weight || backend->priority != spec->priority;
    if (has_changed) {
        backend->weight = spec->weight;
        backend->priority = spec->priority;
        cueball__backends_changed(pool);
    }
    if (spec->name && strcmp(backend->name, spec->name) != 0) {
        char *block = backend->key;
        size_t block_size = backend->block_size;
        if (backend_name(pool, backend, spec)) {
            cueball__memory_release(&pool->memory, block, block_size);
            has_changed = true;
        }
    }
    if (has_changed)
        cueball__event_note(pool, CUEBALL_EVENT_BACKEND_CHANGED, backend, backend->weight);
    return true;
}

/* CUEBALL_OK: added or replaced, CUEBALL_EEXISTS: nothing to do. */
int cueball__backend_add(cueball_pool *pool, const cueball_backend_spec *spec)
{
    cueball__backend *known = cueball__backend_by_key(pool, spec->key);
    if (known) {
        known->said = true;
        if (backend_meets(pool, known, spec))
            return CUEBALL_EEXISTS;
        /* Two under one key while the new one is made: the index finds the newest. */
    }
    int result = backend_new(pool, spec);
    if (result == CUEBALL_OK && known)
        cueball__backend_remove(pool, known);
    return result;
}

/* Number `i` of the specs, which reach as far as the first says. */
static const cueball_backend_spec *spec_at(const cueball_backend_spec *specs, size_t i)
{
    return (const void *)((const char *)specs + i * cueball__sized_stride(SPEC_FIRST, specs));
}

/* Whether all of the specs are fit. */
bool cueball__specs_are_fit(const cueball_backend_spec *specs, size_t count)
{
    cueball_backend_spec spec;
    if (!specs && count > 0)
        return false;
    for (size_t i = 0; i < count; i++)
        if (spec_at(specs, i)->struct_size != specs->struct_size || !cueball__spec_read(&spec, spec_at(specs, i)))
            return false;
    return true;
}

/* These are all there are, and fit. */
int cueball__backends_replace(cueball_pool *pool, const cueball_backend_spec *specs, size_t count)
{
    bool is_first = pool->known == 0;
    bool has_changed = false;
    int result = CUEBALL_OK;
    for (uint32_t i = 0; i < pool->known; i++)
        pool->preference[i]->said = false;
    for (size_t i = 0; i < count && result != CUEBALL_ENOMEM; i++) {
        cueball_backend_spec spec;
        bool is_fit = cueball__spec_read(&spec, spec_at(specs, i));
        assert(is_fit);
        if (!is_fit)
            break;
        const cueball__backend *known = cueball__backend_by_key(pool, spec.key);
        if (known && known->said) /* a key given twice: the first counts */
            continue;
        result = cueball__backend_add(pool, &spec);
        has_changed |= result == CUEBALL_OK;
    }
    if (result != CUEBALL_ENOMEM)
        has_changed |= cueball__preference_sweep(pool, backend_leave);
    if (has_changed && is_first) /* the whole list is here: there is nothing to wait for */
        pool->plan_is_due = pool->is_unsettled = true;
    else if (has_changed)
        cueball__backends_changed(pool);
    return result == CUEBALL_ENOMEM ? CUEBALL_ENOMEM : CUEBALL_OK;
}

/* Forgets those that were removed and whose last slot went in this turn. */
void cueball__backends_collect(cueball_pool *pool)
{
    CUEBALL__LIST_EACH(link, following, &pool->left)
    {
        backend_free(pool, CUEBALL__OWNER(link, cueball__backend, leaving));
    }
}

void cueball__backends_free(cueball_pool *pool)
{
    for (uint32_t i = 0; i < pool->backends.made; i++) {
        cueball__backend *backend = cueball__table_at(&pool->backends, i);
        if (backend->key)
            cueball__memory_release(&pool->memory, backend->key, backend->block_size);
        backend->key = NULL;
    }
    rooms all = pool_rooms(pool);
    rooms_free(pool, &all, pool->known_max);
}

static void backend_describe(const cueball_pool *pool, const cueball__backend *backend, cueball_backend_info *info)
{
    memset(info, 0, sizeof *info);
    info->backend = cueball__member_handle(&backend->member);
    info->key = backend->key;
    info->name = backend->name;
    info->address = backend->address;
    info->port = backend->port;
    info->weight = backend->weight;
    info->priority = backend->priority;
    info->total = backend->total;
    info->dead = backend->dead;
    info->removed = backend->removed;
    info->ejected = backend->ejected;
    info->standby = backend->standby;
    info->takes = backend->takes;
    info->latency_ms = backend->latency.average / CUEBALL__NS_PER_MS;
    info->success_rate = cueball_latency_success_rate(&backend->latency, pool->now);
    info->drained = backend->drained;
    info->want = backend->want;
    info->attempt = backend->dead ? backend->attempt : 0;
    info->since = backend->state_since;
    info->total_max = backend->total_max;
    info->back_at = cueball__timer_is_armed(&backend->back) ? backend->back.deadline : CUEBALL_NEVER;
    for (const cueball__link *link = backend->slots.next; link != &backend->slots; link = link->next) {
        const cueball__slot *slot = CUEBALL__OWNER(link, cueball__slot, at_backend);
        info->idle += slot->state == CUEBALL_SLOT_IDLE;
        info->busy += slot->state == CUEBALL_SLOT_BUSY;
        info->suspect += slot->suspect;
        info->connecting += slot->state == CUEBALL_SLOT_CONNECTING || slot->state == CUEBALL_SLOT_BACKOFF;
        if (backend->dead && slot->state == CUEBALL_SLOT_BACKOFF)
            info->back_at = slot->timer.deadline;
    }
}

static void info_write(const cueball_pool *pool, const cueball__backend *backend, cueball_backend_info *info)
{
    cueball_backend_info whole;
    backend_describe(pool, backend, &whole);
    cueball__sized_write(info, INFO_FIRST, &whole, sizeof whole);
}

int cueball_pool_backend_info(const cueball_pool *pool, cueball_handle handle, cueball_backend_info *info)
{
    const cueball__backend *backend = cueball__table_find(&pool->backends, handle);
    if (!backend || !backend->key)
        return CUEBALL_ESTALE;
    info_write(pool, backend, info);
    return CUEBALL_OK;
}

int cueball_pool_backend_spec(const cueball_pool *pool, cueball_handle handle, cueball_backend_spec *spec)
{
    const cueball__backend *backend = cueball__table_find(&pool->backends, handle);
    if (!backend || !backend->key)
        return CUEBALL_ESTALE;
    cueball_backend_spec whole = { .port = backend->port, .weight = backend->weight, .priority = backend->priority };
    whole.key = backend->key;
    whole.name = backend->name;
    whole.address = backend->address;
    cueball__sized_write(spec, SPEC_FIRST, &whole, sizeof whole);
    return CUEBALL_OK;
}

bool cueball_pool_backend_at(const cueball_pool *pool, uint32_t index, cueball_backend_info *info)
{
    if (index < pool->known) {
        info_write(pool, pool->preference[index], info);
        return true;
    }
    index -= pool->known;
    const cueball__link *link = pool->leaving.next;
    while (link != &pool->leaving && index-- > 0)
        link = link->next;
    if (link == &pool->leaving)
        return false;
    info_write(pool, CUEBALL__OWNER(link, cueball__backend, leaving), info);
    return true;
}
