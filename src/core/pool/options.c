/* The options as data: name, kind, range, default.  Everything that reads,
 * checks, lists or explains options goes by this table. */
#include "options.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define DAY_MS 86400000.0
#define NONE true

#define FIRST CUEBALL__END_OF(cueball_options, recovery_connect)

#define AT(member) (uint32_t) offsetof(cueball_options, member)
#define COUNT(text, member, low, high, value, none)                                                                                        \
    {                                                                                                                                      \
        text, NULL, CUEBALL_OPTION_COUNT, AT(member), low, high, value, none                                                               \
    }
#define DURATION(text, member, low, value, none)                                                                                           \
    {                                                                                                                                      \
        text, NULL, CUEBALL_OPTION_DURATION, AT(member), low, DAY_MS, value, none                                                          \
    }
#define CHOICE(text, member, names, last)                                                                                                  \
    {                                                                                                                                      \
        text, names, CUEBALL_OPTION_CHOICE, AT(member), 0, last, 0, false                                                                  \
    }
#define RECOVERY(operation)                                                                                                                \
    COUNT("recovery." #operation ".attempts", recovery_##operation.attempts, 1, 1000, 3, false),                                           \
        DURATION("recovery." #operation ".timeout_ms", recovery_##operation.timeout_ms, 0.001, 2000, false),                               \
        DURATION("recovery." #operation ".max_timeout_ms", recovery_##operation.max_timeout_ms, 0.001, DAY_MS, false),                     \
        DURATION("recovery." #operation ".delay_ms", recovery_##operation.delay_ms, 0, 100, false),                                        \
        DURATION("recovery." #operation ".max_delay_ms", recovery_##operation.max_delay_ms, 0, DAY_MS, false),                             \
        { "recovery." #operation ".spread", NULL, CUEBALL_OPTION_FRACTION, AT(recovery_##operation.spread), 0, 1, 0.2, false },            \
        CHOICE("recovery." #operation ".jitter", recovery_##operation.jitter, "spread full decorrelated", 2)

static const cueball_option all[] = {
    COUNT("max_connections", max_connections, 1, 1000000, 10, false),
    COUNT("max_waiters", max_waiters, 0, 2000000, INFINITY, NONE),
    DURATION("claim_timeout_ms", claim_timeout_ms, 0, INFINITY, NONE),
    DURATION("rebalance_delay_ms", rebalance_delay_ms, 0, 100, false),
    DURATION("decoherence_interval_ms", decoherence_interval_ms, 0, 300000, false),
    DURATION("check_interval_ms", check_interval_ms, 0, 30000, false),
    DURATION("check_timeout_ms", check_timeout_ms, 0.001, 5000, false),
    DURATION("idle_timeout_ms", idle_timeout_ms, 0, 0, false),
    DURATION("max_lifetime_ms", max_lifetime_ms, 0, 0, false),
    { "lifetime_spread", NULL, CUEBALL_OPTION_FRACTION, AT(lifetime_spread), 0, 1, 0.1, false },
    COUNT("max_uses", max_uses, 1, 4000000000.0, INFINITY, NONE),
    DURATION("drain_timeout_ms", drain_timeout_ms, 0, 30000, false),
    COUNT("spares", spares, 0, 1000000, INFINITY, NONE),
    CHOICE("balance", balance, "fifo lifo p2c", 2),
    CHOICE("queue", queue, "fifo codel adaptive_lifo", 2),
    CHOICE("priorities", priorities, "strict ignored", 1),
    DURATION("target_claim_delay_ms", target_claim_delay_ms, 0, 0, false),
    DURATION("proven_after_ms", proven_after_ms, 0, 0, false),
    { "max_churn_rate", NULL, CUEBALL_OPTION_RATE, AT(max_churn_rate), 0.001, 1e6, INFINITY, NONE },
    DURATION("slow_start_ms", slow_start_ms, 0, 0, false),
    COUNT("outlier.consecutive", outlier.consecutive, 0, 1000000, 0, false),
    DURATION("outlier.interval_ms", outlier.interval_ms, 1, 10000, false),
    DURATION("outlier.ejection_ms", outlier.ejection_ms, 1, 30000, false),
    { "outlier.max_ejected", NULL, CUEBALL_OPTION_FRACTION, AT(outlier.max_ejected), 0, 1, 0.1, false },
    RECOVERY(default),
    RECOVERY(initial),
    RECOVERY(connect),
};

#define ALL_COUNT (sizeof all / sizeof *all)

bool cueball_option_describe(uint32_t index, cueball_option *option)
{
    if (index >= ALL_COUNT)
        return false;
    *option = all[index];
    return true;
}

static void option_write(cueball_options *options, const cueball_option *option, double value)
{
    void *place = (char *)options + option->offset;
    switch ((cueball_option_kind)option->kind) {
    case CUEBALL_OPTION_COUNT:
        *(uint32_t *)place = isinf(value) ? UINT32_MAX : (uint32_t)value;
        break;
    case CUEBALL_OPTION_CHOICE:
        *(int32_t *)place = (int32_t)value;
        break;
    case CUEBALL_OPTION_DURATION:
    case CUEBALL_OPTION_FRACTION:
    case CUEBALL_OPTION_RATE:
        *(double *)place = value;
        break;
    }
}

static double option_read(const cueball_options *options, const cueball_option *option)
{
    const void *place = (const char *)options + option->offset;
    switch ((cueball_option_kind)option->kind) {
    case CUEBALL_OPTION_COUNT:
        return *(const uint32_t *)place == UINT32_MAX ? (double)INFINITY : (double)*(const uint32_t *)place;
    case CUEBALL_OPTION_CHOICE:
        return *(const int32_t *)place;
    default:
        return *(const double *)place;
    }
}

static void options_default(cueball_options *options)
{
    memset(options, 0, sizeof *options);
    for (size_t i = 0; i < ALL_COUNT; i++)
        option_write(options, &all[i], all[i].initial);
    options->struct_size = (uint32_t)sizeof *options;
}

void cueball_options_init_sized(cueball_options *options, uint32_t struct_size)
{
    cueball_options whole;
    options_default(&whole);
    cueball__sized_init(options, struct_size, &whole, sizeof whole);
}

/* The options as this version knows them; false: struct_size is none, or something
 * unknown is set. */
bool cueball__options_read(cueball_options *options, const cueball_options *given)
{
    options_default(options);
    return given && cueball__sized_read(options, sizeof *options, FIRST, given);
}

/* What is done again and again, 0 for never: more often than each millisecond is a
 * mistake that would leave time for nothing else. */
static int period_check(const cueball_option *option, double value, char *text, size_t size)
{
    static const char *const periods[] = { "decoherence_interval_ms", "check_interval_ms", "idle_timeout_ms", "max_lifetime_ms" };
    for (size_t i = 0; i < sizeof periods / sizeof *periods; i++) {
        if (strcmp(option->name, periods[i]) != 0 || value <= 0 || value * CUEBALL__NS_PER_MS >= (double)CUEBALL__PERIOD_MIN)
            continue;
        if (text && size)
            snprintf(text, size, "option '%s' must be 0, or at least 1 (milliseconds), not %.15g", option->name, value);
        return CUEBALL_EINVAL;
    }
    return CUEBALL_OK;
}

static int option_check(const cueball_options *options, const cueball_option *option, char *text, size_t size)
{
    double value = option_read(options, option);
    if (isinf(value) && value > 0 && option->may_be_none)
        return CUEBALL_OK;
    if (value >= option->min && value <= option->max) /* false for NaN */
        return period_check(option, value, text, size);
    if (!text || !size)
        return CUEBALL_EINVAL;
    if (option->kind == CUEBALL_OPTION_CHOICE)
        snprintf(text, size, "option '%s' must be one of: %s", option->name, option->choices);
    else
        snprintf(text, size, "option '%s' must be %s from %.15g to %.15g%s, not %.15g", option->name,
                 option->kind == CUEBALL_OPTION_COUNT ? "a whole number" : "a number", option->min, option->max,
                 option->kind == CUEBALL_OPTION_DURATION ? " (milliseconds)"
                 : option->kind == CUEBALL_OPTION_RATE   ? " (per second)"
                                                         : "",
                 value);
    return CUEBALL_EINVAL;
}

static int recovery_check(const cueball_recovery *recovery, const char *operation, char *text, size_t size)
{
    const char *name = NULL, *least = NULL;
    double is = 0, bound = 0;
    if (recovery->max_timeout_ms < recovery->timeout_ms) {
        name = "max_timeout_ms", least = "timeout_ms";
        is = recovery->max_timeout_ms, bound = recovery->timeout_ms;
    } else if (recovery->max_delay_ms < recovery->delay_ms) {
        name = "max_delay_ms", least = "delay_ms";
        is = recovery->max_delay_ms, bound = recovery->delay_ms;
    }
    if (!name)
        return CUEBALL_OK;
    if (text && size)
        snprintf(text, size, "option 'recovery.%s.%s' must be at least %s (%.15g), not %.15g", operation, name, least, bound, is);
    return CUEBALL_EINVAL;
}

int cueball_options_check(const cueball_options *given, char *text, size_t size)
{
    cueball_options whole, *options = &whole;
    if (!cueball__options_read(options, given)) {
        if (text && size)
            snprintf(text, size, given ? "struct_size must be 0, or at least %zu without anything set beyond %zu" : "there are no options",
                     FIRST, sizeof whole);
        return CUEBALL_EINVAL;
    }
    int result = CUEBALL_OK;
    for (size_t i = 0; i < ALL_COUNT && result == CUEBALL_OK; i++)
        result = option_check(options, &all[i], text, size);
    if (result == CUEBALL_OK && options->has_check != 0 && options->has_check != 1) {
        if (text && size)
            snprintf(text, size, "has_check must be 0 or 1");
        result = CUEBALL_EINVAL;
    }
    if (result == CUEBALL_OK && options->queue != CUEBALL_QUEUE_FIFO && options->target_claim_delay_ms <= 0) {
        if (text && size)
            snprintf(text, size, "option 'queue' codel and adaptive_lifo need option 'target_claim_delay_ms'");
        result = CUEBALL_EINVAL;
    }
    if (result == CUEBALL_OK)
        result = recovery_check(&options->recovery_default, "default", text, size);
    if (result == CUEBALL_OK)
        result = recovery_check(&options->recovery_connect, "connect", text, size);
    if (result == CUEBALL_OK)
        result = recovery_check(&options->recovery_initial, "initial", text, size);
    return result;
}

void cueball__settings_from(cueball__settings *settings, const cueball_options *options)
{
    *settings = (cueball__settings){ .claim_timeout = cueball__ns_from_ms(options->claim_timeout_ms),
                                     .rebalance_delay = cueball__ns_from_ms(options->rebalance_delay_ms),
                                     .decoherence_interval = cueball__ns_from_ms(options->decoherence_interval_ms),
                                     .check_interval = cueball__ns_from_ms(options->check_interval_ms),
                                     .check_timeout = cueball__ns_from_ms(options->check_timeout_ms),
                                     .idle_timeout = cueball__ns_from_ms(options->idle_timeout_ms),
                                     .max_lifetime = cueball__ns_from_ms(options->max_lifetime_ms),
                                     .drain_timeout = cueball__ns_from_ms(options->drain_timeout_ms),
                                     .target_claim_delay = cueball__ns_from_ms(options->target_claim_delay_ms),
                                     .proven_after = cueball__ns_from_ms(options->proven_after_ms),
                                     .slow_start = cueball__ns_from_ms(options->slow_start_ms),
                                     .churn_gap = isinf(options->max_churn_rate) ? 0 : (cueball_time)(1e9 / options->max_churn_rate),
                                     .outlier_interval = cueball__ns_from_ms(options->outlier.interval_ms),
                                     .outlier_ejection = cueball__ns_from_ms(options->outlier.ejection_ms),
                                     .standard = cueball__backoff_from(&options->recovery_default),
                                     .initial = cueball__backoff_from(&options->recovery_initial),
                                     .connect = cueball__backoff_from(&options->recovery_connect) };
}
