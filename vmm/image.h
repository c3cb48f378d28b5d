/*
 * A kernel image: a bzImage (linux/Documentation/arch/x86/boot.rst) or a 64-bit
 * ELF file (ELF gABI chapters 4 and 5), entered by the Linux 64-bit boot
 * protocol or by PVH (Xen docs/misc/pvh). The file is hostile: every offset and
 * size is checked against its length before use.
 */
#ifndef FOAL_VMM_IMAGE_H
#define FOAL_VMM_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <asm/bootparam.h>

#include "vmm/error.h"
#include "vmm/options.h"

#define IMAGE_MAX_SEGMENTS 16

struct image_segment {
	uint64_t offset; /* in the file */
	uint64_t gpa;	 /* where it is loaded */
	uint64_t filesz; /* <= memsz */
	uint64_t memsz;	 /* the rest is zero */
	uint32_t flags;	 /* PF_R, PF_W, PF_X */
};

struct image {
	int fd; /* owned; -1 when closed */
	const char *path;
	uint64_t size;
	uint64_t bytes_read;	   /* by headers and image_read(); areas count their own */
	enum boot_protocol boot;   /* how it is entered; not BOOT_AUTO */
	uint64_t entry;		   /* physical; below 4 GiB, inside a segment */
	struct setup_header setup; /* of a bzImage as it stands there; else zeros */
	uint64_t initrd_end;	   /* the initrd has to end here or below */
	uint32_t cmdline_max;	   /* longest command line, without the terminating zero */
	unsigned count;
	struct image_segment segments[IMAGE_MAX_SEGMENTS]; /* ascending, no overlap */
};

/*
 * Open and check @path for a guest whose low RAM ends at @ram_end (at most
 * 4 GiB) and which @boot is to enter. After 0 the segments lie between 1 MiB
 * and @ram_end, with all the room that the kernel says it needs until it reads
 * the memory map. On error @err names what is wrong, and nothing is open.
 */
int image_open(struct image *image, const char *path, enum boot_protocol boot, uint64_t ram_end,
	       struct foal_error *err);
void image_close(struct image *image);

/* Read exactly @len bytes of the file at @offset. */
int image_read(struct image *image, void *buf, size_t len, uint64_t offset, struct foal_error *err);

/* The first byte behind the last segment. */
uint64_t image_end(const struct image *image);

/* --- for image_*.c, the formats ---------------------------------------------------- */

/* "kernel @path: @what"; -ENOEXEC. */
int image_bad(struct image *image, struct foal_error *err, const char *what);

/*
 * Add a segment behind those there are. It has to lie in the file, between
 * 1 MiB and @ram_end, and behind the last one.
 */
int image_add(struct image *image, const struct image_segment *segment, uint64_t ram_end,
	      struct foal_error *err);

int image_elf(struct image *image, enum boot_protocol boot, uint64_t ram_end,
	      struct foal_error *err);

/* @start: the first bytes of the file, up to the end of its setup header. */
int image_bzimage(struct image *image, const struct setup_header *setup, uint64_t ram_end,
		  struct foal_error *err);

#endif
