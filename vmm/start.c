/*
 * How a run's threads come to life. All of them are made by the main thread,
 * before it enters the sandbox: a thread inherits what its creator is confined
 * to. Each enters it by itself, and no vCPU runs before the last one has. What a forked
 * VM begins without is made later, by foal-fork (fork_later.c).
 *
 * What KVM needs longest for is done while the main thread builds the rest. foal-stop, which sleeps
 * until the end, asks for CPUID before. The first vCPU's thread makes the VM and the vCPUs; of a
 * fork, whose main thread has nothing else to do, the vCPUs alone. A boot waits for the answer to
 * tell the vCPUs of it. A restore tells them of the CPUID that they had, and looks into the
 * answer before they run.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ept/new_thread.h"
#include "vmm/entry.h"
#include "vmm/kvmstats.h"
#include "vmm/template.h"
#include "vmm/vm.h"

/* From here on the soft limit of open files may be too low. */
#define MANY_CPUS 64

/* The first reason not to run, or to run no longer. */
static void start_failed(struct vm *vm, const struct foal_error *err)
{
	if (atomic_load(&vm->first_run_ns))
		vm_end(vm, err->status, "%s", err->text);
	pthread_mutex_lock(&vm->end.lock);
	if (!vm->start_error.status)
		vm->start_error = *err;
	pthread_mutex_unlock(&vm->end.lock);
	atomic_store(&vm->stopping, true);
}

int vm_thread_create(pthread_t *thread, void *(*body)(void *), void *arg, int also)
{
	static const int taken[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS};
	sigset_t set, old;

	sigfillset(&set);
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		sigdelset(&set, taken[i]);
	if (also)
		sigdelset(&set, also);
	pthread_sigmask(SIG_SETMASK, &set, &old);
	int r = ept_new_thread(thread, body, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}

int vm_thread_join(pthread_t thread, const struct timespec *until)
{
#ifdef __SANITIZE_THREAD__
	/* It does not know pthread_clockjoin_np(), and would take what is freed next for a race. */
	uint64_t end = (uint64_t)until->tv_sec * 1000000000u + (uint64_t)until->tv_nsec;

	while (now_ns() < end) {
		if (pthread_tryjoin_np(thread, NULL) == 0)
			return 0;
		usleep(1000);
	}
	return ETIMEDOUT;
#else
	return pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, until);
#endif
}

void vm_thread_expected(struct vm *vm)
{
	gate_expect(&vm->confined);
}

/* A vCPU that passes the gate sees that it is not to run. */
bool vm_thread_begins(struct vm *vm, enum thread_kind kind)
{
	struct foal_error err = {0}, whose = {0};
	char name[16] = "";

	if (sandbox_enter(&vm->sandbox, kind, &err)) {
		pthread_getname_np(pthread_self(), name, sizeof(name));
		error_set(&whose, (enum foal_exit)err.status, -EPERM, "%s: %s: %s", vm->opt->name,
			  name, err.text);
		start_failed(vm, &whose);
	}
	gate_arrive(&vm->confined);
	return !whose.status;
}

/*
 * Of a clone made ahead, of which nothing ran: two of its threads wait for a name, and would take
 * it from who asks next. The template makes another.
 */
static _Noreturn void end_ahead(const struct foal_error *err)
{
	error_print(err);
	process_end(err->status);
}

static struct foal_error start_error(struct vm *vm)
{
	pthread_mutex_lock(&vm->end.lock);
	struct foal_error err = vm->start_error;
	pthread_mutex_unlock(&vm->end.lock);
	return err;
}

void vm_clocks_back(struct vm *vm)
{
	struct foal_error err = start_error(vm);

	if (err.status && !template_asked(vm))
		end_ahead(&err);
	err.status = 0;
	if (template_heed(vm, &err))
		start_failed(vm, &err);
}

/* --- the vCPUs, by the first one's thread ------------------------------------------ */

static int set_entry(struct vm *vm, int vcpu_fd, struct foal_error *err)
{
	if (vm->opt->firmware)
		return 0; /* the reset state */
	if (vm->image.boot == BOOT_PVH)
		return entry_pvh(vcpu_fd, (uint32_t)vm->image.entry, FOAL_START_INFO, err);
	return entry_linux64(vcpu_fd, vm->image.entry, err);
}

/*
 * KVM's paravirtual clocks and the like lie in guest memory: that has to be there. And until it
 * is, which may take long, no clock is to count.
 */
static int load_vcpus(struct vm *vm, struct foal_error *err)
{
	int r = vm_state_load_still(vm, err);

	if (r)
		return r;
	gate_wait(&vm->built);
	return atomic_load(&vm->stopping) ? -ECANCELED
					  : vm_state_load_vcpus(vm, VCPU_CLOCKS | VCPU_OTHERS, err);
}

void vm_read_cpuid(struct vm *vm)
{
	struct foal_error err = {0};
	int r = kvm_read_cpuid(&vm->kvm, &err);

	gate_wait(&vm->prepared);
	if (r)
		start_failed(vm, &err);
	gate_arrive(&vm->answered);
}

/* What KVM supports, as this machine. */
static int supported_cpuid(struct vm *vm, struct foal_error *err)
{
	const struct kvm_machine machine = kvm_machine_of(vm->opt);

	gate_wait(&vm->answered);
	return atomic_load(&vm->stopping) ? -ECANCELED : kvm_finish_cpuid(&vm->kvm, &machine, err);
}

/* One that was forked has the table that its parent had. */
static int make_cpuid(struct vm *vm, struct foal_error *err)
{
	if (vm->birth)
		return 0;
	return vm->restore ? vm_state_load_cpuid(vm, err) : supported_cpuid(vm, err);
}

static int tell_cpuid(struct vcpu *vcpu, struct foal_error *err)
{
	int r = kvm_set_cpuid(&vcpu->vm->kvm, vcpu->index, vcpu->fd, err);

	if (r)
		return r;
	vcpu->stats_fd = kvm_stats_open(vcpu->fd);
	memory_error_set_up(vcpu);
	return 0;
}

/* Of a VM that is not restored. */
static int enter_image(struct vm *vm, struct foal_error *err)
{
	gate_wait(&vm->built);
	return atomic_load(&vm->stopping) ? -ECANCELED : set_entry(vm, vm->vcpus[0].fd, err);
}

/* Why KVM took no state of another processor is that it is another one. */
static int check_cpuid(struct vm *vm, int loaded, struct foal_error *err)
{
	struct foal_error why = {0};
	int r = supported_cpuid(vm, &why);

	if (r == 0)
		r = vm_state_check_cpuid(vm, &why);
	if (r == 0)
		return loaded;
	*err = why;
	return r;
}

static int create_vcpus(struct vm *vm, struct foal_error *err)
{
	int r = 0;

	for (unsigned i = 0; i < vm->vcpu_count && r == 0; i++)
		r = kvm_create_vcpu(&vm->kvm, i, &vm->vcpus[i].fd, &vm->vcpus[i].run, err);
	if (r == 0)
		r = make_cpuid(vm, err);
	for (unsigned i = 0; i < vm->vcpu_count && r == 0; i++)
		r = tell_cpuid(&vm->vcpus[i], err);
	if (r == 0)
		r = vm->restore ? load_vcpus(vm, err) : enter_image(vm, err);
	return vm->restore && !vm->birth ? check_cpuid(vm, r, err) : r;
}

static int configure(struct vm *vm, struct foal_error *err)
{
	const struct kvm_machine machine = kvm_machine_of(vm->opt);

	kvm_clear_log_by_hand(&vm->kvm);
	return kvm_configure_vm(&vm->kvm, &machine, err);
}

int vm_create(struct vm *vm, struct foal_error *err)
{
	int r = kvm_create_vm(&vm->kvm, err);

	if (r)
		start_failed(vm, err);
	gate_arrive(&vm->made);
	gate_wait(&vm->described);
	if (r == 0 && !atomic_load(&vm->stopping) && (r = configure(vm, err)))
		start_failed(vm, err);
	gate_arrive(&vm->created);
	return r;
}

void vm_create_vcpus(struct vm *vm)
{
	struct foal_error err = {0};

	if (vm->birth)
		gate_wait(&vm->created);
	else
		vm_create(vm, &err);
	if (!atomic_load(&vm->stopping) && create_vcpus(vm, &err) && err.status)
		start_failed(vm, &err);
}

/* --- the main thread's part ---------------------------------------------------------- */

/*
 * A vCPU has three descriptors, a disk one for each layer; the usual soft limit is 1024. Helpers,
 * which were started before, keep it.
 */
static void allow_descriptors(const struct run_options *opt)
{
	struct rlimit limit;

	if ((opt->cpus <= MANY_CPUS && !opt->disk_count) || getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int start_vcpu(struct vm *vm, unsigned index, struct foal_error *err)
{
	vm_thread_expected(vm);
	int r = vcpu_start(&vm->vcpus[index]);
	return r ? error_set(err, FOAL_EXIT_HOST, r, "vCPU thread %u: %s", index, error_text(r))
		 : 0;
}

int vm_start_first_vcpu(struct vm *vm, struct foal_error *err)
{
	if (!vm->birth)
		vcpu_init_kick(); /* else it was done in its parent */
	vm_thread_expected(vm);
	int r = vcpu_start_first(vm);
	return r ? error_set(err, FOAL_EXIT_HOST, r, "vCPU thread 0: %s", error_text(r)) : 0;
}

int vm_make_vcpus(struct vm *vm, struct foal_error *err)
{
	unsigned cpus = vm->opt->cpus;

	if (!vm->birth)
		allow_descriptors(vm->opt);
	vm->vcpus = calloc(cpus, sizeof(*vm->vcpus));
	if (!vm->vcpus)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "out of memory for vCPUs");
	for (unsigned i = 0; i < cpus; i++)
		vm->vcpus[i] = (struct vcpu){.vm = vm, .index = i, .fd = -1, .stats_fd = -1};
	vm->vcpu_count = cpus;
	vm->vcpus[0].thread = vm->first_vcpu;
	vm->vcpus[0].started = true;
	vm->first_started = false;
	gate_arrive(&vm->described);
	return 0;
}

int vm_begun(struct vm *vm, struct foal_error *err)
{
	if (!vm->begun)
		vm_begin(vm);
	if (vm->first_started)
		gate_wait(&vm->made);
	*err = start_error(vm);
	return err->status ? -ECANCELED : 0;
}

int vm_wait_created(struct vm *vm, struct foal_error *err)
{
	gate_wait(&vm->created);
	*err = start_error(vm);
	return err->status ? -ECANCELED : 0;
}

static int start_rest(struct vm *vm, struct foal_error *err)
{
	int r = control_start(vm->control);

	if (r == 0)
		r = forker_start(vm);
	if (r == 0)
		r = bus_start(vm->pio);
	if (r == 0)
		r = bus_start(vm->mmio);
	return r ? error_set(err, FOAL_EXIT_HOST, r, "%s: starting its threads: %s", vm->opt->name,
			     error_text(r))
		 : 0;
}

void vm_give_up(struct vm *vm)
{
	atomic_store(&vm->stopping, true);
	gate_break(&vm->made);
	gate_break(&vm->described);
	gate_break(&vm->created);
	gate_break(&vm->prepared);
	gate_break(&vm->answered);
	gate_break(&vm->built);
	gate_break(&vm->confined);
	gate_break(&vm->running);
}

/* Of a restored VM: they were held until the local APICs were loaded. */
static void begin_devices(struct vm *vm)
{
	bus_release(vm->pio);
	bus_release(vm->mmio);
	if (vm->restore->copy)
		acpi_pm_raise(vm->acpi_pm, FOAL_ACPI_GENERATION);
}

/* vCPUs that see it as they begin park before they run. */
static bool begins_paused(const struct vm *vm)
{
	return vm->restore && vm->restore->paused;
}

int vm_start(struct vm *vm, struct foal_error *err)
{
	uint64_t took;
	int r = 0;

	gate_arrive(&vm->built);
	for (unsigned i = 1; i < vm->vcpu_count && r == 0; i++)
		r = start_vcpu(vm, i, err);
	if (r == 0)
		r = start_rest(vm, err);
	if (r == 0)
		r = sandbox_enter(&vm->sandbox, THREAD_MAIN, err);
	if (r && fork_made_ahead(vm))
		end_ahead(err);
	if (r) {
		vm_give_up(vm);
		return r;
	}
	/* A client may ask for a pause as soon as all are confined: not before devices began. */
	pthread_mutex_lock(&vm->quiesce.changing);
	if (begins_paused(vm))
		atomic_store(&vm->quiesce.wanted, true);
	gate_arrive(&vm->confined);
	gate_wait(&vm->confined);
	/* Nothing of the rest is for the first vCPU, which wakes nobody before it runs. */
	if (fork_made_ahead(vm))
		gate_wait(&vm->running);
	if (vm->restore)
		begin_devices(vm);
	pthread_mutex_unlock(&vm->quiesce.changing);
	*err = start_error(vm);
	if (err->status)
		return -ECANCELED;
	return begins_paused(vm) ? vm_pause(vm, PAUSE_LIMIT_NS, &took, err) : 0;
}
