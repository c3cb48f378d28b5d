/*
 * Which page does the host not give? KVM says that it could not get one, or takes the same
 * fault for ever, and does not say which. The guest touches it with an address that its
 * registers hold: where one of these points into a file that the host's kernel brings in, the
 * page is asked for again, and it fails again.
 */
#include <sys/ioctl.h>

#include "vmm/vm.h"

#define ADDRESSES 17
#define CR4_LA57  (1ULL << 12)
#define CR4_SMAP  (1ULL << 21)
#define EFER_LMA  (1ULL << 10)
/* Entries of page tables (SDM 3A 5.5.4). */
#define PRESENT	  1UL
#define IS_PAGE	  (1UL << 7)
#define FRAME	  0xffffffffff000UL

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

/*
 * KVM translates as the guest's kernel does, which SMAP keeps from what is a program's: then its
 * tables say.
 */
static bool walk(const struct vcpu *vcpu, uint64_t address, uint64_t *gpa)
{
	struct kvm_sregs sr;
	uint64_t entry;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sr) || !(sr.efer & EFER_LMA) || !(sr.cr4 & CR4_SMAP))
		return false;
	entry = sr.cr3 | PRESENT;
	for (int shift = sr.cr4 & CR4_LA57 ? 48 : 39; shift >= 12; shift -= 9) {
		uint64_t at = (entry & FRAME) + (address >> shift & 511) * sizeof(entry);

		if (ept_read(vcpu->vm->space, GPA(at), &entry, sizeof(entry), EPT_ORIGIN_DEVICE) ||
		    !(entry & PRESENT))
			return false;
		if (shift == 12 || (shift <= 30 && entry & IS_PAGE)) {
			uint64_t within = (1UL << shift) - 1;

			*gpa = (entry & FRAME & ~within) | (address & within);
			return true;
		}
	}
	return false;
}

/* Is the page that the guest has at @address there? If not, the space has failed. */
static bool given(const struct vcpu *vcpu, uint64_t address)
{
	struct kvm_translation page = {.linear_address = address};
	uint64_t gpa;

	if (ioctl(vcpu->fd, KVM_TRANSLATE, &page) == 0 && page.valid)
		gpa = page.physical_address;
	else if (!walk(vcpu, address, &gpa))
		return !ept_space_failure(vcpu->vm->space);
	return ept_kernel_gives(vcpu->vm->space, GPA(gpa));
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
