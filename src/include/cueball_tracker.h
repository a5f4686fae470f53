/* The DNS tracker: where the nodes of a service are, by DNS, and where they are
 * now.  A state machine like the pool: it does no I/O.  You ask for it what it
 * wants asked, and tell it what came back; it tells you which backends there
 * are.
 *
 *     cueball_tracker_new(&options, cueball_allocator_libc(), seed, now, &tracker);
 *     cueball_tracker_nameservers_replaced(tracker, now, servers, 2);
 *     for (;;) {
 *         while (cueball_tracker_next_action(tracker, &action))
 *             ...ASK: send the question; ADD, REMOVE: pass it on...
 *         ...wait for an answer, until cueball_tracker_deadline(tracker)...
 *         cueball_tracker_answered(tracker, now, question, &answer);
 *         cueball_tracker_time_advanced(tracker, now);
 *     }
 *
 * Threads, time and results are as in cueball.h.
 * Names are text as in a zone file: labels and dots, "\." for a dot within a
 * label, "\ddd" for any other octet; compared without case (RFC 4343).
 */
#ifndef CUEBALL_TRACKER_H
#define CUEBALL_TRACKER_H

#include "cueball_types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cueball_tracker cueball_tracker;

/* Types of records (RFC 1035, 3596, 2782).  Others are passed over. */
typedef enum cueball_rr_type {
    CUEBALL_RR_A = 1,
    CUEBALL_RR_CNAME = 5,
    CUEBALL_RR_SOA = 6,
    CUEBALL_RR_AAAA = 28,
    CUEBALL_RR_SRV = 33
} cueball_rr_type;

CUEBALL_API const char *cueball_rr_name(uint32_t type); /* "SRV"; "other"; static */

/* Response codes (RFC 1035, 2136). */
typedef enum cueball_rcode {
    CUEBALL_RCODE_NOERROR = 0,
    CUEBALL_RCODE_FORMERR = 1,
    CUEBALL_RCODE_SERVFAIL = 2,
    CUEBALL_RCODE_NXDOMAIN = 3,
    CUEBALL_RCODE_NOTIMP = 4,
    CUEBALL_RCODE_REFUSED = 5
} cueball_rcode;

CUEBALL_API const char *cueball_rcode_name(uint32_t rcode); /* "NXDOMAIN"; "other"; static */

typedef enum cueball_section { CUEBALL_SECTION_ANSWER = 0, CUEBALL_SECTION_AUTHORITY = 1, CUEBALL_SECTION_ADDITIONAL = 2 } cueball_section;

typedef struct cueball_record {
    const char *name;                /* its owner */
    const char *target;              /* CNAME, SRV; else NULL */
    uint32_t type;                   /* cueball_rr_type */
    uint32_t section;                /* cueball_section */
    uint32_t ttl;                    /* seconds; over 2^31-1 is taken as 0 (RFC 2181, 8) */
    uint32_t minimum;                /* SOA: seconds */
    uint32_t priority, weight, port; /* SRV: up to 65535 */
    unsigned char address[16];       /* A: the first 4; AAAA */
} cueball_record;

/* A response to a question, of the server asked and with the question asked:
 * whoever reads the bytes has made sure of that.  Which of the records count is
 * the tracker's to judge. */
typedef struct cueball_answer {
    uint32_t rcode; /* cueball_rcode, or another number */
    uint32_t count;
    const cueball_record *records;
    uint32_t is_referral; /* not 0: NOERROR with nothing but NS, of a server that neither has the zone nor asks others */
} cueball_answer;

/* Why no answer came from one server. */
typedef enum cueball_silence {
    CUEBALL_SILENCE_TIMEOUT = 0, /* nothing came in time */
    CUEBALL_SILENCE_NETWORK = 1, /* it cannot be reached, or closed the connection */
    CUEBALL_SILENCE_GARBAGE = 2, /* what came cannot be read */
    CUEBALL_SILENCE_REFUSED = 3, /* nobody listens there */
    CUEBALL_SILENCE_CUT = 4,     /* the answer did not fit, and could not be had over TCP */
    CUEBALL_SILENCE_LOCAL = 5    /* it was not asked: this host has no descriptors or memory left */
} cueball_silence;

typedef enum cueball_family { CUEBALL_FAMILY_IPV4 = 1, CUEBALL_FAMILY_IPV6 = 2 } cueball_family; /* to be added up */

/* Strings are copied. */
typedef struct cueball_tracker_options {
    uint32_t struct_size;
    uint32_t reserved;
    const char *domain;        /* 1 to 253 octets, a name; with a final dot it is not searched for */
    const char *service;       /* "_http._tcp"; NULL: SRV is not asked for */
    const char *const *search; /* domains to look in (resolv.conf(5)); may be NULL */
    uint32_t search_count;
    uint32_t ndots;               /* names with fewer dots are looked for in `search` first */
    uint32_t no_tld_query;        /* not 0: one without a dot is looked for in `search` only */
    uint32_t default_port;        /* of backends that SRV does not name; 0 to 65535 */
    uint32_t max_dns_concurrency; /* questions under way at once; 1 to 1000 */
    uint32_t families;            /* CUEBALL_FAMILY_IPV4, _IPV6, or both */
    uint32_t rotate;              /* not 0: nameservers take turns; else the first that answers is kept to */
    double min_ttl_ms;            /* what is known is kept so long at least; 1 to one day */
    double max_ttl_ms;            /* and at most; min_ttl_ms to 30 days */
    double keep_missing_ms;       /* a backend is kept until the answers lack it for so long; 0 to one day */
    double max_recheck_ms;        /* after a failure: from one second on, doubled, the next question comes so late at most; 1 to one day */
    cueball_recovery recovery_dns, recovery_dns_srv;
} cueball_tracker_options;

/* Fills in every default; domain and service are NULL.  There is no other way to
 * begin: an option that is 0 where that is out of range is refused by its name. */
CUEBALL_API void cueball_tracker_options_init_sized(cueball_tracker_options *options, uint32_t struct_size);
#ifndef CUEBALL_CDEF
static inline void cueball_tracker_options_init(cueball_tracker_options *options)
{
    cueball_tracker_options_init_sized(options, (uint32_t)sizeof *options);
}
#endif

/* CUEBALL_EINVAL if a value is out of range; `text` (may be NULL) then says
 * which and what its range is, cut to `size` bytes with the final NUL. */
CUEBALL_API int cueball_tracker_options_check(const cueball_tracker_options *options, char *text, size_t size);

/* A new tracker in *tracker, to be freed with cueball_tracker_free().  Allocator and
 * seed are as for cueball_pool_new().  It asks nothing before it has nameservers.
 * CUEBALL_EINVAL (see cueball_tracker_options_check), CUEBALL_ENOMEM. */
CUEBALL_API int cueball_tracker_new(const cueball_tracker_options *options, const cueball_allocator *allocator, uint64_t seed,
                                    cueball_time now, cueball_tracker **tracker);
/* NULL is allowed.  Questions under way are the caller's to forget. */
CUEBALL_API void cueball_tracker_free(cueball_tracker *tracker);

/* ---------------------------------------------------------------- inputs -- */

/* These are the nameservers now, in order of preference; the texts are handed
 * back in ASK and otherwise not looked at, each 1 to 255 bytes; 64 at most.  None:
 * questions fail until there are some.  Questions under way at one that is gone are given
 * up and asked anew.  CUEBALL_EINVAL, CUEBALL_ENOMEM. */
CUEBALL_API int cueball_tracker_nameservers_replaced(cueball_tracker *tracker, cueball_time now, const char *const *servers,
                                                     uint32_t count);
/* The host has addresses of these families; not more than the options allow are
 * used.  Addresses of a family that went stay out until it is back.  Always 0. */
CUEBALL_API int cueball_tracker_families_changed(cueball_tracker *tracker, cueball_time now, uint32_t families);
/* What came back for a question; it is read during the call only.  CUEBALL_ESTALE: it
 * is not waited for any more.  CUEBALL_EINVAL: an answer that no server can give (NULL
 * where a name must be).  CUEBALL_ENOMEM: taken for no answer; what is known stays. */
CUEBALL_API int cueball_tracker_answered(cueball_tracker *tracker, cueball_time now, cueball_handle question, const cueball_answer *answer);
/* Nothing came back for a question, and why: a cueball_silence.  CUEBALL_ESTALE: it is
 * not waited for any more.  CUEBALL_EINVAL: `silence` is none. */
CUEBALL_API int cueball_tracker_unanswered(cueball_tracker *tracker, cueball_time now, cueball_handle question, int silence);
/* Everything known is as if expired: it is asked for again now.  Always 0. */
CUEBALL_API int cueball_tracker_expired(cueball_tracker *tracker, cueball_time now);
/* None of the backends works: likewise, and what was searched for is looked for
 * from the first candidate on.  Rate-limiting is the caller's.  Always 0. */
CUEBALL_API int cueball_tracker_backends_failed(cueball_tracker *tracker, cueball_time now);
/* The search list, ndots and no_tld_query are these now (see the options): if any
 * is another, names are searched for anew; what is known stays meanwhile.
 * CUEBALL_EINVAL, CUEBALL_ENOMEM: nothing has changed. */
CUEBALL_API int cueball_tracker_search_replaced(cueball_tracker *tracker, cueball_time now, const char *const *search, uint32_t count,
                                                uint32_t ndots, uint32_t no_tld_query);
CUEBALL_API int cueball_tracker_time_advanced(cueball_tracker *tracker, cueball_time now); /* always 0 */
/* When to call that at the latest; CUEBALL_NEVER: no need. */
CUEBALL_API cueball_time cueball_tracker_deadline(cueball_tracker *tracker);

/* --------------------------------------------------------------- actions -- */

typedef enum cueball_tracker_action_kind {
    CUEBALL_TRACKER_NONE = 0,
    CUEBALL_TRACKER_ASK = 1,     /* ask `server` for `type` of `name`: report answered or unanswered */
    CUEBALL_TRACKER_FORGET = 2,  /* `question` is not waited for any more; report nothing */
    CUEBALL_TRACKER_ADD = 3,     /* `backend` is there */
    CUEBALL_TRACKER_CHANGE = 4,  /* its name, weight or priority is another now */
    CUEBALL_TRACKER_REMOVE = 5,  /* it is gone */
    CUEBALL_TRACKER_FAIL = 6,    /* the backends cannot be found: `message`; those told of stay */
    CUEBALL_TRACKER_RECOVER = 7, /* they can be again */
    CUEBALL_TRACKER_SETTLE = 8   /* nothing is asked, waits or pauses any more: every lookup has its outcome until its next time */
} cueball_tracker_action_kind;

/* Where the list of targets is from. */
typedef enum cueball_targets_from {
    CUEBALL_TARGETS_DOMAIN = 0,   /* no SRV asked for: the domain itself */
    CUEBALL_TARGETS_SRV = 1,      /* an SRV answer */
    CUEBALL_TARGETS_NXDOMAIN = 2, /* the domain itself, since the SRV name does not exist, */
    CUEBALL_TARGETS_NODATA = 3,   /* has no SRV records, */
    CUEBALL_TARGETS_NOTIMP = 4    /* or the server knows no SRV */
} cueball_targets_from;

/* Why a backend is gone. */
typedef enum cueball_removal {
    CUEBALL_REMOVAL_NONE = 0,
    CUEBALL_REMOVAL_TARGET = 1,    /* its target is not in the SRV answer any more */
    CUEBALL_REMOVAL_ADDRESS = 2,   /* its address is not in the answer any more */
    CUEBALL_REMOVAL_NAME = 3,      /* its name has no such address any more, or does not exist */
    CUEBALL_REMOVAL_FAMILY = 4,    /* the host has no addresses of its family any more */
    CUEBALL_REMOVAL_NO_SERVICE = 5 /* the SRV answer says ".": there is no such service (RFC 2782) */
} cueball_removal;

/* A backend with what produced it.  The strings live until the next input, or
 * the next call of cueball_tracker_next_action(). */
typedef struct cueball_tracked {
    const char *address;             /* "10.0.0.1", "2001:db8::1" (RFC 5952) */
    const char *name;                /* the SRV target, or the domain as it was found */
    const char *owner;               /* of the address record: `name`, or the end of its CNAME chain */
    const char *server;              /* who told the address; "" if unknown */
    const char *srv_name;            /* targets_from other than DOMAIN: the name asked for SRV; else "" */
    const char *srv_server;          /* and who told; "" if nobody did */
    uint32_t port, priority, weight; /* weight: 1 to 65535, see cueball_tracker_next_action() */
    uint32_t type;                   /* CUEBALL_RR_A or _AAAA */
    uint32_t ttl, srv_ttl;           /* seconds, as received */
    int32_t targets_from;            /* cueball_targets_from */
    int32_t removal;                 /* REMOVE: cueball_removal; `server` is then who told that */
    bool is_additional;              /* the address came along with the SRV answer */
} cueball_tracked;

typedef struct cueball_tracker_action {
    int32_t kind;            /* cueball_tracker_action_kind */
    uint32_t type;           /* ASK: cueball_rr_type */
    cueball_handle question; /* ASK, FORGET */
    cueball_time deadline;   /* ASK: an answer is of no use any more; the tracker asks elsewhere before that */
    const char *name;        /* ASK */
    const char *server;      /* ASK */
    const char *message;     /* FAIL */
    cueball_tracked backend; /* ADD, CHANGE, REMOVE */
} cueball_tracker_action;

/* Takes the next thing to do into *action; false if there is none.
 *
 * What is added comes before what is removed, so that a service that changed all
 * of its addresses is never without any.  A backend is an address with a port:
 * told of by several SRV records it has the best priority among them, and the
 * weights of that priority together.  SRV weight 0 counts as 1. */
CUEBALL_API bool cueball_tracker_next_action(cueball_tracker *tracker, cueball_tracker_action *action);

/* Backend number `index` as it was last told of, or is about to be, from 0; false
 * beyond the last.  One whose REMOVE was not taken yet is among them.  The strings
 * live as long as those of an action. */
CUEBALL_API bool cueball_tracker_backend_at(const cueball_tracker *tracker, uint32_t index, cueball_tracked *backend);

/* ------------------------------------------------------------ statistics -- */

/* uint32_t: now; uint64_t: since the start. */
typedef struct cueball_tracker_stats {
    uint32_t struct_size;
    uint32_t reserved;
    uint32_t targets, names, backends;          /* names: those whose addresses are followed */
    uint32_t asking;                            /* questions under way */
    uint32_t waiting;                           /* for max_dns_concurrency */
    uint32_t failing;                           /* 1 between FAIL and RECOVER */
    uint64_t questions;                         /* to one server each */
    uint64_t answers;                           /* of any response code */
    uint64_t timeouts, network_errors, garbage; /* network_errors: REFUSED, CUT and LOCAL too; garbage: referrals too */
    uint64_t retries;                           /* attempts after the first */
    uint64_t given_up;                          /* lookups that had no answer in all attempts */
    uint64_t records_ignored;                   /* not of the name asked, its chain, or an SRV target */
    uint64_t targets_refused;                   /* SRV targets that are written as addresses (RFC 2782 has names) */
    uint64_t backends_added, backends_removed;
    uint64_t srv_failures; /* of given_up: SRV */
    uint64_t empty_sets;   /* how often nothing was left and the previous backends were kept */
} cueball_tracker_stats;

CUEBALL_API void cueball_tracker_stats_of(const cueball_tracker *tracker, cueball_tracker_stats *stats);

/* Memory the tracker holds, in bytes. */
CUEBALL_API size_t cueball_tracker_memory(const cueball_tracker *tracker);

#ifdef __cplusplus
}
#endif

#endif
