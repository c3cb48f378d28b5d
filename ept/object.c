/* Objects: their making, their end, and what is asked of the file itself. */
#include "ept/object.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

int64_t ept_object_file_size(const struct ept_object *obj)
{
	struct stat st;
	uint64_t size;

	if (obj->block_device)
		return ioctl(obj->fd, BLKGETSIZE64, &size) ? -errno : (int64_t)size;
	/* Not by libc, whose newfstatat takes a path besides: a sandbox cannot let that through. */
	return syscall(SYS_fstat, obj->fd, &st) ? -errno : st.st_size;
}

/* Those that are not listed may have a server, or lie on what has one. */
static bool is_local(int fd)
{
	static const unsigned local[] = {
	    EXT4_SUPER_MAGIC,  XFS_SUPER_MAGIC,	  BTRFS_SUPER_MAGIC, F2FS_SUPER_MAGIC,
	    TMPFS_MAGIC,       RAMFS_MAGIC,	  SQUASHFS_MAGIC,    EROFS_SUPER_MAGIC_V1,
	    ISOFS_SUPER_MAGIC, EXFAT_SUPER_MAGIC, MSDOS_SUPER_MAGIC,
	};
	struct statfs fs;

	if (fstatfs(fd, &fs))
		return false;
	for (size_t i = 0; i < sizeof(local) / sizeof(*local); i++)
		if ((unsigned)fs.f_type == local[i])
			return true;
	return false;
}

/* pwrite on O_APPEND appends whatever its offset; O_DIRECT takes no odd tail. */
static int check_open_mode(int fd, enum ept_file_mode mode)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	if (flags & O_PATH)
		return -EBADF;
	if (flags & O_DIRECT || (mode == EPT_FILE_SHARED && flags & O_APPEND))
		return -EINVAL;
	if ((flags & O_ACCMODE) == O_WRONLY)
		return -EACCES;
	if (mode == EPT_FILE_SHARED && (flags & O_ACCMODE) != O_RDWR)
		return -EACCES;
	return 0;
}

static int check_range(struct ept_object *obj)
{
	struct stat st;
	int64_t size;

	if (fstat(obj->fd, &st))
		return -errno;
	obj->block_device = S_ISBLK(st.st_mode);
	obj->local = is_local(obj->fd);
	if (!obj->block_device && !S_ISREG(st.st_mode))
		return -EINVAL;
	size = ept_object_file_size(obj);
	if (size < 0)
		return (int)size;
	if (!obj->length || obj->offset > (uint64_t)size ||
	    obj->length > (uint64_t)size - obj->offset)
		return -EINVAL;
	obj->file_size = size;
	return 0;
}

static struct ept_object *new_object(uint64_t length, enum ept_file_mode mode)
{
	struct ept_object *obj = calloc(1, sizeof(*obj));

	if (!obj)
		return NULL;
	obj->refs = 1;
	obj->fd = obj->memfd = obj->direct_fd = -1;
	obj->length = length;
	obj->mode = mode;
	pthread_mutex_init(&obj->lock, NULL);
	pthread_cond_init(&obj->read_done, NULL);
	pthread_mutex_init(&obj->sync_lock, NULL);
	pthread_mutex_init(&obj->users, NULL);
	return obj;
}

int ept_object_of_layers(struct ept_layers *layers, const char *name, uint64_t length,
			 struct ept_object **out)
{
	struct ept_object *obj = new_object(length, EPT_FILE_COW);

	if (obj)
		obj->name = strdup(name);
	if (!obj || !obj->name) {
		ept_object_put(obj);
		return -ENOMEM;
	}
	obj->layers = layers;
	*out = obj;
	return 0;
}

int ept_object_file(int fd, const char *name, uint64_t offset, uint64_t length,
		    enum ept_file_mode mode, struct ept_object **out)
{
	struct ept_object *obj;
	int err = check_open_mode(fd, mode);

	if (err)
		return err;
	obj = new_object(length, mode);
	if (!obj)
		return -ENOMEM;
	obj->offset = offset;
	obj->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	err = obj->fd < 0 ? -errno : check_range(obj);
	if (err)
		goto fail;
	obj->name = strdup(name);
	if (!obj->name) {
		err = -ENOMEM;
		goto fail;
	}
	*out = obj;
	return 0;
fail:
	ept_object_put(obj);
	return err;
}

struct ept_object *ept_object_ref(struct ept_object *obj)
{
	__atomic_fetch_add(&obj->refs, 1, __ATOMIC_RELAXED);
	return obj;
}

void ept_object_put(struct ept_object *obj)
{
	if (!obj || __atomic_sub_fetch(&obj->refs, 1, __ATOMIC_ACQ_REL))
		return;
	if (obj->cache)
		munmap(obj->cache, ept_object_pages(obj) << EPT_PAGE_SHIFT);
	if (obj->base)
		munmap(obj->base, ept_object_pages(obj) << EPT_PAGE_SHIFT);
	if (obj->memfd >= 0)
		close(obj->memfd);
	if (obj->direct_fd >= 0)
		close(obj->direct_fd);
	if (obj->fd >= 0)
		close(obj->fd);
	ept_layers_free(obj->layers);
	pthread_mutex_destroy(&obj->users);
	pthread_mutex_destroy(&obj->sync_lock);
	pthread_cond_destroy(&obj->read_done);
	pthread_mutex_destroy(&obj->lock);
	free(obj->unsure);
	free(obj->ever);
	free(obj->cached);
	while (obj->freezes) {
		struct ept_freeze *next = obj->freezes->next;

		free(obj->freezes);
		obj->freezes = next;
	}
	free(obj->frozen);
	free(obj->ahead);
	free(obj->name);
	free(obj);
}

static size_t pread_all(int fd, char *buf, size_t len, uint64_t offset, int *err)
{
	size_t done = 0;

	*err = 0;
	while (done < len) {
		ssize_t n = pread(fd, buf + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			*err = -errno;
		if (n <= 0)
			break;
		done += n;
	}
	return done;
}

size_t ept_object_pread(const struct ept_object *obj, void *buf, size_t len, uint64_t byte,
			int *err)
{
	return pread_all(obj->fd, buf, len, obj->offset + byte, err);
}

/* What of it does not come past the page cache (an odd end of the file, say) comes through it. */
size_t ept_object_pread_fd(struct ept_object *obj, int fd, void *buf, size_t len, uint64_t byte,
			   int *err)
{
	size_t done;

	if (fd == obj->fd)
		return ept_object_pread(obj, buf, len, byte, err);
	done = pread_all(fd, buf, len, obj->offset + byte, err);
	if (*err == -EINVAL && !done)
		ept_object_refuse_direct(obj);
	if (done < len && (!*err || *err == -EINVAL))
		done += ept_object_pread(obj, (char *)buf + done, len - done, byte + done, err);
	return done;
}

/* cachestat(2), Linux 6.5; Debian 12's headers end before. */
#define NR_CACHESTAT 451

struct cachestat_range {
	uint64_t off, len;
};

struct cachestat {
	uint64_t cached, dirty, writeback, evicted, recently_evicted; /* pages */
};

int64_t ept_object_host_cached(const struct ept_object *obj, uint64_t from, uint64_t to)
{
	struct cachestat_range range = {obj->offset + from, to - from};
	struct cachestat stat;

	return syscall(NR_CACHESTAT, obj->fd, &range, &stat, 0) ? -1 : (int64_t)stat.cached;
}

int64_t ept_object_host_cached_at_once(const struct ept_object *obj, uint64_t from, uint64_t to)
{
	return obj->local ? ept_object_host_cached(obj, from, to) : -1;
}

int ept_object_read_fd(const struct ept_object *obj, uint64_t from, uint64_t to, bool *cached)
{
	int64_t pages = ept_object_host_cached(obj, from, to);
	bool direct = obj->direct_fd >= 0 && !__atomic_load_n(&obj->no_direct, __ATOMIC_RELAXED) &&
		      !((from | to) & ~EPT_PAGE_MASK) && !pages;

	*cached = pages >= (int64_t)((to - from) >> EPT_PAGE_SHIFT);
	return direct ? obj->direct_fd : obj->fd;
}

void ept_object_refuse_direct(struct ept_object *obj)
{
	__atomic_store_n(&obj->no_direct, true, __ATOMIC_RELAXED);
}

size_t ept_object_pwrite(const struct ept_object *obj, const void *buf, size_t len, uint64_t byte,
			 int *err)
{
	size_t done = 0;

	*err = 0;
	while (done < len) {
		ssize_t n = pwrite(obj->fd, (const char *)buf + done, len - done,
				   (off_t)(obj->offset + byte + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			*err = n ? -errno : -EIO;
			break;
		}
		done += n;
	}
	return done;
}
