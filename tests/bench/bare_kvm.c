/*
 * The plain alternative for start-up time: a static program that makes the KVM
 * calls foal makes before its first KVM_RUN, and nothing else. Prints
 * CLOCK_MONOTONIC (ns) of the moment it could run the guest.
 *
 *   bare_kvm MEBIBYTES
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "guest/abi.h"

#define MAX_CPUID 256

static void need(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(1);
	}
}

static void check_caps(int kvm)
{
	static const int caps[] = {KVM_CAP_USER_MEMORY,	   KVM_CAP_SPLIT_IRQCHIP,
				   KVM_CAP_READONLY_MEM,   KVM_CAP_SIGNAL_MSI,
				   KVM_CAP_IMMEDIATE_EXIT, KVM_CAP_X86_DISABLE_EXITS,
				   KVM_CAP_GET_TSC_KHZ};

	need(ioctl(kvm, KVM_GET_API_VERSION, 0) == KVM_API_VERSION, "API version");
	for (unsigned i = 0; i < sizeof(caps) / sizeof(caps[0]); i++)
		need(ioctl(kvm, KVM_CHECK_EXTENSION, caps[i]) > 0, "capability");
}

static int create_vm(int kvm)
{
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {FOAL_IOAPIC_PINS}};
	struct kvm_enable_cap halt = {.cap = KVM_CAP_X86_DISABLE_EXITS,
				      .args = {KVM_X86_DISABLE_EXITS_HLT}};
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);

	need(vm >= 0, "create VM");
	need(ioctl(vm, KVM_ENABLE_CAP, &split) == 0, "split irqchip");
	need(ioctl(vm, KVM_ENABLE_CAP, &halt) == 0, "HLT");
	need(ioctl(vm, KVM_GET_TSC_KHZ, 0) > 0, "TSC rate");
	return vm;
}

static void add_slot(int vm, unsigned slot, uint64_t gpa, uint64_t size)
{
	void *hva = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct kvm_userspace_memory_region region = {.slot = slot,
						     .guest_phys_addr = gpa,
						     .memory_size = size,
						     .userspace_addr = (uintptr_t)hva};

	need(hva != MAP_FAILED, "mmap");
	need(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) == 0, "memory slot");
}

static void create_vcpu(int kvm, int vm)
{
	static struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[MAX_CPUID];
	} cpuid = {.head.nent = MAX_CPUID};
	struct kvm_regs regs = {.rip = 0x100000, .rflags = 2};
	struct kvm_sregs sregs;
	int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	need(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) == 0, "supported CPUID");
	int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	need(vcpu >= 0, "create vCPU");
	need(mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0) != MAP_FAILED,
	     "map vCPU");
	need(ioctl(vcpu, KVM_SET_CPUID2, &cpuid) == 0, "set CPUID");
	need(ioctl(vcpu, KVM_GET_SREGS, &sregs) == 0, "get segments");
	need(ioctl(vcpu, KVM_SET_SREGS, &sregs) == 0, "set segments");
	need(ioctl(vcpu, KVM_SET_REGS, &regs) == 0, "set registers");
}

int main(int argc, char **argv)
{
	uint64_t size = argc > 1 ? strtoull(argv[1], NULL, 10) << 20 : 256UL << 20;
	uint64_t low = size < FOAL_MMIO_GAP_START ? size : FOAL_MMIO_GAP_START;
	struct timespec ts;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	need(kvm >= 0, "/dev/kvm");
	check_caps(kvm);
	int vm = create_vm(kvm);
	add_slot(vm, 0, 0, low);
	if (size > low)
		add_slot(vm, 1, FOAL_MMIO_GAP_END, size - low);
	create_vcpu(kvm, vm);
	clock_gettime(CLOCK_MONOTONIC, &ts);
	printf("%llu\n",
	       (unsigned long long)ts.tv_sec * 1000000000ULL + (unsigned long long)ts.tv_nsec);
	return 0;
}
