/*
 * The plain alternative for start-up time: a static program that makes the KVM
 * calls foal makes before its first KVM_RUN, and nothing else. Prints
 * CLOCK_MONOTONIC (ns) of the moment it could run the guest.
 *
 *   bare_kvm MEBIBYTES [restore]
 *   bare_kvm MEBIBYTES clones COUNT
 *   bare_kvm MEBIBYTES clone
 *   bare_kvm MEBIBYTES pool [touch | touch-huge]
 *
 * restore: it also gives the vCPU and the VM's clock a state, as foal restore does.
 * The others say "ready", and begin at a byte (bare_clones.c):
 * clones: COUNT processes are forked that do all that, map one memory file privately, and run
 * a guest that writes ten pages. Prints the last one's moment when all have, and ends with its
 * standard input. clone: one such process, which prints its moment and ends. pool: it did
 * all that ahead, and puts back its clocks; touch: its guest reads and writes pages of the file (in
 * 2 MiB pages) that were written before, and its moment is behind that.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "guest/abi.h"
#include "tests/bench/bare_kvm.h"

#define ALIGNED	     (2UL << 20)
#define MAX_CPUID    256
#define MAX_MSRS     1024
/* Hyper-V's: to touch them has KVM set it up. */
#define HYPERV_FIRST 0x40000000U
#define HYPERV_LAST  0x400001ffU

void need(int ok, const char *what)
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

int create_vm(int kvm)
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

/* Where 2 MiB pages of a file can be mapped as such. */
static void *aligned_room(uint64_t size)
{
	char *room = mmap(NULL, size + ALIGNED, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	need(room != MAP_FAILED, "address space");
	return room + (-(uintptr_t)room & (ALIGNED - 1));
}

void add_slot(int vm, unsigned slot, uint64_t gpa, uint64_t size, int file)
{
	int how = MAP_PRIVATE | MAP_NORESERVE;
	void *hva = file < 0 ? mmap(NULL, size, PROT_READ | PROT_WRITE, how | MAP_ANONYMOUS, -1, 0)
			     : mmap(aligned_room(size), size, PROT_READ | PROT_WRITE,
				    how | MAP_FIXED, file, 0);
	struct kvm_userspace_memory_region region = {.slot = slot,
						     .guest_phys_addr = gpa,
						     .memory_size = size,
						     .userspace_addr = (uintptr_t)hva};

	need(hva != MAP_FAILED, "mmap");
	need(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) == 0, "memory slot");
}

int create_vcpu(int kvm, int vm)
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
	return vcpu;
}

void put_back(int fd, unsigned long get, unsigned long set, void *data, const char *what)
{
	need(ioctl(fd, get, data) == 0 && ioctl(fd, set, data) == 0, what);
}

/* Registers that the host lists and the vCPU has; reading stops at one that it has not. */
static void set_msrs(int kvm, int vcpu)
{
	static struct {
		struct kvm_msr_list head;
		uint32_t indices[MAX_MSRS];
	} list = {.head.nmsrs = MAX_MSRS};
	static struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[MAX_MSRS];
	} msrs;
	uint32_t n = 0;

	need(ioctl(kvm, KVM_GET_MSR_INDEX_LIST, &list) == 0, "list of MSRs");
	for (uint32_t at = 0; at < list.head.nmsrs && n < MAX_MSRS; at++) {
		if (list.indices[at] >= HYPERV_FIRST && list.indices[at] <= HYPERV_LAST)
			continue;
		msrs.entries[n++].index = list.indices[at];
	}
	msrs.head.nmsrs = n;
	n = (uint32_t)ioctl(vcpu, KVM_GET_MSRS, &msrs);
	msrs.head.nmsrs = n;
	need((int)n > 0 && ioctl(vcpu, KVM_SET_MSRS, &msrs) > 0, "MSRs");
}

void set_state(int kvm, int vm, int vcpu)
{
	static struct kvm_lapic_state lapic;
	static union {
		struct kvm_xsave xsave;
		char room[16384];
	} xsave;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debug;
	struct kvm_mp_state mp;
	struct kvm_vcpu_events events;
	struct kvm_clock_data clock = {0};

	put_back(vcpu, KVM_GET_XCRS, KVM_SET_XCRS, &xcrs, "XCRs");
	put_back(vcpu, KVM_GET_XSAVE2, KVM_SET_XSAVE, &xsave, "XSAVE");
	put_back(vcpu, KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, &debug, "debug registers");
	put_back(vcpu, KVM_GET_LAPIC, KVM_SET_LAPIC, &lapic, "local APIC");
	set_msrs(kvm, vcpu);
	put_back(vcpu, KVM_GET_MP_STATE, KVM_SET_MP_STATE, &mp, "run state");
	put_back(vcpu, KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, &events, "events");
	need(ioctl(vm, KVM_GET_CLOCK, &clock) == 0, "clock");
	clock.flags = 0;
	need(ioctl(vm, KVM_SET_CLOCK, &clock) == 0, "clock");
}

uint64_t moment(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

void print_now(void)
{
	printf("%llu\n", (unsigned long long)moment());
	fflush(stdout);
}

/* One of the other forms of the command line; -1: it is none. */
static int be_cloned(int kvm, uint64_t size, int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "", *how = argc > 3 ? argv[3] : "";

	if (strcmp(what, "clones") == 0 && how[0])
		return clones(kvm, size, strtoul(how, NULL, 10));
	if (strcmp(what, "clone") == 0)
		return clone_on_request(kvm, size);
	if (strcmp(what, "pool") == 0)
		return clone_made_ahead(kvm, size, how[0] != 0, strcmp(how, "touch-huge") == 0);
	return -1;
}

int main(int argc, char **argv)
{
	uint64_t size = argc > 1 ? strtoull(argv[1], NULL, 10) << 20 : 256UL << 20;
	uint64_t low = size < FOAL_MMIO_GAP_START ? size : FOAL_MMIO_GAP_START;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	need(kvm >= 0, "/dev/kvm");
	check_caps(kvm);
	int status = be_cloned(kvm, low, argc, argv);
	if (status >= 0)
		return status;
	int vm = create_vm(kvm);
	add_slot(vm, 0, 0, low, -1);
	if (size > low)
		add_slot(vm, 1, FOAL_MMIO_GAP_END, size - low, -1);
	int vcpu = create_vcpu(kvm, vm);
	if (argc > 2)
		set_state(kvm, vm, vcpu);
	print_now();
	return 0;
}
