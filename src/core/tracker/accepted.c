/* Which records of an answer count: those of the name asked, and of what follows
 * from it by CNAMEs in the answer section.  A server may say more than it was
 * asked; whoever accepts that can be told anything. */
#include "state.h"

#include "kit/sort.h"

#include <string.h>

bool cueball__answer_is_sound(const cueball_answer *answer)
{
    if (!answer || (answer->count > 0 && !answer->records))
        return false;
    for (uint32_t i = 0; i < answer->count; i++) {
        const cueball_record *record = &answer->records[i];
        if (!record->name)
            return false;
        if ((record->type == CUEBALL_RR_CNAME || record->type == CUEBALL_RR_SRV) && !record->target)
            return false;
        if (record->type == CUEBALL_RR_SRV && (record->priority > 65535 || record->weight > 65535 || record->port > 65535))
            return false;
    }
    return true;
}

uint32_t cueball__ttl_of(uint32_t ttl)
{
    return ttl > INT32_MAX ? 0 : ttl;
}

static bool chain_has(const cueball__accepted *accepted, const char *name)
{
    for (uint32_t i = 0; i < accepted->chain_n; i++)
        if (cueball__name_compare(accepted->chain[i], name) == 0)
            return true;
    return false;
}

/* The CNAME of the chain's end, in whatever order they stand; NULL: it ends there. */
static const cueball_record *chain_next(const cueball__accepted *accepted)
{
    const char *end = accepted->chain[accepted->chain_n - 1];
    for (uint32_t i = 0; i < accepted->answer->count; i++) {
        const cueball_record *record = &accepted->answer->records[i];
        if (record->type == CUEBALL_RR_CNAME && record->section == CUEBALL_SECTION_ANSWER && cueball__name_compare(record->name, end) == 0)
            return record;
    }
    return NULL;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

bool cueball__accepted_has(const cueball__accepted *accepted, const cueball_record *record, uint32_t type)
{
    return record->type == type && record->section == CUEBALL_SECTION_ANSWER && chain_has(accepted, record->name);
}

/* How long there will be nothing (RFC 2308, 5). */
static void accepted_read_soa(cueball__accepted *accepted)
{
    for (uint32_t i = 0; i < accepted->answer->count && !accepted->has_negative_ttl; i++) {
        const cueball_record *record = &accepted->answer->records[i];
        if (record->type != CUEBALL_RR_SOA || record->section != CUEBALL_SECTION_AUTHORITY)
            continue;
        for (uint32_t hop = 0; hop < accepted->chain_n && !accepted->has_negative_ttl; hop++)
            accepted->has_negative_ttl = cueball__name_is_within(accepted->chain[hop], record->name);
        accepted->negative_ttl = least(least(cueball__ttl_of(record->ttl), cueball__ttl_of(record->minimum)), accepted->chain_ttl);
    }
}

void cueball__accepted_read(cueball__accepted *accepted, const char *name, uint32_t type, const cueball_answer *answer)
{
    memset(accepted, 0, sizeof *accepted);
    accepted->answer = answer;
    accepted->chain[0] = name;
    accepted->chain_n = 1;
    accepted->chain_ttl = UINT32_MAX;
    const cueball_record *link;
    while (accepted->chain_n <= CUEBALL__HOPS_MAX && (link = chain_next(accepted)) != NULL) {
        accepted->chain_ttl = least(accepted->chain_ttl, cueball__ttl_of(link->ttl));
        if (chain_has(accepted, link->target))
            break; /* a loop */
        accepted->chain[accepted->chain_n++] = link->target;
    }
    accepted->ttl = accepted->chain_ttl;
    if (answer->rcode == CUEBALL_RCODE_NOERROR)
        for (uint32_t i = 0; i < answer->count; i++)
            if (cueball__accepted_has(accepted, &answer->records[i], type)) {
                accepted->count++;
                accepted->ttl = least(accepted->ttl, cueball__ttl_of(answer->records[i].ttl));
            }
    accepted_read_soa(accepted);
}

uint32_t cueball__accepted_foreign(const cueball__accepted *accepted, bool (*is_known)(const void *user, const char *owner),
                                   const void *user)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < accepted->answer->count; i++) {
        const cueball_record *record = &accepted->answer->records[i];
        bool is_read = record->type == CUEBALL_RR_A || record->type == CUEBALL_RR_AAAA || record->type == CUEBALL_RR_SRV
                       || record->type == CUEBALL_RR_CNAME;
        bool is_address = record->type == CUEBALL_RR_A || record->type == CUEBALL_RR_AAAA;
        if (!is_read || chain_has(accepted, record->name))
            continue;
        if (is_known && is_address && record->section == CUEBALL_SECTION_ADDITIONAL && is_known(user, record->name))
            continue;
        count++;
    }
    return count;
}

/* ------------------------------------------------------- sets of addresses -- */

static const char *string_put(char **at, const char *text, size_t length)
{
    char *begin = *at;
    memcpy(begin, text, length);
    begin[length] = '\0';
    *at += length + 1;
    return begin;
}

cueball__addresses *cueball__addresses_new(cueball_tracker *tracker, uint32_t count, const char *name, const char *owner,
                                           const char *server)
{
    size_t name_n = cueball__name_length(name), owner_n = cueball__name_length(owner), server_n = strlen(server);
    size_t size = sizeof(cueball__addresses) + count * (size_t)16 + name_n + owner_n + server_n + 3;
    cueball__addresses *set = cueball__memory_allocate(&tracker->memory, size);
    if (!set)
        return NULL;
    memset(set, 0, size);
    set->size = size;
    set->count = count;
    char *at = (char *)set->at[count];
    set->name = string_put(&at, name, name_n);
    set->owner = string_put(&at, owner, owner_n);
    set->server = string_put(&at, server, server_n);
    return set;
}

void cueball__addresses_free(cueball_tracker *tracker, cueball__addresses *set)
{
    if (set)
        cueball__memory_release(&tracker->memory, set, set->size);
}

static int address_compare(const void *a, const void *b)
{
    return memcmp(a, b, 16);
}

void cueball__addresses_finish(cueball__addresses *set)
{
    cueball__sort(set->at, set->count, 16, address_compare);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < set->count; i++)
        if (kept == 0 || memcmp(set->at[kept - 1], set->at[i], 16) != 0)
            memmove(set->at[kept++], set->at[i], 16);
    set->count = kept;
}

cueball__addresses *cueball__addresses_from(cueball_tracker *tracker, const cueball__accepted *accepted, uint32_t type, const char *name,
                                            const char *server)
{
    const char *owner = accepted->chain[accepted->chain_n - 1];
    for (uint32_t i = accepted->answer->count; i-- > 0;)
        if (cueball__accepted_has(accepted, &accepted->answer->records[i], type))
            owner = accepted->answer->records[i].name;
    cueball__addresses *set = cueball__addresses_new(tracker, accepted->count, name, owner, server);
    if (!set)
        return NULL;
    uint32_t at = 0;
    for (uint32_t i = 0; i < accepted->answer->count; i++)
        if (cueball__accepted_has(accepted, &accepted->answer->records[i], type))
            memcpy(set->at[at++], accepted->answer->records[i].address, type == CUEBALL_RR_A ? 4 : 16);
    set->ttl = accepted->ttl;
    cueball__addresses_finish(set);
    return set;
}

void cueball__addresses_replace(cueball_tracker *tracker, cueball__lookup *lookup, cueball__addresses *set)
{
    const cueball__addresses *old = lookup->set;
    uint32_t old_n = old ? old->count : 0, new_n = set ? set->count : 0;
    bool is_same = old_n == new_n && (new_n == 0 || memcmp(old->at, set->at, new_n * (size_t)16) == 0);
    if (is_same && new_n > 0) /* found by another search domain */
        is_same = cueball__name_compare(old->name, set->name) == 0;
    if (!is_same)
        tracker->is_stale = true;
    if (!is_same && new_n > 0)
        tracker->has_news = true;
    cueball__addresses_free(tracker, lookup->set);
    lookup->set = set;
    tracker->is_judged = false;
}
