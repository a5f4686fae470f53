/* What several threads did with one pool, and whether one pool that does one thing after the other could have answered so.
 *
 * Each operation has a stamp from before it and one from after it, out of one counter.  What an operation did, it did at one
 * moment between the two, so that of two operations the one that was over before the other began came first; of others
 * nothing is known.  The checks look for what no choice of moments explains (such patterns are complete for locks, as
 * each lease is another one: see "Aspect-oriented linearizability proofs", Henzinger, Sezgin, Vafeiadis 2013). */
#ifndef HISTORY_H
#define HISTORY_H

#include "kit.h"

typedef enum operation_kind { OPERATION_CLAIM, OPERATION_TRY, OPERATION_END } operation_kind;

typedef struct operation {
    int32_t kind;   /* operation_kind */
    int32_t result; /* of the call */
    uint64_t invoked, answered;
    uint64_t lease; /* claims that were granted, and ends: unique; the upper half is the claimer */
    uint64_t conn;  /* likewise: the number of the connection */
    double timeout_ms, took_ms;
    double began_ms, over_ms; /* ends: when, between `invoked` and `answered` and around the call */
} history_operation;

/* How many claims waited, by the pool's own word, at some moment between two stamps. */
typedef struct sample {
    uint64_t before, after;
    uint32_t waiting;
    double ms; /* when, of any clock */
} history_sample;

typedef struct history {
    history_operation *operations; /* in any order */
    uint32_t operations_n;
    history_sample *samples; /* in order */
    uint32_t samples_n;
    uint64_t stamps;      /* all are below */
    uint32_t connections; /* open all the time; 0: they come and go */
    /* What turns allow, else 0: */
    double overtaking_ms; /* releases may keep a connection from one that waits for so long */
    double idle_ms;       /* and a connection be kept for a thread that does not claim it, while others wait */
} history_record;

typedef struct history_found {
    uint32_t overtaken_most; /* how many overtook one claim */
    uint32_t waited_surely;  /* claims that were seen to wait twice */
    uint32_t tries_refused;  /* that were looked at */
    double idle_ms_most;     /* while a claim waited */
} history_found;

/* Sorts the operations.  False: `text` says what cannot have been. */
bool history_check(history_record *history, history_found *found, char *text, size_t size);

#endif
