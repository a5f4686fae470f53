/* The data of a pool: its structs, and what can be asked of them without changing
 * anything.  Every other file of this folder stands above this one, in this order; none
 * calls what is above it (spec/layers_spec.lua):
 *
 *     plan demand churn slow_start priority outlier overload latency evidence probe
 *     preference explain          the policies
 *     event action idle           what comes out; the connections at rest
 *     slot                        one place for one connection, and its states
 *     life backend arrange conn   backends; plans put into effect; ends of connections
 *     lease claim                 each by itself
 *     meet owner                  where a claim and a connection meet; whose they are
 *     turn                        begin, run what is due, settle, check
 *     pool input manage           birth and end; the public facts
 *     copy preview                what would come of a change
 *
 * What has to be done further up is returned, or noted in a flag or list of the pool,
 * and the turn looks at it. */
#ifndef CUEBALL_CORE_STATE_H
#define CUEBALL_CORE_STATE_H

#include "cueball.h"
#include "internal.h"

#include "kit/histogram.h"
#include "kit/list.h"
#include "kit/memory.h"
#include "kit/backoff.h"
#include "kit/random.h"
#include "kit/sized.h"
#include "kit/table.h"
#include "kit/timers.h"
#include "kit/trace.h"

#define CUEBALL__NS_PER_MS 1000000.0
#define CUEBALL__PERIOD_MIN UINT64_C(1000000) /* what is done for ever pauses so long, at least */
#define CUEBALL__SLOT_STATES 7
#define CUEBALL__ERRORS 32 /* more than there are: cueball_error */
/* Where idle and busy slots are counted in pool->counts, both together, so that a
 * claim and a release need not count: how many of them rest, the idle order knows. */
#define CUEBALL__COUNT_LENDABLE CUEBALL_SLOT_IDLE
#define CUEBALL__IDLE_AHEAD 24 /* places, see cueball__idle_take() */
#define CUEBALL__SPREAD 0.1    /* of idle timeouts and check intervals: +-10 % */

#if defined __GNUC__
#define CUEBALL__PREFETCH(address) __builtin_prefetch(address)
/* What most claims and releases do without: kept out of their short way. */
#define CUEBALL__ASIDE __attribute__((noinline))
#else
#define CUEBALL__PREFETCH(address) ((void)0)
#define CUEBALL__ASIDE
#endif

/* timer.kind: whose it is */
enum {
    CUEBALL__TIMER_SLOT = 1,
    CUEBALL__TIMER_CLAIM = 2,
    CUEBALL__TIMER_REBALANCE = 3,
    CUEBALL__TIMER_DECOHERENCE = 4,
    CUEBALL__TIMER_DRAIN = 5,
    CUEBALL__TIMER_SAMPLE = 6,
    CUEBALL__TIMER_RETURN = 7,
    CUEBALL__TIMER_CHURN = 8,
    CUEBALL__TIMER_PROBE = 9
};

/* What a backend is: of those that hold, the greatest. */
typedef enum cueball__backend_state {
    BACKEND_UP = 0,
    BACKEND_STANDBY = 1,
    BACKEND_EJECTED = 2,
    BACKEND_DEAD = 3,
    BACKEND_DRAINED = 4,
    BACKEND_REMOVED = 5
} cueball__backend_state;

typedef struct cueball__backend {
    cueball__member member;
    char *key, *name, *address; /* one block, at key */
    size_t block_size;
    cueball__link slots;   /* oldest first */
    cueball__link wanting; /* in pool->wanting while it has fewer slots than it should */
    cueball__link leaving; /* in pool->leaving once removed, until its last slot is gone */
    struct cueball__backend *same_bucket;
    uint32_t port, weight, priority;
    uint32_t want;           /* slots it should have, by the last plan */
    uint32_t have;           /* slots it has, but for those to be dropped */
    uint32_t total;          /* slots it has */
    uint32_t connected;      /* of those: idle, busy or checking */
    uint32_t unproven;       /* of those: have shown nothing but that they opened */
    uint32_t takes;          /* connections it takes though the plan has more for it; 0: as many as planned */
    uint32_t surplus;        /* then: how many more try whether it takes them, too */
    uint32_t attempt;        /* dead: attempts in a row that came to nothing */
    cueball_time pause;      /* dead, without a slot: the last pause, */
    cueball_time probe_at;   /* and when it is tried next */
    cueball__link probe;     /* in pool->probes_due when that time has come and there is no place yet */
    cueball_time doubted_at; /* its connections were made suspect `doubts` times since then */
    uint32_t doubts;
    cueball_time replace_at; /* see cueball__backend_may_replace() */
    uint32_t failures;       /* leases in a row that failed */
    uint32_t ejections;      /* not yet forgotten */
    uint32_t resting_count;
    uint32_t resting_at;     /* place in pool->resting, if any rests */
    cueball__link resting;   /* p2c: its connections at rest, by at_state */
    cueball_latency latency; /* p2c: of its leases */
    cueball_time churn_at;   /* max_churn_rate: not before this may a slot come or go */
    cueball_time revived_at; /* slow_start_ms: since when it gets more; 0: it has its share */
    cueball_time ejected_at;
    cueball__timer back; /* ejected: when it returns; dead and without a slot: when it is tried */
    bool dead, removed, ejected;
    bool has_opened; /* dead, without a slot: some connection of its last slot opened once */
    bool standby;    /* left alone: the last plan found better ones alive */
    bool is_planned; /* the last plan was made for it, among others */
    bool said;       /* mark of cueball_pool_backends_replaced() */
    bool drained;    /* somebody wants it to have no connection */
    bool asked;      /* dead: it is tried at somebody's wish, and that has not come to anything yet */
    bool is_new;     /* came since the last plan, to a place of its own: it can have that of one that goes */
    uint8_t state;   /* cueball__backend_state, as the flags above have it: see cueball__backend_noted() */
    cueball_time state_since;
    uint32_t total_max; /* the greatest `total` so far */
} cueball__backend;

/* What is to be done about a slot, for action.c. */
enum {
    CUEBALL__CHORE_GIVE_UP = 1,
    CUEBALL__CHORE_CLOSE = 2,
    CUEBALL__CHORE_CHECK = 4,
    CUEBALL__CHORE_OPEN = 8,
    CUEBALL__CHORE_RECALL = 16
};

typedef enum cueball__went { WENT_UNTOLD = 0, WENT_WELL = 1, WENT_BADLY = 2 } cueball__went;

typedef struct cueball__slot {
    cueball__member member; /* its generation goes unused: the handles are those below */
    uint8_t state;          /* cueball_slot_state */
    uint8_t went;           /* busy: how, as its claimer said: cueball__went */
    cueball__backend *backend;
    cueball_time state_since; /* in this state; idle: since released, opened or checked */
    cueball_time used_at;     /* last lease's end */
    cueball_handle conn;      /* the attempt or its connection; the last one if there is none */
    cueball_handle lease;     /* likewise */
    uint32_t idle_at;         /* place in the idle order */
    uint8_t on_return;        /* busy: why it will be closed when it comes back, cueball_cause; 0: it will not */
    uint8_t chores;
    uint8_t owned : 1;      /* busy: the lease has an owner */
    uint8_t untimed : 1;    /* busy: its timer may have to be armed when it comes back, or `went` was said */
    uint8_t unproven : 1;   /* connected: it has shown nothing but that it opened, see evidence.c */
    uint8_t suspect : 1;    /* connected: another of its backend was found dead since it last worked */
    uint8_t doubted : 1;    /* idle: in pool->doubtful; checking: in pool->to_check, its check has not begun */
    uint8_t untold : 1;     /* busy: the GRANT was not taken yet */
    uint8_t has_opened : 1; /* some connection of this slot opened once */
    uint8_t unwanted : 1;   /* the plan drops it */
    uint8_t pauses : 1;     /* closing: a pause comes after */
    uint8_t orphan : 1;     /* was leased when its backend was removed */
    uint8_t renews : 1;     /* retire_at is that of cueball_pool_renew() */
    uint8_t blame : 5;      /* closing: counts as an attempt that failed, for this cueball_cause; 0: it does not */
    /* The above is what a claim and a release touch: one cache line.  What they
     * write (`state`) lies apart from the flags they only read: these the compiler
     * reads as one word, which would have to wait for a byte of it that was just
     * written to come out of the store buffer. */
    cueball_owner *owner; /* of the lease */
    cueball__timer timer; /* of the state; connected: the next of check, idle timeout, lifetime */
    cueball__link at_backend;
    cueball__link at_state; /* in the list of its state, if that has one: busy: its owner's leases; idle: pool->doubtful or,
                               p2c, its backend's resting; checking: pool->to_check */
    cueball__link chore;
    cueball_time opened_at;
    cueball_time retire_at; /* max_lifetime_ms, or renewed */
    cueball_time pause;     /* the last one */
    uint32_t given_up;      /* generation of the attempt to give up */
    uint32_t leases_before; /* connected: generation of the last lease of the connection before */
    uint32_t attempt;       /* attempts in a row that came to nothing */
    float spread;           /* of this connection's intervals: -1 to 1, times how far they spread */
} cueball__slot;

_Static_assert(sizeof(cueball__slot) == (size_t)3 * CUEBALL__CACHE_LINE, "100,000 connections walk through so much memory");
_Static_assert(offsetof(cueball__slot, owner) <= CUEBALL__CACHE_LINE, "what a claim and a release touch is in one cache line");

typedef enum cueball__claim_state { CLAIM_WAITING = 1, CLAIM_GRANTED = 2, CLAIM_REFUSED = 3 } cueball__claim_state;

typedef struct cueball__claim {
    cueball__member member;
    int16_t error;          /* cueball_error */
    uint8_t state;          /* cueball__claim_state */
    bool is_bounded;        /* by overload control, sooner than by its own time limit */
    cueball__link at_state; /* in the list of its state: waiting: pool->queue; answered: pool->answers */
    cueball__link at_owner;
    cueball__timer timer;
    cueball_owner *owner;
    cueball__slot *slot; /* granted */
    cueball_time waiting_since;
    union {
        cueball_time limit;  /* waiting: when it is refused for its own time limit */
        cueball_time waited; /* answered: how long in all */
    };
    uint64_t user;
    uint32_t ahead;
} cueball__claim; /* a million may wait: two cache lines */

struct cueball_owner {
    cueball_pool *pool;
    cueball__link claims;
    cueball__link leases;
    cueball__link at_pool; /* in pool->owners, or pool->owners_gone */
    bool is_gone;
};

/* The connections at rest in the order in which they will be claimed: a ring.
 * A slot taken from the middle leaves a hole, NULL.  Both ends are slots, so
 * that it is empty when they meet. */
typedef struct cueball__idle {
    cueball__memory *memory;
    cueball__slot **ring;
    uint32_t mask;     /* capacity - 1 */
    uint32_t capacity; /* a power of two, or 0 */
    uint32_t head, tail;
    uint32_t holes;
} cueball__idle;

/* overload.c */
typedef struct cueball__overload {
    cueball_time above_until; /* waits have been above the target; from here on that is overload; 0: they have not */
    bool lasts;
} cueball__overload;

/* demand.c */
typedef struct cueball__demand {
    double smoothed;                      /* slots in use and spare, through the low-pass filter */
    double may_close;                     /* connections that may be closed for want of load, while there are claims */
    uint32_t peak;                        /* most leased since the last sample */
    bool is_unmet;                        /* a claim that does not wait found nothing since then */
    uint64_t claims_seen;                 /* at the last sample */
    cueball_time claimed_at;              /* the last sample with claims before it */
    cueball_time connect_time;            /* EWMA; 0: not known yet */
    cueball_time lease_time;              /* mean of those ended between the last two samples; 0: not known */
    uint64_t leases_seen, lease_sum_seen; /* at the last sample */
    cueball_time seen_at;
} cueball__demand;

/* explain.c */
#define CUEBALL__REASONS_KEPT 64

typedef struct cueball__reason {
    cueball_time held_from;
    cueball_reason reason;
} cueball__reason;

typedef struct cueball__reasons {
    cueball__reason ring[CUEBALL__REASONS_KEPT];
    uint32_t count; /* noted since the start */
} cueball__reasons;

/* The options as the core uses them: in nanoseconds. */
typedef struct cueball__settings {
    cueball_time claim_timeout, rebalance_delay, decoherence_interval, check_interval, check_timeout;
    cueball_time idle_timeout, max_lifetime, drain_timeout;
    cueball_time target_claim_delay, slow_start, churn_gap, outlier_interval, outlier_ejection;
    cueball_time proven_after; /* 0: by the pause */
    cueball__backoff standard, initial, connect;
} cueball__settings;

typedef struct cueball__counters {
    uint64_t granted_at_once, queued, refused_at_once;
    uint64_t claims_cancelled;
    uint64_t leases_closed, leases_failed, leases_revoked;
    uint64_t attempts, opened, open_failures, open_timeouts, lost, checks, checks_failed;
    uint64_t plans, shuffles, ejections;
    uint64_t closed_by[CUEBALL_CAUSE_LAST + 1];
    uint64_t refused_by[CUEBALL__ERRORS]; /* by the error, without its sign */
    uint64_t deaths_by[CUEBALL_CAUSE_LAST + 1];
} cueball__counters;

struct cueball_pool {
    cueball_outlook outlook;
    cueball_time now;
    cueball_time calm_until; /* see cueball__pool_is_calm() */
    uint32_t state;          /* cueball_pool_state */
    uint32_t watched;
    cueball__table slots;
    cueball__idle idle;
    cueball__link doubtful; /* slots at rest that are lent when no other rests, oldest first */
    uint32_t doubtful_count;
    uint32_t counts[CUEBALL__SLOT_STATES]; /* slots by state, but CUEBALL__COUNT_LENDABLE */
    cueball__link queue;                   /* claims that wait, oldest first */
    cueball__link answers;                 /* claims to be answered */
    cueball__link chores;                  /* slots about which something is to be done */

    cueball_options options;
    cueball__settings settings;
    cueball__memory memory;
    cueball__random random;
    cueball__table claims;
    cueball__table backends;
    cueball__timers timers;
    cueball__timer rebalance, decoherence, drain, sample, churn;

    cueball__backend **preference; /* known backends */
    uint32_t known, known_max;
    uint32_t newcomers;              /* of them: is_new */
    uint32_t vacancies;              /* places in the order of preference of those that went since the last plan */
    cueball__backend **buckets;      /* the same by key; as many as known_max */
    cueball_plan_backend *plan_room; /* room to plan in, for known_max */
    uint64_t *plan_scratch;
    cueball__link leaving;      /* removed backends whose leases are awaited, */
    cueball__link left;         /* and those whose last slot went in this turn */
    cueball__link wanting;      /* backends that have fewer slots than they should */
    cueball__backend **resting; /* p2c: those with connections at rest; room for known_max */
    uint32_t resting_count;
    uint32_t drained;                /* backends */
    uint32_t asked;                  /* dead backends that are tried at somebody's wish */
    uint32_t dead, ejected, failing; /* failing: backends whose last lease failed */
    uint32_t probed;                 /* dead backends that have a slot */
    uint32_t probes_max;             /* how many may have one, by the last plan */
    cueball__link probes_due;        /* dead backends without a slot whose time has come */
    cueball__link to_check;          /* slots whose check has not begun: so many are under way: */
    uint32_t checks_running;
    uint32_t standby, priority; /* priority: the worst that is used; UINT32_MAX: all */
    uint32_t planned_target;
    uint32_t idle_low;   /* fewer at rest than this: more may be wanted */
    uint32_t idle_plain; /* a claim that finds no more at rest than this goes the long way */
    bool churn_holds;    /* the last plan could not be carried out for max_churn_rate */
    cueball__demand demand;
    cueball__overload overload;
    cueball__reasons reasons;
    uint32_t orphans; /* slots beyond the ceiling: leased when their backends were removed */
    bool is_set;
    bool is_forecast; /* a copy, to see what would come (preview.c): the load stays as it is */
    bool is_paused;
    cueball_time paused_since, resumed_at; /* 0: never */
    bool is_unsettled;                     /* something below, or the state, wants looking at */
    bool plan_is_due;
    bool resolver_has_failed;
    bool hurries;            /* what is new is planned for as soon as the host says that time advances, */
    bool change_is_delayed;  /* a change waits for rebalance_delay_ms, */
    cueball_time hurried_at; /* or says something else after this */
    cueball_time changed_at; /* since then */
    cueball_time planned_at;

    cueball__link owners, owners_gone;

    cueball_event *events; /* a ring */
    uint32_t events_max, events_first, events_missed;
    uint32_t waiting_max;

    cueball__counters counters;
    cueball__histogram wait_histogram; /* of claims that had to wait */
    cueball__histogram lease_histogram;
    cueball__histogram create_histogram; /* how long attempts that opened took */
    uint64_t lease_sum;                  /* ns, of all in `lease_histogram` */
#if defined CUEBALL_CHECKS && CUEBALL_CHECKS
    uint64_t check_credit; /* see cueball__turn_verify() */
#endif
};

static inline cueball_time cueball__time_after(cueball_time now, cueball_time span)
{
    return span < CUEBALL_NEVER - now ? now + span : CUEBALL_NEVER;
}

static inline bool cueball__pool_is_over(const cueball_pool *pool)
{
    return pool->state >= CUEBALL_POOL_STOPPING;
}

/* Backends that may have connections, be they dead or not. */
static inline uint32_t cueball__pool_in_use(const cueball_pool *pool)
{
    assert(pool->drained <= pool->known);
    return pool->known - pool->drained;
}

static inline bool cueball__pool_watches(const cueball_pool *pool, cueball_event_kind kind)
{
    return pool->watched >> kind & 1;
}

/* The pool has failed, so that no claim may wait.  While it is paused, or a dead backend is
 * tried because somebody asked for that, claims wait all the same. */
static inline bool cueball__pool_is_failed(const cueball_pool *pool)
{
    return pool->state == CUEBALL_POOL_FAILED && !pool->is_paused && pool->asked == 0;
}

static inline cueball__backend_state cueball__backend_state_of(const cueball__backend *backend)
{
    if (backend->removed)
        return BACKEND_REMOVED;
    if (backend->drained)
        return BACKEND_DRAINED;
    if (backend->dead)
        return BACKEND_DEAD;
    if (backend->ejected)
        return BACKEND_EJECTED;
    return backend->standby ? BACKEND_STANDBY : BACKEND_UP;
}

/* To be called when one of its flags may have changed: notes since when it is in its state. */
static inline void cueball__backend_noted(const cueball_pool *pool, cueball__backend *backend)
{
    cueball__backend_state state = cueball__backend_state_of(backend);
    assert(backend->state_since <= pool->now);
    assert(!(backend->dead && (backend->ejected || backend->drained || backend->removed)));
    if (state == backend->state)
        return;
    backend->state = (uint8_t)state;
    backend->state_since = pool->now;
}

static inline bool cueball__slot_is_connected(const cueball__slot *slot)
{
    return slot->state >= CUEBALL_SLOT_IDLE && slot->state <= CUEBALL_SLOT_CHECKING;
}

/* Whether the connection is lent only where no other rests. */
static inline bool cueball__slot_is_doubtful(const cueball__slot *slot)
{
    return slot->suspect || (slot->unproven && slot->backend->dead);
}

/* Whether the connection is open, as far as is known to some purpose. */
static inline bool cueball__slot_works(const cueball__slot *slot)
{
    return cueball__slot_is_connected(slot) && !(slot->unproven && slot->backend->dead);
}

static inline bool cueball__idle_is_empty(const cueball__idle *idle)
{
    return idle->head == idle->tail;
}

static inline uint32_t cueball__idle_count(const cueball__idle *idle)
{
    return idle->tail - idle->head - idle->holes;
}

/* Leased connections: of the lendable ones those that do not rest. */
static inline uint32_t cueball__pool_busy(const cueball_pool *pool)
{
    return pool->counts[CUEBALL__COUNT_LENDABLE] - cueball__idle_count(&pool->idle) - pool->doubtful_count;
}

/* To be called when the deadline or what is asked here may have changed. */
static inline void cueball__pool_calm(cueball_pool *pool)
{
    bool is_calm = !pool->outlook.waiting && !pool->is_paused && !pool->watched && !pool->is_unsettled && !pool->failing
                   && pool->options.balance != CUEBALL_BALANCE_P2C && !pool->is_set && pool->options.max_uses == UINT32_MAX;
    pool->calm_until = is_calm ? pool->outlook.deadline : 0;
}

/* Whether a claim or a release at `now` may go the short way: nothing is due,
 * the clock runs forward, nobody waits or watches, nothing was put off. */
static inline bool cueball__pool_is_calm(const cueball_pool *pool, cueball_time now)
{
    return now >= pool->now && now < pool->calm_until;
}

/* The back-off of the slot's next connection. */
static inline const cueball__backoff *cueball__slot_backoff(const cueball_pool *pool, const cueball__slot *slot)
{
    return slot->has_opened ? &pool->settings.connect : &pool->settings.initial;
}

#endif
