/* State as bytes: header, records, fields, checksum (docs/formats.md). */
#include "devices/state.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define FORMAT_VERSION 1
#define FIRST_SIZE     4096

static const char magic[8] = "foalSTAT";

struct header {
	char magic[8];
	uint32_t version, reserved;
	uint64_t len; /* of everything, the checksum included */
} __attribute__((packed));

struct record_header {
	char name[STATE_NAME_MAX]; /* zeros behind it */
	uint16_t instance, version;
	uint32_t len; /* of what follows */
} __attribute__((packed));

#define CHECKSUM_SIZE sizeof(XXH128_canonical_t)

/* --- what is wrong --------------------------------------------------------------------- */

/* "vm / virtio-blk 1: " of the records that are open. */
static size_t put_path(const struct state *s, char *to, size_t size)
{
	size_t at = (size_t)snprintf(to, size, "state");

	for (unsigned i = 0; i < s->depth && at < size; i++)
		at += (size_t)snprintf(to + at, size - at, "%s%s %u", i ? " / " : ": ",
				       s->records[i].name, s->records[i].instance);
	return at < size ? at : size - 1;
}

bool state_refuse(struct state *s, const char *fmt, ...)
{
	va_list args;
	size_t at;

	if (s->failed)
		return false;
	s->failed = true;
	at = put_path(s, s->error, sizeof(s->error));
	at += (size_t)snprintf(s->error + at, sizeof(s->error) - at, ": ");
	if (at < sizeof(s->error)) {
		va_start(args, fmt);
		vsnprintf(s->error + at, sizeof(s->error) - at, fmt, args);
		va_end(args);
	}
	return false;
}

bool state_check(struct state *s, bool sound, const char *what)
{
	if (s->failed)
		return false;
	return sound || !s->loading || state_refuse(s, "%s", what);
}

/* --- bytes -------------------------------------------------------------------------------- */

/* Room for @len more bytes. */
static bool grow(struct state *s, size_t len)
{
	size_t size = s->size ? s->size : FIRST_SIZE;
	uint8_t *bytes;

	if (len > STATE_MAX - s->at)
		return state_refuse(s, "more than %u MiB of state", STATE_MAX >> 20);
	while (size - s->at < len)
		size *= 2;
	if (size == s->size)
		return true;
	bytes = realloc(s->bytes, size);
	if (!bytes)
		return state_refuse(s, "out of memory");
	s->bytes = bytes;
	s->size = size;
	return true;
}

static size_t end_of(const struct state *s)
{
	return s->depth ? s->records[s->depth - 1].end : s->size;
}

bool state_bytes(struct state *s, void *data, size_t len)
{
	if (s->failed) {
		if (s->loading)
			memset(data, 0, len);
		return false;
	}
	if (!s->loading) {
		if (!grow(s, len))
			return false;
		memcpy(s->bytes + s->at, data, len);
	} else {
		if (len > end_of(s) - s->at) {
			memset(data, 0, len);
			return state_refuse(s, "the record ends early, at byte %zu", s->at);
		}
		memcpy(data, s->from + s->at, len);
	}
	s->at += len;
	return true;
}

bool state_u8(struct state *s, uint8_t *value)
{
	return state_bytes(s, value, sizeof(*value));
}

bool state_u16(struct state *s, uint16_t *value)
{
	return state_bytes(s, value, sizeof(*value));
}

bool state_u32(struct state *s, uint32_t *value)
{
	return state_bytes(s, value, sizeof(*value));
}

bool state_u64(struct state *s, uint64_t *value)
{
	return state_bytes(s, value, sizeof(*value));
}

bool state_i64(struct state *s, int64_t *value)
{
	return state_bytes(s, value, sizeof(*value));
}

bool state_bool(struct state *s, bool *value)
{
	uint8_t byte = s->loading ? 0 : *value;
	bool ok = state_u8(s, &byte) && state_check(s, byte <= 1, "a flag is neither 0 nor 1");

	if (s->loading)
		*value = ok && byte;
	return ok;
}

bool state_number(struct state *s, uint32_t *value, uint32_t limit, const char *what)
{
	if (!state_u32(s, value))
		return false;
	if (!s->loading || *value <= limit)
		return true;
	state_refuse(s, "%s is %u, at most %u is possible", what, *value, limit);
	*value = 0;
	return false;
}

bool state_blob(struct state *s, void *data, uint32_t *len, uint32_t max, const char *what)
{
	return state_number(s, len, max, what) && state_bytes(s, data, *len);
}

bool state_fixed(struct state *s, uint64_t value, const char *what)
{
	uint64_t saved = value;

	if (!state_u64(s, &saved))
		return false;
	return saved == value || state_refuse(s, "%s was %llu, and is %llu here", what,
					      (unsigned long long)saved, (unsigned long long)value);
}

/* --- records ---------------------------------------------------------------------------------- */

/* Of a name that may be anything: for a message. */
static void printable(char to[STATE_NAME_MAX + 1], const char name[STATE_NAME_MAX])
{
	for (unsigned i = 0; i < STATE_NAME_MAX; i++)
		to[i] = name[i];
	for (unsigned i = 0; i < STATE_NAME_MAX; i++)
		if (to[i] && (to[i] < ' ' || to[i] > '~'))
			to[i] = '?';
	to[STATE_NAME_MAX] = 0;
}

static bool is_record(const struct record_header *header, const char *name, unsigned instance)
{
	return strncmp(header->name, name, STATE_NAME_MAX) == 0 && header->instance == instance;
}

static bool read_header(struct state *s, const char *name, unsigned instance, unsigned version,
			struct record_header *header)
{
	char found[STATE_NAME_MAX + 1];

	if (sizeof(*header) > end_of(s) - s->at)
		return state_refuse(s, "record %s %u is not there, at byte %zu", name, instance,
				    s->at);
	memcpy(header, s->from + s->at, sizeof(*header));
	printable(found, header->name);
	if (!is_record(header, name, instance))
		return state_refuse(s, "record %s %u is expected at byte %zu, and there is %s %u",
				    name, instance, s->at, found, header->instance);
	if (header->version != version)
		return state_refuse(s, "record %s %u has version %u, this foal reads version %u",
				    name, instance, header->version, version);
	if (header->len > end_of(s) - s->at - sizeof(*header))
		return state_refuse(s, "record %s %u is longer than what it lies in", name,
				    instance);
	s->at += sizeof(*header);
	return true;
}

bool state_begin(struct state *s, const char *name, unsigned instance, unsigned version)
{
	struct record_header header = {.instance = (uint16_t)instance,
				       .version = (uint16_t)version};
	struct state_record record = {.name = name, .instance = instance, .start = s->at};

	if (s->failed)
		return false;
	if (s->depth == STATE_DEPTH)
		return state_refuse(s, "records are nested too deeply");
	if (s->loading) {
		if (!read_header(s, name, instance, version, &header))
			return false;
		record.end = s->at + header.len;
	} else {
		memcpy(header.name, name, strnlen(name, STATE_NAME_MAX));
		if (!state_bytes(s, &header, sizeof(header)))
			return false;
	}
	s->records[s->depth++] = record;
	return true;
}

void state_pass(struct state *s)
{
	if (!s->failed)
		s->at = s->records[s->depth - 1].end;
}

bool state_end(struct state *s)
{
	const struct state_record *record;

	if (s->failed)
		return false;
	record = &s->records[s->depth - 1];
	if (s->loading) {
		if (s->at != record->end)
			return state_refuse(s, "the record is %zu bytes too long",
					    record->end - s->at);
	} else {
		uint32_t len = (uint32_t)(s->at - record->start - sizeof(struct record_header));

		memcpy(s->bytes + record->start + offsetof(struct record_header, len), &len,
		       sizeof(len));
	}
	s->depth--;
	return true;
}

/* --- the whole ----------------------------------------------------------------------------------
 */

static void checksum(const uint8_t *bytes, size_t len, XXH128_canonical_t *out)
{
	XXH128_canonicalFromHash(out, XXH3_128bits(bytes, len));
}

void state_save(struct state *s)
{
	struct header header = {.version = FORMAT_VERSION};

	*s = (struct state){0};
	memcpy(header.magic, magic, sizeof(magic));
	state_bytes(s, &header, sizeof(header));
}

int state_saved(struct state *s, uint8_t **bytes, size_t *len)
{
	uint64_t total = s->at + CHECKSUM_SIZE;
	XXH128_canonical_t sum;

	if (!s->failed && grow(s, CHECKSUM_SIZE)) {
		memcpy(s->bytes + offsetof(struct header, len), &total, sizeof(total));
		checksum(s->bytes, s->at, &sum);
		memcpy(s->bytes + s->at, &sum, sizeof(sum));
		*bytes = s->bytes;
		*len = total;
		s->bytes = NULL;
		return 0;
	}
	free(s->bytes);
	s->bytes = NULL;
	return -ECANCELED;
}

bool state_load(struct state *s, const void *bytes, size_t len)
{
	struct header header;
	XXH128_canonical_t sum;

	*s = (struct state){.loading = true, .from = bytes};
	if (len < sizeof(header) + CHECKSUM_SIZE)
		return state_refuse(s, "%zu bytes are too short to be one", len);
	if (len > STATE_MAX)
		return state_refuse(s, "%zu bytes are too long to be one", len);
	memcpy(&header, bytes, sizeof(header));
	if (memcmp(header.magic, magic, sizeof(magic)) != 0)
		return state_refuse(s, "this is no state of foal's");
	if (header.version != FORMAT_VERSION)
		return state_refuse(s, "format %u is not known, this foal reads %d", header.version,
				    FORMAT_VERSION);
	if (header.reserved || header.len != len)
		return state_refuse(s, "it has %zu bytes, by its header %llu", len,
				    (unsigned long long)header.len);
	checksum(bytes, len - CHECKSUM_SIZE, &sum);
	if (memcmp((const uint8_t *)bytes + len - CHECKSUM_SIZE, &sum, sizeof(sum)) != 0)
		return state_refuse(s, "the checksum is wrong: the file was damaged");
	state_load_again(s, bytes, len);
	return true;
}

void state_load_again(struct state *s, const void *bytes, size_t len)
{
	*s = (struct state){.loading = true,
			    .from = bytes,
			    .at = sizeof(struct header),
			    .size = len - CHECKSUM_SIZE};
}

bool state_find(struct state *s, const char *name, unsigned instance)
{
	struct record_header header;
	size_t at = sizeof(struct header);

	if (s->failed)
		return false;
	while (s->size - at >= sizeof(header)) {
		memcpy(&header, s->from + at, sizeof(header));
		if (is_record(&header, name, instance)) {
			s->at = at;
			return true;
		}
		at += sizeof(header);
		if (header.len > s->size - at)
			break;
		at += header.len;
	}
	return state_refuse(s, "there is no record %s %u", name, instance);
}

bool state_loaded(struct state *s)
{
	if (s->failed)
		return false;
	return s->at == s->size ||
	       state_refuse(s, "%zu bytes follow that nobody asked for", s->size - s->at);
}

/* --- comparing ------------------------------------------------------------------------------ */

void state_room(struct state *s)
{
	*s = (struct state){0};
}

void state_again(struct state *s)
{
	s->at = 0;
	s->depth = 0;
	s->failed = false;
}

void state_room_end(struct state *s)
{
	free(s->bytes);
	*s = (struct state){0};
}

bool state_same(struct state *s, const struct state *room)
{
	if (s->failed || room->failed || room->at > end_of(s) - s->at ||
	    memcmp(room->bytes, s->from + s->at, room->at) != 0)
		return false;
	s->at += room->at;
	return true;
}
