/* A lookup asks for the records of one type of one name, again and again: idle ->
 * waiting -> asking -> idle.  A round begins when what is known expires and ends
 * with a decision (schedule.c).
 *
 * What can go wrong: a server says nothing, or an error: the next one is asked,
 * within the same attempt.  None of them answers: asking -> pausing -> waiting, so
 * many attempts, each of which may take longer; then the lookup is given up until its
 * next time.  There is no server: stalled, until there is one. */
#include "state.h"

#include <string.h>

/* How often better candidates are looked at, in rechecks at their slowest. */
enum { RECHECKS_PER_LOOK = 2 };

void cueball__lookup_init(cueball__lookup *lookup, cueball__name *name, uint32_t type)
{
    memset(lookup, 0, sizeof *lookup);
    lookup->name = name;
    lookup->type = type;
    lookup->timer.kind = CUEBALL__TIMER_LOOKUP;
    cueball__link_init(&lookup->at_state);
    cueball__link_init(&lookup->late);
}

const cueball__backoff *cueball__lookup_backoff(const cueball_tracker *tracker, const cueball__lookup *lookup)
{
    return lookup->name ? &tracker->backoff : &tracker->backoff_srv;
}

/* ---------------------------------------------------------------- counts -- */

static void lookup_count(cueball_tracker *tracker, const cueball__lookup *lookup, int by)
{
    assert(by == 1 || by == -1);
    assert(lookup->state < CUEBALL__LOOKUP_STATES);
    assert(by > 0 || tracker->states[lookup->state] > 0);
    uint32_t one = (uint32_t)by;
    tracker->states[lookup->state] += one;
    if (!lookup->name || lookup->state == CUEBALL__LOOKUP_OFF)
        return;
    tracker->on += one;
    if (lookup->has_failed)
        tracker->failed += one;
    if (!lookup->is_decided) {
        tracker->undecided += one;
        if (!lookup->has_stumbled)
            tracker->fresh += one;
    }
}

void cueball__lookup_set(cueball_tracker *tracker, cueball__lookup *lookup, cueball__lookup_state state)
{
    assert(state < CUEBALL__LOOKUP_STATES);
    lookup_count(tracker, lookup, -1);
    lookup->state = (uint8_t)state;
    lookup_count(tracker, lookup, 1);
    assert(tracker->states[state] > 0);
    assert(tracker->undecided <= tracker->on);
}

void cueball__lookup_mark(cueball_tracker *tracker, cueball__lookup *lookup, bool is_decided, bool has_failed)
{
    lookup_count(tracker, lookup, -1);
    lookup->is_decided = is_decided;
    lookup->has_failed = has_failed;
    lookup_count(tracker, lookup, 1);
    tracker->is_judged = false;
    if (!has_failed && lookup->message) {
        cueball__memory_release(&tracker->memory, lookup->message, strlen(lookup->message) + 1);
        lookup->message = NULL;
    }
    assert(tracker->failed <= tracker->on);
    assert(tracker->undecided <= tracker->on);
    assert(lookup->has_failed || !lookup->message);
}

static void text_free(cueball_tracker *tracker, char **text)
{
    if (*text)
        cueball__memory_release(&tracker->memory, *text, strlen(*text) + 1);
    *text = NULL;
}

void cueball__lookup_alias(cueball_tracker *tracker, cueball__lookup *lookup, const char *alias)
{
    text_free(tracker, &lookup->alias);
    size_t size = alias ? strlen(alias) + 1 : 0;
    if (alias)
        lookup->alias = cueball__memory_allocate(&tracker->memory, size);
    if (lookup->alias)
        memcpy(lookup->alias, alias, size);
}

void cueball__lookup_stumble(cueball_tracker *tracker, cueball__lookup *lookup, bool has_stumbled)
{
    lookup_count(tracker, lookup, -1);
    lookup->has_stumbled = has_stumbled;
    lookup_count(tracker, lookup, 1);
    assert(tracker->fresh <= tracker->undecided);
}

/* ------------------------------------------------------------- questions -- */

void cueball__question_end(cueball_tracker *tracker, cueball__question *question, bool is_forgotten)
{
    assert(question->lookup != NULL);
    assert(question->is_late || question->lookup->question == question);
    assert(!question->is_late || question->lookup->question != question);
    cueball__lookup *lookup = question->lookup;
    if (lookup && lookup->question == question) {
        lookup->question = NULL;
        cueball__timers_cancel(&tracker->timers, &lookup->timer);
    }
    question->lookup = NULL;
    cueball__list_remove(&question->at_state);
    if (question->is_told && is_forgotten)
        cueball__list_append(&tracker->forgets, &question->at_state);
    else
        cueball__table_remove(&tracker->questions, question);
    assert(question->lookup == NULL);
}

/* It is waited for no longer, but an answer that comes during the next question
 * counts: a slow server would never be heard otherwise. */
void cueball__question_set_aside(cueball_tracker *tracker, cueball__question *question)
{
    assert(!question->is_late);
    assert(question->lookup->question == question);
    assert(!cueball__timer_is_armed(&question->lookup->timer));
    cueball__lookup *lookup = question->lookup;
    if (!question->is_told) {
        cueball__question_end(tracker, question, false);
        return;
    }
    cueball__timers_cancel(&tracker->timers, &lookup->timer);
    lookup->question = NULL;
    question->is_late = true;
    cueball__list_append(&lookup->late, &question->at_state);
}

/* The round, or the candidate, is over. */
void cueball__questions_forget(cueball_tracker *tracker, cueball__lookup *lookup)
{
    if (lookup->question)
        cueball__question_end(tracker, lookup->question, true);
    while (!cueball__list_is_empty(&lookup->late))
        cueball__question_end(tracker, CUEBALL__OWNER(lookup->late.next, cueball__question, at_state), true);
    assert(lookup->question == NULL);
    assert(cueball__list_is_empty(&lookup->late));
}

/* ---------------------------------------------------------------- rounds -- */

void cueball__lookup_queue(cueball_tracker *tracker, cueball__lookup *lookup)
{
    assert(!cueball__link_is_linked(&lookup->at_state));
    assert(lookup->question == NULL);
    cueball__lookup_set(tracker, lookup, CUEBALL__LOOKUP_WAITING);
    cueball__list_append(&tracker->waiting, &lookup->at_state);
    assert(cueball__link_is_linked(&lookup->at_state));
}

void cueball__lookup_restart(cueball_tracker *tracker, cueball__lookup *lookup)
{
    cueball__questions_forget(tracker, lookup);
    cueball__timers_cancel(&tracker->timers, &lookup->timer);
    cueball__list_remove(&lookup->at_state);
    lookup->attempt = 0;
    lookup->is_hastened = lookup->stumbles_here = false;
    tracker->was_busy = true;
    cueball__lookup_queue(tracker, lookup);
    assert(lookup->state == CUEBALL__LOOKUP_WAITING);
    assert(lookup->attempt == 0);
}

static void search_join(cueball_tracker *tracker, cueball__lookup *lookup)
{
    assert(lookup->state != CUEBALL__LOOKUP_OFF);
    assert(lookup->state != CUEBALL__LOOKUP_STALLED);
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
    if (search->is_walking || cueball__candidates_count(tracker, lookup) < 2)
        return;
    bool is_better_due = search->chosen != CUEBALL__NOWHERE && search->better_at <= tracker->now;
    uint32_t first = cueball__candidate_find(tracker, lookup, 0);
    if (search->chosen != CUEBALL__NOWHERE && (!is_better_due || search->chosen <= first))
        return;
    search->is_walking = true;
    search->at = first;
    search->better_at = cueball__later(tracker->now, RECHECKS_PER_LOOK * tracker->max_recheck);
    cueball__lookup *partner = cueball__search_partner(lookup);
    if (partner && partner->state != CUEBALL__LOOKUP_STALLED)
        search_join(tracker, partner);
    assert(!search->is_walking || search->at < cueball__candidates_count(tracker, lookup));
}

void cueball__lookup_begin(cueball_tracker *tracker, cueball__lookup *lookup)
{
    assert(lookup->state == CUEBALL__LOOKUP_OFF || lookup->state == CUEBALL__LOOKUP_IDLE || lookup->state == CUEBALL__LOOKUP_STALLED);
    if (!lookup->is_decided)
        cueball__lookup_stumble(tracker, lookup, false);
    cueball__search_begin(tracker, lookup);
    cueball__lookup_restart(tracker, lookup);
    assert(lookup->state == CUEBALL__LOOKUP_WAITING);
}

void cueball__lookup_hold(cueball_tracker *tracker, cueball__lookup *lookup)
{
    assert(lookup->name != NULL);
    assert(cueball__search_of(tracker, lookup)->is_walking);
    cueball__questions_forget(tracker, lookup);
    cueball__lookup_set(tracker, lookup, CUEBALL__LOOKUP_HELD);
    assert(lookup->question == NULL);
    assert(!cueball__link_is_linked(&lookup->at_state));
    assert(lookup->state == CUEBALL__LOOKUP_HELD);
}

void cueball__lookup_rest(cueball_tracker *tracker, cueball__lookup *lookup, cueball_time due)
{
    assert(!cueball__link_is_linked(&lookup->at_state));
    lookup->due = due;
    cueball__questions_forget(tracker, lookup);
    cueball__lookup_set(tracker, lookup, CUEBALL__LOOKUP_IDLE);
    cueball__timers_arm(&tracker->timers, &lookup->timer,
                        cueball__search_due(tracker, lookup, lookup->name && due < tracker->hold ? tracker->hold : due));
    assert(lookup->question == NULL);
    assert(lookup->state == CUEBALL__LOOKUP_IDLE);
}

void cueball__lookup_put_off(cueball_tracker *tracker, cueball__lookup *lookup)
{
    assert(!cueball__link_is_linked(&lookup->at_state));
    assert(!lookup->question);
    cueball__lookup_stumble(tracker, lookup, true);
    lookup->attempt -= lookup->attempt > 0;
    cueball__lookup_set(tracker, lookup, CUEBALL__LOOKUP_PAUSING);
    cueball__timers_arm(&tracker->timers, &lookup->timer, cueball__later(tracker->now, CUEBALL__PUT_OFF));
    assert(cueball__timer_is_armed(&lookup->timer));
    assert(lookup->state == CUEBALL__LOOKUP_PAUSING);
}

void cueball__lookup_stop(cueball_tracker *tracker, cueball__lookup *lookup)
{
    cueball__questions_forget(tracker, lookup);
    cueball__timers_cancel(&tracker->timers, &lookup->timer);
    cueball__list_remove(&lookup->at_state);
    cueball__lookup_set(tracker, lookup, CUEBALL__LOOKUP_OFF);
    lookup->has_stumbled = false;
    cueball__lookup_alias(tracker, lookup, NULL);
    cueball__lookup_mark(tracker, lookup, lookup->is_decided, false);
    if (cueball__search_partner(lookup))
        tracker->has_left = true;
    else
        cueball__search_of(tracker, lookup)->is_walking = false;
    assert(lookup->state == CUEBALL__LOOKUP_OFF);
    assert(!cueball__timer_is_armed(&lookup->timer));
    assert(!cueball__link_is_linked(&lookup->at_state));
    assert(!lookup->message);
}

/* Addresses are kept, and not asked for, until this moment. */
void cueball__hold_until(cueball_tracker *tracker, cueball_time moment)
{
    if (tracker->hold == moment)
        return;
    tracker->hold = moment;
    for (uint32_t i = 0; i < tracker->targets_n; i++) {
        for (unsigned family = 0; family < 2; family++) {
            cueball__lookup *lookup = &tracker->targets[i].name->lookups[family];
            if (lookup->state == CUEBALL__LOOKUP_IDLE)
                cueball__lookup_rest(tracker, lookup, lookup->due);
        }
    }
}
