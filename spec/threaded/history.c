#include "history.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct judge {
    history_record *history;
    history_found *found;
    char *text;
    size_t size;
    history_operation **ends;   /* of claims, by their position: the end that was answered with 0; NULL: none */
    history_operation **before; /* likewise: the claim that had the connection before; NULL: none */
    double idle_since;          /* in the samples so far; below 0: not now */
    int32_t *most_taken;        /* at each stamp: the most connections that can have been taken, or waited for, then */
} history_judge;

static bool judge_says(history_judge *judge, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool judge_says(history_judge *judge, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(judge->text, judge->size, format, arguments);
    va_end(arguments);
    return false;
}

#define NUMBER(x) ((unsigned long long)(x))

static bool is_granted(const history_operation *operation)
{
    return operation->kind != OPERATION_END && operation->result == CUEBALL_OK;
}

static int by_invocation(const void *a, const void *b)
{
    const history_operation *left = a, *right = b;
    return left->invoked < right->invoked ? -1 : left->invoked > right->invoked;
}

static int by_lease(const void *a, const void *b)
{
    const history_operation *left = *(history_operation *const *)a, *right = *(history_operation *const *)b;
    if (left->lease != right->lease)
        return left->lease < right->lease ? -1 : 1;
    return left->invoked < right->invoked ? -1 : left->invoked > right->invoked;
}

static int by_conn(const void *a, const void *b)
{
    const history_operation *left = *(history_operation *const *)a, *right = *(history_operation *const *)b;
    if (left->conn != right->conn)
        return left->conn < right->conn ? -1 : 1;
    return left->answered < right->answered ? -1 : left->answered > right->answered;
}

/* ------------------------------------------------- each was answered, once -- */

static bool judge_answers(history_judge *judge)
{
    const history_record *history = judge->history;
    for (uint32_t i = 0; i < history->operations_n; i++) {
        const history_operation *one = &history->operations[i];
        if (one->answered == 0)
            return judge_says(judge, "what was asked at %llu was never answered", NUMBER(one->invoked));
        if (one->answered <= one->invoked || one->answered >= history->stamps)
            return judge_says(judge, "stamps %llu and %llu", NUMBER(one->invoked), NUMBER(one->answered));
        if (one->kind == OPERATION_CLAIM && one->result == CUEBALL_ECLAIM_TIMEOUT && one->took_ms < one->timeout_ms)
            return judge_says(judge, "a claim of %llu timed out after %.3f ms of %.3f", NUMBER(one->invoked), one->took_ms,
                              one->timeout_ms);
    }
    return true;
}

/* The lease that begins at `from` of the sorted operations: one claim, and at most one end that was answered with 0. */
static bool judge_lease(history_judge *judge, history_operation **sorted, uint32_t from, uint32_t until)
{
    const history_operation *end = NULL;
    if (!is_granted(sorted[from]))
        return judge_says(judge, "lease %llu has no claim", NUMBER(sorted[from]->lease));
    for (uint32_t i = from + 1; i < until; i++) {
        history_operation *one = sorted[i];
        if (is_granted(one))
            return judge_says(judge, "lease %llu was granted twice", NUMBER(one->lease));
        if (one->result == CUEBALL_OK && end)
            return judge_says(judge, "lease %llu ended twice, at %llu and at %llu", NUMBER(one->lease), NUMBER(end->invoked),
                              NUMBER(one->invoked));
        if (one->result == CUEBALL_OK)
            judge->ends[sorted[from] - judge->history->operations] = one, end = one;
    }
    for (uint32_t i = from + 1; i < until; i++)
        if (sorted[i]->result != CUEBALL_OK && (!end || sorted[i]->answered < end->invoked))
            return judge_says(judge, "lease %llu could not be ended at %llu", NUMBER(sorted[i]->lease), NUMBER(sorted[i]->invoked));
    return true;
}

static bool judge_ends(history_judge *judge)
{
    const history_record *history = judge->history;
    history_operation **sorted = calloc(history->operations_n + 1, sizeof *sorted);
    uint32_t count = 0;
    for (uint32_t i = 0; i < history->operations_n; i++)
        if (history->operations[i].lease != 0)
            sorted[count++] = &history->operations[i];
    qsort(sorted, count, sizeof *sorted, by_lease);
    bool is_well = true;
    for (uint32_t from = 0, until = 0; from < count && is_well; from = until) {
        while (until < count && sorted[until]->lease == sorted[from]->lease)
            until++;
        is_well = judge_lease(judge, sorted, from, until);
    }
    free(sorted);
    return is_well;
}

/* ---------------------------------------------------------- held by one only -- */

/* A connection is surely held from when its claim was answered until its end is asked for. */
static bool judge_holders(history_judge *judge)
{
    const history_record *history = judge->history;
    history_operation **sorted = calloc(history->operations_n + 1, sizeof *sorted);
    uint32_t count = 0;
    for (uint32_t i = 0; i < history->operations_n; i++)
        if (is_granted(&history->operations[i]))
            sorted[count++] = &history->operations[i];
    qsort(sorted, count, sizeof *sorted, by_conn);
    bool is_well = true;
    for (uint32_t i = 1; i < count && is_well; i++) {
        history_operation *earlier = sorted[i - 1], *later = sorted[i];
        const history_operation *end = judge->ends[earlier - history->operations];
        if (earlier->conn == later->conn)
            judge->before[later - history->operations] = earlier;
        if (earlier->conn == later->conn && (!end || end->invoked > later->answered))
            is_well = judge_says(judge, "connection %llu was lent at %llu and at %llu, and given back between them at no time",
                                 NUMBER(later->conn), NUMBER(earlier->answered), NUMBER(later->answered));
    }
    free(sorted);
    return is_well;
}

/* -------------------------------------------------- none refused, none forgotten -- */

/* A claim may have a connection, or wait for one, from when it is asked for until its end is answered. */
static void judge_count_taken(history_judge *judge)
{
    const history_record *history = judge->history;
    for (uint32_t i = 0; i < history->operations_n; i++) {
        const history_operation *one = &history->operations[i];
        if (one->kind == OPERATION_END || (one->kind == OPERATION_TRY && !is_granted(one)))
            continue;
        const history_operation *end = judge->ends[i];
        judge->most_taken[one->invoked]++;
        judge->most_taken[end ? end->answered : is_granted(one) ? history->stamps : one->answered]--;
    }
    for (uint64_t stamp = 1; stamp <= history->stamps; stamp++)
        judge->most_taken[stamp] += judge->most_taken[stamp - 1];
}

static bool judge_tries(history_judge *judge)
{
    const history_record *history = judge->history;
    for (uint32_t i = 0; i < history->operations_n; i++) {
        const history_operation *one = &history->operations[i];
        if (one->kind != OPERATION_TRY || one->result != CUEBALL_ECLAIM_TIMEOUT)
            continue;
        int32_t most = 0;
        for (uint64_t stamp = one->invoked; stamp <= one->answered; stamp++)
            most = judge->most_taken[stamp] > most ? judge->most_taken[stamp] : most;
        judge->found->tries_refused++;
        if (most < (int32_t)history->connections)
            return judge_says(judge, "a try was refused between %llu and %llu, when at most %d of %u connections were taken",
                              NUMBER(one->invoked), NUMBER(one->answered), most, history->connections);
    }
    return true;
}

/* While `waiting` claims wait, every connection is taken: by a lease that may not have ended yet, or by a claim that is
 * under way and is none of those. */
static bool judge_sample(history_judge *judge, const history_sample *at, uint32_t *in_flight)
{
    const history_record *history = judge->history;
    uint32_t leases = 0, flying = 0;
    for (uint32_t i = 0; i < history->operations_n && history->operations[i].invoked < at->after; i++) {
        const history_operation *one = &history->operations[i], *end = judge->ends[i];
        if (one->kind == OPERATION_END)
            continue;
        if (one->answered > at->before)
            flying++;
        else if (is_granted(one) && (!end || end->answered > at->before))
            leases++;
    }
    *in_flight = flying;
    if (flying < at->waiting)
        return judge_says(judge, "at %llu there were %u claims, and %u are said to wait", NUMBER(at->before), flying, at->waiting);
    bool is_idle = history->connections > 0 && at->waiting > 0 && leases + flying - at->waiting < history->connections;
    if (!is_idle || judge->idle_since < 0)
        judge->idle_since = is_idle ? at->ms : -1;
    double idle_ms = is_idle ? at->ms - judge->idle_since : 0;
    if (idle_ms > judge->found->idle_ms_most)
        judge->found->idle_ms_most = idle_ms;
    if (is_idle && (history->idle_ms <= 0 || idle_ms > history->idle_ms))
        return judge_says(judge, "at %llu %u claims waited, though at most %u of %u connections were taken, for %.1f ms by now",
                          NUMBER(at->before), at->waiting, leases + flying - at->waiting, history->connections, idle_ms);
    return true;
}

/* ---------------------------------------------------------- first come, first served -- */

/* The claim whose connection its claimer kept and has again with `later`; NULL: somebody else had it before, or nobody. */
static const history_operation *judge_kept(const history_judge *judge, const history_operation *later)
{
    const history_operation *before = judge->before[later - judge->history->operations];
    return before && before->lease >> 32 == later->lease >> 32 ? before : NULL;
}

/* For how long releases kept a connection for the claimer who has it again with `later`, though somebody waited since `from`:
 * from the end of the first that cannot but have seen that to the beginning of the last. */
static double judge_kept_ms(const history_judge *judge, const history_operation *later, uint64_t from)
{
    const history_operation *first = judge_kept(judge, later);
    const history_operation *last_end = judge->ends[first - judge->history->operations], *first_end = last_end;
    while (first && (first = judge_kept(judge, first))) {
        const history_operation *end = judge->ends[first - judge->history->operations];
        if (!end || end->invoked < from)
            break;
        first_end = end;
    }
    return last_end->began_ms - first_end->over_ms;
}

/* `one` waited from `from` to `until`.  Whoever came later can have been served before only by having kept a connection. */
static bool judge_overtakers(history_judge *judge, const history_operation *one, uint64_t from, uint64_t until)
{
    const history_record *history = judge->history;
    uint32_t low = 0, high = history->operations_n, served = 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (history->operations[middle].invoked > from)
            high = middle;
        else
            low = middle + 1;
    }
    for (; low < history->operations_n && history->operations[low].invoked < until; low++) {
        const history_operation *later = &history->operations[low];
        if (!is_granted(later) || later->answered >= until)
            continue;
        served++;
        double kept_ms = history->overtaking_ms > 0 && judge_kept(judge, later) ? judge_kept_ms(judge, later, from) : INFINITY;
        if (kept_ms > history->overtaking_ms)
            return judge_says(judge,
                              "the claim of %llu waited from before %llu until after %llu, and %u that came later were served; "
                              "that of %llu had a connection that was kept for %.3f ms",
                              NUMBER(one->invoked), NUMBER(from), NUMBER(until), served, NUMBER(later->invoked), kept_ms);
    }
    judge->found->waited_surely++;
    if (served > judge->found->overtaken_most)
        judge->found->overtaken_most = served;
    return true;
}

/* Where as many claims were under way as the pool said that wait, it was all of them.  What one of them did between two
 * such samples is to wait: nobody who came after the first may have been served before the second. */
static bool judge_queue(history_judge *judge)
{
    history_record *history = judge->history;
    bool *is_sure = calloc(history->samples_n + 1, sizeof *is_sure);
    bool is_well = true;
    for (uint32_t i = 0; i < history->samples_n && is_well; i++) {
        uint32_t flying = 0;
        is_well = judge_sample(judge, &history->samples[i], &flying);
        is_sure[i] = history->samples[i].waiting > 0 && flying == history->samples[i].waiting;
    }
    for (uint32_t i = 0; i < history->operations_n && is_well; i++) {
        const history_operation *one = &history->operations[i];
        const history_sample *first = NULL, *last = NULL;
        for (uint32_t s = 0; one->kind == OPERATION_CLAIM && s < history->samples_n; s++) {
            const history_sample *at = &history->samples[s];
            if (!is_sure[s] || one->invoked >= at->after || one->answered <= at->before)
                continue;
            last = at;
            first = first ? first : at;
        }
        if (!first || first == last)
            continue;
        is_well = judge_overtakers(judge, one, first->after, last->before);
    }
    free(is_sure);
    return is_well;
}

bool history_check(history_record *history, history_found *found, char *text, size_t size)
{
    history_judge judge = { .history = history, .found = found, .text = text, .size = size, .idle_since = -1 };
    judge.ends = calloc(history->operations_n + 1, sizeof(history_operation *));
    judge.before = calloc(history->operations_n + 1, sizeof(history_operation *));
    judge.most_taken = calloc(history->stamps + 2, sizeof(int32_t));
    MUST(judge.ends && judge.before && judge.most_taken, "memory");
    qsort(history->operations, history->operations_n, sizeof(history_operation), by_invocation);
    bool is_well = judge_answers(&judge) && judge_ends(&judge) && judge_holders(&judge);
    if (is_well)
        judge_count_taken(&judge);
    bool has_turns = history->overtaking_ms > 0; /* then a try may find those waiting that are overtaken, and one that is kept */
    is_well = is_well && judge_queue(&judge) && (history->connections == 0 || has_turns || judge_tries(&judge));
    free(judge.ends);
    free(judge.before);
    free(judge.most_taken);
    return is_well;
}
