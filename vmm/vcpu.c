/* A vCPU's thread: run, serve the exit, run again. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

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

/* And crashes: blocked, they would end the process past the handler that restores the terminal. */
static void take_only_kicks(void)
{
	static const int taken[] = {KICK_SIGNAL, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
	sigset_t set;

	sigfillset(&set);
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		sigdelset(&set, taken[i]);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
}

/* KVM_RUN failed for good; say what of. */
static void run_failed(struct vcpu *vcpu, int error)
{
	struct vm *vm = vcpu->vm;

	if (error == EFAULT) {
		ept_space_check(vm->space); /* names the file if one shrank */
		const struct ept_failure *failure = ept_space_failure(vm->space);
		if (failure)
			vm_end(vm, FOAL_EXIT_FAULT, "%s", failure->message);
		else
			vm_end(vm, FOAL_EXIT_FAULT,
			       "%s: vCPU %u: the host could not provide a page of guest memory "
			       "(out of memory, or a file behind it failed)",
			       vm->opt->name, vcpu->index);
		return;
	}
	vm_end(vm, FOAL_EXIT_INTERNAL, "%s: vCPU %u: KVM_RUN: %s", vm->opt->name, vcpu->index,
	       strerror(error));
}

void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;
	struct vm *vm = vcpu->vm;
	uint64_t unset = 0;
	char name[16];

	this_run = vcpu->run;
	take_only_kicks();
	snprintf(name, sizeof(name), "foal-vcpu/%u", vcpu->index);
	pthread_setname_np(pthread_self(), name);
	ept_vcpu_bind(vm->space, vcpu->index, (pid_t)syscall(SYS_gettid));
	ept_vcpu_on_cpu(vm->space, vcpu->index, sched_getcpu());
	atomic_compare_exchange_strong(&vm->first_run_ns, &unset, now_ns());

	for (;;) {
		vcpu->run->immediate_exit = 0;
		if (atomic_load(&vm->stopping))
			break;
		int r = ioctl(vcpu->fd, KVM_RUN, 0);
		ept_vcpu_on_cpu(vm->space, vcpu->index, sched_getcpu());
		if (r == 0)
			exit_dispatch(vcpu);
		else if (errno != EINTR && errno != EAGAIN)
			run_failed(vcpu, errno);
	}
	this_run = NULL;
	return NULL;
}
