/* A lookup asks for the records of one type of one name, again and again: idle ->
 * waiting -> asking -> idle.  A round begins when what is known expires and ends
 * with an outcome (tracker_outcome.c).
 *
 * What can go wrong: a server says nothing, or an error: the next one is asked,
 * within the same attempt.  None of them answers: asking -> pausing -> waiting, so
 * many attempts, each with more patience; then the lookup is given up until its
 * next time.  There is no server: stalled, until there is one. */
#include "tracker.h"

#include <stdio.h>
#include <string.h>

void cueball__lookup_init(cueball__lookup *lookup, cueball__name *name, uint32_t type)
{
    memset(lookup, 0, sizeof *lookup);
    lookup->name = name;
    lookup->type = type;
    lookup->timer.kind = CUEBALL__TIMER_LOOKUP;
    cueball__link_init(&lookup->place);
}

const cueball__patience *cueball__lookup_patience(const cueball_tracker *tracker, const cueball__lookup *lookup)
{
    return lookup->name ? &tracker->patience : &tracker->patience_srv;
}

/* ---------------------------------------------------------------- counts -- */

static void lookup_count(cueball_tracker *tracker, const cueball__lookup *lookup, int by)
{
    uint32_t one = (uint32_t)by;
    tracker->states[lookup->state] += one;
    if (!lookup->name || lookup->state == CUEBALL__LOOKUP_OFF)
        return;
    tracker->on += one;
    if (lookup->has_failed)
        tracker->failed += one;
    if (!lookup->has_outcome) {
        tracker->undecided += one;
        if (!lookup->has_stumbled)
            tracker->fresh += one;
    }
}

static void lookup_set(cueball_tracker *tracker, cueball__lookup *lookup, cueball__lookup_state state)
{
    lookup_count(tracker, lookup, -1);
    lookup->state = (uint8_t)state;
    lookup_count(tracker, lookup, 1);
}

void cueball__lookup_mark(cueball_tracker *tracker, cueball__lookup *lookup, bool has_outcome, bool has_failed)
{
    lookup_count(tracker, lookup, -1);
    lookup->has_outcome = has_outcome;
    lookup->has_failed = has_failed;
    lookup_count(tracker, lookup, 1);
    tracker->is_judged = false;
    if (!has_failed && lookup->message) {
        cueball__memory_release(&tracker->memory, lookup->message, strlen(lookup->message) + 1);
        lookup->message = NULL;
    }
}

static void lookup_stumble(cueball_tracker *tracker, cueball__lookup *lookup, bool has_stumbled)
{
    lookup_count(tracker, lookup, -1);
    lookup->has_stumbled = has_stumbled;
    lookup_count(tracker, lookup, 1);
}

/* ------------------------------------------------------------ candidates -- */

static bool lookup_is_searched(const cueball_tracker *tracker, const cueball__lookup *lookup)
{
    const char *domain = tracker->options.domain;
    return (!lookup->name || lookup->name->is_domain) && cueball__name_length(domain) == strlen(domain);
}

static uint32_t lookup_candidates(const cueball_tracker *tracker, const cueball__lookup *lookup)
{
    return lookup_is_searched(tracker, lookup) ? 1 + tracker->options.search_count : 1;
}

/* The preferred one first, then the others in their order. */
uint32_t cueball__lookup_candidate(const cueball__lookup *lookup)
{
    if (lookup->position == 0)
        return lookup->preferred;
    return lookup->position - (lookup->position <= lookup->preferred);
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

void cueball__lookup_name(const cueball_tracker *tracker, const cueball__lookup *lookup, char *text, size_t size)
{
    cueball__lookup_subject(tracker, lookup, text, size);
    if (!lookup_is_searched(tracker, lookup))
        return;
    uint32_t dots = lookup->name ? tracker->domain_dots : tracker->srv_dots;
    bool is_first = dots >= tracker->options.ndots; /* as it is */
    uint32_t candidate = cueball__lookup_candidate(lookup);
    if (candidate == (is_first ? 0 : tracker->options.search_count))
        return;
    const char *within = tracker->options.search[candidate - is_first];
    size_t used = strlen(text);
    size_t length = cueball__name_length(within);
    if (length > 0)
        snprintf(text + used, size - used, ".%.*s", (int)length, within);
    uint32_t octets;
    if (!cueball__name_measure(text, &octets, &dots) || octets > CUEBALL__NAME_MAX)
        text[0] = '\0';
}

/* Goes past candidates that are too long to be names; false if none is left. */
static bool lookup_find_candidate(const cueball_tracker *tracker, cueball__lookup *lookup)
{
    char text[CUEBALL__NAME_TEXT];
    for (; lookup->position < lookup_candidates(tracker, lookup); lookup->position++) {
        cueball__lookup_name(tracker, lookup, text, sizeof text);
        if (text[0])
            return true;
    }
    return false;
}

/* ------------------------------------------------------------- questions -- */

static void question_end(cueball_tracker *tracker, cueball__lookup *lookup, bool is_forgotten)
{
    cueball__question *question = lookup->question;
    lookup->question = NULL;
    question->lookup = NULL;
    cueball__timers_cancel(&tracker->timers, &lookup->timer);
    cueball__list_remove(&question->place);
    if (question->is_told && is_forgotten)
        cueball__list_append(&tracker->forgets, &question->place);
    else
        cueball__table_remove(&tracker->questions, question);
}

/* Of the servers not asked in this attempt the first one, those that failed lately last. */
static uint32_t lookup_next_server(const cueball_tracker *tracker, const cueball__lookup *lookup)
{
    uint32_t behind = tracker->servers_n;
    for (uint32_t i = 0; i < tracker->servers_n; i++) {
        uint32_t server = (lookup->turn + i) % tracker->servers_n;
        if (lookup->tried >> server & 1)
            continue;
        if (tracker->servers[server].behind_until <= tracker->now)
            return server;
        if (behind == tracker->servers_n)
            behind = server;
    }
    return behind;
}

static void lookup_stall(cueball_tracker *tracker, cueball__lookup *lookup)
{
    static const char text[] = "no nameservers";
    lookup_stumble(tracker, lookup, true);
    cueball__lookup_mark(tracker, lookup, lookup->has_outcome, true);
    if (lookup->message)
        cueball__memory_release(&tracker->memory, lookup->message, strlen(lookup->message) + 1);
    lookup->message = cueball__memory_allocate(&tracker->memory, sizeof text);
    if (lookup->message)
        memcpy(lookup->message, text, sizeof text);
    lookup_set(tracker, lookup, CUEBALL__LOOKUP_STALLED);
    cueball__list_append(&tracker->stalled, &lookup->place);
    tracker->counters.given_up++;
    tracker->counters.srv_failures += !lookup->name;
}

/* Asks the next server; there is one. */
static void lookup_ask(cueball_tracker *tracker, cueball__lookup *lookup)
{
    bool is_new;
    uint32_t server = lookup_next_server(tracker, lookup);
    assert(server < tracker->servers_n);
    cueball__question *question = cueball__table_add(&tracker->questions, &is_new);
    if (!question) {
        cueball__lookup_put_off(tracker, lookup);
        return;
    }
    question->is_told = false;
    question->lookup = lookup;
    cueball__link_init(&question->place);
    cueball__list_append(&tracker->asks, &question->place);
    lookup->question = question;
    lookup->server = (uint8_t)server;
    lookup->tried |= UINT64_C(1) << server;
    tracker->counters.questions++;
    lookup_set(tracker, lookup, CUEBALL__LOOKUP_ASKING);
    cueball_time limit = cueball__patience_limit(cueball__lookup_patience(tracker, lookup), lookup->attempt);
    cueball__timers_arm(&tracker->timers, &lookup->timer, cueball__later(tracker->now, limit));
}

static void lookup_attempt(cueball_tracker *tracker, cueball__lookup *lookup)
{
    lookup->tried = 0;
    memset(lookup->votes, 0, sizeof lookup->votes);
    if (tracker->servers_n == 0) {
        lookup_stall(tracker, lookup);
        return;
    }
    lookup->attempt++;
    tracker->counters.retries += lookup->attempt > 1;
    lookup->turn = tracker->options.rotate ? tracker->turn++ % tracker->servers_n : 0;
    lookup_ask(tracker, lookup);
}

/* ---------------------------------------------------------------- rounds -- */

static void lookup_queue(cueball_tracker *tracker, cueball__lookup *lookup)
{
    lookup_set(tracker, lookup, CUEBALL__LOOKUP_WAITING);
    cueball__list_append(&tracker->waiting, &lookup->place);
}

void cueball__lookups_serve(cueball_tracker *tracker)
{
    while (tracker->states[CUEBALL__LOOKUP_ASKING] < tracker->options.max_dns_concurrency && !cueball__list_is_empty(&tracker->waiting)) {
        cueball__lookup *lookup = CUEBALL__OWNER(tracker->waiting.next, cueball__lookup, place);
        cueball__list_remove(&lookup->place);
        lookup_attempt(tracker, lookup);
    }
}

void cueball__lookup_begin(cueball_tracker *tracker, cueball__lookup *lookup)
{
    assert(lookup->state == CUEBALL__LOOKUP_OFF || lookup->state == CUEBALL__LOOKUP_IDLE || lookup->state == CUEBALL__LOOKUP_STALLED);
    cueball__timers_cancel(&tracker->timers, &lookup->timer);
    cueball__list_remove(&lookup->place);
    lookup->attempt = lookup->position = 0;
    lookup->saw_nodata = false;
    lookup->negative_ttl = 0;
    if (!lookup->has_outcome)
        lookup_stumble(tracker, lookup, false);
    lookup_find_candidate(tracker, lookup); /* the name as it is, at least, is none too long */
    tracker->was_busy = true;
    lookup_queue(tracker, lookup);
}

void cueball__lookup_rest(cueball_tracker *tracker, cueball__lookup *lookup, cueball_time due)
{
    lookup->due = due;
    lookup_set(tracker, lookup, CUEBALL__LOOKUP_IDLE);
    cueball__timers_arm(&tracker->timers, &lookup->timer, lookup->name && due < tracker->hold ? tracker->hold : due);
}

void cueball__lookup_put_off(cueball_tracker *tracker, cueball__lookup *lookup)
{
    assert(!lookup->question);
    lookup_stumble(tracker, lookup, true);
    lookup->attempt -= lookup->attempt > 0;
    lookup_set(tracker, lookup, CUEBALL__LOOKUP_PAUSING);
    cueball__timers_arm(&tracker->timers, &lookup->timer, cueball__later(tracker->now, CUEBALL__PUT_OFF));
}

void cueball__lookup_stop(cueball_tracker *tracker, cueball__lookup *lookup)
{
    if (lookup->question)
        question_end(tracker, lookup, true);
    cueball__timers_cancel(&tracker->timers, &lookup->timer);
    cueball__list_remove(&lookup->place);
    lookup_set(tracker, lookup, CUEBALL__LOOKUP_OFF);
    lookup->has_stumbled = false;
    cueball__lookup_mark(tracker, lookup, lookup->has_outcome, false);
}

static void lookup_negative(cueball_tracker *tracker, cueball__lookup *lookup, uint32_t rcode)
{
    if (cueball__outcome_negative(tracker, lookup, rcode, lookup->negative_ttl) != CUEBALL_OK)
        cueball__lookup_put_off(tracker, lookup);
}

/* -------------------------------------------------------------- failures -- */

/* The rcode most servers gave in this attempt; NULL: none gave any. */
static const cueball__vote *lookup_verdict(const cueball__lookup *lookup)
{
    const cueball__vote *most = NULL;
    for (unsigned i = 0; i < CUEBALL__VOTES_MAX && lookup->votes[i].count > 0; i++)
        if (!most || lookup->votes[i].count > most->count)
            most = &lookup->votes[i];
    return most;
}

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

static void lookup_give_up(cueball_tracker *tracker, cueball__lookup *lookup, const cueball__vote *verdict)
{
    char message[CUEBALL__MESSAGE], name[CUEBALL__NAME_TEXT];
    cueball__lookup_name(tracker, lookup, name, sizeof name);
    size_t used = (size_t)snprintf(message, sizeof message, "%s %.300s: ", cueball_rr_name(lookup->type), name);
    uint64_t servers = verdict ? UINT64_C(1) << verdict->server : lookup->tried;
    if (!verdict)
        used += (size_t)snprintf(message + used, sizeof message - used, "no answer from ");
    else if (verdict->rcode <= CUEBALL_RCODE_REFUSED)
        used += (size_t)snprintf(message + used, sizeof message - used, "%s from ", cueball_rcode_name(verdict->rcode));
    else
        used += (size_t)snprintf(message + used, sizeof message - used, "rcode %u from ", verdict->rcode);
    used += servers_write(tracker, servers, message + used, sizeof message - used);
    if (used < sizeof message)
        snprintf(message + used, sizeof message - used, " (%u attempt%s)", lookup->attempt, lookup->attempt == 1 ? "" : "s");
    tracker->counters.given_up++;
    tracker->counters.srv_failures += !lookup->name;
    cueball__outcome_failed(tracker, lookup, message);
}

/* Every server was asked. */
static void lookup_attempt_over(cueball_tracker *tracker, cueball__lookup *lookup)
{
    const cueball__patience *patience = cueball__lookup_patience(tracker, lookup);
    const cueball__vote *verdict = lookup_verdict(lookup);
    if (verdict && verdict->rcode == CUEBALL_RCODE_NOTIMP && lookup->type != CUEBALL_RR_A) {
        lookup->server = verdict->server;
        lookup->negative_ttl = 0;
        lookup_negative(tracker, lookup, CUEBALL_RCODE_NOTIMP);
    } else if ((verdict && verdict->rcode == CUEBALL_RCODE_REFUSED) || lookup->attempt >= patience->attempts) {
        lookup_give_up(tracker, lookup, verdict);
    } else {
        cueball_time pause = cueball__patience_pause(patience, lookup->attempt, lookup->pause, &tracker->random);
        lookup->pause = pause;
        if (pause < CUEBALL__SECOND / 1000) /* never as fast as the servers say no */
            pause = CUEBALL__SECOND / 1000;
        lookup_set(tracker, lookup, CUEBALL__LOOKUP_PAUSING);
        cueball__timers_arm(&tracker->timers, &lookup->timer, cueball__later(tracker->now, pause));
    }
}

/* The server asked is of no help: on to the next. */
static void lookup_go_on(cueball_tracker *tracker, cueball__lookup *lookup)
{
    tracker->servers[lookup->server].behind_until = cueball__later(tracker->now, CUEBALL__PENALTY);
    lookup_stumble(tracker, lookup, true);
    if (lookup_next_server(tracker, lookup) < tracker->servers_n)
        lookup_ask(tracker, lookup);
    else
        lookup_attempt_over(tracker, lookup);
}

static void lookup_vote(cueball__lookup *lookup, uint32_t rcode)
{
    rcode = rcode < UINT16_MAX ? rcode : UINT16_MAX;
    for (unsigned i = 0; i < CUEBALL__VOTES_MAX; i++) {
        cueball__vote *vote = &lookup->votes[i];
        if (vote->count == 0)
            *vote = (cueball__vote){ .rcode = (uint16_t)rcode, .server = lookup->server };
        if (vote->rcode == (uint16_t)rcode) {
            vote->count++;
            return;
        }
    }
}

void cueball__lookup_due(cueball_tracker *tracker, cueball__lookup *lookup)
{
    if (lookup->state == CUEBALL__LOOKUP_IDLE) {
        cueball__lookup_begin(tracker, lookup);
    } else if (lookup->state == CUEBALL__LOOKUP_PAUSING) {
        lookup_queue(tracker, lookup);
    } else if (lookup->state == CUEBALL__LOOKUP_ASKING) {
        tracker->counters.timeouts++;
        question_end(tracker, lookup, true);
        lookup_go_on(tracker, lookup);
    }
}

void cueball__lookup_silent(cueball_tracker *tracker, cueball__lookup *lookup, int silence)
{
    uint64_t *counters[] = { &tracker->counters.timeouts, &tracker->counters.network_errors, &tracker->counters.garbage };
    ++*counters[silence];
    question_end(tracker, lookup, false);
    lookup_go_on(tracker, lookup);
}

/* --------------------------------------------------------------- answers -- */

/* There is no such record at this candidate. */
static int lookup_absent(cueball_tracker *tracker, cueball__lookup *lookup, const cueball__belief *belief)
{
    lookup->saw_nodata |= belief->answer->rcode == CUEBALL_RCODE_NOERROR;
    if (belief->has_negative_ttl) {
        cueball_time ttl = belief->negative_ttl * CUEBALL__SECOND;
        ttl += ttl == 0; /* 0 stands for unknown */
        if (lookup->negative_ttl == 0 || ttl < lookup->negative_ttl)
            lookup->negative_ttl = ttl;
    }
    uint32_t position = lookup->position++;
    if (lookup_find_candidate(tracker, lookup)) {
        lookup->attempt = 0;
        lookup_attempt(tracker, lookup);
        return CUEBALL_OK;
    }
    lookup->position = position;
    return cueball__outcome_negative(tracker, lookup, lookup->saw_nodata ? CUEBALL_RCODE_NOERROR : CUEBALL_RCODE_NXDOMAIN,
                                     lookup->negative_ttl);
}

int cueball__lookup_answered(cueball_tracker *tracker, cueball__lookup *lookup, const cueball_answer *answer)
{
    char name[CUEBALL__NAME_TEXT];
    tracker->counters.answers++;
    question_end(tracker, lookup, false);
    if (answer->rcode != CUEBALL_RCODE_NOERROR && answer->rcode != CUEBALL_RCODE_NXDOMAIN) {
        lookup_vote(lookup, answer->rcode);
        lookup_go_on(tracker, lookup);
        return CUEBALL_OK;
    }
    cueball__belief belief;
    cueball__lookup_name(tracker, lookup, name, sizeof name);
    cueball__belief_form(&belief, name, lookup->type, answer);
    int result = CUEBALL_OK;
    if (belief.count > 0)
        result = cueball__outcome_records(tracker, lookup, &belief);
    else
        result = lookup_absent(tracker, lookup, &belief);
    if (result != CUEBALL_OK)
        cueball__lookup_put_off(tracker, lookup);
    return result;
}

/* --------------------------------------------------------------- servers -- */

/* Questions at a server that stays go on; the attempt then begins with it.  (Its
 * bits and votes mean places in the old list.) */
void cueball__servers_changed(cueball_tracker *tracker, const cueball__server *old, uint32_t old_n)
{
    for (uint32_t i = 0; i < tracker->questions.made; i++) {
        const cueball__question *question = cueball__table_at(&tracker->questions, i);
        cueball__lookup *lookup = question->lookup;
        if (!lookup)
            continue;
        assert(lookup->server < old_n);
        (void)old_n;
        uint32_t server = 0;
        while (server < tracker->servers_n && strcmp(tracker->servers[server].text, old[lookup->server].text) != 0)
            server++;
        memset(lookup->votes, 0, sizeof lookup->votes);
        lookup->turn = 0;
        if (server < tracker->servers_n) {
            lookup->server = (uint8_t)server;
            lookup->tried = UINT64_C(1) << server;
        } else {
            question_end(tracker, lookup, true);
            lookup->attempt--;
            lookup_queue(tracker, lookup);
        }
    }
    while (tracker->servers_n > 0 && !cueball__list_is_empty(&tracker->stalled))
        cueball__lookup_begin(tracker, CUEBALL__OWNER(tracker->stalled.next, cueball__lookup, place));
}
