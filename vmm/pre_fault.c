#include "vmm/pre_fault.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "ept/snapshot.h"

bool pre_fault_can(int dev_fd)
{
	return ioctl(dev_fd, KVM_CHECK_EXTENSION, KVM_CAP_PRE_FAULT_MEMORY) > 0;
}

int pre_fault_call(int fd, struct pre_fault_range *range)
{
	return ioctl(fd, KVM_PRE_FAULT_MEMORY, range);
}

/* A piece is gone from the front of what KVM is given as far as it is done. */
static bool give(struct pre_fault *p, gpa_t gpa, uint64_t bytes)
{
	uint64_t at = gpa.v, end = at + bytes, done = 1;

	while (at < end && done && p->goes_on(p->ctx)) {
		uint64_t size = end - at < PRE_FAULT_PIECE ? end - at : PRE_FAULT_PIECE;
		struct pre_fault_range range = {.gpa = at, .size = size};
		int r = p->call(p->vcpu_fd, &range);

		done = range.size < size ? size - range.size : 0;
		at += done;
		p->pages += done / EPT_PAGE_SIZE;
		if (r)
			return false;
	}
	return at == end;
}

void pre_fault_set(struct pre_fault *p, const struct ept_space *space)
{
	uint64_t at = 0, bytes;
	gpa_t gpa;

	while (p->goes_on(p->ctx) && ept_prefetch_there(space, &at, &gpa, &bytes))
		if (!give(p, gpa, bytes))
			return;
}
