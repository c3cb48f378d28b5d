/*
 * The KVM calls of the monitor, checked (linux/Documentation/virt/kvm/api.rst
 * is the source of every constant). Functions return 0 or a negative errno
 * with @err filled.
 */
#ifndef FOAL_VMM_KVM_H
#define FOAL_VMM_KVM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ept/ept.h"
#include "vmm/error.h"

struct kvm {
	int dev_fd; /* /dev/kvm */
	int vm_fd;
	size_t run_size; /* bytes of a vCPU's struct kvm_run mapping */
	/* What guests are told, shared by the vCPUs, and what KVM supports, until it is the same,
	   or of no use any more; NULL: not there yet. Owned, with room for CPU_LEAVES. */
	struct kvm_cpuid2 *cpuid, *supported;
	unsigned slots;		/* memory slots registered */
	bool wide_destinations; /* interrupts reach APIC ids above 254 */
	bool shadow;		/* it shadows guests' page tables */
	bool pre_faults;	/* pre_fault.h */
	bool clears_log;	/* kvm_clear_log_by_hand() */
};

struct cpu_mask;

/* What a VM is to be like. */
struct kvm_machine {
	unsigned cpus;
	const struct cpu_mask *mask; /* of its CPUID */
	bool halt_exits;	     /* HLT is intercepted */
};

/*
 * Open /dev/kvm and check API version and what foal cannot do without; look at what can be
 * opened only before the sandbox.
 */
int kvm_open(struct kvm *kvm, struct foal_error *err);

/* Without hardware nested paging, as far as the host's modules say. Opens files. */
bool kvm_shadows(void);

/* Create the VM with a split irqchip. */
int kvm_create_vm(struct kvm *kvm, struct foal_error *err);

/* Can a VM be created here? It is gone again. */
int kvm_try(struct foal_error *err);

/* Make it one of @machine; before it has vCPUs. */
int kvm_configure_vm(struct kvm *kvm, const struct kvm_machine *machine, struct foal_error *err);

/*
 * KVM_GET_DIRTY_LOG tells what is in the log and leaves it there, for KVM_CLEAR_DIRTY_LOG: of the
 * parts where anything is, which is faster than all of it (api.rst,
 * KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2). Where KVM cannot, kvm->clears_log stays false.
 */
void kvm_clear_log_by_hand(struct kvm *kvm);

/*
 * Ask KVM what CPUID it supports: slow where the host is a VM itself, since every
 * leaf leaves it. Needs kvm_open() alone, once, and allocates nothing: libc would settle how many
 * arenas there are (sandbox_prepare()).
 */
int kvm_read_cpuid(struct kvm *kvm, struct foal_error *err);

/* Make of that the CPUID of @machine, whose VM is there; and the guest's, if it has none yet. */
int kvm_finish_cpuid(struct kvm *kvm, const struct kvm_machine *machine, struct foal_error *err);

/* Register memory: one slot, or all of a space. */
int kvm_add_slot(struct kvm *kvm, const struct ept_slot *slot, struct foal_error *err);
int kvm_add_slots(struct kvm *kvm, const struct ept_space *space, struct foal_error *err);

/* Create vCPU @index. Fills fd and the mapped kvm_run. */
int kvm_create_vcpu(struct kvm *kvm, unsigned index, int *fd, struct kvm_run **run,
		    struct foal_error *err);

/* Tell it of its CPUID, before anything else: what KVM takes of its state depends on it. */
int kvm_set_cpuid(struct kvm *kvm, unsigned index, int fd, struct foal_error *err);

/* The address of an interrupt message as KVM wants it, of one that a guest wrote. */
uint64_t kvm_msi_address(const struct kvm *kvm, uint64_t addr);

/*
 * Deliver a message-signalled interrupt; 1 if some vCPU took it, 0 if it was
 * blocked or dropped, or a negative errno.
 */
int kvm_send_msi(struct kvm *kvm, uint64_t addr, uint32_t data);

void kvm_close(struct kvm *kvm);

#endif
