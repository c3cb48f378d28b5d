/*
 * The guest rings: the vCPU's own thread does what is asked, since waking another would cost
 * more than the reset. It stops the other vCPUs first.
 */
#include <errno.h>
#include <sched.h>

#include "ept/stats.h"
#include "guest/abi.h"
#include "vmm/vm.h"

static __thread struct vcpu *this_vcpu;

void reset_bell_on_vcpu(struct vcpu *vcpu)
{
	this_vcpu = vcpu;
}

void reset_bell(struct vm *vm, uint8_t what)
{
	(void)vm;
	if (!this_vcpu)
		return;
	this_vcpu->rang = what;
	this_vcpu->rang_ns = now_ns();
}

uint32_t reset_count(struct vm *vm)
{
	uint32_t count = atomic_load(&vm->reset.count);

	return vm->reset.set ? count : UINT32_MAX;
}

static int answer(struct vcpu *vcpu, struct foal_error *err)
{
	struct vm *vm = vcpu->vm;
	struct reset_result result;

	if (vcpu->rang == FOAL_RESET_POINT)
		return reset_point_set(vm, CLOCK_FREEZE, &result, err);
	/* Without a point nothing happens: the guest can read that there is none. */
	if (!vm->reset.set)
		return 0;
	struct reset_how how = {.same_generation = vcpu->rang & FOAL_RESET_SAME,
				.same_tables = vcpu->rang & FOAL_RESET_TABLES,
				.same_controls = vcpu->rang & FOAL_RESET_CONTROLS};
	return reset_go_back(vm, vcpu, how, &result, err);
}

void reset_gap_ends(struct vcpu *vcpu)
{
	if (!vcpu->back_since)
		return;
	ept_hist_add(&vcpu->vm->reset.gap, now_ns() - vcpu->back_since);
	vcpu->back_since = 0;
}

void reset_answer(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;
	struct foal_error err = {0};
	int r = vm_pause_by_vcpu(vcpu, &err);

	if (r == -EAGAIN) {
		sched_yield();
		return;
	}
	if (r == 0) {
		bool back = vcpu->rang != FOAL_RESET_POINT && vm->reset.set;

		r = answer(vcpu, &err);
		if (back && r == 0)
			vcpu->back_since = vcpu->rang_ns;
		vm_resume_by_vcpu(vcpu);
	}
	vcpu->rang = 0;
	/* What was not possible the guest cannot know: it goes on as if it had been. */
	if (r && r != -ESHUTDOWN)
		vm_end(vm, FOAL_EXIT_GUEST, "%s", err.text);
}
