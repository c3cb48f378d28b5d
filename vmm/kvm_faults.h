/*
 * Nested page faults as KVM tells of them: the tracepoints kvm_exit, kvm_page_fault and kvm_entry
 * of a VM's vCPU threads, from outside of the VM (docs/trace.md). One thread. Private to vmm/.
 */
#ifndef FOAL_VMM_KVM_FAULTS_H
#define FOAL_VMM_KVM_FAULTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/error.h"

struct kvm_fault {
	uint64_t at, entry;  /* of the exit, and of the entry that followed: CLOCK_MONOTONIC, ns */
	uint64_t gpa;	     /* bytes, exact; without nested paging the guest's virtual address */
	uint64_t error_code; /* KVM's, or on Intel the exit qualification's form of it */
	uint64_t rip;
	uint16_t vcpu;
	bool again;   /* same page, same RIP as this vCPU's fault before */
	bool handled; /* a record of the fault log belongs to it */
};

struct kvm_faults;

/*
 * Watch the vCPU threads of process @pid. -EPERM, -ENOENT, ... with what is missing in @err;
 * then nothing is open.
 */
int kvm_faults_open(pid_t pid, struct kvm_faults **out, struct foal_error *err);
/* 1 and the next one that has ended, in the order of one vCPU; 0: there is none now. */
int kvm_faults_next(struct kvm_faults *faults, struct kvm_fault *out);

struct kvm_fault_counts {
	uint64_t exits, entries; /* of all kinds */
	uint64_t lost;		 /* samples that nobody read in time */
};
void kvm_faults_counts(const struct kvm_faults *faults, struct kvm_fault_counts *out);
void kvm_faults_close(struct kvm_faults *faults); /* NULL is allowed */

#endif
