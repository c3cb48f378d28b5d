/*
 * A tracepoint of the host's kernel, as its format file in tracefs describes it: where in a raw
 * sample its fields lie. That differs from kernel to kernel. Private to vmm/.
 */
#ifndef FOAL_VMM_TRACEPOINT_H
#define FOAL_VMM_TRACEPOINT_H

#include <stddef.h>
#include <stdint.h>

struct tracepoint_field {
	const char *name;
	unsigned offset, size; /* bytes; size 1, 2, 4 or 8 */
};

/*
 * From @text its number in *@id (which begins each of its samples), and offset and size of
 * @fields, whose names are given. -EINVAL: one of them is not there, or is no number.
 */
int tracepoint_parse(const char *text, uint64_t *id, struct tracepoint_field *fields, size_t n);

/* The same of "kvm/kvm_exit" from where tracefs is mounted. -ENOENT: it is not, or has none. */
int tracepoint_read(const char *name, uint64_t *id, struct tracepoint_field *fields, size_t n);

/* The number that stands there in @raw; 0: the sample is too short for it. */
uint64_t tracepoint_get(const struct tracepoint_field *field, const void *raw, size_t len);

#endif
