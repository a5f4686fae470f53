#include "state.h"

#include "cueball.h"
#include "kit/check.h"

#include <string.h>

#define DAY_MS 86400000.0
#define FIRST CUEBALL__END_OF(cueball_tracker_options, recovery_dns_srv)

static void options_default(cueball_tracker_options *options)
{
    cueball_options pool;
    cueball_options_init(&pool);
    memset(options, 0, sizeof *options);
    options->struct_size = (uint32_t)sizeof *options;
    options->ndots = 1;
    options->max_dns_concurrency = 5;
    options->families = CUEBALL_FAMILY_IPV4 | CUEBALL_FAMILY_IPV6;
    options->min_ttl_ms = 1000;
    options->max_ttl_ms = DAY_MS;
    options->keep_missing_ms = 0;
    options->max_recheck_ms = 30000;
    options->recovery_dns = options->recovery_dns_srv = pool.recovery_default;
}

void cueball_tracker_options_init_sized(cueball_tracker_options *options, uint32_t struct_size)
{
    cueball_tracker_options whole;
    options_default(&whole);
    cueball__sized_init(options, struct_size, &whole, sizeof whole);
}

bool cueball__tracker_options_read(cueball_tracker_options *options, const cueball_tracker_options *given)
{
    options_default(options);
    return given && cueball__sized_read(options, sizeof *options, FIRST, given);
}

/* False, with why in the report. */
#define wrong(...) (disagree(__VA_ARGS__) == CUEBALL_OK)

static bool ends_in_ms(const char *name)
{
    size_t length = strlen(name);
    return length > 3 && strcmp(name + length - 3, "_ms") == 0;
}

static bool number_check(const disagreement *report, const char *name, const char *suffix, double value, double min, double max,
                         const char *what)
{
    if (value >= min && value <= max) /* false for NaN */
        return true;
    return wrong(report, "option '%s%s' must be %s from %.15g to %.15g%s, not %.15g", name, suffix, what, min, max,
                 ends_in_ms(suffix[0] ? suffix : name) ? " (milliseconds)" : "", value);
}

static bool recovery_check(const disagreement *report, const char *name, const cueball_recovery *recovery)
{
    const double choices = CUEBALL_JITTER_DECORRELATED;
    return number_check(report, name, ".attempts", recovery->attempts, 1, 1000, "a whole number")
           && number_check(report, name, ".timeout_ms", recovery->timeout_ms, 0.001, DAY_MS, "a number")
           && number_check(report, name, ".max_timeout_ms", recovery->max_timeout_ms, recovery->timeout_ms, DAY_MS, "a number")
           && number_check(report, name, ".delay_ms", recovery->delay_ms, 0, DAY_MS, "a number")
           && number_check(report, name, ".max_delay_ms", recovery->max_delay_ms, recovery->delay_ms, DAY_MS, "a number")
           && number_check(report, name, ".spread", recovery->spread, 0, 1, "a number")
           && number_check(report, name, ".jitter", recovery->jitter, 0, choices, "a whole number");
}

static bool name_check(const disagreement *report, const char *option, const char *name, uint32_t *octets)
{
    uint32_t dots;
    if (strlen(name) < CUEBALL__NAME_TEXT / 2 && cueball__name_measure(name, octets, &dots) && *octets <= CUEBALL__NAME_MAX)
        return true;
    return wrong(report, "option '%s' must be a name of 1 to %d octets, in labels of 1 to %d, not '%.60s%s'", option, CUEBALL__NAME_MAX,
                 CUEBALL__LABEL_MAX, name, strlen(name) > 60 ? "..." : "");
}

static bool names_check(const disagreement *report, const cueball_tracker_options *options)
{
    uint32_t domain = 0, service = 0, octets;
    if (!options->domain)
        return wrong(report, "option 'domain' is needed");
    if (!name_check(report, "domain", options->domain, &domain))
        return false;
    if (options->service) {
        if (!name_check(report, "service", options->service, &service))
            return false;
        if (cueball__name_length(options->service) != strlen(options->service))
            return wrong(report, "option 'service' must not end with a dot");
        if (service + 1 + domain > CUEBALL__NAME_MAX)
            return wrong(report, "options 'service' and 'domain' must have %d octets together at most, not %u", CUEBALL__NAME_MAX,
                         service + 1 + domain);
    }
    if (options->search_count > 0 && !options->search)
        return wrong(report, "option 'search' is missing");
    for (uint32_t i = 0; i < options->search_count; i++) {
        if (!options->search[i])
            return wrong(report, "option 'search' must hold names");
        bool is_root = strcmp(options->search[i], ".") == 0;
        if (!is_root && !name_check(report, "search", options->search[i], &octets))
            return false;
    }
    return true;
}

int cueball_tracker_options_check(const cueball_tracker_options *given, char *text, size_t size)
{
    disagreement told = { text, size };
    cueball_tracker_options known, *options = &known;
    if (!given)
        return disagree(&told, "there are no options");
    if (!cueball__tracker_options_read(options, given))
        return disagree(&told, "struct_size must be 0, or at least %zu without anything set beyond %zu", FIRST, sizeof known);
    const char *whole = "a whole number";
    bool is_right = names_check(&told, options) && number_check(&told, "search", "", options->search_count, 0, 64, "as many names as")
                    && number_check(&told, "default_port", "", options->default_port, 0, 65535, whole)
                    && number_check(&told, "max_dns_concurrency", "", options->max_dns_concurrency, 1, 1000, whole)
                    && number_check(&told, "families", "", options->families, 1, 3, whole)
                    && number_check(&told, "min_ttl_ms", "", options->min_ttl_ms, 1, DAY_MS, "a number")
                    && number_check(&told, "max_ttl_ms", "", options->max_ttl_ms, options->min_ttl_ms, 30 * DAY_MS, "a number")
                    && number_check(&told, "keep_missing_ms", "", options->keep_missing_ms, 0, DAY_MS, "a number")
                    && number_check(&told, "max_recheck_ms", "", options->max_recheck_ms, 1, DAY_MS, "a number")
                    && recovery_check(&told, "recovery.dns", &options->recovery_dns)
                    && recovery_check(&told, "recovery.dns_srv", &options->recovery_dns_srv);
    return is_right ? CUEBALL_OK : CUEBALL_EINVAL;
}
