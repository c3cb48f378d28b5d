/* The working set of a restored space: its file, and what is noted for the next one. */
#ifndef FOAL_EPT_WORKING_SET_H
#define FOAL_EPT_WORKING_SET_H

#include "ept/snapshot.h"
#include "ept/snapshot_format.h"

/* Pages that are read, and checked, at once. */
#define EPT_SET_CHUNK 256UL

struct ept_working_set {
	int fd;
	uint64_t count;
	uint64_t *gpa;	     /* of pages; the table begins here */
	struct ept_sum *sum; /* of chunks */
};

static inline uint64_t ept_set_chunks(uint64_t count)
{
	return (count + EPT_SET_CHUNK - 1) / EPT_SET_CHUNK;
}

static inline uint64_t ept_set_chunk_pages(uint64_t count, uint64_t chunk)
{
	uint64_t left = count - chunk * EPT_SET_CHUNK;

	return left < EPT_SET_CHUNK ? left : EPT_SET_CHUNK;
}

/* Where the chunk's pages lie in the file. */
uint64_t ept_set_place(const struct ept_working_set *set, uint64_t chunk);
/* Read and check them: -EBADMSG, or the file's error. */
int ept_set_read(const struct ept_working_set *set, uint64_t chunk, char *to);

/* Room for the pages of @space that may be asked for, if it records. -ENOMEM. */
int ept_notes_init(struct ept_space *space);
/* The page at @gpa came in because it was asked for. */
void ept_prefetch_note(struct ept_space *space, uint64_t gpa);

#endif
