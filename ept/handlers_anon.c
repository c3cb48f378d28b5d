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

/*
 * Under a memory limit nobody else gives who writes in order more than a page at a time:
 * without one this is the host kernel's memory, or huge pages'.
 */
static unsigned pages_at_once(struct fault *f)
{
	unsigned n = f->area->space->reclaim.limit ? ept_write_ahead(f) : 1, free = 1;

	while (free < n && ept_pte_get(f->leaf, f->index + free) == EPT_PTE_NONE)
		free++;
	return free > 1 && ept_reclaim_admit(f->area->space, free) ? free : 1;
}

static enum ept_result own_pages(struct fault *f, unsigned n)
{
	static const char zeros[EPT_SYNC_MAX * EPT_PAGE_SIZE] __attribute__((aligned(4096)));
	size_t done;
	int err = ept_install_copies(fault_installer(f), fault_hva(f, f->index), zeros,
				     (size_t)n << EPT_PAGE_SHIFT, &done);
	unsigned put = (unsigned)(done >> EPT_PAGE_SHIFT);

	if (!put)
		return installed(f, err, EPT_PTE_PRIVATE, EPT_PTE_PRIVATE);
	ept_area_set_ptes(f->area, f->leaf, f->index, f->index + put, EPT_PTE_PRIVATE);
	f->res->installed += put;
	f->res->around += put - 1;
	return ept_fault_finish(f, 0);
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
	unsigned n = pages_at_once(f);
	result = n > 1 ? own_pages(f, n) : own_page(f);
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
