#include "vmm/bench_vm.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmm/entry.h"

/* A page that takes longer than this for all of them is not coming. */
#define PATIENCE_S 120

/* bench_guest/embedded.S */
extern const char bench_guest_start[];
extern const uint64_t bench_guest_bytes;

static const Elf64_Ehdr *guest_elf(void)
{
	return (const Elf64_Ehdr *)bench_guest_start;
}

static const Elf64_Phdr *guest_segment(unsigned i)
{
	return (const Elf64_Phdr *)(bench_guest_start + guest_elf()->e_phoff) + i;
}

size_t bench_guest_size(void)
{
	return bench_guest_bytes;
}

void bench_guest_copy(void *out, const struct bench_job *job)
{
	memcpy(out, bench_guest_start, bench_guest_size());
	for (unsigned i = 0; i < guest_elf()->e_phnum; i++)
		if (guest_segment(i)->p_type == PT_LOAD &&
		    guest_segment(i)->p_paddr == BENCH_JOB_GPA)
			memcpy((char *)out + guest_segment(i)->p_offset, job, sizeof(*job));
}

/* Linked for BENCH_PROGRAM_GPA and BENCH_JOB_GPA, both in low memory. */
static void load_guest(char *low)
{
	for (unsigned i = 0; i < guest_elf()->e_phnum; i++) {
		const Elf64_Phdr *s = guest_segment(i);

		if (s->p_type == PT_LOAD)
			memcpy(low + s->p_paddr, bench_guest_start + s->p_offset, s->p_filesz);
	}
}

static int add_low_memory(struct bench_vm *vm, struct foal_error *err)
{
	struct ept_slot slot = {.gpa = GPA(0), .size = vm->low_size};

	slot.hva = mmap(NULL, slot.size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (slot.hva == MAP_FAILED || madvise(slot.hva, BENCH_LOW_SIZE, MADV_POPULATE_WRITE))
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "bench: the guest's own memory: %s",
				 strerror(errno));
	vm->low = slot.hva;
	vm->job = (struct bench_job *)(vm->low + BENCH_JOB_GPA);
	load_guest(vm->low);
	return kvm_add_slot(&vm->kvm, &slot, err);
}

/* The others would wait for the first one's INIT. */
static int make_runnable(struct bench_cpu *cpu, struct foal_error *err)
{
	struct kvm_mp_state state = {.mp_state = KVM_MP_STATE_RUNNABLE};

	if (ioctl(cpu->fd, KVM_SET_MP_STATE, &state))
		return error_set(err, FOAL_EXIT_HOST, -errno, "KVM: start vCPU %u: %s", cpu->index,
				 strerror(errno));
	return entry_pvh(cpu->fd, (uint32_t)guest_elf()->e_entry, cpu->index, err);
}

int bench_vm_create(struct bench_vm *vm, const struct kvm_machine *machine, size_t low_size,
		    struct foal_error *err)
{
	*vm = (struct bench_vm){.kvm = {.dev_fd = -1, .vm_fd = -1}, .low_size = low_size};
	pthread_mutex_init(&vm->lock, NULL);
	pthread_cond_init(&vm->moved, NULL);
	int r = kvm_open(&vm->kvm, err);
	if (r == 0)
		r = kvm_create_vm(&vm->kvm, err);
	if (r == 0)
		r = kvm_configure_vm(&vm->kvm, machine, err);
	if (r == 0)
		r = kvm_read_cpuid(&vm->kvm, err);
	if (r == 0)
		r = kvm_finish_cpuid(&vm->kvm, machine, err);
	if (r == 0)
		r = add_low_memory(vm, err);
	for (unsigned i = 0; i < machine->cpus && r == 0; i++) {
		struct bench_cpu *cpu = &vm->cpu[i];
		*cpu = (struct bench_cpu){.vm = vm, .index = i, .fd = -1};
		vm->cpus++;
		r = kvm_create_vcpu(&vm->kvm, i, &cpu->fd, &cpu->run, err);
		if (r == 0)
			r = kvm_set_cpuid(&vm->kvm, i, cpu->fd, err);
		if (r == 0)
			r = make_runnable(cpu, err);
	}
	return r;
}

/* --- vCPU threads ------------------------------------------------------------------- */

/* The guest met an exception that is none of its job: its vector, else -1. */
static int exception_of(const struct kvm_run *run)
{
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != BENCH_PORT_BROKEN)
		return -1;
	return *((const uint8_t *)run + run->io.data_offset);
}

static void fail(struct bench_cpu *cpu, int error)
{
	struct bench_vm *vm = cpu->vm;

	pthread_mutex_lock(&vm->lock);
	if (!vm->failed) {
		vm->failed = true;
		if (error)
			error_set(&vm->error, FOAL_EXIT_INTERNAL, -error,
				  "bench: vCPU %u: KVM_RUN: %s", cpu->index, strerror(error));
		else if (exception_of(cpu->run) >= 0)
			error_set(&vm->error, FOAL_EXIT_GUEST, -EIO,
				  "bench: vCPU %u: exception %d in the guest: this host cannot do "
				  "what the row measures",
				  cpu->index, exception_of(cpu->run));
		else
			error_set(&vm->error, FOAL_EXIT_GUEST, -EIO,
				  "bench: vCPU %u: the guest ended with KVM exit %u", cpu->index,
				  cpu->run->exit_reason);
	}
	pthread_cond_broadcast(&vm->moved);
	pthread_mutex_unlock(&vm->lock);
}

/* One stage on; false when it was the last. */
static bool reach_next_stage(struct bench_cpu *cpu)
{
	struct bench_vm *vm = cpu->vm;

	pthread_mutex_lock(&vm->lock);
	cpu->stage++;
	pthread_cond_broadcast(&vm->moved);
	while (cpu->stage < BENCH_FINISHED && vm->allowed <= cpu->stage)
		pthread_cond_wait(&vm->moved, &vm->lock);
	pthread_mutex_unlock(&vm->lock);
	return cpu->stage < BENCH_FINISHED;
}

static bool is_stop(const struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT &&
	       (run->io.port == BENCH_PORT_READY || run->io.port == BENCH_PORT_DONE);
}

static bool is_answered(const struct bench_vm *vm, struct kvm_run *run)
{
	return vm->answer && vm->answer(vm->answer_arg, run);
}

/* Its space may come while it stands still (bench_snap_touch.c). */
static void bind_to_space(struct bench_cpu *cpu)
{
	if (!cpu->vm->space || cpu->bound)
		return;
	ept_vcpu_bind(cpu->vm->space, cpu->index, (pid_t)syscall(SYS_gettid));
	cpu->bound = true;
}

static void *cpu_thread(void *arg)
{
	struct bench_cpu *cpu = arg;
	struct bench_vm *vm = cpu->vm;

	for (bool on = true; on;) {
		bind_to_space(cpu);
		int r = ioctl(cpu->fd, KVM_RUN, 0);

		if (vm->space)
			ept_vcpu_on_cpu(vm->space, cpu->index, sched_getcpu());
		if (r == 0 && is_stop(cpu->run)) {
			on = reach_next_stage(cpu);
		} else if (r == 0 && is_answered(vm, cpu->run)) {
			continue;
		} else if (r == 0 ||
			   (errno != EINTR && !(vm->short_of_memory && errno == EFAULT))) {
			fail(cpu, r ? errno : 0);
			break;
		}
	}
	return NULL;
}

int bench_vm_start(struct bench_vm *vm, struct ept_space *space, struct foal_error *err)
{
	vm->space = space;
	vm->allowed = BENCH_READY;
	for (unsigned i = 0; i < vm->cpus; i++) {
		int r = pthread_create(&vm->cpu[i].thread, NULL, cpu_thread, &vm->cpu[i]);
		if (r)
			return error_set(err, FOAL_EXIT_HOST, -r, "vCPU thread %u: %s", i,
					 strerror(r));
	}
	return 0;
}

static bool all_are_at(const struct bench_vm *vm, enum bench_stage stage)
{
	for (unsigned i = 0; i < vm->cpus; i++)
		if (vm->cpu[i].stage < stage)
			return false;
	return true;
}

static int give_up(const struct bench_vm *vm, struct foal_error *err)
{
	const struct ept_failure *failure = vm->space ? ept_space_failure(vm->space) : NULL;

	if (failure)
		return error_set(err, FOAL_EXIT_FAULT, -EIO, "%s", failure->message);
	if (vm->failed) {
		*err = vm->error;
		return -EIO;
	}
	return error_set(err, FOAL_EXIT_STUCK, -ETIMEDOUT,
			 "bench: the guest got nowhere in %d s; another try may tell", PATIENCE_S);
}

int bench_vm_go(struct bench_vm *vm, enum bench_stage stage, struct foal_error *err)
{
	struct timespec deadline;
	int r = 0;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += PATIENCE_S;
	pthread_mutex_lock(&vm->lock);
	vm->allowed = stage;
	pthread_cond_broadcast(&vm->moved);
	while (r == 0 && !vm->failed && !all_are_at(vm, stage))
		r = pthread_cond_timedwait(&vm->moved, &vm->lock, &deadline);
	bool there = all_are_at(vm, stage);
	pthread_mutex_unlock(&vm->lock);
	return there ? 0 : give_up(vm, err);
}

void bench_vm_destroy(struct bench_vm *vm)
{
	for (unsigned i = 0; i < vm->cpus; i++) {
		struct bench_cpu *cpu = &vm->cpu[i];

		if (cpu->thread)
			pthread_join(cpu->thread, NULL);
		if (cpu->run)
			munmap(cpu->run, vm->kvm.run_size);
		if (cpu->fd >= 0)
			close(cpu->fd);
	}
	kvm_close(&vm->kvm);
	if (vm->low)
		munmap(vm->low, vm->low_size);
	pthread_cond_destroy(&vm->moved);
	pthread_mutex_destroy(&vm->lock);
}
