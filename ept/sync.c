/*
 * Write-back of shared files.
 *
 *   1. under each leaf's lock: write-protect what is dirty, call it clean;
 *   2. without locks: pwrite the runs from the cache, then fdatasync;
 *   3. on an error: what was taken in step 1 is dirty again, and writable.
 *
 * A page written between 1 and 2 faults, is dirty again and belongs to the next
 * sync, whatever of it this one wrote. One sync of an object at a time: the
 * next must not find pages clean that are not on disk yet.
 *
 * After a failed fdatasync the host's page cache may call pages clean that never
 * reached the disk (fsync(2)): what was written and not synced is written again
 * even where it equals what the file reads as.
 */
#include "ept/space.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The pages of one sync: one bit a page of the area. */
struct take {
	uint64_t *bits;
	uint64_t pages; /* of the area */
	bool any;
};

static bool taken(const struct take *take, uint64_t page)
{
	return take->bits[page / 64] >> (page % 64) & 1;
}

static void set_taken(struct take *take, uint64_t page)
{
	take->bits[page / 64] |= 1UL << (page % 64);
	take->any = true;
}

static uint64_t area_page(const struct ept_area *area, uint64_t gpa)
{
	return (gpa - area->start) >> EPT_PAGE_SHIFT;
}

/* Protect (or release) [first, end) of the leaf at @leaf_gpa and change the entries. */
static int flip_run(struct ept_area *area, struct ept_leaf *leaf, uint64_t leaf_gpa, unsigned first,
		    unsigned end, bool clean)
{
	uint64_t gpa = leaf_gpa + ((uint64_t)first << EPT_PAGE_SHIFT);
	size_t len = (size_t)(end - first) << EPT_PAGE_SHIFT;
	int err = ept_install_protect(&area->space->installer, ept_hva(area, gpa), len, clean);

	/* A stopped space has no registration left, and no guest to protect from. */
	if (err && err != -ESHUTDOWN && clean)
		return err;
	for (unsigned i = first; i < end; i++)
		ept_area_set_pte(area, leaf, i, clean ? EPT_PTE_CLEAN : EPT_PTE_DIRTY);
	return 0;
}

/* Should this page go over? Dirty ones to clean; on the way back, clean ones that we took. */
static bool selected(const struct take *take, const struct ept_leaf *leaf, unsigned index,
		     uint64_t page, bool clean)
{
	if (clean)
		return ept_pte_get(leaf, index) == EPT_PTE_DIRTY;
	return taken(take, page) && ept_pte_get(leaf, index) == EPT_PTE_CLEAN;
}

static int flip_leaf(struct ept_area *area, struct take *take, uint64_t start, uint64_t stop,
		     bool clean)
{
	struct ept_leaf *leaf = ept_mirror_find(&area->space->mirror, GPA(start));
	uint64_t leaf_gpa = ept_leaf_start(start), page = area_page(area, start);
	unsigned index = ept_leaf_index(GPA(start)), run = index;
	unsigned end = index + (unsigned)((stop - start) >> EPT_PAGE_SHIFT);
	int err = 0;

	if (!leaf)
		return 0;
	pthread_mutex_lock(&leaf->lock);
	for (; index <= end && !err; index++, page++) {
		if (index < end && selected(take, leaf, index, page, clean)) {
			if (clean)
				set_taken(take, page);
			continue;
		}
		if (run < index)
			err = flip_run(area, leaf, leaf_gpa, run, index, clean);
		run = index + 1;
	}
	pthread_mutex_unlock(&leaf->lock);
	return err;
}

static int flip(struct ept_area *area, struct take *take, bool clean)
{
	int err = 0;

	for (uint64_t gpa = area->start; gpa < area->end && !err;) {
		uint64_t next = ept_leaf_end(gpa, area->end);

		err = flip_leaf(area, take, gpa, next, clean);
		gpa = next;
	}
	return err;
}

/* Is on disk what the cache says? Cannot be read: no. */
static bool same_on_disk(const struct ept_object *obj, uint64_t byte, size_t len)
{
	uint64_t page = byte >> EPT_PAGE_SHIFT;
	char buf[EPT_PAGE_SIZE];
	int err;

	if (obj->unsure[page / 64] >> (page % 64) & 1)
		return false;
	return ept_object_pread(obj, buf, len, byte, &err) == len &&
	       !memcmp(buf, obj->cache + byte, len);
}

/* Write pages [first, end) back, never past the object's last byte. */
static int write_run(struct ept_area *area, uint64_t first, uint64_t end)
{
	const struct ept_object *obj = area->obj;
	uint64_t byte = first << EPT_PAGE_SHIFT, to = end << EPT_PAGE_SHIFT;
	size_t done;
	int err;

	if (to > obj->length)
		to = obj->length;
	done = ept_object_pwrite(obj, obj->cache + byte, to - byte, byte, &err);
	return done == to - byte ? 0 : err;
}

/* Before they are written: also a write that fails may have got somewhere. */
static void note_unsure(struct ept_object *obj, uint64_t first, uint64_t end)
{
	for (uint64_t page = first; page < end; page++)
		obj->unsure[page / 64] |= 1UL << (page % 64);
}

static int make_durable(struct ept_object *obj)
{
	if (fdatasync(obj->fd))
		return -errno;
	free(obj->unsure);
	obj->unsure = NULL;
	return 0;
}

/*
 * @compare: taken pages may be unchanged (read ones count as written where the
 * host cannot protect in one step or KVM's worker brought them in, and the
 * kernel's engine notes nothing).
 */
static int write_back(struct ept_area *area, const struct take *take, bool compare)
{
	struct ept_object *obj = area->obj;
	int err = 0;

	if (compare && !obj->unsure)
		obj->unsure = calloc((ept_object_pages(obj) + 63) / 64, sizeof(*obj->unsure));
	if (compare && !obj->unsure)
		return -ENOMEM;
	for (uint64_t page = 0, run = 0; page <= take->pages && !err; page++) {
		if (page < take->pages && taken(take, page)) {
			uint64_t byte = page << EPT_PAGE_SHIFT, left = obj->length - byte;

			if (!compare ||
			    !same_on_disk(obj, byte, left < EPT_PAGE_SIZE ? left : EPT_PAGE_SIZE))
				continue;
		}
		if (run < page) {
			if (compare)
				note_unsure(obj, run, page);
			err = write_run(area, run, page);
		}
		run = page + 1;
	}
	return err ? err : make_durable(obj);
}

/* A file that shrank is not grown back: whoever shrank it has other plans for it. */
static int check_size(struct ept_area *area)
{
	int64_t size = ept_object_file_size(area->obj);

	if (size < 0)
		return (int)size;
	if ((uint64_t)size >= area->obj->offset + ept_area_file_bytes(area))
		return 0;
	ept_area_fail(area, GPA(area->start), -EIO, "write back");
	return -EIO;
}

/*
 * Dirty pages are found under the leaves' locks, not from the area's count: a
 * vCPU may write to a page as soon as it is mapped, before it is counted.
 */
static int take_and_write(struct ept_area *area, struct take *take)
{
	int err = flip(area, take, true);
	bool compare = !area->space->installer.atomic_protect ||
		       __atomic_load_n(&area->read_as_written, __ATOMIC_RELAXED);

	if (!err && take->any)
		err = check_size(area);
	if (!err && take->any)
		err = write_back(area, take, compare);
	if (err)
		flip(area, take, false);
	return err;
}

static int compare_and_write(struct ept_area *area, struct take *take)
{
	int err = check_size(area);

	if (err)
		return err;
	for (uint64_t page = 0; page < take->pages; page++)
		set_taken(take, page);
	return write_back(area, take, true);
}

static int sync_locked(struct ept_area *area)
{
	struct take take = {.pages = (area->end - area->start) >> EPT_PAGE_SHIFT};
	int err;

	take.bits = calloc((take.pages + 63) / 64, sizeof(*take.bits));
	if (!take.bits)
		return -ENOMEM;
	err =
	    ept_handler_engine(area) ? take_and_write(area, &take) : compare_and_write(area, &take);
	free(take.bits);
	return err;
}

int ept_area_sync(struct ept_area *area)
{
	int err;

	if (area->kind != EPT_KIND_SHARED || !area->hva)
		return 0;
	pthread_mutex_lock(&area->obj->sync_lock);
	err = sync_locked(area);
	pthread_mutex_unlock(&area->obj->sync_lock);
	return err;
}
