/* Who somebody is: a certificate, its chain and its private key, read from PEM. */
#include "tls.h"

#include <assert.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>

/* OpenSSL asks for the password of a key: there is none, and nobody at a terminal. */
static int password_is_wanted(char *text, int room, int is_writing, void *user)
{
    (void)text;
    (void)room;
    (void)is_writing;
    assert(user != NULL);
    *(bool *)user = true;
    return -1;
}

static BIO *pem_open(const char *bytes, size_t size)
{
    assert(bytes != NULL || size == 0);
    return size <= INT_MAX ? BIO_new_mem_buf(bytes, (int)size) : NULL;
}

/* The certificates in a PEM, one at least; NULL: OpenSSL's errors say why. */
static STACK_OF(X509) * pem_certificates(const char *bytes, size_t size)
{
    BIO *bio = pem_open(bytes, size);
    STACK_OF(X509) *found = sk_X509_new_null();
    X509 *one = NULL;
    if (bio == NULL || found == NULL) {
        BIO_free(bio);
        sk_X509_free(found);
        return NULL;
    }
    bool is_asked = false;
    while ((one = PEM_read_bio_X509_AUX(bio, NULL, password_is_wanted, &is_asked)) != NULL) {
        if (sk_X509_push(found, one) == 0) {
            X509_free(one);
            break;
        }
    }
    BIO_free(bio);
    unsigned long last = ERR_peek_last_error();
    bool is_end = ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE;
    if (sk_X509_num(found) == 0 || !is_end) {
        sk_X509_pop_free(found, X509_free);
        return NULL;
    }
    ERR_clear_error();
    return found;
}

static EVP_PKEY *pem_key(const char *bytes, size_t size, char error[TLS_TEXT_MAX])
{
    bool is_encrypted = false;
    BIO *bio = pem_open(bytes, size);
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, password_is_wanted, &is_encrypted) : NULL;
    BIO_free(bio);
    if (key == NULL && is_encrypted) {
        ERR_clear_error();
        (void)snprintf(error, TLS_TEXT_MAX, "TLS: the private key is encrypted: give it without a password (openssl pkey)");
    } else if (key == NULL) {
        cueball__tls_text_of_errors(error, "the private key cannot be read");
    }
    return key;
}

static bool use_chain(SSL_CTX *context, SSL *ssl, STACK_OF(X509) * found)
{
    X509 *own = sk_X509_value(found, 0);
    assert(own != NULL);
    assert((context == NULL) != (ssl == NULL));
    if ((ssl != NULL ? SSL_use_certificate(ssl, own) : SSL_CTX_use_certificate(context, own)) != 1) {
        return false;
    }
    if ((ssl != NULL ? SSL_clear_chain_certs(ssl) : SSL_CTX_clear_chain_certs(context)) != 1) {
        return false;
    }
    for (int index = 1; index < sk_X509_num(found); index++) {
        X509 *one = sk_X509_value(found, index);
        assert(one != NULL);
        if ((ssl != NULL ? SSL_add1_chain_cert(ssl, one) : SSL_CTX_add1_chain_cert(context, one)) != 1) {
            return false;
        }
    }
    return true;
}

static bool use_key(SSL_CTX *context, SSL *ssl, EVP_PKEY *key)
{
    assert(key != NULL);
    assert((context == NULL) != (ssl == NULL));
    return ssl != NULL ? SSL_use_PrivateKey(ssl, key) == 1 && SSL_check_private_key(ssl) == 1
                       : SSL_CTX_use_PrivateKey(context, key) == 1 && SSL_CTX_check_private_key(context) == 1;
}

int cueball__tls_identity_use(SSL_CTX *context, SSL *ssl, const char *certificate, size_t certificate_size, const char *key,
                              size_t key_size, cueball__tls_identity *identity, char error[TLS_TEXT_MAX])
{
    assert((context == NULL) != (ssl == NULL));
    assert(identity != NULL);
    ERR_clear_error();
    STACK_OF(X509) *found = pem_certificates(certificate, certificate_size);
    if (found == NULL) {
        cueball__tls_text_of_errors(error, "the certificate cannot be read");
        return CUEBALL_EINVAL;
    }
    int result = CUEBALL_EINVAL;
    EVP_PKEY *private = pem_key(key, key_size, error);
    unsigned size = 0;
    if (private == NULL) {
        goto certificates;
    }
    if (!use_chain(context, ssl, found)) {
        cueball__tls_text_of_errors(error, "the certificate cannot be used");
    } else if (!use_key(context, ssl, private)) {
        cueball__tls_text_of_errors(error, "the private key does not fit the certificate");
    } else if (X509_digest(sk_X509_value(found, 0), EVP_sha256(), identity->digest, &size) != 1) {
        cueball__tls_text_of_errors(error, "the certificate cannot be used");
    } else {
        assert(size == TLS_DIGEST_SIZE);
        result = CUEBALL_OK;
    }
    EVP_PKEY_free(private);
certificates:
    sk_X509_pop_free(found, X509_free);
    return result;
}
