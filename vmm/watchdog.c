/*
 * What no fault tells of. A file that shrinks under memory the host kernel
 * backs makes KVM take the same fault for ever without leaving the kernel, so
 * no thread of ours ever hears of it; KVM's own counts show it: faults taken
 * rise, faults resolved in any way do not.
 */
#include "vmm/kvmstats.h"
#include "vmm/vm.h"

/* A working guest resolves some fault within this many looks. */
#define STUCK_LOOKS  4
/* Below this many in a look it is a slow page, not a loop. */
#define STUCK_FAULTS 1000

static bool count_faults(struct vm *vm, uint64_t *taken, uint64_t *resolved)
{
	static const char *const ways[] = {"pf_fixed", "pf_emulate", "pf_spurious",
					   "pf_fast",  "pf_guest",   "pf_mmio_spte_created"};
	struct kvm_stats stats = {.count = 0};

	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		if (kvm_stats_add(&stats, vm->vcpus[i].stats_fd))
			return false;
	}
	*taken = kvm_stats_get(&stats, "pf_taken");
	*resolved = 0;
	for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		*resolved += kvm_stats_get(&stats, ways[i]);
	return true;
}

static void tell_of_poison(struct watchdog *dog, const struct vm *vm)
{
	const struct ept_failure *poison = ept_space_first_poison(vm->space);

	if (poison && !dog->told)
		notice("%s", poison->message);
	dog->told |= poison != NULL;
}

void watchdog_look(struct watchdog *dog, struct vm *vm)
{
	uint64_t taken, resolved;

	tell_of_poison(dog, vm);
	ept_space_check(vm->space);
	if (!count_faults(vm, &taken, &resolved))
		return;
	bool looping = taken - dog->taken > STUCK_FAULTS && resolved == dog->resolved;
	dog->stuck = looping ? dog->stuck + 1 : 0;
	dog->taken = taken;
	dog->resolved = resolved;
	if (dog->stuck >= STUCK_LOOKS)
		vm_end(vm, FOAL_EXIT_STUCK,
		       "%s: a vCPU faults without progress: the host resolved none of the last "
		       "faults it took; a file behind guest memory may have failed",
		       vm->opt->name);
}
