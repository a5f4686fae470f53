/* Whom to trust.
 *
 * The system's certificates are many, and a process has one store of them.  Whoever wants it first has a thread load it, so that nobody's
 * event loop stands still for it; who needs it before it is there waits for the thread. */
#include "tls.h"

#include <assert.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static struct {
    pthread_mutex_t lock;
    pthread_t thread;
    bool is_begun, is_joined;
    atomic_bool is_loaded;
    X509_STORE *store; /* the thread's until it is loaded; NULL then: it could not be */
} system_trust = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void *system_run(void *unused)
{
    (void)unused;
    X509_STORE *store = X509_STORE_new();
    if (store != NULL && X509_STORE_set_default_paths(store) != 1) {
        X509_STORE_free(store);
        store = NULL;
    }
    ERR_clear_error();
    system_trust.store = store;
    atomic_store(&system_trust.is_loaded, true);
    return NULL;
}

static void system_wait(void)
{
    (void)pthread_mutex_lock(&system_trust.lock);
    if (system_trust.is_begun && !system_trust.is_joined) {
        (void)pthread_join(system_trust.thread, NULL);
        system_trust.is_joined = true;
    }
    (void)pthread_mutex_unlock(&system_trust.lock);
}

/* The process ends, or the library is unloaded: OpenSSL must not be cleaned up under the thread. */
static void system_end(void)
{
    system_wait();
    X509_STORE_free(system_trust.store);
    system_trust.store = NULL;
}

int cueball__tls_system_load(void)
{
    int result = CUEBALL_OK;
    (void)pthread_mutex_lock(&system_trust.lock);
    if (!system_trust.is_begun) {
        system_trust.is_begun = true;
        /* What is registered after OpenSSL's own end runs before it; and when this library is unloaded, which OPENSSL_atexit() would not know. */
        if (OPENSSL_init_ssl(0, NULL) != 1 || atexit(system_end) != 0) {
            result = CUEBALL_ENOMEM;
            system_trust.is_begun = false;
        } else if (pthread_create(&system_trust.thread, NULL, system_run, NULL) != 0) {
            system_trust.is_joined = true;
            (void)system_run(NULL);
        }
    }
    (void)pthread_mutex_unlock(&system_trust.lock);
    return result;
}

bool cueball__tls_system_is_loaded(void)
{
    return atomic_load(&system_trust.is_loaded);
}

bool cueball__tls_system_attach(cueball_tls_context *context)
{
    assert(context != NULL);
    if (!context->is_system || context->has_crl) {
        return true;
    }
    system_wait();
    (void)pthread_mutex_lock(&system_trust.lock);
    assert(atomic_load(&system_trust.is_loaded));
    if (system_trust.store != NULL && !context->is_system_attached) {
        SSL_CTX_set1_cert_store(context->ssl, system_trust.store);
        context->is_system_attached = true;
    }
    (void)pthread_mutex_unlock(&system_trust.lock);
    return context->is_system_attached;
}

/* The context's own store; the system's is not given anything. */
static X509_STORE *own_store(cueball_tls_context *context)
{
    assert(context != NULL);
    if (context->is_system && !context->has_crl) {
        (void)snprintf(context->error, sizeof context->error, "TLS: the system's certificates, or others: not both");
        return NULL;
    }
    return SSL_CTX_get_cert_store(context->ssl);
}

int cueball_tls_context_trust_file(cueball_tls_context *context, const char *path)
{
    assert(path != NULL);
    X509_STORE *store = own_store(context);
    if (store == NULL) {
        return CUEBALL_EINVAL;
    }
    ERR_clear_error();
    if (X509_STORE_load_file(store, path) != 1) {
        cueball__tls_text_of_errors(context->error, path);
        return CUEBALL_EINVAL;
    }
    context->has_trust = true;
    return CUEBALL_OK;
}

int cueball_tls_context_trust_folder(cueball_tls_context *context, const char *path)
{
    assert(path != NULL);
    X509_STORE *store = own_store(context);
    if (store == NULL) {
        return CUEBALL_EINVAL;
    }
    ERR_clear_error();
    if (X509_STORE_load_path(store, path) != 1) {
        cueball__tls_text_of_errors(context->error, path);
        return CUEBALL_EINVAL;
    }
    context->has_trust = true;
    return CUEBALL_OK;
}

/* Adds the certificates of a PEM to a store: how many there were. */
static int store_add_pem(X509_STORE *store, BIO *bio)
{
    int count = 0;
    X509 *one = NULL;
    assert(store != NULL);
    while ((one = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL)) != NULL) {
        int is_added = X509_STORE_add_cert(store, one);
        X509_free(one);
        if (is_added != 1) {
            return count;
        }
        count++;
    }
    return count;
}

int cueball_tls_context_trust_pem(cueball_tls_context *context, const char *pem, size_t size)
{
    assert(pem != NULL);
    X509_STORE *store = own_store(context);
    if (store == NULL || size > INT_MAX) {
        return CUEBALL_EINVAL;
    }
    ERR_clear_error();
    BIO *bio = BIO_new_mem_buf(pem, (int)size);
    int count = bio != NULL ? store_add_pem(store, bio) : 0;
    BIO_free(bio);
    unsigned long last = ERR_peek_last_error();
    if (count == 0 || ERR_GET_LIB(last) != ERR_LIB_PEM || ERR_GET_REASON(last) != PEM_R_NO_START_LINE) {
        cueball__tls_text_of_errors(context->error, "the certificates to trust cannot be read");
        return CUEBALL_EINVAL;
    }
    ERR_clear_error();
    context->has_trust = true;
    return CUEBALL_OK;
}

/* A store of the context's own, since it has lists of revoked certificates in it. */
static int load_system_here(cueball_tls_context *context)
{
    ERR_clear_error();
    if (X509_STORE_set_default_paths(SSL_CTX_get_cert_store(context->ssl)) != 1) {
        cueball__tls_text_of_errors(context->error, "the system's certificates");
        return CUEBALL_EINVAL;
    }
    return CUEBALL_OK;
}

int cueball_tls_context_trust_system(cueball_tls_context *context)
{
    assert(context != NULL);
    if (context->is_system) {
        return CUEBALL_OK;
    }
    if (context->has_trust) {
        (void)snprintf(context->error, sizeof context->error, "TLS: the system's certificates, or others: not both");
        return CUEBALL_EINVAL;
    }
    int result = context->has_crl ? load_system_here(context) : cueball__tls_system_load();
    context->is_system = result == CUEBALL_OK;
    return result;
}

bool cueball_tls_context_is_ready(const cueball_tls_context *context)
{
    assert(context != NULL);
    return !context->is_system || context->has_crl || cueball__tls_system_is_loaded();
}

int cueball_tls_context_crl_file(cueball_tls_context *context, const char *path)
{
    assert(context != NULL);
    assert(path != NULL);
    if (context->is_system && !context->has_crl) {
        int result = load_system_here(context);
        if (result != CUEBALL_OK) {
            return result;
        }
    }
    context->has_crl = true;
    X509_STORE *store = SSL_CTX_get_cert_store(context->ssl);
    X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
    ERR_clear_error();
    if (lookup == NULL || X509_load_crl_file(lookup, path, X509_FILETYPE_PEM) < 1) {
        cueball__tls_text_of_errors(context->error, path);
        return CUEBALL_EINVAL;
    }
    if (X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context->ssl), X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL) != 1) {
        return CUEBALL_ENOMEM;
    }
    return CUEBALL_OK;
}
