/* TLS for whoever has bytes and an event loop: OpenSSL 3 over memory.  It does no
 * I/O, waits for nothing and calls nobody back; what it wants to send is drained:
 *
 *     cueball_tls_begin(tls, "db1.example", CUEBALL_TLS_VERIFY, NULL);
 *     result = cueball_tls_handshake(tls, NULL, 0);
 *     for (;;) {
 *         size = cueball_tls_output(tls, &bytes);  ...send all of it...  cueball_tls_output_taken(tls);
 *         if (result != CUEBALL_TLS_WANT) break;
 *         ...wait for bytes of the network, until a time limit of your own...
 *         result = cueball_tls_handshake(tls, wire, wire_size);
 *     }
 *     ...then cueball_tls_send() and cueball_tls_receive(), each followed by the output...
 *
 * It is a library of its own (libcueball_tls; find_package(cueball COMPONENTS tls), or
 * pkg-config cueball-tls), so that libcueball needs no OpenSSL.
 *
 * Results.  Functions that return int return CUEBALL_OK, CUEBALL_EINVAL (an argument
 * is out of range, or the call does not fit the connection's state), CUEBALL_ENOMEM,
 * or what is said at each; those of a cueball_tls_result are marked so.  Texts are UTF-8
 * as certificates have it, may hold any byte but 0, and begin with "TLS: ".
 * Ownership.  What is handed in is copied, unless it says otherwise.  What *_new() and
 * cueball_tls_session_of() give is freed by its *_free(); NULL is allowed there.
 * Threads.  A context may be used by many at once, once it is set up.  A connection, and
 * a session, by one at a time.  Memory comes from OpenSSL's allocator, malloc().
 * Certificates are judged by the system's clock: what expired, did. */
#ifndef CUEBALL_TLS_H
#define CUEBALL_TLS_H

#include "cueball_types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cueball_tls_context cueball_tls_context; /* whom to trust, who to be */
typedef struct cueball_tls cueball_tls;                 /* one connection */
typedef struct cueball_tls_session cueball_tls_session; /* what a later connection may resume */

typedef enum cueball_tls_role { CUEBALL_TLS_CLIENT = 0, CUEBALL_TLS_SERVER = 1 } cueball_tls_role;

typedef enum cueball_tls_version { CUEBALL_TLS_1_2 = 12, CUEBALL_TLS_1_3 = 13 } cueball_tls_version;

typedef enum cueball_tls_result {
    CUEBALL_TLS_DONE = 0,   /* the handshake is over; all that came was read */
    CUEBALL_TLS_WANT = 1,   /* the handshake goes on when more bytes come */
    CUEBALL_TLS_MORE = 2,   /* there is, or may be, more to be received: call again */
    CUEBALL_TLS_CLOSED = 3, /* the peer has closed in order (close_notify): nothing more will come */
    CUEBALL_TLS_FAILED = 4  /* the connection is of no more use: cueball_tls_error() says why */
} cueball_tls_result;

typedef enum cueball_tls_flag {
    CUEBALL_TLS_VERIFY = 1, /* the peer's certificate must be valid, trusted, and, if there is a name, of that name */
    CUEBALL_TLS_STATUS = 2  /* a client asks for an OCSP response (RFC 6066), which nobody looks at */
} cueball_tls_flag;

/* "1.2.3" of this library's build.  Static. */
CUEBALL_API const char *cueball_tls_version_text(void);
/* "OpenSSL 3.0.19 …" as it is loaded.  Static. */
CUEBALL_API const char *cueball_tls_openssl_version(void);
/* As cueball_layout_at(), of this header as this library was compiled. */
CUEBALL_API bool cueball_tls_layout_at(uint32_t index, cueball_layout *layout);

/* -------------------------------------------------------------- contexts -- */

/* A context that trusts nobody, and has no certificate.  CUEBALL_EINVAL: no such role. */
CUEBALL_API int cueball_tls_context_new(int role, cueball_tls_context **context);
/* Connections that were made with it live on. */
CUEBALL_API void cueball_tls_context_free(cueball_tls_context *context);
/* Why the last call that failed did.  Lives as long as the context, until the next that fails. */
CUEBALL_API const char *cueball_tls_context_error(const cueball_tls_context *context);

/* Whom to trust: one of these, or several.  CUEBALL_EINVAL: the text says what is wrong with it.
 * A file of certificates (PEM); a folder of such files, named by hash as c_rehash(1) does, which
 * are read when they are needed; certificates in memory. */
CUEBALL_API int cueball_tls_context_trust_file(cueball_tls_context *context, const char *path);
CUEBALL_API int cueball_tls_context_trust_folder(cueball_tls_context *context, const char *path);
CUEBALL_API int cueball_tls_context_trust_pem(cueball_tls_context *context, const char *pem, size_t size);
/* What OpenSSL's installation trusts (SSL_CERT_FILE and SSL_CERT_DIR count).  It is loaded once for the
 * process, by a thread of its own, since that may take 50 ms.  Not together with the others of
 * above: CUEBALL_EINVAL.  With a CRL the context loads it for itself, in this call or that of crl_file. */
CUEBALL_API int cueball_tls_context_trust_system(cueball_tls_context *context);
/* Is all loaded?  false: cueball_tls_new() would wait for it. */
CUEBALL_API bool cueball_tls_context_is_ready(const cueball_tls_context *context);
/* Lists of revoked certificates (PEM).  From then on every certificate of a chain must have a list of its issuer's, and not be on it. */
CUEBALL_API int cueball_tls_context_crl_file(cueball_tls_context *context, const char *path);

/* A certificate, those that lead from it to its CA, and its private key, which is not encrypted; all as PEM. */
CUEBALL_API int cueball_tls_context_identity(cueball_tls_context *context, const char *certificate, size_t certificate_size,
                                             const char *key, size_t key_size);
/* cueball_tls_version both; 0: 1.2, and the latest there is. */
CUEBALL_API int cueball_tls_context_versions(cueball_tls_context *context, int min, int max);
/* The protocols (RFC 7301) that a client offers, or a server takes, its favourite first; each behind one byte
 * that is its length. */
CUEBALL_API int cueball_tls_context_alpn(cueball_tls_context *context, const char *protocols, size_t size);
/* A server wants a certificate of each client, and checks it. */
CUEBALL_API int cueball_tls_context_demand_certificate(cueball_tls_context *context);

/* ----------------------------------------------------------- connections -- */

CUEBALL_API int cueball_tls_new(cueball_tls_context *context, cueball_tls **tls);
/* The session stays good.  It sends nothing: cueball_tls_shutdown() does. */
CUEBALL_API void cueball_tls_free(cueball_tls *tls);
/* Why the connection failed.  "" if it has not.  Lives as long as the connection. */
CUEBALL_API const char *cueball_tls_error(const cueball_tls *tls);

/* Before cueball_tls_begin(): as of a context, for this connection alone.  CUEBALL_EINVAL: cueball_tls_error() says what is wrong with it. */
CUEBALL_API int cueball_tls_identity(cueball_tls *tls, const char *certificate, size_t certificate_size, const char *key, size_t key_size);
/* Before the handshake.  `name` of a client: the server's name or IP address, which its certificate must be for if
 * CUEBALL_TLS_VERIFY is among the flags; a name is told to the server (SNI) as well.  NULL: any.  `session` of a client: what may be
 * resumed, or NULL.  It is not resumed, but left alone, if it was made with another context, for another name, with another identity,
 * or was not verified and this one is to be, or if the certificate has expired since.  CUEBALL_EINVAL: that is no name. */
CUEBALL_API int cueball_tls_begin(cueball_tls *tls, const char *name, uint32_t flags, const cueball_tls_session *session);

/* What came from the network, if anything.  cueball_tls_result: DONE, WANT or FAILED. */
CUEBALL_API int cueball_tls_handshake(cueball_tls *tls, const void *wire, size_t wire_size);

/* What came from the network, if anything; what there is to be received goes into `plain`, as much as fits in, and its size into
 * *plain_size.  cueball_tls_result: DONE, MORE, CLOSED or FAILED.  What is in `plain` counts with each. */
CUEBALL_API int cueball_tls_receive(cueball_tls *tls, const void *wire, size_t wire_size, void *plain, size_t plain_room,
                                    size_t *plain_size);
/* The same, and takes nothing out: is there anything to be received?  cueball_tls_result: MORE, CLOSED, FAILED; DONE: no. */
CUEBALL_API int cueball_tls_peek(cueball_tls *tls, const void *wire, size_t wire_size);
/* Encrypts all of it: the output grows by that much.  cueball_tls_result: DONE or FAILED. */
CUEBALL_API int cueball_tls_send(cueball_tls *tls, const void *plain, size_t size);
/* Nothing more is sent: the output ends with a close_notify.  cueball_tls_result: DONE, or FAILED where there is nothing to be closed: the
 * handshake is not over, or the connection failed. */
CUEBALL_API int cueball_tls_shutdown(cueball_tls *tls);

/* What is to be sent: its size, 0 if nothing, and where it is until the next call.  Each of the functions above may add to it. */
CUEBALL_API size_t cueball_tls_output(const cueball_tls *tls, const char **bytes);
/* All of it was taken. */
CUEBALL_API void cueball_tls_output_taken(cueball_tls *tls);

/* After the handshake.  Texts that do not fit are cut. */
typedef struct cueball_tls_info {
    char version[16]; /* "TLSv1.3" */
    char cipher[64];
    char alpn[256];    /* "": none was agreed on */
    char subject[256]; /* of the peer's certificate, as RFC 2253 writes it; "": it has none */
    char issuer[256];
    int64_t expires_s; /* seconds since 1970; 0: no certificate */
    bool is_resumed, is_verified;
} cueball_tls_info;
/* CUEBALL_EINVAL: the handshake is not over. */
CUEBALL_API int cueball_tls_info_of(const cueball_tls *tls, cueball_tls_info *info);

/* What a later connection may resume.  With TLS 1.3 it comes with the first bytes that are received.  CUEBALL_ENOT_FOUND: there is none (yet). */
CUEBALL_API int cueball_tls_session_of(const cueball_tls *tls, cueball_tls_session **session);
CUEBALL_API void cueball_tls_session_free(cueball_tls_session *session);

#ifdef __cplusplus
}
#endif

#endif
