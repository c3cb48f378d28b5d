/*
 * The other side of a reset: the least that takes a VM back in place. The same guest in plain
 * memory, its pages copied aside when it sets its point; at the bell KVM's log, a memcpy for each
 * page in it, and the calls that give the vCPU and the clock their state. Nothing is looked at
 * that could fail the guest: no devices, no second vCPU, no pages given back, no disks.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest/abi.h"
#include "vmm/bench_snapshots.h"
#include "vmm/bench_vm.h"
#include "vmm/vm.h"

#define RAM_SIZE     (1UL << 30)
#define MAX_MSRS     1024
#define XSAVE_ROOM   (64UL << 10)
/* Hyper-V's: to touch them has KVM set it up. */
#define HYPERV_FIRST 0x40000000U
#define HYPERV_LAST  0x400001ffU
/* A slot that holds nothing, and moves: KVM forgets what it shadows. */
#define EMPTY_SLOT   0x7000
#define EMPTY_GPA    (1UL << 45)
#define COM1_DATA    0x3f8
#define COM1_LSR     0x3fd
#define COM1_READY   0x21 /* idle, and a byte is there */

struct plain {
	struct bench_vm vm;
	bool all;    /* whatever the guest may have changed */
	char *store; /* a page of guest memory lies where it does there */
	uint64_t *log;
	void *empty;
	uint64_t moves;
	bool set; /* there is a point: */
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_vcpu_events events;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debug;
	struct kvm_lapic_state lapic;
	struct kvm_clock_data clock;
	void *xsave;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[MAX_MSRS];
	} msrs;
	uint32_t resets;
	uint64_t brought; /* pages */
	struct ept_hist gap;
};

static int failed(struct foal_error *err, const char *what)
{
	return error_set(err, FOAL_EXIT_HOST, errno ? -errno : -EIO, "bench: a plain reset: %s: %s",
			 what, strerror(errno));
}

/* A call that has a name, of the first that fails. */
struct call {
	int fd;
	unsigned long request;
	const void *data;
	const char *what;
};

static int call_all(const struct call *calls, size_t nr, struct foal_error *err)
{
	for (size_t i = 0; i < nr; i++)
		if (ioctl(calls[i].fd, calls[i].request, calls[i].data) < 0)
			return failed(err, calls[i].what);
	return 0;
}

#define CALL_ALL(calls, err) call_all(calls, sizeof(calls) / sizeof((calls)[0]), err)

/* --- the point ------------------------------------------------------------------------------- */

static void drop_msr(struct plain *p, uint32_t at)
{
	p->msrs.head.nmsrs--;
	memmove(&p->msrs.entries[at], &p->msrs.entries[at + 1],
		(p->msrs.head.nmsrs - at) * sizeof(p->msrs.entries[0]));
}

/* Those that this vCPU has, and that can be set: KVM stops at the first other. */
static int read_msrs(struct plain *p, int fd, struct foal_error *err)
{
	static struct {
		struct kvm_msr_list head;
		uint32_t indices[MAX_MSRS];
	} list = {.head.nmsrs = MAX_MSRS};
	const unsigned long both[] = {KVM_GET_MSRS, KVM_SET_MSRS};

	if (ioctl(p->vm.kvm.dev_fd, KVM_GET_MSR_INDEX_LIST, &list))
		return failed(err, "the list of MSRs");
	for (uint32_t i = 0; i < list.head.nmsrs; i++)
		if (list.indices[i] < HYPERV_FIRST || list.indices[i] > HYPERV_LAST)
			p->msrs.entries[p->msrs.head.nmsrs++].index = list.indices[i];
	for (size_t i = 0; i < 2; i++) {
		int done;

		while ((done = ioctl(fd, both[i], &p->msrs)) >= 0 && done < (int)p->msrs.head.nmsrs)
			drop_msr(p, (uint32_t)done);
		if (done < 0)
			return failed(err, "MSRs");
	}
	return 0;
}

static int read_state(struct plain *p, struct foal_error *err)
{
	int vm = p->vm.kvm.vm_fd, cpu = p->vm.cpu[0].fd;
	bool large = ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2) > (int)sizeof(struct kvm_xsave);
	const struct call calls[] = {
	    {cpu, KVM_GET_REGS, &p->regs, "registers"},
	    {cpu, KVM_GET_SREGS, &p->sregs, "system registers"},
	    {cpu, KVM_GET_VCPU_EVENTS, &p->events, "events"},
	    {cpu, KVM_GET_XCRS, &p->xcrs, "XCRs"},
	    {cpu, large ? KVM_GET_XSAVE2 : (unsigned long)KVM_GET_XSAVE, p->xsave, "XSAVE state"},
	    {cpu, KVM_GET_DEBUGREGS, &p->debug, "debug registers"},
	    {cpu, KVM_GET_LAPIC, &p->lapic, "the local APIC"},
	    {vm, KVM_GET_CLOCK, &p->clock, "the clock"},
	};
	int r = CALL_ALL(calls, err);

	p->clock.flags = 0;
	return r ? r : read_msrs(p, cpu, err);
}

static int start_log(struct plain *p, struct foal_error *err)
{
	struct kvm_userspace_memory_region region = {.flags = KVM_MEM_LOG_DIRTY_PAGES,
						     .memory_size = p->vm.low_size,
						     .userspace_addr = (uintptr_t)p->vm.low};

	return ioctl(p->vm.kvm.vm_fd, KVM_SET_USER_MEMORY_REGION, &region) ? failed(err, "logging")
									   : 0;
}

static void keep(struct plain *p, uint64_t first, uint64_t size)
{
	memcpy(p->store + first, p->vm.low + first, size);
}

static int set_point(struct plain *p, struct foal_error *err)
{
	int r = read_state(p, err);

	if (r || (r = start_log(p, err)))
		return r;
	keep(p, 0, BENCH_LOW_SIZE);
	keep(p, RAM_BASE, p->vm.job->touches * EPT_PAGE_SIZE);
	p->set = true;
	return 0;
}

/* --- back ------------------------------------------------------------------------------ */

static int bring_memory_back(struct plain *p, struct foal_error *err)
{
	struct kvm_dirty_log log = {.slot = 0, .dirty_bitmap = p->log};

	if (ioctl(p->vm.kvm.vm_fd, KVM_GET_DIRTY_LOG, &log))
		return failed(err, "the log");
	for (uint64_t w = 0; w < RAM_SIZE / EPT_PAGE_SIZE / 64; w++) {
		for (uint64_t left = p->log[w]; left; left &= left - 1) {
			uint64_t at = (w * 64 + (uint64_t)__builtin_ctzl(left)) * EPT_PAGE_SIZE;

			memcpy(p->vm.low + at, p->store + at, EPT_PAGE_SIZE);
			p->brought++;
		}
	}
	return 0;
}

static int forget_shadows(struct plain *p, struct foal_error *err)
{
	struct kvm_userspace_memory_region region = {.slot = EMPTY_SLOT,
						     .guest_phys_addr =
							 EMPTY_GPA + p->moves++ % 2 * EPT_PAGE_SIZE,
						     .memory_size = EPT_PAGE_SIZE,
						     .userspace_addr = (uintptr_t)p->empty};

	if (!p->vm.kvm.shadow)
		return 0;
	return ioctl(p->vm.kvm.vm_fd, KVM_SET_USER_MEMORY_REGION, &region)
		   ? failed(err, "an empty slot")
		   : 0;
}

/* Registers, system registers and events KVM takes with the next KVM_RUN. */
static int bring_state_back(struct plain *p, struct foal_error *err)
{
	struct kvm_run *run = p->vm.cpu[0].run;
	int cpu = p->vm.cpu[0].fd;
	const struct call calls[] = {
	    {p->vm.kvm.vm_fd, KVM_SET_CLOCK, &p->clock, "the clock"},
	    {cpu, KVM_SET_XSAVE, p->xsave, "XSAVE state"},
	    {cpu, KVM_SET_LAPIC, &p->lapic, "the local APIC"},
	    {cpu, KVM_SET_MSRS, &p->msrs, "MSRs"},
	};
	const struct call others[] = {
	    {cpu, KVM_SET_XCRS, &p->xcrs, "XCRs"},
	    {cpu, KVM_SET_DEBUGREGS, &p->debug, "debug registers"},
	};
	int r = p->all ? forget_shadows(p, err) : 0;

	if (r == 0 && p->all)
		r = CALL_ALL(others, err);
	if (r || (r = CALL_ALL(calls, err)))
		return r;
	run->s.regs.regs = p->regs;
	run->s.regs.sregs = p->sregs;
	run->s.regs.events = p->events;
	run->kvm_dirty_regs = KVM_SYNC_X86_VALID_FIELDS;
	return 0;
}

/* What the guest left for is done when it enters again, and no more than that. */
static int complete(struct plain *p, struct foal_error *err)
{
	struct kvm_run *run = p->vm.cpu[0].run;
	int r;

	run->immediate_exit = 1;
	r = ioctl(p->vm.cpu[0].fd, KVM_RUN, 0);
	run->immediate_exit = 0;
	return r == -1 && errno == EINTR ? 0 : failed(err, "the bell's exit");
}

static int go_back(struct plain *p, struct foal_error *err)
{
	uint64_t begun = now_ns();
	int r = complete(p, err);

	if (r == 0)
		r = bring_memory_back(p, err);
	if (r == 0)
		r = bring_state_back(p, err);
	ept_hist_add(&p->gap, now_ns() - begun);
	p->resets++;
	return r;
}

/* --- the guest ------------------------------------------------------------------------- */

static int ring(struct plain *p, uint8_t what, struct foal_error *err)
{
	int r;

	if (what != FOAL_RESET_POINT)
		return go_back(p, err);
	if ((r = complete(p, err)) == 0 && !p->set)
		r = set_point(p, err);
	return r;
}

/* It talks to COM1, where nobody listens, and something has always come. */
static uint32_t answer(const struct plain *p, uint16_t port)
{
	return port == FOAL_PORT_RESET_BELL ? p->resets : port == COM1_LSR ? COM1_READY : 0;
}

/* False: it has ended, or r says why not. */
static bool run_once(struct plain *p, int *r, struct foal_error *err)
{
	struct kvm_run *run = p->vm.cpu[0].run;

	*r = 0;
	errno = 0;
	if (ioctl(p->vm.cpu[0].fd, KVM_RUN, 0) || run->exit_reason != KVM_EXIT_IO) {
		*r = errno == EINTR ? 0 : failed(err, "the guest");
		return *r == 0;
	}
	char *data = (char *)run + run->io.data_offset;
	uint32_t value = answer(p, run->io.port);

	if (run->io.direction == KVM_EXIT_IO_IN)
		memcpy(data, &value, run->io.size);
	else if (run->io.port == FOAL_PORT_RESET_BELL)
		*r = ring(p, (uint8_t)*data, err);
	return *r == 0 && run->io.port != FOAL_PORT_EXIT;
}

static void *reserve(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int prepare(struct plain *p, const struct bench_job *job, struct foal_error *err)
{
	struct run_options opt;

	options_defaults(&opt);
	struct kvm_machine machine = kvm_machine_of(&opt);
	int r = bench_vm_create(&p->vm, &machine, RAM_SIZE, err);
	options_free(&opt);
	if (r)
		return r;
	if (ioctl(p->vm.kvm.vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS) !=
	    KVM_SYNC_X86_VALID_FIELDS)
		return error_set(err, FOAL_EXIT_HOST, -EOPNOTSUPP, "KVM has no KVM_CAP_SYNC_REGS");
	*p->vm.job = *job;
	p->store = reserve(RAM_SIZE);
	p->log = reserve(RAM_SIZE / EPT_PAGE_SIZE / 8);
	p->empty = reserve(EPT_PAGE_SIZE);
	p->xsave = reserve(XSAVE_ROOM);
	return p->store && p->log && p->empty && p->xsave ? forget_shadows(p, err)
							  : failed(err, "memory");
}

static int measure(struct plain *p, const struct bench_job *job, struct foal_error *err)
{
	int r = prepare(p, job, err);

	while (r == 0 && run_once(p, &r, err))
		;
	if (r == 0 && (p->resets < job->bell || p->brought < (uint64_t)job->bell * job->again))
		r = error_set(err, FOAL_EXIT_INTERNAL, -EIO,
			      "bench: a plain reset brought %llu "
			      "pages back in %u rounds",
			      (unsigned long long)p->brought, p->resets);
	return r;
}

/* bench-reset PAGES RESETS RING: the median in nanoseconds. */
int command_bench_reset(int argc, char **argv, uint64_t main_ns)
{
	static struct plain plain;
	struct plain *p = &plain;
	struct foal_error err = {0};
	struct bench_job job;

	(void)main_ns;
	if (argc != 4) {
		error_set(&err, FOAL_EXIT_USAGE, -EINVAL, "bench-reset: foal bench starts this");
		error_print(&err);
		return err.status;
	}
	job = snap_reset_job((unsigned)strtoul(argv[1], NULL, 10),
			     (unsigned)strtoul(argv[2], NULL, 10),
			     (unsigned)strtoul(argv[3], NULL, 10));
	p->all = !(job.ring & FOAL_RESET_CONTROLS);
	if (measure(p, &job, &err)) {
		error_print(&err);
		return err.status ? err.status : FOAL_EXIT_INTERNAL;
	}
	printf("%llu\n", (unsigned long long)ept_hist_percentile(&p->gap, 50));
	return 0;
}
