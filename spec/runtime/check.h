/* For the programs of these specs: says what did not hold, and ends the process. */
#ifndef SPEC_RUNTIME_CHECK_H
#define SPEC_RUNTIME_CHECK_H

#include "cueball_runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                                                   \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            fprintf(stderr, "%s:%d: %s; last error: %s\n", __FILE__, __LINE__, #condition, cueball_last_error());                          \
            exit(1);                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

/* A call that returns 0. */
#define WELL(call) CHECK((call) == CUEBALL_OK)

/* A call that fails with this error; its text stays in cueball_last_error(). */
#define FAILS(error, call) CHECK((call) == (error))

/* Whether the last error's text has this in it. */
#define SAYS(text) CHECK(strstr(cueball_last_error(), (text)) != NULL)

static inline cueball_runtime *start_text(const char *text)
{
    cueball_runtime_options options = { .text = text };
    cueball_runtime *runtime;
    WELL(cueball_runtime_start(&options, &runtime));
    return runtime;
}

static inline cueball_runtime *start_file(const char *file, const char *const *arguments, int count)
{
    cueball_runtime_options options = { .file = file, .arguments = arguments, .argument_count = (uint32_t)count };
    cueball_runtime *runtime;
    WELL(cueball_runtime_start(&options, &runtime));
    return runtime;
}

static inline cueball_threaded *pool_of(cueball_runtime *runtime, const char *name)
{
    cueball_threaded *pool;
    WELL(cueball_runtime_pool(runtime, name, &pool));
    return pool;
}

#endif
