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

/* KVM takes what is done from the front of the range. */
static bool give(struct pre_fault *p, gpa_t gpa, uint64_t bytes)
{
	struct pre_fault_range range = {.gpa = gpa.v, .size = bytes};
	uint64_t left;

	while (range.size && p->goes_on(p->ctx)) {
		left = range.size;
		int r = p->call(p->vcpu_fd, &range);
		if (range.size < left)
			p->pages += (left - range.size) / EPT_PAGE_SIZE;
		if (r || range.size >= left)
			return false;
	}
	return !range.size;
}

void pre_fault_set(struct pre_fault *p, const struct ept_space *space)
{
	uint64_t at = 0, bytes;
	gpa_t gpa;

	while (p->goes_on(p->ctx) && ept_prefetch_there(space, &at, &gpa, &bytes))
		if (!give(p, gpa, bytes))
			return;
}
