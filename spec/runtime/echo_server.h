/* A server for the specs in C of the runtime: sends back what it gets, each line by itself, and hangs up on demand. */
#ifndef ECHO_SERVER_H
#define ECHO_SERVER_H

#include "kit.h"

typedef struct echo_server echo_server;

/* Listens on a free port of 127.0.0.1, in a thread of its own.  Of each line, it answers with that line; with this
 * probability it hangs up instead. */
echo_server *echo_server_start(uint64_t seed, double hangs_up);
uint16_t echo_server_port(const echo_server *server);
/* From now on it hangs up on nobody. */
void echo_server_calm(echo_server *server);
void echo_server_stop(echo_server *server);

#endif
