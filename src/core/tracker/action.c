/* What the host is to do, to be drained, and what there is to be read. */
#include "state.h"

#include <string.h>

static void ask_take(cueball_tracker *tracker, cueball_tracker_action *action)
{
    assert(!cueball__list_is_empty(&tracker->asks));
    cueball__question *question = CUEBALL__OWNER(tracker->asks.next, cueball__question, at_state);
    const cueball__lookup *lookup = question->lookup;
    cueball__list_remove(&question->at_state);
    question->is_told = true;
    cueball__lookup_name(tracker, lookup, tracker->text, sizeof tracker->text);
    action->kind = CUEBALL_TRACKER_ASK;
    action->type = lookup->type;
    action->question = cueball__member_handle(&question->member);
    action->deadline = question->deadline;
    action->name = tracker->text;
    action->server = tracker->servers[lookup->server].text;
    assert(lookup->question == question);
    assert(action->name[0]);
    assert(lookup->state == CUEBALL__LOOKUP_ASKING);
}

static void forget_take(cueball_tracker *tracker, cueball_tracker_action *action)
{
    assert(!cueball__list_is_empty(&tracker->forgets));
    cueball__question *question = CUEBALL__OWNER(tracker->forgets.next, cueball__question, at_state);
    action->kind = CUEBALL_TRACKER_FORGET;
    action->question = cueball__member_handle(&question->member);
    cueball__list_remove(&question->at_state);
    cueball__table_remove(&tracker->questions, question);
}

static void news_take(cueball_tracker *tracker, cueball_tracker_action *action)
{
    assert(!cueball__list_is_empty(&tracker->news));
    cueball__tracked *backend = CUEBALL__OWNER(tracker->news.next, cueball__tracked, at_state);
    bool is_new = backend->pending == CUEBALL__TELL_ADD;
    cueball__list_remove(&backend->at_state);
    backend->pending = CUEBALL__TELL_NONE;
    tracker->counters.backends_added += is_new;
    action->kind = is_new ? CUEBALL_TRACKER_ADD : CUEBALL_TRACKER_CHANGE;
    action->backend = backend->facts;
    assert(!backend->is_gone);
    assert(backend->facts.weight > 0);
}

static void removal_take(cueball_tracker *tracker, cueball_tracker_action *action)
{
    assert(!cueball__list_is_empty(&tracker->removals));
    cueball__tracked *backend = CUEBALL__OWNER(tracker->removals.next, cueball__tracked, at_state);
    cueball__list_remove(&backend->at_state);
    backend->is_gone = true; /* swept out with the others, when its strings are not looked at any more */
    tracker->gone++;
    tracker->counters.backends_removed++;
    action->kind = CUEBALL_TRACKER_REMOVE;
    action->backend = backend->facts;
    assert(backend->pending == CUEBALL__TELL_REMOVE);
    assert(tracker->gone <= tracker->backends_n);
}

static void failure_take(cueball_tracker *tracker, cueball_tracker_action *action)
{
    assert(tracker->tells_failure);
    tracker->tells_failure = false;
    tracker->is_told_failing = tracker->is_failing;
    action->kind = CUEBALL_TRACKER_RECOVER;
    if (tracker->is_failing) {
        memcpy(tracker->told_message, tracker->message, sizeof tracker->message);
        action->kind = CUEBALL_TRACKER_FAIL;
        action->message = tracker->told_message;
    }
    assert(tracker->is_told_failing == tracker->is_failing);
}

bool cueball_tracker_next_action(cueball_tracker *tracker, cueball_tracker_action *action)
{
    memset(action, 0, sizeof *action);
    if (tracker->gone > 0 && cueball__list_is_empty(&tracker->removals))
        cueball__backends_sweep(tracker);
    if (!cueball__list_is_empty(&tracker->forgets)) {
        forget_take(tracker, action);
    } else if (!cueball__list_is_empty(&tracker->asks)) {
        ask_take(tracker, action);
    } else if (!cueball__list_is_empty(&tracker->news)) {
        news_take(tracker, action);
    } else if (!cueball__list_is_empty(&tracker->removals)) {
        removal_take(tracker, action);
    } else if (tracker->tells_failure) {
        failure_take(tracker, action);
    } else if (tracker->tells_settle) {
        tracker->tells_settle = false;
        action->kind = CUEBALL_TRACKER_SETTLE;
    }
    return action->kind != CUEBALL_TRACKER_NONE;
}

bool cueball_tracker_backend_at(const cueball_tracker *tracker, uint32_t index, cueball_tracked *backend)
{
    if (tracker->gone == 0) {
        if (index >= tracker->backends_n)
            return false;
        *backend = tracker->backends[index]->facts;
        return true;
    }
    for (uint32_t i = 0; i < tracker->backends_n; i++) {
        if (tracker->backends[i]->is_gone)
            continue;
        if (index-- == 0) {
            *backend = tracker->backends[i]->facts;
            return true;
        }
    }
    return false;
}

void cueball_tracker_stats_of(const cueball_tracker *tracker, cueball_tracker_stats *stats)
{
    cueball_tracker_stats whole = tracker->counters;
    whole.targets = tracker->targets_n;
    whole.names = tracker->names_n + (tracker->domain != NULL);
    whole.backends = tracker->backends_n - tracker->gone;
    whole.asking = tracker->states[CUEBALL__LOOKUP_ASKING];
    whole.waiting = tracker->states[CUEBALL__LOOKUP_WAITING];
    whole.failing = tracker->is_told_failing;
    cueball__sized_write(stats, CUEBALL__END_OF(cueball_tracker_stats, empty_sets), &whole, sizeof whole);
}

size_t cueball_tracker_memory(const cueball_tracker *tracker)
{
    return tracker->memory.held;
}
