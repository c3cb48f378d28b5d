/*
 * Nested page faults. What a fault is follows from three things: the kind of
 * area it hit, what the mirror says is installed there, and the access.
 *
 *   area    installed  read           write            after it
 *   ------- ---------- -------------- ---------------- ------------------
 *   (none)  -          no_area        no_area
 *   anon    none       anon_read      anon_write       zero / private
 *           zero       spurious       anon_wp          private
 *           private    spurious       spurious
 *           held       hint_read      hint_write       private
 *           aged       spurious       hint_write       private
 *           swapped    swap_read      swap_write       private
 *   ro      none       file_read      ro_write         file
 *           file       spurious       ro_write
 *           private    spurious       ro_write                          (1)
 *           sampled    hint_read      ro_write         file
 *           others     as any         ro_write
 *   cow     none       file_read      file_cow         file / private
 *           file       spurious       file_wp          private
 *           private    spurious       spurious
 *           aged       spurious       hint_write       private
 *           sampled    hint_read      hint_write       file / private
 *           swapped    swap_read      swap_write       private
 *   shared  none       shared_read    shared_write     clean / dirty
 *           clean      spurious       shared_mkwrite   dirty
 *           dirty      spurious       spurious
 *           sampled    hint_read      hint_write       clean / dirty
 *   own     none       file_huge      file_huge        private
 *           private    spurious       spurious
 *   layers  none       snap_read (2)  snap_write (2)   private
 *           others     as anon, but held, which is never made of it
 *   any     transit    transit        transit
 *           poison     io_poison      io_poison
 *
 * (1) after a fork: a copy of what this process read (object_fork.c).
 * (2) what is zero by the snapshot, or was given back: anon_read and anon_write.
 *
 * A read-only file of its own (own_ro) is as own, its writes being ro_write.
 * anon_read and anon_write end as anon_huge where 2 MiB go in, snap_read and snap_write
 * as file_huge, and file_huge as file_read or file_cow where 4 KiB do (docs/huge-pages.md).
 * Swapped: in the pool or in the swap file (docs/reclaim.md).
 *
 * and io_error or io_poison, no_memory or dying where a handler could not do its
 * work.
 *
 * One fault:
 *   1. find the area (none: no_area) and the leaf, taking the leaf's lock;
 *   2. refuse if the space is being stopped (dying);
 *   3. dispatch on the table. A case that takes memory waits until the limit has
 *      room for it (reclaim.h), with no lock. A handler is called and returns with the leaf
 *      locked. If the object has to be read, its pages are marked in transit
 *      and the lock is dropped meanwhile (bring_in);
 *   4. install, and change the entries in the same critical section; wake behind it;
 *   5. count the fault as the one case it ended as.
 * Only the loop in handle_ept_fault() goes round again.
 *
 * No wake is lost. An event can be read only after its waiter is on
 * userfaultfd's queue. A fault thread that finds the page in transit leaves it
 * alone: it looked under the leaf's lock before the installer took that lock
 * again, so the waiter was queued before the install, and the wake behind it wakes
 * all that are queued. A fault thread that finds the access granted was perhaps
 * late; it wakes once more, which does no harm (spurious).
 */
#include "ept/fault_log.h"
#include "ept/handlers.h"
#include "ept/trace.h"

#include <errno.h>
#include <sched.h>

struct dispatch {
	enum ept_case kase;
	handler_fn handle; /* NULL: the mirror cannot be in this state */
	bool takes_memory;
};

#define CASE(id, fn) \
	{ \
		EPT_CASE_##id, fn, false \
	}
#define MORE(id, fn) \
	{ \
		EPT_CASE_##id, fn, true \
	}
#define GRANTED CASE(SPURIOUS, ept_spurious)
#define WAIT	CASE(TRANSIT, ept_transit)
#define DROP	CASE(RO_WRITE, ept_ro_write)
#define POISON	CASE(IO_POISON, ept_io_poison)
#define SWAPIN \
	{ \
		MORE(SWAP_READ, ept_swap_in), MORE(SWAP_WRITE, ept_swap_in) \
	}

/* The table on top of this file. */
static const struct dispatch cases[EPT_NR_KINDS][EPT_NR_PTES][2] =
    {
	[EPT_KIND_ANON] =
	    {
		[EPT_PTE_NONE] = {MORE(ANON_READ, ept_anon_read), MORE(ANON_WRITE, ept_anon_write)},
		[EPT_PTE_ZERO] = {GRANTED, MORE(ANON_WP, ept_anon_wp)},
		[EPT_PTE_PRIVATE] = {GRANTED, GRANTED},
		[EPT_PTE_HELD] = {CASE(HINT_READ, ept_hint), CASE(HINT_WRITE, ept_hint)},
		[EPT_PTE_AGED] = {GRANTED, CASE(HINT_WRITE, ept_hint)},
		[EPT_PTE_POOLED] = SWAPIN,
		[EPT_PTE_SWAPPED] = SWAPIN,
		[EPT_PTE_TRANSIT] = {WAIT, WAIT},
		[EPT_PTE_POISON] = {POISON, POISON},
	    },
	[EPT_KIND_RO] =
	    {
		[EPT_PTE_NONE] = {MORE(FILE_READ, ept_file_read), DROP},
		[EPT_PTE_FILE] = {GRANTED, DROP},
		[EPT_PTE_PRIVATE] = {GRANTED, DROP},
		[EPT_PTE_SAMPLED] = {CASE(HINT_READ, ept_hint), DROP},
		[EPT_PTE_TRANSIT] = {WAIT, DROP},
		[EPT_PTE_POISON] = {POISON, DROP},
	    },
	[EPT_KIND_COW] =
	    {
		[EPT_PTE_NONE] = {MORE(FILE_READ, ept_file_read), MORE(FILE_COW, ept_file_cow)},
		[EPT_PTE_FILE] = {GRANTED, MORE(FILE_WP, ept_file_wp)},
		[EPT_PTE_PRIVATE] = {GRANTED, GRANTED},
		[EPT_PTE_AGED] = {GRANTED, CASE(HINT_WRITE, ept_hint)},
		[EPT_PTE_SAMPLED] = {CASE(HINT_READ, ept_hint), MORE(HINT_WRITE, ept_hint)},
		[EPT_PTE_POOLED] = SWAPIN,
		[EPT_PTE_SWAPPED] = SWAPIN,
		[EPT_PTE_TRANSIT] = {WAIT, WAIT},
		[EPT_PTE_POISON] = {POISON, POISON},
	    },
	[EPT_KIND_SHARED] =
	    {
		[EPT_PTE_NONE] = {MORE(SHARED_READ, ept_shared_read),
				  MORE(SHARED_WRITE, ept_shared_write)},
		[EPT_PTE_SAMPLED] = {CASE(HINT_READ, ept_hint), CASE(HINT_WRITE, ept_hint)},
		[EPT_PTE_CLEAN] = {GRANTED, CASE(SHARED_MKWRITE, ept_shared_mkwrite)},
		[EPT_PTE_DIRTY] = {GRANTED, GRANTED},
		[EPT_PTE_TRANSIT] = {WAIT, WAIT},
		[EPT_PTE_POISON] = {POISON, POISON},
	    },
	[EPT_KIND_OWN] =
	    {
		[EPT_PTE_NONE] = {CASE(FILE_HUGE, ept_file_huge), CASE(FILE_HUGE, ept_file_huge)},
		[EPT_PTE_PRIVATE] = {GRANTED, GRANTED},
		[EPT_PTE_TRANSIT] = {WAIT, WAIT},
		[EPT_PTE_POISON] = {POISON, POISON},
	    },
	[EPT_KIND_OWN_RO] =
	    {
		[EPT_PTE_NONE] = {CASE(FILE_HUGE, ept_file_huge), DROP},
		[EPT_PTE_PRIVATE] = {GRANTED, DROP},
		[EPT_PTE_TRANSIT] = {WAIT, DROP},
		[EPT_PTE_POISON] = {POISON, DROP},
	    },
	[EPT_KIND_LAYERS] =
	    {
		[EPT_PTE_NONE] = {MORE(SNAP_READ, ept_snap_read), MORE(SNAP_WRITE, ept_snap_write)},
		[EPT_PTE_ZERO] = {GRANTED, MORE(ANON_WP, ept_anon_wp)},
		[EPT_PTE_PRIVATE] = {GRANTED, GRANTED},
		[EPT_PTE_AGED] = {GRANTED, CASE(HINT_WRITE, ept_hint)},
		[EPT_PTE_POOLED] = SWAPIN,
		[EPT_PTE_SWAPPED] = SWAPIN,
		[EPT_PTE_TRANSIT] = {WAIT, WAIT},
		[EPT_PTE_POISON] = {POISON, POISON},
	    },
};

/* Has the memory limit room for what this fault may bring in? */
static bool has_room(struct fault *f)
{
	struct ept_space *space = f->area->space;
	unsigned pages = f->area->obj ? space->reclaim.window : 1;

	if (!space->reclaim.limit)
		return true;
	f->short_of = ept_reclaim_admit(space, pages) ? 0 : pages;
	return !f->short_of;
}

static enum ept_result dispatch(struct fault *f)
{
	enum ept_pte pte;
	const struct dispatch *d;

	if (ept_dying(f->area->space))
		return ept_fault_finish(f, -ESHUTDOWN);
	pte = ept_pte_get(f->leaf, f->index);
	d = pte < EPT_NR_PTES ? &cases[f->area->kind][pte][f->req->access] : NULL;
	if (!d || !d->handle) /* a bug of ours: stop this VM, not the monitor */
		return ept_fault_finish(f, -EUCLEAN);
	f->res->kase = d->kase;
	__atomic_store_n(&f->pending.kase, d->kase, __ATOMIC_RELAXED);
	if (d->takes_memory && !has_room(f))
		return EPT_RETRY;
	ept_sample_fault(f);
	return d->handle(f);
}

/*
 * When the last page was in, before who waits is woken. From SPURIOUS on, none goes in but the
 * neighbours of one that somebody else put in meanwhile.
 */
static void note_put(struct fault *f, enum ept_result result)
{
	if (f->area->space->log.map && result == EPT_RESOLVED &&
	    (f->res->kase < EPT_CASE_SPURIOUS || f->res->installed))
		f->res->put_at = ept_now();
}

static enum ept_result one_pass(struct fault *f)
{
	enum ept_result result;

	f->leaf = ept_mirror_get(&f->area->space->mirror, f->req->gpa);
	if (!f->leaf)
		return ept_fault_finish(f, -ENOMEM);
	fault_lock_leaf(f);
	ept_install_keep_wakes();
	result = dispatch(f);
	note_put(f, result);
	pthread_mutex_unlock(&f->leaf->lock);
	ept_install_wake_kept(fault_installer(f));
	return result;
}

/* Come round again: when there is room, or when whoever moves the state has moved it. */
static enum ept_result again(struct fault *f)
{
	int err = 0;

	if (!f->short_of) {
		sched_yield(); /* whoever moves the state may need this CPU */
		return EPT_RETRY;
	}
	fault_waits(f, EPT_WAIT_ROOM);
	err = ept_reclaim_wait(f->area->space, f->req->gpa, f->short_of);
	f->short_of = 0;
	if (!err)
		return EPT_RETRY;
	/* The space has failed: who touched it asks again, and has it above the limit. */
	ept_install_wake(fault_installer(f), fault_hva(f, f->index), EPT_PAGE_SIZE);
	return ept_fault_finish(f, err);
}

/* Who waits for a page that is refused sleeps until the space is stopped, or for good. */
static void fail_unless_stopped(const struct fault *f)
{
	struct ept_space *space = f->area->space;

	if (!ept_dying(space) && !ept_lost(space))
		ept_space_fail(space, f->res->kase, f->req->gpa, f->res->error,
			       "%s: the page of %s at %#lx cannot be put in: the host says that "
			       "nothing is registered there; this is a bug",
			       space->name, f->area->name, (unsigned long)f->req->gpa.v);
}

/* @resolved: ept_now() then; what was brought in behind it is counted, its time is not. */
static void count(struct ept_space *space, struct ept_area *area, const struct ept_request *req,
		  const struct ept_resolution *res, uint64_t resolved)
{
	if (req->flags & EPT_FAULT_EVENT) /* and `ended` when its thread is done with it */
		__atomic_fetch_add(&space->ending, 1, __ATOMIC_SEQ_CST);
	ept_ledger_count(area ? &area->ledger : &space->stray, &space->arena, req->origin, res,
			 resolved - req->picked_up);
	if (req->vcpu)
		ept_ledger_count_vcpu(&space->vcpus[req->vcpu - 1].stats, res);
	ept_debt_count(&space->debt, req, res, resolved);
	ept_fault_log_note(space, area, req, res, resolved);
	ept_trace(space, area, req, res, resolved - req->picked_up);
}

enum ept_result handle_ept_fault(struct ept_space *space, const struct ept_request *req,
				 struct ept_resolution *res)
{
	struct fault f = {.area = ept_area_find(space, req->gpa.v),
			  .req = req,
			  .res = res,
			  .index = ept_leaf_index(req->gpa)};
	enum ept_result result;
	uint64_t resolved;

	*res = (struct ept_resolution){.kase = EPT_CASE_NO_AREA, .error = -EFAULT};
	if (!f.area) {
		count(space, NULL, req, res, ept_now());
		return EPT_BUS_ERROR;
	}
	res->error = 0;
	f.pending = (struct ept_pending){.area = f.area,
					 .gpa = req->gpa,
					 .origin = req->origin,
					 .since = req->picked_up,
					 .kase = EPT_CASE_TRANSIT};
	ept_watch_begin(space, &f.pending);
	do {
		result = one_pass(&f);
		if (result == EPT_RETRY)
			result = again(&f);
		switch (result) {
		case EPT_RETRY:
		case EPT_RESOLVED:
			break;
		case EPT_FATAL:
			fail_unless_stopped(&f);
			break;
		case EPT_BUS_ERROR:
			fault_waits(&f, EPT_WAIT_READ); /* its file's size is asked for */
			ept_area_fail(f.area, req->gpa, res->error, "read");
			break;
		case EPT_OUT_OF_MEM:
			ept_space_fail(space, res->kase, req->gpa, res->error,
				       "%s: no host memory for the page of %s at %#lx; "
				       "free some, or give the VM less",
				       space->name, f.area->name, (unsigned long)req->gpa.v);
			break;
		}
	} while (result == EPT_RETRY);
	resolved = ept_now();
	if (f.poisoned) {
		fault_waits(&f, EPT_WAIT_READ); /* its file's size is asked for */
		ept_area_note_poison(f.area, req->gpa, f.poisoned);
	}
	ept_fault_read_ahead(&f);
	ept_rest_leave(&f);
	if (space->reclaim.limit && res->installed)
		ept_reclaim_note(space);
	if (space->trace_fd >= 0)
		fault_waits(&f, EPT_WAIT_TRACE);
	count(space, f.area, req, res, resolved);
	ept_watch_end(space, &f.pending); /* last: a space that is held has no fault half way */
	return result;
}
