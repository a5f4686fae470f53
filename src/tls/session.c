/* What a later connection may resume.  A resumed session is not verified again, so it is bound to what it was verified for. */
#include "tls.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int cueball_tls_session_of(const cueball_tls *tls, cueball_tls_session **session)
{
    assert(tls != NULL);
    assert(session != NULL);
    SSL_SESSION *found = tls->is_over ? SSL_get0_session(tls->ssl) : NULL;
    if (found == NULL || SSL_SESSION_is_resumable(found) != 1) {
        return CUEBALL_ENOT_FOUND;
    }
    cueball_tls_session *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return CUEBALL_ENOMEM;
    }
    made->ssl = SSL_get1_session(tls->ssl);
    assert(made->ssl != NULL);
    made->context_id = tls->context->id;
    made->is_verified = tls->is_verifying;
    made->identity = tls->identity;
    memcpy(made->name, tls->name, sizeof made->name);
    *session = made;
    return CUEBALL_OK;
}

void cueball_tls_session_free(cueball_tls_session *session)
{
    if (session != NULL) {
        SSL_SESSION_free(session->ssl);
        free(session);
    }
}

bool cueball__tls_session_fits(const cueball_tls_session *session, const cueball_tls *tls)
{
    assert(session != NULL);
    assert(tls != NULL);
    if (session->context_id != tls->context->id || (tls->is_verifying && !session->is_verified)) {
        return false;
    }
    if (strcmp(session->name, tls->name) != 0 || memcmp(&session->identity, &tls->identity, sizeof tls->identity) != 0) {
        return false;
    }
    if (SSL_SESSION_is_resumable(session->ssl) != 1) {
        return false;
    }
    X509 *peer = SSL_SESSION_get0_peer(session->ssl);
    return !tls->is_verifying || (peer != NULL && X509_cmp_current_time(X509_get0_notAfter(peer)) > 0);
}
