/* Bytes from the network: arbitrary ones to a TLS client, before, in the middle of and after its handshake.
 *
 * The input is a mode (1 octet), the size of the pieces that the rest comes in (1 octet), and the rest:
 *   mode 0  comes instead of a server's answer;
 *   mode 1  is xored into a real server's first answer, from the offset that its first two octets tell;
 *   mode 2  comes after a handshake;
 *   mode 3  likewise, as what a real server sends, which has to come out as it is.
 * Nothing may be read beyond its end, no result be anything but a cueball_tls_result, every failure has its text, and none is got over. */
#include "cueball_tls.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MODES = 4, HEAD = 2, OUT_MAX = 1 << 20 };

#define MUST(condition)                                                                                                                    \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            fprintf(stderr, "tls_fuzz: line %d: %s\n", __LINE__, #condition);                                                              \
            abort();                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

static cueball_tls_context *client_context, *server_context;

static char *pem_of(BIO *bio, size_t *size)
{
    char *bytes = NULL;
    long length = BIO_get_mem_data(bio, &bytes);
    MUST(length > 0);
    char *copy = malloc((size_t)length);
    MUST(copy != NULL);
    memcpy(copy, bytes, (size_t)length);
    *size = (size_t)length;
    BIO_free(bio);
    return copy;
}

/* Both contexts, with a certificate that signs itself and is for "db". */
static void prepare(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC, (const unsigned char *)"db", -1, -1, 0);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
    MUST(X509_sign(certificate, key, EVP_sha256()) > 0);
    BIO *one = BIO_new(BIO_s_mem()), *two = BIO_new(BIO_s_mem());
    MUST(PEM_write_bio_X509(one, certificate) == 1 && PEM_write_bio_PrivateKey(two, key, NULL, NULL, 0, NULL, NULL) == 1);
    size_t certificate_size = 0, key_size = 0;
    char *certificate_pem = pem_of(one, &certificate_size), *key_pem = pem_of(two, &key_size);
    MUST(cueball_tls_context_new(CUEBALL_TLS_CLIENT, &client_context) == CUEBALL_OK);
    MUST(cueball_tls_context_new(CUEBALL_TLS_SERVER, &server_context) == CUEBALL_OK);
    MUST(cueball_tls_context_trust_pem(client_context, certificate_pem, certificate_size) == CUEBALL_OK);
    MUST(cueball_tls_context_identity(server_context, certificate_pem, certificate_size, key_pem, key_size) == CUEBALL_OK);
    free(certificate_pem);
    free(key_pem);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static cueball_tls *begun(cueball_tls_context *context, const char *name)
{
    cueball_tls *tls = NULL;
    MUST(cueball_tls_new(context, &tls) == CUEBALL_OK);
    MUST(cueball_tls_begin(tls, name, CUEBALL_TLS_VERIFY, NULL) == CUEBALL_OK);
    return tls;
}

/* What a result may be, and its text. */
static int checked(const cueball_tls *tls, int result)
{
    const char *bytes = NULL;
    MUST(result >= CUEBALL_TLS_DONE && result <= CUEBALL_TLS_FAILED);
    MUST(cueball_tls_output(tls, &bytes) < OUT_MAX);
    MUST(result != CUEBALL_TLS_FAILED || strncmp(cueball_tls_error(tls), "TLS: ", 5) == 0);
    return result;
}

/* The output of one is what comes to the other; `how` is the other's function. */
static int pass(cueball_tls *from, cueball_tls *to, int (*how)(cueball_tls *tls, const void *wire, size_t size))
{
    const char *bytes = NULL;
    size_t size = cueball_tls_output(from, &bytes);
    int result = checked(to, how(to, bytes, size));
    cueball_tls_output_taken(from);
    return result;
}

static void greet(cueball_tls *client, cueball_tls *server)
{
    MUST(cueball_tls_handshake(client, NULL, 0) == CUEBALL_TLS_WANT);
    MUST(pass(client, server, cueball_tls_handshake) == CUEBALL_TLS_WANT);
    MUST(pass(server, client, cueball_tls_handshake) == CUEBALL_TLS_DONE);
    MUST(pass(client, server, cueball_tls_handshake) == CUEBALL_TLS_DONE);
}

/* Bytes in pieces to a client, whose handshake is over or not.  → the last result */
static int feed(cueball_tls *client, const uint8_t *bytes, size_t size, size_t piece, bool is_over)
{
    int result = CUEBALL_TLS_WANT;
    while (size > 0) {
        size_t count = size < piece ? size : piece;
        uint8_t *copy = malloc(count); /* its end is where the sanitizer sees it */
        MUST(copy != NULL);
        memcpy(copy, bytes, count);
        char plain[512];
        size_t plain_size = 0;
        int before = result;
        if (is_over) {
            result = checked(client, cueball_tls_receive(client, copy, count, plain, sizeof plain, &plain_size));
            MUST(plain_size <= sizeof plain);
            MUST(cueball_tls_peek(client, NULL, 0) <= CUEBALL_TLS_FAILED);
        } else {
            result = checked(client, cueball_tls_handshake(client, copy, count));
            is_over = result == CUEBALL_TLS_DONE;
        }
        MUST(before != CUEBALL_TLS_FAILED || result == CUEBALL_TLS_FAILED);
        free(copy);
        bytes += count;
        size -= count;
    }
    return result;
}

static void try_spoilt(cueball_tls *client, cueball_tls *server, const uint8_t *data, size_t size, size_t piece)
{
    const char *bytes = NULL;
    MUST(cueball_tls_handshake(client, NULL, 0) == CUEBALL_TLS_WANT);
    MUST(pass(client, server, cueball_tls_handshake) == CUEBALL_TLS_WANT);
    size_t count = cueball_tls_output(server, &bytes);
    uint8_t *answer = malloc(count);
    MUST(answer != NULL && count > 0);
    memcpy(answer, bytes, count);
    bool is_changed = false;
    if (size > 2) {
        size_t at = ((size_t)data[0] << 8 | data[1]) % count;
        for (size_t i = 2; i < size && at < count; i++, at++) {
            answer[at] ^= data[i];
            is_changed = is_changed || data[i] != 0;
        }
    }
    int result = feed(client, answer, count, piece, false);
    MUST(is_changed || result == CUEBALL_TLS_DONE);
    free(answer);
}

/* What a server sends comes out as it is, whatever the pieces. */
static void try_sent(cueball_tls *client, cueball_tls *server, const uint8_t *data, size_t size, size_t piece)
{
    const char *bytes = NULL;
    MUST(cueball_tls_send(server, data, size) == CUEBALL_TLS_DONE);
    MUST(cueball_tls_shutdown(server) == CUEBALL_TLS_DONE);
    size_t count = cueball_tls_output(server, &bytes), got = 0;
    char plain[97];
    int result = CUEBALL_TLS_DONE;
    for (size_t at = 0; at < count; at += piece) {
        size_t wire_size = count - at < piece ? count - at : piece, plain_size = 0;
        const char *wire = bytes + at;
        do {
            result = checked(client, cueball_tls_receive(client, wire, wire_size, plain, sizeof plain, &plain_size));
            MUST(plain_size <= size - got && memcmp(plain, data + got, plain_size) == 0);
            got += plain_size;
            wire_size = 0;
        } while (result == CUEBALL_TLS_MORE);
    }
    MUST(got == size && result == CUEBALL_TLS_CLOSED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (client_context == NULL) {
        prepare();
    }
    if (size < HEAD) {
        return 0;
    }
    int mode = data[0] % MODES;
    size_t piece = data[1] == 0 ? SIZE_MAX / 2 : data[1];
    data += HEAD;
    size -= HEAD;
    cueball_tls *client = begun(client_context, "db"), *server = begun(server_context, NULL);
    if (mode == 0) {
        MUST(cueball_tls_handshake(client, NULL, 0) == CUEBALL_TLS_WANT);
        (void)feed(client, data, size, piece, false);
    } else if (mode == 1) {
        try_spoilt(client, server, data, size, piece);
    } else {
        greet(client, server);
        if (mode == 2) {
            (void)feed(client, data, size, piece, true);
        } else {
            try_sent(client, server, data, size, piece);
        }
    }
    cueball_tls_info info;
    (void)cueball_tls_info_of(client, &info);
    cueball_tls_free(client);
    cueball_tls_free(server);
    return 0;
}
