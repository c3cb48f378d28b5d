#include "ept/install_wakes.h"

static _Thread_local struct {
	bool keep;
	char *from, *to; /* NULL: none yet */
} kept;

void ept_install_keep_wakes(void)
{
	kept.keep = true;
}

void ept_install_wake_kept(struct ept_installer *in)
{
	if (kept.from)
		ept_install_wake(in, kept.from, (size_t)(kept.to - kept.from));
	kept.keep = false;
	kept.from = kept.to = NULL;
}

bool ept_wakes_kept(void)
{
	return kept.keep;
}

void ept_wake_later(struct ept_installer *in, void *hva, size_t len)
{
	char *from = hva;

	if (!kept.keep || (kept.from && from != kept.to)) {
		ept_install_wake(in, hva, len);
		return;
	}
	if (!kept.from)
		kept.from = from;
	kept.to = from + len;
}
