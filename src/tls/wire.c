/* The bytes below TLS, as a BIO: what came, and what is to be sent. */
#include "tls.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Memory for output that is larger than this is given back when the output was taken. */
enum { OUT_KEPT_MAX = 32 * 1024, OUT_ROOM_MIN = 2048 };

static int wire_read(BIO *bio, char *bytes, size_t size, size_t *count)
{
    cueball__tls_wire *wire = BIO_get_data(bio);
    assert(wire != NULL);
    assert(wire->kept_from <= wire->kept_to);
    BIO_clear_retry_flags(bio);
    size_t kept = wire->kept_to - wire->kept_from;
    size_t taken = 0;
    if (kept > 0) {
        taken = kept < size ? kept : size;
        memcpy(bytes, wire->kept + wire->kept_from, taken);
        wire->kept_from += taken;
    } else if (wire->given_size > 0) {
        taken = wire->given_size < size ? wire->given_size : size;
        memcpy(bytes, wire->given, taken);
        wire->given += taken;
        wire->given_size -= taken;
    } else {
        BIO_set_retry_read(bio);
        return 0;
    }
    *count = taken;
    return 1;
}

/* Room for so many bytes more.  false: no memory. */
static bool wire_grow(cueball__tls_wire *wire, size_t size)
{
    assert(wire->out_size <= wire->out_room);
    if (size > SIZE_MAX / 2 - wire->out_size) {
        return false;
    }
    size_t wanted = wire->out_size + size;
    if (wanted <= wire->out_room) {
        return true;
    }
    size_t room = wire->out_room < OUT_ROOM_MIN ? OUT_ROOM_MIN : wire->out_room * 2;
    if (room < wanted) {
        room = wanted;
    }
    char *out = realloc(wire->out, room);
    if (out == NULL) {
        return false;
    }
    wire->out = out;
    wire->out_room = room;
    return true;
}

static int wire_write(BIO *bio, const char *bytes, size_t size, size_t *count)
{
    cueball__tls_wire *wire = BIO_get_data(bio);
    assert(wire != NULL);
    BIO_clear_retry_flags(bio);
    if (!wire_grow(wire, size)) {
        return 0;
    }
    memcpy(wire->out + wire->out_size, bytes, size);
    wire->out_size += size;
    *count = size;
    return 1;
}

static long wire_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static int wire_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static CRYPTO_ONCE method_once = CRYPTO_ONCE_STATIC_INIT;
static BIO_METHOD *method;

static void method_free(void)
{
    BIO_meth_free(method);
    method = NULL;
}

static void method_make(void)
{
    BIO_METHOD *made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "cueball wire");
    if (made == NULL) {
        return;
    }
    if (BIO_meth_set_read_ex(made, wire_read) != 1 || BIO_meth_set_write_ex(made, wire_write) != 1
        || BIO_meth_set_ctrl(made, wire_control) != 1 || BIO_meth_set_create(made, wire_create) != 1) {
        BIO_meth_free(made);
        return;
    }
    method = made;
    (void)atexit(method_free); /* also when this library is unloaded */
}

BIO *cueball__tls_wire_new(cueball__tls_wire *wire)
{
    assert(wire != NULL);
    if (CRYPTO_THREAD_run_once(&method_once, method_make) != 1 || method == NULL) {
        return NULL;
    }
    BIO *bio = BIO_new(method);
    if (bio != NULL) {
        BIO_set_data(bio, wire);
    }
    return bio;
}

void cueball__tls_wire_give(cueball__tls_wire *wire, const void *bytes, size_t size)
{
    assert(wire->given_size == 0);
    assert(bytes != NULL || size == 0);
    wire->given = bytes;
    wire->given_size = size;
}

bool cueball__tls_wire_has_input(const cueball__tls_wire *wire)
{
    return wire->given_size > 0 || wire->kept_to > wire->kept_from;
}

bool cueball__tls_wire_keep(cueball__tls_wire *wire)
{
    size_t kept = wire->kept_to - wire->kept_from;
    assert(wire->kept_from <= wire->kept_to);
    assert(wire->kept_to <= wire->kept_room);
    if (wire->given_size == 0) {
        if (kept == 0 && wire->kept != NULL) {
            free(wire->kept);
            wire->kept = NULL;
            wire->kept_from = wire->kept_to = wire->kept_room = 0;
        }
        return true;
    }
    size_t given_size = wire->given_size;
    const unsigned char *given = wire->given;
    wire->given = NULL;
    wire->given_size = 0;
    size_t wanted = kept + given_size;
    if (wanted < kept) {
        return false;
    }
    unsigned char *bytes = wire->kept;
    if (kept > 0) {
        memmove(bytes, bytes + wire->kept_from, kept);
    }
    wire->kept_from = 0;
    wire->kept_to = kept;
    if (wanted > wire->kept_room) {
        bytes = realloc(wire->kept, wanted);
        if (bytes == NULL) {
            return false;
        }
        wire->kept = bytes;
        wire->kept_room = wanted;
    }
    memcpy(bytes + kept, given, given_size);
    wire->kept_to = wanted;
    return true;
}

void cueball__tls_wire_free(cueball__tls_wire *wire)
{
    assert(wire != NULL);
    free(wire->kept);
    free(wire->out);
    memset(wire, 0, sizeof *wire);
}

size_t cueball_tls_output(const cueball_tls *tls, const char **bytes)
{
    assert(tls != NULL);
    assert(bytes != NULL);
    *bytes = tls->wire.out;
    return tls->wire.out_size;
}

void cueball_tls_output_taken(cueball_tls *tls)
{
    assert(tls != NULL);
    cueball__tls_wire *wire = &tls->wire;
    assert(wire->out_size <= wire->out_room);
    wire->out_size = 0;
    if (wire->out_room > OUT_KEPT_MAX) {
        free(wire->out);
        wire->out = NULL;
        wire->out_room = 0;
    }
}
