/* Numbers to words. */
#include "cueball.h"

static const struct {
    const char *name, *message;
} errors[] = {
    [-CUEBALL_OK] = { "ok", "no error" },
    [-CUEBALL_EINVAL] = { "invalid", "an argument is out of range" },
    [-CUEBALL_ENOMEM] = { "no_memory", "out of memory" },
    [-CUEBALL_ESTALE] = { "stale", "it is over: released, closed or taken back before" },
    [-CUEBALL_ECLAIM_TIMEOUT] = { "claim_timeout", "no connection became free in time" },
    [-CUEBALL_EOVERLOADED] = { "overloaded", "too many claims wait already" },
    [-CUEBALL_ENO_BACKENDS] = { "no_backends", "no backend is known" },
    [-CUEBALL_EPOOL_FAILED] = { "pool_failed", "every backend is dead" },
    [-CUEBALL_EPOOL_STOPPING] = { "pool_stopping", "the pool is stopping or stopped" },
    [-CUEBALL_EEXISTS] = { "exists", "the backend is known already" },
    [-CUEBALL_ENOT_FOUND] = { "not_found", "no such backend" },
    [-CUEBALL_ECANCELLED] = { "cancelled", "the claim was given up" },
    [-CUEBALL_EDEADLOCK] = { "deadlock", "every lease that the claim waits for is held by a task that waits itself" },
    [-CUEBALL_ESCRIPT] = { "script", "a script could not be loaded, or raised an error" },
    [-CUEBALL_EFORKED] = { "forked", "it was made before a fork, and is not for the child" },
    [-CUEBALL_EPAUSED] = { "paused", "the pool is paused" },
    [-CUEBALL_EUNSUPPORTED] = { "unsupported", "the connection cannot be handed to threads" },
};

#define COUNT_OF(array) ((int)(sizeof(array) / sizeof *(array)))

static int error_index(int error)
{
    return error <= 0 && -error < COUNT_OF(errors) ? -error : -1;
}

const char *cueball_error_name(int error)
{
    int index = error_index(error);
    if (error == CUEBALL_WAITING)
        return "waiting";
    return index < 0 ? "unknown" : errors[index].name;
}

const char *cueball_error_message(int error)
{
    int index = error_index(error);
    if (error == CUEBALL_WAITING)
        return "no error: the claim waits, and is answered later";
    return index < 0 ? "not an error of cueball's" : errors[index].message;
}

static const char *name_in(const char *const *names, int count, int index)
{
    return index >= 0 && index < count ? names[index] : "unknown";
}

const char *cueball_pool_state_name(int state)
{
    static const char *const names[] = { "starting", "running", "failed", "stopping", "stopped" };
    return name_in(names, COUNT_OF(names), state);
}

const char *cueball_slot_state_name(int state)
{
    static const char *const names[] = { "free", "connecting", "backoff", "idle", "busy", "checking", "closing" };
    return name_in(names, COUNT_OF(names), state);
}

const char *cueball_event_name(int kind)
{
    static const char *const names[] = {
        "pool_state",      "backend_added",      "backend_removed",  "backend_dead",     "backend_revived",
        "resolver_failed", "resolver_recovered", "planned",          "shuffled",         "options_changed",
        "memory_short",    "slot_state",         "claim_waiting",    "claim_granted",    "claim_refused",
        "claim_cancelled", "lease_ended",        "backend_ejected",  "backend_returned", "overloaded",
        "relieved",        "priority",           "backend_limited",  "backend_changed",  "paused",
        "resumed",         "backend_drained",    "backend_restored",
    };
    return name_in(names, COUNT_OF(names), kind);
}

const char *cueball_cause_name(int cause)
{
    static const char *const names[] = { "none",   "plan",   "opened", "failed", "timeout", "delay",    "lost",    "claim", "release",
                                         "close",  "fail",   "check",  "unfit",  "idle",    "lifetime", "removed", "stop",  "owner",
                                         "cancel", "closed", "worn",   "lasted", "renew",   "max_uses", "drain",   "killed" };
    return name_in(names, COUNT_OF(names), cause);
}

const char *cueball_reason_name(int reason)
{
    static const char *const names[] = { "busy",     "growing",     "churn",     "connecting", "backoff", "checking", "closing",
                                         "planning", "no_backends", "forgotten", "stalled",    "paused",  "drained" };
    return name_in(names, COUNT_OF(names), reason);
}
