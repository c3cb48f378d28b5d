/* Clones with nothing but KVM calls: from a memory file that each maps privately. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/abi.h"
#include "tests/bench/bare_kvm.h"

#define MSR_IA32_TSC	      0x10
#define MSR_IA32_TSC_DEADLINE 0x6e0
#define LARGE		      (2UL << 20)
#define MADVISE_COLLAPSE      25 /* Linux 6.1's MADV_COLLAPSE, which older headers lack */
/* What the guest touches, and how much of it (vmm/bench_snap_clone.c). */
#define TOUCHED_BASE	      0x4000000UL
#define TOUCHED_SIZE	      0x4000000UL
#define PAGES_READ	      1000
#define PAGES_WRITTEN	      100
#define PAGES_OF_MANY	      10 /* of one of many: written, none read */

/* --- the guest ------------------------------------------------------------------------------- */

/*
 * 64-bit in ring 3, with all of memory in 2 MiB pages: of TOUCHED_BASE some pages are read and
 * others written, those that the guest of foal's clones touches
 * (vmm/bench_guest/touch.c, scattered()), then an exit. So both have as many page tables for them,
 * the host's and KVM's.
 */
#define GUEST_CODE	      0x1000
#define GUEST_TABLES	      0x2000
#define PTE_UPPER	      0x27UL /* present, writable, user, accessed */
#define PTE_LARGE	      0xe7UL /* dirty and large, too */
/* clang-format off */
static const unsigned char guest_code[] = {
    0xe3, 0x14,				    /*    jrcxz 2f */
    0x8a, 0x82, 0x00, 0x00, 0x00, 0x04,	    /* 1: mov 0x4000000(%rdx), %al */
    0x81, 0xc2, 0x00, 0xf0, 0xee, 0x01,	    /*    add $(7919 << 12), %edx */
    0x81, 0xe2, 0xff, 0xff, 0xff, 0x03,	    /*    and $0x3ffffff, %edx */
    0xe2, 0xec,				    /*    loop 1b */
    0x89, 0xd9,				    /* 2: mov %ebx, %ecx */
    0x88, 0x92, 0x00, 0x00, 0x00, 0x04,	    /* 3: mov %dl, 0x4000000(%rdx) */
    0x81, 0xc2, 0x00, 0xf0, 0xee, 0x01,	    /*    add $(7919 << 12), %edx */
    0x81, 0xe2, 0xff, 0xff, 0xff, 0x03,	    /*    and $0x3ffffff, %edx */
    0xe2, 0xec,				    /*    loop 3b */
    0xe6, FOAL_PORT_EXIT,		    /*    out %al, $FOAL_PORT_EXIT */
};
/* clang-format on */

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

	for (uint64_t i = 0; i < 512 && i * LARGE < size; i++)
		tables[2][i] = i * LARGE | PTE_LARGE;
	need(pwrite(file, guest_code, sizeof(guest_code), GUEST_CODE) == sizeof(guest_code) &&
		 pwrite(file, tables, sizeof(tables), GUEST_TABLES) == sizeof(tables),
	     "guest");
}

static void set_guest(int vcpu, unsigned reads, unsigned writes)
{
	struct kvm_regs regs = {
	    .rip = GUEST_CODE, .rflags = 0x3002, .rcx = reads, .rbx = writes}; /* IOPL 3 */
	struct kvm_sregs sregs;

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
}

static struct kvm_run *map_run(int kvm, int vcpu)
{
	size_t size = (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_run *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);

	need(run != MAP_FAILED, "map vCPU");
	return run;
}

static void run_guest(int vcpu, const struct kvm_run *run)
{
	need(ioctl(vcpu, KVM_RUN, 0) == 0 && run->exit_reason == KVM_EXIT_IO, "run");
}

/* --- the template ---------------------------------------------------------------------------- */

static int memory_file(uint64_t size)
{
	int file = memfd_create("template", MFD_CLOEXEC);

	need(file >= 0 && ftruncate(file, (off_t)size) == 0, "memory file");
	write_guest(file, size);
	return file;
}

/* What the guest touches is there, each page with something in it. */
static void write_touched(int file, int huge)
{
	char *room =
	    mmap(NULL, TOUCHED_SIZE + LARGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	need(room != MAP_FAILED, "address space");
	char *at = room + (-(uintptr_t)room & (LARGE - 1));
	need(mmap(at, TOUCHED_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file,
		  TOUCHED_BASE) != MAP_FAILED,
	     "map memory file");
	for (uint64_t off = 0; off < TOUCHED_SIZE; off += 4096)
		*(uint64_t *)(at + off) = off | 1;
	if (huge)
		need(madvise(at, TOUCHED_SIZE, MADVISE_COLLAPSE) == 0, "2 MiB pages");
	munmap(room, TOUCHED_SIZE + LARGE);
}

/* The parent's end is the clone's. */
static void die_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
}

/* --- many ------------------------------------------------------------------------------------ */

static void be_one_of_many(int kvm, uint64_t size, int file, int report, pid_t parent)
{
	die_with(parent);
	int vm = create_vm(kvm);
	add_slot(vm, 0, 0, size, file);
	int vcpu = create_vcpu(kvm, vm);
	set_state(kvm, vm, vcpu);
	set_guest(vcpu, 0, PAGES_OF_MANY);
	const struct kvm_run *run = map_run(kvm, vcpu);
	uint64_t now = moment();
	run_guest(vcpu, run);
	need(write(report, &now, sizeof(now)) == sizeof(now), "report");
	close(report); /* the last of them to run, or to fail, ends the wait */
	for (;;)
		pause();
}

static void wait_for_byte(void)
{
	char byte;

	need(read(STDIN_FILENO, &byte, 1) == 1, "request");
}

static void say_ready(void)
{
	puts("ready");
	fflush(stdout);
}

/* When the last of them could run its guest; each has. */
static uint64_t hear_all(int report, unsigned long count)
{
	uint64_t now, last = 0;

	for (unsigned long i = 0; i < count; i++) {
		need(read(report, &now, sizeof(now)) == sizeof(now), "a clone failed");
		last = now > last ? now : last;
	}
	return last;
}

int clones(int kvm, uint64_t size, unsigned long count)
{
	int file = memory_file(size), report[2];
	pid_t *pids = calloc(count, sizeof(*pids)), parent = getpid();
	char byte;

	need(pids && pipe(report) == 0, "report");
	say_ready();
	wait_for_byte();
	for (unsigned long i = 0; i < count; i++) {
		pids[i] = fork();
		need(pids[i] >= 0, "fork");
		if (pids[i] == 0)
			be_one_of_many(kvm, size, file, report[1], parent);
	}
	close(report[1]);
	printf("%llu\n", (unsigned long long)hear_all(report[0], count));
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

/* --- one ------------------------------------------------------------------------------------- */

static int end_of(pid_t pid)
{
	int status = 1;

	need(pid >= 0, "fork");
	need(waitpid(pid, &status, 0) == pid && status == 0, "clone");
	return 0;
}

int clone_on_request(int kvm, uint64_t size)
{
	int file = memory_file(size);

	say_ready();
	wait_for_byte();
	pid_t pid = fork();
	if (pid == 0) {
		int vm = create_vm(kvm);
		add_slot(vm, 0, 0, size, file);
		set_state(kvm, vm, create_vcpu(kvm, vm));
		print_now();
		_exit(0);
	}
	return end_of(pid);
}

/* What went on while it waited, and what goes back when it is wanted. */
struct clocks {
	struct kvm_clock_data clock;
	struct kvm_lapic_state lapic;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[2];
	} msrs;
};

static void keep_clocks(int vm, int vcpu, struct clocks *c)
{
	*c = (struct clocks){.msrs.head.nmsrs = 2};
	c->msrs.entries[0].index = MSR_IA32_TSC;
	c->msrs.entries[1].index = MSR_IA32_TSC_DEADLINE;
	need(ioctl(vm, KVM_GET_CLOCK, &c->clock) == 0, "clock");
	c->clock.flags = 0;
	need(ioctl(vcpu, KVM_GET_LAPIC, &c->lapic) == 0, "local APIC");
	need(ioctl(vcpu, KVM_GET_MSRS, &c->msrs) == 2, "TSC");
}

static void load_clocks(int vm, int vcpu, struct clocks *c)
{
	need(ioctl(vm, KVM_SET_CLOCK, &c->clock) == 0, "clock");
	need(ioctl(vcpu, KVM_SET_LAPIC, &c->lapic) == 0, "local APIC");
	need(ioctl(vcpu, KVM_SET_MSRS, &c->msrs) == 2, "TSC");
}

int clone_made_ahead(int kvm, uint64_t size, int touching, int huge)
{
	int file = memory_file(size);

	if (touching)
		write_touched(file, huge);
	pid_t pid = fork();
	if (pid == 0) {
		static struct clocks clocks;
		int vm = create_vm(kvm);
		add_slot(vm, 0, 0, size, file);
		int vcpu = create_vcpu(kvm, vm);
		set_state(kvm, vm, vcpu);
		set_guest(vcpu, PAGES_READ, PAGES_WRITTEN);
		const struct kvm_run *run = map_run(kvm, vcpu);
		keep_clocks(vm, vcpu, &clocks);
		say_ready();
		wait_for_byte();
		load_clocks(vm, vcpu, &clocks);
		if (touching)
			run_guest(vcpu, run);
		print_now();
		_exit(0);
	}
	return end_of(pid);
}
