/* The order in which this pool prefers its backends.  It is drawn at random, so that
 * many clients with fewer connections than there are backends do not all choose the
 * same ones.
 *
 * In a plan nothing counts but weights and who comes before whom.  One that is added
 * takes from the others what it gets itself, wherever it is put, and one that goes
 * leaves them what it had.  But where one comes for another, put elsewhere, those
 * between the two places move up or down by one, and some of these a connection.
 * So one that comes takes the place of one of the same weight and priority that goes,
 * whichever of the two was told first, if nothing was planned in between: then
 * those that stay keep what they have.  Which of several places it gets is drawn too. */
#include "preference.h"

#include "kit/sort.h"

#include <string.h>

/* Those that can stand for each other, and a place: so they can be sorted. */
static uint64_t place_of(const cueball__backend *backend, uint32_t place)
{
    return (uint64_t)backend->priority << 48 | (uint64_t)backend->weight << 32 | place;
}

static bool places_match(uint64_t one, uint64_t other)
{
    return one >> 32 == other >> 32;
}

/* The places that those had who went, in order; each before the backend that is there
 * now, and some before the same one.  There is room for as many as for backends, in
 * what is free until the next plan. */
static uint64_t *pool_vacancies(const cueball_pool *pool)
{
    return pool->plan_scratch + pool->known_max;
}

/* How many of them are before the backend that is at `place`. */
static uint32_t vacancies_before(const cueball_pool *pool, uint32_t place)
{
    uint32_t before = pool->vacancies;
    while (before > 0 && (uint32_t)pool_vacancies(pool)[before - 1] > place)
        before--;
    return before;
}

/* One came after the first `before` of them. */
static void vacancies_make_way(cueball_pool *pool, uint32_t before)
{
    for (uint32_t i = before; i < pool->vacancies; i++)
        pool_vacancies(pool)[i]++;
}

/* One went that was at `place`; returns how many of them are before that. */
static uint32_t vacancies_close_up(cueball_pool *pool, uint32_t place)
{
    uint32_t before = vacancies_before(pool, place);
    for (uint32_t i = before; i < pool->vacancies; i++)
        pool_vacancies(pool)[i]--;
    return before;
}

/* The backend was planned for, and went from `place`. */
static void vacancy_note(cueball_pool *pool, const cueball__backend *backend, uint32_t place)
{
    uint32_t before = vacancies_close_up(pool, place);
    if (pool->vacancies == pool->known_max)
        return;
    uint64_t *all = pool_vacancies(pool);
    memmove(&all[before + 1], &all[before], (pool->vacancies - before) * sizeof *all);
    all[before] = place_of(backend, place);
    pool->vacancies++;
}

/* A place that the backend can take, if there is one: it is none any more. */
static bool vacancy_take(cueball_pool *pool, const cueball__backend *backend, uint32_t *place)
{
    uint64_t *all = pool_vacancies(pool), wanted = place_of(backend, 0);
    uint32_t fit = 0;
    for (uint32_t i = 0; i < pool->vacancies; i++)
        fit += places_match(all[i], wanted);
    if (fit == 0)
        return false;
    uint32_t drawn = (uint32_t)cueball__random_below(&pool->random, fit), i = 0;
    while (!places_match(all[i], wanted) || drawn-- > 0)
        i++;
    *place = (uint32_t)all[i];
    pool->vacancies--;
    memmove(&all[i], &all[i + 1], (pool->vacancies - i) * sizeof *all);
    vacancies_make_way(pool, i);
    return true;
}

/* Puts a backend that was made just now where it belongs.  There is room. */
void cueball__preference_add(cueball_pool *pool, cueball__backend *backend)
{
    assert(pool->known < pool->known_max);
    uint32_t place;
    if (!vacancy_take(pool, backend, &place)) {
        place = (uint32_t)cueball__random_below(&pool->random, (uint64_t)pool->known + 1);
        backend->is_new = true;
        pool->newcomers++;
        vacancies_make_way(pool, vacancies_before(pool, place));
    }
    memmove(&pool->preference[place + 1], &pool->preference[place], (pool->known - place) * sizeof *pool->preference);
    pool->preference[place] = backend;
    pool->known++;
}

static void places_swap(cueball_pool *pool, uint32_t going, uint32_t coming)
{
    cueball__backend *goes = pool->preference[going], *comes = pool->preference[coming];
    assert(!goes->is_new && comes->is_new);
    pool->preference[going] = comes;
    pool->preference[coming] = goes;
    goes->is_new = true;
    comes->is_new = false;
}

/* One that is to go from `place` lets the first newcomer that can have its place have
 * it; returns where it is itself now. */
static uint32_t place_cede(cueball_pool *pool, uint32_t place)
{
    uint64_t wanted = place_of(pool->preference[place], 0);
    for (uint32_t i = 0; i < pool->known && pool->newcomers > 0; i++) {
        const cueball__backend *other = pool->preference[i];
        if (other->is_new && places_match(place_of(other, i), wanted)) {
            places_swap(pool, place, i);
            return i;
        }
    }
    return place;
}

/* The backend goes. */
void cueball__preference_remove(cueball_pool *pool, const cueball__backend *backend)
{
    uint32_t place = 0;
    while (pool->preference[place] != backend)
        place++;
    if (!backend->is_new)
        place = place_cede(pool, place);
    pool->known--;
    memmove(&pool->preference[place], &pool->preference[place + 1], (pool->known - place) * sizeof *pool->preference);
    if (backend->is_new) {
        pool->newcomers--;
        vacancies_close_up(pool, place);
    } else {
        vacancy_note(pool, backend, place);
    }
}

static int place_compare(const void *a, const void *b)
{
    uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;
    return (one > other) - (one < other);
}

/* Lets the newcomers have the places of those that are not `said`. */
static void places_cede(cueball_pool *pool)
{
    if (pool->newcomers == 0)
        return;
    uint64_t *going = pool->plan_scratch, *end = going + pool->known, *coming = end;
    for (uint32_t i = 0; i < pool->known; i++) {
        const cueball__backend *backend = pool->preference[i];
        if (!backend->said && !backend->is_new)
            *going++ = place_of(backend, i);
        else if (backend->said && backend->is_new)
            *--coming = place_of(backend, i);
    }
    size_t goes = (size_t)(going - pool->plan_scratch), comes = (size_t)(end - coming);
    going = pool->plan_scratch;
    cueball__sort(going, goes, sizeof *going, place_compare);
    cueball__sort(coming, comes, sizeof *coming, place_compare);
    for (size_t i = 0, j = 0; i < goes && j < comes;) {
        if (places_match(going[i], coming[j]))
            places_swap(pool, (uint32_t)going[i++], (uint32_t)coming[j++]);
        else if (going[i] < coming[j])
            i++;
        else
            j++;
    }
}

/* Takes out all that are not `said`, in one pass; each is told to `leave`.  Whether
 * there were any. */
bool cueball__preference_sweep(cueball_pool *pool, void (*leave)(cueball_pool *pool, cueball__backend *backend))
{
    uint32_t known = pool->known, kept = 0;
    places_cede(pool);
    pool->vacancies = 0; /* those there were are not where they were any more */
    for (uint32_t i = 0; i < known; i++) {
        cueball__backend *backend = pool->preference[i];
        if (backend->said) {
            pool->preference[kept++] = backend;
            continue;
        }
        if (backend->is_new)
            pool->newcomers--;
        else
            vacancy_note(pool, backend, kept);
        leave(pool, backend);
    }
    pool->known = kept;
    return kept < known;
}

/* The backend preferred least comes to any place, the last among them; so in
 * time each client uses others, if there are more backends than connections. */
void cueball__preference_shuffle(cueball_pool *pool)
{
    if (pool->known < 2)
        return;
    uint32_t place = (uint32_t)cueball__random_below(&pool->random, pool->known);
    cueball__backend *last = pool->preference[pool->known - 1];
    memmove(&pool->preference[place + 1], &pool->preference[place], (pool->known - 1 - place) * sizeof *pool->preference);
    pool->preference[place] = last;
    pool->vacancies = 0;
    pool->plan_is_due = pool->is_unsettled = true;
}

/* What is planned now is what the places are for. */
void cueball__preference_planned(cueball_pool *pool)
{
    pool->vacancies = 0;
    for (uint32_t i = 0; i < pool->known && pool->newcomers > 0; i++) {
        pool->newcomers -= pool->preference[i]->is_new;
        pool->preference[i]->is_new = false;
    }
}
