/*
 * What the filesystem needs of a kernel, on the build machine: frames with guards around them,
 * allocations that are counted and can fail, and a disk in memory that can be slow or broken.
 */
#ifndef TESTS_FAKE_KERNEL_H
#define TESTS_FAKE_KERNEL_H

#include "guest/include/block.h"
#include "guest/include/fs.h"
#include "guest/include/page.h"

/* Call first, in each test: nothing allocated, no failures planned, no messages. */
void fake_reset(void);

/* Objects and frames that are allocated now. */
long fake_allocated(void);

/* The n-th allocation from now on, counting from 0, fails; negative: none. */
void fake_fail_allocation(long n);

/* Frames follow one another from now on, without guards between. */
void fake_contiguous_frames(bool on);

/* All that was printed since fake_reset, as far as it fit. */
extern char fake_log[4096];

/* Called when a task waits and no bio of a fake disk is under way. */
extern void (*fake_idle)(void);

struct fake_disk {
	struct block_device bdev;
	char *image; /* reachable through the direct map */
	size_t size;
	bool async;		      /* bios end only when somebody waits, the last first */
	u64 bad_first, bad_last;      /* sectors whose transfers fail; none if bad_last is 0 */
	unsigned bios, vecs, flushes; /* seen */
	unsigned limit;		      /* of bios: more than this is a hang */
};

/* Loads the file. `pmem`: the device gives direct access. One disk a slot, 0 or 1. */
void fake_disk_load(struct fake_disk *disk, unsigned slot, const char *path, bool pmem);
void fake_disk_save(const struct fake_disk *disk, const char *path);

/* Reads pages of the file as a fault would; each error is the page's. */
void fake_read_pages(struct inode *inode, u64 pgoff, struct page **pages, int *errors, unsigned n);

#endif
