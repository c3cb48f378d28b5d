/*
 * The working set: the pages that a restored guest asked for, in that order, with their
 * bytes as the snapshot has them, one after the other (brought in by prefetch.c). So a page costs
 * what its own bytes cost, however scattered it lies, and the guest finds it there.
 *
 *   header | addresses | a checksum a chunk | up to a page's boundary | pages
 */
#include "ept/working_set.h"

#include "ept/object_snapshot.h"
#include "ept/space.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SET_MAGIC   "foalwset"
#define SET_VERSION 1U
#define CHUNK	    EPT_SET_CHUNK
#define CHUNK_BYTES (CHUNK << EPT_PAGE_SHIFT)

struct set_header {
	char magic[8];
	uint32_t version, zero;
	uint8_t id[16]; /* of the snapshot */
	uint64_t count;
	struct ept_sum table; /* of addresses and checksums */
	struct ept_sum sum;   /* of the header up to here */
};

static size_t table_bytes(uint64_t count)
{
	return count * sizeof(uint64_t) + ept_set_chunks(count) * sizeof(struct ept_sum);
}

static uint64_t pages_at(uint64_t count)
{
	return (sizeof(struct set_header) + table_bytes(count) + EPT_PAGE_SIZE - 1) & EPT_PAGE_MASK;
}

/* --- noting ------------------------------------------------------------------------------ */

int ept_space_record(struct ept_space *space)
{
	if (space->life != EPT_LIFE_NEW)
		return -EINVAL;
	space->prefetch.how = EPT_PREFETCH_RECORD;
	space->prefetch.max = 1;
	return 0;
}

int ept_notes_init(struct ept_space *space)
{
	struct ept_prefetch *p = &space->prefetch;
	bool records = p->max;

	p->max = 0;
	for (size_t i = 0; i < space->nr_areas && records; i++)
		if (space->areas[i]->kind == EPT_KIND_LAYERS)
			p->max += (space->areas[i]->end - space->areas[i]->start) >> EPT_PAGE_SHIFT;
	p->noted = p->max ? calloc(p->max, sizeof(*p->noted)) : NULL;
	return p->noted || !p->max ? 0 : -ENOMEM;
}

void ept_prefetch_note(struct ept_space *space, uint64_t gpa)
{
	struct ept_prefetch *p = &space->prefetch;
	uint64_t at = __atomic_fetch_add(&p->nr, 1, __ATOMIC_RELAXED);

	if (at < p->max)
		__atomic_store_n(&p->noted[at], gpa + 1, __ATOMIC_RELAXED);
}

/* --- its file, written ---------------------------------------------------------------------- */

static int write_at(int fd, const void *buf, size_t len, uint64_t at)
{
	const char *p = buf;

	while (len) {
		ssize_t n = pwrite(fd, p, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENOSPC;
		p += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static const struct ept_object *object_at(const struct ept_space *space, uint64_t gpa,
					  uint64_t *page)
{
	const struct ept_area *area = ept_area_find(space, gpa);

	*page = (gpa - area->start) >> EPT_PAGE_SHIFT;
	return area->obj;
}

/* What was noted and lies in a layer, in its order: how many pages. */
static uint64_t list(const struct ept_space *space, uint64_t nr, uint64_t *gpa)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < nr; i++) {
		uint64_t noted = __atomic_load_n(&space->prefetch.noted[i], __ATOMIC_RELAXED), page;
		const struct ept_object *obj;

		if (!noted) /* not written yet */
			continue;
		obj = object_at(space, noted - 1, &page);
		if (ept_layers_what(obj, page) == EPT_LAYERS_DATA)
			gpa[n++] = noted - 1;
	}
	return n;
}

static int write_chunk(const struct ept_space *space, const struct ept_working_set *set,
		       uint64_t chunk, char *buf)
{
	uint64_t pages = ept_set_chunk_pages(set->count, chunk), page;
	size_t len = pages << EPT_PAGE_SHIFT;

	for (uint64_t i = 0; i < pages; i++) {
		const struct ept_object *obj = object_at(space, set->gpa[chunk * CHUNK + i], &page);
		int what = ept_layers_page(obj, page, buf + (i << EPT_PAGE_SHIFT), NULL);

		if (what < 0)
			return what;
	}
	set->sum[chunk] = ept_checksum(buf, len);
	return write_at(set->fd, buf, len, pages_at(set->count) + chunk * CHUNK_BYTES);
}

static int write_head(const struct ept_working_set *set, const uint8_t id[16])
{
	struct set_header h = {.magic = SET_MAGIC, .version = SET_VERSION, .count = set->count};
	char *table = malloc(table_bytes(set->count) + 1);
	int err;

	if (!table)
		return -ENOMEM;
	memcpy(table, set->gpa, set->count * sizeof(*set->gpa));
	memcpy(table + set->count * sizeof(*set->gpa), set->sum,
	       ept_set_chunks(set->count) * sizeof(*set->sum));
	memcpy(h.id, id, sizeof(h.id));
	h.table = ept_checksum(table, table_bytes(set->count));
	h.sum = ept_checksum(&h, offsetof(struct set_header, sum));
	err = write_at(set->fd, table, table_bytes(set->count), sizeof(h));
	free(table);
	return err ? err : write_at(set->fd, &h, sizeof(h), 0);
}

ssize_t ept_working_set_save(const struct ept_space *space, const uint8_t id[16], int fd)
{
	const struct ept_prefetch *p = &space->prefetch;
	uint64_t nr = __atomic_load_n(&p->nr, __ATOMIC_RELAXED);
	struct ept_working_set set = {.fd = fd};
	char *buf = malloc(CHUNK_BYTES);
	int err = -ENOMEM;

	nr = nr < p->max ? nr : p->max;
	set.gpa = calloc(nr + 1, sizeof(*set.gpa));
	set.sum = calloc(ept_set_chunks(nr) + 1, sizeof(*set.sum));
	if (buf && set.gpa && set.sum) {
		set.count = list(space, nr, set.gpa);
		err = 0;
	}
	for (uint64_t chunk = 0; chunk < ept_set_chunks(set.count) && !err; chunk++)
		err = write_chunk(space, &set, chunk, buf);
	if (!err && set.count)
		err = write_head(&set, id);
	free(set.gpa);
	free(set.sum);
	free(buf);
	return err ? err : (ssize_t)set.count;
}

/* --- its file, read: untrusted ------------------------------------------------------------- */

static int read_at(int fd, void *buf, size_t len, uint64_t at)
{
	char *p = buf;

	while (len) {
		ssize_t n = pread(fd, p, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		p += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static bool header_fits(const struct set_header *h, const uint8_t id[16], uint64_t size)
{
	struct ept_sum sum = ept_checksum(h, offsetof(struct set_header, sum));

	return !memcmp(h->magic, SET_MAGIC, sizeof(h->magic)) && h->version == SET_VERSION &&
	       !h->zero && !memcmp(h->id, id, sizeof(h->id)) && ept_sums_equal(&sum, &h->sum) &&
	       h->count && h->count <= size >> EPT_PAGE_SHIFT &&
	       size == pages_at(h->count) + (h->count << EPT_PAGE_SHIFT);
}

static int read_table(struct ept_working_set *set, const struct set_header *h)
{
	size_t len = table_bytes(h->count);
	struct ept_sum sum;

	if (!ept_file_holds(set->fd, sizeof(*h),
			    len)) /* nothing is allocated that it does not hold */
		return -EINVAL;
	set->count = h->count;
	set->gpa = malloc(len);
	if (!set->gpa)
		return -ENOMEM;
	set->sum = (struct ept_sum *)(set->gpa + h->count);
	if (read_at(set->fd, set->gpa, len, sizeof(*h)))
		return -EINVAL;
	sum = ept_checksum(set->gpa, len);
	return ept_sums_equal(&sum, &h->table) ? 0 : -EINVAL;
}

int ept_working_set_open(int fd, const uint8_t id[16], struct ept_working_set **out)
{
	struct ept_working_set *set = calloc(1, sizeof(*set));
	struct set_header h;
	struct stat st;
	int err = -EINVAL;

	if (!set)
		return -ENOMEM;
	set->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (set->fd < 0)
		err = -errno;
	else if (!syscall(SYS_fstat, fd, &st) && !read_at(fd, &h, sizeof(h), 0) &&
		 header_fits(&h, id, (uint64_t)st.st_size))
		err = read_table(set, &h);
	if (err)
		ept_working_set_close(set);
	else
		*out = set;
	return err;
}

void ept_working_set_close(struct ept_working_set *set)
{
	if (!set)
		return;
	if (set->fd >= 0)
		close(set->fd);
	free(set->gpa);
	free(set);
}

uint64_t ept_set_place(const struct ept_working_set *set, uint64_t chunk)
{
	return pages_at(set->count) + chunk * CHUNK_BYTES;
}

int ept_set_read(const struct ept_working_set *set, uint64_t chunk, char *to)
{
	size_t len = ept_set_chunk_pages(set->count, chunk) << EPT_PAGE_SHIFT;
	struct ept_sum sum;
	int err = read_at(set->fd, to, len, ept_set_place(set, chunk));

	if (err)
		return err;
	sum = ept_checksum(to, len);
	return ept_sums_equal(&sum, &set->sum[chunk]) ? 0 : -EBADMSG;
}
