/*
 * Pages that an object did not give. One that is poisoned is a memory error to
 * whoever touches it, as if the host's memory were damaged there, and nothing to
 * the rest of the VM.
 */
#include "ept/handlers.h"
#include "ept/uffd_compat.h"

#include <errno.h>

bool ept_space_can_poison(const struct ept_space *space)
{
	return space->config.on_io_error == EPT_IO_POISON &&
	       space->installer.features & UFFD_FEATURE_POISON;
}

/* Under the lock: who touched the page is woken before the entry says so. */
bool ept_poisoned(const struct ept_space *space, gpa_t gpa)
{
	struct ept_leaf *leaf = ept_mirror_find(&space->mirror, gpa);
	bool poisoned;

	if (!leaf)
		return false;
	pthread_mutex_lock(&leaf->lock);
	poisoned = ept_pte_get(leaf, ept_leaf_index(gpa)) == EPT_PTE_POISON;
	pthread_mutex_unlock(&leaf->lock);
	return poisoned;
}

enum ept_result ept_io_failed(struct fault *f, int err)
{
	int poisoned;

	f->res->kase = EPT_CASE_IO_ERROR;
	f->res->error = err;
	if (!f->unreadable || !ept_space_can_poison(f->area->space))
		return EPT_BUS_ERROR;
	f->unreadable = false; /* what follows is the installer's error */
	poisoned = ept_install_poison(fault_installer(f), fault_hva(f, f->index));
	if (poisoned) {
		f->res->error = 0;
		return ept_fault_finish(f, poisoned);
	}
	fault_set(f, f->index, EPT_PTE_POISON);
	f->poisoned = err;
	f->res->kase = EPT_CASE_IO_POISON;
	f->res->error = -EIO;
	return EPT_RESOLVED;
}

/*
 * An event that came late is woken, and finds the poison. It is put in again first: were
 * the host's entry gone, who waits would fault and be woken for ever.
 */
enum ept_result ept_io_poison(struct fault *f)
{
	int err = 0;

	if (f->req->flags & EPT_FAULT_EVENT)
		err = ept_install_poison(fault_installer(f), fault_hva(f, f->index));
	if (err && err != -EEXIST)
		return ept_fault_finish(f, err);
	f->res->error = -EIO;
	return EPT_RESOLVED;
}
