/* A host in C for the specs of pools for threads: one thread that does what a pool wants, and misbehaves on demand.
 * Connections are socket pairs, or nothing but a pointer.  Every choice it makes comes from its seed. */
#ifndef FAULTY_HOST_H
#define FAULTY_HOST_H

#include "cueball.h"
#include "cueball_threaded.h"
#include "kit.h"

enum { HOLDER_NONE = 0, HOLDER_GONE = 1 }; /* HOLDER_GONE: its claimer may end while it has the connection */

/* What claimers get: its address as pointer, or its descriptor. */
typedef struct faulty_conn {
    _Atomic uint64_t holder; /* who has it; claimers set and clear it */
    uint64_t uses;           /* not atomic on purpose: handing a connection on has to order this */
    int32_t fd, far;         /* far: the end of "the server"; -1: none */
    uint64_t number;
    /* Of the host alone: */
    cueball_handle conn;
    cueball_time due; /* of the attempt */
    bool fails;       /* the attempt */
    bool is_open, is_orphan;
    struct faulty_conn *next;
} faulty_conn;

typedef struct faulty_options {
    uint64_t seed;
    const char *name;      /* to publish under; may be NULL */
    uint32_t backends;     /* at first, up to FAULTY_BACKENDS */
    bool has_descriptors;  /* else connections are a pointer only */
    bool inspects, clocks; /* as cueball_threaded_options */
    uint32_t turn_leases;
    double turn_ms;
    double open_ms; /* attempts take up to that */
    /* Shares of what is done: */
    double open_fails, open_hangs, check_fails, inspection_fails;
    /* A second, each kind: */
    double breaks, stray_bytes, backend_changes, option_changes, own_claims;
    cueball_options pool;
} faulty_options;

enum { FAULTY_BACKENDS = 6 };

void faulty_options_init(faulty_options *options);

typedef struct faulty_host faulty_host;

/* Starts the thread; the pool is there, its connections may not be yet. */
faulty_host *faulty_host_start(const faulty_options *options, counted_memory *memory);
/* The result of cueball_threaded_new() where that fails: then the host is NULL. */
faulty_host *faulty_host_try(const faulty_options *options, counted_memory *memory, int *result);
cueball_threaded *faulty_host_pool(faulty_host *host); /* borrowed */
/* From now on no faults, and nothing is changed any more. */
void faulty_host_calm(faulty_host *host);
/* Waits until so many connections are at rest (spec's patience: 30 s). */
void faulty_host_await_idle(faulty_host *host, uint32_t idle);
/* Begins to stop the pool: returns at once. */
void faulty_host_stop(faulty_host *host);
/* Lets go of the pool though claimers wait and have leases: returns at once. */
void faulty_host_abandon(faulty_host *host);
/* Waits for the end of the host's thread; `stats` (may be NULL): the last there were. */
void faulty_host_join(faulty_host *host, cueball_stats *stats);
/* How often the host got what it asked for itself. */
uint64_t faulty_host_own_grants(const faulty_host *host);
/* After join, when no claimer has a lease any more. */
void faulty_host_free(faulty_host *host);

/* The calling thread takes the lease's connection in use: nobody else may have it. */
faulty_conn *lease_take(const cueball_lease *lease, uint64_t token);
/* And is about to give it back. */
void lease_leave(faulty_conn *conn, uint64_t token);

#endif
