/*
 * Which page does the host not give? KVM says that it could not get one, or takes the same
 * fault for ever, and does not say which. The guest touches it with an address that its
 * registers hold: where one of these points into a file that the host's kernel brings in, the
 * page is asked for again, and it fails again.
 */
#include <sys/ioctl.h>

#include "vmm/vm.h"

#define ADDRESSES 17

static unsigned addresses_of(const struct vcpu *vcpu, uint64_t *at)
{
	struct kvm_regs r;

	if (ioctl(vcpu->fd, KVM_GET_REGS, &r))
		return 0;
	const uint64_t all[ADDRESSES] = {r.rip, r.rax, r.rbx, r.rcx, r.rdx, r.rsi,
					 r.rdi, r.rsp, r.rbp, r.r8,  r.r9,  r.r10,
					 r.r11, r.r12, r.r13, r.r14, r.r15};
	for (unsigned i = 0; i < ADDRESSES; i++)
		at[i] = all[i];
	return ADDRESSES;
}

/* Is the page that the guest has at @address there? If not, the space has failed. */
static bool given(const struct vcpu *vcpu, uint64_t address)
{
	struct kvm_translation page = {.linear_address = address};

	return ioctl(vcpu->fd, KVM_TRANSLATE, &page) || !page.valid ||
	       ept_kernel_gives(vcpu->vm->space, GPA(page.physical_address));
}

void lost_page_find(const struct vcpu *vcpu)
{
	uint64_t at[ADDRESSES];
	unsigned count = addresses_of(vcpu, at);

	for (unsigned i = 0; i < count; i++)
		if (!given(vcpu, at[i]))
			return;
	/* An array's start in one, how far into it in another. */
	for (unsigned base = 1; base < count; base++)
		for (unsigned index = 1; index < count; index++)
			for (unsigned shift = 0; shift < 4; shift++)
				if (!given(vcpu, at[base] + (at[index] << shift)))
					return;
}
