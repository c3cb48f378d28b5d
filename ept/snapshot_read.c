/*
 * A snapshot's memory is read: untrusted bytes. The whole index is checked when it is
 * opened, against its checksum and in itself; an extent when it is read.
 */
#include "ept/snapshot_read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <zstd.h>

#define MAX_INDEX (1UL << 32) /* of 5 TiB of guest memory */

struct opening {
	struct ept_snapshot *s;
	char *why;
	size_t size;
};

__attribute__((format(printf, 2, 3))) static int bad(const struct opening *o, const char *fmt, ...)
{
	char what[160];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	snprintf(o->why, o->size, "%s: memory.index: %s; take the snapshot again, or use another",
		 o->s->name, what);
	return -EINVAL;
}

/* --- what the index may say ------------------------------------------------------------- */

static bool aligned(uint64_t x)
{
	return !(x & ~EPT_PAGE_MASK);
}

static bool area_fits(const struct ept_index_header *h, const struct ept_index_area *a,
		      uint64_t after)
{
	const uint64_t top = 1UL << EPT_GPA_BITS;

	return aligned(a->gpa) && aligned(a->size) && aligned(a->offset) && a->size &&
	       a->gpa >= after && a->gpa < top && a->size <= top - a->gpa &&
	       (!a->offset ||
		(a->offset <= h->memory_bytes && a->size <= h->memory_bytes - a->offset)) &&
	       !(a->flags & ~EPT_INDEX_AREA_FILE) && !a->zero;
}

static unsigned nr_pages(uint16_t bits)
{
	return (unsigned)__builtin_popcount(bits);
}

static bool stored_fits(const struct ept_snapshot *s, const struct ept_index_area *a,
			const struct ept_index_extent *e)
{
	uint32_t bytes = nr_pages(e->present) * (uint32_t)EPT_PAGE_SIZE;

	if (e->offset > s->header.memory_bytes || e->stored > s->header.memory_bytes - e->offset)
		return false;
	if (e->flags == 0)
		return e->stored == e->pages * EPT_PAGE_SIZE &&
		       e->offset == a->offset + (e->gpa - a->gpa);
	if (e->flags == EPT_EXTENT_PACKED)
		return e->stored == bytes;
	return e->flags == (EPT_EXTENT_PACKED | EPT_EXTENT_ZSTD) && e->stored <= bytes;
}

static bool extent_fits(const struct ept_snapshot *s, const struct ept_index_area *a,
			const struct ept_index_extent *e, uint64_t after)
{
	uint64_t bits = e->pages < 64 ? (1UL << e->pages) - 1 : 0;
	uint64_t in = (e->gpa & (EPT_EXTENT - 1)) + e->pages * EPT_PAGE_SIZE;

	return e->pages && e->pages <= EPT_EXTENT_PAGES && in <= EPT_EXTENT && aligned(e->gpa) &&
	       e->gpa >= after && e->gpa >= a->gpa &&
	       e->pages * EPT_PAGE_SIZE <= a->gpa + a->size - e->gpa &&
	       /* All of what the area has there. */
	       (e->gpa == a->gpa || !(e->gpa & (EPT_EXTENT - 1))) &&
	       (in == EPT_EXTENT || e->gpa + e->pages * EPT_PAGE_SIZE == a->gpa + a->size) &&
	       !(e->present & e->zero) && (e->present | e->zero) &&
	       !((e->present | e->zero) & ~bits) && !e->reserved && stored_fits(s, a, e);
}

static int check_areas(const struct opening *o)
{
	uint64_t after = 0;

	for (uint64_t i = 0; i < o->s->header.areas; i++) {
		const struct ept_index_area *a = &o->s->areas[i];

		if (!area_fits(&o->s->header, a, after))
			return bad(o, "area %lu (%#lx, %#lx bytes) cannot be", (unsigned long)i,
				   (unsigned long)a->gpa, (unsigned long)a->size);
		after = a->gpa + a->size;
	}
	return 0;
}

static int check_extents(const struct opening *o)
{
	const struct ept_index_area *a = o->s->areas, *end = a + o->s->header.areas;
	uint64_t after = 0;

	for (uint64_t i = 0; i < o->s->header.extents; i++) {
		const struct ept_index_extent *e = &o->s->extents[i];

		while (a < end && e->gpa >= a->gpa + a->size)
			a++;
		if (a == end || !extent_fits(o->s, a, e, after))
			return bad(o, "extent %lu (%#lx) cannot be", (unsigned long)i,
				   (unsigned long)e->gpa);
		after = e->gpa + e->pages * EPT_PAGE_SIZE;
	}
	return 0;
}

static int check_header(const struct opening *o, uint64_t size)
{
	const struct ept_index_header *h = &o->s->header;
	struct ept_sum sum = ept_checksum(h, offsetof(struct ept_index_header, sum));
	uint64_t max = MAX_INDEX / sizeof(struct ept_index_extent);

	if (memcmp(h->magic, EPT_INDEX_MAGIC, sizeof(h->magic)) != 0)
		return bad(o, "this is no index of a snapshot's memory");
	if (h->version != EPT_INDEX_VERSION)
		return bad(o, "version %u, and this foal reads version %u", h->version,
			   EPT_INDEX_VERSION);
	if (!ept_sums_equal(&sum, &h->sum))
		return bad(o, "the header's checksum is wrong");
	if (h->extent != EPT_EXTENT)
		return bad(o, "extents of %u bytes, and this foal reads %lu", h->extent,
			   EPT_EXTENT);
	if (!h->areas || h->areas > max || h->extents > max ||
	    size != sizeof(*h) + h->areas * sizeof(struct ept_index_area) +
			h->extents * sizeof(struct ept_index_extent))
		return bad(o, "%lu bytes are not what its header says", (unsigned long)size);
	return 0;
}

/* --- opening ---------------------------------------------------------------------------------- */

static int read_all(int fd, void *buf, size_t len, uint64_t at)
{
	char *p = buf;

	while (len) {
		ssize_t n = pread(fd, p, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO; /* cut short */
		p += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static int64_t file_size(int fd)
{
	struct stat st;

	if (syscall(SYS_fstat, fd, &st))
		return -errno;
	return S_ISREG(st.st_mode) ? st.st_size : -EINVAL;
}

bool ept_file_holds(int fd, uint64_t from, uint64_t len)
{
	off_t hole = len ? lseek(fd, (off_t)from, SEEK_HOLE) : 0;

	if (hole < 0) /* who cannot tell of holes has none */
		return errno != ENXIO;
	return !len || (uint64_t)hole - from >= len;
}

static int read_table(const struct opening *o, int index_fd, uint64_t size)
{
	struct ept_snapshot *s = o->s;
	size_t len = size - sizeof(s->header);
	struct ept_sum sum;

	/* Nothing is allocated that the file does not hold. */
	if (!ept_file_holds(index_fd, sizeof(s->header), len))
		return bad(o, "it has holes");
	s->table = malloc(len + 1);
	if (!s->table)
		return -ENOMEM;
	if (read_all(index_fd, s->table, len, sizeof(s->header)))
		return bad(o, "cannot be read");
	sum = ept_checksum(s->table, len);
	if (!ept_sums_equal(&sum, &s->header.table))
		return bad(o, "the checksum is wrong");
	s->areas = s->table;
	s->extents = (struct ept_index_extent *)(s->areas + s->header.areas);
	return 0;
}

static int open_checked(const struct opening *o, int memory_fd, int index_fd)
{
	int64_t size = file_size(index_fd), memory = memory_fd < 0 ? 0 : file_size(memory_fd);
	int err;

	if (size < (int64_t)sizeof(o->s->header) || size > (int64_t)MAX_INDEX)
		return bad(o, "it cannot be %ld bytes long", (long)size);
	if (read_all(index_fd, &o->s->header, sizeof(o->s->header), 0))
		return bad(o, "cannot be read");
	err = check_header(o, (uint64_t)size);
	if (!err)
		err = read_table(o, index_fd, (uint64_t)size);
	if (!err)
		err = check_areas(o);
	if (!err)
		err = check_extents(o);
	if (!err && memory_fd >= 0 && (memory < 0 || (uint64_t)memory < o->s->header.memory_bytes))
		err = bad(o, "the memory file has %ld bytes of %lu", (long)memory,
			  (unsigned long)o->s->header.memory_bytes);
	if (err || memory_fd < 0)
		return err;
	o->s->memory_fd = fcntl(memory_fd, F_DUPFD_CLOEXEC, 0);
	return o->s->memory_fd < 0 ? -errno : 0;
}

int ept_snapshot_open(int memory_fd, int index_fd, const char *name, struct ept_snapshot **out,
		      char *why, size_t size)
{
	struct ept_snapshot *s = calloc(1, sizeof(*s));
	struct opening o = {.s = s, .why = why, .size = size};
	int err = -ENOMEM;

	if (!s)
		return -ENOMEM;
	snprintf(why, size, "%s: no memory for the snapshot's index", name);
	s->memory_fd = -1;
	s->name = strdup(name);
	if (s->name)
		err = open_checked(&o, memory_fd, index_fd);
	if (err)
		ept_snapshot_close(s);
	else
		*out = s;
	return err;
}

void ept_snapshot_close(struct ept_snapshot *s)
{
	if (!s)
		return;
	if (s->memory_fd >= 0)
		close(s->memory_fd);
	free(s->table);
	free(s->name);
	free(s);
}

void ept_snapshot_ids(const struct ept_snapshot *s, uint8_t id[16], uint8_t parent[16])
{
	memcpy(id, s->header.id, sizeof(s->header.id));
	memcpy(parent, s->header.parent, sizeof(s->header.parent));
}

/* --- extents --------------------------------------------------------------------------- */

const struct ept_index_extent *ept_snapshot_next(const struct ept_snapshot *s, uint64_t gpa)
{
	uint64_t low = 0, high = s->header.extents;

	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (gpa >= s->extents[mid].gpa + s->extents[mid].pages * EPT_PAGE_SIZE)
			low = mid + 1;
		else
			high = mid;
	}
	return low < s->header.extents ? &s->extents[low] : NULL;
}

const struct ept_index_extent *ept_snapshot_find(const struct ept_snapshot *s, uint64_t gpa)
{
	const struct ept_index_extent *e = ept_snapshot_next(s, gpa);

	return e && gpa >= e->gpa ? e : NULL;
}

static bool same_areas(const struct ept_snapshot *a, const struct ept_snapshot *b)
{
	bool same = a->header.areas == b->header.areas;

	for (uint64_t i = 0; same && i < a->header.areas; i++)
		same = a->areas[i].gpa == b->areas[i].gpa && a->areas[i].size == b->areas[i].size &&
		       a->areas[i].flags == b->areas[i].flags;
	return same;
}

bool ept_snapshot_chain(struct ept_snapshot *const *layers, size_t count)
{
	static const uint8_t none[16];

	for (size_t i = 0; i < count; i++) {
		const uint8_t *next = i + 1 < count ? layers[i + 1]->header.id : none;

		if (memcmp(layers[i]->header.parent, next, sizeof(none)) != 0 ||
		    !same_areas(layers[i], layers[0]))
			return false;
	}
	return count > 0;
}

/* @stored to where each page belongs. What it is was not checked yet. */
static int unpack(const struct ept_index_extent *e, const char *stored, char *to)
{
	char pages[EPT_EXTENT] __attribute__((aligned(EPT_PAGE_SIZE)));
	size_t len = nr_pages(e->present) * EPT_PAGE_SIZE, at = 0;

	if (e->flags & EPT_EXTENT_ZSTD) {
		if (ZSTD_decompress(pages, len, stored, e->stored) != len)
			return -EBADMSG;
		stored = pages;
	}
	for (unsigned i = 0; i < e->pages; i++) {
		bool present = e->present >> i & 1;

		if (present)
			memcpy(to + i * EPT_PAGE_SIZE, stored + at, EPT_PAGE_SIZE);
		else
			memset(to + i * EPT_PAGE_SIZE, 0, EPT_PAGE_SIZE);
		at += present ? EPT_PAGE_SIZE : 0;
	}
	return 0;
}

int ept_snapshot_bytes(const struct ept_snapshot *s, void *buf, size_t len, uint64_t at)
{
	return read_all(s->memory_fd, buf, len, at);
}

int ept_snapshot_extent(const struct ept_snapshot *s, const struct ept_index_extent *e, char *to)
{
	char stored[EPT_EXTENT] __attribute__((aligned(EPT_PAGE_SIZE)));
	struct ept_sum sum;
	int err = read_all(s->memory_fd, e->flags ? stored : to, e->stored, e->offset);

	if (!err && e->flags)
		err = unpack(e, stored, to);
	if (err)
		return err;
	sum = ept_checksum(to, e->pages * EPT_PAGE_SIZE);
	return ept_sums_equal(&sum, &e->sum) ? 0 : -EBADMSG;
}

void ept_snapshot_say(const struct ept_snapshot *s, const struct ept_index_extent *e, int err,
		      char *why, size_t size)
{
	snprintf(why, size,
		 "%s: memory: the extent of %u bytes at byte %lu, for gpa %#lx, %s%s; take the "
		 "snapshot again, or use another",
		 s->name, e->stored, (unsigned long)e->offset, (unsigned long)e->gpa,
		 err == -EBADMSG ? "has a wrong checksum" : "cannot be read: ",
		 err == -EBADMSG ? "" : strerrordesc_np(-err));
}
