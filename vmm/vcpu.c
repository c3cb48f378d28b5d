/* A vCPU's thread: run, serve the exit, run again. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/pre_fault.h"
#include "vmm/vm.h"

#define KICK_SIGNAL SIGUSR1

static __thread struct kvm_run *this_run;

/*
 * A kick between the check of `stopping` and KVM_RUN would be lost if it only
 * interrupted; with immediate_exit set the next KVM_RUN returns at once.
 */
static void on_kick(int signal)
{
	(void)signal;
	if (this_run)
		this_run->immediate_exit = 1;
}

void vcpu_init_kick(void)
{
	struct sigaction action = {.sa_handler = on_kick};

	sigemptyset(&action.sa_mask);
	sigaction(KICK_SIGNAL, &action, NULL);
}

void vcpu_kick(struct vcpu *vcpu)
{
	if (vcpu->started)
		pthread_kill(vcpu->thread, KICK_SIGNAL);
}

/* Its pthread_t is the main thread's to use, which joins it while others still see its faults. */
void vcpu_kick_thread(pid_t tid)
{
	tgkill(getpid(), tid, KICK_SIGNAL);
}

/* Linux 6.8's, which Debian 12's header lacks (KVM api.rst, section 5, KVM_EXIT_MEMORY_FAULT). */
#define EXIT_MEMORY_FAULT 39

struct memory_fault {
	uint64_t flags, gpa, size;
};

/* " at gpa 0x...", where KVM says so. */
static const char *where(const struct kvm_run *run, char buf[32])
{
	struct memory_fault fault;

	buf[0] = 0;
	if (run->exit_reason == EXIT_MEMORY_FAULT) {
		memcpy(&fault, run->padding, sizeof(fault));
		snprintf(buf, 32, " at gpa 0x%llx", (unsigned long long)fault.gpa);
	}
	return buf;
}

/* For the watchdog; nobody else writes it. */
static void count_round(struct vcpu *vcpu)
{
	uint64_t rounds = atomic_load_explicit(&vcpu->rounds, memory_order_relaxed);

	atomic_store_explicit(&vcpu->rounds, rounds + 1, memory_order_relaxed);
}

/* Storage that hangs is noticed as it is of KVM_RUN. */
static void look_for_page(struct vcpu *vcpu)
{
	count_round(vcpu);
	lost_page_find(vcpu);
	count_round(vcpu);
}

static void answer_watchdog(struct vcpu *vcpu)
{
	if (!atomic_load_explicit(&vcpu->asked, memory_order_relaxed))
		return;
	look_for_page(vcpu);
	atomic_store(&vcpu->asked, false);
}

/* KVM_RUN failed for good; say what of. */
static void run_failed(struct vcpu *vcpu, int error)
{
	struct vm *vm = vcpu->vm;
	char gpa[32];

	if (error == EHWPOISON) {
		vm_end(vm, FOAL_EXIT_FAULT,
		       "%s: vCPU %u: the host's memory is damaged where a page of the guest%s lies",
		       vm->opt->name, vcpu->index, where(vcpu->run, gpa));
		return;
	}
	if (error == EFAULT) {
		ept_space_check_files(vm->space); /* names the file if one shrank */
		if (!ept_space_failure(vm->space))
			look_for_page(vcpu);
		const struct ept_failure *failure = ept_space_failure(vm->space);
		if (failure)
			vm_end(vm, FOAL_EXIT_FAULT, "%s", failure->message);
		else
			vm_end(vm, FOAL_EXIT_FAULT,
			       "%s: vCPU %u: the host could not provide a page of guest memory%s "
			       "(out of memory, or a file behind it failed)",
			       vm->opt->name, vcpu->index, where(vcpu->run, gpa));
		return;
	}
	if (error == EAGAIN) {
		vm_end(vm, FOAL_EXIT_HOST,
		       "%s: KVM cannot start its own thread for the VM: %s; raise the limit of "
		       "processes (ulimit -u, a cgroup's pids.max)",
		       vm->opt->name, strerror(error));
		return;
	}
	vm_end(vm, FOAL_EXIT_INTERNAL, "%s: vCPU %u: KVM_RUN: %s", vm->opt->name, vcpu->index,
	       strerror(error));
}

/*
 * A vCPU that waited for its INIT leaves KVM_RUN with EAGAIN, which the first never does:
 * there it is KVM's worker thread that the first KVM_RUN could not start (Linux 6.14).
 */
static bool goes_on(const struct vcpu *vcpu, int error)
{
	return error == EINTR || (error == EAGAIN && vcpu->index > 0);
}

/* While others are not confined, and nobody wants the vCPU elsewhere. */
static bool still_waits(void *arg)
{
	struct vcpu *vcpu = arg;

	return !gate_is_open(&vcpu->vm->confined) && !atomic_load(&vcpu->vm->stopping) &&
	       !vcpu->run->immediate_exit;
}

static void wait_for_others(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;

	/* KVM's log would call what is put in writable written (Linux 6.11, make_spte()). */
	if (vcpu->index == 0 && vm->kvm.pre_faults && vm->restore && !vm->reset.logging &&
	    still_waits(vcpu)) {
		struct pre_fault p = {.vcpu_fd = vcpu->fd,
				      .call = pre_fault_call,
				      .goes_on = still_waits,
				      .ctx = vcpu};
		pre_fault_set(&p, vm->space);
	}
	gate_wait(&vm->confined);
}

static void set_name(unsigned index)
{
	char name[16];

	snprintf(name, sizeof(name), "foal-vcpu/%u", index);
	pthread_setname_np(pthread_self(), name);
}

static void begin(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;
	uint64_t unset = 0;

	if (!atomic_load(&vm->stopping)) { /* if it is, there may be no space */
		ept_vcpu_bind(vm->space, vcpu->index, (pid_t)syscall(SYS_gettid));
		ept_vcpu_on_cpu(vm->space, vcpu->index, sched_getcpu());
	}
	bool ahead = fork_made_ahead(vm), first = vcpu->index == 0;
	vm_thread_begins(vm,
			 vm->opt->reset_port || (ahead && first) ? THREAD_VCPU_STATE : THREAD_VCPU);
	fork_trim_stack(vm);
	if (first)
		this_run = vcpu->run;
	if (ahead && first)
		vm_clocks_back(vm);
	wait_for_others(vcpu);
	this_run = vcpu->run; /* the first vCPU's thread made it, before it arrived */
	if (ahead && !first)
		gate_wait(&vm->running); /* the clocks are back then */
	memory_error_on_vcpu(vcpu);
	reset_bell_on_vcpu(vcpu);
	if (atomic_compare_exchange_strong(&vm->first_run_ns, &unset, now_ns()))
		gate_arrive(&vm->running);
}

/*
 * It was kicked at a fault (--rip-sample). Asked for here, KVM's copies of all registers at each
 * exit (KVM_CAP_SYNC_REGS) are not needed for one in many. An access of ring 0 that a host without
 * nested paging emulates is done when the vCPU leaves.
 */
static void sample_rip(const struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;
	struct kvm_regs regs;
	struct kvm_sregs sregs;

	if (!ept_vcpu_asked(vm->space, vcpu->index) || ioctl(vcpu->fd, KVM_GET_REGS, &regs) ||
	    ioctl(vcpu->fd, KVM_GET_SREGS, &sregs))
		return;
	unsigned cpl = sregs.ss.dpl;
	ept_vcpu_sampled(vm->space, vcpu->index, regs.rip, cpl, cpl == 3 || !vm->kvm.shadow);
}

/* In and out of KVM_RUN once, and serve what it left for. False: there was nothing to serve. */
static bool run_once(struct vcpu *vcpu)
{
	ept_vcpu_enters(vcpu->vm->space, vcpu->index);
	count_round(vcpu);
	int r = ioctl(vcpu->fd, KVM_RUN, 0), error = errno;
	count_round(vcpu);
	ept_vcpu_on_cpu(vcpu->vm->space, vcpu->index, sched_getcpu());
	bool damaged = memory_error_take(vcpu);
	if (r == 0)
		exit_dispatch(vcpu);
	else if (!damaged && !goes_on(vcpu, error))
		run_failed(vcpu, error);
	if (r && error == EINTR)
		sample_rip(vcpu);
	answer_watchdog(vcpu);
	return r == 0;
}

/*
 * What a vCPU left for is done when it enters again: the value read is in its register,
 * the instruction behind it (api.rst, 5, KVM_RUN). With immediate_exit set that is all
 * it does; but a wide access may take several exits.
 */
static void finish_exit(struct vcpu *vcpu)
{
	do
		vcpu->run->immediate_exit = 1;
	while (run_once(vcpu) && !atomic_load(&vcpu->vm->stopping));
}

/* A guest that saw time pass without running is not to take itself for locked up. */
static void tell_of_pause(const struct vcpu *vcpu)
{
	ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0); /* EINVAL: it has no such clock */
}

static void run(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;

	begin(vcpu);
	while (!atomic_load(&vm->stopping)) {
		if (quiesce_wanted(&vm->quiesce)) {
			finish_exit(vcpu);
			quiesce_park(&vm->quiesce);
			tell_of_pause(vcpu);
		} else if (vcpu->rang) {
			finish_exit(vcpu);
			reset_answer(vcpu);
		} else {
			reset_gap_ends(vcpu);
			run_once(vcpu);
		}
		vcpu->run->immediate_exit = 0;
	}
	this_run = NULL;
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;

	set_name(vcpu->index);
	run(vcpu);
	return NULL;
}

/* It begins before anything is known of its VM, which may turn out not to be. */
static void *first_thread(void *arg)
{
	struct vm *vm = arg;

	set_name(0);
	vm_create_vcpus(vm);
	if (vm->vcpus)
		run(&vm->vcpus[0]);
	return NULL;
}

int vcpu_start(struct vcpu *vcpu)
{
	int r = vm_thread_create(&vcpu->thread, vcpu_thread, vcpu, KICK_SIGNAL);

	vcpu->started = r == 0;
	return r;
}

int vcpu_start_first(struct vm *vm)
{
	int r = vm_thread_create(&vm->first_vcpu, first_thread, vm, KICK_SIGNAL);

	vm->first_started = r == 0;
	return r;
}
