/* Which pools there are in the process, by name. */
#include "names.h"

#include "fault.h"
#include "process.h"
#include "thread.h"

#include <string.h>

static cueball__link names = { &names, &names };

static bool name_is(const char *name, const char *by)
{
    return strcmp(name, by) == 0;
}

/* Whether a name is meant by another: "db" means "app/db", too, of a runtime "app". */
static bool name_is_meant(const char *name, const char *by)
{
    const char *slash = strchr(name, '/');
    return slash && strcmp(slash + 1, by) == 0;
}

/* With the process's lock.  Those that were made before a fork are not for the child. */
static cueball_threaded *name_find(const char *name, bool (*is_it)(const char *name, const char *by))
{
    CUEBALL__LIST_EACH(link, following, &names)
    {
        cueball_threaded *pool = CUEBALL__OWNER(link, cueball_threaded, at_names);
        if (pool->generation != cueball__process_generation())
            cueball__list_remove(link);
        else if (is_it(pool->name, name))
            return pool;
    }
    return NULL;
}

int cueball__name_publish(cueball_threaded *pool)
{
    assert(pool);
    if (!pool->name)
        return CUEBALL_OK;
    assert(!cueball__link_is_linked(&pool->at_names));
    cueball__process_lock();
    cueball_threaded *before = name_find(pool->name, name_is);
    if (before && cueball_threaded_state(before) >= CUEBALL_POOL_STOPPING) { /* it only waits for its leases */
        cueball__list_remove(&before->at_names);
        before = NULL;
    }
    bool is_taken = before != NULL;
    if (!is_taken)
        cueball__list_append(names.next, &pool->at_names); /* as the first */
    cueball__process_unlock();
    return is_taken ? cueball__fault(CUEBALL_EEXISTS, "there is a pool %s already", pool->name) : CUEBALL_OK;
}

void cueball__name_withdraw(cueball_threaded *pool)
{
    assert(pool);
    cueball__process_lock();
    cueball__list_remove(&pool->at_names);
    cueball__process_unlock();
    assert(!cueball__link_is_linked(&pool->at_names));
}

int cueball_threaded_find(const char *name, cueball_threaded **pool)
{
    if (!name || !pool)
        return cueball__fault(CUEBALL_EINVAL, "a name is needed, and room for the pool, not NULL");
    cueball__process_lock();
    cueball_threaded *found = name_find(name, name_is);
    if (!found)
        found = name_find(name, name_is_meant);
    *pool = found && cueball__threaded_keep_living(found) ? found : NULL;
    cueball__process_unlock();
    return *pool ? CUEBALL_OK : cueball__fault(CUEBALL_ENOT_FOUND, "there is no pool %s", name);
}
