/* What went wrong, in words that tell who was seen. */
#include "tls.h"

#include <assert.h>
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SAN_SHOWN_MAX = 5, SUBJECT_MAX = 160 };

/* Adds to a text what fits. */
static void text_add(char text[TLS_TEXT_MAX], const char *more)
{
    size_t length = strlen(text);
    assert(length < TLS_TEXT_MAX);
    (void)snprintf(text + length, TLS_TEXT_MAX - length, "%s", more);
}

static void reason_of(unsigned long error, char *text, size_t room)
{
    assert(room > 0);
    const char *reason = ERR_reason_error_string(error);
    if (ERR_SYSTEM_ERROR(error)) {
        (void)snprintf(text, room, "%s", strerror(ERR_GET_REASON(error)));
    } else if (reason == NULL) {
        (void)snprintf(text, room, "error %lx of OpenSSL", error);
    } else if (ERR_GET_LIB(error) == ERR_LIB_SSL && ERR_GET_REASON(error) >= SSL_AD_REASON_OFFSET) {
        (void)snprintf(text, room, "the peer's alert: %s", reason);
    } else if (ERR_GET_LIB(error) == ERR_LIB_SSL
               && (ERR_GET_REASON(error) == SSL_R_WRONG_VERSION_NUMBER || ERR_GET_REASON(error) == SSL_R_PACKET_LENGTH_TOO_LONG
                   || ERR_GET_REASON(error) == SSL_R_HTTP_REQUEST)) {
        (void)snprintf(text, room, "%s: what came may be no TLS", reason);
    } else {
        (void)snprintf(text, room, "%s", reason);
    }
}

void cueball__tls_text_of_errors(char text[TLS_TEXT_MAX], const char *what)
{
    assert(text != NULL);
    assert(what != NULL);
    char reason[TLS_TEXT_MAX / 2];
    unsigned long error = ERR_peek_error();
    if (error == 0) {
        (void)snprintf(reason, sizeof reason, "no reason given");
    } else {
        reason_of(error, reason, sizeof reason);
    }
    ERR_clear_error();
    (void)snprintf(text, TLS_TEXT_MAX, "TLS: %s%s%s", what, what[0] != '\0' ? ": " : "", reason);
}

/* What is in a memory BIO, as a text; the BIO is freed. */
static void text_of_bio(BIO *bio, char *text, size_t room)
{
    char *bytes = NULL;
    long size = BIO_get_mem_data(bio, &bytes);
    size_t count = size > 0 ? (size_t)size : 0;
    assert(room > 0);
    if (count > room - 1) {
        count = room - 1;
    }
    if (count > 0) {
        memcpy(text, bytes, count);
    }
    text[count] = '\0';
    BIO_free(bio);
}

void cueball__tls_text_of_name(char *text, size_t room, const X509_NAME *name)
{
    assert(text != NULL);
    assert(room > 0);
    text[0] = '\0';
    BIO *bio = name != NULL ? BIO_new(BIO_s_mem()) : NULL;
    if (bio == NULL) {
        return;
    }
    (void)X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB);
    text_of_bio(bio, text, room);
}

static void date_of(const ASN1_TIME *time, char *text, size_t room)
{
    struct tm at;
    assert(room > 0);
    text[0] = '\0';
    if (time != NULL && ASN1_TIME_to_tm(time, &at) == 1) {
        (void)strftime(text, room, "%Y-%m-%d", &at);
    }
}

static void add_general_name(char text[TLS_TEXT_MAX], const GENERAL_NAME *name)
{
    assert(name != NULL);
    if (name->type == GEN_DNS) {
        char shown[TLS_NAME_MAX + 1];
        (void)snprintf(shown, sizeof shown, "%.*s", ASN1_STRING_length(name->d.dNSName),
                       (const char *)ASN1_STRING_get0_data(name->d.dNSName));
        text_add(text, shown);
    } else if (name->type == GEN_IPADD) {
        char shown[INET6_ADDRSTRLEN] = "?";
        int size = ASN1_STRING_length(name->d.iPAddress);
        (void)inet_ntop(size == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(name->d.iPAddress), shown, sizeof shown);
        text_add(text, shown);
    } else {
        text_add(text, "another kind of name");
    }
}

/* ", and is for db2, 10.0.0.2": the names in a certificate, or that it has none. */
static void add_names(char text[TLS_TEXT_MAX], X509 *certificate)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    int count = names != NULL ? sk_GENERAL_NAME_num(names) : 0;
    assert(count >= 0);
    if (count > 0) {
        text_add(text, ", for ");
    }
    for (int index = 0; index < count; index++) {
        if (index == SAN_SHOWN_MAX) {
            text_add(text, " …");
            break;
        }
        text_add(text, index > 0 ? ", " : "");
        add_general_name(text, sk_GENERAL_NAME_value(names, index));
    }
    GENERAL_NAMES_free(names);
}

static bool is_about_issuer(int fault)
{
    return fault == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT || fault == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
           || fault == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE || fault == X509_V_ERR_UNABLE_TO_GET_CRL
           || fault == X509_V_ERR_CRL_HAS_EXPIRED;
}

void cueball__tls_text_of_fault(char text[TLS_TEXT_MAX], X509_STORE_CTX *store, const char *name)
{
    assert(text != NULL);
    assert(store != NULL);
    int fault = X509_STORE_CTX_get_error(store);
    X509 *certificate = X509_STORE_CTX_get_current_cert(store);
    char subject[SUBJECT_MAX], more[SUBJECT_MAX], date[16];
    (void)snprintf(text, TLS_TEXT_MAX, "TLS: %s", X509_verify_cert_error_string(fault));
    if (certificate == NULL) {
        return;
    }
    cueball__tls_text_of_name(subject, sizeof subject, X509_get_subject_name(certificate));
    text_add(text, " (subject ");
    text_add(text, subject[0] != '\0' ? subject : "empty");
    if (is_about_issuer(fault)) {
        cueball__tls_text_of_name(more, sizeof more, X509_get_issuer_name(certificate));
        text_add(text, ", issuer ");
        text_add(text, more);
    } else if (fault == X509_V_ERR_CERT_HAS_EXPIRED) {
        date_of(X509_get0_notAfter(certificate), date, sizeof date);
        text_add(text, ", expired ");
        text_add(text, date);
    } else if (fault == X509_V_ERR_CERT_NOT_YET_VALID) {
        date_of(X509_get0_notBefore(certificate), date, sizeof date);
        text_add(text, ", valid from ");
        text_add(text, date);
    } else if (fault == X509_V_ERR_HOSTNAME_MISMATCH || fault == X509_V_ERR_IP_ADDRESS_MISMATCH) {
        add_names(text, certificate);
        text_add(text, "; asked for ");
        text_add(text, name);
    }
    text_add(text, ")");
}
