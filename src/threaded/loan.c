/* Connections, and who has them.
 *
 * The happy path: a loan is made when its connection opens, is lent and comes back many
 * times, and is kept for another connection when its own closes.  What can go wrong is
 * that the pool closes a connection while a thread has it (its drain time is over): the
 * loan leaves its slot then, which gets another, and is an orphan until the thread gives
 * it back.  Its descriptor is shut down, so that the thread notices, but stays open: its
 * number must not come to mean another connection. */
#define _POSIX_C_SOURCE 200809L

#include "loan.h"

#include "turn.h"

#include <string.h>
#include <sys/socket.h>

/* Room in the map of slots; false: there is no memory. */
bool cueball__loan_reserve(cueball_threaded *pool, uint32_t slot)
{
    assert(pool);
    if (slot < pool->slots_max)
        return true;
    uint32_t slots_max = pool->slots_max ? pool->slots_max : 16;
    while (slots_max <= slot)
        slots_max *= 2;
    cueball_loan **by_slot = cueball__memory_allocate(&pool->memory, slots_max * sizeof *by_slot);
    if (!by_slot)
        return false;
    memset(by_slot, 0, slots_max * sizeof *by_slot);
    if (pool->by_slot)
        memcpy(by_slot, pool->by_slot, pool->slots_max * sizeof *by_slot);
    cueball__memory_release(&pool->memory, pool->by_slot, pool->slots_max * sizeof *by_slot);
    pool->by_slot = by_slot;
    pool->slots_max = slots_max;
    assert(slot < pool->slots_max);
    return true;
}

static cueball_loan *loan_new(cueball_threaded *pool)
{
    assert(pool);
    if (!cueball__list_is_empty(&pool->spare_loans)) {
        cueball_loan *spare = CUEBALL__OWNER(pool->spare_loans.next, cueball_loan, at_pool);
        cueball__list_remove(&spare->at_pool);
        assert(!cueball__loan_is_held(spare));
        return spare;
    }
    cueball_loan *loan = cueball__memory_allocate(&pool->memory, sizeof *loan);
    if (!loan)
        return NULL;
    memset(loan, 0, sizeof *loan);
    atomic_init(&loan->word, cueball__word(0, LOAN_RESTS));
    loan->pool = pool;
    cueball__link_init(&loan->at_claimer);
    cueball__link_init(&loan->at_pool);
    cueball__link_init(&loan->at_returns);
    return loan;
}

/* A connection that opens; NULL: there is no memory. */
cueball_loan *cueball__loan_open(cueball_threaded *pool, cueball_handle conn, uint32_t slot, int32_t fd, void *pointer)
{
    if (!cueball__loan_reserve(pool, slot))
        return NULL;
    assert(!pool->by_slot[slot]);
    cueball_loan *loan = loan_new(pool);
    if (!loan)
        return NULL;
    loan->conn = conn;
    loan->slot = slot;
    loan->fd = fd;
    loan->pointer = pointer;
    loan->lease = 0;
    loan->claimer = NULL;
    loan->is_orphan = false;
    cueball__list_append(&pool->loans, &loan->at_pool);
    pool->by_slot[slot] = loan;
    assert(!loan->texts);
    return loan;
}

static void loan_forget_texts(cueball_threaded *pool, cueball_loan *loan)
{
    assert(loan->pool == pool);
    cueball__memory_release(&pool->memory, loan->texts, loan->texts_size);
    loan->texts = NULL;
    loan->key = loan->name = loan->address = NULL;
}

/* Notes the backend: a lease's claimer may ask when the core knows it no more. */
bool cueball__loan_describe(cueball_threaded *pool, cueball_loan *loan, cueball_handle backend)
{
    assert(loan->pool == pool);
    cueball_backend_spec spec = { .struct_size = sizeof spec };
    if (cueball_pool_backend_spec(pool->core, backend, &spec) != CUEBALL_OK)
        return false;
    size_t key = strlen(spec.key) + 1, name = strlen(spec.name) + 1, address = strlen(spec.address) + 1;
    loan->texts = cueball__memory_allocate(&pool->memory, key + name + address);
    if (!loan->texts)
        return false;
    loan->texts_size = (uint32_t)(key + name + address);
    loan->key = memcpy(loan->texts, spec.key, key);
    loan->name = memcpy(loan->texts + key, spec.name, name);
    loan->address = memcpy(loan->texts + key + name, spec.address, address);
    loan->port = spec.port;
    assert(loan->texts[loan->texts_size - 1] == '\0');
    return true;
}

void cueball__loan_spare(cueball_threaded *pool, cueball_loan *loan)
{
    assert(loan->pool == pool);
    assert(!cueball__loan_is_held(loan));
    assert(!cueball__link_is_linked(&loan->at_claimer));
    loan_forget_texts(pool, loan);
    cueball__list_remove(&loan->at_pool);
    cueball__list_append(&pool->spare_loans, &loan->at_pool);
}

/* The loan of an open connection; NULL: threads cannot have it. */
cueball_loan *cueball__loan_at(const cueball_threaded *pool, uint32_t slot, cueball_handle conn)
{
    assert(pool);
    cueball_loan *loan = slot < pool->slots_max ? pool->by_slot[slot] : NULL;
    assert(!loan || loan->slot == slot);
    return loan && loan->conn == conn ? loan : NULL;
}

/* With whose end the lease ends: NULL: nobody's. */
void cueball__loan_own(cueball_threaded *pool, cueball_loan *loan, cueball__claimer *claimer)
{
    assert(loan->pool == pool);
    cueball__turn_settle(pool, loan, false, cueball_clock_now());
    cueball__list_remove(&loan->at_claimer);
    cueball__list_append(claimer ? &claimer->loans : &pool->detached, &loan->at_claimer);
    loan->claimer = claimer;
}

/* The core has granted `lease` on it. */
void cueball__loan_lend(cueball_threaded *pool, cueball_loan *loan, cueball_handle lease, cueball__claimer *claimer, uint64_t thread)
{
    assert(loan->pool == pool);
    assert(!cueball__loan_is_held(loan));
    assert(!cueball__link_is_linked(&loan->at_returns));
    assert(!loan->is_orphan);
    loan->lease = lease;
    loan->thread = thread;
    loan->waited = 0;
    loan->ahead = loan->waits_count = 0;
    loan->overtakes_until = 0;
    atomic_store_explicit(&loan->word, cueball__word(cueball__loan_serial(loan) + 1, LOAN_HELD), memory_order_relaxed);
    cueball__loan_own(pool, loan, claimer);
}

static void loan_return(cueball_threaded *pool, cueball_loan *loan, int32_t what)
{
    assert(loan->pool == pool);
    assert(!cueball__link_is_linked(&loan->at_returns));
    loan->told = what;
    cueball__list_append(&pool->returns, &loan->at_returns);
}

static int core_told(cueball_threaded *pool, const cueball_loan *loan, cueball__ending ending, cueball_time now)
{
    assert(loan->pool == pool);
    switch (ending) {
    case ENDING_RELEASE:
        return cueball_pool_lease_released(pool->core, now, loan->lease);
    case ENDING_CLOSE:
        return cueball_pool_lease_closed(pool->core, now, loan->lease);
    case ENDING_FAIL:
        return cueball_pool_lease_failed(pool->core, now, loan->lease);
    default:
        assert(ending == ENDING_REVOKE);
        return cueball_pool_lease_revoked(pool->core, now, loan->lease);
    }
}

/* Nobody has it any more; the last lease of a turn may have been over before. */
static void loan_part(cueball_threaded *pool, cueball_loan *loan, bool is_kept, cueball_time now)
{
    assert(loan->pool == pool);
    cueball__turn_settle(pool, loan, is_kept, now);
    atomic_store_explicit(&loan->word, cueball__word(cueball__loan_serial(loan), LOAN_RESTS), memory_order_relaxed);
    cueball__list_remove(&loan->at_claimer);
    loan->claimer = NULL;
    assert(!cueball__loan_is_held(loan));
}

/* The lease is over, or was: is_kept. */
static int loan_over(cueball_threaded *pool, cueball_loan *loan, cueball__ending ending, bool is_kept, cueball_time now)
{
    assert(loan->pool == pool);
    loan_part(pool, loan, is_kept, now);
    if (loan->is_orphan) {
        loan_return(pool, loan, CUEBALL_RETURN_ORPHAN);
        return CUEBALL_ESTALE;
    }
    if (!pool->core)
        return CUEBALL_ESTALE;
    if (pool->inspects && ending == ENDING_RELEASE) {
        loan_return(pool, loan, CUEBALL_RETURN_INSPECT);
        return CUEBALL_OK;
    }
    return core_told(pool, loan, ending, now);
}

/* Whoever has it gives it back.  CUEBALL_ESTALE: it was taken away before. */
int cueball__loan_end(cueball_threaded *pool, cueball_loan *loan, cueball__ending ending, cueball_time now)
{
    uint64_t state = atomic_load_explicit(&loan->word, memory_order_relaxed) % LOAN_STATES;
    assert(state == LOAN_HELD || state == LOAN_TAKEN);
    return loan_over(pool, loan, ending, state == LOAN_TAKEN, now);
}

/* The same of a lease that lasted until cueball__loan_take_held(). */
int cueball__loan_end_taken(cueball_threaded *pool, cueball_loan *loan, cueball__ending ending, cueball_time now)
{
    assert(atomic_load_explicit(&loan->word, memory_order_relaxed) % LOAN_STATES == LOAN_TAKEN);
    return loan_over(pool, loan, ending, false, now);
}

/* Whether a claimer has it: it is taken then, and to be put back.  One that is kept is over. */
static bool loan_seize(cueball_threaded *pool, cueball_loan *loan)
{
    for (;;) { /* its claimer may keep it, and take it again, meanwhile */
        uint64_t word = atomic_load_explicit(&loan->word, memory_order_relaxed);
        if (cueball__loan_take_held(loan, word / LOAN_STATES))
            return true;
        if (cueball__loan_take_kept(loan))
            loan_part(pool, loan, true, 0); /* the core has taken the lease away */
        else if (word % LOAN_STATES == LOAN_RESTS)
            return false;
    }
}

/* The core has its connection closed. */
void cueball__loan_closed(cueball_threaded *pool, cueball_loan *loan)
{
    assert(loan->pool == pool);
    assert(pool->by_slot[loan->slot] == loan);
    assert(!loan->is_orphan);
    pool->by_slot[loan->slot] = NULL;
    if (!loan_seize(pool, loan)) {
        cueball__list_remove(&loan->at_returns); /* the lease that was to be inspected is over */
        cueball__loan_spare(pool, loan);
        return;
    }
    loan->is_orphan = true;
    cueball__list_remove(&loan->at_pool);
    cueball__list_append(&pool->orphans, &loan->at_pool);
    cueball__loan_put_held(loan, cueball__loan_serial(loan));
    if (loan->fd >= 0)
        (void)shutdown(loan->fd, SHUT_RDWR);
}

static void loans_free(cueball_threaded *pool, cueball__link *list)
{
    assert(pool);
    assert(list);
    CUEBALL__LIST_EACH(link, following, list)
    {
        cueball_loan *loan = CUEBALL__OWNER(link, cueball_loan, at_pool);
        cueball__list_remove(link);
        loan_forget_texts(pool, loan);
        cueball__memory_release(&pool->memory, loan, sizeof *loan);
    }
    assert(cueball__list_is_empty(list));
}

/* Nobody has any, nor will. */
void cueball__loans_free(cueball_threaded *pool)
{
    assert(pool);
    loans_free(pool, &pool->loans);
    loans_free(pool, &pool->spare_loans);
    loans_free(pool, &pool->orphans);
    cueball__memory_release(&pool->memory, pool->by_slot, pool->slots_max * sizeof(cueball_loan *));
    pool->by_slot = NULL;
    pool->slots_max = 0;
}
