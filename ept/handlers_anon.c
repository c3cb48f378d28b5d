/* Anonymous memory: a zero page for a read, an own page for a write. */
#include "ept/handlers.h"

#include <errno.h>

/* One page went in as @pte, or was there before us as what can only be @raced. */
static enum ept_result installed(struct fault *f, int err, enum ept_pte pte, enum ept_pte raced)
{
	if (!err || err == -EEXIST)
		fault_set(f, f->index, err ? raced : pte);
	f->res->installed += !err;
	return ept_fault_finish(f, err);
}

/* Entries to be filled with zeros: [first, end) holds the fault's. */
struct zeros {
	unsigned first, end;
};

/* Nothing is there, and what is to be there is zeros. */
static bool is_empty(const struct fault *f, unsigned index)
{
	return ept_pte_get(f->leaf, index) == EPT_PTE_NONE &&
	       (f->area->kind == EPT_KIND_ANON || ept_snap_zeros(f, index));
}

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/*
 * The window of fault-around, if a quarter of it was touched, or an eighth where no page has
 * to go for it, and such windows are of use.
 */
static struct zeros dense_window(const struct fault *f)
{
	const struct ept_area *area = f->area;
	const struct ept_reclaim *r = &area->space->reclaim;
	unsigned around = least(area->space->config.fault_around, least(EPT_SYNC_MAX, r->window));
	unsigned share = ept_reclaim_is_free(area->space, around) ? 8 : 4, touched = 0;
	uint64_t leaf = fault_leaf_start(f);
	struct zeros w;

	w = (struct zeros){f->index & ~(around - 1), (f->index & ~(around - 1)) + around};
	for (unsigned i = w.first; i < w.end; i++)
		touched += ept_pte_get(f->leaf, i) != EPT_PTE_NONE;
	if (touched * share < around ||
	    leaf + ((uint64_t)w.first << EPT_PAGE_SHIFT) < area->start ||
	    leaf + ((uint64_t)w.end << EPT_PAGE_SHIFT) > area->end ||
	    !ept_reclaim_fills(area->space, around))
		return (struct zeros){f->index, f->index + 1};
	return w;
}

/*
 * Under a memory limit nobody else gives who writes in order, or all over the place, more
 * than a page at a time: without one this is the host kernel's memory, or huge pages'.
 */
static struct zeros pages_at_once(struct fault *f)
{
	struct zeros z = {f->index, f->index + 1};
	unsigned ahead;

	if (!f->area->space->reclaim.limit)
		return z;
	ahead = ept_write_ahead(f);
	z = ahead > 1 ? (struct zeros){f->index, f->index + ahead} : dense_window(f);
	if (z.end - z.first > 1 && ept_reclaim_admit(f->area->space, z.end - z.first))
		return z;
	return (struct zeros){f->index, f->index + 1};
}

/* Where it came to a stop: all of them, or another page was there, or no memory. */
static unsigned put_zeros(struct fault *f, struct zeros z, unsigned age)
{
	static const char zeros[EPT_SYNC_MAX * EPT_PAGE_SIZE] __attribute__((aligned(4096)));
	size_t done;

	ept_install_copies(fault_installer(f), fault_hva(f, z.first), zeros,
			   (size_t)(z.end - z.first) << EPT_PAGE_SHIFT, &done);
	z.end = z.first + (unsigned)(done >> EPT_PAGE_SHIFT);
	for (unsigned i = z.first; i < z.end; i++)
		ept_area_put_pte(f->area, f->leaf, i, EPT_PTE_PRIVATE, i == f->index ? 0 : age, 0);
	f->res->installed += z.end - z.first;
	return z.end;
}

/* Every empty entry of @z. False: not even the page that was asked for went in. */
static bool fill(struct fault *f, struct zeros z)
{
	bool asked = false, free = ept_reclaim_is_free(f->area->space, z.end - z.first);

	for (unsigned i = z.first; i < z.end; i++) {
		struct zeros run = {i, i};

		while (run.end < z.end && is_empty(f, run.end))
			run.end++;
		if (run.end == i)
			continue;
		i = put_zeros(f, run, free ? 0 : EPT_AGE_UNASKED | 1);
		asked |= f->index >= run.first && f->index < i;
	}
	f->res->around += f->res->installed - asked;
	return asked;
}

static enum ept_result own_page(struct fault *f)
{
	int err = ept_install_copy(fault_installer(f), fault_hva(f, f->index), NULL);

	return installed(f, err, EPT_PTE_PRIVATE, EPT_PTE_PRIVATE);
}

enum ept_result ept_anon_write(struct fault *f)
{
	enum ept_result result;

	if (ept_anon_whole(f, &result))
		return result;
	struct zeros z = pages_at_once(f);
	if (z.end - z.first > 1 && fill(f, z))
		result = ept_fault_finish(f, 0);
	else
		result = own_page(f);
	if (result == EPT_RESOLVED && f->stepped)
		ept_write_moved(f);
	return result;
}

enum ept_result ept_anon_read(struct fault *f)
{
	enum ept_result result;
	int err;

	if (ept_anon_whole(f, &result))
		return result;
	if (f->area->space->config.no_zero_page)
		return own_page(f);
	err = ept_install_zero(fault_installer(f), fault_hva(f, f->index));
	return installed(f, err, EPT_PTE_ZERO, EPT_PTE_PRIVATE);
}

enum ept_result ept_anon_wp(struct fault *f)
{
	return ept_grant_write(f, EPT_PTE_PRIVATE);
}
