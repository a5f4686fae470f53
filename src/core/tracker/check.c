/* Whether everything in a tracker agrees with everything else.  Each rule is one
 * line; the first that does not hold is told with its numbers. */
#include "kit/check.h"
#include "state.h"

#include <string.h>

/* What is counted on the way. */
typedef struct tally {
    uint32_t names, references, on, undecided, fresh, failed, states[CUEBALL__LOOKUP_STATES], timers;
} tally;

#define ALSO(call)                                                                                                                         \
    do {                                                                                                                                   \
        int result = call;                                                                                                                 \
        if (result != CUEBALL_OK)                                                                                                          \
            return result;                                                                                                                 \
    } while (0)

static int lookup_check(const cueball_tracker *tracker, const cueball__lookup *lookup, tally *census, const disagreement *report)
{
    const char *name = lookup->name ? lookup->name->text : "SRV";
    bool is_timed = cueball__timer_is_armed(&lookup->timer), is_listed = cueball__link_is_linked(&lookup->at_state);
    MUST(lookup->state < CUEBALL__LOOKUP_STATES, "%s in state %u", name, lookup->state);
    census->states[lookup->state]++;
    census->timers += is_timed;
    MUST((lookup->state == CUEBALL__LOOKUP_ASKING) == (lookup->question != NULL), "%s in state %u", name, lookup->state);
    MUST(!lookup->question || lookup->question->lookup == lookup, "%s", name);
    bool must_wait = lookup->state == CUEBALL__LOOKUP_IDLE || lookup->state == CUEBALL__LOOKUP_PAUSING || lookup->question;
    MUST(is_timed == must_wait, "%s in state %u", name, lookup->state);
    MUST(lookup->state != CUEBALL__LOOKUP_HELD || (lookup->name && lookup->name->search.is_walking && lookup->said != 0), "%s", name);
    bool listens = lookup->state != CUEBALL__LOOKUP_IDLE && lookup->state != CUEBALL__LOOKUP_OFF && lookup->state != CUEBALL__LOOKUP_HELD;
    MUST(listens || cueball__list_is_empty(&lookup->late), "%s in state %u", name, lookup->state);
    bool must_be_listed = lookup->state == CUEBALL__LOOKUP_WAITING || lookup->state == CUEBALL__LOOKUP_STALLED;
    MUST(is_listed == must_be_listed, "%s in state %u", name, lookup->state);
    MUST(!lookup->question || lookup->server < tracker->servers_n, "%s at server %u", name, lookup->server);
    MUST(!lookup->question || lookup->tried >> lookup->server & 1, "%s at server %u", name, lookup->server);
    MUST(lookup->has_failed || !lookup->message, "%s: %s", name, lookup->message);
    if (!lookup->name || lookup->state == CUEBALL__LOOKUP_OFF)
        return CUEBALL_OK;
    census->on++;
    census->failed += lookup->has_failed;
    census->undecided += !lookup->is_decided;
    census->fresh += !lookup->is_decided && !lookup->has_stumbled;
    return CUEBALL_OK;
}

static int name_check(const cueball_tracker *tracker, const cueball__name *name, tally *census, const disagreement *report)
{
    census->names++;
    census->references += name->references;
    MUST(name->references > 0, "%s", name->text);
    for (unsigned i = 0; i < 2; i++) {
        const cueball__lookup *lookup = &name->lookups[i];
        MUST(!name->offered[i], "%s", name->text);
        MUST(lookup->name == name, "%s", name->text);
        MUST(lookup->state == CUEBALL__LOOKUP_OFF || (tracker->families & cueball__family_of(lookup->type)), "%s", name->text);
        ALSO(lookup_check(tracker, lookup, census, report));
        for (uint32_t at = 1; lookup->set && at < lookup->set->count; at++)
            MUST(memcmp(lookup->set->at[at - 1], lookup->set->at[at], 16) < 0, "addresses of %s are not sorted", name->text);
    }
    return CUEBALL_OK;
}

static int names_check(const cueball_tracker *tracker, tally *census, const disagreement *report)
{
    for (uint32_t i = 0; i < tracker->buckets_n; i++)
        for (const cueball__name *name = tracker->buckets[i]; name; name = name->same_bucket) {
            MUST((name->hash & (tracker->buckets_n - 1)) == i && !name->is_domain, "%s in bucket %u", name->text, i);
            ALSO(name_check(tracker, name, census, report));
        }
    MUST(census->names == tracker->names_n, "%u, %u known", census->names, tracker->names_n);
    if (tracker->domain)
        ALSO(name_check(tracker, tracker->domain, census, report));
    MUST(census->references == tracker->targets_n, "%u references, %u targets", census->references, tracker->targets_n);
    for (uint32_t i = 1; i < tracker->targets_n; i++)
        MUST(cueball__name_compare(tracker->targets[i - 1].name->text, tracker->targets[i].name->text) <= 0, "target %u", i);
    return CUEBALL_OK;
}

static int backends_check(const cueball_tracker *tracker, const disagreement *report)
{
    uint32_t gone = 0, listed = 0;
    for (uint32_t i = 0; i < tracker->backends_n; i++) {
        const cueball__tracked *backend = tracker->backends[i];
        bool is_listed = cueball__link_is_linked(&backend->at_state);
        MUST(i == 0 || cueball__tracked_compare(tracker->backends[i - 1], backend) < 0, "backend %u: %s", i, backend->facts.address);
        MUST(is_listed == (backend->pending != CUEBALL__TELL_NONE && !backend->is_gone), "backend %u: %u", i, backend->pending);
        MUST(!backend->is_gone || backend->pending == CUEBALL__TELL_REMOVE, "backend %u: %u", i, backend->pending);
        MUST(!backend->successor, "backend %u", i);
        MUST(backend->facts.weight >= 1 && backend->facts.weight <= 65535, "backend %u has weight %u", i, backend->facts.weight);
        gone += backend->is_gone;
        listed += is_listed;
    }
    for (const cueball__link *link = tracker->news.next; link != &tracker->news; link = link->next)
        listed--;
    for (const cueball__link *link = tracker->removals.next; link != &tracker->removals; link = link->next)
        listed--;
    MUST(listed == 0, "%d", (int)listed);
    MUST(gone == tracker->gone, "%u, counted %u", gone, tracker->gone);
    return CUEBALL_OK;
}

static int questions_check(const cueball_tracker *tracker, const tally *census, const disagreement *report)
{
    uint32_t asked = 0, forgotten = 0, late = 0;
    for (uint32_t i = 0; i < tracker->questions.made; i++) {
        const cueball__question *question = cueball__table_at(&tracker->questions, i);
        bool is_current = question->lookup && !question->is_late;
        asked += is_current;
        late += question->lookup && question->is_late;
        MUST(!is_current || question->lookup->question == question, "question %u", i);
        MUST(!is_current || question->is_told != cueball__link_is_linked(&question->at_state), "question %u", i);
        MUST(!question->lookup || !question->is_late || (question->is_told && cueball__link_is_linked(&question->at_state)), "question %u",
             i);
    }
    for (const cueball__link *link = tracker->forgets.next; link != &tracker->forgets; link = link->next)
        forgotten++;
    MUST(asked == census->states[CUEBALL__LOOKUP_ASKING], "%u, asking %u", asked, census->states[CUEBALL__LOOKUP_ASKING]);
    MUST(asked + late + forgotten == tracker->questions.count, "%u, %u and %u of %u", asked, late, forgotten, tracker->questions.count);
    MUST(asked <= tracker->options.max_dns_concurrency, "%u", asked);
    return CUEBALL_OK;
}

int cueball_tracker_check(const cueball_tracker *tracker, char *text, size_t size)
{
    const disagreement *report = &(disagreement){ text, size };
    tally census = { .names = 0 };
    ALSO(names_check(tracker, &census, report));
    ALSO(lookup_check(tracker, &tracker->srv, &census, report));
    for (unsigned i = 0; i < CUEBALL__LOOKUP_STATES; i++)
        MUST(census.states[i] == tracker->states[i], "state %u: %u, counted %u", i, census.states[i], tracker->states[i]);
    MUST(census.on == tracker->on, "%u, counted %u", census.on, tracker->on);
    MUST(census.undecided == tracker->undecided, "%u, counted %u", census.undecided, tracker->undecided);
    MUST(census.fresh == tracker->fresh, "%u, counted %u", census.fresh, tracker->fresh);
    MUST(census.failed == tracker->failed, "%u, counted %u", census.failed, tracker->failed);
    census.timers += cueball__timer_is_armed(&tracker->publish_again) + cueball__timer_is_armed(&tracker->grace);
    MUST(census.timers == tracker->timers.count, "%u, counted %zu", census.timers, tracker->timers.count);
    ALSO(backends_check(tracker, report));
    return questions_check(tracker, &census, report);
}
