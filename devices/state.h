/*
 * State of a machine as bytes, in both directions: a visitor that either saves
 * or loads, so that a device or a vCPU has one function for both and the two
 * cannot drift apart. docs/formats.md describes the bytes.
 *
 *   header | record | record | ... | checksum of all before (XXH3, 128 bits)
 *
 * A record has a name, an instance, a version and a length, and holds fields or
 * records. Numbers are little endian, as the host is. What is loaded is hostile: nothing is
 * allocated for it, a field never reaches past its record, a record holds exactly what was
 * asked for. The first thing wrong is kept in one line that names the record; all later
 * calls do nothing and leave zeros, so callers need look at the end only,
 * but must not use a loaded value as an index before that.
 *
 * One thread at a time; several may load from the same bytes, each with a
 * struct state of its own.
 */
#ifndef FOAL_DEVICES_STATE_H
#define FOAL_DEVICES_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STATE_NAME_MAX 16	   /* bytes of a record's name, no terminator needed */
#define STATE_DEPTH    6	   /* records in records */
#define STATE_MAX      (64u << 20) /* bytes in all */
#define STATE_ERROR    240	   /* bytes of the line */

struct state_record {
	const char *name;
	unsigned instance;
	size_t start; /* saving: of its header */
	size_t end;   /* loading: of what it holds */
};

/* Private to state.c but for what the functions below tell. */
struct state {
	bool loading, failed;
	uint8_t *bytes; /* saving: owned */
	const uint8_t *from;
	size_t at, size; /* size: saving, of the buffer; loading, of all records */
	unsigned depth;
	struct state_record records[STATE_DEPTH];
	char error[STATE_ERROR];
};

/* --- the whole ---------------------------------------------------------------------- */

/* Begin to save. */
void state_save(struct state *s);
/*
 * Finish: *@bytes are @len bytes for the caller to free(). On error the line is in
 * s->error, and there is nothing to free: -ECANCELED.
 */
int state_saved(struct state *s, uint8_t **bytes, size_t *len);

/*
 * Begin to load from @len bytes, borrowed until the end: header and checksum are
 * looked at. False: s->error says what is wrong.
 */
bool state_load(struct state *s, const void *bytes, size_t len);
/* The same of bytes that this process has saved or loaded before: they are not looked at again. */
void state_load_again(struct state *s, const void *bytes, size_t len);
/* Go to the record @name @instance among the outermost ones, wherever it is. */
bool state_find(struct state *s, const char *name, unsigned instance);
/* Every outermost record was read, and nothing failed. */
bool state_loaded(struct state *s);

static inline bool state_ok(const struct state *s)
{
	return !s->failed;
}

/*
 * To compare what something is with what it was: a place for the record that is saved to it,
 * after state_again() each. Free it with state_room_end().
 */
void state_room(struct state *s);
void state_again(struct state *s);
void state_room_end(struct state *s);
/* Is the record that is next in @s the one that was saved to @room? Then it is passed over. */
bool state_same(struct state *s, const struct state *room);

/* --- records -------------------------------------------------------------------------- */

/*
 * Begin a record: write its header, or read it and refuse another name,
 * instance or version. @name is a string literal or lives as long.
 */
bool state_begin(struct state *s, const char *name, unsigned instance, unsigned version);
/* End it; loading, it must have been read to its end. */
bool state_end(struct state *s);
/* Loading: what is left of the innermost record is of no interest. */
void state_pass(struct state *s);

/* --- fields: each writes *@value, or reads it; false once something failed ---------------- */

bool state_u8(struct state *s, uint8_t *value);
bool state_u16(struct state *s, uint16_t *value);
bool state_u32(struct state *s, uint32_t *value);
bool state_u64(struct state *s, uint64_t *value);
bool state_i64(struct state *s, int64_t *value);
bool state_bool(struct state *s, bool *value);
/* A number that is @limit at most; what is read past that is refused and left 0. */
bool state_number(struct state *s, uint32_t *value, uint32_t limit, const char *what);
/* Exactly @len bytes. */
bool state_bytes(struct state *s, void *data, size_t len);
/* *@len bytes, @max at most, their number before them. */
bool state_blob(struct state *s, void *data, uint32_t *len, uint32_t max, const char *what);

/* --- what they mean --------------------------------------------------------------------- */

/* Refuse what is loaded unless @sound: "... : @what". True if nothing has failed. */
bool state_check(struct state *s, bool sound, const char *what);
/* Refuse for a reason of the caller's; false. */
bool state_refuse(struct state *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A number that this machine fixes: loading, it must be @value. */
bool state_fixed(struct state *s, uint64_t value, const char *what);

#endif
