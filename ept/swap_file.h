/*
 * The swap file: images of pages (pool.h), packed into runs of 4 KiB blocks. A
 * block is free when none of its images is needed. Where an image lies is known to
 * its page's entry alone; the file holds nothing that tells, and is not trusted.
 */
#ifndef FOAL_EPT_SWAP_FILE_H
#define FOAL_EPT_SWAP_FILE_H

#include "ept/pool.h"

#define EPT_SWAP_BLOCK 4096U
#define EPT_SWAP_RUN   32U /* blocks that are written at once */

/* Forks at a time whose children have not copied yet what they share. */
#define EPT_SWAP_PINS  128U

/* Images that begin in a block, one from before it, one more while it is filled, and the pins. */
_Static_assert(EPT_SWAP_BLOCK / EPT_IMAGE_ALIGN + 2 + EPT_SWAP_PINS <= UINT8_MAX,
	       "a block's count does not overflow");

/* What was in use when a fork began stays: each of these blocks counts one image more. */
struct ept_swap_pin {
	struct ept_swap_pin *next;
	uint64_t blocks[]; /* one bit each */
};

struct ept_swap {
	int fd; /* -1: no swap file */
	char *name;
	pthread_mutex_t lock;	    /* live, hand, top, used, pins */
	uint8_t *live;		    /* images that touch the block */
	uint64_t blocks, hand, top; /* top: blocks from there on were never in use */
	uint64_t used;		    /* blocks, atomic */
	uint64_t pages;		    /* images, atomic */
	int error;		    /* why nothing is written any more, atomic; 0: it is */
	struct ept_swap_pin *pins;  /* of forks under way */
	unsigned nr_pins;
	struct ept_swap_pin *dropped; /* pins of the process that this one was forked from */
};

/* -ENOMEM, -EMFILE, -EINVAL (not even one block, or more than 1 TiB). */
int ept_swap_open(struct ept_swap *swap, const struct ept_swap_file *file);
void ept_swap_close(struct ept_swap *swap);

/* A run of at most @blocks free blocks, none free any more: its first, *@got long. 0 got: full. */
uint64_t ept_swap_alloc(struct ept_swap *swap, unsigned blocks, unsigned *got);

/* What an entry says of the image of @size bytes at @offset of the run at block @first. */
uint64_t ept_swap_place(uint64_t first, size_t offset, size_t size);

/* The image at @place is there now, or is no longer needed. */
void ept_swap_hold(struct ept_swap *swap, uint64_t place);
void ept_swap_release(struct ept_swap *swap, uint64_t place);
/* The blocks that ept_swap_alloc() gave are held by their images alone. */
void ept_swap_seal(struct ept_swap *swap, uint64_t first, unsigned blocks);

/* @len bytes, whole blocks, block aligned. 0 or the file's error, which stops all further writes.
 */
int ept_swap_write(struct ept_swap *swap, uint64_t first, const void *run, size_t len);

/*
 * Before a fork: what is in use stays until ept_swap_unpin(). -ENOMEM; -EBUSY: there are
 * EPT_SWAP_PINS already. In the child ept_swap_adopt() lets go of its copy of all pins, its
 * own and those of forks that were under way, and copies what is left to the empty file @fd,
 * which is its own from then on; async-signal-safe.
 */
int ept_swap_pin(struct ept_swap *swap, struct ept_swap_pin **out);
/* NULL, and a pin that the child's ept_swap_adopt() has let go of: nothing. */
void ept_swap_unpin(struct ept_swap *swap, struct ept_swap_pin *pin);
int ept_swap_adopt(struct ept_swap *swap, int fd);

/*
 * Images that lie near each other are read at once: a piece of the file, the blocks from the
 * first image's on. One image always fits.
 */
#define EPT_SWAP_AHEAD 16U /* pages that come with one read */
#define EPT_SWAP_READ  (EPT_SWAP_AHEAD * EPT_SWAP_BLOCK + 2 * EPT_SWAP_BLOCK)

struct ept_swap_piece {
	char *buf; /* EPT_SWAP_READ bytes, block aligned */
	uint64_t from, to;
};

/* Does the image at @place lie behind that at @first, in one piece with it? */
bool ept_swap_near(uint64_t first, uint64_t place);

/* The piece that holds the image at @place; then that of one near it, too. */
void ept_swap_piece_begin(struct ept_swap_piece *piece, char *buf, uint64_t place);
void ept_swap_piece_add(struct ept_swap_piece *piece, uint64_t place);
/* 0, -EIO (cut short), the file's error. */
int ept_swap_piece_read(const struct ept_swap *swap, const struct ept_swap_piece *piece,
			uint64_t *bytes);
/* The page of @gpa at @place. -EIO: it is not what was written. */
int ept_swap_piece_page(const struct ept_swap_piece *piece, uint64_t place, gpa_t gpa, char *page);

#endif
