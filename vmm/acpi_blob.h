/*
 * Tables under construction: one buffer that starts with the RSDP. What depends
 * on where they will lie, pointers and with them checksums, is noted down and
 * filled in at the end, by us for a known address (blob_place) or by the
 * guest's firmware for its own.
 */
#ifndef FOAL_VMM_ACPI_BLOB_H
#define FOAL_VMM_ACPI_BLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The RSDP is found at multiples of 16, and tables are aligned alike. */
#define BLOB_ALIGN    16
/* Bytes that the RSDP takes; what follows are the tables. */
#define BLOB_RSDP     48 /* a multiple of BLOB_ALIGN */

#define BLOB_POINTERS 8
#define BLOB_SUMS     8

/* ACPI 6.5, 5.2.6 */
struct sdt_header {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} __attribute__((packed));

struct blob {
	uint8_t *data; /* owned */
	size_t size, room;
	bool failed; /* out of memory once: what is put is dropped */
	struct {
		size_t at;
		unsigned len; /* 4 or 8 bytes, holding an offset into data until placed */
	} pointers[BLOB_POINTERS];
	struct {
		size_t at, start,
		    len; /* bytes [start, start + len) add up to 0 with the one at @at */
	} sums[BLOB_SUMS];
	unsigned nr_pointers, nr_sums;
};

/* Append @len bytes; @data NULL: zeros. Returns their offset. */
size_t blob_put(struct blob *blob, const void *data, size_t len);
void blob_align(struct blob *blob);
/* Write @value, @len bytes of it, little-endian, at @at. */
void blob_set(struct blob *blob, size_t at, unsigned len, uint64_t value);
uint64_t blob_get(const struct blob *blob, size_t at, unsigned len);
/* The @len bytes at @at point at offset @target. */
void blob_point(struct blob *blob, size_t at, unsigned len, size_t target);
/* Byte @at makes [@start, @start + @len) add up to 0. In the order of the calls. */
void blob_sum(struct blob *blob, size_t at, size_t start, size_t len);

/* A table with a header, aligned; its offset. */
size_t table_begin(struct blob *blob, const char *signature, uint8_t revision);
/* The same, of a table that iasl compiled. */
size_t table_copy(struct blob *blob, const void *table, size_t size);
/* All of it is there: fill in its length, note its checksum. */
void table_end(struct blob *blob, size_t table);

/* Fill in pointers and checksums for data that will lie at @gpa. */
void blob_place(struct blob *blob, uint64_t gpa);

#endif
