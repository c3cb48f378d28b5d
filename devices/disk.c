/* Files as disks: read-only, copy-on-write, shared. */
#include "devices/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/block_map.h"
#include "devices/file_io.h"

struct disk {
	enum disk_mode mode;
	int fd, overlay; /* overlay is -1 until the first write */
	bool regular;
	int flush_error; /* negative; see disk_flush() */
	uint64_t size;
	/* A bit a block; allocated when first needed. */
	uint64_t *in_overlay, *was_read;
	_Atomic uint64_t file_read;
};

uint64_t disk_size(const struct disk *disk)
{
	return disk->size;
}

enum disk_mode disk_mode(const struct disk *disk)
{
	return disk->mode;
}

uint64_t disk_file_read(const struct disk *disk)
{
	return atomic_load_explicit(&disk->file_read, memory_order_relaxed);
}

static uint64_t min64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t nr_blocks(const struct disk *disk)
{
	return (disk->size + DISK_BLOCK - 1) / DISK_BLOCK;
}

/* --- reading the file ----------------------------------------------------------------- */

static void note_file_read(struct disk *disk, uint64_t offset, uint64_t len)
{
	uint64_t end = (offset + len + DISK_BLOCK - 1) / DISK_BLOCK, new = 0;

	/* Without memory for the map the count stays behind; the read is good. */
	if (block_map_need(&disk->was_read, nr_blocks(disk)))
		return;
	for (uint64_t block = offset / DISK_BLOCK; block < end; block++) {
		if (block_map_test(disk->was_read, block))
			continue;
		block_map_set(disk->was_read, block, block + 1);
		new += min64(DISK_BLOCK, disk->size - block * DISK_BLOCK);
	}
	atomic_fetch_add_explicit(&disk->file_read, new, memory_order_relaxed);
}

static int read_file(struct disk *disk, struct iov_cursor *cursor, uint64_t len, uint64_t offset)
{
	int rc = file_transfer(disk->fd, FROM_FILE, cursor, len, offset);

	if (rc == 0)
		note_file_read(disk, offset, len);
	return rc;
}

/* --- copy-on-write ----------------------------------------------------------------------- */

static int overlay_need(struct disk *disk)
{
	int rc = block_map_need(&disk->in_overlay, nr_blocks(disk));

	if (rc || disk->overlay >= 0)
		return rc;
	disk->overlay = memfd_create("foal-overlay", MFD_CLOEXEC);
	if (disk->overlay < 0)
		return -errno;
	if (ftruncate(disk->overlay, (off_t)disk->size)) {
		rc = -errno;
		close(disk->overlay);
		disk->overlay = -1;
	}
	return rc;
}

/* A block that is written in part takes the rest from the file first. */
static int overlay_fill(struct disk *disk, uint64_t block)
{
	uint64_t offset = block * DISK_BLOCK, len = min64(DISK_BLOCK, disk->size - offset);
	uint8_t data[DISK_BLOCK];
	struct iovec iov = {data, len};
	struct iov_cursor cursor = {&iov, 1};
	int rc;

	if (block_map_test(disk->in_overlay, block))
		return 0;
	rc = read_file(disk, &cursor, len, offset);
	if (rc)
		return rc;
	iov = (struct iovec){data, len};
	cursor = (struct iov_cursor){&iov, 1};
	rc = file_transfer(disk->overlay, TO_FILE, &cursor, len, offset);
	if (rc == 0)
		block_map_set(disk->in_overlay, block, block + 1);
	return rc;
}

/* Ready the overlay for new contents of the range; its whole blocks need nothing of the file. */
static int overlay_prepare(struct disk *disk, uint64_t offset, uint64_t len)
{
	uint64_t end = offset + len;
	int rc = overlay_need(disk);

	if (rc == 0 && offset % DISK_BLOCK)
		rc = overlay_fill(disk, offset / DISK_BLOCK);
	if (rc == 0 && end % DISK_BLOCK && end != disk->size)
		rc = overlay_fill(disk, end / DISK_BLOCK);
	return rc;
}

static void overlay_done(struct disk *disk, uint64_t offset, uint64_t len)
{
	block_map_set(disk->in_overlay, offset / DISK_BLOCK, (offset + len - 1) / DISK_BLOCK + 1);
}

static int overlay_write(struct disk *disk, uint64_t offset, struct iov_cursor *cursor,
			 uint64_t len)
{
	int rc = overlay_prepare(disk, offset, len);

	if (rc == 0)
		rc = file_transfer(disk->overlay, TO_FILE, cursor, len, offset);
	if (rc == 0)
		overlay_done(disk, offset, len);
	return rc;
}

static int overlay_zero(struct disk *disk, uint64_t offset, uint64_t len)
{
	int rc = overlay_prepare(disk, offset, len);

	if (rc)
		return rc;
	if (fallocate(disk->overlay, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
		      (off_t)len))
		return -errno;
	overlay_done(disk, offset, len);
	return 0;
}

/* Runs of blocks lie in the overlay or in the file by turns. */
static int overlay_read(struct disk *disk, uint64_t offset, struct iov_cursor *cursor, uint64_t len)
{
	uint64_t end = offset + len;

	while (offset < end) {
		uint64_t block = offset / DISK_BLOCK, next = block + 1, run;
		bool in = block_map_test(disk->in_overlay, block);
		int rc;

		while (next * DISK_BLOCK < end && block_map_test(disk->in_overlay, next) == in)
			next++;
		run = min64(end, next * DISK_BLOCK) - offset;
		rc = in ? file_transfer(disk->overlay, FROM_FILE, cursor, run, offset)
			: read_file(disk, cursor, run, offset);
		if (rc)
			return rc;
		offset += run;
	}
	return 0;
}

/* --- shared ------------------------------------------------------------------------------- */

/* Writing past the end of a file that shrank would make it grow: that is not ours to do. */
static int still_there(const struct disk *disk, uint64_t end)
{
	struct stat st;

	if (!disk->regular)
		return 0;
	if (fstat(disk->fd, &st))
		return -errno;
	return (uint64_t)st.st_size < end ? -EIO : 0;
}

static int shared_write(struct disk *disk, uint64_t offset, struct iov_cursor *cursor, uint64_t len)
{
	int rc = still_there(disk, offset + len);

	return rc ? rc : file_transfer(disk->fd, TO_FILE, cursor, len, offset);
}

static int write_zeroes(struct disk *disk, uint64_t offset, uint64_t len)
{
	static uint8_t zeroes[64 * 1024];

	while (len > 0) {
		uint64_t n = min64(len, sizeof(zeroes));
		struct iovec iov = {zeroes, n};
		struct iov_cursor cursor = {&iov, 1};
		int rc = file_transfer(disk->fd, TO_FILE, &cursor, n, offset);

		if (rc)
			return rc;
		offset += n;
		len -= n;
	}
	return 0;
}

static int shared_zero(struct disk *disk, uint64_t offset, uint64_t len, bool unmap)
{
	int mode = unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
	int rc = still_there(disk, offset + len);

	if (rc)
		return rc;
	if (fallocate(disk->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len) == 0)
		return 0;
	return write_zeroes(disk, offset, len);
}

/* A discard promises nothing, so a file system that cannot is no error. */
static int shared_discard(struct disk *disk, uint64_t offset, uint64_t len)
{
	int rc = still_there(disk, offset + len);

	if (rc)
		return rc;
	if (fallocate(disk->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
		      (off_t)len) == 0)
		return 0;
	return errno == EIO ? -EIO : 0;
}

/* --- requests, by mode ---------------------------------------------------------------------- */

int disk_read(struct disk *disk, uint64_t offset, struct iovec *iov, size_t nr, uint64_t len)
{
	struct iov_cursor cursor = {iov, nr};

	if (disk->mode == DISK_COW)
		return overlay_read(disk, offset, &cursor, len);
	return read_file(disk, &cursor, len, offset);
}

int disk_write(struct disk *disk, uint64_t offset, struct iovec *iov, size_t nr, uint64_t len)
{
	struct iov_cursor cursor = {iov, nr};

	switch (disk->mode) {
	case DISK_RO:
		return -EROFS;
	case DISK_COW:
		return len ? overlay_write(disk, offset, &cursor, len) : 0;
	case DISK_SHARED:
		return shared_write(disk, offset, &cursor, len);
	}
	return -EINVAL;
}

/*
 * After a failed fdatasync the host may have dropped what was to be written and
 * report success from then on (fsync(2)): no later flush can make up for it.
 */
int disk_flush(struct disk *disk)
{
	if (disk->mode == DISK_SHARED && !disk->flush_error && fdatasync(disk->fd))
		disk->flush_error = -errno;
	return disk->flush_error;
}

int disk_discard(struct disk *disk, uint64_t offset, uint64_t len)
{
	uint64_t first = (offset + DISK_BLOCK - 1) / DISK_BLOCK * DISK_BLOCK;
	uint64_t end = (offset + len) / DISK_BLOCK * DISK_BLOCK;

	switch (disk->mode) {
	case DISK_RO:
		return -EROFS;
	case DISK_COW: /* whole blocks only: half a block gives nothing back */
		return first < end ? overlay_zero(disk, first, end - first) : 0;
	case DISK_SHARED:
		return shared_discard(disk, offset, len);
	}
	return -EINVAL;
}

int disk_write_zeroes(struct disk *disk, uint64_t offset, uint64_t len, bool unmap)
{
	switch (disk->mode) {
	case DISK_RO:
		return -EROFS;
	case DISK_COW:
		return overlay_zero(disk, offset, len);
	case DISK_SHARED:
		return shared_zero(disk, offset, len, unmap);
	}
	return -EINVAL;
}

/* --- opening -----------------------------------------------------------------------------------
 */

/* Open for what the mode needs, and not for appending, which ignores offsets. */
static int check_flags(int fd, enum disk_mode mode)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	if ((flags & O_ACCMODE) == O_WRONLY || (flags & O_PATH))
		return -EBADF;
	if (mode == DISK_SHARED && (flags & O_ACCMODE) != O_RDWR)
		return -EBADF;
	return flags & O_APPEND ? -EINVAL : 0;
}

static int find_size(struct disk *disk)
{
	struct stat st;

	if (fstat(disk->fd, &st))
		return -errno;
	disk->regular = S_ISREG(st.st_mode);
	if (disk->regular)
		disk->size = (uint64_t)st.st_size;
	else if (!S_ISBLK(st.st_mode))
		return -EINVAL;
	else if (ioctl(disk->fd, BLKGETSIZE64, &disk->size))
		return -errno;
	return disk->size == 0 || disk->size % DISK_SECTOR ? -EINVAL : 0;
}

int disk_open(int fd, enum disk_mode mode, struct disk **out)
{
	struct disk *disk;
	int rc = check_flags(fd, mode);

	if (rc)
		return rc;
	disk = calloc(1, sizeof(*disk));
	if (!disk)
		return -ENOMEM;
	disk->mode = mode;
	disk->overlay = -1;
	disk->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	rc = disk->fd < 0 ? -errno : find_size(disk);
	if (rc) {
		disk_close(disk);
		return rc;
	}
	*out = disk;
	return 0;
}

void disk_close(struct disk *disk)
{
	if (!disk)
		return;
	if (disk->fd >= 0)
		close(disk->fd);
	if (disk->overlay >= 0)
		close(disk->overlay);
	free(disk->in_overlay);
	free(disk->was_read);
	free(disk);
}
