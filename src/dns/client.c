/* A DNS client: questions to one server each, and their replies.
 *
 * The happy path: cueball_dns_ask() writes the query and gives it to c-ares, which
 * sends it, and calls back with the answer while it reads the socket; that puts
 * the question among those with a reply, where cueball_dns_next_reply() finds it.
 *
 * What can go wrong: c-ares says that the server cannot be reached, at once or
 * later; the time is over; the server cannot do EDNS, then it is asked again
 * without; what came cannot be believed.  Nothing here calls the user back. */
#define _DEFAULT_SOURCE /* getentropy */

#include "dns.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <assert.h>
#include <resolv.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef __APPLE__
#include <sys/random.h>
#endif

/* What fits every network unfragmented (DNS flag day 2020). */
enum { EDNS_SIZE = 1232 };
/* Longer than any question's time limit, which is kept here: c-ares has one for the channel only. */
enum { ARES_TIMEOUT_MS = 24 * 60 * 60 * 1000 };
static const double TIMEOUT_MS_MAX = 12.0 * 60 * 60 * 1000;

int cueball_dns_new(cueball_dns **dns)
{
    if (!dns)
        return CUEBALL_EINVAL;
    *dns = calloc(1, sizeof **dns);
    if (!*dns)
        return CUEBALL_ENOMEM;
    cueball__link_init(&(*dns)->asked);
    cueball__link_init(&(*dns)->answered);
    return CUEBALL_OK;
}

/* Its sockets close, and nothing more is heard of it. */
static void question_hang_up(cueball__dns_question *question)
{
    question->is_dropped = true;
    if (question->channel)
        ares_destroy(question->channel);
    question->channel = NULL;
}

static void question_free(cueball__dns_question *question)
{
    question_hang_up(question);
    cueball__list_remove(&question->place);
    free(question->bytes);
    free(question);
}

static void questions_free(cueball__link *list)
{
    CUEBALL__LIST_EACH(link, following, list)
    question_free(CUEBALL__OWNER(link, cueball__dns_question, place));
}

void cueball_dns_free(cueball_dns *dns)
{
    if (!dns)
        return;
    questions_free(&dns->asked);
    questions_free(&dns->answered);
    cueball__dns_sockets_free(dns);
    cueball__dns_texts_free(dns);
    cueball__dns_hosts_free(dns);
    if (dns->hosts_channel)
        ares_destroy(dns->hosts_channel);
    free(dns->reply_room);
    free(dns);
}

/* ----------------------------------------------------------------- asking -- */

static void put_u16(unsigned char *at, unsigned value)
{
    at[0] = (unsigned char)(value >> 8 & 0xff);
    at[1] = (unsigned char)(value & 0xff);
}

/* c-ares would write it too, but knows no "\ddd" in names. */
static void query_write(cueball__dns_question *question, const unsigned char *name, size_t name_size)
{
    enum { RECURSION_DESIRED = 1, OPT = 41 };
    unsigned char *at = question->query;
    memset(at, 0, sizeof question->query);
    at[2] = RECURSION_DESIRED;
    put_u16(at + 4, 1);
    put_u16(at + 10, 1);
    at += DNS_HEADER_SIZE;
    memcpy(at, name, name_size);
    at += name_size;
    put_u16(at, question->type);
    put_u16(at + 2, ns_c_in);
    at += DNS_QUESTION_TAIL;
    put_u16(at + 1, OPT); /* of the root, which is a zero */
    put_u16(at + 3, EDNS_SIZE);
    question->query_size = (size_t)(at - question->query) + DNS_OPT_SIZE;
    question->has_edns = true;
}

static void query_drop_edns(cueball__dns_question *question)
{
    assert(question->has_edns);
    question->has_edns = false;
    question->query_size -= DNS_OPT_SIZE;
    put_u16(question->query + 10, 0);
}

/* "IP:PORT" or "[IPv6]:PORT" */
static bool server_read(const char *text, struct ares_addr_port_node *server)
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
    char address[INET6_ADDRSTRLEN];
    size_t size = (size_t)(colon - text) - (is_bracketed ? 2 : 0);
    if (size >= sizeof address)
        return false;
    memcpy(address, text + (is_bracketed ? 1 : 0), size);
    address[size] = 0;
    *server = (struct ares_addr_port_node){.family = is_bracketed ? AF_INET6 : AF_INET, .udp_port = (int)port, .tcp_port = (int)port};
    return inet_pton(server->family, address, &server->addr) == 1;
}

/* c-ares's callback: nothing else may happen here, it is in the middle of its work. */
static void question_replied(void *user, int status, int timeouts, unsigned char *bytes, int size)
{
    (void)timeouts;
    cueball__dns_question *question = user;
    if (question->is_dropped)
        return;
    assert(!question->is_replied);
    question->is_replied = true;
    if (status == ARES_ETIMEOUT)
        question->silence = CUEBALL_SILENCE_TIMEOUT;
    else if (status == ARES_EBADRESP)
        question->silence = CUEBALL_SILENCE_GARBAGE;
    else
        question->silence = CUEBALL_SILENCE_NETWORK;
    if (status != ARES_SUCCESS || size < DNS_HEADER_SIZE)
        return;
    question->bytes = malloc((size_t)size);
    if (!question->bytes)
        return;
    memcpy(question->bytes, bytes, (size_t)size);
    question->size = (size_t)size;
    question->silence = -1;
}

/* A channel that has everything set, so that c-ares reads no file for it. */
static int channel_open(cueball__dns_question *question, struct ares_addr_port_node *server)
{
    struct in_addr nobody = {.s_addr = htonl(INADDR_LOOPBACK)};
    char lookups[] = "b";
    struct ares_options options = {.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_NOCHECKRESP | ARES_FLAG_EDNS};
    options.timeout = ARES_TIMEOUT_MS;
    options.tries = 1;
    options.ednspsz = EDNS_SIZE;
    options.servers = &nobody;
    options.nservers = 1;
    options.lookups = lookups;
    options.sock_state_cb = cueball__dns_socket_state;
    options.sock_state_cb_data = question->dns;
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_NDOTS | ARES_OPT_SERVERS | ARES_OPT_DOMAINS |
               ARES_OPT_LOOKUPS | ARES_OPT_SORTLIST | ARES_OPT_SOCK_STATE_CB | ARES_OPT_EDNSPSZ | ARES_OPT_NOROTATE;
#ifdef ARES_OPT_QUERY_CACHE
    options.qcache_max_ttl = 0; /* newer versions would answer by themselves */
    mask |= ARES_OPT_QUERY_CACHE;
#endif
    if (ares_init_options(&question->channel, &options, mask) != ARES_SUCCESS) {
        question->channel = NULL;
        return CUEBALL_ENOMEM;
    }
    cueball__dns_sockets_install(question);
    return ares_set_servers_ports(question->channel, server) == ARES_SUCCESS ? CUEBALL_OK : CUEBALL_ENOMEM;
}

/* The identity is drawn anew each time; whoever cannot read our packets must not be able to guess it. */
static int question_send(cueball__dns_question *question)
{
    if (getentropy(question->query, 2) != 0)
        return CUEBALL_ENOMEM;
    question->is_replied = false;
    question->is_edns_refused = false;
    ares_send(question->channel, question->query, (int)question->query_size, question_replied, question);
    return CUEBALL_OK;
}

static void question_finish(cueball__dns_question *question)
{
    question_hang_up(question);
    cueball__list_remove(&question->place);
    cueball__list_append(&question->dns->answered, &question->place);
}

/* Drops what came, and asks without EDNS.  c-ares may have the question still (it
 * took the refusal for something else), or have asked without EDNS itself. */
static void question_ask_again(cueball__dns_question *question)
{
    free(question->bytes);
    question->bytes = NULL;
    question->size = 0;
    query_drop_edns(question);
    question->is_dropped = true;
    ares_cancel(question->channel);
    question->is_dropped = false;
    if (question_send(question) != CUEBALL_OK) {
        question->silence = CUEBALL_SILENCE_NETWORK;
        question->is_replied = true;
    }
}

/* After c-ares was at work on the question. */
static void question_settle(cueball__dns_question *question)
{
    enum { RCODE = 0x0f };
    bool is_refused = question->is_replied && question->silence == -1 && (question->bytes[3] & RCODE) == CUEBALL_RCODE_FORMERR;
    if (question->has_edns && (is_refused || question->is_edns_refused))
        question_ask_again(question);
    if (question->is_replied)
        question_finish(question);
}

static bool user_is_known(const cueball__link *list, uint64_t user)
{
    for (const cueball__link *link = list->next; link != list; link = link->next)
        if (CUEBALL__OWNER(link, cueball__dns_question, place)->user == user)
            return true;
    return false;
}

/* Of a name as it goes over the wire: labels with their lengths before them, a zero at the end. */
static size_t wire_size(const unsigned char *name)
{
    const unsigned char *at = name;
    while (*at)
        at += 1 + *at;
    return (size_t)(at - name) + 1;
}

static int question_begin(cueball__dns_question *question, struct ares_addr_port_node *server, const unsigned char *name)
{
    query_write(question, name, wire_size(name));
    int error = channel_open(question, server);
    return error ? error : question_send(question);
}

int cueball_dns_ask(cueball_dns *dns, const char *server, const char *name, uint32_t type, double timeout_ms, uint64_t user)
{
    struct ares_addr_port_node node;
    unsigned char wire[DNS_NAME_MAX];
    if (!dns || !server || !name || !*name || type < 1 || type > UINT16_MAX || !(timeout_ms > 0) || timeout_ms > TIMEOUT_MS_MAX)
        return CUEBALL_EINVAL;
    if (!server_read(server, &node) || ns_name_pton(name, wire, sizeof wire) < 0)
        return CUEBALL_EINVAL;
    if (user_is_known(&dns->asked, user) || user_is_known(&dns->answered, user))
        return CUEBALL_EINVAL;
    cueball__dns_question *question = calloc(1, sizeof *question);
    if (!question)
        return CUEBALL_ENOMEM;
    question->dns = dns;
    question->user = user;
    question->type = type;
    question->deadline = cueball_clock_now() + (cueball_time)(timeout_ms * 1e6);
    (void)ns_name_ntop(wire, question->name, sizeof question->name);
    cueball__list_append(&dns->asked, &question->place);
    int error = question_begin(question, &node, wire);
    if (error) {
        question_free(question);
        return error;
    }
    question_settle(question);
    return CUEBALL_OK;
}

static cueball__dns_question *question_find(cueball__link *list, uint64_t user)
{
    CUEBALL__LIST_EACH(link, following, list)
    {
        cueball__dns_question *question = CUEBALL__OWNER(link, cueball__dns_question, place);
        if (question->user == user)
            return question;
    }
    return NULL;
}

int cueball_dns_forget(cueball_dns *dns, uint64_t user)
{
    cueball__dns_question *question = question_find(&dns->asked, user);
    if (!question)
        question = question_find(&dns->answered, user);
    if (!question)
        return CUEBALL_ENOT_FOUND;
    question_free(question);
    return CUEBALL_OK;
}

/* ---------------------------------------------------------------- replies -- */

/* Reads the answer into dns->reply_room, which grows until it is enough. */
static int reply_read(cueball_dns *dns, const cueball__dns_question *question, cueball_answer *answer)
{
    enum { ROOM_MIN = 16 * 1024 };
    size_t size = question->size;
    for (;;) {
        int error =
            cueball_dns_answer_read(question->bytes, size, question->name, question->type, dns->reply_room, dns->reply_room_size, answer);
        if (error != CUEBALL_ENOMEM)
            return error;
        size_t room = dns->reply_room_size ? 2 * dns->reply_room_size : ROOM_MIN;
        void *memory = realloc(dns->reply_room, room);
        if (!memory)
            return CUEBALL_ENOMEM;
        dns->reply_room = memory;
        dns->reply_room_size = room;
    }
}

bool cueball_dns_next_reply(cueball_dns *dns, cueball_dns_reply *reply)
{
    if (cueball__list_is_empty(&dns->answered))
        return false;
    cueball__dns_question *question = CUEBALL__OWNER(dns->answered.next, cueball__dns_question, place);
    *reply = (cueball_dns_reply){.user = question->user, .silence = question->silence, .size = (uint32_t)question->size};
    if (question->silence == -1) {
        int error = reply_read(dns, question, &reply->answer);
        if (error)
            reply->silence = error == CUEBALL_EINVAL ? CUEBALL_SILENCE_GARBAGE : CUEBALL_SILENCE_NETWORK;
    }
    question_free(question);
    return true;
}

int cueball_dns_socket_ready(cueball_dns *dns, int32_t fd, bool is_readable, bool is_writable)
{
    const cueball__dns_socket *one = cueball__dns_socket_find(dns, fd);
    if (!one || !one->question)
        return CUEBALL_ENOT_FOUND;
    cueball__dns_question *question = one->question;
    ares_process_fd(question->channel, is_readable ? fd : ARES_SOCKET_BAD, is_writable ? fd : ARES_SOCKET_BAD);
    question_settle(question);
    return CUEBALL_OK;
}

double cueball_dns_timeout_ms(cueball_dns *dns)
{
    cueball_time first = CUEBALL_NEVER;
    CUEBALL__LIST_EACH(link, following, &dns->asked)
    {
        const cueball__dns_question *question = CUEBALL__OWNER(link, cueball__dns_question, place);
        first = question->deadline < first ? question->deadline : first;
    }
    if (first == CUEBALL_NEVER)
        return -1;
    cueball_time now = cueball_clock_now();
    return first > now ? (double)(first - now) / 1e6 : 0;
}

void cueball_dns_time_passed(cueball_dns *dns)
{
    cueball_time now = cueball_clock_now();
    CUEBALL__LIST_EACH(link, following, &dns->asked)
    {
        cueball__dns_question *question = CUEBALL__OWNER(link, cueball__dns_question, place);
        if (question->deadline > now)
            continue;
        question->silence = CUEBALL_SILENCE_TIMEOUT;
        question_finish(question);
    }
}
