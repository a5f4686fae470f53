/* What a thread asks of the runtime's thread, and waits for.  A request belongs to the two of them: whoever is done with it last frees it. */
#ifndef CUEBALL_RUNTIME_REQUEST_H
#define CUEBALL_RUNTIME_REQUEST_H

#include "cueball_types.h"

#include <stdbool.h>

typedef struct cueball__request {
    struct cueball__request *next;
    const char *kind; /* static: "start", "stop", "set" … */
    uint32_t number;
    char *first, *second; /* its arguments; NULL: none */
    double value;
    int result; /* the answer: 0 or an error */
    char *text; /* what was asked for, or why not; NULL: nothing to be said */
    bool is_taken, is_answered, is_abandoned;
} cueball__request;

/* Copies the arguments.  NULL: no memory. */
cueball__request *cueball__request_new(const char *kind, const char *first, const char *second, double value);
void cueball__request_free(cueball__request *request);

struct cueball_runtime;

/* With the lock: has the thread find it, whatever comes first, it or cueball__request_ask(). */
void cueball__request_append(struct cueball_runtime *runtime, cueball__request *request);

/* Has the thread told, and waits for the answer.
 * limit_ms: how long; more than 0.
 * 0 or what was answered; CUEBALL_ESCRIPT: no answer in time; CUEBALL_EPOOL_STOPPING: the runtime is over.  Errors leave their text
 * in cueball_last_error(), and *text NULL; else that is what was answered, the caller's.  `text` may be NULL. */
int cueball__request_ask(struct cueball_runtime *runtime, cueball__request *request, double limit_ms, char **text);

/* Of the thread: the next request that it has not seen; NULL: none. */
cueball__request *cueball__request_take(struct cueball_runtime *runtime);
/* Answers the request of this number.
 * false: whoever asked has gone meanwhile. */
bool cueball__request_answer(struct cueball_runtime *runtime, uint32_t number, int result, const char *text);
/* The thread is over: answers those that wait for that, and refuses all others.  With the lock held. */
void cueball__request_answer_all(struct cueball_runtime *runtime);

#endif
