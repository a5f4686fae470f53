/* One attempt after another: servers are asked in turn, and what they say, or do not
 * say, decides how the lookup goes on. */
#include "state.h"

#include <string.h>

/* Of the servers not asked in this attempt the first one, those that failed lately last. */
static uint32_t lookup_next_server(const cueball_tracker *tracker, const cueball__lookup *lookup)
{
    assert(tracker->servers_n <= CUEBALL__SERVERS_MAX);
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
    assert(behind <= tracker->servers_n);
    return behind;
}

static void lookup_stall(cueball_tracker *tracker, cueball__lookup *lookup)
{
    assert(tracker->servers_n == 0);
    assert(!lookup->question);
    static const char text[] = "no nameservers";
    cueball__lookup_stumble(tracker, lookup, true);
    cueball__lookup_mark(tracker, lookup, lookup->is_decided, true);
    if (lookup->message)
        cueball__memory_release(&tracker->memory, lookup->message, strlen(lookup->message) + 1);
    lookup->message = cueball__memory_allocate(&tracker->memory, sizeof text);
    if (lookup->message)
        memcpy(lookup->message, text, sizeof text);
    cueball__lookup_set(tracker, lookup, CUEBALL__LOOKUP_STALLED);
    cueball__list_append(&tracker->stalled, &lookup->at_state);
    tracker->counters.given_up++;
    tracker->counters.srv_failures += !lookup->name;
    assert(lookup->state == CUEBALL__LOOKUP_STALLED);
    assert(cueball__link_is_linked(&lookup->at_state));
}

/* Asks the next server; there is one. */
static void lookup_ask(cueball_tracker *tracker, cueball__lookup *lookup)
{
    assert(!lookup->question);
    assert(tracker->servers_n > 0);
    assert(!cueball__link_is_linked(&lookup->at_state));
    assert(lookup->attempt > 0);
    bool is_new;
    uint32_t server = lookup_next_server(tracker, lookup);
    assert(server < tracker->servers_n);
    cueball__question *question = cueball__table_add(&tracker->questions, &is_new);
    if (!question) {
        cueball__lookup_put_off(tracker, lookup);
        return;
    }
    question->is_told = question->is_late = false;
    question->lookup = lookup;
    question->server = (uint8_t)server;
    cueball__link_init(&question->at_state);
    cueball__list_append(&tracker->asks, &question->at_state);
    lookup->question = question;
    lookup->server = (uint8_t)server;
    lookup->tried |= UINT64_C(1) << server;
    tracker->counters.questions++;
    cueball__lookup_set(tracker, lookup, CUEBALL__LOOKUP_ASKING);
    cueball_time limit = cueball__backoff_limit(cueball__lookup_backoff(tracker, lookup), lookup->attempt);
    cueball__timers_arm(&tracker->timers, &lookup->timer, cueball__later(tracker->now, limit));
    question->deadline = cueball__later(tracker->now, limit * CUEBALL__LISTENS); /* a limit is at most a day */
    assert(lookup->question == question);
    assert(cueball__timer_is_armed(&lookup->timer));
    assert(question->deadline >= lookup->timer.deadline);
}

static void lookup_attempt(cueball_tracker *tracker, cueball__lookup *lookup)
{
    assert(!lookup->question);
    assert(!cueball__link_is_linked(&lookup->at_state));
    assert(lookup->state == CUEBALL__LOOKUP_WAITING);
    lookup->tried = 0;
    lookup->causes = 0;
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

void cueball__lookups_serve(cueball_tracker *tracker)
{
    while (tracker->states[CUEBALL__LOOKUP_ASKING] < tracker->options.max_dns_concurrency && !cueball__list_is_empty(&tracker->waiting)) {
        cueball__lookup *lookup = CUEBALL__OWNER(tracker->waiting.next, cueball__lookup, at_state);
        cueball__list_remove(&lookup->at_state);
        lookup_attempt(tracker, lookup);
    }
    assert(cueball__list_is_empty(&tracker->waiting) || tracker->states[CUEBALL__LOOKUP_ASKING] >= tracker->options.max_dns_concurrency);
}

/* The rcode most servers gave in this attempt; NULL: none gave any. */
static const cueball__vote *lookup_majority(const cueball__lookup *lookup)
{
    const cueball__vote *most = NULL;
    for (unsigned i = 0; i < CUEBALL__VOTES_MAX && lookup->votes[i].count > 0; i++)
        if (!most || lookup->votes[i].count > most->count)
            most = &lookup->votes[i];
    return most;
}

static void lookup_give_up(cueball_tracker *tracker, cueball__lookup *lookup, const cueball__vote *vote)
{
    assert(!lookup->question);
    char message[CUEBALL__MESSAGE];
    cueball__failure_write(tracker, lookup, vote, message, sizeof message);
    tracker->counters.given_up++;
    tracker->counters.srv_failures += !lookup->name;
    cueball__schedule_failed(tracker, lookup, message);
    cueball__search_failed(tracker, lookup);
    assert(lookup->message == NULL || lookup->has_failed);
}

/* The server knows no such type: for SRV that settles it, whatever the candidate. */
static void lookup_unknown(cueball_tracker *tracker, cueball__lookup *lookup, uint32_t server)
{
    assert(lookup->type != CUEBALL_RR_A);
    assert(server < tracker->servers_n);
    cueball__search *search = cueball__search_of(tracker, lookup);
    int result;
    lookup->server = (uint8_t)server;
    if (lookup->name && search->is_walking) {
        result = cueball__search_absent(tracker, lookup, CUEBALL_RCODE_NOERROR, 0);
    } else {
        search->is_walking = false;
        result = cueball__schedule_negative(tracker, lookup, CUEBALL_RCODE_NOTIMP, 0);
    }
    if (result != CUEBALL_OK)
        cueball__lookup_put_off(tracker, lookup);
}

/* Every server was asked. */
static void lookup_attempt_over(cueball_tracker *tracker, cueball__lookup *lookup)
{
    assert(!lookup->question);
    assert(lookup->attempt > 0);
    assert(lookup->tried != 0);
    const cueball__backoff *backoff = cueball__lookup_backoff(tracker, lookup);
    const cueball__vote *vote = lookup_majority(lookup);
    if (vote && vote->rcode == CUEBALL_RCODE_NOTIMP && lookup->type != CUEBALL_RR_A) {
        lookup_unknown(tracker, lookup, vote->server);
    } else if (cueball__search_looks(tracker, lookup)) { /* it is but a look: not worth a second attempt */
        if (cueball__search_absent(tracker, lookup, CUEBALL_RCODE_NXDOMAIN, 0) != CUEBALL_OK)
            cueball__lookup_put_off(tracker, lookup);
    } else if ((vote && vote->rcode == CUEBALL_RCODE_REFUSED) || lookup->attempt >= backoff->attempts) {
        lookup_give_up(tracker, lookup, vote);
    } else {
        cueball_time pause = cueball__backoff_pause(backoff, lookup->attempt, lookup->pause, &tracker->random);
        lookup->pause = pause;
        if (pause < CUEBALL__SECOND / 1000) /* never as fast as the servers say no */
            pause = CUEBALL__SECOND / 1000;
        cueball__lookup_set(tracker, lookup, CUEBALL__LOOKUP_PAUSING);
        cueball__timers_arm(&tracker->timers, &lookup->timer, cueball__later(tracker->now, pause));
    }
}

/* The server asked is of no help: on to the next. */
static void lookup_go_on(cueball_tracker *tracker, cueball__lookup *lookup)
{
    assert(!lookup->question);
    assert(lookup->server < tracker->servers_n);
    assert(lookup->state == CUEBALL__LOOKUP_ASKING);
    tracker->servers[lookup->server].behind_until = cueball__later(tracker->now, CUEBALL__PENALTY);
    cueball__lookup_stumble(tracker, lookup, true);
    if (cueball__search_stumbled(tracker, lookup))
        return;
    if (lookup_next_server(tracker, lookup) < tracker->servers_n)
        lookup_ask(tracker, lookup);
    else
        lookup_attempt_over(tracker, lookup);
}

static void lookup_vote(cueball__lookup *lookup, uint32_t rcode)
{
    assert(lookup->server < CUEBALL__SERVERS_MAX);
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
    assert(!cueball__timer_is_armed(&lookup->timer));
    assert(lookup->state != CUEBALL__LOOKUP_OFF);
    assert(lookup->timer.deadline <= tracker->now);
    if (lookup->state == CUEBALL__LOOKUP_IDLE) {
        cueball__lookup_begin(tracker, lookup);
    } else if (lookup->state == CUEBALL__LOOKUP_PAUSING) {
        cueball__lookup_queue(tracker, lookup);
    } else if (lookup->state == CUEBALL__LOOKUP_ASKING) {
        tracker->counters.timeouts++;
        lookup->causes |= 1U << CUEBALL_SILENCE_TIMEOUT;
        cueball__question_set_aside(tracker, lookup->question);
        lookup_go_on(tracker, lookup);
    }
}

void cueball__lookup_silent(cueball_tracker *tracker, cueball__question *question, int silence)
{
    assert(question->is_told);
    assert(silence >= CUEBALL_SILENCE_TIMEOUT);
    assert(silence <= CUEBALL_SILENCE_LOCAL);
    cueball__lookup *lookup = question->lookup;
    bool is_late = question->is_late; /* it was counted when it was set aside */
    uint64_t *counter = silence == CUEBALL_SILENCE_TIMEOUT   ? &tracker->counters.timeouts
                        : silence == CUEBALL_SILENCE_GARBAGE ? &tracker->counters.garbage
                                                             : &tracker->counters.network_errors;
    cueball__question_end(tracker, question, false);
    if (is_late)
        return;
    ++*counter;
    lookup->causes |= 1U << silence;
    lookup_go_on(tracker, lookup);
}

static cueball_time accepted_negative_ttl(const cueball__accepted *accepted)
{
    if (!accepted->has_negative_ttl)
        return 0;
    return accepted->negative_ttl > 0 ? accepted->negative_ttl * CUEBALL__SECOND : 1; /* 0 stands for unknown */
}

/* It says something, if only that there is nothing. */
static bool answer_is_decisive(const cueball_answer *answer)
{
    assert(answer->count == 0 || answer->records != NULL);
    return !answer->is_referral && (answer->rcode == CUEBALL_RCODE_NOERROR || answer->rcode == CUEBALL_RCODE_NXDOMAIN);
}

/* NOERROR or NXDOMAIN, from a server that has the zone or asks others. */
static int lookup_decided(cueball_tracker *tracker, cueball__lookup *lookup, const cueball_answer *answer)
{
    assert(!lookup->question);
    assert(!cueball__link_is_linked(&lookup->at_state));
    assert(!cueball__timer_is_armed(&lookup->timer));
    char name[CUEBALL__NAME_TEXT];
    cueball__accepted accepted;
    cueball__lookup_name(tracker, lookup, name, sizeof name);
    cueball__accepted_read(&accepted, name, lookup->type, answer);
    bool is_dangling = accepted.count == 0 && accepted.chain_n > 1;
    cueball__lookup_alias(tracker, lookup, is_dangling ? accepted.chain[accepted.chain_n - 1] : NULL);
    if (accepted.count == 0)
        return cueball__search_absent(tracker, lookup, answer->rcode, accepted_negative_ttl(&accepted));
    int result = cueball__schedule_records(tracker, lookup, &accepted);
    if (result == CUEBALL_OK)
        cueball__search_found(tracker, lookup);
    return result;
}

int cueball__lookup_answered(cueball_tracker *tracker, cueball__question *question, const cueball_answer *answer)
{
    assert(question->is_told);
    assert(question->lookup->state != CUEBALL__LOOKUP_OFF);
    assert(!question->is_late || question->lookup->question != question);
    cueball__lookup *lookup = question->lookup;
    bool is_late = question->is_late, is_decisive = answer_is_decisive(answer);
    uint8_t server = question->server;
    tracker->counters.answers++;
    cueball__question_end(tracker, question, false);
    if (is_late && !is_decisive)
        return CUEBALL_OK;
    if (!is_decisive) {
        if (answer->is_referral) {
            tracker->counters.garbage++;
            lookup->causes |= 1U << CUEBALL__LAME;
        } else {
            lookup_vote(lookup, answer->rcode);
        }
        lookup_go_on(tracker, lookup);
        return CUEBALL_OK;
    }
    /* A late one: whatever the lookup does meanwhile is needless. */
    cueball__questions_forget(tracker, lookup);
    cueball__timers_cancel(&tracker->timers, &lookup->timer);
    cueball__list_remove(&lookup->at_state);
    lookup->server = server;
    int result = lookup_decided(tracker, lookup, answer);
    if (result != CUEBALL_OK)
        cueball__lookup_put_off(tracker, lookup);
    return result;
}

/* Questions at a server that stays go on; the attempt then begins with it.  (Its
 * bits and votes mean places in the old list.) */
void cueball__servers_changed(cueball_tracker *tracker, const cueball__server *old, uint32_t old_n)
{
    assert(tracker->servers_n <= CUEBALL__SERVERS_MAX);
    for (uint32_t i = 0; i < tracker->questions.made; i++) {
        cueball__question *question = cueball__table_at(&tracker->questions, i);
        cueball__lookup *lookup = question->lookup;
        if (!lookup)
            continue;
        if (question->is_late) { /* its server is no number of the new list */
            cueball__question_end(tracker, question, true);
            continue;
        }
        assert(lookup->server < old_n);
        (void)old_n;
        uint32_t server = 0;
        while (server < tracker->servers_n && strcmp(tracker->servers[server].text, old[lookup->server].text) != 0)
            server++;
        memset(lookup->votes, 0, sizeof lookup->votes);
        lookup->turn = 0;
        if (server < tracker->servers_n) {
            lookup->server = lookup->question->server = (uint8_t)server;
            lookup->tried = UINT64_C(1) << server;
        } else {
            cueball__question_end(tracker, lookup->question, true);
            lookup->attempt--;
            cueball__lookup_queue(tracker, lookup);
        }
    }
    while (tracker->servers_n > 0 && !cueball__list_is_empty(&tracker->stalled))
        cueball__lookup_begin(tracker, CUEBALL__OWNER(tracker->stalled.next, cueball__lookup, at_state));
    assert(tracker->servers_n == 0 || cueball__list_is_empty(&tracker->stalled));
}
