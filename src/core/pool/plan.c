/* The planner: how many slots each backend should have.
 *
 * The happy path is: every backend is alive, and `target` slots are dealt out
 * in rotation, in order of preference.  What is beside it is Joyent's
 * node-cueball, its planRebalance(), worked out by division
 * where that goes round in a loop:
 *
 * 1. Deal `target` times in rotation over all backends.  A dead one keeps one
 *    slot however often it is dealt to (a probe, to learn that it is back).
 * 2. Each deal to a dead one asks for a replacement, as far as `slots_max` has
 *    room for live ones, probes and replacements together.
 * 3. The rotation goes on until that many live ones were dealt to.  A dead one
 *    that it comes by for the first time gets its probe if there is room, or
 *    is passed over.
 *
 * Passing over dead ones leaves the live ones in rotation, so what the live ones
 * have in the end is a rotation over them alone: steps 1 and 3 are two deals,
 * one over all to count, one over the live to keep.
 *
 * Weights.  A deal of T slots over weights w with the sum W is the sequence in
 * which backend i gets its k-th slot no earlier than at step floor((k-1) W/w) + 1
 * and no later than at step ceil(k W/w), of those that may the one that must
 * soonest, ties in order of preference.  R. Tijdeman, "The chairman assignment
 * problem", Discrete Mathematics 32 (1980), shows that such a sequence exists;
 * that the earliest deadline first finds it is the textbook's result for jobs
 * of one step each.  So at any T each has T w/W slots rounded down or up, and
 * with T one more slot is added and none moves.  (Stride scheduling, Waldspurger
 * 1995, has the latest step but not the earliest: of weights 100 and fifty times
 * 1 the first 100 slots would all go to the heavy one, which has 67 of them
 * coming.)  With equal weights this is the plain rotation.
 *
 * Cost: O(count) with equal weights, else O(count + target log count). */
#include "internal.h"

#include <assert.h>

/* One deal over all backends or over the live ones.  The last three members are
 * the scratch memory, for unequal weights only. */
typedef struct deal {
    cueball_plan_backend *backends;
    uint32_t count;
    bool is_live_only;
    uint32_t members;
    uint64_t weights; /* their sum, W */
    uint64_t *heap;   /* those that may get a slot: (latest step, index), smallest first */
    uint32_t heap_count;
    uint32_t *first; /* those that may not yet: chains by the step, modulo count, after which they may; index + 1 */
    uint32_t *next;
} deal;

static bool deal_has(const deal *dealt, const cueball_plan_backend *backend)
{
    return !(dealt->is_live_only && backend->dead) && !backend->is_capped;
}

/* floor(slots W/w): after that step it may have one more than `slots`.  In two
 * parts, as the product may not fit; the sum does, for it is at most a step
 * that was reached and one W/w. */
static uint64_t deal_earliest(const deal *dealt, uint64_t slots, uint32_t weight)
{
    return slots * (dealt->weights / weight) + slots * (dealt->weights % weight) / weight;
}

/* ceil((slots + 1) W/w) and the index.  Steps beyond 2^32 are never reached, so
 * that cutting them there puts nobody late. */
static uint64_t deal_urgency(const deal *dealt, uint32_t index)
{
    const cueball_plan_backend *backend = &dealt->backends[index];
    uint64_t slots = (uint64_t)backend->want + 1;
    uint64_t part = slots * (dealt->weights % backend->weight);
    uint64_t latest = slots * (dealt->weights / backend->weight) + part / backend->weight + (part % backend->weight != 0);
    return (latest < UINT32_MAX ? latest : UINT32_MAX) << 32 | index;
}

static void heap_sink(uint64_t *heap, uint32_t count, uint32_t hole)
{
    uint64_t moved = heap[hole];
    for (;;) {
        uint64_t child = 2 * (uint64_t)hole + 1;
        if (child >= count)
            break;
        if (child + 1 < count)
            child += heap[child + 1] < heap[child];
        if (heap[child] > moved)
            break;
        heap[hole] = heap[child];
        hole = (uint32_t)child;
    }
    heap[hole] = moved;
}

static void heap_push(uint64_t *heap, uint32_t count, uint64_t added)
{
    uint32_t hole = count;
    while (hole > 0 && heap[(hole - 1) / 2] > added) {
        heap[hole] = heap[(hole - 1) / 2];
        hole = (hole - 1) / 2;
    }
    heap[hole] = added;
}

/* Puts those on the heap that may get their next slot after `step` steps.  The
 * others of the chain wait for a later lap; all in all a backend is passed
 * over once in `count` steps, which makes one per step. */
static void deal_admit(deal *dealt, uint64_t step)
{
    uint32_t *link = &dealt->first[step % dealt->count];
    while (*link != 0) {
        uint32_t index = *link - 1;
        const cueball_plan_backend *backend = &dealt->backends[index];
        if (deal_earliest(dealt, backend->want, backend->weight) > step) {
            link = &dealt->next[index];
            continue;
        }
        *link = dealt->next[index];
        heap_push(dealt->heap, dealt->heap_count++, deal_urgency(dealt, index));
    }
}

/* Steps `done` + 1 to `slots` of the sequence.  Up to `done` all was even:
 * every member has exactly its part, so that all may be next. */
static void deal_unequal(deal *dealt, uint64_t done, uint64_t slots, uint64_t *scratch)
{
    uint32_t count = dealt->count;

    dealt->heap = scratch;
    dealt->heap_count = 0;
    dealt->first = (uint32_t *)(scratch + count);
    dealt->next = dealt->first + count;
    for (uint32_t i = 0; i < count; i++) {
        dealt->first[i] = 0;
        if (deal_has(dealt, &dealt->backends[i]))
            dealt->heap[dealt->heap_count++] = deal_urgency(dealt, i);
    }
    for (uint32_t i = dealt->heap_count / 2; i-- > 0;)
        heap_sink(dealt->heap, dealt->heap_count, i);

    for (uint64_t step = done; step < slots; step++) {
        deal_admit(dealt, step);
        assert(dealt->heap_count > 0); /* not all can have more than their part */
        uint32_t index = (uint32_t)dealt->heap[0];
        cueball_plan_backend *backend = &dealt->backends[index];
        backend->want++;
        uint64_t earliest = deal_earliest(dealt, backend->want, backend->weight);
        if (earliest <= step + 1) {
            dealt->heap[0] = deal_urgency(dealt, index);
        } else {
            dealt->heap[0] = dealt->heap[--dealt->heap_count];
            if (earliest < slots) { /* else not again in this deal */
                uint32_t *link = &dealt->first[earliest % count];
                dealt->next[index] = *link;
                *link = index + 1;
            }
        }
        if (dealt->heap_count > 0)
            heap_sink(dealt->heap, dealt->heap_count, 0);
    }
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Deals `slots` over all backends or over the live ones, in their `want`; that
 * of the others is left alone.  After every W/gcd(w) slots the sequence starts
 * again, so that whole rounds are a division. */
static void backends_deal(cueball_plan_backend *backends, uint32_t count, bool is_live_only, uint64_t slots, uint64_t *scratch)
{
    deal dealt = { .backends = backends, .count = count, .is_live_only = is_live_only };
    uint64_t divisor = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (!deal_has(&dealt, &backends[i]))
            continue;
        assert(backends[i].weight >= 1);
        dealt.members++;
        dealt.weights += backends[i].weight;
        if (divisor != 1 && divisor != backends[i].weight)
            divisor = common_divisor(divisor, backends[i].weight);
    }
    if (dealt.members == 0)
        return;

    assert(divisor >= 1);
    uint64_t round = dealt.weights / divisor; /* slots */
    uint64_t rounds = slots / round;
    uint64_t rest = slots % round;
    bool is_equal = round == dealt.members;
    for (uint32_t i = 0; i < count; i++) {
        if (!deal_has(&dealt, &backends[i]))
            continue;
        backends[i].want = (uint32_t)(rounds * (backends[i].weight / divisor));
        if (is_equal && rest > 0) {
            backends[i].want++;
            rest--;
        }
    }
    if (!is_equal)
        deal_unequal(&dealt, rounds * round, slots, scratch);
}

/* Whether backend `a` comes by for the `a_visit`-th time before `b` does for the
 * `b_visit`-th. */
static bool visit_is_before(const cueball_plan_backend *backends, uint32_t a, uint64_t a_visit, uint32_t b, uint64_t b_visit)
{
    uint64_t a_late = a_visit * backends[b].weight;
    uint64_t b_late = b_visit * backends[a].weight;
    return a_late != b_late ? a_late < b_late : a < b;
}

/* Step 3 for the dead: those not dealt to yet that come by before the last slot
 * of a live one does. */
static void dead_visit(cueball_plan_backend *backends, uint32_t count, uint64_t total, uint32_t slots_max)
{
    uint32_t last = count;

    for (uint32_t i = 0; i < count; i++) {
        if (backends[i].dead || backends[i].is_capped || backends[i].want == 0)
            continue;
        if (last == count || visit_is_before(backends, last, backends[last].want, i, backends[i].want))
            last = i;
    }
    if (last == count)
        return;
    for (uint32_t i = 0; i < count && total < slots_max; i++) {
        if (!backends[i].dead || backends[i].want > 0)
            continue;
        if (visit_is_before(backends, i, 1, last, backends[last].want)) {
            backends[i].want = 1;
            total++;
        }
    }
}

/* Deals, without regard to what each takes. */
static void plan_deal(cueball_plan_backend *backends, uint32_t count, uint32_t target, uint32_t slots_max, uint64_t *scratch)
{
    uint64_t replaced = 0, probes = 0;

    backends_deal(backends, count, false, target, scratch);
    for (uint32_t i = 0; i < count; i++) {
        if (!backends[i].dead || backends[i].want == 0)
            continue;
        replaced += backends[i].want;
        probes++;
        backends[i].want = 1;
    }
    if (replaced == 0)
        return;

    /* Of `target` slots those dealt to dead ones count as probes and again as
     * replacements: target + probes in all, if there is room. */
    uint64_t live = target - replaced;
    uint64_t room = slots_max - live - probes;
    uint64_t replacements = replaced < room ? replaced : room;
    backends_deal(backends, count, true, live + replacements, scratch);
    if (replacements > 0)
        dead_visit(backends, count, live + probes + replacements, slots_max);
}

/* Those whose share is more than they take have what they take, and the rest is
 * dealt to the others anew: again and again, as that may be too much for some. */
static void plan_shares(cueball_plan_backend *backends, uint32_t count, uint32_t target, uint32_t slots_max, uint64_t *scratch)
{
    bool is_over = false;
    while (!is_over) {
        plan_deal(backends, count, target, slots_max, scratch);
        is_over = true;
        uint32_t taken = 0;
        for (uint32_t i = 0; i < count; i++) {
            if (backends[i].dead || backends[i].is_capped || backends[i].most == 0 || backends[i].want <= backends[i].most)
                continue;
            backends[i].want = backends[i].most;
            backends[i].is_capped = true;
            taken += backends[i].most;
        }
        if (taken > 0 && taken < target) {
            target -= taken;
            slots_max -= taken;
            is_over = false;
        }
    }
}

/* None is alive: nobody to replace anybody, only probes.  The first `target`
 * get one.  Each of them asks for a replacement, for which the others are tried
 * as far as there is room, and the last one at any rate: while there are others
 * behind it a dead one may be passed over for want of room, but then no more. */
static void plan_probes(cueball_plan_backend *backends, uint32_t count, uint32_t target, uint32_t slots_max)
{
    uint32_t room = slots_max - target;
    uint64_t total = (uint64_t)target + (target < room ? target : room);

    for (uint32_t i = 0; i < count; i++) {
        if (i < target) {
            backends[i].want = 1;
        } else if (room > 0 && (total < slots_max || i == count - 1)) {
            backends[i].want = 1;
            total++;
        }
    }
}

/* At most one each: the first `target` get one.  Dead ones among them ask for a
 * live one each; the dead ones on the way there are probed as room allows,
 * and where no live one is left a dead one will do.  Weights mean nothing here:
 * preference decides. */
static void plan_singletons(cueball_plan_backend *backends, uint32_t count, uint32_t target, uint32_t slots_max)
{
    uint32_t replacements = 0, live_end = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (!backends[i].dead)
            live_end = i + 1;
        if (i < target) {
            backends[i].want = 1;
            replacements += backends[i].dead;
        }
    }
    if (target >= count)
        return;
    if (replacements > slots_max - target)
        replacements = slots_max - target;

    uint64_t total = (uint64_t)target + replacements;
    for (uint32_t i = target; i < count && replacements > 0; i++) {
        if (!backends[i].dead || i >= live_end) {
            backends[i].want = 1;
            replacements--;
        } else if (total < slots_max) {
            backends[i].want = 1;
            total++;
        }
    }
}

void cueball_plan(cueball_plan_backend *backends, uint32_t count, uint32_t target, uint32_t slots_max, bool is_singleton, uint64_t *scratch)
{
    uint32_t dead = 0;

    assert(target <= slots_max);
    if (target > slots_max)
        target = slots_max;
    for (uint32_t i = 0; i < count; i++) {
        backends[i].want = 0;
        backends[i].is_capped = false;
        dead += backends[i].dead;
    }
    if (count == 0 || target == 0)
        return;
    if (is_singleton)
        plan_singletons(backends, count, target, slots_max);
    else if (dead == count)
        plan_probes(backends, count, target, slots_max);
    else
        plan_shares(backends, count, target, slots_max, scratch);
}
