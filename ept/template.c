/*
 * A space that more will be forked from, as a file: what guest memory holds moves into a sealed
 * memfd an area, which is mapped privately in its place. Then a fork copies no page table of
 * it, who is forked shares the pages until it writes one, and the host's kernel
 * resolves its faults: all that lies there is there, and was checked when it was brought in.
 *
 * Memory that is a file's already (a kernel image, pmem) stays as it is.
 */
#include "ept/density.h"
#include "ept/object_snapshot.h"
#include "ept/space.h"
#include "ept/zero.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define CHUNK		 (16 * EPT_PAGE_SIZE)
#define MADVISE_COLLAPSE 25 /* Linux 6.1's MADV_COLLAPSE, which older headers lack */

static bool converts(const struct ept_area *area)
{
	return area->kind == EPT_KIND_ANON ||
	       (area->kind == EPT_KIND_LAYERS && !ept_layers_origin(area->obj));
}

/* Where @gpa lies in the file; multiples of 2 MiB are that there, too. */
static uint64_t place_of(const struct ept_area *area, uint64_t gpa)
{
	return gpa - (area->start & ~(EPT_LEAF_BYTES - 1));
}

/* Runs of pages that are not all zeros; the rest stays a hole. */
static int store(int fd, const char *bytes, size_t len, uint64_t offset)
{
	for (size_t at = 0, end; at < len; at = end) {
		bool zero = ept_is_zero(bytes + at);

		end = at + EPT_PAGE_SIZE;
		while (end < len && ept_is_zero(bytes + end) == zero)
			end += EPT_PAGE_SIZE;
		if (zero)
			continue;
		ssize_t n = pwrite(fd, bytes + at, end - at, (off_t)(offset + at));
		if (n != (ssize_t)(end - at))
			return n < 0 ? -errno : -ENOSPC;
	}
	return 0;
}

/* Of a clone: nor has the template's file, which it begins with, anything there. */
static bool file_has_nothing(const struct ept_area *area, uint64_t gpa, uint64_t len)
{
	off_t from = (off_t)place_of(area, gpa), data;

	if (!area->template)
		return true;
	data = lseek(area->template_fd, from, SEEK_DATA);
	return data < 0 ? errno == ENXIO : data >= from + (off_t)len;
}

static bool nothing_there(const struct ept_area *area, uint64_t gpa, uint64_t len)
{
	if (area->kind == EPT_KIND_LAYERS)
		return false;
	if (ept_handler_engine(area))
		return !ept_mirror_find(&area->space->mirror, GPA(gpa));
	return ept_host_nothing(area->space->pagemap_fd, ept_hva(area, gpa),
				len >> EPT_PAGE_SHIFT) &&
	       file_has_nothing(area, gpa, len);
}

static int read_chunk(const struct ept_area *area, uint64_t gpa, char *bytes, size_t len)
{
	int err = 0;

	if (!area->template)
		return ept_read(area->space, GPA(gpa), bytes, len, EPT_ORIGIN_LOADER);
	for (size_t at = 0; at < len && !err; at += EPT_PAGE_SIZE)
		err = ept_template_now(area, gpa + at, bytes + at);
	return err;
}

static int copy_out(struct ept_area *area, int fd)
{
	static char bytes[CHUNK]; /* the process has one thread */
	int err = 0;

	for (uint64_t gpa = area->start; gpa < area->end && !err;) {
		uint64_t leaf_end = ept_leaf_end(gpa, area->end);

		if (nothing_there(area, gpa, leaf_end - gpa)) {
			gpa = leaf_end;
			continue;
		}
		for (size_t len; gpa < leaf_end && !err; gpa += len) {
			len = leaf_end - gpa < CHUNK ? leaf_end - gpa : CHUNK;

			err = read_chunk(area, gpa, bytes, len);
			if (!err)
				err = store(fd, bytes, len, place_of(area, gpa));
		}
	}
	return err;
}

/*
 * Where it is dense: a guest finds 2 MiB with one fault. A host that cannot leaves it as it is.
 * Address and offset have to be multiples of 2 MiB together, here, which mmap() by itself does not
 * see to, and where guests use it.
 */
static void make_huge(const struct ept_area *area, int fd)
{
	size_t size = place_of(area, area->end), room = size + EPT_LEAF_BYTES;
	char *base =
	    mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (base == MAP_FAILED)
		return;
	char *at = base + (-(uintptr_t)base & (EPT_LEAF_BYTES - 1));
	bool mapped = mmap(at, size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED;
	for (uint64_t off = 0; mapped && off + EPT_LEAF_BYTES <= size; off += EPT_LEAF_BYTES) {
		off_t data = lseek(fd, (off_t)off, SEEK_DATA);
		off_t hole = data == (off_t)off ? lseek(fd, (off_t)off, SEEK_HOLE) : (off_t)off;

		if (hole >= (off_t)(off + EPT_LEAF_BYTES) &&
		    madvise(at + off, EPT_LEAF_BYTES, MADVISE_COLLAPSE) && errno == EINVAL)
			break;
	}
	munmap(base, room);
}

static int map_instead(struct ept_area *area, int fd)
{
	size_t size = area->end - area->start;

	if (ept_handler_engine(area))
		ept_install_unregister(&area->space->installer, area->hva, size);
	if (mmap(area->hva, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
		 fd, (off_t)place_of(area, area->start)) == MAP_FAILED)
		return -errno;
	if (area->template) /* of a clone's */
		close(area->template_fd);
	area->engine = EPT_ENGINE_KERNEL;
	area->template = true;
	area->template_fd = fd;
	area->gave_back = false;
	area->kind = EPT_KIND_ANON;
	area->resident = area->huge = 0;
	if (area->obj) {
		ept_object_detach(area->obj, area);
		ept_object_put(area->obj);
		area->obj = NULL;
	}
	return 0;
}

static int convert(struct ept_area *area)
{
	int fd = memfd_create("foal-template", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int err = fd < 0 || ftruncate(fd, (off_t)place_of(area, area->end)) ? -errno : 0;

	if (!err)
		err = copy_out(area, fd);
	if (!err && area->space->config.huge != EPT_HUGE_NEVER)
		make_huge(area, fd);
	if (!err &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
		err = -errno;
	if (!err)
		err = map_instead(area, fd);
	if (err && fd >= 0)
		close(fd);
	return err;
}

int ept_space_template(struct ept_space *space)
{
	int err = 0;

	if (!ept_hold_is_mine(space) || space->config.memory_limit)
		return -EINVAL;
	for (size_t i = 0; i < space->nr_areas && !err; i++)
		if (converts(space->areas[i]))
			err = convert(space->areas[i]);
	space->of_template = true;
	ept_fault_log_close(&space->log);  /* nothing faults here any more */
	space->prefetch.stats.done = true; /* all has been read: nothing is left to come ahead */
	/* What is dense is known; what comes now is a few pages each. */
	space->config.huge = EPT_HUGE_NEVER;
	ept_governor_free(space->governor);
	space->governor = NULL;
	return err;
}

int ept_template_page(const struct ept_area *area, uint64_t gpa, char *to)
{
	ssize_t n = pread(area->template_fd, to, EPT_PAGE_SIZE, (off_t)place_of(area, gpa));

	return n == (ssize_t)EPT_PAGE_SIZE ? 0 : n < 0 ? -errno : -EIO;
}

/*
 * Looked at where it is mapped, what the file has not got would be put into it. Given back or not,
 * that is zeros.
 */
int ept_template_now(const struct ept_area *area, uint64_t gpa, char *to)
{
	const char *hva = ept_hva(area, gpa);

	if (ept_host_page(area->space, hva) == EPT_HOST_CACHED &&
	    (!__atomic_load_n(&area->gave_back, __ATOMIC_ACQUIRE) ||
	     file_has_nothing(area, gpa, EPT_PAGE_SIZE)))
		return ept_template_page(area, gpa, to);
	memcpy(to, hva, EPT_PAGE_SIZE);
	return 0;
}

int ept_template_discard(struct ept_area *area, uint64_t gpa, uint64_t end)
{
	char *hva = ept_hva(area, gpa);

	__atomic_store_n(&area->gave_back, true, __ATOMIC_RELEASE);
	/* Dropped, the file's bytes would come back. */
	if (mmap(hva, end - gpa, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED)
		return 0;
	if (errno != ENOMEM)
		return -errno;
	/* The guest chose so many pieces that the host has no further mapping for the process. */
	for (char *page = hva; page < hva + (end - gpa); page += EPT_PAGE_SIZE)
		if (!ept_is_zero(page))
			memset(page, 0, EPT_PAGE_SIZE);
	return 0;
}
