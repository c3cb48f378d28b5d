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
	size_t run_size;	  /* bytes of a vCPU's struct kvm_run mapping */
	struct kvm_cpuid2 *cpuid; /* what KVM supports, shared by the vCPUs; owned */
	unsigned slots;		  /* memory slots registered */
};

/* Open /dev/kvm and check API version and what foal cannot do without. */
int kvm_open(struct kvm *kvm, struct foal_error *err);

/* Create the VM with a split irqchip; @halt_exits leaves HLT intercepted. */
int kvm_create_vm(struct kvm *kvm, bool halt_exits, struct foal_error *err);

int kvm_add_slots(struct kvm *kvm, const struct ept_space *space, struct foal_error *err);

/* Create vCPU @index, its CPUID set. Fills fd and the mapped kvm_run. */
int kvm_create_vcpu(struct kvm *kvm, unsigned index, int *fd, struct kvm_run **run,
		    struct foal_error *err);

/* Put a vCPU into the state of a PVH entry (Xen docs/misc/pvh): 32-bit protected mode. */
int kvm_set_pvh_entry(int vcpu_fd, uint32_t entry, uint32_t start_info, struct foal_error *err);

/*
 * Deliver a message-signalled interrupt; 1 if some vCPU took it, 0 if it was
 * blocked or dropped, or a negative errno.
 */
int kvm_send_msi(struct kvm *kvm, uint64_t addr, uint32_t data);

void kvm_close(struct kvm *kvm);

#endif
