#include "vmm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* More leaves than any processor reports today. */
#define CPUID_ENTRIES 256

static int host_error(struct foal_error *err, const char *what)
{
	int error = -errno;

	return error_set(err, FOAL_EXIT_HOST, error, "KVM: %s: %s; see foal doctor", what,
			 strerror(-error));
}

static int open_device(struct kvm *kvm, struct foal_error *err)
{
	kvm->dev_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm->dev_fd >= 0)
		return 0;
	const char *mend =
	    errno == ENOENT ? "load kvm_intel or kvm_amd, or run on a host with "
			      "virtualization"
	    : errno == EACCES
		? "use an account that may: ls -l /dev/kvm says whose it is (on Debian, group kvm)"
		: "see foal doctor";
	return error_set(err, FOAL_EXIT_HOST, -errno, "/dev/kvm: %s; %s", strerror(errno), mend);
}

int kvm_open(struct kvm *kvm, struct foal_error *err)
{
	static const struct {
		int cap;
		const char *what;
	} needed[] = {
	    {KVM_CAP_USER_MEMORY, "user memory"},	{KVM_CAP_SPLIT_IRQCHIP, "split irqchip"},
	    {KVM_CAP_READONLY_MEM, "read-only slots"},	{KVM_CAP_SIGNAL_MSI, "MSI injection"},
	    {KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
	};
	int r = open_device(kvm, err);

	if (r)
		return r;
	if (ioctl(kvm->dev_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return error_set(err, FOAL_EXIT_HOST, -ENOTSUP, "/dev/kvm: API version is not %d",
				 KVM_API_VERSION);
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		if (ioctl(kvm->dev_fd, KVM_CHECK_EXTENSION, needed[i].cap) <= 0)
			return error_set(
			    err, FOAL_EXIT_HOST, -ENOTSUP,
			    "/dev/kvm: no %s on this kernel; Linux 5.19 or newer has it",
			    needed[i].what);
	}
	int size = ioctl(kvm->dev_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < (int)sizeof(struct kvm_run))
		return host_error(err, "size of a vCPU's mapping");
	kvm->run_size = (size_t)size;
	return 0;
}

static int enable_cap(struct kvm *kvm, unsigned cap, uint64_t arg)
{
	struct kvm_enable_cap request = {.cap = cap, .args = {arg}};

	return ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &request);
}

/*
 * HLT stays in the guest by default. With it intercepted and interrupts on, KVM
 * hands a fault to its asynchronous worker, which asks for write access
 * whatever the guest did: a read of a file page would cost a private copy, and
 * the event names the worker instead of the vCPU.
 */
static int keep_halt_in_guest(struct kvm *kvm, struct foal_error *err)
{
	int can = ioctl(kvm->dev_fd, KVM_CHECK_EXTENSION, KVM_CAP_X86_DISABLE_EXITS);

	if (can > 0 && (can & KVM_X86_DISABLE_EXITS_HLT) &&
	    enable_cap(kvm, KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_HLT))
		return host_error(err, "leave HLT to the guest");
	return 0;
}

/* The leaf that tells a guest its clock rates, so that it need not measure them. */
static void add_timing_leaf(struct kvm *kvm)
{
	struct kvm_cpuid2 *cpuid = kvm->cpuid;
	int khz = ioctl(kvm->dev_fd, KVM_CHECK_EXTENSION, KVM_CAP_GET_TSC_KHZ) > 0
		      ? ioctl(kvm->vm_fd, KVM_GET_TSC_KHZ, 0)
		      : -1;

	if (khz <= 0 || cpuid->nent == CPUID_ENTRIES)
		return;
	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];
		if (e->function == 0x40000000 && e->eax < FOAL_CPUID_TIMING)
			e->eax = FOAL_CPUID_TIMING;
	}
	/* KVM's local APIC timer counts nanoseconds: 1 GHz. */
	cpuid->entries[cpuid->nent++] = (struct kvm_cpuid_entry2){
	    .function = FOAL_CPUID_TIMING, .eax = (uint32_t)khz, .ebx = 1000000};
}

static int supported_cpuid(struct kvm *kvm, struct foal_error *err)
{
	kvm->cpuid =
	    calloc(1, sizeof(*kvm->cpuid) + CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2));
	if (!kvm->cpuid)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "out of memory for CPUID");
	kvm->cpuid->nent = CPUID_ENTRIES;
	if (ioctl(kvm->dev_fd, KVM_GET_SUPPORTED_CPUID, kvm->cpuid))
		return host_error(err, "supported CPUID");
	add_timing_leaf(kvm);
	return 0;
}

int kvm_create_vm(struct kvm *kvm, bool halt_exits, struct foal_error *err)
{
	do {
		kvm->vm_fd = ioctl(kvm->dev_fd, KVM_CREATE_VM, 0);
	} while (kvm->vm_fd < 0 && errno == EINTR);
	if (kvm->vm_fd < 0)
		return host_error(err, "create a VM");
	if (enable_cap(kvm, KVM_CAP_SPLIT_IRQCHIP, FOAL_IOAPIC_PINS))
		return host_error(err, "split irqchip");
	int r = halt_exits ? 0 : keep_halt_in_guest(kvm, err);
	return r ? r : supported_cpuid(kvm, err);
}

int kvm_add_slots(struct kvm *kvm, const struct ept_space *space, struct foal_error *err)
{
	size_t count = ept_space_slots(space, NULL, 0);
	struct ept_slot *slots = calloc(count, sizeof(*slots));
	int r = 0;

	if (!slots)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "out of memory for memory slots");
	ept_space_slots(space, slots, count);
	for (size_t i = 0; i < count && r == 0; i++) {
		struct kvm_userspace_memory_region region = {
		    .slot = kvm->slots,
		    .flags = slots[i].read_only ? KVM_MEM_READONLY : 0,
		    .guest_phys_addr = slots[i].gpa.v,
		    .memory_size = slots[i].size,
		    .userspace_addr = (uintptr_t)slots[i].hva,
		};
		if (ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region))
			r = error_set(err, FOAL_EXIT_MEMORY, -errno,
				      "memory slot of %llu MiB at gpa 0x%llx: %s",
				      (unsigned long long)slots[i].size >> 20,
				      (unsigned long long)slots[i].gpa.v, strerror(errno));
		else
			kvm->slots++;
	}
	free(slots);
	return r;
}

static int set_cpuid(struct kvm *kvm, int vcpu_fd, unsigned index, struct foal_error *err)
{
	struct kvm_cpuid2 *cpuid = kvm->cpuid;

	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];
		if (e->function == 1) {
			e->ebx = (e->ebx & 0x00ffffff) | index << 24; /* initial APIC id */
			e->ecx |= 1u << 31 | 1u << 24; /* hypervisor, TSC-deadline timer */
		} else if (e->function == 0xb || e->function == 0x1f) {
			e->edx = index; /* x2APIC id */
		}
	}
	if (ioctl(vcpu_fd, KVM_SET_CPUID2, cpuid))
		return host_error(err, "set CPUID");
	return 0;
}

int kvm_create_vcpu(struct kvm *kvm, unsigned index, int *fd, struct kvm_run **run,
		    struct foal_error *err)
{
	*fd = ioctl(kvm->vm_fd, KVM_CREATE_VCPU, index);
	if (*fd < 0)
		return host_error(err, "create a vCPU");
	*run = mmap(NULL, kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	if (*run == MAP_FAILED) {
		*run = NULL;
		return host_error(err, "map a vCPU");
	}
	return set_cpuid(kvm, *fd, index, err);
}

int kvm_set_pvh_entry(int vcpu_fd, uint32_t entry, uint32_t start_info, struct foal_error *err)
{
	struct kvm_segment data = {.limit = 0xffffffff,
				   .selector = 0x10,
				   .type = 3,
				   .present = 1,
				   .db = 1,
				   .s = 1,
				   .g = 1};
	struct kvm_segment code = data;
	struct kvm_segment tss = {.limit = 0x67, .selector = 0x18, .type = 11, .present = 1};
	struct kvm_regs regs = {.rip = entry, .rbx = start_info, .rflags = 2};
	struct kvm_sregs sregs;

	code.selector = 8;
	code.type = 11;
	if (ioctl(vcpu_fd, KVM_GET_SREGS, &sregs))
		return host_error(err, "read a vCPU's segments");
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.tr = tss;
	sregs.cr0 = 0x11; /* protection on, paging off; ET is fixed */
	sregs.cr4 = 0;
	if (ioctl(vcpu_fd, KVM_SET_SREGS, &sregs))
		return host_error(err, "set a vCPU's segments");
	if (ioctl(vcpu_fd, KVM_SET_REGS, &regs))
		return host_error(err, "set a vCPU's registers");
	return 0;
}

int kvm_send_msi(struct kvm *kvm, uint64_t addr, uint32_t data)
{
	struct kvm_msi msi = {
	    .address_lo = (uint32_t)addr, .address_hi = (uint32_t)(addr >> 32), .data = data};
	int r = ioctl(kvm->vm_fd, KVM_SIGNAL_MSI, &msi);

	return r < 0 ? -errno : r;
}

void kvm_close(struct kvm *kvm)
{
	free(kvm->cpuid);
	kvm->cpuid = NULL;
	if (kvm->vm_fd >= 0)
		close(kvm->vm_fd);
	if (kvm->dev_fd >= 0)
		close(kvm->dev_fd);
	kvm->vm_fd = kvm->dev_fd = -1;
}
