/* Responses from the network: arbitrary bytes to cueball_dns_answer_read().
 *
 * The input is the type asked for (2 octets), the size of the room in units of 8
 * (2 octets), and the response.  The question is taken from the response itself
 * if it can be, since no mutation would find the name by chance.  Of what comes
 * out, every record and every text has to be within the room, and the same input
 * has to give the same again.  With -DREPLAY it runs the files it is given. */
#define _DEFAULT_SOURCE

#include "cueball_dns.h"

#include <arpa/nameser.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM_MAX = 65536 * 8, TEXT_MAX = 1025, HEAD = 4 };

#define MUST(condition)                                                                                                                    \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            fprintf(stderr, "dns_fuzz: line %d: %s\n", __LINE__, #condition);                                                              \
            abort();                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

static void text_check(const char *text, const char *room, size_t size)
{
    MUST(text >= room && text < room + size);
    size_t length = strnlen(text, (size_t)(room + size - text));
    MUST(length > 0 && length < TEXT_MAX && length < (size_t)(room + size - text));
    for (size_t i = 0; i < length; i++)
        MUST(text[i] > ' ' && text[i] < 0x7f);
}

static void record_check(const cueball_record *record, const char *room, size_t size)
{
    bool has_target = record->type == CUEBALL_RR_CNAME || record->type == CUEBALL_RR_SRV;
    text_check(record->name, room, size);
    MUST(has_target == (record->target != NULL));
    if (has_target)
        text_check(record->target, room, size);
    MUST(has_target || record->type == CUEBALL_RR_A || record->type == CUEBALL_RR_AAAA || record->type == CUEBALL_RR_SOA);
    MUST(record->section <= CUEBALL_SECTION_ADDITIONAL);
    MUST(record->priority <= UINT16_MAX && record->weight <= UINT16_MAX && record->port <= UINT16_MAX);
}

static void response_read(const unsigned char *bytes, size_t size, const char *name, uint32_t type, size_t room_size)
{
    cueball_answer answer;
    char *room = malloc(room_size ? room_size : 1); /* its end is known to the sanitizer */
    MUST(room);
    int error = cueball_dns_answer_read(bytes, size, name, type, room, room_size, &answer);
    MUST(error == CUEBALL_OK || error == CUEBALL_EINVAL || error == CUEBALL_ENOMEM);
    MUST(error != CUEBALL_ENOMEM || room_size < 1024 + 150 * size);
    if (error == CUEBALL_OK) {
        MUST(answer.rcode < 4096);
        MUST(answer.count == 0 || (const char *)answer.records >= room);
        MUST((const char *)(answer.records + answer.count) <= room + room_size);
        for (uint32_t i = 0; i < answer.count; i++)
            record_check(&answer.records[i], room, room_size);
    }
    free(room);
}

static void question_of(const unsigned char *bytes, size_t size, char *name)
{
    enum { HEADER = 12 };
    int length = -1;
    if (size > HEADER)
        length = ns_name_uncompress(bytes, bytes + size, bytes + HEADER, name, TEXT_MAX);
    if (length < 0)
        (void)snprintf(name, TEXT_MAX, "a.example");
}

int LLVMFuzzerTestOneInput(const unsigned char *input, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *input, size_t size)
{
    char name[TEXT_MAX];
    if (size < HEAD)
        return 0;
    uint32_t type = (uint32_t)input[0] << 8 | input[1];
    size_t room_size = ((size_t)input[2] << 8 | input[3]) * 8;
    size -= HEAD;
    unsigned char *bytes = malloc(size ? size : 1); /* as above */
    MUST(bytes);
    memcpy(bytes, input + HEAD, size);
    question_of(bytes, size, name);
    response_read(bytes, size, name, type, room_size);
    response_read(bytes, size, name, type, ROOM_MAX);
    free(bytes);
    return 0;
}

#ifdef REPLAY
int main(int count, char **paths)
{
    static unsigned char input[1024 * 1024];
    for (int i = 1; i < count; i++) {
        FILE *file = fopen(paths[i], "rb");
        MUST(file);
        size_t size = fread(input, 1, sizeof input, file);
        MUST(fclose(file) == 0);
        (void)LLVMFuzzerTestOneInput(input, size);
    }
    return 0;
}
#endif
