/* What the invariant checks say of the first rule that does not hold. */
#ifndef CUEBALL_CORE_DISAGREEMENT_H
#define CUEBALL_CORE_DISAGREEMENT_H

#include "cueball_types.h"

#include <stdarg.h>
#include <stdio.h>

typedef struct disagreement {
    char *text; /* may be NULL */
    size_t size;
} disagreement;

static int __attribute__((format(printf, 2, 3))) disagree(const disagreement *report, const char *format, ...)
{
    if (report->text && report->size) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(report->text, report->size, format, arguments);
        va_end(arguments);
    }
    return CUEBALL_EINVAL;
}

/* In a function that has `report`. */
#define MUST(condition, ...)                                                                                                               \
    do {                                                                                                                                   \
        if (!(condition))                                                                                                                  \
            return disagree(report, #condition ": " __VA_ARGS__);                                                                          \
    } while (0)

#endif
