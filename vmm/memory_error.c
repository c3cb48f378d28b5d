/*
 * Memory that fails under a guest: damaged on the host, or poisoned because the
 * file behind it could not be read. KVM tells the vCPU's thread by SIGBUS with the
 * address (BUS_MCEERR_AR) and goes back to the guest, or leaves KVM_RUN with
 * EHWPOISON; KVM's instruction emulator takes such a page for a device.
 *
 * The guest gets a machine check, as from hardware (SDM 3B, 16.3 and 16.9): what
 * used the page has to give it up, the rest goes on. A guest that cannot take one
 * now would end in a triple fault that names nothing: the run ends instead.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/vm.h"

#define CR4_MCE	       (1ULL << 6)
#define MSR_MCG_STATUS 0x17a
#define MCG_EIPV       2ULL
#define MCG_MCIP       4ULL
#define MCG_CTL_P      (1ULL << 8)
#define MCG_SER_P      (1ULL << 24)

#define MCI_VALID      (1ULL << 63)
#define MCI_UNCORR     (1ULL << 61)
#define MCI_ENABLED    (1ULL << 60)
#define MCI_HAS_MISC   (1ULL << 59)
#define MCI_HAS_ADDR   (1ULL << 58)
#define MCI_SIGNALED   (1ULL << 56)
#define MCI_ACTION     (1ULL << 55)
#define MCI_DATA_LOAD  0x134
/* IA32_MCi_MISC: the address is physical, and good to a page. */
#define MISC_PHYSICAL  (2ULL << 6)
#define BANK	       9

static __thread struct vcpu *this_vcpu;
static __thread void *volatile damaged;

/* Elsewhere than in KVM_RUN the thread itself touched what is damaged. */
static bool in_kvm_run(const struct vcpu *vcpu)
{
	return vcpu && atomic_load_explicit(&vcpu->rounds, memory_order_relaxed) % 2;
}

bool memory_error_signal(const siginfo_t *info)
{
	if (info->si_code == BUS_MCEERR_AO)
		return true; /* nobody has touched it yet */
	if (info->si_code != BUS_MCEERR_AR || !in_kvm_run(this_vcpu))
		return false;
	damaged = info->si_addr;
	this_vcpu->run->immediate_exit = 1;
	return true;
}

void memory_error_set_up(struct vcpu *vcpu)
{
	uint64_t banks = 0;

	if (ioctl(vcpu->vm->kvm.dev_fd, KVM_X86_GET_MCE_CAP_SUPPORTED, &banks))
		return;
	banks = MEMORY_ERROR_BANKS | (banks & (MCG_CTL_P | MCG_SER_P));
	vcpu->has_mce = ioctl(vcpu->fd, KVM_X86_SETUP_MCE, &banks) == 0;
}

void memory_error_on_vcpu(struct vcpu *vcpu)
{
	this_vcpu = vcpu;
}

/* Can the guest take a machine check now? */
static bool takes_machine_check(const struct vcpu *vcpu)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry status;
	} msrs = {.head.nmsrs = 1, .status.index = MSR_MCG_STATUS};
	struct kvm_sregs sregs;

	return vcpu->has_mce && ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) == 0 &&
	       sregs.cr4 & CR4_MCE && ioctl(vcpu->fd, KVM_GET_MSRS, &msrs) == 1 &&
	       !(msrs.status.data & MCG_MCIP);
}

static int send_machine_check(const struct vcpu *vcpu, gpa_t gpa)
{
	struct kvm_x86_mce mce = {
	    .status = MCI_VALID | MCI_UNCORR | MCI_ENABLED | MCI_HAS_MISC | MCI_HAS_ADDR |
		      MCI_SIGNALED | MCI_ACTION | MCI_DATA_LOAD,
	    .addr = gpa.v & EPT_PAGE_MASK,
	    .misc = MISC_PHYSICAL | EPT_PAGE_SHIFT,
	    .mcg_status = MCG_MCIP | MCG_EIPV,
	    .bank = BANK,
	};

	return ioctl(vcpu->fd, KVM_X86_SET_MCE, &mce);
}

void memory_error_at(struct vcpu *vcpu, gpa_t gpa)
{
	struct vm *vm = vcpu->vm;
	char what[256];

	if (takes_machine_check(vcpu) && send_machine_check(vcpu, gpa) == 0) {
		atomic_fetch_add(&vm->machine_checks, 1);
		return;
	}
	ept_describe(vm->space, gpa, what, sizeof(what));
	vm_end(
	    vm, FOAL_EXIT_FAULT,
	    "%s: vCPU %u touched the page at gpa 0x%llx, %s, which %s; the guest takes no machine "
	    "check",
	    vm->opt->name, vcpu->index, (unsigned long long)(gpa.v & EPT_PAGE_MASK), what,
	    ept_poisoned(vm->space, gpa) ? "could not be read"
					 : "the host's memory does not give: it is damaged");
}

bool memory_error_take(struct vcpu *vcpu)
{
	void *hva = damaged;
	gpa_t gpa;

	if (!hva)
		return false;
	damaged = NULL;
	if (ept_gpa_of(vcpu->vm->space, hva, &gpa))
		memory_error_at(vcpu, gpa);
	else
		vm_end(vcpu->vm, FOAL_EXIT_FAULT, "%s: vCPU %u: the host's memory is damaged",
		       vcpu->vm->opt->name, vcpu->index);
	return true;
}
