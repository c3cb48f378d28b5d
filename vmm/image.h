/*
 * A kernel image: 64-bit ELF with a PVH entry note (ELF gABI chapters 4 and 5;
 * Xen docs/misc/pvh). The file is hostile: every offset and size is checked
 * against its length before use.
 */
#ifndef FOAL_VMM_IMAGE_H
#define FOAL_VMM_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/error.h"

#define IMAGE_MAX_SEGMENTS 16

struct image_segment {
	uint64_t offset; /* in the file */
	uint64_t gpa;	 /* p_paddr */
	uint64_t filesz; /* <= memsz */
	uint64_t memsz;	 /* the rest is zero */
	uint32_t flags;	 /* PF_R, PF_W, PF_X */
};

struct image {
	int fd; /* owned; -1 when closed */
	const char *path;
	uint64_t size;
	uint64_t bytes_read; /* by headers and image_read(); areas count their own */
	uint32_t entry;	     /* 32-bit physical entry point */
	unsigned count;
	struct image_segment segments[IMAGE_MAX_SEGMENTS]; /* ascending, no overlap */
};

/*
 * Open and check @path for a guest whose low RAM ends at @ram_end. After 0 the
 * segments lie between 1 MiB and @ram_end. On error @err names what is wrong.
 */
int image_open(struct image *image, const char *path, uint64_t ram_end, struct foal_error *err);
void image_close(struct image *image);

/* Read exactly @len bytes of the file at @offset. */
int image_read(struct image *image, void *buf, size_t len, uint64_t offset, struct foal_error *err);

/* The first byte behind the last segment. */
uint64_t image_end(const struct image *image);

#endif
