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

static enum ept_result own_page(struct fault *f)
{
	int err = ept_install_copy(fault_installer(f), fault_hva(f, f->index), NULL);

	return installed(f, err, EPT_PTE_PRIVATE, EPT_PTE_PRIVATE);
}

enum ept_result ept_anon_write(struct fault *f)
{
	enum ept_result result;

	return ept_anon_whole(f, &result) ? result : own_page(f);
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
