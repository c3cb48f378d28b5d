/* Cases that every kind of area knows, and how a handler ends. */
#include "ept/handlers.h"
#include "ept/host_pages.h"

#include <errno.h>

enum ept_result ept_fault_finish(struct fault *f, int err)
{
	/* The object's error, whatever its number is: a file system may know all of those below. */
	if (err && f->unreadable)
		return ept_io_failed(f, err);
	switch (err) {
	case 0:
		return EPT_RESOLVED;
	case -EEXIST: /* it was there: raced and woken */
		f->res->kase = EPT_CASE_SPURIOUS;
		return EPT_RESOLVED;
	case -EAGAIN:
	case -EBUSY: /* of a page that is moved */
		return EPT_RETRY;
	case -ENOMEM:
		f->res->kase = EPT_CASE_NO_MEMORY;
		f->res->error = err;
		return EPT_OUT_OF_MEM;
	case -ESHUTDOWN:
		f->res->kase = EPT_CASE_DYING;
		f->res->error = err;
		return EPT_FATAL;
	default:
		return ept_io_failed(f, err);
	}
}

/* Writing is granted; the host kernel then gives the writer its own copy, or the cached page. */
enum ept_result ept_grant_write(struct fault *f, enum ept_pte pte)
{
	int err =
	    ept_install_protect(fault_installer(f), fault_hva(f, f->index), EPT_PAGE_SIZE, false);

	if (!err)
		fault_set(f, f->index, pte);
	return ept_fault_finish(f, err);
}

/*
 * Reclaim took the cached page behind a private one. Either the guest has its copy,
 * and the event is late; or nobody wrote since writing was granted, and what went
 * was the page itself: then it is as if it had never been mapped. Without protection
 * the host's page table says which: a protected page leaves a mark in it.
 */
static int without_cached(struct fault *f)
{
	char *hva = fault_hva(f, f->index);
	int err = ept_install_protect(fault_installer(f), hva, EPT_PAGE_SIZE, false);

	if (err)
		return err;
	if (ept_host_page(f->area->space, hva) == EPT_HOST_CACHED) {
		fault_set(f, f->index, EPT_PTE_NONE);
		return -EAGAIN;
	}
	fault_set(f, f->index, EPT_PTE_PRIVATE);
	return 0;
}

enum ept_pte fault_mapped_as(const struct fault *f, unsigned index, enum ept_pte pte)
{
	if (fault_installer(f)->atomic_protect || !fault_protects(f, pte))
		return pte;
	if (pte == EPT_PTE_CLEAN)
		return EPT_PTE_DIRTY;
	if (pte != EPT_PTE_FILE)
		return pte;
	/* Protected by now: what it is, it stays. Where nobody tells it counts as written. */
	return ept_host_page(f->area->space, fault_hva(f, index)) == EPT_HOST_CACHED
		   ? pte
		   : EPT_PTE_PRIVATE;
}

/*
 * The host has no entry for a page that the mirror calls installed: it dropped
 * the one of a cached page (reclaim). A page that became the area's own may
 * still be the cached one, if nobody wrote after the grant; if it is a copy, it
 * is there.
 */
static int put_back(struct fault *f, enum ept_pte pte)
{
	struct ept_installer *in = fault_installer(f);
	bool protects = pte != EPT_PTE_PRIVATE && fault_protects(f, pte);
	enum ept_pte now = pte;
	size_t done;
	int err = ept_install_continue(in, fault_hva(f, f->index), EPT_PAGE_SIZE, protects, &done);

	if (done)
		now = fault_mapped_as(f, f->index, pte);
	if (now != pte)
		fault_set(f, f->index, now);
	return err == -EFAULT && ept_pte_own(pte) ? without_cached(f) : err;
}

/* An event may be late, and a page come and go: once is nothing, nor are some hundred times. */
#define IN_VAIN 1000

/*
 * Does the host not have the page that the mirror calls installed? Whoever touches it would ask
 * for ever. What was in it nobody has any more. Asking the host is dear, so it is done now and
 * then; the leaf's lock makes its answer a proof.
 */
static bool is_lost(const struct fault *f)
{
	f->leaf->in_vain = (f->leaf->in_vain + 1) % IN_VAIN;
	return f->leaf->in_vain == 0 &&
	       ept_host_empty(f->area->space->pagemap_fd, fault_hva(f, f->index));
}

static enum ept_result lost(struct fault *f)
{
	const struct ept_area *area = f->area;

	f->res->error = -EFAULT;
	ept_space_fail(
	    area->space, EPT_CASE_SPURIOUS, f->req->gpa, -EFAULT,
	    "%s: the page of %s at %#lx is lost: it was put in, and the host has nothing "
	    "there; this is a bug: start the VM again, and report it",
	    area->space->name, area->name, (unsigned long)f->req->gpa.v);
	return EPT_FATAL;
}

/*
 * Granted already. A device or loader has nothing to wait for. An event may be
 * late, or the host may have dropped its entry: make sure the host's page table
 * says what the mirror says, and wake.
 */
enum ept_result ept_spurious(struct fault *f)
{
	char *hva = fault_hva(f, f->index);
	int err = 0;

	if (f->waited)
		f->res->kase = EPT_CASE_TRANSIT;
	if (!(f->req->flags & EPT_FAULT_EVENT))
		return EPT_RESOLVED;
	if (f->req->flags & EPT_FAULT_PROTECT)
		err = ept_install_protect(fault_installer(f), hva, EPT_PAGE_SIZE, false);
	else if (ept_area_cached(f->area))
		err = put_back(f, ept_pte_get(f->leaf, f->index));
	else if (is_lost(f))
		return lost(f);
	else
		ept_install_wake(fault_installer(f), hva, EPT_PAGE_SIZE);
	return ept_fault_finish(f, err == -EEXIST ? 0 : err);
}

/* Another thread reads the page; its install wakes our waiter (fault.c). */
enum ept_result ept_transit(struct fault *f)
{
	if (f->req->flags & EPT_FAULT_EVENT)
		return EPT_RESOLVED;
	f->waited = true;
	fault_waits(f, EPT_WAIT_TRANSIT);
	pthread_cond_wait(&f->leaf->arrived, &f->leaf->lock);
	return EPT_RETRY;
}

/* Dropped: KVM reports it as an access to a device, so nobody waits here. */
enum ept_result ept_ro_write(struct fault *f)
{
	f->res->error = -EFAULT;
	return EPT_RESOLVED;
}
