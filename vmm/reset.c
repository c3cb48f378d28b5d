/*
 * What a reset point is made of, and going back to it. Guest memory is ept/'s part
 * (ept/reset.h), told by KVM's dirty log what the guest wrote.
 */
#include "vmm/reset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "ept/reset.h"
#include "ept/stats.h"
#include "vmm/snapshot.h"
#include "vmm/vm.h"

/* A slot that holds nothing, and moves between two places where nothing is. */
#define EMPTY_SLOT     0x7000
#define EMPTY_SLOT_GPA (1UL << 45)
/* Words of KVM's log that cost as much as another call. */
#define GAP_WORDS      256

/* --- KVM's log of what the guest wrote ------------------------------------------------------- */

static int kvm_failed(const struct vm *vm, const char *what, struct foal_error *err)
{
	int r = -errno;

	return error_set(err, FOAL_EXIT_CONTROL, r, "%s: KVM: %s: %s", vm->opt->name, what,
			 strerror(-r));
}

static void free_logs(struct vm_reset *reset)
{
	for (size_t i = 0; i < reset->nr_logs; i++)
		free(reset->logs[i]);
	free(reset->logs);
	free(reset->log_pages);
	reset->logs = NULL;
	reset->log_pages = NULL;
	reset->nr_logs = 0;
}

/* All of them, or none: a slot without one would pass for one that nobody can write to. */
static int alloc_logs(struct vm_reset *reset, const struct ept_slot *slots, size_t nr)
{
	bool all;

	reset->logs = calloc(nr, sizeof(*reset->logs));
	reset->log_pages = calloc(nr, sizeof(*reset->log_pages));
	all = reset->logs && reset->log_pages;
	reset->nr_logs = all ? nr : 0;
	for (size_t i = 0; i < reset->nr_logs && all; i++) {
		if (slots[i].read_only)
			continue;
		reset->log_pages[i] = slots[i].size / EPT_PAGE_SIZE;
		reset->logs[i] = calloc(slots[i].size / EPT_PAGE_SIZE / 64 + 1, sizeof(uint64_t));
		all = reset->logs[i];
	}
	if (!all)
		free_logs(reset);
	return all ? 0 : -ENOMEM;
}

/*
 * KVM does not see that the guest's page tables are written by us. Where it shadows them, what
 * it made of them has to go, as it does when a slot moves; where the processor walks them,
 * what it remembers of them went with the log's own flush.
 */
static int forget_shadows(struct vm *vm, struct foal_error *err)
{
	struct vm_reset *reset = &vm->reset;
	struct kvm_userspace_memory_region region = {.slot = EMPTY_SLOT,
						     .guest_phys_addr = EMPTY_SLOT_GPA,
						     .memory_size = EPT_PAGE_SIZE,
						     .userspace_addr = (uintptr_t)reset->empty};

	if (!vm->kvm.shadow)
		return 0;
	region.guest_phys_addr += reset->moves++ % 2 * EPT_PAGE_SIZE;
	return ioctl(vm->kvm.vm_fd, KVM_SET_USER_MEMORY_REGION, &region)
		   ? kvm_failed(vm, "an empty slot", err)
		   : 0;
}

static int log_slot(struct vm *vm, unsigned index, const struct ept_slot *slot,
		    struct foal_error *err)
{
	struct kvm_userspace_memory_region region = {
	    .slot = index,
	    .flags = KVM_MEM_LOG_DIRTY_PAGES,
	    .guest_phys_addr = slot->gpa.v,
	    .memory_size = slot->size,
	    .userspace_addr = (uintptr_t)slot->hva,
	};

	if (slot->read_only || ioctl(vm->kvm.vm_fd, KVM_SET_USER_MEMORY_REGION, &region) == 0)
		return 0;
	return kvm_failed(vm, "logging what the guest writes", err);
}

/* From here on, for good. */
static int start_logging(struct vm *vm, struct foal_error *err)
{
	struct vm_reset *reset = &vm->reset;
	size_t nr = ept_space_slots(vm->space, NULL, 0);
	struct ept_slot *slots = calloc(nr, sizeof(*slots));
	int r = slots ? 0 : -ENOMEM;

	if (r == 0) {
		ept_space_slots(vm->space, slots, nr);
		r = reset->logs ? 0 : alloc_logs(reset, slots, nr);
	}
	if (r)
		error_set(err, FOAL_EXIT_CONTROL, r, "%s: no memory for a log of its pages",
			  vm->opt->name);
	for (size_t i = 0; i < nr && r == 0; i++)
		r = log_slot(vm, (unsigned)i, &slots[i], err);
	if (r == 0 && !reset->moves)
		r = forget_shadows(vm, err); /* the slot is there, to be moved */
	free(slots);
	reset->logging = r == 0;
	return r;
}

static int clear_words(const struct vm *vm, size_t slot, uint64_t first, uint64_t end)
{
	uint64_t pages = vm->reset.log_pages[slot];
	struct kvm_clear_dirty_log clear = {
	    .slot = (uint32_t)slot,
	    .first_page = first * 64,
	    .num_pages = (uint32_t)((end * 64 < pages ? end * 64 : pages) - first * 64),
	    .dirty_bitmap = vm->reset.logs[slot] + first};

	return ioctl(vm->kvm.vm_fd, KVM_CLEAR_DIRTY_LOG, &clear);
}

/* What was told: from a word in which anything is to the last one before many that are 0. */
static int clear_log(const struct vm *vm, size_t slot)
{
	const uint64_t *log = vm->reset.logs[slot];
	uint64_t words = (vm->reset.log_pages[slot] + 63) / 64, end, next;
	int r = 0;

	for (uint64_t w = ept_words_next(log, 0, words); w < words && r == 0; w = next) {
		end = w + 1;
		while ((next = ept_words_next(log, end, words)) < words && next - end < GAP_WORDS)
			end = next + 1;
		r = clear_words(vm, slot, w, end);
	}
	return r;
}

/* What was written since the last call. */
static int read_logs(struct vm *vm, struct foal_error *err)
{
	const struct vm_reset *reset = &vm->reset;

	for (size_t i = 0; i < reset->nr_logs; i++) {
		struct kvm_dirty_log log = {.slot = (uint32_t)i, .dirty_bitmap = reset->logs[i]};

		if (!reset->logs[i])
			continue;
		if (ioctl(vm->kvm.vm_fd, KVM_GET_DIRTY_LOG, &log) ||
		    (vm->kvm.clears_log && clear_log(vm, i)))
			return kvm_failed(vm, "what the guest wrote", err);
	}
	return 0;
}

/* --- the point ------------------------------------------------------------------------- */

static void forget_point(struct vm_reset *reset)
{
	reset->set = false;
	free(reset->state);
	reset->state = NULL;
}

static int mark_disks(struct vm *vm, struct foal_error *err)
{
	int r = 0;

	for (unsigned i = 0; i < vm->opt->disk_count && r == 0; i++)
		r = virtio_blk_mark(vm->disks[i].device);
	return r ? vm_no_layer(vm, r, err) : 0;
}

/* A point that was set is written over: what of it was not written since is kept already. */
static int mark_memory(struct vm *vm, struct foal_error *err)
{
	bool again = vm->reset.set && vm->reset.logging;
	char why[300] = "";
	int r = again ? read_logs(vm, err) : 0;

	if (r == 0 && !again) {
		ept_reset_free(vm->space);
		r = start_logging(vm, err);
		if (r == 0)
			r = read_logs(vm, err); /* of an earlier point that came to nothing */
	}
	if (r)
		return r;
	r = ept_reset_point(vm->space, again ? (const uint64_t *const *)vm->reset.logs : NULL, why,
			    sizeof(why));
	return r ? error_set(err, FOAL_EXIT_CONTROL, r, "%s", why) : 0;
}

static void point_is_set(struct vm *vm, enum clock_policy clock)
{
	struct vm_reset *reset = &vm->reset;

	reset->from.clock = clock;
	reset->set = true;
	reset->points++;
	atomic_store(&reset->count, 0);
}

int reset_point_set(struct vm *vm, enum clock_policy clock, struct reset_result *out,
		    struct foal_error *err)
{
	struct vm_reset *reset = &vm->reset;
	uint64_t begun = now_ns();
	uint8_t *state = NULL;
	size_t len = 0;

	*out = (struct reset_result){0};
	int r = snapshot_possible(vm->opt, "reset point", err);
	if (r == 0)
		r = vm_state_save(vm, &state, &len, err);
	if (r)
		return r;
	if ((r = mark_memory(vm, err)) || (r = mark_disks(vm, err))) {
		free(state);
		forget_point(reset);
		return r;
	}
	free(reset->state);
	reset->state = state;
	reset->from = (struct vm_restore){.state = state, .len = len, .record_fd = -1};
	point_is_set(vm, clock);
	out->kept = reset->kept = ept_reset_kept(vm->space);
	out->took = now_ns() - begun;
	return 0;
}

int reset_point_at_start(struct vm *vm, struct foal_error *err)
{
	int r = mark_memory(vm, err);

	if (r == 0)
		r = mark_disks(vm, err);
	if (r)
		return r;
	vm->reset.from = *vm->restore;
	vm->reset.from.memory = NULL; /* of its start */
	point_is_set(vm, vm->restore->clock);
	vm->reset.kept = ept_reset_kept(vm->space);
	return 0;
}

/* --- back
 * ------------------------------------------------------------------------------------------ */

static int bring_memory_back(struct vm *vm, struct reset_how how, struct reset_result *out,
			     bool *begun, struct foal_error *err)
{
	struct ept_reset_stats stats;
	char why[300] = "";
	int r = read_logs(vm, err);

	*begun = false;
	if (r) {
		forget_point(&vm->reset); /* KVM tells it once: some of it is lost */
		return r;
	}
	r = ept_reset_back(vm->space, (const uint64_t *const *)vm->reset.logs, &stats, begun, why,
			   sizeof(why));
	if (r)
		return error_set(err, FOAL_EXIT_CONTROL, r, "%s%s", why,
				 *begun ? "" : "; no reset, it goes on as it was");
	out->pages = stats.pages;
	out->read = stats.read;
	out->kept = vm->reset.kept = stats.kept;
	return stats.pages && !how.same_tables ? forget_shadows(vm, err) : 0;
}

static int bring_rest_back(struct vm *vm, struct vcpu *self, struct reset_how how,
			   struct foal_error *err)
{
	int r;

	for (unsigned i = 0; i < vm->opt->disk_count; i++)
		virtio_blk_go_back(vm->disks[i].device);
	r = vm_state_go_back(vm, &vm->reset.from, self, how.same_controls, err);
	if (r == 0 && !how.same_generation && (r = vmgenid_renew(&vm->host, vm->acpi_pm)))
		error_set(err, FOAL_EXIT_HOST, r, "%s: VM generation ID: %s", vm->opt->name,
			  strerror(-r));
	return r;
}

int reset_go_back(struct vm *vm, struct vcpu *self, struct reset_how how, struct reset_result *out,
		  struct foal_error *err)
{
	struct vm_reset *reset = &vm->reset;
	uint64_t begun_ns = now_ns();
	bool begun;
	int r;

	*out = (struct reset_result){0};
	if (!reset->set)
		return error_set(err, FOAL_EXIT_CONTROL, -EINVAL,
				 "%s: it has no reset point; foal reset %s --here sets it",
				 vm->opt->name, vm->opt->name);
	r = bring_memory_back(vm, how, out, &begun, err);
	if (r && !begun)
		return r;
	if (r == 0)
		r = bring_rest_back(vm, self, how, err);
	if (r) {
		forget_point(reset);
		vm_end(vm, FOAL_EXIT_FAULT, "%s: half way back to its reset point: %s",
		       vm->opt->name, err->text);
		return r;
	}
	/* Who rang as another did was before all this. */
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		if (&vm->vcpus[i] != self)
			vm->vcpus[i].rang = 0;
	reset->resets++;
	reset->pages += out->pages;
	atomic_fetch_add(&reset->count, 1);
	out->took = now_ns() - begun_ns;
	ept_hist_add(&reset->took, out->took);
	return 0;
}

/* --- life
 * -------------------------------------------------------------------------------------------- */

void reset_init(struct vm *vm)
{
	void *page =
	    mmap(NULL, EPT_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	vm->reset.empty = page == MAP_FAILED ? NULL : page;
}

void reset_end(struct vm *vm)
{
	forget_point(&vm->reset);
	if (vm->reset.empty)
		munmap(vm->reset.empty, EPT_PAGE_SIZE);
	vm->reset.empty = NULL;
	free_logs(&vm->reset);
}
