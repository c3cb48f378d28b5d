/*
 * A space in a process that forks.
 *
 * What fork() does not carry over (userfaultfd(2), fork(2)):
 *   - threads: so the space is held before, and the child starts its own;
 *   - registrations: a page that is not there yet would read as zero, and writes to
 *     protected pages would go unseen. The child's userfaultfd still acts on the
 *     parent. So it is closed first, and everything registered with a new one;
 *   - page tables of files and zero pages, where no page of the mapping is its own;
 *   - what is shared by descriptor: eventfds, rings, /proc/self/pagemap of the parent,
 *     the swap file, the fault log, the caches of objects. The child gets its own of each, and what
 *     it goes on using of a cache is frozen (object_fork.c).
 *
 * Private pages are shared copy-on-write by the host's kernel, in both directions.
 * From fork() to ept_space_fork_start() the child makes async-signal-safe calls only.
 */
#include "ept/density.h"
#include "ept/object_snapshot.h"
#include "ept/reset_space.h"
#include "ept/space.h"
#include "ept/staging.h"
#include "ept/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Objects are locked once, however many areas have them. */
static bool first_use(const struct ept_space *space, size_t i)
{
	for (size_t j = 0; j < i; j++)
		if (space->areas[j]->obj == space->areas[i]->obj)
			return false;
	return space->areas[i]->obj;
}

#define for_each_object(space, i, o) \
	for (size_t i = 0; i < (space)->nr_areas; i++) \
		for (struct ept_object *o = first_use(space, i) ? (space)->areas[i]->obj : NULL; \
		     o; (o) = NULL)

/* --- before, and in the parent -------------------------------------------------------- */

/* In the order of docs/locking.md; who holds one of them here is the forking thread. */
static void lock_all(struct ept_space *space)
{
	pthread_mutex_lock(&space->reclaim.work);
	for_each_object(space, i, sync) pthread_mutex_lock(&sync->sync_lock);
	for_each_object(space, i, used) pthread_mutex_lock(&used->users);
	for_each_object(space, i, obj) pthread_mutex_lock(&obj->lock);
	ept_reader_lock(space->reader, true);
	pthread_mutex_lock(&space->reclaim.lock);
	pthread_mutex_lock(&space->files.queue.lock);
	pthread_mutex_lock(&space->failure_lock);
	pthread_mutex_lock(&space->watch_lock);
}

static void unlock_all(struct ept_space *space)
{
	pthread_mutex_unlock(&space->watch_lock);
	pthread_mutex_unlock(&space->failure_lock);
	pthread_mutex_unlock(&space->files.queue.lock);
	pthread_mutex_unlock(&space->reclaim.lock);
	ept_reader_lock(space->reader, false);
	for_each_object(space, i, obj) pthread_mutex_unlock(&obj->lock);
	for_each_object(space, i, used) pthread_mutex_unlock(&used->users);
	for_each_object(space, i, sync) pthread_mutex_unlock(&sync->sync_lock);
	pthread_mutex_unlock(&space->reclaim.work);
	pthread_mutex_unlock(&space->life_lock);
}

static void thaw(struct ept_space *space, const struct ept_fork *fork)
{
	for_each_object(space, i, obj) ept_object_thaw(obj, fork->number);
}

/* What the child will share stays as it is from here on. */
static int freeze(struct ept_space *space, struct ept_fork *fork)
{
	static uint64_t forks; /* of all spaces: they share objects */
	int err = 0;

	fork->number = __atomic_add_fetch(&forks, 1, __ATOMIC_RELAXED);
	for_each_object(space, i, obj) err = err ? err : ept_object_freeze(obj, fork->number);
	if (!err && space->reclaim.swap.fd >= 0)
		err = ept_swap_pin(&space->reclaim.swap, &fork->pin);
	if (err) {
		thaw(space, fork);
		fork->number = 0;
	}
	return err;
}

int ept_space_fork_begin(struct ept_space *space, struct ept_fork *fork)
{
	int err = 0;

	*fork = (struct ept_fork){0};
	if (!ept_hold_is_mine(space))
		return -EINVAL;
	pthread_mutex_lock(&space->life_lock);
	if (space->life != EPT_LIFE_STARTED || ept_space_failure(space) || ept_lost(space))
		err = -ESHUTDOWN;
	else
		err = freeze(space, fork);
	if (err) {
		pthread_mutex_unlock(&space->life_lock);
		return err;
	}
	space->forked = true;
	__atomic_add_fetch(&space->reclaim.forks, 1, __ATOMIC_RELEASE);
	lock_all(space);
	return 0;
}

void ept_space_fork_parent(struct ept_space *space)
{
	unlock_all(space);
}

static void fork_ends(struct ept_space *space, struct ept_fork *fork)
{
	ept_swap_unpin(&space->reclaim.swap, fork->pin);
	fork->pin = NULL;
	if (fork->number)
		__atomic_sub_fetch(&space->reclaim.forks, 1, __ATOMIC_RELEASE);
	ept_reclaim_eased(&space->reclaim);
	fork->number = 0;
}

void ept_space_fork_done(struct ept_space *space, struct ept_fork *fork)
{
	if (fork->number)
		for_each_object(space, i, obj) ept_object_keep_frozen(obj, fork->number);
	fork_ends(space, fork);
}

void ept_space_fork_gone(struct ept_space *space, struct ept_fork *fork)
{
	if (fork->number)
		thaw(space, fork);
	fork_ends(space, fork);
}

/* --- in the child --------------------------------------------------------------------------- */

/* Threads of the parent's may have waited at these. */
static void no_waiters(struct ept_space *space)
{
	pthread_cond_init(&space->idle, NULL);
	pthread_cond_init(&space->released, NULL);
	pthread_cond_init(&space->reclaim.need, NULL);
	pthread_cond_init(&space->reclaim.freed, NULL);
	space->pending = space->portions = NULL;
	space->working = 0;
	space->nr_threads = 0;
	space->reclaim.has_thread = false;
	space->files.running = false;
	ept_prefetch_forked(space);
	space->files.since = 0;
	memset(space->files.queue.jobs, 0, sizeof(space->files.queue.jobs)); /* the parent's */
}

/* The timer behind its clock is the parent's. */
static void governor_gone(struct ept_governor *g)
{
	if (!g)
		return;
	if (g->running && g->clock_fd >= 0)
		close(g->clock_fd);
	g->running = false;
}

static int own_eventfd(int *fd)
{
	close(*fd);
	*fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return *fd < 0 ? -errno : 0;
}

/* Without a page map resident is 0, and reclaim leaves alone what it cannot tell. */
static int own_descriptors(struct ept_space *space)
{
	int err = own_eventfd(&space->stop_fd);

	if (!err)
		err = own_eventfd(&space->failure_fd);
	if (!err)
		err = own_eventfd(&space->files.queue.wake_fd);
	if (space->pagemap_fd >= 0) {
		close(space->pagemap_fd);
		space->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	}
	for (unsigned i = 0; i < space->config.vcpus; i++) {
		if (space->vcpus[i].stat_fd >= 0)
			close(space->vcpus[i].stat_fd);
		space->vcpus[i] = (struct ept_vcpu){.cpu = -1, .stat_fd = -1};
	}
	return err;
}

/* The parent's is shared memory: what is written there would be the parent's. */
static void own_log(struct ept_space *space)
{
	ept_fault_log_close(&space->log);
	if (space->config.log)
		ept_fault_log_open(&space->log, space->config.memory_limit); /* it can be without */
}

static void zero_ledger(struct ept_ledger *ledger)
{
	for (int c = 0; c < EPT_NR_CASES; c++)
		if (ledger->cases[c])
			memset(ledger->cases[c], 0, sizeof(*ledger->cases[c]));
}

static void zero_counters(struct ept_space *space)
{
	for (size_t i = 0; i < space->nr_areas; i++)
		zero_ledger(&space->areas[i]->ledger);
	zero_ledger(&space->stray);
	memset(space->events, 0, sizeof(space->events));
	space->ending = 0;
	memset(space->ended, 0, sizeof(space->ended));
	memset(space->strays, 0, sizeof(space->strays));
	ept_debt_clear(&space->debt);
	memset(&space->reclaim.counts, 0, sizeof(space->reclaim.counts));
	space->reclaim.peak = space->reclaim.limit ? ept_reclaim_charge(space) : 0;
}

/* What has to be done for an entry, so that the host's page table says the same. */
enum mend { MEND_NOTHING, MEND_DROP, MEND_PROTECT };

static enum mend mend_for(const struct ept_area *area, enum ept_pte pte)
{
	if (pte == EPT_PTE_ZERO)
		return MEND_DROP;
	if (pte == EPT_PTE_AGED || (pte == EPT_PTE_FILE && ept_area_writable(area)))
		return MEND_PROTECT;
	return MEND_NOTHING;
}

static int mend_run(struct ept_area *area, struct ept_leaf *leaf, uint64_t gpa, unsigned n,
		    enum mend how)
{
	struct ept_installer *in = &area->space->installer;
	size_t len = (size_t)n << EPT_PAGE_SHIFT;

	if (how == MEND_PROTECT)
		return ept_install_protect(in, ept_hva(area, gpa), len, true);
	for (unsigned i = 0; i < n; i++)
		ept_area_put_pte(area, leaf, ept_leaf_index(GPA(gpa)) + i, EPT_PTE_NONE, 0,
				 area->kind == EPT_KIND_LAYERS ? EPT_VALUE_DISCARDED : 0);
	return ept_install_drop(in, ept_hva(area, gpa), len);
}

/* [gpa, end) of one leaf. Nobody else is there: no lock. */
static int mend_leaf(struct ept_area *area, uint64_t gpa, uint64_t end)
{
	struct ept_leaf *leaf = ept_mirror_find(&area->space->mirror, GPA(gpa));
	enum mend how = MEND_NOTHING;
	uint64_t run = gpa;
	int err = 0;

	for (; leaf && gpa <= end && !err; gpa += EPT_PAGE_SIZE) {
		enum mend next = MEND_NOTHING;

		if (gpa < end)
			next = mend_for(area, ept_pte_get(leaf, ept_leaf_index(GPA(gpa))));
		if (next == how && gpa < end)
			continue;
		if (how != MEND_NOTHING)
			err = mend_run(area, leaf, run, (unsigned)((gpa - run) >> EPT_PAGE_SHIFT),
				       how);
		run = gpa;
		how = next;
	}
	return err;
}

static int register_area(struct ept_area *area)
{
	struct ept_installer *in = &area->space->installer;
	int err = ept_install_register(in, area->hva, area->end - area->start,
				       ept_area_kinds[area->kind].backing);

	for (uint64_t gpa = area->start; gpa < area->end && !err;) {
		uint64_t next = ept_leaf_end(gpa, area->end);

		err = mend_leaf(area, gpa, next);
		gpa = next;
	}
	return err;
}

static int register_all(struct ept_space *space)
{
	const struct ept_ring *ring = &space->reclaim.ring;
	int err = ept_installer_reopen(&space->installer);

	for (size_t i = 0; i < space->nr_areas && !err; i++)
		if (ept_handler_engine(space->areas[i]))
			err = register_area(space->areas[i]);
	if (!err && ring->base)
		err = ept_install_register(&space->installer, ring->base,
					   ring->size << EPT_PAGE_SHIFT, EPT_BACKING_ANON);
	return err;
}

static int adopt(struct ept_space *space, const struct ept_swap_file *swap)
{
	struct ept_reclaim *r = &space->reclaim;
	int err = 0;

	for_each_object(space, i, obj) err = err ? err : ept_object_adopt(obj);
	if (!err && r->swap.fd >= 0)
		err = swap ? ept_swap_adopt(&r->swap, swap->fd) : -EINVAL;
	return err;
}

int ept_space_fork_child(struct ept_space *space, struct ept_fork *fork,
			 const struct ept_swap_file *swap)
{
	int err;

	ept_installer_close_events(&space->installer); /* it acts on the parent */
	ept_trace_close(space);
	own_log(space);
	unlock_all(space);
	no_waiters(space);
	governor_gone(space->governor);
	ept_reset_forget(space);
	*fork = (struct ept_fork){0}; /* it is the parent's */
	space->reclaim.forks = 0;
	err = own_descriptors(space);
	if (!err)
		err = adopt(space, swap);
	if (!err && ept_has_handlers(space))
		err = register_all(space);
	zero_counters(space);
	return err;
}

void ept_space_fork_frozen(struct ept_space *space, int pagemap_fd)
{
	ept_installer_close_events(&space->installer);
	ept_trace_close(space);
	ept_fault_log_close(&space->log);
	unlock_all(space);
	no_waiters(space);
	governor_gone(space->governor);
	ept_reset_forget(space);
	close(space->failure_fd); /* what fails here is nothing to the parent's monitor */
	space->failure_fd = -1;
	__atomic_store_n(&space->life, EPT_LIFE_STOPPED, __ATOMIC_RELEASE);
	if (space->pagemap_fd >= 0) /* the parent's */
		close(space->pagemap_fd);
	space->pagemap_fd = pagemap_fd;
}

int ept_space_rename(struct ept_space *space, const char *name)
{
	char *own = strdup(name);

	if (!own)
		return -ENOMEM;
	free(space->name);
	space->config.vm_name = space->name = own;
	return 0;
}

int ept_space_fork_start(struct ept_space *space, const char *name)
{
	int err;

	pthread_mutex_lock(&space->life_lock);
	free(space->threads);
	space->threads = NULL;
	err = ept_space_rename(space, name);
	if (!err)
		err = ept_reader_adopt(space->reader);
	if (!err)
		err = ept_threads_start(space);
	space->holder = pthread_self();
	pthread_mutex_unlock(&space->life_lock);
	if (!err)
		ept_space_release(space);
	return err;
}
