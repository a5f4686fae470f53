/* What connections have in common: versions, trust, identity, protocols. */
#include "tls.h"

#include <assert.h>
#include <limits.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static atomic_uint_fast64_t contexts_made;

const char *cueball_tls_version_text(void)
{
    return CUEBALL_VERSION;
}

const char *cueball_tls_openssl_version(void)
{
    return OpenSSL_version(OPENSSL_VERSION);
}

static int refuse_password(char *text, int room, int is_writing, void *user)
{
    (void)text;
    (void)room;
    (void)is_writing;
    (void)user;
    return -1;
}

int cueball_tls_context_new(int role, cueball_tls_context **context)
{
    assert(context != NULL);
    if (role != CUEBALL_TLS_CLIENT && role != CUEBALL_TLS_SERVER) {
        return CUEBALL_EINVAL;
    }
    cueball_tls_context *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return CUEBALL_ENOMEM;
    }
    made->ssl = SSL_CTX_new(role == CUEBALL_TLS_SERVER ? TLS_server_method() : TLS_client_method());
    if (made->ssl == NULL) {
        free(made);
        ERR_clear_error();
        return CUEBALL_ENOMEM;
    }
    made->role = role;
    made->id = atomic_fetch_add(&contexts_made, 1) + 1;
    atomic_init(&made->users, 1);
    /* A renegotiation could change who the peer is; TLS 1.3 has none. */
    (void)SSL_CTX_set_options(made->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    (void)SSL_CTX_set_mode(made->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    (void)SSL_CTX_set_session_cache_mode(made->ssl, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_min_proto_version(made->ssl, TLS1_2_VERSION);
    (void)SSL_CTX_set_session_id_context(made->ssl, (const unsigned char *)"cueball", 7);
    SSL_CTX_set_default_passwd_cb(made->ssl, refuse_password);
    *context = made;
    return CUEBALL_OK;
}

void cueball_tls_context_free(cueball_tls_context *context)
{
    if (context == NULL) {
        return;
    }
    assert(context->ssl != NULL);
    unsigned before = atomic_fetch_sub(&context->users, 1);
    assert(before > 0);
    if (before == 1) {
        SSL_CTX_free(context->ssl);
        free(context->alpn);
        free(context);
    }
}

const char *cueball_tls_context_error(const cueball_tls_context *context)
{
    assert(context != NULL);
    return context->error;
}

int cueball_tls_context_identity(cueball_tls_context *context, const char *certificate, size_t certificate_size, const char *key,
                                 size_t key_size)
{
    assert(context != NULL);
    return cueball__tls_identity_use(context->ssl, NULL, certificate, certificate_size, key, key_size, &context->identity, context->error);
}

static int version_number(int version)
{
    return version == CUEBALL_TLS_1_2 ? TLS1_2_VERSION : version == CUEBALL_TLS_1_3 ? TLS1_3_VERSION : -1;
}

int cueball_tls_context_versions(cueball_tls_context *context, int min, int max)
{
    assert(context != NULL);
    int least = min == 0 ? TLS1_2_VERSION : version_number(min);
    int most = max == 0 ? 0 : version_number(max);
    if (least < 0 || most < 0 || (most != 0 && most < least)) {
        (void)snprintf(context->error, sizeof context->error, "TLS: no such versions: from %d to %d", min, max);
        return CUEBALL_EINVAL;
    }
    ERR_clear_error();
    if (SSL_CTX_set_min_proto_version(context->ssl, least) != 1 || SSL_CTX_set_max_proto_version(context->ssl, most) != 1) {
        cueball__tls_text_of_errors(context->error, "versions");
        return CUEBALL_EINVAL;
    }
    return CUEBALL_OK;
}

/* A server takes the first of its own that the client offers; where there is none, the connection fails (RFC 7301, 3.2). */
static int alpn_choose(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_size, const unsigned char *offered, unsigned size,
                       void *user)
{
    const cueball_tls_context *context = user;
    (void)ssl;
    assert(context != NULL);
    assert(context->alpn_size > 0);
    /* Without the const OpenSSL would have it; nothing is written to. */
    unsigned char *found = NULL;
    int result = SSL_select_next_proto(&found, chosen_size, context->alpn, context->alpn_size, offered, size);
    *chosen = found;
    return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Is it a list of protocols, each of 1 to 255 bytes behind its length? */
static bool alpn_is_list(const unsigned char *bytes, size_t size)
{
    size_t at = 0;
    assert(bytes != NULL);
    while (at < size) {
        if (bytes[at] == 0 || bytes[at] >= size - at) {
            return false;
        }
        at += bytes[at] + 1u;
    }
    return size > 0 && size <= UINT16_MAX;
}

int cueball_tls_context_alpn(cueball_tls_context *context, const char *protocols, size_t size)
{
    assert(context != NULL);
    assert(protocols != NULL);
    const unsigned char *bytes = (const unsigned char *)protocols;
    if (!alpn_is_list(bytes, size)) {
        (void)snprintf(context->error, sizeof context->error, "TLS: that is no list of protocols");
        return CUEBALL_EINVAL;
    }
    if (context->role == CUEBALL_TLS_CLIENT) {
        return SSL_CTX_set_alpn_protos(context->ssl, bytes, (unsigned)size) == 0 ? CUEBALL_OK : CUEBALL_ENOMEM;
    }
    unsigned char *copy = malloc(size);
    if (copy == NULL) {
        return CUEBALL_ENOMEM;
    }
    memcpy(copy, bytes, size);
    free(context->alpn);
    context->alpn = copy;
    context->alpn_size = (unsigned)size;
    SSL_CTX_set_alpn_select_cb(context->ssl, alpn_choose, context);
    return CUEBALL_OK;
}

int cueball_tls_context_demand_certificate(cueball_tls_context *context)
{
    assert(context != NULL);
    if (context->role != CUEBALL_TLS_SERVER) {
        return CUEBALL_EINVAL;
    }
    SSL_CTX_set_verify(context->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return CUEBALL_OK;
}
