/* The data of a DNS tracker, and what its files share.  They stand above this one in
 * this order, and none calls what is above it (spec/core/layers_spec.lua):
 *
 *     text       names and addresses as text
 *     candidate  which of the names that a short one may stand for is asked
 *     accepted   which records of an answer count
 *     lookup     one lookup: its states and its questions
 *     name       the names whose addresses are followed
 *     srv        the targets: of the SRV answer, or the domain
 *     schedule   what comes of a lookup, and when it is asked again
 *     search     how the candidate is found that has records
 *     failure    whether the backends can be found, and in words why not
 *     attempt    servers asked in turn, and what they say
 *     publish    the union of all addresses, and what changed of it
 *     action     what the host is to do; numbers
 *     options check
 *     tracker    birth and end; the public facts: each begins and ends here
 *
 * The happy path: the SRV lookup is due and gives targets; each target has a name,
 * each name one lookup for A and one for AAAA; their addresses are the backends.
 * Then every lookup is due again when its own answer expires, whatever the others
 * do.  What can go wrong stands at the functions of schedule.c. */
#ifndef CUEBALL_CORE_TRACKER_STATE_H
#define CUEBALL_CORE_TRACKER_STATE_H

#include "cueball_tracker.h"
#include "internal.h"

#include "kit/list.h"
#include "kit/memory.h"
#include "kit/backoff.h"
#include "kit/random.h"
#include "kit/sized.h"
#include "kit/table.h"
#include "kit/timers.h"

#define CUEBALL__LABEL_MAX 63
#define CUEBALL__NAME_MAX 253   /* octets, without the final dot */
#define CUEBALL__NAME_TEXT 2100 /* characters: each octet may be "\ddd", and a service stands before */
#define CUEBALL__ADDRESS_TEXT 48
#define CUEBALL__SERVERS_MAX 64
#define CUEBALL__HOPS_MAX 16        /* CNAMEs */
#define CUEBALL__NOWHERE UINT32_MAX /* no candidate was found yet */
#define CUEBALL__VOTES_MAX 4        /* different rcodes in one attempt; more do not vote */
#define CUEBALL__TRACKED_MAX 65536  /* backends */
#define CUEBALL__MESSAGE 512

#define CUEBALL__SECOND UINT64_C(1000000000)
#define CUEBALL__PENALTY (30 * CUEBALL__SECOND)        /* how long a server that failed stands behind */
#define CUEBALL__RECHECK_FIRST (1 * CUEBALL__SECOND)   /* the pause after the first failure; doubled with each */
#define CUEBALL__TTL_UNKNOWN (60 * CUEBALL__SECOND)    /* negative answers without a TTL */
#define CUEBALL__NEGATIVE_MAX (3600 * CUEBALL__SECOND) /* of addresses */
#define CUEBALL__PUT_OFF (1 * CUEBALL__SECOND)         /* for want of memory */
#define CUEBALL__GRACE (CUEBALL__SECOND / 20)          /* how long what is known waits for the rest (RFC 8305, 3) */
#define CUEBALL__LISTENS 8 /* an answer counts for so many times as long as it is waited for, while the round lasts */
#define CUEBALL__JITTER_MAX (CUEBALL__SECOND / 2) /* so that the pool follows within TTL + 1 s */

/* timer.kind */
enum { CUEBALL__TIMER_LOOKUP = 1, CUEBALL__TIMER_PUBLISH = 2, CUEBALL__TIMER_GRACE = 3 };

/* Why a server was of no help: a cueball_silence, or this. */
enum { CUEBALL__LAME = 6 };

/* A set of addresses of one family, sorted; or, with none, that there is none.
 * One block with its strings. */
typedef struct cueball__addresses {
    size_t size; /* of the block */
    uint32_t count, ttl /* seconds, as received */;
    uint32_t rcode;
    bool is_additional;
    const char *name, *owner, *server;
    unsigned char at[][16];
} cueball__addresses;

typedef enum cueball__lookup_state {
    CUEBALL__LOOKUP_OFF = 0,     /* not wanted: family off, or the addresses came with the SRV answer */
    CUEBALL__LOOKUP_IDLE = 1,    /* until it is due */
    CUEBALL__LOOKUP_WAITING = 2, /* for max_dns_concurrency */
    CUEBALL__LOOKUP_ASKING = 3,
    CUEBALL__LOOKUP_PAUSING = 4, /* between two attempts */
    CUEBALL__LOOKUP_STALLED = 5, /* until there are nameservers */
    CUEBALL__LOOKUP_HELD = 6     /* nothing at this candidate; until the other family has its answer */
} cueball__lookup_state;
#define CUEBALL__LOOKUP_STATES 7

/* What came of a lookup at the candidate that a walk is at. */
typedef enum cueball__said {
    CUEBALL__SAID_NOTHING = 0,
    CUEBALL__SAID_NODATA = 1,
    CUEBALL__SAID_NXDOMAIN = 2,
    CUEBALL__SAID_FAILED = 3
} cueball__said;

/* Which of its candidates a name is; A and AAAA share one. */
typedef struct cueball__search {
    uint32_t chosen;        /* where there were records last; CUEBALL__NOWHERE: nowhere yet */
    uint32_t at;            /* while it walks: the candidate it is at */
    bool is_walking;        /* from the first candidate on */
    cueball_time better_at; /* when candidates before the chosen one are looked at again */
} cueball__search;

typedef struct cueball__vote {
    uint16_t rcode;
    uint8_t count, server; /* the first that said so */
} cueball__vote;

typedef struct cueball__lookup {
    struct cueball__name *name; /* NULL: the SRV lookup */
    uint32_t type;              /* cueball_rr_type */
    uint8_t state;
    bool is_decided;    /* ever: answered, negative, or given up */
    bool has_stumbled;  /* a question of it failed */
    bool has_failed;    /* it was given up last */
    bool saw_nodata;    /* this round: a search candidate exists, but has no such records */
    bool stumbles_here; /* a question of it failed at this candidate */
    uint8_t said;       /* cueball__said */
    uint8_t server;     /* asked */
    uint32_t attempt;
    uint32_t turn;             /* this attempt: the server to begin with */
    cueball_time negative_ttl; /* this round: the least of the candidates that gave nothing; 0: none said */
    uint64_t tried;            /* this attempt: servers asked, a bit each */
    uint32_t causes;           /* this attempt: why they were of no help, a bit each */
    cueball__vote votes[CUEBALL__VOTES_MAX];
    cueball_time due;   /* idle: when it would be, but for tracker->hold */
    uint32_t rechecks;  /* failures, and answers not accepted, since there were records last */
    bool was_found;     /* there were records once */
    bool is_hastened;   /* idle: its next time is that of a recheck, whatever the TTL */
    cueball_time pause; /* the last one */
    cueball__timer timer;
    cueball__link at_state; /* in the list of its state: waiting: tracker->waiting; stalled: tracker->stalled */
    struct cueball__question *question;
    cueball__link late;      /* questions that are waited for no longer, whose answers still count */
    cueball__addresses *set; /* what is known; SRV: only who told, and for how long */
    char *message;           /* has_failed: how; NULL without memory */
    char *alias;             /* what the name led to by CNAME, where there was nothing; NULL: to nothing, or no memory */
} cueball__lookup;

/* One question to one server. */
typedef struct cueball__question {
    cueball__member member;
    bool is_told; /* the ASK was taken */
    bool is_late; /* another server is asked by now, or none */
    uint8_t server;
    cueball__lookup *lookup; /* NULL: to be forgotten */
    cueball_time deadline;   /* of the answer */
    cueball__link at_state;  /* in tracker->asks, tracker->forgets or lookup->late */
} cueball__question;

/* A name whose addresses are followed, for as long as a target has it. */
typedef struct cueball__name {
    struct cueball__name *same_bucket;
    uint32_t hash, references;
    bool is_domain;                 /* searched for; not in the table */
    bool is_fed;                    /* the last SRV answer had its addresses */
    cueball__search search;         /* of the domain */
    cueball__lookup lookups[2];     /* A, AAAA */
    cueball__addresses *offered[2]; /* while an SRV answer is read: what came along; else NULL */
    size_t size;
    char text[];
} cueball__name;

typedef struct cueball__target {
    cueball__name *name;
    uint32_t port, priority, weight;
} cueball__target;

typedef enum cueball__pending {
    CUEBALL__TELL_NONE = 0,
    CUEBALL__TELL_ADD = 1,
    CUEBALL__TELL_CHANGE = 2,
    CUEBALL__TELL_REMOVE = 3
} cueball__pending;

/* A backend as it was told of, or is about to be.  One block with its strings. */
typedef struct cueball__tracked {
    size_t size;
    cueball__link at_state;     /* in tracker->news or tracker->removals, by `pending` */
    cueball_time missing_since; /* the answers lack it, but it is kept; 0: they do not */
    uint8_t pending;
    bool is_gone;      /* its removal was told: to be swept out */
    bool is_of_domain; /* not of an SRV target */
    unsigned char address[16];
    struct cueball__tracked *successor; /* while a change is put together */
    cueball_tracked facts;
} cueball__tracked;

typedef struct cueball__server {
    const char *text;
    cueball_time behind_until; /* it failed: asked after those that did not */
} cueball__server;

struct cueball_tracker {
    cueball__memory memory;
    cueball_tracker_options options; /* its strings are in `strings` */
    char *strings;
    size_t strings_size;
    cueball__backoff backoff, backoff_srv;
    cueball_time min_ttl, max_ttl, max_recheck, keep_missing, now;
    cueball__random random;
    cueball__timers timers;
    uint32_t families; /* in use */
    uint32_t domain_dots, srv_dots;
    const char **search; /* one block with its texts */
    size_t search_size;
    uint32_t search_count, ndots, no_tld_query;

    cueball__server *servers; /* one block with its texts */
    size_t servers_size;
    uint32_t servers_n, turn;

    cueball__table questions;
    cueball__link asks, forgets, waiting, stalled;

    cueball__name **buckets; /* of names; a power of two */
    uint32_t buckets_n, names_n;
    cueball__name *domain;    /* followed; NULL: it is not */
    cueball__target *targets; /* sorted by name and port */
    uint32_t targets_n, targets_max;

    cueball__lookup srv;
    cueball__search srv_search;
    cueball_time hold; /* addresses are not asked for before; 0: no matter */
    int32_t targets_from;
    bool has_seen_srv, has_no_service;

    /* Of the lookups of names that are not off: */
    uint32_t on, undecided, fresh, failed;   /* all; not decided; and without a failed question; given up */
    uint32_t states[CUEBALL__LOOKUP_STATES]; /* SRV too */

    bool is_stale; /* the union has to be worked out */
    bool has_news; /* addresses came since it was */
    bool is_grace_over;
    bool has_deferred; /* what it lacks is not told yet, since not every lookup is decided */
    bool is_empty;     /* it was, once everything was decided */
    bool was_busy;     /* something was asked since the last SETTLE */
    bool is_failing, is_told_failing, tells_failure, tells_settle;
    bool has_left;  /* a lookup was stopped, see cueball__search_left() */
    bool is_judged; /* nothing happened since is_failing was worked out that would change it */
    char message[CUEBALL__MESSAGE], told_message[CUEBALL__MESSAGE]; /* of FAIL: as it is, and as the host knows it */
    cueball__timer publish_again, grace;
    cueball_time missing_until; /* the first that is missing is kept until then */

    cueball__tracked **backends; /* sorted by key */
    uint32_t backends_n, backends_max, gone;
    cueball__link news, removals;
    char text[CUEBALL__NAME_TEXT]; /* the name of the last ASK */
    cueball_tracker_stats counters;
};

static inline cueball_time cueball__later(cueball_time now, cueball_time span)
{
    return span < CUEBALL_NEVER - now ? now + span : CUEBALL_NEVER;
}

static inline uint32_t cueball__family_of(uint32_t type)
{
    return type == CUEBALL_RR_A ? CUEBALL_FAMILY_IPV4 : CUEBALL_FAMILY_IPV6;
}

static inline cueball__lookup *cueball__name_lookup(cueball__name *name, uint32_t type)
{
    return &name->lookups[type == CUEBALL_RR_AAAA];
}

/* text.c.  A final dot and the case of letters do not matter. */
size_t cueball__name_length(const char *name); /* without the final dot */
int cueball__name_compare(const char *a, const char *b);
uint32_t cueball__name_hash(const char *name);
bool cueball__name_is_within(const char *name, const char *zone); /* or is the same */
/* False unless it is 1 and more labels of 1 to 63 octets; the length is in octets, without the final dot. */
bool cueball__name_measure(const char *name, uint32_t *octets, uint32_t *dots);
void cueball__address_write(uint32_t type, const unsigned char *address, char *text, size_t size);

/* name.c */
cueball__name *cueball__name_find(const cueball_tracker *tracker, const char *text);
/* The name, made if need be, with one reference more; NULL without memory.  Its
 * lookups are off until cueball__name_arrange(). */
cueball__name *cueball__name_acquire(cueball_tracker *tracker, const char *text);
cueball__name *cueball__domain_acquire(cueball_tracker *tracker);
void cueball__name_release(cueball_tracker *tracker, cueball__name *name);
/* Turns its lookups on and off, as families and additionals have it. */
void cueball__name_arrange(cueball_tracker *tracker, cueball__name *name);
void cueball__names_arrange(cueball_tracker *tracker);
void cueball__names_free(cueball_tracker *tracker);

/* lookup.c */
void cueball__lookup_init(cueball__lookup *lookup, cueball__name *name, uint32_t type);
void cueball__lookup_begin(cueball_tracker *tracker, cueball__lookup *lookup); /* a round, now */
void cueball__lookup_stop(cueball_tracker *tracker, cueball__lookup *lookup);  /* off */
void cueball__lookup_rest(cueball_tracker *tracker, cueball__lookup *lookup, cueball_time due);
void cueball__lookup_alias(cueball_tracker *tracker, cueball__lookup *lookup, const char *alias); /* NULL: none */
void cueball__lookup_put_off(cueball_tracker *tracker, cueball__lookup *lookup);                  /* for want of memory */
void cueball__lookup_mark(cueball_tracker *tracker, cueball__lookup *lookup, bool is_decided, bool has_failed);
void cueball__lookup_set(cueball_tracker *tracker, cueball__lookup *lookup, cueball__lookup_state state);
void cueball__lookup_stumble(cueball_tracker *tracker, cueball__lookup *lookup, bool has_stumbled);
void cueball__lookup_queue(cueball_tracker *tracker, cueball__lookup *lookup);
void cueball__question_end(cueball_tracker *tracker, cueball__question *question, bool is_forgotten);
void cueball__question_set_aside(cueball_tracker *tracker, cueball__question *question);
void cueball__questions_forget(cueball_tracker *tracker, cueball__lookup *lookup);
void cueball__lookup_restart(cueball_tracker *tracker, cueball__lookup *lookup); /* at its candidate, from whatever state but off */
void cueball__lookup_hold(cueball_tracker *tracker, cueball__lookup *lookup);
void cueball__search_begin(cueball_tracker *tracker, cueball__lookup *lookup); /* of a round */
/* Addresses are kept, and not asked for, until this moment. */
void cueball__hold_until(cueball_tracker *tracker, cueball_time moment);
const cueball__backoff *cueball__lookup_backoff(const cueball_tracker *tracker, const cueball__lookup *lookup);

/* attempt.c */
void cueball__lookups_serve(cueball_tracker *tracker);                       /* those who wait, as far as concurrency allows */
void cueball__lookup_due(cueball_tracker *tracker, cueball__lookup *lookup); /* its timer came */
/* What came of a question of it: the question is over. */
void cueball__lookup_silent(cueball_tracker *tracker, cueball__question *question, int silence);
int cueball__lookup_answered(cueball_tracker *tracker, cueball__question *question, const cueball_answer *answer);
void cueball__servers_changed(cueball_tracker *tracker, const cueball__server *old, uint32_t old_n);

/* failure.c */
/* vote: the response code it is given up for; NULL: there is none. */
void cueball__failure_write(const cueball_tracker *tracker, const cueball__lookup *lookup, const cueball__vote *vote, char *message,
                            size_t size);
/* Works out whether the backends can be found. */
void cueball__failure_judge(cueball_tracker *tracker);

/* candidate.c */
cueball__lookup *cueball__search_partner(const cueball__lookup *lookup);
uint32_t cueball__candidates_count(const cueball_tracker *tracker, const cueball__lookup *lookup);
uint32_t cueball__candidate_find(const cueball_tracker *tracker, const cueball__lookup *lookup, uint32_t from);
/* The name of the candidate it is at; "" if it has none. */
void cueball__lookup_name(const cueball_tracker *tracker, const cueball__lookup *lookup, char *text, size_t size);
/* What it is about, whatever search added; without the final dot. */
void cueball__lookup_subject(const cueball_tracker *tracker, const cueball__lookup *lookup, char *text, size_t size);
cueball__search *cueball__search_of(cueball_tracker *tracker, const cueball__lookup *lookup);
bool cueball__search_looks(const cueball_tracker *tracker, const cueball__lookup *lookup); /* at a better candidate than the chosen one */
/* When it is asked again at the latest, however long its answer holds: better candidates are looked at now and then. */
cueball_time cueball__search_due(cueball_tracker *tracker, cueball__lookup *lookup, cueball_time due);

/* search.c */
/* There is nothing: rcode NOERROR or NXDOMAIN; ttl 0: unknown.  CUEBALL_ENOMEM: put it off. */
int cueball__search_absent(cueball_tracker *tracker, cueball__lookup *lookup, uint32_t rcode, cueball_time ttl);
void cueball__search_found(cueball_tracker *tracker, cueball__lookup *lookup);  /* there are records */
void cueball__search_failed(cueball_tracker *tracker, cueball__lookup *lookup); /* it was given up */
/* A question failed.  True: that is enough, and the lookup is at another candidate or done. */
bool cueball__search_stumbled(cueball_tracker *tracker, cueball__lookup *lookup);
void cueball__search_left(cueball_tracker *tracker);
/* Whatever was found is looked for from the first candidate on. */
void cueball__searches_anew(cueball_tracker *tracker);

/* accepted.c */
typedef struct cueball__accepted {
    const cueball_answer *answer;
    const char *chain[CUEBALL__HOPS_MAX + 1]; /* the name asked and what follows from it */
    uint32_t chain_n;
    uint32_t chain_ttl; /* the least; UINT32_MAX: no CNAME */
    uint32_t count;     /* records of the type asked that count */
    uint32_t ttl;       /* the least of those and of the chain */
    uint32_t negative_ttl;
    bool has_negative_ttl;
} cueball__accepted;

bool cueball__answer_is_sound(const cueball_answer *answer);
void cueball__accepted_read(cueball__accepted *accepted, const char *name, uint32_t type, const cueball_answer *answer);
bool cueball__accepted_has(const cueball__accepted *accepted, const cueball_record *record, uint32_t type);
uint32_t cueball__ttl_of(uint32_t ttl); /* RFC 2181, 8 */
/* How many of the answer's records are of nobody asked for. */
uint32_t cueball__accepted_foreign(const cueball__accepted *accepted, bool (*is_known)(const void *user, const char *owner),
                                   const void *user);
/* NULL without memory. */
cueball__addresses *cueball__addresses_from(cueball_tracker *tracker, const cueball__accepted *accepted, uint32_t type, const char *name,
                                            const char *server);
cueball__addresses *cueball__addresses_new(cueball_tracker *tracker, uint32_t count, const char *name, const char *owner,
                                           const char *server);
void cueball__addresses_finish(cueball__addresses *set); /* sorted, each once */
void cueball__addresses_free(cueball_tracker *tracker, cueball__addresses *set);
/* Takes the place of what the lookup knew; the union is worked out if it differs. */
void cueball__addresses_replace(cueball_tracker *tracker, cueball__lookup *lookup, cueball__addresses *set);

/* schedule.c */
int cueball__schedule_records(cueball_tracker *tracker, cueball__lookup *lookup, const cueball__accepted *accepted);
/* Both: CUEBALL_ENOMEM, and then nothing has changed.
 * rcode: NOERROR (no such records), NXDOMAIN, NOTIMP; ttl in ns, 0: unknown. */
int cueball__schedule_negative(cueball_tracker *tracker, cueball__lookup *lookup, uint32_t rcode, cueball_time ttl);
void cueball__schedule_failed(cueball_tracker *tracker, cueball__lookup *lookup, const char *message);
/* The next time it is asked: after `ttl`, between min_ttl and `most`, and a little later by chance. */
cueball_time cueball__next_time(cueball_tracker *tracker, const cueball__lookup *lookup, cueball_time ttl, cueball_time most);
/* While nothing is known, or what is known is kept against the answers, every lookup is asked again soon. */
void cueball__recheck(cueball_tracker *tracker);

/* srv.c */
/* *ttl: in seconds, the least of the records and of the additionals that are used.
 * CUEBALL_EINVAL: there is no target but addresses.  CUEBALL_ENOMEM. */
int cueball__srv_records(cueball_tracker *tracker, const cueball__accepted *accepted, const char *server, uint32_t *ttl);
/* The domain itself is the only target.  False without memory. */
bool cueball__srv_fall_back(cueball_tracker *tracker, int32_t from);
/* The target of that name and port, or NULL. */
const cueball__target *cueball__target_find(const cueball_tracker *tracker, const char *name, uint32_t port);
void cueball__targets_free(cueball_tracker *tracker);

/* publish.c */
void cueball__publish(cueball_tracker *tracker);
void cueball__tracked_free(cueball_tracker *tracker, cueball__tracked *tracked);
int cueball__tracked_compare(const cueball__tracked *a, const cueball__tracked *b);
void cueball__backends_sweep(cueball_tracker *tracker);

/* options.c: the options as this version knows them; false as cueball__sized_read(). */
bool cueball__tracker_options_read(cueball_tracker_options *options, const cueball_tracker_options *given);

/* tracker.c */
void cueball__tracker_begin(cueball_tracker *tracker, cueball_time now);
void cueball__tracker_settle(cueball_tracker *tracker);

#endif
