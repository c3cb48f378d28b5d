/*
 * KVM_PRE_FAULT_MEMORY (api.rst, 4.143; Linux 6.11 on x86, with nested paging only): what a
 * restore brought in ahead of its guest is put into KVM's tables, too, so that the guest's first
 * touch is no exit. By the first vCPU's own thread, while it waits for the other threads to be
 * confined: what it delays is one piece at most. Private to vmm/.
 */
#ifndef FOAL_VMM_PRE_FAULT_H
#define FOAL_VMM_PRE_FAULT_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "ept/ept.h"

/* Linux 6.11's, which Debian 12's header lacks. */
struct pre_fault_range {
	uint64_t gpa, size, flags, padding[5]; /* gpa and size: what is left of it */
};

#ifndef KVM_PRE_FAULT_MEMORY
#	define KVM_CAP_PRE_FAULT_MEMORY 236
#	define KVM_PRE_FAULT_MEMORY	 _IOWR(KVMIO, 0xd5, struct pre_fault_range)
#endif

/* Does @dev_fd, /dev/kvm, have it? KVM that shadows guests' page tables says no. */
bool pre_fault_can(int dev_fd);

/* A call has so much at most: 40 us at 2.6 a page. */
#define PRE_FAULT_PIECE (64UL << 10)

struct pre_fault {
	int vcpu_fd;
	/* As ioctl(2) does KVM_PRE_FAULT_MEMORY; tests have another. */
	int (*call)(int fd, struct pre_fault_range *range);
	bool (*goes_on)(void *ctx); /* asked before each call */
	void *ctx;
	uint64_t pages; /* given to KVM; counted here */
};

int pre_fault_call(int fd, struct pre_fault_range *range);

/*
 * Give KVM what of @space's working set is there by now, in its order, once. It ends early when
 * @p->goes_on says no, when a signal kicks the vCPU, or when KVM refuses: it is only a help.
 */
void pre_fault_set(struct pre_fault *p, const struct ept_space *space);

#endif
