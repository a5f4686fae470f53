/* One connection.
 *
 * The happy path: begin, handshake until it is done, then send and receive; each takes what came from the network with it, and leaves
 * what is to go there in the output.
 * What can go wrong: the peer's certificate (text.c tells how), the peer's alerts, bytes that are no TLS.  Then the connection has failed,
 * for good, and its text says why; an alert to the peer is in the output.  An end of the network's stream is not told to it: whoever
 * has the network knows whether cueball_tls_receive() said CLOSED before. */
#include "tls.h"

#include <assert.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int connection_fail(cueball_tls *tls)
{
    assert(tls != NULL);
    assert(tls->context != NULL);
    if (!tls->has_fault) {
        cueball__tls_text_of_errors(tls->error, "");
    }
    ERR_clear_error();
    tls->is_failed = true;
    return CUEBALL_TLS_FAILED;
}

/* OpenSSL has judged one certificate of the peer's: the first that is refused is noted. */
static int note_fault(int is_well, X509_STORE_CTX *store)
{
    if (is_well == 1) {
        return 1;
    }
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    cueball_tls *tls = ssl != NULL ? SSL_get_app_data(ssl) : NULL;
    assert(tls != NULL);
    if (!tls->has_fault && (SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER) != 0) {
        tls->has_fault = true;
        cueball__tls_text_of_fault(tls->error, store, tls->name[0] != '\0' ? tls->name : "any name");
    }
    return 0;
}

int cueball_tls_new(cueball_tls_context *context, cueball_tls **tls)
{
    assert(context != NULL);
    assert(tls != NULL);
    ERR_clear_error();
    if (!cueball__tls_system_attach(context)) {
        return CUEBALL_ENOMEM;
    }
    cueball_tls *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return CUEBALL_ENOMEM;
    }
    BIO *bio = cueball__tls_wire_new(&made->wire);
    made->ssl = bio != NULL ? SSL_new(context->ssl) : NULL;
    if (made->ssl == NULL) {
        BIO_free(bio);
        free(made);
        ERR_clear_error();
        return CUEBALL_ENOMEM;
    }
    SSL_set_bio(made->ssl, bio, bio);
    SSL_set_app_data(made->ssl, made);
    made->context = context;
    made->identity = context->identity;
    atomic_fetch_add(&context->users, 1);
    if (context->role == CUEBALL_TLS_SERVER) {
        SSL_set_verify(made->ssl, SSL_get_verify_mode(made->ssl), note_fault);
        SSL_set_accept_state(made->ssl);
    } else {
        SSL_set_connect_state(made->ssl);
    }
    *tls = made;
    return CUEBALL_OK;
}

void cueball_tls_free(cueball_tls *tls)
{
    if (tls == NULL) {
        return;
    }
    assert(tls->ssl != NULL);
    /* Otherwise its session could not be resumed by others. */
    if (!tls->is_failed) {
        SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    }
    SSL_free(tls->ssl);
    cueball__tls_wire_free(&tls->wire);
    cueball_tls_context_free(tls->context);
    free(tls);
}

const char *cueball_tls_error(const cueball_tls *tls)
{
    assert(tls != NULL);
    return tls->error;
}

int cueball_tls_identity(cueball_tls *tls, const char *certificate, size_t certificate_size, const char *key, size_t key_size)
{
    assert(tls != NULL);
    if (tls->is_begun) {
        return CUEBALL_EINVAL;
    }
    return cueball__tls_identity_use(NULL, tls->ssl, certificate, certificate_size, key, key_size, &tls->identity, tls->error);
}

/* The name without what is no part of it: brackets and link of an IPv6 address, the dot at the end of a name.  false: it is too long. */
static bool read_name(cueball_tls *tls, const char *name)
{
    size_t length = strlen(name);
    assert(!tls->is_begun);
    if (length > 2 && name[0] == '[' && name[length - 1] == ']') {
        name++;
        length -= 2;
    }
    const char *link = memchr(name, ':', length) != NULL ? memchr(name, '%', length) : NULL;
    if (link != NULL) {
        length = (size_t)(link - name);
    }
    if (length > 1 && name[length - 1] == '.') {
        length--;
    }
    if (length == 0 || length > TLS_NAME_MAX) {
        return false;
    }
    memcpy(tls->name, name, length);
    tls->name[length] = '\0';
    return true;
}

static bool is_address(const char *name)
{
    ASN1_OCTET_STRING *address = a2i_IPADDRESS(name);
    ASN1_OCTET_STRING_free(address);
    ERR_clear_error();
    return address != NULL;
}

/* false: it is no name that OpenSSL takes. */
static bool set_name(cueball_tls *tls)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(tls->ssl);
    assert(param != NULL);
    assert(tls->name[0] != '\0');
    if (is_address(tls->name)) {
        return X509_VERIFY_PARAM_set1_ip_asc(param, tls->name) == 1;
    }
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(param, tls->name, 0) == 1 && SSL_set_tlsext_host_name(tls->ssl, tls->name) == 1;
}

int cueball_tls_begin(cueball_tls *tls, const char *name, uint32_t flags, const cueball_tls_session *session)
{
    assert(tls != NULL);
    const uint32_t known = CUEBALL_TLS_VERIFY | CUEBALL_TLS_STATUS;
    if (tls->is_begun || (flags & ~known) != 0) {
        return CUEBALL_EINVAL;
    }
    ERR_clear_error();
    if (name != NULL && (!read_name(tls, name) || !set_name(tls))) {
        ERR_clear_error();
        (void)snprintf(tls->error, sizeof tls->error, "TLS: that is no name of a server: %.255s", name);
        return CUEBALL_EINVAL;
    }
    tls->is_begun = true;
    if (tls->context->role == CUEBALL_TLS_SERVER) {
        return CUEBALL_OK;
    }
    tls->is_verifying = (flags & CUEBALL_TLS_VERIFY) != 0;
    SSL_set_verify(tls->ssl, tls->is_verifying ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, note_fault);
    if ((flags & CUEBALL_TLS_STATUS) != 0) {
        (void)SSL_set_tlsext_status_type(tls->ssl, TLSEXT_STATUSTYPE_ocsp);
    }
    if (session != NULL && cueball__tls_session_fits(session, tls)) {
        (void)SSL_set_session(tls->ssl, session->ssl);
        ERR_clear_error();
    }
    return CUEBALL_OK;
}

/* What a call of OpenSSL came to; `want` if it needs more bytes of the network. */
static int connection_result(cueball_tls *tls, int returned, int want)
{
    switch (SSL_get_error(tls->ssl, returned)) {
    case SSL_ERROR_NONE:
        return CUEBALL_TLS_DONE;
    case SSL_ERROR_WANT_READ:
        return want;
    case SSL_ERROR_ZERO_RETURN:
        return CUEBALL_TLS_CLOSED;
    default:
        return connection_fail(tls);
    }
}

int cueball_tls_handshake(cueball_tls *tls, const void *wire, size_t wire_size)
{
    assert(tls != NULL);
    assert(wire != NULL || wire_size == 0);
    if (tls->is_failed || !tls->is_begun) {
        return CUEBALL_TLS_FAILED;
    }
    ERR_clear_error();
    cueball__tls_wire_give(&tls->wire, wire, wire_size);
    int result = connection_result(tls, SSL_do_handshake(tls->ssl), CUEBALL_TLS_WANT);
    if (!cueball__tls_wire_keep(&tls->wire)) {
        return connection_fail(tls);
    }
    if (result == CUEBALL_TLS_CLOSED) {
        (void)snprintf(tls->error, sizeof tls->error, "TLS: the peer closed in the middle of the handshake");
        tls->is_failed = true;
        return CUEBALL_TLS_FAILED;
    }
    tls->is_over = tls->is_over || result == CUEBALL_TLS_DONE;
    return result;
}

/* SSL_read until there is no room, or nothing more to be read. */
static int read_all(cueball_tls *tls, char *plain, size_t room, size_t *size)
{
    size_t count = 0;
    assert(tls->is_over);
    assert(*size <= room);
    while (*size < room) {
        if (SSL_read_ex(tls->ssl, plain + *size, room - *size, &count) != 1) {
            return connection_result(tls, 0, CUEBALL_TLS_DONE);
        }
        assert(count > 0);
        *size += count;
    }
    bool is_drained = SSL_pending(tls->ssl) == 0 && !cueball__tls_wire_has_input(&tls->wire);
    return is_drained ? CUEBALL_TLS_DONE : CUEBALL_TLS_MORE;
}

int cueball_tls_receive(cueball_tls *tls, const void *wire, size_t wire_size, void *plain, size_t plain_room, size_t *plain_size)
{
    assert(tls != NULL);
    assert(plain_size != NULL);
    assert(plain != NULL || plain_room == 0);
    *plain_size = 0;
    if (tls->is_failed || !tls->is_over) {
        return CUEBALL_TLS_FAILED;
    }
    ERR_clear_error();
    cueball__tls_wire_give(&tls->wire, wire, wire_size);
    int result = read_all(tls, plain, plain_room, plain_size);
    if (!cueball__tls_wire_keep(&tls->wire)) {
        return connection_fail(tls);
    }
    return result;
}

int cueball_tls_peek(cueball_tls *tls, const void *wire, size_t wire_size)
{
    assert(tls != NULL);
    assert(wire != NULL || wire_size == 0);
    if (tls->is_failed || !tls->is_over) {
        return CUEBALL_TLS_FAILED;
    }
    ERR_clear_error();
    cueball__tls_wire_give(&tls->wire, wire, wire_size);
    char one = 0;
    size_t count = 0;
    int result = SSL_peek_ex(tls->ssl, &one, 1, &count) == 1 ? CUEBALL_TLS_MORE : connection_result(tls, 0, CUEBALL_TLS_DONE);
    if (!cueball__tls_wire_keep(&tls->wire)) {
        return connection_fail(tls);
    }
    return result;
}

int cueball_tls_send(cueball_tls *tls, const void *plain, size_t size)
{
    assert(tls != NULL);
    assert(plain != NULL || size == 0);
    if (tls->is_failed || !tls->is_over || tls->is_shut) {
        return CUEBALL_TLS_FAILED;
    }
    ERR_clear_error();
    assert(tls->is_begun);
    const char *bytes = plain;
    while (size > 0) {
        size_t count = 0;
        if (SSL_write_ex(tls->ssl, bytes, size, &count) != 1) {
            return connection_fail(tls);
        }
        assert(count <= size);
        bytes += count;
        size -= count;
    }
    return CUEBALL_TLS_DONE;
}

int cueball_tls_shutdown(cueball_tls *tls)
{
    assert(tls != NULL);
    if (tls->is_failed || !tls->is_over) {
        return CUEBALL_TLS_FAILED;
    }
    if (!tls->is_shut) {
        ERR_clear_error();
        tls->is_shut = true;
        if (SSL_shutdown(tls->ssl) < 0) {
            ERR_clear_error();
        }
    }
    return CUEBALL_TLS_DONE;
}

int cueball_tls_info_of(const cueball_tls *tls, cueball_tls_info *info)
{
    assert(tls != NULL);
    assert(info != NULL);
    memset(info, 0, sizeof *info);
    if (!tls->is_over) {
        return CUEBALL_EINVAL;
    }
    const unsigned char *alpn = NULL;
    unsigned alpn_size = 0;
    SSL_get0_alpn_selected(tls->ssl, &alpn, &alpn_size);
    (void)snprintf(info->version, sizeof info->version, "%s", SSL_get_version(tls->ssl));
    (void)snprintf(info->cipher, sizeof info->cipher, "%s", SSL_get_cipher_name(tls->ssl));
    (void)snprintf(info->alpn, sizeof info->alpn, "%.*s", (int)alpn_size, alpn != NULL ? (const char *)alpn : "");
    info->is_resumed = SSL_session_reused(tls->ssl) == 1;
    info->is_verified = tls->is_verifying;
    X509 *peer = SSL_get0_peer_certificate(tls->ssl);
    if (peer != NULL) {
        cueball__tls_text_of_name(info->subject, sizeof info->subject, X509_get_subject_name(peer));
        cueball__tls_text_of_name(info->issuer, sizeof info->issuer, X509_get_issuer_name(peer));
        int days = 0, seconds = 0;
        ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
        if (epoch != NULL && ASN1_TIME_diff(&days, &seconds, epoch, X509_get0_notAfter(peer)) == 1) {
            info->expires_s = (int64_t)days * 86400 + seconds;
        }
        ASN1_TIME_free(epoch);
    }
    return CUEBALL_OK;
}
