/* Reads a response: bytes from the network, of which nothing is known.  The
 * libc walks the records and expands their names (it checks every length and
 * follows no loop); what is checked here is that the response is one to our
 * question, and that each record's data is as long as its type says.
 *
 * `room` is filled from both ends: records from the front, texts from the back. */
#define _DEFAULT_SOURCE /* arpa/nameser.h */

#include "cueball_dns.h"

#include <arpa/nameser.h>
#include <resolv.h>
#include <string.h>
#include <strings.h>

enum { TEXT_MAX = 1025, WIRE_MAX = 255 };

typedef struct answer_room {
    cueball_record *records;
    uint32_t count;
    char *texts;          /* the lowest so far */
    bool has_ns, has_soa; /* in the authority section */
} answer_room;

/* A copy of the text at the end of the room; NULL: it is full.  The root is "." here. */
static const char *room_text(answer_room *room, const char *text)
{
    if (!*text)
        text = ".";
    size_t size = strlen(text) + 1;
    if ((size_t)(room->texts - (char *)(room->records + room->count)) < size)
        return NULL;
    room->texts -= size;
    return memcpy(room->texts, text, size);
}

static cueball_record *room_record(answer_room *room)
{
    if ((size_t)(room->texts - (char *)(room->records + room->count)) < sizeof(cueball_record))
        return NULL;
    cueball_record *record = &room->records[room->count++];
    *record = (cueball_record){ 0 };
    return record;
}

/* The name that begins at `at` in the record's data, and where it ends in *end.  CUEBALL_EINVAL. */
static int data_name(const ns_msg *message, const ns_rr *rr, const unsigned char *at, char *text, const unsigned char **end)
{
    int size = ns_name_uncompress(ns_msg_base(*message), ns_msg_end(*message), at, text, TEXT_MAX);
    if (size < 0 || at + size > ns_rr_rdata(*rr) + ns_rr_rdlen(*rr))
        return CUEBALL_EINVAL;
    *end = at + size;
    return CUEBALL_OK;
}

static int target_read(const ns_msg *message, const ns_rr *rr, size_t before, answer_room *room, cueball_record *record)
{
    char text[TEXT_MAX];
    const unsigned char *data = ns_rr_rdata(*rr), *end = NULL;
    if (ns_rr_rdlen(*rr) <= before || data_name(message, rr, data + before, text, &end) || end != data + ns_rr_rdlen(*rr))
        return CUEBALL_EINVAL;
    record->target = room_text(room, text);
    return record->target ? CUEBALL_OK : CUEBALL_ENOMEM;
}

static int address_read(const ns_rr *rr, size_t size, cueball_record *record)
{
    if (ns_rr_rdlen(*rr) != size)
        return CUEBALL_EINVAL;
    memcpy(record->address, ns_rr_rdata(*rr), size);
    return CUEBALL_OK;
}

static uint32_t read_u16(const unsigned char *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

static uint32_t read_u32(const unsigned char *at)
{
    return read_u16(at) << 16 | read_u16(at + 2);
}

static int service_read(const ns_msg *message, const ns_rr *rr, answer_room *room, cueball_record *record)
{
    enum { FIXED = 6 };
    const unsigned char *data = ns_rr_rdata(*rr);
    int error = target_read(message, rr, FIXED, room, record);
    if (error)
        return error;
    record->priority = read_u16(data);
    record->weight = read_u16(data + 2);
    record->port = read_u16(data + 4);
    return CUEBALL_OK;
}

/* Two names, which nobody here needs, and five numbers, of which `minimum` is the last. */
static int authority_read(const ns_msg *message, const ns_rr *rr, cueball_record *record)
{
    enum { NUMBERS = 20 };
    char text[TEXT_MAX];
    const unsigned char *data = ns_rr_rdata(*rr), *end = data + ns_rr_rdlen(*rr), *at = data;
    if (data == end || data_name(message, rr, at, text, &at) || at == end || data_name(message, rr, at, text, &at))
        return CUEBALL_EINVAL;
    if (end - at != NUMBERS)
        return CUEBALL_EINVAL;
    record->minimum = read_u32(end - 4);
    return CUEBALL_OK;
}

static bool is_read(const ns_rr *rr)
{
    switch ((int)ns_rr_type(*rr)) {
    case CUEBALL_RR_A:
    case CUEBALL_RR_AAAA:
    case CUEBALL_RR_CNAME:
    case CUEBALL_RR_SOA:
    case CUEBALL_RR_SRV:
        return ns_rr_class(*rr) == ns_c_in;
    default:
        return false;
    }
}

static int data_read(const ns_msg *message, const ns_rr *rr, answer_room *room, cueball_record *record)
{
    enum { IPV4_SIZE = 4, IPV6_SIZE = 16 };
    switch (record->type) {
    case CUEBALL_RR_A:
        return address_read(rr, IPV4_SIZE, record);
    case CUEBALL_RR_AAAA:
        return address_read(rr, IPV6_SIZE, record);
    case CUEBALL_RR_CNAME:
        return target_read(message, rr, 0, room, record);
    case CUEBALL_RR_SOA:
        return authority_read(message, rr, record);
    default:
        return service_read(message, rr, room, record);
    }
}

static int record_read(const ns_msg *message, const ns_rr *rr, cueball_section section, answer_room *room)
{
    /* Most records have the name of the one before. */
    const char *before = room->count > 0 ? room->records[room->count - 1].name : NULL;
    cueball_record *record = room_record(room);
    if (!record)
        return CUEBALL_ENOMEM;
    const char *name = ns_rr_name(*rr);
    record->name = before && strcmp(before, *name ? name : ".") == 0 ? before : room_text(room, name);
    if (!record->name)
        return CUEBALL_ENOMEM;
    record->type = ns_rr_type(*rr);
    record->section = section;
    record->ttl = (uint32_t)ns_rr_ttl(*rr);
    return data_read(message, rr, room, record);
}

/* The upper eight bits of the response code are in the OPT record of EDNS. */
static void opt_read(const ns_rr *rr, cueball_answer *answer)
{
    enum { OPT = 41 };
    if ((int)ns_rr_type(*rr) == OPT)
        answer->rcode |= (uint32_t)ns_rr_ttl(*rr) >> 24 << 4;
}

static int section_read(ns_msg *message, ns_sect from, cueball_section section, answer_room *room, cueball_answer *answer)
{
    for (int i = 0; i < ns_msg_count(*message, from); i++) {
        ns_rr rr;
        if (ns_parserr(message, from, i, &rr) != 0)
            return CUEBALL_EINVAL;
        if (from == ns_s_ar)
            opt_read(&rr, answer);
        room->has_ns |= from == ns_s_ns && ns_rr_type(rr) == ns_t_ns;
        room->has_soa |= from == ns_s_ns && ns_rr_type(rr) == ns_t_soa;
        if (!is_read(&rr))
            continue;
        int error = record_read(message, &rr, section, room);
        if (error)
            return error;
    }
    return CUEBALL_OK;
}

/* A whole response to exactly this question? */
static bool message_answers(ns_msg *message, const char *name, uint32_t type)
{
    unsigned char wire[WIRE_MAX];
    char text[TEXT_MAX];
    ns_rr question;
    if (!ns_msg_getflag(*message, ns_f_qr) || ns_msg_getflag(*message, ns_f_opcode) != ns_o_query || ns_msg_getflag(*message, ns_f_tc))
        return false;
    if (ns_msg_count(*message, ns_s_qd) != 1 || ns_parserr(message, ns_s_qd, 0, &question) != 0)
        return false;
    /* There and back, so that both are written in one way. */
    if (ns_name_pton(name, wire, sizeof wire) < 0 || ns_name_ntop(wire, text, sizeof text) < 0)
        return false;
    const char *asked = ns_rr_name(question);
    return ns_rr_type(question) == type && ns_rr_class(question) == ns_c_in && strcasecmp(*asked ? asked : ".", text) == 0;
}

/* The part of the room that is aligned for records. */
static bool room_begin(answer_room *room, void *memory, size_t size)
{
    size_t waste = (_Alignof(cueball_record) - (uintptr_t)memory % _Alignof(cueball_record)) % _Alignof(cueball_record);
    if (!memory || size < waste)
        return false;
    room->records = (cueball_record *)(void *)((char *)memory + waste);
    room->texts = (char *)memory + size;
    room->count = 0;
    room->has_ns = room->has_soa = false;
    return true;
}

/* Nothing but where else to ask, of a server that neither has the zone nor asks others. */
static bool message_is_referral(ns_msg message, const answer_room *room, const cueball_answer *answer)
{
    bool is_in_charge = ns_msg_getflag(message, ns_f_aa) || ns_msg_getflag(message, ns_f_ra);
    return answer->rcode == CUEBALL_RCODE_NOERROR && !is_in_charge && ns_msg_count(message, ns_s_an) == 0 && room->has_ns && !room->has_soa;
}

int cueball_dns_answer_read(const unsigned char *bytes, size_t size, const char *name, uint32_t type, void *room, size_t room_size,
                            cueball_answer *answer)
{
    static const struct {
        ns_sect from;
        cueball_section to;
    } sections[] = { { ns_s_an, CUEBALL_SECTION_ANSWER }, { ns_s_ns, CUEBALL_SECTION_AUTHORITY }, { ns_s_ar, CUEBALL_SECTION_ADDITIONAL } };
    ns_msg message;
    answer_room space;
    if (!bytes || !name || !answer || size > UINT16_MAX)
        return CUEBALL_EINVAL;
    if (ns_initparse(bytes, (int)size, &message) != 0 || !message_answers(&message, name, type))
        return CUEBALL_EINVAL;
    if (!room_begin(&space, room, room_size))
        return CUEBALL_ENOMEM;
    *answer = (cueball_answer){ .rcode = (uint32_t)ns_msg_getflag(message, ns_f_rcode) };
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        int error = section_read(&message, sections[i].from, sections[i].to, &space, answer);
        if (error)
            return error;
    }
    answer->records = space.records;
    answer->count = space.count;
    answer->is_referral = message_is_referral(message, &space, answer);
    return CUEBALL_OK;
}
