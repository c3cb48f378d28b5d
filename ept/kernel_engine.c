/*
 * Areas whose faults the host kernel resolves by itself. No event and no case
 * is seen; the contents are the same.
 *
 * A private file is mapped as it is (MAP_PRIVATE), its last page apart: what
 * lies in it past the object's end has to read as zeros. What cannot be mapped
 * so (an odd offset, a block device, a shared file) is read whole into the
 * object's sealed cache.
 */
#include "ept/host_pages.h"
#include "ept/lead.h"
#include "ept/object_snapshot.h"
#include "ept/space.h"

#include <errno.h>

static int map_at(char *hva, size_t len, int prot, int flags, int fd, uint64_t offset)
{
	if (mmap(hva, len, prot, flags | MAP_FIXED | MAP_NORESERVE, fd, (off_t)offset) ==
	    MAP_FAILED)
		return -errno;
	return 0;
}

/* The object's last, partial page: an own copy of it. */
static int map_tail(struct ept_area *area, uint64_t whole, int prot)
{
	char *hva = area->hva + whole;
	size_t len = ept_area_file_bytes(area) - whole;
	int err =
	    map_at(hva, EPT_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (err)
		return err;
	if (ept_object_pread(area->obj, hva, len, whole, &err) != len)
		return err ? err : -EIO;
	return mprotect(hva, EPT_PAGE_SIZE, prot) ? -errno : 0;
}

static int map_file(struct ept_area *area, int prot)
{
	uint64_t whole = ept_area_file_bytes(area) & EPT_PAGE_MASK;
	int err = 0;

	if (whole)
		err = map_at(area->hva, whole, prot, MAP_PRIVATE, area->obj->fd, area->obj->offset);
	if (!err && whole < area->end - area->start)
		err = map_tail(area, whole, prot);
	if (!err && area->space->config.fault_around != 1) {
		area->lead = ept_lead_create(area);
		err = area->lead ? 0 : -ENOMEM;
	}
	return err;
}

static int map_filled_cache(struct ept_area *area, int prot)
{
	struct ept_object *obj = area->obj;
	uint64_t pages = (area->end - area->start) >> EPT_PAGE_SHIFT, bytes = 0;
	int err = ept_object_cache(obj);

	for (uint64_t page = 0; page < pages && !err; page++)
		err = ept_object_fill(obj, page, page, pages, &bytes);
	if (err)
		return err;
	return map_at(area->hva, pages << EPT_PAGE_SHIFT, prot,
		      ept_area_kinds[area->kind].map_flags, obj->memfd, 0);
}

bool ept_kernel_maps(const struct ept_object *obj)
{
	void *page;

	if (ept_object_layered(obj) || obj->mode == EPT_FILE_SHARED || obj->block_device ||
	    obj->offset & ~EPT_PAGE_MASK)
		return false;
	/* Not every file system lets its files be mapped. */
	page = mmap(NULL, EPT_PAGE_SIZE, PROT_READ, MAP_PRIVATE, obj->fd, (off_t)obj->offset);
	if (page == MAP_FAILED)
		return false;
	munmap(page, EPT_PAGE_SIZE);
	return true;
}

int ept_kernel_map_area(struct ept_area *area)
{
	const struct ept_area_kind *kind = &ept_area_kinds[area->kind];
	size_t size = area->end - area->start;
	int err;

	if (!area->obj)
		err = map_at(area->hva, size, kind->prot, kind->map_flags, -1, 0);
	else if (ept_kernel_maps(area->obj))
		err = map_file(area, kind->prot);
	else
		err = map_filled_cache(area, kind->prot);
	if (!err)
		ept_install_advise(area->hva, size, !area->obj);
	if (!err && !area->obj && area->space->config.huge == EPT_HUGE_ALWAYS)
		ept_install_want_huge(area->hva, size, true);
	return err;
}

uint64_t ept_kernel_resident(const struct ept_area *area)
{
	if (!area->hva)
		return 0;
	return ept_host_own_pages(area->space->pagemap_fd, area->hva,
				  (area->end - area->start) >> EPT_PAGE_SHIFT)
	       << EPT_PAGE_SHIFT;
}

uint64_t ept_kernel_copied(const struct ept_area *area)
{
	uint64_t pages = (area->end - area->start) >> EPT_PAGE_SHIFT, copied = 0;
	unsigned char bits[EPT_TABLE_SIZE];

	for (uint64_t page = 0; area->hva && page < pages; page += EPT_TABLE_SIZE) {
		uint64_t n = pages - page < EPT_TABLE_SIZE ? pages - page : EPT_TABLE_SIZE;

		if (ept_host_pages(area->space->pagemap_fd, area->hva + (page << EPT_PAGE_SHIFT), n,
				   bits))
			break;
		for (uint64_t i = 0; i < n; i++)
			copied += (bits[i] & EPT_HOST_COPY) != 0;
	}
	return copied << EPT_PAGE_SHIFT;
}
