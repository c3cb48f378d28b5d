/* The page cache of an object: a sealed memfd and a bit a page. */
#include "ept/object.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define FILL_CHUNK (16 * EPT_PAGE_SIZE) /* on the stack */

/* Sealed: nobody who gets hold of it can shrink it under a mapping. */
static int make_memfd(const char *name, uint64_t size)
{
	int err, fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/*
 * Past the page cache these wait for their server in whoever begins a read, io_uring or
 * not, and a reader that waits holds up other files' reads.
 */
static bool waits_in_direct(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) || fs.f_type == FUSE_SUPER_MAGIC || fs.f_type == V9FS_MAGIC;
}

/* One more descriptor, while files can be opened: it lets reads go past the host's page cache. */
static int open_direct(const struct ept_object *obj)
{
	char path[64];

	if (obj->offset & ~EPT_PAGE_MASK || waits_in_direct(obj->fd))
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", obj->fd);
	return open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
}

#define HOST_AHEAD_KIB 128 /* Linux's own default */

/* What the device's read-ahead is set to, in pages. */
static uint64_t host_ahead(const struct ept_object *obj)
{
	/* Of the file system, of the disk, of the disk that the partition is on. */
	static const char *const paths[] = {"/sys/class/bdi/%u:%u/read_ahead_kb",
					    "/sys/dev/block/%u:%u/queue/read_ahead_kb",
					    "/sys/dev/block/%u:%u/../queue/read_ahead_kb"};
	unsigned long kib = HOST_AHEAD_KIB;
	struct stat st;

	if (fstat(obj->fd, &st))
		return kib * 1024 / EPT_PAGE_SIZE;
	for (unsigned i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
		dev_t dev = obj->block_device ? st.st_rdev : st.st_dev;
		char path[80], text[24] = "";
		int fd;

		/* NOLINTNEXTLINE(clang-diagnostic-format-nonliteral) */
		snprintf(path, sizeof(path), paths[i], major(dev), minor(dev));
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (read(fd, text, sizeof(text) - 1) > 0)
			kib = strtoul(text, NULL, 10);
		close(fd);
		break;
	}
	return kib * 1024 / EPT_PAGE_SIZE;
}

static int make_bitmaps(struct ept_object *obj)
{
	uint64_t words = (ept_object_pages(obj) + 63) / 64;

	if (!obj->cached)
		obj->cached = calloc(words, sizeof(*obj->cached));
	if (!obj->ahead)
		obj->ahead = calloc(words, sizeof(*obj->ahead));
	if (!obj->ever)
		obj->ever = calloc(words, sizeof(*obj->ever));
	return obj->cached && obj->ahead && obj->ever ? 0 : -ENOMEM;
}

int ept_object_new_cache(struct ept_object *obj)
{
	uint64_t pages = ept_object_pages(obj), size = pages << EPT_PAGE_SHIFT;
	void *cache;
	int fd = make_memfd("foal-cache", size);

	if (fd < 0)
		return fd;
	cache = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (cache == MAP_FAILED) {
		close(fd);
		return -ENOMEM;
	}
	madvise(cache, size, MADV_DONTDUMP);
	obj->memfd = fd;
	obj->cache = cache;
	return 0;
}

static int make_cache(struct ept_object *obj)
{
	int err = make_bitmaps(obj);

	if (!err)
		err = ept_object_new_cache(obj);
	if (err)
		return err;
	obj->direct_fd = open_direct(obj);
	if (!obj->host_ahead)
		obj->host_ahead = host_ahead(obj);
	return 0;
}

int ept_object_cache(struct ept_object *obj)
{
	int err = 0;

	pthread_mutex_lock(&obj->lock);
	if (!obj->cache)
		err = make_cache(obj);
	pthread_mutex_unlock(&obj->lock);
	return err;
}

bool ept_object_cached(const struct ept_object *obj, uint64_t page)
{
	return __atomic_load_n(&obj->cached[page / 64], __ATOMIC_ACQUIRE) >> (page % 64) & 1;
}

static bool ever_cached(const struct ept_object *obj, uint64_t page)
{
	return __atomic_load_n(&obj->ever[page / 64], __ATOMIC_RELAXED) >> (page % 64) & 1;
}

static void set_cached(struct ept_object *obj, uint64_t first, uint64_t end)
{
	uint64_t fresh = 0;

	for (uint64_t page = first; page < end; page = ept_word_end(page)) {
		uint64_t bits = ept_word_bits(page, end), was;

		__atomic_fetch_or(&obj->ever[page / 64], bits, __ATOMIC_RELAXED);
		was = __atomic_fetch_or(&obj->cached[page / 64], bits, __ATOMIC_RELEASE);
		fresh += (uint64_t)__builtin_popcountl(bits & ~was);
	}
	__atomic_fetch_add(&obj->nr_cached, fresh, __ATOMIC_RELAXED);
}

uint64_t ept_object_bytes_read(const struct ept_object *obj, uint64_t size)
{
	uint64_t bytes = 0, pages = (size + EPT_PAGE_SIZE - 1) >> EPT_PAGE_SHIFT;

	if (!obj->cached || !size)
		return 0;
	for (uint64_t page = 0; page < pages; page++)
		bytes += ever_cached(obj, page) ? EPT_PAGE_SIZE : 0;
	if (ever_cached(obj, pages - 1)) /* only the tail's own bytes came from the file */
		bytes -= (pages << EPT_PAGE_SHIFT) - size;
	return bytes;
}

/* The read under way that brings @page, or NULL. */
static struct ept_object_read *read_of(const struct ept_object *obj, uint64_t page)
{
	struct ept_object_read *r = obj->reads;

	while (r && (page < r->first || page >= r->end))
		r = r->next;
	return r;
}

static bool being_read(const struct ept_object *obj, uint64_t page)
{
	return read_of(obj, page);
}

bool ept_object_wanted(const struct ept_object *obj, uint64_t page)
{
	return !ept_object_cached(obj, page) && !being_read(obj, page);
}

/* The run around @page, within [first, end), that nobody has or reads. */
static struct ept_object_read plan(const struct ept_object *obj, uint64_t page, uint64_t first,
				   uint64_t end)
{
	struct ept_object_read r = {.first = page, .end = page + 1};

	while (r.first > first && ept_object_wanted(obj, r.first - 1))
		r.first--;
	while (r.end < end && ept_object_wanted(obj, r.end))
		r.end++;
	return r;
}

void ept_object_span(struct ept_object *obj, uint64_t page, uint64_t *first, uint64_t *end)
{
	const struct ept_object_read *r;
	struct ept_object_read span;

	pthread_mutex_lock(&obj->lock);
	r = read_of(obj, page);
	span = r ? *r : plan(obj, page, *first, *end);
	pthread_mutex_unlock(&obj->lock);
	*first = span.first > *first ? span.first : *first;
	*end = span.end < *end ? span.end : *end;
}

void ept_object_read_forget(struct ept_object *obj, const struct ept_object_read *r)
{
	struct ept_object_read **p = &obj->reads;

	while (*p != r)
		p = &(*p)->next;
	*p = r->next;
}

int ept_object_store(const struct ept_object *obj, const char *buf, size_t len, uint64_t byte)
{
	while (len) {
		ssize_t n = pwrite(obj->memfd, buf, len, (off_t)byte);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -ENOMEM;
		buf += n;
		byte += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/*
 * Read object bytes [from, to) into the cache; how many came. Through a buffer,
 * because reading into the mapping would fault in every page of it: 16 pages
 * took 39 us that way, 28 this way.
 */
static size_t fill_range(struct ept_object *obj, uint64_t from, uint64_t to, int *err)
{
	char buf[FILL_CHUNK] __attribute__((aligned(EPT_PAGE_SIZE)));
	bool cached;
	int fd = ept_object_read_fd(obj, from, to, &cached);
	uint64_t at = from;

	*err = 0;
	while (at < to && !*err) {
		size_t want = to - at < sizeof(buf) ? to - at : sizeof(buf);
		size_t n = ept_object_pread_fd(obj, fd, buf, want, at, err);
		int stored = ept_object_store(obj, buf, n, at);

		if (stored) {
			*err = stored;
			break;
		}
		at += n;
		if (n < want)
			break;
	}
	return at - from;
}

void ept_object_read_begins(struct ept_object *obj, struct ept_object_read *read)
{
	read->next = obj->reads;
	obj->reads = read;
}

void ept_object_read_ended(struct ept_object *obj, struct ept_object_read *read, size_t done)
{
	ept_object_read_forget(obj, read);
	set_cached(obj, read->first, ept_object_read_whole(obj, read, done));
	pthread_cond_broadcast(&obj->read_done);
}

/* Read the run @r with the lock dropped. */
static int read_run(struct ept_object *obj, struct ept_object_read *r, uint64_t *bytes)
{
	uint64_t from = r->first << EPT_PAGE_SHIFT, to = r->end << EPT_PAGE_SHIFT;
	size_t done;
	int err;

	if (to > obj->length)
		to = obj->length;
	ept_object_read_begins(obj, r);
	pthread_mutex_unlock(&obj->lock);

	done = fill_range(obj, from, to, &err);

	pthread_mutex_lock(&obj->lock);
	ept_object_read_ended(obj, r, done);
	*bytes += done;
	return err ? err : -EIO; /* asked for only where @page did not come */
}

int ept_object_fill(struct ept_object *obj, uint64_t page, uint64_t first, uint64_t end,
		    uint64_t *bytes)
{
	int err = 0;

	pthread_mutex_lock(&obj->lock);
	while (!ept_object_cached(obj, page)) {
		struct ept_object_read *under_way = read_of(obj, page), run;
		bool alone;

		if (under_way && !ept_object_ahead_undone(obj, under_way)) {
			pthread_cond_wait(&obj->read_done, &obj->lock);
			continue;
		}
		run = plan(obj, page, first, end);
		alone = run.end - run.first == 1;
		err = read_run(obj, &run, bytes);
		if (ept_object_cached(obj, page) || alone)
			break;
		/* A neighbour's trouble is not this page's: read it alone. */
		first = page;
		end = page + 1;
	}
	if (ept_object_cached(obj, page))
		err = 0;
	pthread_mutex_unlock(&obj->lock);
	return err;
}
