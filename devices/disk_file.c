/* A file or block device of this host as the backend of a disk. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/disk.h"
#include "devices/disk_backend.h"

struct disk_file {
	struct disk_backend backend;
	int fd;
	bool regular;
};

static struct disk_file *file_of(struct disk_backend *backend)
{
	return (struct disk_file *)(void *)backend;
}

static int file_read(struct disk_backend *backend, struct iov_cursor *cursor, uint64_t len,
		     uint64_t offset)
{
	return file_transfer(file_of(backend)->fd, FROM_FILE, cursor, len, offset);
}

/* Writing past the end of a file that shrank would make it grow: that is not ours to do. */
static int still_there(const struct disk_file *file, uint64_t end)
{
	struct stat st;

	if (!file->regular)
		return 0;
	if (syscall(SYS_fstat, file->fd, &st)) /* as in ept/object.c */
		return -errno;
	return (uint64_t)st.st_size < end ? -EIO : 0;
}

static int file_write(struct disk_backend *backend, struct iov_cursor *cursor, uint64_t len,
		      uint64_t offset)
{
	struct disk_file *file = file_of(backend);
	int rc = still_there(file, offset + len);

	return rc ? rc : file_transfer(file->fd, TO_FILE, cursor, len, offset);
}

static int file_flush(struct disk_backend *backend)
{
	return fdatasync(file_of(backend)->fd) ? -errno : 0;
}

static int write_zeroes(const struct disk_file *file, uint64_t offset, uint64_t len)
{
	static const uint8_t zeroes[64 * 1024];

	while (len > 0) {
		uint64_t n = len < sizeof(zeroes) ? len : sizeof(zeroes);
		struct iovec iov = {(void *)(uintptr_t)zeroes, n};
		struct iov_cursor cursor = {&iov, 1};
		int rc = file_transfer(file->fd, TO_FILE, &cursor, n, offset);

		if (rc)
			return rc;
		offset += n;
		len -= n;
	}
	return 0;
}

static int file_zero(struct disk_backend *backend, uint64_t offset, uint64_t len, bool unmap)
{
	int mode = unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
	struct disk_file *file = file_of(backend);
	int rc = still_there(file, offset + len);

	if (rc)
		return rc;
	if (fallocate(file->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len) == 0)
		return 0;
	return write_zeroes(file, offset, len);
}

static int file_discard(struct disk_backend *backend, uint64_t offset, uint64_t len)
{
	struct disk_file *file = file_of(backend);
	int rc = still_there(file, offset + len);

	if (rc)
		return rc;
	if (fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
		      (off_t)len) == 0)
		return 0;
	return errno == EIO ? -EIO : 0;
}

static void file_close(struct disk_backend *backend)
{
	struct disk_file *file = file_of(backend);

	if (file->fd >= 0)
		close(file->fd);
	free(file);
}

static const struct disk_backend_ops file_ops = {
    .read = file_read,
    .copies_read = true,
    .write = file_write,
    .flush = file_flush,
    .zero = file_zero,
    .discard = file_discard,
    .close = file_close,
};

/* Open for what is needed, and not for appending, which ignores offsets. */
static int check_flags(int fd, bool writable)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	if ((flags & O_ACCMODE) == O_WRONLY || (flags & O_PATH))
		return -EBADF;
	if (writable && (flags & O_ACCMODE) != O_RDWR)
		return -EBADF;
	return flags & O_APPEND ? -EINVAL : 0;
}

static int find_size(struct disk_file *file)
{
	struct stat st;

	/* As in ept/object.c: also in a process that was forked, in a sandbox. */
	if (syscall(SYS_fstat, file->fd, &st))
		return -errno;
	file->regular = S_ISREG(st.st_mode);
	if (file->regular)
		file->backend.size = (uint64_t)st.st_size;
	else if (!S_ISBLK(st.st_mode))
		return -EINVAL;
	else if (ioctl(file->fd, BLKGETSIZE64, &file->backend.size))
		return -errno;
	return 0;
}

int disk_file_open(int fd, bool writable, struct disk_backend **out)
{
	struct disk_file *file;
	int rc = check_flags(fd, writable);

	if (rc)
		return rc;
	file = calloc(1, sizeof(*file));
	if (!file)
		return -ENOMEM;
	file->backend.ops = &file_ops;
	file->backend.writable = writable;
	file->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	rc = file->fd < 0 ? -errno : find_size(file);
	if (rc) {
		file_close(&file->backend);
		return rc;
	}
	*out = &file->backend;
	return 0;
}
