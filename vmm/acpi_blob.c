#include "vmm/acpi_blob.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static bool make_room(struct blob *blob, size_t len)
{
	size_t room = blob->room ? blob->room : 4096;
	uint8_t *data;

	while (room - blob->size < len)
		room *= 2;
	if (room == blob->room)
		return true;
	data = realloc(blob->data, room);
	if (!data)
		return false;
	blob->data = data;
	blob->room = room;
	return true;
}

size_t blob_put(struct blob *blob, const void *data, size_t len)
{
	size_t at = blob->size;

	if (blob->failed || !make_room(blob, len)) {
		blob->failed = true;
		return 0;
	}
	if (data)
		memcpy(blob->data + at, data, len);
	else
		memset(blob->data + at, 0, len);
	blob->size += len;
	return at;
}

void blob_align(struct blob *blob)
{
	blob_put(blob, NULL, -blob->size % BLOB_ALIGN);
}

void blob_set(struct blob *blob, size_t at, unsigned len, uint64_t value)
{
	for (unsigned i = 0; i < len && !blob->failed; i++)
		blob->data[at + i] = (uint8_t)(value >> (8 * i));
}

uint64_t blob_get(const struct blob *blob, size_t at, unsigned len)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < len; i++)
		value |= (uint64_t)blob->data[at + i] << (8 * i);
	return value;
}

void blob_point(struct blob *blob, size_t at, unsigned len, size_t target)
{
	assert(blob->nr_pointers < BLOB_POINTERS);
	blob_set(blob, at, len, target);
	blob->pointers[blob->nr_pointers].at = at;
	blob->pointers[blob->nr_pointers++].len = len;
}

void blob_sum(struct blob *blob, size_t at, size_t start, size_t len)
{
	assert(blob->nr_sums < BLOB_SUMS);
	blob_set(blob, at, 1, 0);
	blob->sums[blob->nr_sums].at = at;
	blob->sums[blob->nr_sums].start = start;
	blob->sums[blob->nr_sums++].len = len;
}

size_t table_begin(struct blob *blob, const char *signature, uint8_t revision)
{
	struct sdt_header header = {
	    .revision = revision,
	    .oem_id = "FOAL",
	    .oem_table_id = "FOAL",
	    .oem_revision = 1,
	    .creator_id = {'F', 'O', 'A', 'L'},
	    .creator_revision = 1,
	};

	memcpy(header.signature, signature, sizeof(header.signature));
	memcpy(header.oem_table_id + 4, signature, sizeof(header.signature));
	blob_align(blob);
	return blob_put(blob, &header, sizeof(header));
}

size_t table_copy(struct blob *blob, const void *table, size_t size)
{
	blob_align(blob);
	return blob_put(blob, table, size);
}

void table_end(struct blob *blob, size_t table)
{
	size_t len = blob->size - table;

	blob_set(blob, table + offsetof(struct sdt_header, length), 4, len);
	blob_sum(blob, table + offsetof(struct sdt_header, checksum), table, len);
}

void blob_place(struct blob *blob, uint64_t gpa)
{
	for (unsigned i = 0; i < blob->nr_pointers; i++) {
		size_t at = blob->pointers[i].at;
		unsigned len = blob->pointers[i].len;

		blob_set(blob, at, len, blob_get(blob, at, len) + gpa);
	}
	for (unsigned i = 0; i < blob->nr_sums; i++) {
		uint8_t sum = 0;

		for (size_t j = 0; j < blob->sums[i].len; j++)
			sum += blob->data[blob->sums[i].start + j];
		blob->data[blob->sums[i].at] -= sum;
	}
}
