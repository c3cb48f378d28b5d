#include "tests/devices/fake_ept.h"
#include "ept/stats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct ept_space *fake_space(uint64_t size)
{
	struct ept_space *space = calloc(1, sizeof(*space));

	space->bytes = calloc(1, size);
	space->size = size;
	space->run = 1 << 20;
	return space;
}

void fake_space_free(struct ept_space *space)
{
	free(space->bytes);
	free(space);
}

static bool meets(struct fake_range range, uint64_t gpa, uint64_t len)
{
	return gpa < range.to && gpa + len > range.from;
}

/*
 * A test changes the fake's ranges while a worker may be looking at its rings for
 * the first time, and notifies after: no race that matters.
 */
__attribute__((no_sanitize_thread)) ssize_t ept_map(struct ept_space *space, gpa_t gpa,
						    uint64_t len, enum ept_access access,
						    enum ept_origin origin, struct iovec *iov,
						    size_t max)
{
	size_t nr = 0;

	if (origin != EPT_ORIGIN_DEVICE)
		abort();
	if (space->on_map)
		space->on_map(space, gpa, len);
	if (len > space->size || gpa.v > space->size - len || meets(space->hole, gpa.v, len))
		return -EFAULT;
	if (access == EPT_WRITE && meets(space->read_only, gpa.v, len))
		return -EFAULT;
	if (meets(space->failing, gpa.v, len))
		return space->failing_with;
	for (uint64_t at = gpa.v, end = gpa.v + len; at < end; nr++) {
		uint64_t run_end = (at / space->run + 1) * space->run;

		if (nr == max)
			return -E2BIG;
		if (run_end > end)
			run_end = end;
		iov[nr] = (struct iovec){space->bytes + at, run_end - at};
		at = run_end;
	}
	return (ssize_t)nr;
}

static int copy(struct ept_space *space, gpa_t gpa, void *buf, size_t len, enum ept_access access,
		enum ept_origin origin)
{
	struct iovec iov[64];
	ssize_t nr = ept_map(space, gpa, len, access, origin, iov, 64);

	/* NOLINTBEGIN(clang-analyzer-core.*): ept_map() filled as many as it says */
	for (ssize_t i = 0; i < nr; i++) {
		if (access == EPT_WRITE)
			memcpy(iov[i].iov_base, buf, iov[i].iov_len);
		else
			memcpy(buf, iov[i].iov_base, iov[i].iov_len);
		buf = (char *)buf + iov[i].iov_len;
	}
	/* NOLINTEND(clang-analyzer-core.*) */
	return nr < 0 ? (int)nr : 0;
}

int ept_read(struct ept_space *space, gpa_t gpa, void *buf, size_t len, enum ept_origin origin)
{
	return copy(space, gpa, buf, len, EPT_READ, origin);
}

int ept_write(struct ept_space *space, gpa_t gpa, const void *buf, size_t len,
	      enum ept_origin origin)
{
	return copy(space, gpa, (void *)(uintptr_t)buf, len, EPT_WRITE, origin);
}

int ept_discard_anonymous(struct ept_space *space, gpa_t gpa, uint64_t size, uint64_t *given)
{
	struct fake_range *range = &space->discarded[space->nr_discarded % 16];

	*given = 0;
	if ((gpa.v | size) & ~EPT_PAGE_MASK)
		abort();
	for (uint64_t at = gpa.v; at < gpa.v + size && at < space->size; at += EPT_PAGE_SIZE) {
		if (meets(space->file, at, EPT_PAGE_SIZE))
			continue;
		memset(space->bytes + at, 0, EPT_PAGE_SIZE);
		*given += EPT_PAGE_SIZE;
	}
	*range = (struct fake_range){gpa.v, gpa.v + size};
	space->nr_discarded++;
	return 0;
}

void ept_area_info(struct ept_area *area, struct ept_area_info *out)
{
	*out = area->info;
}

int ept_area_sync(struct ept_area *area)
{
	area->syncs++;
	return area->sync_result;
}
