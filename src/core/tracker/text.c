/* Names and addresses as text.  A name is labels and dots as in a zone file; a
 * final dot changes nothing here: "a.b." and "a.b" are the same. */
#include "state.h"

#include <stdio.h>
#include <string.h>

static unsigned char folded(char c)
{
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

/* Whether the dot at `at` is part of a label: "\." is, "\\." is not. */
static bool dot_is_escaped(const char *text, size_t at)
{
    size_t slashes = 0;
    while (slashes < at && text[at - 1 - slashes] == '\\')
        slashes++;
    return slashes % 2 == 1;
}

size_t cueball__name_length(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && name[length - 1] == '.' && !dot_is_escaped(name, length - 1) ? length - 1 : length;
}

int cueball__name_compare(const char *a, const char *b)
{
    size_t a_length = cueball__name_length(a), b_length = cueball__name_length(b);
    for (size_t i = 0; i < a_length && i < b_length; i++)
        if (folded(a[i]) != folded(b[i]))
            return folded(a[i]) < folded(b[i]) ? -1 : 1;
    return a_length == b_length ? 0 : a_length < b_length ? -1 : 1;
}

/* FNV-1a (G. Fowler, L. C. Noll, K.-P. Vo). */
uint32_t cueball__name_hash(const char *name)
{
    uint32_t hash = 2166136261U;
    size_t length = cueball__name_length(name);
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ folded(name[i])) * 16777619U;
    return hash;
}

bool cueball__name_is_within(const char *name, const char *zone)
{
    size_t length = cueball__name_length(name), suffix = cueball__name_length(zone);
    if (suffix == 0)
        return true;
    if (suffix > length)
        return false;
    size_t begin = length - suffix;
    for (size_t i = 0; i < suffix; i++)
        if (folded(name[begin + i]) != folded(zone[i]))
            return false;
    return begin == 0 || (name[begin - 1] == '.' && !dot_is_escaped(name, begin - 1));
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* How many characters of the text make its first octet; 0: none can. */
static size_t octet_length(const char *text)
{
    if (text[0] != '\\')
        return 1;
    if (!is_digit(text[1]))
        return text[1] ? 2 : 0;
    if (!is_digit(text[2]) || !is_digit(text[3]))
        return 0;
    return (text[1] - '0') * 100 + (text[2] - '0') * 10 + (text[3] - '0') <= 255 ? 4 : 0;
}

bool cueball__name_measure(const char *name, uint32_t *octets, uint32_t *dots)
{
    size_t length = cueball__name_length(name), label = 0;
    *octets = *dots = 0;
    for (size_t i = 0; i < length;) {
        if (name[i] == '.') {
            if (label == 0 || label > CUEBALL__LABEL_MAX)
                return false;
            ++*dots;
            label = 0;
            i++;
        } else {
            size_t step = octet_length(name + i);
            if (step == 0 || i + step > length)
                return false;
            label++;
            i += step;
        }
        ++*octets;
    }
    return length > 0 && label > 0 && label <= CUEBALL__LABEL_MAX;
}

static void ipv4_write(const unsigned char *address, char *text, size_t size)
{
    snprintf(text, size, "%u.%u.%u.%u", address[0], address[1], address[2], address[3]);
}

/* The first of the longest runs of two or more zero groups is "::" (RFC 5952, 4.2). */
static void ipv6_write(const unsigned char *address, char *text, size_t size)
{
    unsigned groups[8], best = 8, best_length = 1;
    for (size_t i = 0; i < 8; i++)
        groups[i] = (unsigned)address[2 * i] << 8 | address[2 * i + 1];
    for (unsigned i = 0; i < 8; i++) {
        unsigned length = 0;
        while (i + length < 8 && groups[i + length] == 0)
            length++;
        if (length > best_length) {
            best = i;
            best_length = length;
        }
    }
    bool is_mapped = best == 0 && best_length == 5 && groups[5] == 0xffff; /* RFC 5952, 5 */
    size_t used = 0;
    for (unsigned i = 0; i < (is_mapped ? 6U : 8U) && used < size; i++) {
        if (i == best) {
            used += (size_t)snprintf(text + used, size - used, "::");
            i += best_length - 1;
            continue;
        }
        bool follows_group = i > 0 && i != best + best_length;
        used += (size_t)snprintf(text + used, size - used, follows_group ? ":%x" : "%x", groups[i]);
    }
    if (is_mapped && used + 1 < size) {
        text[used++] = ':';
        ipv4_write(address + 12, text + used, size - used);
    }
}

void cueball__address_write(uint32_t type, const unsigned char *address, char *text, size_t size)
{
    if (type == CUEBALL_RR_A)
        ipv4_write(address, text, size);
    else
        ipv6_write(address, text, size);
}

const char *cueball_rr_name(uint32_t type)
{
    switch (type) {
    case CUEBALL_RR_A:
        return "A";
    case CUEBALL_RR_CNAME:
        return "CNAME";
    case CUEBALL_RR_SOA:
        return "SOA";
    case CUEBALL_RR_AAAA:
        return "AAAA";
    case CUEBALL_RR_SRV:
        return "SRV";
    default:
        return "other";
    }
}

const char *cueball_rcode_name(uint32_t rcode)
{
    static const char *const names[] = { "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED" };
    return rcode < sizeof names / sizeof *names ? names[rcode] : "other";
}
