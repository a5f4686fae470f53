/* DNS questions over the network: c-ares, wrapped so that it can be drained.
 * It opens sockets and reads the clock, so it is no part of the core; it starts
 * no thread and never blocks.  Whoever has an event loop watches its sockets:
 *
 *     cueball_dns_ask(dns, "127.0.0.1:53", "db.example", CUEBALL_RR_A, 2000, 0, user);
 *     for (;;) {
 *         while (cueball_dns_next_reply(dns, &reply)) ...
 *         while (cueball_dns_next_socket(dns, &socket))
 *             ...watch socket.fd as it says; is_closing: stop, then cueball_dns_socket_released()...
 *         ...when one is ready: cueball_dns_socket_ready(dns, fd, readable, writable)...
 *         ...after cueball_dns_timeout_ms(dns): cueball_dns_time_passed(dns)...
 *     }
 *
 * Only there if the library was built with CUEBALL_DNS.  Threads: one at a time
 * on one client.
 */
#ifndef CUEBALL_DNS_H
#define CUEBALL_DNS_H

#include "cueball_tracker.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cueball_dns cueball_dns;

/* A new client in *dns, to be freed with cueball_dns_free().  It uses malloc().
 * CUEBALL_ENOMEM. */
CUEBALL_API int cueball_dns_new(cueball_dns **dns);
/* Questions under way are dropped, and every socket is closed: stop watching
 * them before.  NULL is allowed. */
CUEBALL_API void cueball_dns_free(cueball_dns *dns);

/* Asks one server, once: over UDP with EDNS (RFC 6891), over TCP if the answer is
 * cut, or with over_tcp (not 0).  Without EDNS if it answers that with FORMERR,
 * NOTIMP or BADVERS, and, besides, if nothing came in half of the time, or in a
 * second.  `server` is "IP:PORT", "[IPv6]:PORT" or "[fe80::1%eth0]:PORT", `type` a
 * cueball_rr_type; strings are copied.  `user` comes back with the reply and is
 * the question's name: not that of another under way.  0: exactly one reply will
 * come, unless it is forgotten; never within this call.  CUEBALL_EINVAL (server,
 * name or type; timeout_ms not above 0, or above 12 hours; `user` is under way),
 * CUEBALL_ENOMEM. */
CUEBALL_API int cueball_dns_ask(cueball_dns *dns, const char *server, const char *name, uint32_t type, double timeout_ms, uint32_t over_tcp,
                                uint64_t user);
/* No reply is wanted any more.  CUEBALL_ENOT_FOUND: it was taken already. */
CUEBALL_API int cueball_dns_forget(cueball_dns *dns, uint64_t user);

typedef struct cueball_dns_reply {
    uint64_t user;
    int32_t silence;       /* cueball_silence; -1: there is an answer */
    uint32_t size;         /* bytes of the answer */
    cueball_answer answer; /* lives until the next cueball_dns_next_reply() */
} cueball_dns_reply;

/* Takes the next reply; false if there is none. */
CUEBALL_API bool cueball_dns_next_reply(cueball_dns *dns, cueball_dns_reply *reply);

typedef struct cueball_dns_socket {
    int32_t fd;
    bool is_readable_wanted, is_writable_wanted;
    bool is_closing; /* stop watching it, then cueball_dns_socket_released() */
} cueball_dns_socket;

/* Takes the next change of what is to be watched; false if there is none. */
CUEBALL_API bool cueball_dns_next_socket(cueball_dns *dns, cueball_dns_socket *socket);
/* A socket that is closing is not watched any more: it is closed now, and its
 * number may come again.  CUEBALL_ENOT_FOUND. */
CUEBALL_API int cueball_dns_socket_released(cueball_dns *dns, int32_t fd);
/* A socket is ready.  CUEBALL_ENOT_FOUND: it is not ours, or closing: nothing was done. */
CUEBALL_API int cueball_dns_socket_ready(cueball_dns *dns, int32_t fd, bool is_readable, bool is_writable);

/* When to call cueball_dns_time_passed() at the latest, from now; below 0: no need. */
CUEBALL_API double cueball_dns_timeout_ms(cueball_dns *dns);
CUEBALL_API void cueball_dns_time_passed(cueball_dns *dns);

/* Reads a response: the whole message in `bytes`, to a question for `type` of
 * `name`.  Needs no client, and may run in any thread.  It must be a response, whole,
 * with exactly that question in class IN (compared without case).  Memory for the records is taken from `room`; 0:
 * *answer is filled in.  Records of other types or classes are left out; the
 * root is ".".  CUEBALL_EINVAL: it cannot be believed or read, or a record's data
 * is not as long as its type says.  CUEBALL_ENOMEM: `room` is too small; 1 KiB and
 * 150 times `size` always do (names may be compressed), 8 times mostly. */
CUEBALL_API int cueball_dns_answer_read(const unsigned char *bytes, size_t size, const char *name, uint32_t type, void *room,
                                        size_t room_size, cueball_answer *answer);

#ifdef __cplusplus
}
#endif

#endif
