/* What faulty_host.c and faults.c share. */
#ifndef FAULTY_STATE_H
#define FAULTY_STATE_H

#include "faulty_host.h"

#include <pthread.h>
#include <semaphore.h>

enum { OWN_LEASES = 2, MILLISECOND = 1000000, DESCRIPTORS = 65536 };

typedef enum wish { WISH_NONE, WISH_STOP, WISH_ABANDON } host_wish;

struct faulty_host {
    faulty_options options;
    cueball_threaded *pool;
    counted_memory *memory;
    pthread_t thread;
    sem_t is_made;
    int made; /* result */
    int wake;
    kit_chance chance;
    faulty_conn *conns;
    uint64_t numbers;
    cueball_time last_faults;
    cueball_handle own_claim;
    struct own_lease {
        cueball_handle lease;
        cueball_time until;
    } own[OWN_LEASES];
    uint64_t own_users;
    _Atomic uint64_t own_grants;
    _Atomic int wish;
    _Atomic bool is_calm;
    bool is_stopping, knows_all;
    bool has_backend[FAULTY_BACKENDS];
    cueball_stats last;
};

cueball_backend_spec faulty_backend(unsigned number);
void faulty_conn_hang_up(faulty_conn *conn);
/* The host's own claim was granted. */
void faulty_host_has(faulty_host *host, cueball_handle lease, cueball_time now);
/* The faults that are due; and the end of the host's own leases. */
void faulty_host_misbehave(faulty_host *host, cueball_time now);
void faulty_host_give_back(faulty_host *host, cueball_time now);

#endif
