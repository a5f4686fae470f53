/* What all of cueball's headers share: time, handles, errors, memory, recovery.
 * The others include it.
 *
 * Structs that may get more members in a later version begin with `struct_size`,
 * and grow at their end only.  It says how much of the struct its user knows:
 * sizeof of it, or 0, which stands for the members of the first version.  So a
 * struct that is zeroed but for what its user cares for is well:
 *
 *     cueball_backend_spec spec = { .key = "db1", .address = "10.0.0.1", .port = 5432 };
 *
 * Of a struct that is handed in, members beyond struct_size have their defaults, and
 * members that the library does not know must be 0: else CUEBALL_EINVAL, which a
 * struct_size below that of the first version is, too.  A struct that comes out is
 * filled in as far as struct_size goes, so it has to be set, or zeroed, before.
 *
 * Threads: the functions of this header may be called from any thread at any time. */
#ifndef CUEBALL_TYPES_H
#define CUEBALL_TYPES_H

#ifndef CUEBALL_CDEF
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#endif

#if defined CUEBALL_CDEF
#define CUEBALL_API
#elif defined _WIN32
#define CUEBALL_API
#else
#define CUEBALL_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- basics -- */

typedef uint64_t cueball_time; /* nanoseconds, monotonic */

/* Index and generation in one number below 2^53, so that a double holds it
 * exactly.  0 is never a handle.  A handle whose time is over is refused with
 * CUEBALL_ESTALE wherever it is given; it never means something else. */
typedef uint64_t cueball_handle;

#ifndef CUEBALL_CDEF
#define CUEBALL_NEVER UINT64_MAX /* a deadline that does not come */
#endif

/* Numbers and names are stable; messages may be reworded. */
typedef enum cueball_error {
    CUEBALL_OK = 0,
    CUEBALL_EINVAL = -1,         /* "invalid": an argument is out of range */
    CUEBALL_ENOMEM = -2,         /* "no_memory": the allocator returned NULL */
    CUEBALL_ESTALE = -3,         /* "stale": the handle's time is over */
    CUEBALL_ECLAIM_TIMEOUT = -4, /* "claim_timeout": no connection in time */
    CUEBALL_EOVERLOADED = -5,    /* "overloaded": max_waiters wait already, or `queue` refuses those that waited long */
    CUEBALL_ENO_BACKENDS = -6,   /* "no_backends": and error_on_empty asked */
    CUEBALL_EPOOL_FAILED = -7,   /* "pool_failed": every backend is dead */
    CUEBALL_EPOOL_STOPPING = -8, /* "pool_stopping": stop() was called */
    CUEBALL_EEXISTS = -9,        /* "exists": the backend is known already */
    CUEBALL_ENOT_FOUND = -10,    /* "not_found": no such backend */
    CUEBALL_ECANCELLED = -11,    /* "cancelled": the claimer's owner is gone; of bindings, never of the core */
    CUEBALL_EDEADLOCK = -12,     /* "deadlock": claims wait for each other's leases; of bindings, never of the core */
    CUEBALL_ESCRIPT = -13,       /* "script": a script could not be loaded, or raised an error; never of the core */
    CUEBALL_EFORKED = -14,       /* "forked": what was made before a fork is not for the child; never of the core */
    CUEBALL_EUNSUPPORTED = -15,  /* "unsupported": the connection cannot be handed to threads; never of the core */
    CUEBALL_EPAUSED = -16        /* "paused": the pool is paused, and the claim may not wait */
} cueball_error;

/* "claim_timeout"; "waiting" for CUEBALL_WAITING; "unknown" for a number that is not an error.  Static. */
CUEBALL_API const char *cueball_error_name(int error);
/* A sentence without a full stop, for people.  Static. */
CUEBALL_API const char *cueball_error_message(int error);

/* All memory of a pool comes from here.  allocate() returns memory that is aligned
 * for any type, as malloc() does, or NULL: the input that needed it then fails with
 * CUEBALL_ENOMEM or is put off, and the pool goes on.  release() gets what allocate()
 * gave, with its size, in bytes.  Both are called within functions of the pool only,
 * in their thread, and must not call the pool. */
typedef struct cueball_allocator {
    void *user;
    void *(*allocate)(void *user, size_t size);
    void (*release)(void *user, void *memory, size_t size);
} cueball_allocator;

/* malloc() and free(): a convenience outside the core.  Static. */
CUEBALL_API const cueball_allocator *cueball_allocator_libc(void);
/* The machine's monotonic clock in nanoseconds: likewise outside the core. */
CUEBALL_API cueball_time cueball_clock_now(void);
/* "1.2.3" of the library, which is not always that of the header.  Static. */
CUEBALL_API const char *cueball_version(void);

/* -------------------------------------------------------------- recovery -- */

/* How chance enters a pause of nominally d, see "Exponential Backoff And Jitter"
 * (M. Brooker, AWS, 2015). */
typedef enum cueball_jitter {
    CUEBALL_JITTER_SPREAD = 0,      /* d +- spread/2 */
    CUEBALL_JITTER_FULL = 1,        /* 0 to d */
    CUEBALL_JITTER_DECORRELATED = 2 /* delay_ms to 3 times the last pause */
} cueball_jitter;

/* How often and how patiently one operation is tried.  Attempt k (from 1) may
 * take min(timeout_ms * 2^(k-1), max_timeout_ms); after it failed comes a pause
 * of min(delay_ms * 2^(k-1), max_delay_ms), changed by chance as jitter says. */
typedef struct cueball_recovery {
    uint32_t attempts;     /* 1 to 1000: then the backend counts as dead */
    double timeout_ms;     /* 0.001 to one day */
    double max_timeout_ms; /* timeout_ms to one day */
    double delay_ms;       /* 0 to one day */
    double max_delay_ms;   /* delay_ms to one day */
    double spread;         /* 0 to 1, a fraction */
    int32_t jitter;        /* cueball_jitter */
    int32_t reserved;
} cueball_recovery;

/* ------------------------------------------------------------------- ABI -- */

/* One member of one struct of these headers as the library was compiled, for
 * bindings that have to be sure; member "" is the struct itself.  Written by the
 * build from them. */
typedef struct cueball_layout {
    const char *type;
    const char *member;
    uint32_t offset, size;
} cueball_layout;

/* Number `index`, from 0; false beyond the last. */
CUEBALL_API bool cueball_layout_at(uint32_t index, cueball_layout *layout);

#ifdef __cplusplus
}
#endif

#endif
