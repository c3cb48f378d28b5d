/*
 * The plain alternative for start-up time: a static program that makes the KVM
 * calls foal makes before its first KVM_RUN, and nothing else. Prints
 * CLOCK_MONOTONIC (ns) of the moment it could run the guest.
 *
 *   bare_kvm MEBIBYTES [restore]
 *   bare_kvm MEBIBYTES clones COUNT
 *   bare_kvm MEBIBYTES clone
 *
 * restore: it also gives the vCPU and the VM's clock a state, as foal restore does.
 * clones: COUNT processes are forked that do all that, map one memory file privately, and run
 * a guest that writes ten pages. Prints a line when all have, and ends with its standard input.
 * clone: says "ready"; at a byte it forks one such process, which prints its moment and ends.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest/abi.h"

#define MAX_CPUID    256
#define MAX_MSRS     1024
/* Hyper-V's: to touch them has KVM set it up. */
#define HYPERV_FIRST 0x40000000U
#define HYPERV_LAST  0x400001ffU

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

/* @file -1: anonymous memory. */
static void add_slot(int vm, unsigned slot, uint64_t gpa, uint64_t size, int file)
{
	void *hva = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_NORESERVE | (file < 0 ? MAP_ANONYMOUS : 0), file, 0);
	struct kvm_userspace_memory_region region = {.slot = slot,
						     .guest_phys_addr = gpa,
						     .memory_size = size,
						     .userspace_addr = (uintptr_t)hva};

	need(hva != MAP_FAILED, "mmap");
	need(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) == 0, "memory slot");
}

static int create_vcpu(int kvm, int vm)
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

/* A structure that one call gives, given back by the other. */
static void put_back(int fd, unsigned long get, unsigned long set, void *data, const char *what)
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

static void set_state(int kvm, int vm, int vcpu)
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

/*
 * The guest of a clone, 64-bit in ring 3, with all of memory in 2 MiB pages: ten pages are
 * written, those that the guest of foal's clones writes (vmm/bench_guest/touch.c, scattered()),
 * then an exit. So both have as many page tables for them, the host's and KVM's.
 */
#define GUEST_CODE   0x1000
#define GUEST_TABLES 0x2000
#define PTE_UPPER    0x27UL /* present, writable, user, accessed */
#define PTE_LARGE    0xe7UL /* dirty and large, too */
static const unsigned char guest_code[] = {
    0xb9, 10,
    0,	  0,
    0,		/* mov $10, %ecx */
    0x31, 0xd2, /* xor %edx, %edx */
    0x88, 0x92,
    0x00, 0x00,
    0x00, 4, /* 1: mov %dl, 0x4000000(%edx) */
    0x81, 0xc2,
    0x00, 0xf0,
    0xee, 1, /* add $(7919 << 12), %edx */
    0x81, 0xe2,
    0xff, 0xff,
    0xff, 3,		  /* and $0x3ffffff, %edx */
    0xe2, 0xec,		  /* loop 1b */
    0xe6, FOAL_PORT_EXIT, /* out %al, $FOAL_PORT_EXIT */
};

static void segment(struct kvm_segment *segment, unsigned type, int code)
{
	*segment = (struct kvm_segment){.limit = 0xffffffff,
					.selector = code ? 0x1b : 0x23,
					.type = (unsigned char)type,
					.present = 1,
					.dpl = 3,
					.db = !code,
					.l = (unsigned char)code,
					.s = 1,
					.g = 1};
}

static void write_guest(int file, uint64_t size)
{
	uint64_t tables[3][512] = {{(GUEST_TABLES + 0x1000) | PTE_UPPER},
				   {(GUEST_TABLES + 0x2000) | PTE_UPPER}};

	for (uint64_t i = 0; i < 512 && i << 21 < size; i++)
		tables[2][i] = i << 21 | PTE_LARGE;
	need(pwrite(file, guest_code, sizeof(guest_code), GUEST_CODE) == sizeof(guest_code) &&
		 pwrite(file, tables, sizeof(tables), GUEST_TABLES) == sizeof(tables),
	     "guest");
}

static void run_guest(int kvm, int vcpu)
{
	size_t size = (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_run *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	struct kvm_regs regs = {.rip = GUEST_CODE, .rflags = 0x3002}; /* IOPL 3 */
	struct kvm_sregs sregs;

	need(run != MAP_FAILED, "map vCPU");
	need(ioctl(vcpu, KVM_GET_SREGS, &sregs) == 0, "get segments");
	segment(&sregs.cs, 0xb, 1);
	segment(&sregs.ds, 0x3, 0);
	sregs.es = sregs.ss = sregs.ds;
	sregs.cr0 = 0x80000033; /* PG, NE, ET, MP, PE */
	sregs.cr3 = GUEST_TABLES;
	sregs.cr4 = 0x20;   /* PAE */
	sregs.efer = 0x500; /* LMA, LME */
	need(ioctl(vcpu, KVM_SET_SREGS, &sregs) == 0, "set segments");
	need(ioctl(vcpu, KVM_SET_REGS, &regs) == 0, "set registers");
	need(ioctl(vcpu, KVM_RUN, 0) == 0 && run->exit_reason == KVM_EXIT_IO, "run");
}

static void be_clone(int kvm, uint64_t size, int file, int report, pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	int vm = create_vm(kvm);
	add_slot(vm, 0, 0, size, file);
	int vcpu = create_vcpu(kvm, vm);
	set_state(kvm, vm, vcpu);
	run_guest(kvm, vcpu);
	need(write(report, "x", 1) == 1, "report");
	close(report); /* the last of them to run, or to fail, ends the wait */
	for (;;)
		pause();
}

static int clones(int kvm, uint64_t size, unsigned long count)
{
	int file = memfd_create("template", MFD_CLOEXEC), report[2];
	pid_t *pids = calloc(count, sizeof(*pids)), parent = getpid();
	char byte;

	need(file >= 0 && pids && pipe(report) == 0 && ftruncate(file, (off_t)size) == 0,
	     "memory file");
	write_guest(file, size);
	for (unsigned long i = 0; i < count; i++) {
		pids[i] = fork();
		need(pids[i] >= 0, "fork");
		if (pids[i] == 0)
			be_clone(kvm, size, file, report[1], parent);
	}
	close(report[1]);
	for (unsigned long i = 0; i < count; i++)
		need(read(report[0], &byte, 1) == 1, "a clone failed");
	puts("ran");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	for (unsigned long i = 0; i < count; i++)
		kill(pids[i], SIGKILL);
	while (wait(NULL) > 0)
		;
	free(pids);
	return 0;
}

static void print_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	printf("%llu\n",
	       (unsigned long long)ts.tv_sec * 1000000000ULL + (unsigned long long)ts.tv_nsec);
	fflush(stdout);
}

static int clone_on_request(int kvm, uint64_t size)
{
	int file = memfd_create("template", MFD_CLOEXEC), status = 1;
	char byte;

	need(file >= 0 && ftruncate(file, (off_t)size) == 0, "memory file");
	write_guest(file, size);
	puts("ready");
	fflush(stdout);
	need(read(STDIN_FILENO, &byte, 1) == 1, "request");
	pid_t pid = fork();
	need(pid >= 0, "fork");
	if (pid == 0) {
		int vm = create_vm(kvm);
		add_slot(vm, 0, 0, size, file);
		set_state(kvm, vm, create_vcpu(kvm, vm));
		print_now();
		_exit(0);
	}
	need(waitpid(pid, &status, 0) == pid && status == 0, "clone");
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t size = argc > 1 ? strtoull(argv[1], NULL, 10) << 20 : 256UL << 20;
	uint64_t low = size < FOAL_MMIO_GAP_START ? size : FOAL_MMIO_GAP_START;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	need(kvm >= 0, "/dev/kvm");
	check_caps(kvm);
	if (argc > 3 && strcmp(argv[2], "clones") == 0)
		return clones(kvm, low, strtoul(argv[3], NULL, 10));
	if (argc > 2 && strcmp(argv[2], "clone") == 0)
		return clone_on_request(kvm, low);
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
