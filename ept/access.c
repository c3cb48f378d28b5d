/* Touches of guest memory by the monitor itself: devices, loaders, discards. */
#include "ept/fault_log.h"
#include "ept/object_snapshot.h"
#include "ept/reset_space.h"
#include "ept/space.h"
#include "ept/trace.h"

#include <errno.h>
#include <string.h>

/* Would the hardware let this access through? Then it is no fault. */
static bool granted(enum ept_pte pte, enum ept_access access)
{
	switch (pte) {
	case EPT_PTE_PRIVATE:
	case EPT_PTE_DIRTY:
		return true;
	case EPT_PTE_ZERO:
	case EPT_PTE_FILE:
	case EPT_PTE_CLEAN:
	case EPT_PTE_AGED:
		return access == EPT_READ;
	case EPT_PTE_NONE:
	case EPT_PTE_TRANSIT:
	case EPT_PTE_POISON:
	case EPT_PTE_HELD:
	case EPT_PTE_SAMPLED:
	case EPT_PTE_POOLED:
	case EPT_PTE_SWAPPED:
	case EPT_NR_PTES:
		return false;
	}
	return false;
}

int ept_touch_page(struct ept_space *space, gpa_t gpa, enum ept_access access,
		   enum ept_origin origin)
{
	const struct ept_leaf *leaf = ept_mirror_find(&space->mirror, gpa);
	struct ept_request req = {.gpa = gpa, .access = access, .origin = origin};
	struct ept_resolution res;

	if (leaf && granted(ept_pte_get(leaf, ept_leaf_index(gpa)), access))
		return 0;
	req.picked_up = ept_now();
	handle_ept_fault(space, &req, &res);
	return res.error;
}

/* Without an area, or a write to a read-only one, both engines say the same. */
static int touch_area_part(struct ept_area *area, uint64_t gpa, uint64_t len,
			   enum ept_access access, enum ept_origin origin)
{
	char *first = (char *)((uintptr_t)ept_hva(area, gpa) & EPT_PAGE_MASK);
	int err = 0;

	/* The touch itself is the fault; only a file can fail to give the page. */
	if (!ept_handler_engine(area) && !area->obj)
		return 0;
	if (!ept_handler_engine(area)) {
		len += (size_t)(ept_hva(area, gpa) - first);
		err = ept_install_populate(first, (len + EPT_PAGE_SIZE - 1) & EPT_PAGE_MASK,
					   access == EPT_WRITE);
		if (err == -EFAULT) {
			ept_area_fail(area, GPA(gpa), -EIO, "read");
			err = -EIO;
		}
		return err;
	}
	for (uint64_t page = gpa & EPT_PAGE_MASK; page < gpa + len && !err; page += EPT_PAGE_SIZE)
		err = ept_touch_page(area->space, GPA(page), access, origin);
	return err;
}

static void count_stray(struct ept_space *space, struct ept_area *area, enum ept_case kase,
			const struct ept_request *req)
{
	struct ept_resolution res = {.kase = kase};

	ept_ledger_count(area ? &area->ledger : &space->stray, &space->arena, req->origin, &res, 0);
	ept_fault_log_note(space, area, req, &res, 0);
	ept_trace(space, area, req, &res, 0);
}

/* The area that serves an access by the monitor at @gpa, or why none does. */
static int area_for(struct ept_space *space, uint64_t gpa, enum ept_access access,
		    enum ept_origin origin, struct ept_area **out)
{
	struct ept_area *area = ept_area_find(space, gpa);

	if (ept_dying(space) || ept_lost(space))
		return -ESHUTDOWN;
	if (!area || (access == EPT_WRITE && !ept_area_writable(area))) {
		count_stray(
		    space, area, area ? EPT_CASE_RO_WRITE : EPT_CASE_NO_AREA,
		    &(struct ept_request){.gpa = GPA(gpa), .access = access, .origin = origin});
		return -EFAULT;
	}
	*out = area;
	return 0;
}

static bool extends(const struct iovec *iov, const char *hva)
{
	return (char *)iov->iov_base + iov->iov_len == hva;
}

ssize_t ept_map(struct ept_space *space, gpa_t gpa, uint64_t len, enum ept_access access,
		enum ept_origin origin, struct iovec *iov, size_t max)
{
	uint64_t at = gpa.v, end;
	size_t n = 0;

	if (__builtin_add_overflow(gpa.v, len, &end))
		return -EFAULT;
	while (at < end) {
		struct ept_area *area;
		uint64_t part;
		char *hva;
		int err = area_for(space, at, access, origin, &area);

		if (err)
			return err;
		part = (end < area->end ? end : area->end) - at;
		if (access == EPT_WRITE)
			ept_reset_note(space, at, part, false);
		hva = ept_hva(area, at);
		if ((!n || !extends(&iov[n - 1], hva)) && n == max)
			return -E2BIG;
		err = touch_area_part(area, at, part, access, origin);
		if (err)
			return err;
		if (n && extends(&iov[n - 1], hva))
			iov[n - 1].iov_len += part;
		else
			iov[n++] = (struct iovec){.iov_base = hva, .iov_len = part};
		at += part;
	}
	return (ssize_t)n;
}

/*
 * Copy between @buf and resolved memory. A file that the host kernel maps can
 * lose its pages at any moment (ept_space_bus_error()). What reclaim took since it was
 * resolved faults again; in a space that is being stopped nobody resolves that, and zeros
 * are there. Page by page: one load across two pages needs both at once, and reclaim may
 * take either.
 */
static int copy(const struct ept_area *area, char *hva, char *buf, size_t len,
		enum ept_access access)
{
	while (len) {
		size_t left = EPT_PAGE_SIZE - ((uintptr_t)hva & ~EPT_PAGE_MASK);
		size_t part = len < left ? len : left;

		memcpy(access == EPT_READ ? buf : hva, access == EPT_READ ? hva : buf, part);
		hva += part;
		buf += part;
		len -= part;
	}
	if (ept_lost(area->space))
		return -EIO;
	return ept_dying(area->space) ? -ESHUTDOWN : 0;
}

static int transfer(struct ept_space *space, gpa_t gpa, char *buf, size_t len,
		    enum ept_access access, enum ept_origin origin)
{
	uint64_t at = gpa.v, end;

	if (__builtin_add_overflow(gpa.v, len, &end))
		return -EFAULT;
	while (at < end) {
		struct ept_area *area;
		uint64_t part;
		int err = area_for(space, at, access, origin, &area);

		if (err)
			return err;
		part = (end < area->end ? end : area->end) - at;
		if (access == EPT_WRITE)
			ept_reset_note(space, at, part, false);
		err = touch_area_part(area, at, part, access, origin);
		if (!err)
			err = copy(area, ept_hva(area, at), buf, part, access);
		if (err)
			return err;
		buf += part;
		at += part;
	}
	return 0;
}

int ept_read(struct ept_space *space, gpa_t gpa, void *buf, size_t len, enum ept_origin origin)
{
	return transfer(space, gpa, buf, len, EPT_READ, origin);
}

int ept_write(struct ept_space *space, gpa_t gpa, const void *buf, size_t len,
	      enum ept_origin origin)
{
	return transfer(space, gpa, (char *)buf, len, EPT_WRITE, origin);
}

bool ept_kernel_gives(struct ept_space *space, gpa_t gpa)
{
	struct ept_area *area = ept_area_find(space, gpa.v);

	return !area || !area->obj || ept_handler_engine(area) ||
	       touch_area_part(area, gpa.v & EPT_PAGE_MASK, 1, EPT_READ, EPT_ORIGIN_VCPU) != -EIO;
}

enum ept_case ept_stray(struct ept_space *space, gpa_t gpa, enum ept_access access)
{
	struct ept_area *area = ept_area_find(space, gpa.v);
	enum ept_case kase;
	bool ro = area && access == EPT_WRITE && !ept_area_writable(area);

	if (area && !ro && area->obj && !ept_handler_engine(area)) {
		ept_area_fail(area, gpa, -EIO, "read");
		return EPT_CASE_IO_ERROR;
	}
	kase = ro ? EPT_CASE_RO_WRITE : EPT_CASE_NO_AREA;
	__atomic_fetch_add(&space->ending, 1, __ATOMIC_SEQ_CST);
	count_stray(space, ro ? area : NULL, kase,
		    &(struct ept_request){.gpa = gpa, .access = access, .origin = EPT_ORIGIN_VCPU});
	__atomic_fetch_add(&space->strays[kase], 1, __ATOMIC_RELEASE);
	return kase;
}

/* Anonymous pages are while they are read from the swap file. */
static bool any_in_transit(const struct ept_leaf *leaf, unsigned first, unsigned end)
{
	while (first < end && ept_pte_get(leaf, first) != EPT_PTE_TRANSIT)
		first++;
	return first < end;
}

/* Drop the pages of [gpa, end), which lies in one leaf and one area. */
static int discard_in_leaf(struct ept_area *area, uint64_t gpa, uint64_t end)
{
	struct ept_space *space = area->space;
	struct ept_leaf *leaf = ept_mirror_find(&space->mirror, GPA(gpa));
	unsigned index = ept_leaf_index(GPA(gpa));
	unsigned pages = (unsigned)((end - gpa) >> EPT_PAGE_SHIFT);
	int err;

	if (!leaf && area->kind == EPT_KIND_LAYERS) {
		leaf = ept_mirror_get(&space->mirror, GPA(gpa)); /* to say that it is gone */
		if (!leaf)
			return -ENOMEM;
	}
	if (!leaf)
		return 0; /* nothing was ever installed here */
	pthread_mutex_lock(&leaf->lock);
	while (any_in_transit(leaf, index, index + pages))
		pthread_cond_wait(&leaf->arrived, &leaf->lock);
	ept_area_split(area, leaf); /* what arrived may be a huge page */
	err = ept_install_drop(&space->installer, ept_hva(area, gpa), end - gpa);
	for (unsigned i = index; i < index + pages && !err; i++) {
		ept_reclaim_forget(space, leaf, i);
		ept_area_put_pte(area, leaf, i, EPT_PTE_NONE, 0,
				 area->kind == EPT_KIND_LAYERS ? EPT_VALUE_DISCARDED : 0);
	}
	pthread_mutex_unlock(&leaf->lock);
	return err;
}

static int discard_in_area(struct ept_area *area, uint64_t gpa, uint64_t end)
{
	int err = 0;

	if (area->template)
		return ept_template_discard(area, gpa, end);
	if (!ept_handler_engine(area))
		return ept_governor_give_back(area, gpa, end);
	while (gpa < end && !err) {
		uint64_t next = ept_leaf_end(gpa, end);

		err = discard_in_leaf(area, gpa, next);
		gpa = next;
	}
	return err;
}

/* The first area that ends after @gpa, or NULL. */
static struct ept_area *area_from(const struct ept_space *space, uint64_t gpa)
{
	for (size_t i = 0; i < space->nr_areas; i++)
		if (space->areas[i]->end > gpa)
			return space->areas[i];
	return NULL;
}

/* Memory, and no file's, now or before the snapshot that it comes from. */
static bool anonymous(const struct ept_area *area)
{
	return !area->obj || (area->kind == EPT_KIND_LAYERS && !ept_layers_origin(area->obj));
}

int ept_discard_anonymous(struct ept_space *space, gpa_t gpa, uint64_t size, uint64_t *given)
{
	uint64_t at = gpa.v, end;
	struct ept_area *area;
	int err = 0;

	*given = 0;
	if ((gpa.v | size) & ~EPT_PAGE_MASK || __builtin_add_overflow(gpa.v, size, &end))
		return -EINVAL;
	if (ept_dying(space))
		return -ESHUTDOWN;
	for (; at < end && !err && (area = area_from(space, at)); at = area->end) {
		uint64_t first = at > area->start ? at : area->start;
		uint64_t last = end < area->end ? end : area->end;

		if (!anonymous(area) || first >= last)
			continue;
		ept_reset_note(space, first, last - first, true);
		err = discard_in_area(area, first, last);
		if (!err)
			*given += last - first;
		else /* some of it is perhaps as it was */
			ept_reset_note(space, first, last - first, false);
	}
	return err;
}
