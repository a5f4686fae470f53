/* What threads tell the host. */
#include "told.h"

#include "loan.h"
#include "watch.h"

#include <stdio.h>

#define FAILURES_MAX 256 /* as the host may stand still */

typedef struct cueball__failure {
    cueball__link at_pool;
    cueball_return what;
} cueball__failure;

/* That a claimer failed a lease, and why.  It is for people: without memory, or when
 * many wait to be read, it is not told. */
void cueball__failure_tell(cueball_threaded *pool, const cueball_loan *loan, const char *why)
{
    assert(loan->pool == pool);
    assert(pool->failures_count <= FAILURES_MAX);
    if (pool->failures_count == FAILURES_MAX)
        return;
    cueball__failure *failure = cueball__memory_allocate(&pool->memory, sizeof *failure);
    if (!failure)
        return;
    failure->what = (cueball_return){ .kind = CUEBALL_RETURN_FAILED, .slot = loan->slot, .conn = loan->conn, .lease = loan->lease };
    (void)snprintf(failure->what.text, sizeof failure->what.text, "%s", why ? why : "");
    cueball__link_init(&failure->at_pool);
    cueball__list_append(&pool->failures, &failure->at_pool);
    pool->failures_count++;
    assert(!cueball__list_is_empty(&pool->failures));
}

static void failure_take(cueball_threaded *pool, cueball__failure *failure, cueball_return *what)
{
    assert(pool);
    assert(failure);
    assert(what);
    assert(pool->failures_count > 0);
    *what = failure->what;
    cueball__list_remove(&failure->at_pool);
    cueball__memory_release(&pool->memory, failure, sizeof *failure);
    pool->failures_count--;
}

static void loan_take(cueball_threaded *pool, cueball_loan *loan, cueball_return *what)
{
    assert(loan->pool == pool);
    assert(what);
    *what = (cueball_return){ .kind = loan->told, .slot = loan->slot, .conn = loan->conn, .lease = loan->lease };
    cueball__list_remove(&loan->at_returns);
    if (loan->told == CUEBALL_RETURN_ORPHAN)
        cueball__loan_spare(pool, loan);
    else
        cueball__loan_set_nonblocking(loan, true);
    assert(!cueball__link_is_linked(&loan->at_returns));
}

bool cueball__told_next(cueball_threaded *pool, cueball_return *what)
{
    assert(pool);
    assert(what);
    if (!cueball__list_is_empty(&pool->failures))
        failure_take(pool, CUEBALL__OWNER(pool->failures.next, cueball__failure, at_pool), what);
    else if (!cueball__list_is_empty(&pool->returns))
        loan_take(pool, CUEBALL__OWNER(pool->returns.next, cueball_loan, at_returns), what);
    return what->kind != 0;
}

void cueball__failures_free(cueball_threaded *pool)
{
    assert(pool);
    cueball_return what;
    while (!cueball__list_is_empty(&pool->failures))
        failure_take(pool, CUEBALL__OWNER(pool->failures.next, cueball__failure, at_pool), &what);
    assert(pool->failures_count == 0);
}
