/* A timer's level is the highest 6-bit digit in which its deadline differs from
 * `current`, its bucket in that level the deadline's digit there.  So:
 *
 * - Level 0 has one bucket for each of the 64 instants that share all but the
 *   last digit with `current`.  All timers of such a bucket have one deadline.
 * - Timers of a level are later than all of the levels below it, and in a level
 *   a bucket is later than those before it: the earliest bucket is the first
 *   one of the lowest level that has any, two bit scans away.
 * - When `current` comes to a bucket's first instant, its timers agree with
 *   `current` in that digit too.  They cascade: each goes to the level below
 *   or further down.  A timer moves at most 10 times, mostly 2 or 3.
 *
 * Order of arming: which bucket a timer is in depends on `current` and its
 * deadline only, so that two of one deadline are always in the same list.  A
 * newly armed one is put behind.  A cascade takes the list from the front and
 * puts each one behind, and does so before anything can be armed with the new
 * `current`: the two stay in order, and nobody comes between them from behind.
 *
 * `current` is moved by collect() only, to where something happens, and then to
 * `now` as everything before it was cascaded.  While nothing happens it is left
 * where it is: it is the wheel's position, not the time. */
#include "timers.h"

#include <assert.h>

enum {
    DIGIT_BITS = 6,
    PLACE_DUE = CUEBALL__TIMERS_LEVELS * CUEBALL__TIMERS_BUCKETS,
    LOOKED_AT_MAX = 16 /* timers, for the earliest of a bucket */
};

/* The bucket number `digit` of a level, as `current` has it. */
typedef struct bucket {
    uint32_t level, digit;
    cueball_time first, last; /* the instants it is for, both included */
} bucket;

void cueball__timers_init(cueball__timers *timers, cueball_time now)
{
    *timers = (cueball__timers){ .current = now, .now = now, .earliest = CUEBALL_NEVER };
}

static uint32_t place_of(const cueball__timers *timers, cueball_time deadline)
{
    assert(deadline >= timers->current);
    uint32_t highest = 63 - (uint32_t)__builtin_clzll((deadline ^ timers->current) | 1);
    uint32_t level = highest / DIGIT_BITS;
    assert(level < CUEBALL__TIMERS_LEVELS);
    return level * CUEBALL__TIMERS_BUCKETS + (uint32_t)(deadline >> (level * DIGIT_BITS)) % CUEBALL__TIMERS_BUCKETS;
}

static void list_append(cueball__timers *timers, uint32_t place, cueball__timer *timer)
{
    assert(place <= PLACE_DUE);
    cueball__timer *first = timers->lists[place];
    timer->place = place;
    if (first != NULL) {
        timer->next = first;
        timer->prev = first->prev;
        first->prev->next = timer;
        first->prev = timer;
        return;
    }
    timer->next = timer;
    timer->prev = timer;
    timers->lists[place] = timer;
    if (place != PLACE_DUE)
        timers->occupied[place / CUEBALL__TIMERS_BUCKETS] |= UINT64_C(1) << place % CUEBALL__TIMERS_BUCKETS;
}

static void list_emptied(cueball__timers *timers, uint32_t place)
{
    assert(place <= PLACE_DUE);
    assert(timers->lists[place]);
    timers->lists[place] = NULL;
    if (place != PLACE_DUE)
        timers->occupied[place / CUEBALL__TIMERS_BUCKETS] &= ~(UINT64_C(1) << place % CUEBALL__TIMERS_BUCKETS);
}

static void list_remove(cueball__timers *timers, cueball__timer *timer)
{
    assert(timer->place <= PLACE_DUE);
    assert(timer->next->prev == timer);
    assert(timer->prev->next == timer);

    if (timer->next == timer) {
        list_emptied(timers, timer->place);
    } else {
        timer->next->prev = timer->prev;
        timer->prev->next = timer->next;
        if (timers->lists[timer->place] == timer)
            timers->lists[timer->place] = timer->next;
    }
    timer->next = NULL;
    timer->prev = NULL;
}

void cueball__timers_arm(cueball__timers *timers, cueball__timer *timer, cueball_time deadline)
{
    cueball__timers_cancel(timers, timer);
    if (deadline == CUEBALL_NEVER)
        return;
    if (deadline < timers->current)
        deadline = timers->current;
    timer->deadline = deadline;
    list_append(timers, place_of(timers, deadline), timer);
    timers->count++;
    if (deadline <= timers->earliest) {
        timers->earliest = deadline;
        timers->is_exact = true;
    }
    assert(timers->earliest <= deadline);
    assert(cueball__timer_is_armed(timer));
}

void cueball__timers_cancel(cueball__timers *timers, cueball__timer *timer)
{
    if (!cueball__timer_is_armed(timer))
        return;
    assert(timers->count > 0);

    list_remove(timers, timer);
    timers->count--;
    if (timer->deadline == timers->earliest)
        timers->is_exact = false; /* still a bound; another may have it too */
    assert(!cueball__timer_is_armed(timer));
}

static bool bucket_earliest(const cueball__timers *timers, bucket *found)
{
    for (uint32_t level = 0; level < CUEBALL__TIMERS_LEVELS; level++) {
        if (timers->occupied[level] == 0)
            continue;
        uint32_t shift = level * DIGIT_BITS;
        /* The digits above; the highest level has none, and a shift by 66 is none either. */
        cueball_time above = level + 1 < CUEBALL__TIMERS_LEVELS ? timers->current >> shift >> DIGIT_BITS << DIGIT_BITS << shift : 0;
        found->level = level;
        found->digit = (uint32_t)__builtin_ctzll(timers->occupied[level]);
        found->first = above | (cueball_time)found->digit << shift;
        found->last = found->first + ((UINT64_C(1) << shift) - 1);
        assert(found->last >= timers->current);
        return true;
    }
    return false;
}

static bool list_is_sorted(const cueball__timer *first)
{
    for (const cueball__timer *timer = first; timer->next != first; timer = timer->next) {
        if (timer->next->deadline < timer->deadline)
            return false;
    }
    return true;
}

/* Empties a bucket that `current` has come to.  Where all of it is due by `now`
 * and lies in order already, as it does when one time limit is armed again and
 * again, the levels between are left out. */
static void bucket_turn(cueball__timers *timers, const bucket *turned, cueball_time now)
{
    assert(turned->first <= now);
    assert(timers->current == turned->first);
    assert(timers->lists[turned->level * CUEBALL__TIMERS_BUCKETS + turned->digit]);
    uint32_t place = turned->level * CUEBALL__TIMERS_BUCKETS + turned->digit;
    cueball__timer *first = timers->lists[place];
    bool is_due = turned->level == 0 || (turned->last <= now && list_is_sorted(first));
    cueball__timer *timer = first;

    list_emptied(timers, place);
    do {
        cueball__timer *next = timer->next;
        list_append(timers, is_due ? PLACE_DUE : place_of(timers, timer->deadline), timer);
        timer = next;
    } while (timer != first);
}

void cueball__timers_collect(cueball__timers *timers, cueball_time now)
{
    bucket found;

    if (now < timers->now)
        now = timers->now;
    timers->now = now;
    if (now < timers->earliest)
        return; /* the wheel need not turn for this, and lags */
    timers->earliest = CUEBALL_NEVER;
    timers->is_exact = true;
    while (bucket_earliest(timers, &found)) {
        if (found.first > now) {
            timers->earliest = found.first;
            timers->is_exact = found.level == 0;
            break;
        }
        /* The bucket of `current` itself has begun before, in level 0 only. */
        timers->current = found.first;
        bucket_turn(timers, &found, now);
    }
    timers->current = now; /* enters no bucket: the next one begins later */
    assert(timers->current == now);
    assert(timers->earliest > now || now == CUEBALL_NEVER);
}

cueball__timer *cueball__timers_take(cueball__timers *timers)
{
    cueball__timer *timer = timers->lists[PLACE_DUE];

    if (timer == NULL)
        return NULL;
    assert(timers->count > 0);
    list_remove(timers, timer);
    timers->count--;
    assert(timer->deadline <= timers->now);
    assert(!cueball__timer_is_armed(timer));
    return timer;
}

void cueball__timers_copy(cueball__timers *copy, const cueball__timers *timers,
                          cueball__timer *(*twin_of)(void *user, cueball__timer *timer), void *user)
{
    *copy = (cueball__timers){ .current = timers->current, .now = timers->now, .earliest = timers->earliest, .count = timers->count };
    copy->is_exact = timers->is_exact;
    for (uint32_t place = 0; place <= PLACE_DUE; place++) {
        cueball__timer *first = timers->lists[place], *timer = first;
        while (timer != NULL) {
            list_append(copy, place, twin_of(user, timer));
            timer = timer->next != first ? timer->next : NULL;
        }
    }
}

cueball_time cueball__timers_deadline(cueball__timers *timers)
{
    bucket found;

    if (timers->lists[PLACE_DUE] != NULL)
        return timers->now;
    if (timers->is_exact)
        return timers->earliest;
    if (!bucket_earliest(timers, &found)) {
        timers->earliest = CUEBALL_NEVER;
        timers->is_exact = true;
        return CUEBALL_NEVER;
    }

    cueball__timer *first = timers->lists[found.level * CUEBALL__TIMERS_BUCKETS + found.digit];
    cueball__timer *timer = first;
    cueball_time earliest = CUEBALL_NEVER;
    uint32_t looked_at = 0;
    do {
        if (timer->deadline < earliest)
            earliest = timer->deadline;
        timer = timer->next;
        looked_at++;
    } while (timer != first && looked_at < LOOKED_AT_MAX);

    timers->is_exact = timer == first || found.level == 0;
    if (!timers->is_exact)
        earliest = found.first;
    /* Both are bounds, and the old one may be the better: the wheel lags. */
    if (earliest > timers->earliest)
        timers->earliest = earliest;
    return timers->earliest;
}
