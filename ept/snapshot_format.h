/*
 * The memory of a snapshot as it lies in files (docs/snapshot-memory.md). All integers are
 * little endian, as this machine's are.
 *
 *   memory         the pages. Area after area, each where its offset says, a page at the
 *                  offset of its address in the area: it can be mapped as it is. What is
 *                  not in the snapshot is a hole. Or packed, for compressed extents.
 *   memory.index   header, areas, extents: what is where, and its checksum
 *
 * An extent is EPT_EXTENT bytes of one area, aligned in guest-physical memory. Its
 * checksum (XXH3-128) is of all its pages in memory, those that are not present being zeros.
 */
#ifndef FOAL_EPT_SNAPSHOT_FORMAT_H
#define FOAL_EPT_SNAPSHOT_FORMAT_H

#include "ept/checksum.h"
#include "ept/mirror.h"

#include <stdint.h>

#define EPT_INDEX_MAGIC	  "foalmemi"
#define EPT_INDEX_VERSION 1U

/* 64 KiB: 16 pages. Each first touch reads and checks so much (docs/snapshot-memory.md). */
#define EPT_EXTENT_PAGES  16U
#define EPT_EXTENT	  (EPT_EXTENT_PAGES * EPT_PAGE_SIZE)

struct ept_index_header {
	char magic[8];
	uint32_t version;
	uint32_t extent; /* bytes: EPT_EXTENT */
	uint64_t areas, extents;
	uint64_t memory_bytes; /* of the memory file, holes and all */
	uint8_t id[16];	       /* of this snapshot */
	uint8_t parent[16];    /* of the one that it is the difference to; all 0: none */
	struct ept_sum table;  /* of areas and extents */
	struct ept_sum sum;    /* of the header up to here */
};

#define EPT_INDEX_AREA_FILE 1U /* what is in no layer is the file's; else it is zero */

struct ept_index_area {
	uint64_t gpa, size, offset;
	uint32_t flags, zero;
};

#define EPT_EXTENT_PACKED 1U /* the present pages one after the other */
#define EPT_EXTENT_ZSTD	  2U /* packed, and compressed */

struct ept_index_extent {
	uint64_t gpa;
	uint64_t offset; /* in the memory file */
	uint32_t stored; /* bytes there */
	uint16_t pages;	 /* of the area, from gpa on */
	uint16_t flags;
	uint16_t present, zero; /* one bit a page: is here; is zeros. Else: see below it */
	uint32_t reserved;
	struct ept_sum sum;
};

_Static_assert(sizeof(struct ept_index_header) == 104, "as it is in files");
_Static_assert(sizeof(struct ept_index_area) == 32, "as it is in files");
_Static_assert(sizeof(struct ept_index_extent) == 48, "as it is in files");

#endif
