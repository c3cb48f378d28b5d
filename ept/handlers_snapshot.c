/*
 * Pages of a snapshot: the whole extent is read aside and checked, then the guest gets own
 * copies of what of it is not there yet. What no layer has and no file is behind is
 * anonymous memory.
 */
#include "ept/handlers.h"
#include "ept/object_snapshot.h"

#include <errno.h>
#include <string.h>

/* The part of the leaf that comes in together. */
struct extent {
	unsigned first, end;
	uint64_t page; /* the area's at first */
	uint16_t mine; /* bits: this fault put in transit */
	uint16_t have; /* came */
	char why[256]; /* it did not */
};

static bool discarded(const struct fault *f, unsigned index)
{
	return ept_pte_get(f->leaf, index) == EPT_PTE_NONE &&
	       ept_pte_value(f->leaf, index) == EPT_VALUE_DISCARDED;
}

/*
 * Extents do not cross leaves. Under a memory limit no more than a fault may bring; who
 * records wants to see each page asked for.
 */
static struct extent extent_of(const struct fault *f)
{
	const struct ept_area *area = f->area;
	uint64_t start = f->req->gpa.v & ~(EPT_EXTENT - 1), end = start + EPT_EXTENT;
	const struct ept_space *space = area->space;
	unsigned window = space->prefetch.noted	 ? 1
			  : space->reclaim.limit ? space->reclaim.window
						 : 0;
	struct extent x = {0};

	start = start > area->start ? start : area->start;
	end = end < area->end ? end : area->end;
	x.first = ept_leaf_index(GPA(start));
	x.end = x.first + (unsigned)((end - start) >> EPT_PAGE_SHIFT);
	if (window && window < EPT_EXTENT_PAGES) {
		unsigned low = f->index & ~(window - 1);

		x.first = x.first > low ? x.first : low;
		x.end = x.end < low + window ? x.end : low + window;
	}
	x.page = ((fault_leaf_start(f) - area->start) >> EPT_PAGE_SHIFT) + x.first;
	return x;
}

static bool is_mine(const struct extent *x, unsigned index)
{
	return x->mine >> (index - x->first) & 1;
}

/*
 * Read the extent with the lock dropped, its entries in transit; the page that is asked
 * for is one of them. They are back at none when it returns.
 */
static int read_aside(struct fault *f, struct extent *x, char *to)
{
	uint64_t bytes = 0;
	int err;

	for (unsigned i = x->first; i < x->end; i++)
		if (ept_pte_get(f->leaf, i) == EPT_PTE_NONE && !discarded(f, i)) {
			ept_pte_set(f->leaf, i, EPT_PTE_TRANSIT);
			x->mine |= (uint16_t)(1U << (i - x->first));
		}
	pthread_mutex_unlock(&f->leaf->lock);
	fault_waits(f, EPT_WAIT_READ);

	err = ept_layers_read(f->area->obj, x->page, x->page + x->end - x->first, to, &x->have,
			      &bytes, x->why, sizeof(x->why));

	fault_lock_leaf(f);
	for (unsigned i = x->first; i < x->end; i++)
		if (is_mine(x, i))
			ept_pte_set(f->leaf, i, EPT_PTE_NONE);
	pthread_cond_broadcast(&f->leaf->arrived);
	f->res->bytes_read += bytes;
	f->res->major |= bytes > 0;
	f->unreadable = err && err != -ENOMEM;
	return !err && ept_dying(f->area->space) ? -ESHUTDOWN : err;
}

static bool goes_in(const struct fault *f, const struct extent *x, unsigned index)
{
	return is_mine(x, index) && x->have >> (index - x->first) & 1 &&
	       ept_pte_get(f->leaf, index) == EPT_PTE_NONE;
}

static int copy_run(struct fault *f, const struct extent *x, unsigned first, unsigned end,
		    const char *from)
{
	size_t done;
	int err = ept_install_copies(fault_installer(f), fault_hva(f, first),
				     from + ((size_t)(first - x->first) << EPT_PAGE_SHIFT),
				     (size_t)(end - first) << EPT_PAGE_SHIFT, &done);
	unsigned stop = first + (unsigned)(done >> EPT_PAGE_SHIFT);

	ept_area_set_ptes(f->area, f->leaf, first, stop, EPT_PTE_PRIVATE);
	if (err == -EEXIST && stop == f->index)
		fault_set(f, stop, EPT_PTE_PRIVATE);
	f->res->installed += stop - first;
	return f->index >= stop && f->index < end ? err : 0;
}

static int copy_in(struct fault *f, const struct extent *x, const char *from)
{
	int err = 0;

	for (unsigned i = x->first, run = i; i <= x->end; i++) {
		if (i < x->end && goes_in(f, x, i))
			continue;
		if (run < i) {
			int run_err = copy_run(f, x, run, i, from);

			err = err ? err : run_err;
		}
		run = i + 1;
	}
	return err;
}

/* Events of pages that did not get in were left to us; not of the one that failed. */
static void wake_left_out(struct fault *f, const struct extent *x, int err)
{
	bool keep_asleep = err && err != -EAGAIN && err != -EEXIST;

	for (unsigned i = x->first; i < x->end; i++)
		if (is_mine(x, i) && ept_pte_get(f->leaf, i) == EPT_PTE_NONE &&
		    !(i == f->index && keep_asleep))
			ept_install_wake(fault_installer(f), fault_hva(f, i), EPT_PAGE_SIZE);
}

/* Said here, where file and extent are known. A poisoned page stops nothing. */
static void say_why(struct fault *f, const struct extent *x, int err)
{
	struct ept_space *space = f->area->space;

	if (!x->why[0] || ept_space_can_poison(space))
		return;
	ept_space_fail(space, EPT_CASE_IO_ERROR, f->req->gpa, err, "%s: %s: %s", space->name,
		       f->area->name, x->why);
}

static enum ept_result from_layers(struct fault *f)
{
	char bytes[EPT_EXTENT] __attribute__((aligned(EPT_PAGE_SIZE)));
	struct extent x = extent_of(f);
	int err = read_aside(f, &x, bytes);

	if (!err) {
		if (f->area->space->prefetch.noted)
			ept_prefetch_note(f->area->space, f->req->gpa.v);
		err = copy_in(f, &x, bytes);
	}
	wake_left_out(f, &x, err);
	if (f->res->installed)
		f->res->around = f->res->installed - (!err);
	if (f->unreadable)
		say_why(f, &x, err);
	return ept_fault_finish(f, err);
}

static bool empty(const struct ept_leaf *leaf, unsigned index)
{
	return ept_pte_get(leaf, index) == EPT_PTE_NONE &&
	       ept_pte_value(leaf, index) != EPT_VALUE_DISCARDED;
}

unsigned ept_snap_put(struct ept_area *area, uint64_t gpa, const char *bytes, unsigned pages)
{
	struct ept_leaf *leaf = ept_mirror_get(&area->space->mirror, GPA(gpa));
	unsigned first = ept_leaf_index(GPA(gpa)), end = first + pages, put = 0;

	if (!leaf)
		return 0;
	pthread_mutex_lock(&leaf->lock);
	for (unsigned i = first, run = first; i <= end && !ept_dying(area->space); i++) {
		size_t done = 0, at = (size_t)(run - first) << EPT_PAGE_SHIFT;

		if (i < end && empty(leaf, i))
			continue;
		if (run < i)
			(void)ept_install_copies(&area->space->installer, ept_hva(area, gpa + at),
						 bytes + at, (size_t)(i - run) << EPT_PAGE_SHIFT,
						 &done);
		ept_area_set_ptes(area, leaf, run, run + (unsigned)(done >> EPT_PAGE_SHIFT),
				  EPT_PTE_PRIVATE);
		put += (unsigned)(done >> EPT_PAGE_SHIFT);
		run = i + 1;
	}
	pthread_mutex_unlock(&leaf->lock);
	if (area->space->reclaim.limit && put)
		ept_reclaim_note(area->space);
	return put;
}

bool ept_snap_zeros(const struct fault *f, unsigned index)
{
	uint64_t gpa = fault_leaf_start(f) + ((uint64_t)index << EPT_PAGE_SHIFT);

	return discarded(f, index) ||
	       ept_layers_zero(f->area->obj, (gpa - f->area->start) >> EPT_PAGE_SHIFT);
}

enum ept_result ept_snap_read(struct fault *f)
{
	if (!ept_snap_zeros(f, f->index))
		return from_layers(f);
	f->res->kase = EPT_CASE_ANON_READ;
	return ept_anon_read(f);
}

enum ept_result ept_snap_write(struct fault *f)
{
	if (!ept_snap_zeros(f, f->index))
		return from_layers(f);
	f->res->kase = EPT_CASE_ANON_WRITE;
	return ept_anon_write(f);
}
