/* The servers that are asked: their addresses as text, and which of them are silent
 * to EDNS. */
#define _DEFAULT_SOURCE /* fd_set, which ares.h wants */

#include "dns.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* The link of "fe80::1%eth0", which is cut off there; 0: it has none.  False: there is no such link. */
static bool scope_read(char *address, uint32_t *scope)
{
    char *percent = strchr(address, '%');
    *scope = 0;
    if (!percent)
        return true;
    *percent = 0;
    *scope = if_nametoindex(percent + 1);
    if (*scope == 0)
        *scope = (uint32_t)strtoul(percent + 1, NULL, 10);
    return *scope != 0;
}

bool cueball__dns_server_read(const char *text, struct ares_addr_port_node *server, uint32_t *scope)
{
    enum { PORT_MAX = 65535 };
    const char *colon = strrchr(text, ':');
    if (!colon || colon[1] < '0' || colon[1] > '9')
        return false;
    char *end = NULL;
    long port = strtol(colon + 1, &end, 10);
    if (*end || port < 1 || port > PORT_MAX)
        return false;
    bool is_bracketed = text[0] == '[' && colon > text + 1 && colon[-1] == ']';
    char address[INET6_ADDRSTRLEN + IF_NAMESIZE + 1];
    size_t size = (size_t)(colon - text) - (is_bracketed ? 2 : 0);
    if (size >= sizeof address)
        return false;
    memcpy(address, text + (is_bracketed ? 1 : 0), size);
    address[size] = 0;
    *server = (struct ares_addr_port_node){ .family = is_bracketed ? AF_INET6 : AF_INET, .udp_port = (int)port, .tcp_port = (int)port };
    return scope_read(address, scope) && inet_pton(server->family, address, &server->addr) == 1;
}

static bool server_is_same(const struct ares_addr_port_node *a, const struct ares_addr_port_node *b)
{
    return a->family == b->family && a->udp_port == b->udp_port && memcmp(&a->addr, &b->addr, a->family == AF_INET ? 4 : 16) == 0;
}

bool cueball__dns_server_is_plain(const cueball_dns *dns, const struct ares_addr_port_node *server)
{
    cueball_time now = cueball_clock_now();
    for (size_t i = 0; i < DNS_PLAIN_MAX; i++)
        if (dns->plain[i].until > now && server_is_same(&dns->plain[i].server, server))
            return true;
    return false;
}

void cueball__dns_server_note_plain(cueball_dns *dns, const struct ares_addr_port_node *server)
{
    const cueball_time minutes_15 = UINT64_C(900000000000);
    size_t oldest = 0;
    for (size_t i = 0; i < DNS_PLAIN_MAX; i++) {
        if (server_is_same(&dns->plain[i].server, server)) {
            oldest = i;
            break;
        }
        if (dns->plain[i].until < dns->plain[oldest].until)
            oldest = i;
    }
    dns->plain[oldest].server = *server;
    dns->plain[oldest].until = cueball_clock_now() + minutes_15;
}
