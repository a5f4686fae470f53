/* cueball: a pool of connections to a service with many nodes.
 *
 * This header is the pool: a state machine that does no I/O.  You tell it what
 * happened (a node appeared, a connection opened, somebody wants one), always
 * with the time; you drain what it wants done (open this, close that, this
 * claim has that connection); you come back at its deadline.  It reads no
 * clock, opens no socket, makes no thread, takes no lock and calls nobody
 * back, so it runs the same under any event loop and in a simulator.
 *
 *     cueball_options options;
 *     cueball_options_init(&options);
 *     cueball_pool_new(&options, cueball_allocator_libc(), seed, now, &pool);
 *     cueball_pool_backend_added(pool, now, &backend);
 *     for (;;) {
 *         while (cueball_pool_next_action(pool, &action))
 *             ...do it, and report with cueball_pool_conn_opened() and so on...
 *         ...wait for something to happen, until cueball_pool_deadline(pool)...
 *         cueball_pool_time_advanced(pool, now);
 *     }
 *
 * Threads: no two of these functions may run at the same time on one pool (its owners
 * are part of it), or on one cueball_latency or cueball_health; else they may.  The
 * caller brings the lock, if it has threads.
 *
 * Time: `now` is in nanoseconds of a monotonic clock with any origin.  A `now`
 * that is behind an earlier one is taken as that earlier one.
 *
 * Results: 0 or more is success; errors are negative, listed in cueball_error,
 * and change nothing unless said otherwise.
 *
 * The declarations of all headers are also read by LuaJIT's FFI: the build runs
 * src/cdef.h through the preprocessor with CUEBALL_CDEF defined.
 */
#ifndef CUEBALL_H
#define CUEBALL_H

#include "cueball_types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cueball_pool cueball_pool;
typedef struct cueball_owner cueball_owner;

/* --------------------------------------------------------------- options -- */

typedef enum cueball_balance {
    CUEBALL_BALANCE_FIFO = 0, /* the connection idle longest: even use */
    CUEBALL_BALANCE_LIFO = 1, /* the one idle shortest: warm, lets others age */
    CUEBALL_BALANCE_P2C = 2   /* of two backends drawn, the lower peak-EWMA latency * leases */
} cueball_balance;

/* Who waits longest is served first; or what else while there is too much to
 * serve, which is found out as CoDel does (RFC 8289): every claim that left the
 * queue over 100 ms had waited longer than target_claim_delay_ms. */
typedef enum cueball_queue {
    CUEBALL_QUEUE_FIFO = 0,         /* nothing else */
    CUEBALL_QUEUE_CODEL = 1,        /* those past the target are refused */
    CUEBALL_QUEUE_ADAPTIVE_LIFO = 2 /* the newest is served first */
} cueball_queue;

/* What the priorities of backends mean (RFC 2782: lower numbers are preferred). */
typedef enum cueball_priorities {
    CUEBALL_PRIORITIES_STRICT = 0, /* backends are left alone while a better one is neither dead, ejected nor drained */
    CUEBALL_PRIORITIES_IGNORED = 1
} cueball_priorities;

/* When a backend whose leases fail is left out for a while, though connections
 * to it open (Envoy calls this outlier detection). */
typedef struct cueball_outlier {
    uint32_t consecutive; /* failed leases in a row; 0: off */
    double interval_ms;   /* without failure: one ejection is forgotten */
    double ejection_ms;   /* times the number of ejections not yet forgotten */
    double max_ejected;   /* share of the backends; one at least, never the last */
} cueball_outlier;

/* Durations are in milliseconds and may have fractions.  Names, defaults and
 * ranges can be asked with cueball_option_describe(). */
typedef struct cueball_options {
    uint32_t struct_size;
    uint32_t max_connections;
    uint32_t max_waiters;    /* UINT32_MAX: no limit of its own */
    uint32_t max_uses;       /* leases of one connection; UINT32_MAX: any number */
    double claim_timeout_ms; /* INFINITY: none */
    double rebalance_delay_ms;
    double decoherence_interval_ms; /* 0: off */
    double check_interval_ms;       /* 0: off */
    double check_timeout_ms;
    double idle_timeout_ms; /* 0: off */
    double max_lifetime_ms; /* 0: off */
    double lifetime_spread; /* 0 to 1: each connection's max_lifetime_ms is longer or shorter by up to that share, by chance */
    double drain_timeout_ms;
    double target_claim_delay_ms; /* for `queue`; 0: off */
    double max_churn_rate;        /* connections a second and backend; INFINITY: none */
    double proven_after_ms;       /* a connection open for so long has shown that its backend works; 0: twice the pause
                                     before its attempt, 1000 at least */
    double slow_start_ms;         /* 0: off */
    uint32_t spares;              /* idle connections to keep; UINT32_MAX: max_connections in all */
    int32_t balance;              /* cueball_balance */
    int32_t queue;                /* cueball_queue */
    int32_t priorities;           /* cueball_priorities */
    int32_t has_check;            /* 1: CHECK actions tell something, so that suspect connections are checked before they
                                     are lent, and one that is fit has proven itself; 0: those are lent last */
    int32_t reserved;
    cueball_outlier outlier;
    cueball_recovery recovery_default; /* closing a connection: timeout_ms */
    cueball_recovery recovery_initial; /* a slot's first connection */
    cueball_recovery recovery_connect; /* its later ones */
} cueball_options;

/* Fills in every default.  There is no other way to begin: an option that is 0 where
 * that is out of range is refused by its name. */
CUEBALL_API void cueball_options_init_sized(cueball_options *options, uint32_t struct_size);
#ifndef CUEBALL_CDEF
static inline void cueball_options_init(cueball_options *options)
{
    cueball_options_init_sized(options, (uint32_t)sizeof *options);
}
#endif

typedef enum cueball_option_kind {
    CUEBALL_OPTION_COUNT = 0,    /* uint32_t, whole */
    CUEBALL_OPTION_DURATION = 1, /* double, milliseconds */
    CUEBALL_OPTION_FRACTION = 2, /* double */
    CUEBALL_OPTION_CHOICE = 3,   /* int32_t, one of `choices` by position */
    CUEBALL_OPTION_RATE = 4      /* double, per second */
} cueball_option_kind;

/* One option as data: what front ends need to read it from a script or a
 * command line.  Strings are static. */
typedef struct cueball_option {
    const char *name;    /* "recovery.connect.delay_ms" */
    const char *choices; /* "fifo lifo"; NULL unless a choice */
    int32_t kind;        /* cueball_option_kind */
    uint32_t offset;     /* in cueball_options */
    double min, max;     /* both allowed */
    double initial;      /* the default; INFINITY: none */
    bool may_be_none;    /* INFINITY (durations) or UINT32_MAX (counts) allowed */
} cueball_option;

/* The option number `index`, counted from 0; false beyond the last. */
CUEBALL_API bool cueball_option_describe(uint32_t index, cueball_option *option);

/* CUEBALL_EINVAL if a value is out of range; `text` (may be NULL) then says
 * which and what its range is, cut to `size` bytes with the final NUL. */
CUEBALL_API int cueball_options_check(const cueball_options *options, char *text, size_t size);

/* ------------------------------------------------------------------ life -- */

typedef enum cueball_pool_state {
    CUEBALL_POOL_STARTING = 0, /* no connection has opened yet, or none since it failed */
    CUEBALL_POOL_RUNNING = 1,
    CUEBALL_POOL_FAILED = 2,   /* every backend that is not drained is dead; probes go on trying */
    CUEBALL_POOL_STOPPING = 3, /* waits for leases, until drain_timeout_ms */
    CUEBALL_POOL_STOPPED = 4
} cueball_pool_state;

/* A new pool in *pool, to be freed with cueball_pool_free().  `options` is
 * copied; `allocator` is copied, what its `user` points to must outlive the
 * pool.  `seed` decides every random choice: the same seed and inputs give the
 * same outputs.  CUEBALL_EINVAL (see cueball_options_check), CUEBALL_ENOMEM. */
CUEBALL_API int cueball_pool_new(const cueball_options *options, const cueball_allocator *allocator, uint64_t seed, cueball_time now,
                                 cueball_pool **pool);

/* The same for a set: at most one connection a backend, `spares` of them, each
 * leased for good: it is asked back with CUEBALL_ACTION_RECALL, the last one never
 * before another is open.  One more than max_connections may be open meanwhile. */
CUEBALL_API int cueball_set_new(const cueball_options *options, const cueball_allocator *allocator, uint64_t seed, cueball_time now,
                                cueball_pool **set);

/* Frees the pool at once, in any state; NULL is allowed.  It closes nothing:
 * stop it first and drain it.  Its owners end with it: call cueball_owner_gone()
 * on none of them afterwards. */
CUEBALL_API void cueball_pool_free(cueball_pool *pool);

/* Stops: waiting claims are refused, idle connections close, attempts are given
 * up, leases are waited for until drain_timeout_ms and then closed under their
 * claimers.  The state becomes stopped when every connection is closed.
 * Calling it again is harmless.  Always 0. */
CUEBALL_API int cueball_pool_stop(cueball_pool *pool, cueball_time now);

CUEBALL_API int cueball_pool_state_of(const cueball_pool *pool); /* cueball_pool_state */
CUEBALL_API const char *cueball_pool_state_name(int state);      /* "running"; static */

/* From now on no claim is granted: claims wait, in their order and within their time
 * limits.  One that may not wait, or finds max_waiters waiting, is refused with
 * CUEBALL_EPAUSED.  Leases that are out go on and come back; connections are opened,
 * checked and replaced as before, and the number of slots does not follow the load
 * meanwhile.  Nobody is refused because every backend is dead: that is decided when
 * the pool is resumed.  Waiting in a pause is not taken for overload.  Pausing again
 * is harmless.  CUEBALL_EPOOL_STOPPING; CUEBALL_EINVAL: of a set. */
CUEBALL_API int cueball_pool_paused(cueball_pool *pool, cueball_time now);
/* Claims are granted again, those that wait first.  If every backend is dead, each is
 * tried at once, and claims wait for what comes of it.  Of a pool that is not paused:
 * harmless.  CUEBALL_EPOOL_STOPPING. */
CUEBALL_API int cueball_pool_resumed(cueball_pool *pool, cueball_time now);
/* Since when the pool is paused; CUEBALL_NEVER: it is not. */
CUEBALL_API cueball_time cueball_pool_paused_since(const cueball_pool *pool);

/* New options for a living pool; those of slots take effect as each slot comes
 * to its next step, claim_timeout_ms with the next claim.  CUEBALL_EINVAL. */
CUEBALL_API int cueball_pool_options_changed(cueball_pool *pool, cueball_time now, const cueball_options *options);

/* -------------------------------------------------------------- backends -- */

/* One node.  Strings are copied.  key, address: not empty.  name: may be NULL,
 * then it is the key.  Each at most 1023 bytes. */
typedef struct cueball_backend_spec {
    uint32_t struct_size;
    uint32_t port; /* 0 to 65535; 0 where the address says it all */
    const char *key;
    const char *name;
    const char *address;
    uint32_t weight;   /* up to 65535: share of connections; 0 is 1 */
    uint32_t priority; /* 0 to 65535, the lowest is preferred: see cueball_priorities */
} cueball_backend_spec;

/* A backend is there.  CUEBALL_EEXISTS: known already with the same address and
 * port (its weight, priority and name are taken over); known under this key with another
 * address, it is replaced.  CUEBALL_EINVAL, CUEBALL_ENOMEM. */
CUEBALL_API int cueball_pool_backend_added(cueball_pool *pool, cueball_time now, const cueball_backend_spec *spec);
/* A backend is gone: its idle connections close at once, leases when they come
 * back.  CUEBALL_ENOT_FOUND. */
CUEBALL_API int cueball_pool_backend_removed(cueball_pool *pool, cueball_time now, const char *key);
/* These are all the backends there are now; the difference is worked out, a key
 * given twice counts once, as it is given first.  All have the struct_size of the
 * first.  CUEBALL_EINVAL: nothing was changed.
 * CUEBALL_ENOMEM: some may have been added, none was removed; say it again. */
CUEBALL_API int cueball_pool_backends_replaced(cueball_pool *pool, cueball_time now, const cueball_backend_spec *specs, size_t count);
/* The resolver cannot tell where the backends are / can again.  The last known
 * backends stay; a pool that never had any fails, and starts again.  Always 0. */
CUEBALL_API int cueball_pool_resolver_failed(cueball_pool *pool, cueball_time now);
CUEBALL_API int cueball_pool_resolver_recovered(cueball_pool *pool, cueball_time now);
/* Connections opened before now are replaced, one after the other over `over_ms`
 * milliseconds (0, at once, to one day), those of the backend `key`, or all with NULL:
 * at rest when their time comes, leased ones when they come back after it, attempts
 * under way once they are open.  CUEBALL_EINVAL: over_ms.  CUEBALL_ENOT_FOUND: no
 * backend has that key. */
CUEBALL_API int cueball_pool_renew(cueball_pool *pool, cueball_time now, const char *key, double over_ms);

/* The backend is to have no connection until it is restored: those at rest close at once, leased ones when they come
 * back, attempts are given up, and the plan gives its part to others, within max_connections.  Nobody tries whether it
 * lives.  Of a set the last connection stays until another is open.  A pool all of whose backends are drained is like one
 * that knows none.  A backend that is removed and added anew, or gets another address, is not drained any more.
 * CUEBALL_ENOT_FOUND.  Of a pool that stops, this and the next two change nothing. */
CUEBALL_API int cueball_pool_backend_drained(cueball_pool *pool, cueball_time now, const char *key);
/* It is used again, as a backend that was dead and lives: see slow_start_ms.  Harmless
 * if it is not drained.  CUEBALL_ENOT_FOUND. */
CUEBALL_API int cueball_pool_backend_restored(cueball_pool *pool, cueball_time now, const char *key);
/* The pauses of dead backends end now, that of `key` or all with NULL: they are tried as
 * soon as there is a slot for that.  While every backend is dead, claims wait for what
 * comes of it.  Of a backend that is alive: its slots that pause try at once.
 * CUEBALL_ENOT_FOUND. */
CUEBALL_API int cueball_pool_backend_retried(cueball_pool *pool, cueball_time now, const char *key);

/* What is known of a backend.  The strings live as long as the backend: copy
 * what must last beyond the next input. */
typedef struct cueball_backend_info {
    uint32_t struct_size;
    uint32_t port, weight, priority;
    cueball_handle backend;
    const char *key, *name, *address;
    uint32_t total, idle, busy, connecting; /* slots; connecting counts back-off too */
    bool dead, removed, ejected;            /* removed: its last leases are awaited */
    bool standby;                           /* left alone for its priority; nobody knows whether it is dead */
    uint32_t takes;                         /* connections it takes, as far as was seen, where the pool wants more; else 0 */
    uint32_t suspect;                       /* connections not known to work since another was found dead */
    double latency_ms;                      /* peak EWMA of its leases that went well; p2c only */
    double success_rate;                    /* share of its leases that go well, 0 to 1, of late; p2c only */
    bool drained;                           /* cueball_pool_backend_drained() */
    uint32_t want;                          /* slots it should have, by the last plan */
    uint32_t attempt;                       /* dead: attempts in a row that came to nothing */
    cueball_time back_at;                   /* ejected, dead: when it is used, or tried, again; CUEBALL_NEVER: not known */
    cueball_time since;                     /* in its state: the first of removed, drained, dead, ejected and standby that it is, or none */
    uint32_t total_max;                     /* most slots that it ever had at once, since it was added */
} cueball_backend_info;

/* CUEBALL_ESTALE: gone, with its last connection. */
CUEBALL_API int cueball_pool_backend_info(const cueball_pool *pool, cueball_handle backend, cueball_backend_info *info);
/* What was said of a backend: the same without what has to be counted, in O(1).
 * CUEBALL_ESTALE. */
CUEBALL_API int cueball_pool_backend_spec(const cueball_pool *pool, cueball_handle backend, cueball_backend_spec *spec);
/* The backend number `index`, in order of preference and from 0, those removed
 * last; false beyond the last. */
CUEBALL_API bool cueball_pool_backend_at(const cueball_pool *pool, uint32_t index, cueball_backend_info *info);

/* --------------------------------------------------------------- preview -- */

/* A change that is not made: what would come of it? */
typedef struct cueball_change {
    uint32_t struct_size;
    uint32_t added_count;
    const cueball_backend_spec *added; /* backends that would be added; all have the struct_size of the first */
    const char *const *removed;        /* keys of backends that would be removed, after that */
    uint32_t removed_count;
    uint32_t reserved;
    const cueball_options *options; /* that the pool would have, before that; NULL: those it has */
} cueball_change;

typedef struct cueball_preview_backend {
    const char *key;        /* lives as long as the backend, or as what was given */
    uint32_t before, after; /* slots that it has, and would have */
    bool added, removed;
    bool dead; /* afterwards; or before, if it would be removed */
    bool drained;
} cueball_preview_backend;

typedef struct cueball_preview {
    uint32_t struct_size;
    uint32_t backends;        /* written, or that would have been */
    uint32_t opens, closes;   /* connections, until all is as it is to be */
    uint32_t before, after;   /* slots in all */
    bool settles;             /* within a day, and not too long to be worked out; else the rest is how it stands then */
    bool knows_open;          /* open_time was measured */
    bool knows_lease;         /* lease_time was measured */
    cueball_time settle_time; /* until then */
    cueball_time open_time;   /* how long an attempt was assumed to take, ns: the median so far */
    cueball_time lease_time;  /* how long after now a lease was assumed to come back whose connection has to go: likewise */
} cueball_preview;

/* What the pool would do if the change came now, and nothing else: how many slots each
 * backend would have in the end, and how long that would take.  The pool is not changed:
 * a copy of it is, in a time of its own.  Assumed is that attempts at backends that live
 * succeed, those at dead ones fail, both after open_time; that connections close at once
 * and checks go well; that the load stays as it is, and only those leases come back whose
 * connections have to go.  Fills in at most `room` of `backends`, known ones in order of
 * preference first.  Costs as much as all slots times the steps it takes.  CUEBALL_EINVAL:
 * a backend or an option is not fit.  CUEBALL_ENOT_FOUND: a key to be removed is unknown.
 * CUEBALL_ENOMEM.  CUEBALL_EPOOL_STOPPING. */
CUEBALL_API int cueball_pool_preview(const cueball_pool *pool, cueball_time now, const cueball_change *change, cueball_preview *preview,
                                     cueball_preview_backend *backends, uint32_t room);

/* ---------------------------------------------------------------- claims -- */

/* Somebody all of whose claims and leases in this pool end together: a request, a
 * thread, a coroutine.  Put in *owner, to be ended with cueball_owner_gone(), exactly
 * once.  CUEBALL_ENOMEM. */
CUEBALL_API int cueball_pool_owner_new(cueball_pool *pool, cueball_owner **owner);
/* The owner is gone: its waiting claims are cancelled, its leases closed, at
 * the pool's next input.  Takes no time and does nothing else, so that it can be
 * called where nothing is known but a pointer.  Frees the owner (soon). */
CUEBALL_API void cueball_owner_gone(void *owner);
/* The same, but the owner stays, for the next one who comes: an owner whose
 * users are many need not be made anew for each.  True if it had anything. */
CUEBALL_API bool cueball_owner_left(void *owner);

enum {
    CUEBALL_WAITING = 1, /* cueball_pool_claim(): the claim is queued */
    CUEBALL_NO_WAIT = -1 /* timeout_ms */
};

typedef struct cueball_claim_options {
    uint32_t struct_size;
    bool error_on_empty;  /* CUEBALL_ENO_BACKENDS at once if no backend is known, or all are drained */
    double timeout_ms;    /* total wait; 0: the pool's claim_timeout_ms; INFINITY: for ever; negative: do not wait */
    uint64_t user;        /* comes back in the action that answers */
    cueball_owner *owner; /* of this pool; or NULL */
} cueball_claim_options;

typedef struct cueball_grant {
    cueball_handle lease;   /* granted: to release, close or fail */
    cueball_handle conn;    /* granted: which connection */
    cueball_handle backend; /* granted: whose */
    cueball_handle claim;   /* waiting: to cancel */
    uint32_t slot;          /* granted: the connection's slot, from 0; dense, for arrays */
    uint32_t ahead;         /* waiting: claims that were there before */
} cueball_grant;

/* Claims a connection.  0: granted at once, see *grant.  1 (CUEBALL_WAITING):
 * the claim is queued, a GRANT or REFUSE action will answer it.  Refused:
 * CUEBALL_ECLAIM_TIMEOUT (it is not to wait and none is idle),
 * CUEBALL_EOVERLOADED, CUEBALL_ENO_BACKENDS, CUEBALL_EPOOL_FAILED,
 * CUEBALL_EPOOL_STOPPING, CUEBALL_EPAUSED; CUEBALL_EINVAL (it has to wait, and timeout_ms is not a
 * number, or struct_size is none), CUEBALL_ENOMEM.  `options` may be NULL: the pool's
 * own.  `grant` may not be NULL; of a claim that is refused it tells nothing. */
CUEBALL_API int cueball_pool_claim(cueball_pool *pool, cueball_time now, const cueball_claim_options *options, cueball_grant *grant);
/* A waiting claim is given up: no action will answer it.  If it was granted
 * meanwhile, the connection goes back.  CUEBALL_ESTALE: answered already. */
CUEBALL_API int cueball_pool_claim_cancelled(cueball_pool *pool, cueball_time now, cueball_handle claim);
/* When a waiting claim is refused at the latest; 0: it is answered, or over. */
CUEBALL_API cueball_time cueball_pool_claim_deadline(const cueball_pool *pool, cueball_handle claim);
/* Whose waiting claim it is: the `user` of its options; 0 too if it is answered, or over. */
CUEBALL_API uint64_t cueball_pool_claim_user(const cueball_pool *pool, cueball_handle claim);

/* A lease comes back.  CUEBALL_ESTALE: it came back before, or was taken away.
 * Released is proof that its backend works; closed says nothing; failed counts
 * against the backend, as a failed attempt if the connection had proven nothing. */
CUEBALL_API int cueball_pool_lease_released(cueball_pool *pool, cueball_time now, cueball_handle lease); /* fit for the next */
CUEBALL_API int cueball_pool_lease_closed(cueball_pool *pool, cueball_time now, cueball_handle lease);   /* to be closed, nobody's fault */
CUEBALL_API int cueball_pool_lease_failed(cueball_pool *pool, cueball_time now, cueball_handle lease);   /* likewise, its backend's fault */
/* Its claimer is gone, and had no owner: as if that one had. */
CUEBALL_API int cueball_pool_lease_revoked(cueball_pool *pool, cueball_time now, cueball_handle lease);
/* Somebody in charge has ended it: the connection closes, whatever its claimer does with
 * it just now. */
CUEBALL_API int cueball_pool_lease_killed(cueball_pool *pool, cueball_time now, cueball_handle lease);
/* The claimer of *lease gave its connection back in order, and had it again, `count`
 * times, without asking: so many leases, each of which lasted spans[i] ns, are told at
 * once, and *lease becomes the handle of the one that lasts, since `began`.  Counts as
 * so many claims that were granted at once, and leases that were released: in the
 * statistics, for max_uses, `outlier`, p2c, and as proof.  `spans` may be NULL: each is
 * taken for its share of the time until `began`.  CUEBALL_ESTALE; CUEBALL_EINVAL: more
 * than may be. */
CUEBALL_API int cueball_pool_lease_repeated(cueball_pool *pool, cueball_time now, cueball_handle *lease, cueball_time began,
                                            const uint32_t *spans, uint32_t count);
/* How often a claimer may do so with this lease, by now.  0 if the lease is over, the
 * connection is to go when it comes back, how it went was told, or leases are watched.
 * That nobody waits, the caller knows. */
CUEBALL_API uint32_t cueball_pool_lease_repeats_max(const cueball_pool *pool, cueball_time now, cueball_handle lease);
/* The lease goes on: how it went, whichever way it ends.  Not well: the
 * connection may be fit, but what was answered on it is a failure of its backend
 * (for `outlier` and p2c; nobody dies of it).  Well: so it is though the
 * connection has to be closed.  Else a lease went well if it is released, and for
 * p2c it did not if it ends otherwise.  The last word counts. */
CUEBALL_API int cueball_pool_lease_reported(cueball_pool *pool, cueball_time now, cueball_handle lease, bool went_well);

/* ----------------------------------------------------------- connections -- */

typedef struct cueball_conn_info {
    int32_t state; /* cueball_slot_state: CONNECTING, IDLE, BUSY, CHECKING or CLOSING */
    uint32_t slot;
    cueball_handle backend;
} cueball_conn_info;

/* What is known of a connection, or of the attempt at one, in O(1).  CUEBALL_ESTALE. */
CUEBALL_API int cueball_pool_conn_info(const cueball_pool *pool, cueball_handle conn, cueball_conn_info *info);

/* What is known of a slot. */
typedef struct cueball_slot_info {
    uint32_t struct_size;
    int32_t state;          /* cueball_slot_state; FREE: nothing else counts */
    uint32_t slot;          /* its number */
    uint32_t attempt;       /* attempts in a row; connected: that came to this connection, as long as it has proven nothing */
    uint32_t uses;          /* connected: leases of this connection, the present one included */
    int32_t on_return;      /* BUSY: the cueball_cause for which it will be closed when it comes back; 0: it will not */
    cueball_handle backend; /* whose */
    cueball_handle conn;    /* the connection, or the attempt at it */
    cueball_handle lease;   /* BUSY, and its claimer knows; else 0 */
    cueball_time since;     /* in this state; IDLE: since it was released, opened or checked */
    cueball_time opened_at; /* connected: when it opened */
    cueball_time due;       /* CONNECTING, CHECKING, CLOSING: the pool waits no longer; BACKOFF: the next attempt; else NEVER */
    bool unproven, suspect; /* connected: it has shown nothing but that it opened; it is not known to work since another was
                                found dead */
} cueball_slot_info;

/* The slot number `index`, from 0; false beyond the last that ever was.  O(1). */
CUEBALL_API bool cueball_pool_slot_at(const cueball_pool *pool, uint32_t index, cueball_slot_info *info);

/* Each takes the `conn` of the action it reports on, or of a grant.
 * CUEBALL_ESTALE: the pool gave up on it before.  A connection that opened too
 * late is then the caller's to close, without a report. */
CUEBALL_API int cueball_pool_conn_opened(cueball_pool *pool, cueball_time now, cueball_handle conn);
CUEBALL_API int cueball_pool_conn_failed(cueball_pool *pool, cueball_time now, cueball_handle conn); /* the attempt to open it */
CUEBALL_API int cueball_pool_conn_checked(cueball_pool *pool, cueball_time now, cueball_handle conn, bool is_fit);
/* An open connection broke, at rest or leased.  It still gets its CLOSE action
 * (a leased one when its lease ends). */
CUEBALL_API int cueball_pool_conn_lost(cueball_pool *pool, cueball_time now, cueball_handle conn);
/* An open connection is of no more use, and its backend did not break it: it
 * closes, at once or when its lease ends, and is replaced without a pause.
 * CUEBALL_CAUSE_UNFIT: it is in a state that the next claimer does not expect;
 * CUEBALL_CAUSE_WORN: it has delivered what it was asked for, which proves that
 * its backend works, and cannot again; CUEBALL_CAUSE_TIMEOUT: an answer did not come
 * in time and may come yet, which counts as a failed lease for `outlier` and p2c.
 * CUEBALL_EINVAL: another cause. */
CUEBALL_API int cueball_pool_conn_unfit(cueball_pool *pool, cueball_time now, cueball_handle conn, int cause);
CUEBALL_API int cueball_pool_conn_closed(cueball_pool *pool, cueball_time now, cueball_handle conn); /* CLOSE is done */

/* --------------------------------------------------------------- actions -- */

typedef enum cueball_action_kind {
    CUEBALL_ACTION_NONE = 0,
    CUEBALL_ACTION_OPEN = 1,    /* open `conn` to `backend`; report opened or failed */
    CUEBALL_ACTION_GIVE_UP = 2, /* stop trying to open `conn`; report nothing */
    CUEBALL_ACTION_CLOSE = 3,   /* close `conn`; report closed */
    CUEBALL_ACTION_CHECK = 4,   /* see whether `conn` works; report checked */
    CUEBALL_ACTION_GRANT = 5,   /* `claim` has `lease` on `conn` */
    CUEBALL_ACTION_REFUSE = 6,  /* `claim` gets nothing: `error` */
    CUEBALL_ACTION_RECALL = 7   /* a set's: `lease` is wanted back, for `cause` */
} cueball_action_kind;

typedef struct cueball_action {
    int32_t kind;           /* cueball_action_kind */
    int32_t error;          /* REFUSE: cueball_error */
    uint32_t slot;          /* all but REFUSE */
    uint32_t attempt;       /* OPEN: 1 and up */
    cueball_handle conn;    /* all but REFUSE */
    cueball_handle backend; /* all but REFUSE and GIVE_UP */
    cueball_handle claim;   /* GRANT, REFUSE: now over */
    cueball_handle lease;   /* GRANT, RECALL */
    uint64_t user;          /* GRANT, REFUSE: the claim's */
    cueball_time deadline;  /* OPEN, CHECK, CLOSE: the pool waits no longer */
    cueball_time waited;    /* GRANT, REFUSE: how long the claim was queued */
    uint32_t ahead;         /* GRANT, REFUSE: how many were queued before it */
    int32_t cause;          /* RECALL: cueball_cause */
} cueball_action;

/* Takes the next thing to do into *action; false if there is none: answers to
 * claims first, since somebody waits for them, then chores. */
CUEBALL_API bool cueball_pool_next_action(cueball_pool *pool, cueball_action *action);
/* The same by halves: GRANT and REFUSE are answers, all others are chores.  For programs
 * that answer where the lock is held, and open connections elsewhere.  Each half keeps its
 * order, and either may be drained first: a RECALL comes after the GRANT of its lease. */
CUEBALL_API bool cueball_pool_next_answer(cueball_pool *pool, cueball_action *action);
CUEBALL_API bool cueball_pool_next_chore(cueball_pool *pool, cueball_action *action);

/* When to call cueball_pool_time_advanced() at the latest; CUEBALL_NEVER: no need.
 * A deadline in the past means now. */
CUEBALL_API cueball_time cueball_pool_deadline(cueball_pool *pool);
CUEBALL_API int cueball_pool_time_advanced(cueball_pool *pool, cueball_time now); /* always 0 */

/* What the pool wants of its host, to be read without a call as long as the pool lives. */
typedef struct cueball_outlook {
    cueball_time deadline; /* never later than cueball_pool_deadline(), at times earlier */
    uint32_t actions;      /* how many there are; not 0: drain them */
    uint32_t events;       /* how many wait to be read */
    uint32_t answers;      /* how many of the actions are answers; the others are chores */
    uint32_t waiting;      /* claims that wait */
} cueball_outlook;

CUEBALL_API const cueball_outlook *cueball_pool_outlook(const cueball_pool *pool);

/* ---------------------------------------------------------------- events -- */

typedef enum cueball_slot_state {
    CUEBALL_SLOT_FREE = 0,       /* no slot */
    CUEBALL_SLOT_CONNECTING = 1, /* an attempt is under way */
    CUEBALL_SLOT_BACKOFF = 2,    /* pauses before the next attempt */
    CUEBALL_SLOT_IDLE = 3,
    CUEBALL_SLOT_BUSY = 4,
    CUEBALL_SLOT_CHECKING = 5,
    CUEBALL_SLOT_CLOSING = 6
} cueball_slot_state;

CUEBALL_API const char *cueball_slot_state_name(int state); /* static */

typedef enum cueball_event_kind {
    CUEBALL_EVENT_POOL_STATE = 0,         /* from, to: cueball_pool_state */
    CUEBALL_EVENT_BACKEND_ADDED = 1,      /* backend */
    CUEBALL_EVENT_BACKEND_REMOVED = 2,    /* backend */
    CUEBALL_EVENT_BACKEND_DEAD = 3,       /* backend, count: attempts made, cause: how the last one ended */
    CUEBALL_EVENT_BACKEND_REVIVED = 4,    /* backend, cause: what proved it, RELEASE, CHECK, WORN or LASTED; PLAN: nobody
                                             looks any more, for its priority */
    CUEBALL_EVENT_RESOLVER_FAILED = 5,    /* */
    CUEBALL_EVENT_RESOLVER_RECOVERED = 6, /* */
    CUEBALL_EVENT_PLANNED = 7,            /* count: slots there should be */
    CUEBALL_EVENT_SHUFFLED = 8,           /* count: idle connections reordered */
    CUEBALL_EVENT_OPTIONS_CHANGED = 9,    /* */
    CUEBALL_EVENT_MEMORY_SHORT = 10,      /* something was put off for want of memory */
    CUEBALL_EVENT_SLOT_STATE = 11,        /* slot, conn, backend, from, to: cueball_slot_state; cause; count: attempt */
    CUEBALL_EVENT_CLAIM_WAITING = 12,     /* claim, user, count: ahead */
    CUEBALL_EVENT_CLAIM_GRANTED = 13,     /* claim (0 if at once), user, lease, conn, slot, backend */
    CUEBALL_EVENT_CLAIM_REFUSED = 14,     /* claim (0 if at once), user, error */
    CUEBALL_EVENT_CLAIM_CANCELLED = 15,   /* claim, user */
    CUEBALL_EVENT_LEASE_ENDED = 16,       /* lease, slot, conn, backend, cause */
    CUEBALL_EVENT_BACKEND_EJECTED = 17,   /* backend, count: times in a row */
    CUEBALL_EVENT_BACKEND_RETURNED = 18,  /* backend */
    CUEBALL_EVENT_OVERLOADED = 19,        /* count: claims that wait */
    CUEBALL_EVENT_RELIEVED = 20,          /* no longer overloaded */
    CUEBALL_EVENT_PRIORITY = 21,          /* count: backends of this priority and better are used from now on */
    CUEBALL_EVENT_BACKEND_LIMITED = 22,   /* backend, count: connections it takes, from: those the plan has for it */
    CUEBALL_EVENT_BACKEND_CHANGED = 23,   /* backend: its weight, priority or name is another; count: its weight */
    CUEBALL_EVENT_PAUSED = 24,            /* count: claims that wait */
    CUEBALL_EVENT_RESUMED = 25,           /* count: claims that waited */
    CUEBALL_EVENT_BACKEND_DRAINED = 26,   /* backend, count: its connections that are leased */
    CUEBALL_EVENT_BACKEND_RESTORED = 27,  /* backend */
    CUEBALL_EVENT_LAST = 27               /* the greatest kind there is */
} cueball_event_kind;

CUEBALL_API const char *cueball_event_name(int kind); /* "backend_dead"; static */

/* Why a slot changed its state or a lease ended. */
typedef enum cueball_cause {
    CUEBALL_CAUSE_NONE = 0,
    CUEBALL_CAUSE_PLAN = 1,      /* the plan has it so */
    CUEBALL_CAUSE_OPENED = 2,    /* the connection opened */
    CUEBALL_CAUSE_FAILED = 3,    /* the attempt failed */
    CUEBALL_CAUSE_TIMEOUT = 4,   /* the attempt, check or close took too long */
    CUEBALL_CAUSE_DELAY = 5,     /* the pause is over */
    CUEBALL_CAUSE_LOST = 6,      /* the connection broke */
    CUEBALL_CAUSE_CLAIM = 7,     /* granted */
    CUEBALL_CAUSE_RELEASE = 8,   /* lease released */
    CUEBALL_CAUSE_CLOSE = 9,     /* lease closed */
    CUEBALL_CAUSE_FAIL = 10,     /* lease failed */
    CUEBALL_CAUSE_CHECK = 11,    /* due for a check; checked and fit */
    CUEBALL_CAUSE_UNFIT = 12,    /* not fit: as a check found, or when it came back */
    CUEBALL_CAUSE_IDLE = 13,     /* idle_timeout_ms */
    CUEBALL_CAUSE_LIFETIME = 14, /* max_lifetime_ms */
    CUEBALL_CAUSE_REMOVED = 15,  /* its backend was removed */
    CUEBALL_CAUSE_STOP = 16,     /* the pool stops */
    CUEBALL_CAUSE_OWNER = 17,    /* the claimer's owner is gone */
    CUEBALL_CAUSE_CANCEL = 18,   /* granted, but cancelled before it was told */
    CUEBALL_CAUSE_CLOSED = 19,   /* closed as asked */
    CUEBALL_CAUSE_WORN = 20,     /* it has worked, and is used up */
    CUEBALL_CAUSE_LASTED = 21,   /* the connection stayed open */
    CUEBALL_CAUSE_RENEW = 22,    /* cueball_pool_renew() */
    CUEBALL_CAUSE_MAX_USES = 23, /* max_uses */
    CUEBALL_CAUSE_DRAIN = 24,    /* its backend is drained */
    CUEBALL_CAUSE_KILLED = 25,   /* cueball_pool_lease_killed() */
    CUEBALL_CAUSE_LAST = 25      /* the greatest there is */
} cueball_cause;

CUEBALL_API const char *cueball_cause_name(int cause); /* static */

typedef struct cueball_event {
    cueball_time time;
    int32_t kind;  /* cueball_event_kind; which fields count stands there */
    int32_t error; /* cueball_error */
    int32_t from, to;
    int32_t cause; /* cueball_cause */
    uint32_t slot;
    uint32_t count;
    uint32_t missed; /* events overwritten unread just before this one */
    cueball_handle conn, backend, claim, lease;
    uint64_t user;
} cueball_event;

/* Keeps events of the kinds in `mask` (bit 1 << kind) for
 * cueball_pool_next_event(), the newest `capacity` of them (1 to 2^20; mask 0
 * turns it off).  Unread ones are dropped.  CUEBALL_EINVAL, CUEBALL_ENOMEM. */
CUEBALL_API int cueball_pool_watch(cueball_pool *pool, uint32_t mask, uint32_t capacity);
/* Takes the oldest unread event; false if there is none. */
CUEBALL_API bool cueball_pool_next_event(cueball_pool *pool, cueball_event *event);

/* ------------------------------------------------------------ statistics -- */

/* Fields are uint32_t for what is now, uint64_t for counts since the start,
 * double for milliseconds.  Quantiles are within 5 % of the true value. */
typedef struct cueball_stats {
    uint32_t struct_size;
    uint32_t reserved;
    uint32_t total;      /* slots, all states */
    uint32_t idle;       /* connections at rest */
    uint32_t busy;       /* connections leased */
    uint32_t connecting; /* attempts under way */
    uint32_t backing_off;
    uint32_t checking;
    uint32_t closing;
    uint32_t waiting;  /* claims in the queue */
    uint32_t backends; /* known, dead ones included */
    uint32_t dead_backends;
    uint32_t waiting_max; /* most claims that ever waited at once */
    uint32_t ejected_backends;
    uint32_t target;     /* slots there should be, by the last plan */
    uint32_t overloaded; /* 1 while overload lasts */
    uint64_t claims;     /* asked for */
    uint64_t granted;    /* answered with a connection */
    uint64_t granted_at_once;
    uint64_t claim_timeouts;
    uint64_t claims_refused; /* for any other reason */
    uint64_t claims_cancelled;
    uint64_t released;
    uint64_t leases_closed;  /* by the claimer */
    uint64_t leases_failed;  /* by the claimer */
    uint64_t leases_revoked; /* by the pool: owner gone, drain time over */
    uint64_t attempts;       /* to open */
    uint64_t opened;
    uint64_t open_failures; /* attempts that failed */
    uint64_t open_timeouts; /* attempts given up at their limit */
    uint64_t lost;          /* connections that broke once open */
    uint64_t closed;        /* CLOSE actions issued */
    uint64_t checks;
    uint64_t checks_failed; /* timed out ones included */
    uint64_t plans;
    uint64_t shuffles;
    uint64_t backend_deaths;
    uint64_t ejections;
    double wait_ms_p50, wait_ms_p90, wait_ms_p99, wait_ms_p999, wait_ms_max;           /* of granted claims */
    double lease_ms_p50, lease_ms_p90, lease_ms_p99, lease_ms_p999, lease_ms_max;      /* of ended leases */
    double create_ms_p50, create_ms_p90, create_ms_p99, create_ms_p999, create_ms_max; /* of attempts that opened */
    uint32_t paused;                                                                   /* 1 while the pool is paused */
    uint32_t drained_backends;                                                         /* known ones */
} cueball_stats;

CUEBALL_API void cueball_pool_stats(const cueball_pool *pool, cueball_stats *stats);

/* Those that are now, in O(1). */
typedef struct cueball_counts {
    uint32_t idle, busy, connecting, backing_off, waiting, backends, dead_backends; /* as in cueball_stats */
} cueball_counts;

CUEBALL_API void cueball_pool_counts(const cueball_pool *pool, cueball_counts *counts);

typedef enum cueball_measure {
    CUEBALL_MEASURE_WAIT = 0,  /* of granted claims */
    CUEBALL_MEASURE_LEASE = 1, /* of ended leases */
    CUEBALL_MEASURE_CREATE = 2 /* of attempts that opened */
} cueball_measure;

/* How many connections were closed for this cueball_cause; 0 for what is none. */
CUEBALL_API uint64_t cueball_pool_closed_by(const cueball_pool *pool, int cause);

/* The q-quantile (0 to 1) of a cueball_measure, in milliseconds; 0 where nothing was measured, or for what is none. */
CUEBALL_API double cueball_pool_quantile(const cueball_pool *pool, int measure, double q);

/* How many claims were refused with this cueball_error; 0 for what is none. */
CUEBALL_API uint64_t cueball_pool_refused_by(const cueball_pool *pool, int error);
/* How many times a backend was found dead for this cueball_cause, of the last attempt; 0 for what is none. */
CUEBALL_API uint64_t cueball_pool_deaths_by(const cueball_pool *pool, int cause);
/* A cueball_measure as a histogram that can be added to those of other pools: counts[i] becomes how many took
 * bounds_ms[i] milliseconds at most, counted since the pool began; of what is no measure all is 0.  There are `count`
 * bounds, which ascend.  Values are known to 1/32 of themselves, and count as the largest that they may have been.  *sum_ms
 * becomes the sum of all, exact for leases, else right to 1/32.  Returns how many there are.  Counts and sum never fall. */
CUEBALL_API uint64_t cueball_pool_histogram(const cueball_pool *pool, int measure, const double *bounds_ms, uint64_t *counts,
                                            uint32_t count, double *sum_ms);

/* ---------------------------------------------------------- explanations -- */

/* What kept a claim waiting. */
typedef enum cueball_reason {
    CUEBALL_REASON_BUSY = 0,        /* every connection was leased, and there could be no more */
    CUEBALL_REASON_GROWING = 1,     /* every connection was leased, and more were opening */
    CUEBALL_REASON_CHURN = 2,       /* more would have been opened but for max_churn_rate */
    CUEBALL_REASON_CONNECTING = 3,  /* none was open, attempts were under way */
    CUEBALL_REASON_BACKOFF = 4,     /* none was open, and attempts paused */
    CUEBALL_REASON_CHECKING = 5,    /* those open were being checked */
    CUEBALL_REASON_CLOSING = 6,     /* those open were being closed */
    CUEBALL_REASON_PLANNING = 7,    /* backends were known, slots not yet made */
    CUEBALL_REASON_NO_BACKENDS = 8, /* none was known */
    CUEBALL_REASON_FORGOTTEN = 9,   /* too long ago to be on record */
    CUEBALL_REASON_STALLED = 10,    /* the host stood still: it came back to the pool so much later than its deadline */
    CUEBALL_REASON_PAUSED = 11,     /* the pool was paused */
    CUEBALL_REASON_DRAINED = 12     /* every backend was drained */
} cueball_reason;

CUEBALL_API const char *cueball_reason_name(int reason); /* "busy"; static */

typedef struct cueball_wait {
    int32_t reason; /* cueball_reason */
    int32_t reserved;
    cueball_time span; /* ns */
} cueball_wait;

/* What held a claim that waited from `begun` to `ended`, in order, into at most
 * `room` of `waits`; returns how many.  The spans add up to the whole wait, unless
 * `room` was too small.  Ask soon: the last 64 changes are on record. */
CUEBALL_API uint32_t cueball_pool_explain(const cueball_pool *pool, cueball_time begun, cueball_time ended, cueball_wait *waits,
                                          uint32_t room);

/* ---------------------------------------------------------------- memory -- */

/* Memory the pool holds, in bytes. */
CUEBALL_API size_t cueball_pool_memory(const cueball_pool *pool);

/* ------------------------------------------------------------------- p2c -- */

/* What the balance p2c knows of one backend, to balance what no pool holds: all
 * zero at first, changed by these functions only.  Times are in ns, of one clock.
 * Pure: no pool needed. */
typedef struct cueball_latency {
    double average;          /* peak EWMA of what went well, ns, as of average_at */
    double failing;          /* share that failed, 0 to 1, as of failing_at */
    cueball_time average_at; /* the last that went well */
    cueball_time failing_at; /* the last that ended */
    uint64_t leased_sum;     /* when those under way began, added up modulo 2^64 */
    uint32_t leased;         /* how many are under way */
} cueball_latency;

/* One is under way since `began`; and no longer (there must be one that is).  How
 * it went is said with the next two, or not at all if that tells nothing. */
CUEBALL_API void cueball_latency_began(cueball_latency *latency, cueball_time began);
CUEBALL_API void cueball_latency_ended(cueball_latency *latency, cueball_time began);
CUEBALL_API void cueball_latency_observed(cueball_latency *latency, cueball_time now, cueball_time took); /* it went well */
CUEBALL_API void cueball_latency_failed(cueball_latency *latency, cueball_time now, cueball_time took);   /* it did not */
/* The share that is expected to go well, 0 to 1. */
CUEBALL_API double cueball_latency_success_rate(const cueball_latency *latency, cueball_time now);
/* Of two drawn at random: whether the next goes to `other` rather than to `first`.
 * Weights are 1 and up. */
CUEBALL_API bool cueball_latency_is_better(const cueball_latency *other, uint32_t other_weight, const cueball_latency *first,
                                           uint32_t first_weight, cueball_time now);

/* ---------------------------------------------------------------- health -- */

/* Whether one backend that no pool holds is alive, or dead and left alone for a
 * while: by the recovery that a pool's connections have, in the same code.  All
 * zero at first: alive; changed by these functions only.  Times are in ns, of one
 * clock.  Pure: no pool needed. */
typedef struct cueball_health {
    cueball_time retry_at; /* dead: it may be tried from then on */
    cueball_time pause;    /* the last one */
    uint32_t failures;     /* in a row */
    uint32_t pauses;       /* in a row */
    bool is_dead;
} cueball_health;

/* It failed.  With the failure number `attempts` in a row it is dead: left alone
 * for a pause of delay_ms, twice that after the next failure, up to max_delay_ms,
 * changed by chance as `jitter` says.  What fails before retry_at began before it
 * died, and is counted only.  `chance` is drawn by the caller: 0 <= chance < 1.
 * True: it was alive and is dead now. */
CUEBALL_API bool cueball_health_failed(cueball_health *health, const cueball_recovery *recovery, cueball_time now, double chance);
/* It worked, so it is alive.  True: it was dead. */
CUEBALL_API bool cueball_health_worked(cueball_health *health);

#ifdef __cplusplus
}
#endif

#endif
