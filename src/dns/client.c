/* A DNS client: questions to one server each, and their replies.
 *
 * The happy path: cueball_dns_ask() writes the query and gives it to c-ares, which
 * sends it, and calls back with the answer while it reads the socket; that puts
 * the question among those with a reply, where cueball_dns_next_reply() finds it.
 *
 * What can go wrong: c-ares says that the server cannot be reached, at once or
 * later; the time is over; the server cannot do EDNS, then it is asked again
 * without; the answer is cut, then it is asked for over TCP; what came cannot be
 * believed.  Nothing here calls the user back. */
#define _DEFAULT_SOURCE /* getentropy */

#include "dns.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <assert.h>
#include <errno.h>
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
/* So long, or half of the time limit, a server may be silent before it is asked without EDNS too. */
static const double PLAIN_MS = 1000;
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

/* What went wrong, by what the system said last. */
static int32_t silence_of(const cueball__dns_question *question, int status)
{
    if (question->is_cut)
        return CUEBALL_SILENCE_CUT;
    if (status == ARES_ETIMEOUT)
        return CUEBALL_SILENCE_TIMEOUT;
    if (status == ARES_EBADRESP)
        return CUEBALL_SILENCE_GARBAGE;
    switch (question->fault) {
    case ECONNREFUSED:
        return CUEBALL_SILENCE_REFUSED;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        return CUEBALL_SILENCE_LOCAL;
    default:
        return status == ARES_ENOMEM ? CUEBALL_SILENCE_LOCAL : CUEBALL_SILENCE_NETWORK;
    }
}

/* The response code, with the bits that EDNS adds. */
static unsigned reply_rcode(const unsigned char *bytes, size_t size)
{
    enum { RCODE = 0x0f, OPT = 41, EXTENDED = 24, BITS = 4 };
    unsigned rcode = bytes[3] & RCODE;
    ns_msg message;
    ns_rr rr;
    if (ns_initparse(bytes, (int)size, &message) != 0)
        return rcode;
    for (int i = 0; i < ns_msg_count(message, ns_s_ar); i++)
        if (ns_parserr(&message, ns_s_ar, i, &rr) == 0 && (int)ns_rr_type(rr) == OPT)
            rcode |= (unsigned)(ns_rr_ttl(rr) >> EXTENDED) << BITS;
    return rcode;
}

/* Is it EDNS that the server will not have?  RFC 6891, 7; old servers know the response code of their time only. */
static bool rcode_is_of_edns(unsigned rcode)
{
    enum { BADVERS = 16 };
    return rcode == CUEBALL_RCODE_FORMERR || rcode == CUEBALL_RCODE_NOTIMP || rcode == BADVERS;
}

/* A refusal of EDNS that came so late that the server has been asked without meanwhile: the answer to that is waited for. */
static bool reply_is_overtaken(const cueball__dns_question *question, const unsigned char *bytes, size_t size)
{
    if (!question->was_silent || question->is_stream || size < DNS_HEADER_SIZE)
        return false;
    return question->ids[1] == (bytes[0] << 8 | bytes[1]) && rcode_is_of_edns(reply_rcode(bytes, size));
}

/* c-ares's callback: nothing else may happen here, it is in the middle of its work. */
static void question_replied(void *user, int status, int timeouts, unsigned char *bytes, int size)
{
    (void)timeouts;
    cueball__dns_question *question = user;
    if (question->is_dropped || question->is_replied)
        return; /* the second of two, with and without EDNS */
    if (status == ARES_SUCCESS && reply_is_overtaken(question, bytes, (size_t)size))
        return;
    question->is_replied = true;
    question->silence = silence_of(question, status);
    if (status != ARES_SUCCESS)
        return;
    question->silence = CUEBALL_SILENCE_GARBAGE;
    if (size < DNS_HEADER_SIZE)
        return;
    question->bytes = malloc((size_t)size);
    if (!question->bytes) {
        question->silence = CUEBALL_SILENCE_LOCAL;
        return;
    }
    memcpy(question->bytes, bytes, (size_t)size);
    question->size = (size_t)size;
    question->silence = -1;
}

/* A channel that has everything set, so that c-ares reads no file for it.  It is
 * told nothing of EDNS, and to leave cut answers alone: what to do about either is
 * decided here, for all its versions alike. */
static int channel_open(cueball__dns_question *question)
{
    struct in_addr nobody = { .s_addr = htonl(INADDR_LOOPBACK) };
    char lookups[] = "b";
    struct ares_options options = { .flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_NOCHECKRESP | ARES_FLAG_IGNTC };
    if (question->is_stream)
        options.flags |= ARES_FLAG_USEVC;
    options.timeout = ARES_TIMEOUT_MS;
    options.tries = 1;
    options.servers = &nobody;
    options.nservers = 1;
    options.lookups = lookups;
    options.sock_state_cb = cueball__dns_socket_state;
    options.sock_state_cb_data = question->dns;
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_NDOTS | ARES_OPT_SERVERS | ARES_OPT_DOMAINS
               | ARES_OPT_LOOKUPS | ARES_OPT_SORTLIST | ARES_OPT_SOCK_STATE_CB | ARES_OPT_NOROTATE;
#ifdef ARES_OPT_QUERY_CACHE
    options.qcache_max_ttl = 0; /* newer versions would answer by themselves */
    mask |= ARES_OPT_QUERY_CACHE;
#endif
    if (ares_init_options(&question->channel, &options, mask) != ARES_SUCCESS) {
        question->channel = NULL;
        return CUEBALL_ENOMEM;
    }
    cueball__dns_sockets_install(question);
    return ares_set_servers_ports(question->channel, &question->server) == ARES_SUCCESS ? CUEBALL_OK : CUEBALL_ENOMEM;
}

/* The identity is drawn anew each time; whoever cannot read our packets must not be able to guess it. */
static int question_send(cueball__dns_question *question)
{
    if (getentropy(question->query, 2) != 0)
        return CUEBALL_ENOMEM;
    question->is_replied = false;
    question->bare_rcode = 0;
    ares_send(question->channel, question->query, (int)question->query_size, question_replied, question);
    return CUEBALL_OK;
}

static void question_finish(cueball__dns_question *question)
{
    question_hang_up(question);
    cueball__list_remove(&question->place);
    cueball__list_append(&question->dns->answered, &question->place);
}

/* Drops what came, and asks anew, on a channel of its own. */
static void question_ask_again(cueball__dns_question *question)
{
    free(question->bytes);
    question->bytes = NULL;
    question->size = 0;
    question->plain_at = CUEBALL_NEVER;
    question_hang_up(question);
    question->is_dropped = false;
    if (channel_open(question) != CUEBALL_OK || question_send(question) != CUEBALL_OK) {
        question->silence = CUEBALL_SILENCE_LOCAL;
        question->is_replied = true;
    }
}

/* After c-ares was at work on the question: what came is taken, or it is asked once
 * more in another way, each of which happens once at most. */
static void question_settle(cueball__dns_question *question)
{
    enum { TC = 0x02 };
    bool has_answer = question->is_replied && question->silence == -1;
    if (question->has_edns && ((has_answer && rcode_is_of_edns(reply_rcode(question->bytes, question->size))) || question->bare_rcode)) {
        query_drop_edns(question);
        question_ask_again(question);
    } else if (has_answer && (question->bytes[2] & TC) && !question->is_stream) {
        question->is_stream = question->is_cut = true;
        question_ask_again(question);
    } else if (has_answer && question->was_silent && question->ids[0] == (question->bytes[0] << 8 | question->bytes[1])) {
        cueball__dns_server_note_plain(question->dns, &question->server);
    }
    if (question->is_replied || question->bare_rcode)
        question_finish(question);
}

/* Nothing came for a while.  Some boxes drop what has EDNS: both are waited for. */
static void question_ask_plain(cueball__dns_question *question)
{
    question->plain_at = CUEBALL_NEVER;
    question->was_silent = true;
    query_drop_edns(question);
    if (question_send(question) != CUEBALL_OK) {
        question->silence = CUEBALL_SILENCE_LOCAL;
        question->is_replied = true;
    }
    question_settle(question);
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

static int question_begin(cueball__dns_question *question, double timeout_ms, const unsigned char *name)
{
    query_write(question, name, wire_size(name));
    question->deadline = cueball_clock_now() + (cueball_time)(timeout_ms * 1e6);
    question->plain_at = CUEBALL_NEVER;
    if (cueball__dns_server_is_plain(question->dns, &question->server))
        query_drop_edns(question);
    else if (!question->is_stream)
        question->plain_at = cueball_clock_now() + (cueball_time)((timeout_ms < 2 * PLAIN_MS ? timeout_ms / 2 : PLAIN_MS) * 1e6);
    int error = channel_open(question);
    return error ? error : question_send(question);
}

int cueball_dns_ask(cueball_dns *dns, const char *server, const char *name, uint32_t type, double timeout_ms, uint32_t over_tcp,
                    uint64_t user)
{
    struct ares_addr_port_node node;
    uint32_t scope;
    unsigned char wire[DNS_NAME_MAX];
    if (!dns || !server || !name || !*name || type < 1 || type > UINT16_MAX || !(timeout_ms > 0) || timeout_ms > TIMEOUT_MS_MAX)
        return CUEBALL_EINVAL;
    if (!cueball__dns_server_read(server, &node, &scope) || ns_name_pton(name, wire, sizeof wire) < 0)
        return CUEBALL_EINVAL;
    if (user_is_known(&dns->asked, user) || user_is_known(&dns->answered, user))
        return CUEBALL_EINVAL;
    cueball__dns_question *question = calloc(1, sizeof *question);
    if (!question)
        return CUEBALL_ENOMEM;
    question->dns = dns;
    question->user = user;
    question->type = type;
    question->server = node;
    question->scope_id = scope;
    question->is_stream = over_tcp != 0;
    (void)ns_name_ntop(wire, question->name, sizeof question->name);
    cueball__list_append(&dns->asked, &question->place);
    int error = question_begin(question, timeout_ms, wire);
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
    *reply = (cueball_dns_reply){ .user = question->user, .silence = question->silence, .size = (uint32_t)question->size };
    if (question->bare_rcode) {
        reply->silence = -1;
        reply->answer = (cueball_answer){ .rcode = (uint32_t)question->bare_rcode };
    } else if (question->silence == -1) {
        int error = reply_read(dns, question, &reply->answer);
        if (error)
            reply->silence = error == CUEBALL_EINVAL ? CUEBALL_SILENCE_GARBAGE : CUEBALL_SILENCE_LOCAL;
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
        first = question->plain_at < first ? question->plain_at : first;
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
        if (question->deadline <= now) {
            question->silence = question->is_cut ? CUEBALL_SILENCE_CUT : CUEBALL_SILENCE_TIMEOUT;
            question_finish(question);
        } else if (question->plain_at <= now) {
            question_ask_plain(question);
        }
    }
}
