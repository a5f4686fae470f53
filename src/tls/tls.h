/* The inside of libcueball_tls.
 *
 * A connection's bytes go through a BIO of its own kind (wire.c): what came lies with the caller while a call lasts, and is copied only
 * as far as that call did not read it; what is to be sent is gathered in one piece of memory. */
#ifndef CUEBALL_TLS_TLS_H
#define CUEBALL_TLS_TLS_H

#include "cueball_tls.h"

#include <openssl/ssl.h>
#include <stdatomic.h>

enum { TLS_TEXT_MAX = 512, TLS_NAME_MAX = 255, TLS_DIGEST_SIZE = 32 };

/* Whose connection it is, as its certificate says; all zero: it has none. */
typedef struct cueball__tls_identity {
    unsigned char digest[TLS_DIGEST_SIZE];
} cueball__tls_identity;

struct cueball_tls_context {
    SSL_CTX *ssl;
    atomic_uint users; /* its owner, and its connections */
    uint64_t id;       /* no other context has, or had, it */
    int role;
    bool is_system;          /* it trusts what the system trusts */
    bool has_trust;          /* … or what it was given */
    bool is_system_attached; /* the system's store is its own; under store.c's lock */
    bool has_crl;
    cueball__tls_identity identity;
    unsigned char *alpn; /* of a server */
    unsigned alpn_size;
    char error[TLS_TEXT_MAX];
};

typedef struct cueball__tls_wire {
    const unsigned char *given; /* what the caller brought, as long as its call lasts */
    size_t given_size;
    unsigned char *kept; /* what it brought before and was not read: kept[kept_from] to kept[kept_to - 1] */
    size_t kept_from, kept_to, kept_room;
    char *out; /* to be sent */
    size_t out_size, out_room;
} cueball__tls_wire;

struct cueball_tls {
    SSL *ssl;
    cueball_tls_context *context;
    cueball__tls_wire wire;
    cueball__tls_identity identity;
    bool is_begun, is_over /* the handshake */, is_verifying, is_failed, is_shut, has_fault;
    char name[TLS_NAME_MAX + 1];
    char error[TLS_TEXT_MAX];
};

struct cueball_tls_session {
    SSL_SESSION *ssl;
    uint64_t context_id;
    bool is_verified;
    cueball__tls_identity identity;
    char name[TLS_NAME_MAX + 1];
};

/* wire.c */
/* NULL: no memory. */
BIO *cueball__tls_wire_new(cueball__tls_wire *wire);
void cueball__tls_wire_give(cueball__tls_wire *wire, const void *bytes, size_t size);
/* The caller's call ends: what it brought and was not read is copied.  false: no memory. */
bool cueball__tls_wire_keep(cueball__tls_wire *wire);
bool cueball__tls_wire_has_input(const cueball__tls_wire *wire);
void cueball__tls_wire_free(cueball__tls_wire *wire);

/* store.c */
/* Begins to load the system's certificates, unless that was begun.  CUEBALL_ENOMEM. */
int cueball__tls_system_load(void);
bool cueball__tls_system_is_loaded(void);
/* A context that trusts what the system trusts has that store from now on; waits until it is loaded.  false: it could not be. */
bool cueball__tls_system_attach(cueball_tls_context *context);

/* identity.c */
/* PEM that is used by a context, or, if ssl is not NULL, by a connection.  CUEBALL_EINVAL: `error` says why. */
int cueball__tls_identity_use(SSL_CTX *context, SSL *ssl, const char *certificate, size_t certificate_size, const char *key,
                              size_t key_size, cueball__tls_identity *identity, char error[TLS_TEXT_MAX]);

/* text.c */
/* "TLS: what: OpenSSL's reason", of the first error that OpenSSL has noted; they are forgotten. */
void cueball__tls_text_of_errors(char text[TLS_TEXT_MAX], const char *what);
/* "TLS: certificate has expired (subject CN=db1, expired 2020-01-01)". */
void cueball__tls_text_of_fault(char text[TLS_TEXT_MAX], X509_STORE_CTX *store, const char *name);
void cueball__tls_text_of_name(char *text, size_t room, const X509_NAME *name);

/* session.c */
bool cueball__tls_session_fits(const cueball_tls_session *session, const cueball_tls *tls);

#endif
