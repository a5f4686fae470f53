/* The inside of a DNS client: its questions, and the sockets that c-ares opened
 * for them.
 *
 * Each question has a c-ares channel of its own, for as long as it is under way.
 * A channel ends all of its questions when one of its sockets fails, and gives
 * up EDNS for all of them when one is answered FORMERR: with one question each,
 * no question can harm another, every one has a port of its own (which is what
 * makes answers hard to forge), and to forget one is to destroy its channel. */
#ifndef CUEBALL_DNS_DNS_H
#define CUEBALL_DNS_DNS_H

#include "../core/kit/list.h"
#include "cueball_dns.h"

#define CARES_NO_DEPRECATED
#include <ares.h>

/* Header, name, type and class, and the OPT record of EDNS. */
enum { DNS_HEADER_SIZE = 12, DNS_NAME_MAX = 255, DNS_QUESTION_TAIL = 4, DNS_OPT_SIZE = 11 };
enum { DNS_PLAIN_MAX = 8 };
enum { DNS_TEXT_MAX = 1025 }; /* a name in text, every octet escaped */

typedef struct cueball__dns_question {
    cueball__link place; /* among those asked, or those with a reply */
    cueball_dns *dns;
    ares_channel channel; /* NULL: it has its reply */
    uint64_t user;
    cueball_time deadline;
    uint32_t type;
    int32_t silence;      /* of the reply */
    unsigned char *bytes; /* the answer, from malloc */
    size_t size;
    struct ares_addr_port_node server;
    uint32_t scope_id;     /* of a link-local server; 0: none */
    cueball_time plain_at; /* when it is asked without EDNS too, if nothing came; CUEBALL_NEVER: not */
    unsigned char query[DNS_HEADER_SIZE + DNS_NAME_MAX + DNS_QUESTION_TAIL + DNS_OPT_SIZE];
    size_t query_size;
    uint16_t ids[2]; /* as sent over UDP last, and before that */
    bool has_edns;   /* in `query` */
    bool is_stream;  /* it is asked over TCP */
    bool was_silent; /* to EDNS: it was asked without, too */
    bool is_cut;     /* since the answer over UDP was cut */
    bool is_replied; /* c-ares has called back */
    bool is_dropped; /* what c-ares says from now on is not listened to */
    int bare_rcode;  /* an error came without the question, which c-ares passes over; 0: none */
    int fault;       /* errno of the last call that failed */
    char name[DNS_TEXT_MAX];
} cueball__dns_question;

typedef struct cueball__dns_socket {
    cueball__dns_question *question; /* NULL: closing */
    int fd;
    bool is_stream;
    bool is_readable_wanted, is_writable_wanted;
    bool is_changed; /* since next_socket() told of it */
    bool is_told;    /* somebody may be watching it */
} cueball__dns_socket;

struct cueball_dns {
    cueball__link asked, answered; /* questions; answered: in the order of their replies */
    cueball__dns_socket *sockets;
    size_t socket_count, socket_room;
    void *reply_room; /* the records of the last reply */
    size_t reply_room_size;
    struct {
        struct ares_addr_port_node server;
        cueball_time until;
    } plain[DNS_PLAIN_MAX]; /* servers that were silent to EDNS and answered without */
};

/* server.c */
/* "IP:PORT", "[IPv6]:PORT" or "[IPv6%LINK]:PORT"; false: it is none, or there is no such link. */
bool cueball__dns_server_read(const char *text, struct ares_addr_port_node *server, uint32_t *scope);
/* A server that is silent to EDNS is asked without for a while: it would cost half
 * of the time limit with each question. */
bool cueball__dns_server_is_plain(const cueball_dns *dns, const struct ares_addr_port_node *server);
void cueball__dns_server_note_plain(cueball_dns *dns, const struct ares_addr_port_node *server);

/* socket.c */
void cueball__dns_sockets_install(cueball__dns_question *question);
void cueball__dns_socket_state(void *dns, ares_socket_t fd, int is_readable, int is_writable);
cueball__dns_socket *cueball__dns_socket_find(cueball_dns *dns, int fd);
void cueball__dns_sockets_free(cueball_dns *dns);

#endif
