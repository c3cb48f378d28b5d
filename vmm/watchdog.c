/*
 * What no fault tells of. A file that shrinks under memory the host kernel
 * backs makes KVM take the same fault for ever without leaving the kernel, so
 * no thread of ours ever hears of it; KVM's own counts show it: faults taken
 * rise, faults resolved in any way do not. And a vCPU may sleep in the kernel for
 * a page that the kernel reads itself: it does not answer a kick then.
 */
#include "ept/stats.h"
#include "vmm/kvmstats.h"
#include "vmm/vm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A working guest resolves some fault within as many looks in which it took any, */
#define STUCK_LOOKS  4
/* and of so many. Storage that answers each with an error, slowly, makes them a few in a look. */
#define STUCK_FAULTS 1000
/* So many looks later it ends, whether its thread has looked for the page or not. */
#define ASKED_LOOKS  20
/* A vCPU is kicked this often within the time that it may take to leave the kernel. */
#define KICKS	     4

/* The first is those taken, the others are ways to resolve one. */
static const char *const fault_counts[] = {
    "pf_taken", "pf_fixed", "pf_emulate",	   "pf_spurious",
    "pf_fast",	"pf_guest", "pf_mmio_spte_created"};
#define FAULT_COUNTS (sizeof(fault_counts) / sizeof(fault_counts[0]))

static bool read_counts(struct vcpu_look *look, const struct vcpu *vcpu,
			uint64_t counts[FAULT_COUNTS])
{
	if (!look->picked)
		look->picked =
		    kvm_stats_pick(&look->faults, vcpu->stats_fd, fault_counts, FAULT_COUNTS) == 0;
	return look->picked &&
	       kvm_stats_read(&look->faults, vcpu->stats_fd, counts, FAULT_COUNTS) == 0;
}

static bool count_faults(struct vcpu_look *look, const struct vcpu *vcpu, uint64_t *taken,
			 uint64_t *resolved)
{
	uint64_t counts[FAULT_COUNTS];

	if (!read_counts(look, vcpu, counts))
		return false;
	*taken = counts[0];
	*resolved = 0;
	for (unsigned i = 1; i < FAULT_COUNTS; i++)
		*resolved += counts[i];
	return true;
}

uint64_t watchdog_fixed(struct watchdog *dog, const struct vm *vm)
{
	uint64_t counts[FAULT_COUNTS], sum = 0;

	for (unsigned i = 0; i < vm->vcpu_count; i++)
		if (read_counts(&dog->vcpus[i], &vm->vcpus[i], counts))
			sum += counts[1];
	return sum;
}

/* The files whose pages the host's kernel brings in itself: one of them it must be. */
static const char *suspects(const struct vm *vm, char *text, size_t size)
{
	size_t at = 0;

	text[0] = 0;
	for (size_t i = 0; i < ept_area_count(vm->space) && at < size; i++) {
		struct ept_area_info info;

		ept_area_info(ept_area_at(vm->space, i), &info);
		if (info.engine == EPT_ENGINE_KERNEL && info.file)
			at += (size_t)snprintf(text + at, size - at, "%s%s (%s)", at ? ", " : "",
					       info.name, info.file);
	}
	return at ? text : "no file: host memory itself";
}

static void look_for_loop(struct vcpu_look *look, struct vcpu *vcpu)
{
	uint64_t taken, resolved;
	char text[200];
	bool asked = atomic_load(&vcpu->asked);

	if (!count_faults(look, vcpu, &taken, &resolved))
		return;
	if (resolved != look->resolved) {
		look->stuck = look->asked = 0;
		look->since = taken;
	}
	look->stuck += taken != look->taken;
	look->taken = taken;
	look->resolved = resolved;
	if (look->stuck < STUCK_LOOKS || taken - look->since <= STUCK_FAULTS)
		return;
	if (!look->asked)
		atomic_store(&vcpu->asked, asked = true);
	/* At each look: a kick may come where it is not heeded. */
	if (asked && look->asked++ < ASKED_LOOKS)
		vcpu_kick(vcpu);
	else if (!ept_space_failure(vcpu->vm->space))
		vm_end(vcpu->vm, FOAL_EXIT_STUCK,
		       "%s: vCPU %u faults without progress: the host resolved none of the last "
		       "faults it took; a file behind guest memory may have failed: %s",
		       vcpu->vm->opt->name, vcpu->index, suspects(vcpu->vm, text, sizeof(text)));
}

/* A vCPU that is well leaves the kernel when it is kicked, and goes back. */
static void look_for_sleeper(struct vcpu_look *look, struct vcpu *vcpu, uint64_t passed)
{
	unsigned limit = vcpu->vm->opt->fault_timeout;
	uint64_t rounds = atomic_load_explicit(&vcpu->rounds, memory_order_relaxed);
	char text[200];

	if (!limit || rounds % 2 == 0 || rounds != look->rounds) {
		look->rounds = rounds;
		look->waited = look->kicked = 0;
		return;
	}
	look->waited += passed;
	if (look->waited - look->kicked >= limit * 1000000000ULL / KICKS) {
		vcpu_kick(vcpu);
		look->kicked = look->waited;
	}
	if (look->waited < limit * 1000000000ULL)
		return;
	atomic_store(&vcpu->vm->stuck, true);
	vm_end(vcpu->vm, FOAL_EXIT_STUCK,
	       "%s: vCPU %u has not left the host's kernel for %u s: it waits for a page that the "
	       "kernel does not bring in, of %s; mend that, or give a longer --fault-timeout",
	       vcpu->vm->opt->name, vcpu->index, limit, suspects(vcpu->vm, text, sizeof(text)));
}

static void tell_of_poison(struct watchdog *dog, const struct vm *vm)
{
	const struct ept_failure *poison = ept_space_first_poison(vm->space);

	if (poison && !dog->told)
		notice("%s", poison->message);
	dog->told |= poison != NULL;
}

/* A vCPU that faults on what is gone has soon as many, and none that does nothing has. */
static void look_for_faults(struct watchdog *dog, struct vm *vm)
{
	uint64_t taken = 0;

	for (unsigned i = 0; i < vm->vcpu_count; i++)
		taken += dog->vcpus[i].taken;
	if (dog->files || taken <= STUCK_FAULTS)
		return;
	dog->files = true;
	later_make(vm, LATER_FILES);
}

int watchdog_init(struct watchdog *dog, const struct vm *vm)
{
	*dog = (struct watchdog){.vcpus = calloc(vm->vcpu_count, sizeof(*dog->vcpus))};
	return dog->vcpus ? 0 : -ENOMEM;
}

void watchdog_look(struct watchdog *dog, struct vm *vm)
{
	uint64_t passed = ept_watched(&dog->looked, now_ns());

	tell_of_poison(dog, vm);
	memory_limit_look(vm->space, vm->opt->name, vm->opt->limit.swap, &dog->swap_trouble);
	ept_space_check(vm->space);
	if (ept_space_failure(vm->space))
		return; /* it says more */
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		look_for_loop(&dog->vcpus[i], &vm->vcpus[i]);
		look_for_sleeper(&dog->vcpus[i], &vm->vcpus[i], passed);
	}
	look_for_faults(dog, vm);
}

void watchdog_end(struct watchdog *dog)
{
	free(dog->vcpus);
}
