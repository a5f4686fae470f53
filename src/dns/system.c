/* What the machine's files say: resolv.conf(5) and its environment variables, and
 * the hosts file.  c-ares reads both.  They are small and local, and the libc too
 * reads them where it stands. */
#define _DEFAULT_SOURCE

#include "dns.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

enum { DNS_PORT = 53 };

void cueball__dns_texts_free(cueball_dns *dns)
{
    for (size_t i = 0; i < dns->text_count; i++)
        free(dns->texts[i]);
    free(dns->texts);
    dns->texts = NULL;
    dns->text_count = 0;
}

static bool text_add(cueball_dns *dns, const char *text)
{
    char *copy = strdup(text);
    if (!copy)
        return false;
    dns->texts[dns->text_count++] = copy;
    return true;
}

static bool server_add(cueball_dns *dns, const struct ares_addr_port_node *server)
{
    char address[INET6_ADDRSTRLEN], text[sizeof address + sizeof "[]:65535"];
    int port = server->udp_port ? server->udp_port : DNS_PORT;
    if (!inet_ntop(server->family, &server->addr, address, sizeof address))
        return true; /* of a family nobody knows */
    (void)snprintf(text, sizeof text, server->family == AF_INET6 ? "[%s]:%d" : "%s:%d", address, port);
    return text_add(dns, text);
}

static int system_fill(cueball_dns *dns, const struct ares_addr_port_node *servers, const struct ares_options *options, int mask,
                       cueball_dns_system *system)
{
    size_t count = 0;
    for (const struct ares_addr_port_node *one = servers; one; one = one->next)
        count++;
    int domains = (mask & ARES_OPT_DOMAINS) && options->ndomains > 0 ? options->ndomains : 0;
    dns->texts = calloc(count + (size_t)domains + 1, sizeof *dns->texts);
    if (!dns->texts)
        return CUEBALL_ENOMEM;
    for (const struct ares_addr_port_node *one = servers; one; one = one->next)
        if (!server_add(dns, one))
            return CUEBALL_ENOMEM;
    count = dns->text_count;
    for (int i = 0; i < domains; i++)
        if (options->domains[i][0] && !text_add(dns, options->domains[i]))
            return CUEBALL_ENOMEM;
    *system = (cueball_dns_system){.servers = (const char *const *)dns->texts, .server_count = (uint32_t)count};
    system->search = (const char *const *)dns->texts + count;
    system->search_count = (uint32_t)(dns->text_count - count);
    system->ndots = (mask & ARES_OPT_NDOTS) && options->ndots >= 0 ? (uint32_t)options->ndots : 1;
    system->rotate = (mask & ARES_OPT_ROTATE) != 0;
    return CUEBALL_OK;
}

int cueball_dns_system_read(cueball_dns *dns, cueball_dns_system *system)
{
    ares_channel channel = NULL;
    struct ares_options options = {0};
    struct ares_addr_port_node *servers = NULL;
    int mask = 0, error = CUEBALL_ENOMEM;
    cueball__dns_texts_free(dns);
    if (ares_init(&channel) != ARES_SUCCESS)
        return CUEBALL_ENOMEM;
    if (ares_save_options(channel, &options, &mask) == ARES_SUCCESS) {
        if (ares_get_servers_ports(channel, &servers) == ARES_SUCCESS)
            error = system_fill(dns, servers, &options, mask, system);
        ares_free_data(servers);
        ares_destroy_options(&options);
    }
    ares_destroy(channel);
    return error;
}

/* ------------------------------------------------------------- hosts file -- */

enum { HOSTS_TTL = 60 };

void cueball__dns_hosts_free(cueball_dns *dns)
{
    free(dns->hosts);
    free(dns->hosts_name);
    dns->hosts = NULL;
    dns->hosts_name = NULL;
}

static bool is_localhost(const char *name)
{
    static const char localhost[] = "localhost";
    size_t size = strlen(name), end = sizeof localhost - 1;
    if (size < end || strcasecmp(name + size - end, localhost) != 0)
        return false;
    return size == end || name[size - end - 1] == '.';
}

static void host_fill(const cueball_dns *dns, uint32_t index, uint32_t type, const void *address)
{
    enum { IPV4_SIZE = 4, IPV6_SIZE = 16 };
    dns->hosts[index] = (cueball_record){.name = dns->hosts_name, .type = type, .ttl = HOSTS_TTL};
    memcpy(dns->hosts[index].address, address, type == CUEBALL_RR_A ? IPV4_SIZE : IPV6_SIZE);
}

static int localhost_read(cueball_dns *dns, uint32_t type, cueball_answer *answer)
{
    struct in_addr loopback = {.s_addr = htonl(INADDR_LOOPBACK)};
    dns->hosts = calloc(1, sizeof *dns->hosts);
    if (!dns->hosts)
        return CUEBALL_ENOMEM;
    host_fill(dns, 0, type, type == CUEBALL_RR_A ? (const void *)&loopback : &in6addr_loopback);
    *answer = (cueball_answer){.count = 1, .records = dns->hosts};
    return 1;
}

typedef struct hosts_found {
    struct ares_addrinfo *list;
    int status;
} hosts_found;

static void hosts_note(void *user, int status, int timeouts, struct ares_addrinfo *list)
{
    (void)timeouts;
    hosts_found *found = user;
    found->status = status;
    found->list = list;
}

static int hosts_take(cueball_dns *dns, const struct ares_addrinfo *list, uint32_t type, cueball_answer *answer)
{
    int family = type == CUEBALL_RR_A ? AF_INET : AF_INET6;
    uint32_t count = 0;
    for (const struct ares_addrinfo_node *node = list->nodes; node; node = node->ai_next)
        count += node->ai_family == family;
    if (count == 0)
        return 0;
    dns->hosts = calloc(count, sizeof *dns->hosts);
    if (!dns->hosts)
        return CUEBALL_ENOMEM;
    uint32_t index = 0;
    for (const struct ares_addrinfo_node *node = list->nodes; node; node = node->ai_next)
        if (node->ai_family == AF_INET && family == AF_INET)
            host_fill(dns, index++, type, &((const struct sockaddr_in *)(const void *)node->ai_addr)->sin_addr);
        else if (node->ai_family == AF_INET6 && family == AF_INET6)
            host_fill(dns, index++, type, &((const struct sockaddr_in6 *)(const void *)node->ai_addr)->sin6_addr);
    *answer = (cueball_answer){.count = count, .records = dns->hosts};
    return 1;
}

static bool hosts_channel_open(cueball_dns *dns)
{
    char lookups[] = "f";
    struct ares_options options = {.flags = ARES_FLAG_NOSEARCH, .lookups = lookups};
    int mask = ARES_OPT_FLAGS | ARES_OPT_LOOKUPS | ARES_OPT_DOMAINS;
    return dns->hosts_channel || ares_init_options(&dns->hosts_channel, &options, mask) == ARES_SUCCESS;
}

/* c-ares looks in the hosts file and nowhere else, and has called back when it returns. */
static int hosts_read(cueball_dns *dns, uint32_t type, cueball_answer *answer)
{
    struct ares_addrinfo_hints hints = {.ai_flags = ARES_AI_NOSORT | ARES_AI_ENVHOSTS};
    hosts_found found = {.status = ARES_ENOTFOUND};
    hints.ai_family = type == CUEBALL_RR_A ? AF_INET : AF_INET6;
    if (!hosts_channel_open(dns))
        return CUEBALL_ENOMEM;
    ares_getaddrinfo(dns->hosts_channel, dns->hosts_name, NULL, &hints, hosts_note, &found);
    int result = found.status == ARES_ENOMEM ? CUEBALL_ENOMEM : 0;
    if (found.status == ARES_SUCCESS && found.list)
        result = hosts_take(dns, found.list, type, answer);
    if (found.list)
        ares_freeaddrinfo(found.list);
    return result;
}

int cueball_dns_hosts(cueball_dns *dns, const char *name, uint32_t type, cueball_answer *answer)
{
    if (!dns || !name || !*name || !answer || (type != CUEBALL_RR_A && type != CUEBALL_RR_AAAA))
        return CUEBALL_EINVAL;
    cueball__dns_hosts_free(dns);
    dns->hosts_name = strdup(name);
    if (!dns->hosts_name)
        return CUEBALL_ENOMEM;
    size_t size = strlen(name);
    if (size > 1 && name[size - 1] == '.')
        dns->hosts_name[size - 1] = 0;
    if (is_localhost(dns->hosts_name))
        return localhost_read(dns, type, answer);
    return hosts_read(dns, type, answer);
}
