/* A tracker from birth to end, and its inputs.  Every input has the same shape:
 * cueball__tracker_begin() takes the time and runs what is due, then the fact
 * itself, then cueball__tracker_settle() asks, publishes and judges. */
#include "state.h"

#include <string.h>

static size_t strings_measure(const cueball_tracker_options *options)
{
    return strlen(options->domain) + 1 + (options->service ? strlen(options->service) + 1 : 0);
}

static const char *string_put(char **at, const char *text)
{
    size_t size = strlen(text) + 1;
    const char *copy = memcpy(*at, text, size);
    *at += size;
    return copy;
}

/* The block of a search list; NULL: it is empty, or there is no memory. */
static const char **search_copy(cueball_tracker *tracker, const char *const *search, uint32_t count, size_t *size)
{
    *size = count * sizeof(char *);
    for (uint32_t i = 0; i < count; i++)
        *size += strlen(search[i]) + 1;
    const char **made = *size > 0 ? cueball__memory_allocate(&tracker->memory, *size) : NULL;
    if (!made)
        return NULL;
    char *at = (char *)(made + count);
    for (uint32_t i = 0; i < count; i++)
        made[i] = string_put(&at, search[i]);
    return made;
}

static bool options_copy(cueball_tracker *tracker, const cueball_tracker_options *options)
{
    tracker->strings_size = strings_measure(options);
    tracker->strings = cueball__memory_allocate(&tracker->memory, tracker->strings_size);
    if (!tracker->strings)
        return false;
    tracker->options = *options;
    char *at = tracker->strings;
    tracker->options.search = NULL; /* see tracker->search */
    tracker->options.domain = string_put(&at, options->domain);
    tracker->options.service = options->service ? string_put(&at, options->service) : NULL;
    tracker->search = search_copy(tracker, options->search, options->search_count, &tracker->search_size);
    tracker->search_count = tracker->search ? options->search_count : 0;
    tracker->ndots = options->ndots;
    tracker->no_tld_query = options->no_tld_query;
    return tracker->search_count == options->search_count;
}

static void tracker_init(cueball_tracker *tracker, const cueball_tracker_options *options, const cueball_allocator *allocator,
                         uint64_t seed, cueball_time now)
{
    uint32_t octets, dots = 0;
    memset(tracker, 0, sizeof *tracker);
    tracker->memory.allocator = *allocator;
    tracker->memory.held = sizeof *tracker;
    tracker->now = now;
    tracker->backoff = cueball__backoff_from(&options->recovery_dns);
    tracker->backoff_srv = cueball__backoff_from(&options->recovery_dns_srv);
    tracker->min_ttl = cueball__ns_from_ms(options->min_ttl_ms);
    tracker->max_ttl = cueball__ns_from_ms(options->max_ttl_ms);
    tracker->max_recheck = cueball__ns_from_ms(options->max_recheck_ms);
    tracker->families = options->families;
    cueball__name_measure(options->domain, &octets, &tracker->domain_dots);
    if (options->service)
        cueball__name_measure(options->service, &octets, &dots);
    tracker->srv_dots = dots + 1 + tracker->domain_dots;
    cueball__random_init(&tracker->random, seed);
    cueball__timers_init(&tracker->timers, now);
    cueball__table_init(&tracker->questions, &tracker->memory, sizeof(cueball__question));
    cueball__lookup_init(&tracker->srv, NULL, CUEBALL_RR_SRV);
    tracker->srv_search.chosen = CUEBALL__NOWHERE;
    tracker->states[CUEBALL__LOOKUP_OFF] = 1;
    tracker->keep_missing = cueball__ns_from_ms(options->keep_missing_ms);
    tracker->publish_again.kind = CUEBALL__TIMER_PUBLISH;
    tracker->grace.kind = CUEBALL__TIMER_GRACE;
    cueball__link *lists[] = {
        &tracker->asks, &tracker->forgets, &tracker->waiting, &tracker->stalled, &tracker->news, &tracker->removals
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        cueball__link_init(lists[i]);
}

int cueball_tracker_new(const cueball_tracker_options *given, const cueball_allocator *allocator, uint64_t seed, cueball_time now,
                        cueball_tracker **made)
{
    *made = NULL;
    cueball_tracker_options whole, *options = &whole;
    if (cueball_tracker_options_check(given, NULL, 0) != CUEBALL_OK || !cueball__tracker_options_read(options, given))
        return CUEBALL_EINVAL;
    if (!allocator || !allocator->allocate || !allocator->release)
        return CUEBALL_EINVAL;
    cueball_tracker *tracker = allocator->allocate(allocator->user, sizeof *tracker);
    if (!tracker)
        return CUEBALL_ENOMEM;
    tracker_init(tracker, options, allocator, seed, now);
    if (!options_copy(tracker, options) || (!options->service && !cueball__srv_fall_back(tracker, CUEBALL_TARGETS_DOMAIN))) {
        cueball_tracker_free(tracker);
        return CUEBALL_ENOMEM;
    }
    if (options->service)
        cueball__lookup_begin(tracker, &tracker->srv);
    *made = tracker;
    return CUEBALL_OK;
}

void cueball_tracker_free(cueball_tracker *tracker)
{
    if (!tracker)
        return;
    cueball__targets_free(tracker);
    cueball__lookup_stop(tracker, &tracker->srv);
    cueball__addresses_free(tracker, tracker->srv.set);
    for (uint32_t i = 0; i < tracker->backends_n; i++)
        cueball__tracked_free(tracker, tracker->backends[i]);
    cueball__memory_release(&tracker->memory, tracker->backends, tracker->backends_max * sizeof(cueball__tracked *));
    cueball__memory_release(&tracker->memory, tracker->buckets, tracker->buckets_n * sizeof(cueball__name *));
    cueball__memory_release(&tracker->memory, tracker->servers, tracker->servers_size);
    cueball__memory_release(&tracker->memory, tracker->search, tracker->search_size);
    cueball__memory_release(&tracker->memory, tracker->strings, tracker->strings_size);
    cueball__table_deinit(&tracker->questions);
    assert(tracker->memory.held == sizeof *tracker);
    tracker->memory.allocator.release(tracker->memory.allocator.user, tracker, sizeof *tracker);
}

/* ---------------------------------------------------------------- inputs -- */

static void tracker_set_time(cueball_tracker *tracker, cueball_time now)
{
    if (now > tracker->now)
        tracker->now = now;
}

void cueball__tracker_begin(cueball_tracker *tracker, cueball_time now)
{
    cueball__timer *timer;
    tracker_set_time(tracker, now);
    cueball__timers_collect(&tracker->timers, tracker->now);
    while ((timer = cueball__timers_take(&tracker->timers)) != NULL)
        if (timer->kind == CUEBALL__TIMER_LOOKUP)
            cueball__lookup_due(tracker, CUEBALL__OWNER(timer, cueball__lookup, timer));
        else if (timer->kind == CUEBALL__TIMER_GRACE)
            tracker->is_grace_over = true;
        else
            tracker->is_stale = true;
}

void cueball__tracker_settle(cueball_tracker *tracker)
{
    if (tracker->has_left)
        cueball__search_left(tracker);
    cueball__lookups_serve(tracker);
    cueball__publish(tracker);
    cueball__recheck(tracker);
    cueball__failure_judge(tracker);
    bool is_busy = tracker->states[CUEBALL__LOOKUP_WAITING] + tracker->states[CUEBALL__LOOKUP_ASKING]
                       + tracker->states[CUEBALL__LOOKUP_PAUSING] + tracker->states[CUEBALL__LOOKUP_HELD]
                   > 0;
    if (is_busy) {
        tracker->tells_settle = false;
    } else if (tracker->was_busy) {
        tracker->was_busy = false;
        tracker->tells_settle = true;
    }
#ifdef CUEBALL_CHECKS
    char text[256];
    assert(cueball_tracker_check(tracker, text, sizeof text) == CUEBALL_OK);
#endif
}

int cueball_tracker_time_advanced(cueball_tracker *tracker, cueball_time now)
{
    cueball__tracker_begin(tracker, now);
    cueball__tracker_settle(tracker);
    return CUEBALL_OK;
}

cueball_time cueball_tracker_deadline(cueball_tracker *tracker)
{
    cueball_time deadline = cueball__timers_deadline(&tracker->timers);
    bool waits =
        !cueball__list_is_empty(&tracker->waiting) && tracker->states[CUEBALL__LOOKUP_ASKING] < tracker->options.max_dns_concurrency;
    return waits && tracker->now < deadline ? tracker->now : deadline; /* a new one has not begun yet */
}

static bool servers_are_same(const cueball_tracker *tracker, const char *const *servers, uint32_t count)
{
    bool is_same = tracker->servers_n == count;
    for (uint32_t i = 0; i < count && is_same; i++)
        is_same = strcmp(tracker->servers[i].text, servers[i]) == 0;
    return is_same;
}

/* Those that stay keep what is known of them. */
static void servers_fill(cueball__server *made, const char *const *servers, uint32_t count, const cueball__server *old, uint32_t old_n)
{
    char *at = (char *)(made + count);
    for (uint32_t i = 0; i < count; i++) {
        made[i].text = string_put(&at, servers[i]);
        made[i].behind_until = 0;
        for (uint32_t j = 0; j < old_n; j++)
            if (strcmp(old[j].text, servers[i]) == 0)
                made[i].behind_until = old[j].behind_until;
    }
}

int cueball_tracker_nameservers_replaced(cueball_tracker *tracker, cueball_time now, const char *const *servers, uint32_t count)
{
    size_t size = count * sizeof(cueball__server);
    if (count > CUEBALL__SERVERS_MAX || (count > 0 && !servers))
        return CUEBALL_EINVAL;
    for (uint32_t i = 0; i < count; i++) {
        size_t length = servers[i] ? strlen(servers[i]) : 0;
        if (length < 1 || length > 255)
            return CUEBALL_EINVAL;
        size += length + 1;
    }
    if (servers_are_same(tracker, servers, count)) {
        cueball_tracker_time_advanced(tracker, now);
        return CUEBALL_OK;
    }
    cueball__server *made = count > 0 ? cueball__memory_allocate(&tracker->memory, size) : NULL;
    if (count > 0 && !made)
        return CUEBALL_ENOMEM;
    cueball__server *old = tracker->servers;
    uint32_t old_n = tracker->servers_n;
    size_t old_size = tracker->servers_size;
    if (count > 0)
        servers_fill(made, servers, count, old, old_n);
    tracker->servers = made;
    tracker->servers_n = count;
    tracker->servers_size = size;
    tracker_set_time(tracker, now);
    cueball__servers_changed(tracker, old, old_n); /* before what is due asks the old ones */
    cueball__memory_release(&tracker->memory, old, old_size);
    cueball__tracker_begin(tracker, now);
    cueball__tracker_settle(tracker);
    return CUEBALL_OK;
}

static bool search_is_same(const cueball_tracker *tracker, const char *const *search, uint32_t count, uint32_t ndots, uint32_t no_tld_query)
{
    bool is_same = tracker->search_count == count && tracker->ndots == ndots && !tracker->no_tld_query == !no_tld_query;
    for (uint32_t i = 0; i < count && is_same; i++)
        is_same = strcmp(tracker->search[i], search[i]) == 0;
    return is_same;
}

int cueball_tracker_search_replaced(cueball_tracker *tracker, cueball_time now, const char *const *search, uint32_t count, uint32_t ndots,
                                    uint32_t no_tld_query)
{
    cueball_tracker_options options = tracker->options;
    options.search = search;
    options.search_count = count;
    if (cueball_tracker_options_check(&options, NULL, 0) != CUEBALL_OK)
        return CUEBALL_EINVAL;
    size_t size;
    bool is_same = search_is_same(tracker, search, count, ndots, no_tld_query);
    const char **made = is_same ? NULL : search_copy(tracker, search, count, &size);
    if (!is_same && count > 0 && !made)
        return CUEBALL_ENOMEM;
    cueball__tracker_begin(tracker, now);
    if (!is_same) {
        cueball__memory_release(&tracker->memory, tracker->search, tracker->search_size);
        tracker->search = made;
        tracker->search_size = size;
        tracker->search_count = count;
        tracker->ndots = ndots;
        tracker->no_tld_query = no_tld_query;
        cueball__searches_anew(tracker);
    }
    cueball__tracker_settle(tracker);
    return CUEBALL_OK;
}

int cueball_tracker_families_changed(cueball_tracker *tracker, cueball_time now, uint32_t families)
{
    cueball__tracker_begin(tracker, now);
    families &= tracker->options.families;
    if (families != tracker->families) {
        tracker->families = families;
        tracker->is_stale = true;
        cueball__names_arrange(tracker);
    }
    cueball__tracker_settle(tracker);
    return CUEBALL_OK;
}

/* NULL: nobody waits for its answer. */
static cueball__question *question_find(const cueball_tracker *tracker, cueball_handle handle)
{
    cueball__question *question = cueball__table_find(&tracker->questions, handle);
    return question && question->is_told && question->lookup ? question : NULL;
}

/* Takes the time.  Who tells of an answer may be late, because its loop stood
 * still; the answer is there all the same, so the limit of what waits for it does
 * not run out before it is heard.  The question, or NULL if nobody waits for it. */
static cueball__question *tracker_begin_answered(cueball_tracker *tracker, cueball_time now, cueball_handle question)
{
    cueball__question *asked = question_find(tracker, question);
    cueball__lookup *lookup = asked ? asked->lookup : NULL;
    cueball_time limit = CUEBALL_NEVER;
    if (lookup && cueball__timer_is_armed(&lookup->timer) && lookup->timer.deadline < now) {
        limit = lookup->timer.deadline;
        cueball__timers_cancel(&tracker->timers, &lookup->timer);
    }
    cueball__tracker_begin(tracker, now);
    asked = question_find(tracker, question);
    lookup = asked ? asked->lookup : NULL;
    if (lookup && limit != CUEBALL_NEVER && !cueball__timer_is_armed(&lookup->timer))
        cueball__timers_arm(&tracker->timers, &lookup->timer, limit); /* for its other questions */
    return asked;
}

int cueball_tracker_answered(cueball_tracker *tracker, cueball_time now, cueball_handle question, const cueball_answer *answer)
{
    cueball__question *asked = tracker_begin_answered(tracker, now, question);
    int result = CUEBALL_ESTALE;
    if (asked)
        result = cueball__answer_is_sound(answer) ? cueball__lookup_answered(tracker, asked, answer) : CUEBALL_EINVAL;
    cueball__tracker_settle(tracker);
    return result;
}

int cueball_tracker_unanswered(cueball_tracker *tracker, cueball_time now, cueball_handle question, int silence)
{
    cueball__tracker_begin(tracker, now);
    cueball__question *asked = question_find(tracker, question);
    int result = CUEBALL_ESTALE;
    if (asked && (silence < CUEBALL_SILENCE_TIMEOUT || silence > CUEBALL_SILENCE_LOCAL)) {
        result = CUEBALL_EINVAL;
    } else if (asked) {
        cueball__lookup_silent(tracker, asked, silence);
        result = CUEBALL_OK;
    }
    cueball__tracker_settle(tracker);
    return result;
}

static void lookup_expire(cueball_tracker *tracker, cueball__lookup *lookup)
{
    if (lookup->state == CUEBALL__LOOKUP_IDLE)
        cueball__lookup_begin(tracker, lookup);
}

static void all_expire(cueball_tracker *tracker)
{
    tracker->hold = 0;
    lookup_expire(tracker, &tracker->srv);
    for (uint32_t i = 0; i < tracker->targets_n; i++)
        for (unsigned family = 0; family < 2; family++)
            lookup_expire(tracker, &tracker->targets[i].name->lookups[family]);
}

int cueball_tracker_expired(cueball_tracker *tracker, cueball_time now)
{
    cueball__tracker_begin(tracker, now);
    all_expire(tracker);
    cueball__tracker_settle(tracker);
    return CUEBALL_OK;
}

int cueball_tracker_backends_failed(cueball_tracker *tracker, cueball_time now)
{
    cueball__tracker_begin(tracker, now);
    if (tracker->search_count > 0)
        cueball__searches_anew(tracker);
    all_expire(tracker);
    cueball__tracker_settle(tracker);
    return CUEBALL_OK;
}
