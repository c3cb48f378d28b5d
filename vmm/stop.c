/*
 * The end of a run. It is a thread's of its own: whatever of it waits for storage
 * that does not answer, the main thread says why the run ends, and ends it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ept/stats.h"
#include "vmm/vm.h"

/* How long a kicked vCPU may take to leave KVM_RUN before faults are cut off. */
#define KICK_PATIENCE_S	 2
/* How long all of it may take once something is known to hang. */
#define HUNG_PATIENCE_NS 5000000000ULL
#define LOOK_EVERY_NS	 200000000L

/* Join what has left KVM_RUN by @deadline; without one, wait for all. */
static bool join_vcpus(struct vm *vm, const struct timespec *deadline)
{
	bool all = true;

	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		struct vcpu *vcpu = &vm->vcpus[i];
		if (!vcpu->started)
			continue;
		int r = deadline ? vm_thread_join(vcpu->thread, deadline)
				 : pthread_join(vcpu->thread, NULL);
		vcpu->started = r != 0;
		all = all && r == 0;
	}
	return all;
}

void vm_join_vcpus(struct vm *vm)
{
	join_vcpus(vm, NULL);
}

/* Goes on after an error: the other files have nothing to do with it. */
static int write_back(struct vm *vm)
{
	int first = 0;

	for (size_t i = 0; i < ept_area_count(vm->space); i++) {
		struct ept_area *area = ept_area_at(vm->space, i);
		int r;

		atomic_store(&vm->stopper.flushing, area);
		r = ept_area_sync(area);
		atomic_store(&vm->stopper.flushing, NULL);
		if (r && !first) {
			first = r;
			vm->unwritten = area;
		}
	}
	return first;
}

/* Does something hang that will not come back by being told to stop? */
static bool hangs(struct vm *vm)
{
	const struct ept_failure *failure = ept_space_failure(vm->space);

	return atomic_load(&vm->stuck) ||
	       (failure && (failure->error == -ETIMEDOUT || failure->error == -ESRCH));
}

/*
 * The order matters: what the guest wrote last must be in the files, so the
 * vCPUs leave first, then the disks finish, then shared files are written
 * back. A vCPU that waits for a page which cannot come leaves only when fault
 * handling ends, and that must come after the write-back, since whatever
 * touches memory then may see zeros.
 */
static int stop(struct vm *vm)
{
	struct timespec deadline;
	int r = 0;

	quiesce_end(vm);
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		vcpu_kick(&vm->vcpus[i]);
	clock_gettime(CLOCK_MONOTONIC, &deadline);
	deadline.tv_sec += KICK_PATIENCE_S;
	/* A vCPU may be waiting for somebody to read the console. */
	if (vm->pio)
		bus_stop(vm->pio);
	/* After a failed fault the vCPU that asked for the page waits in vain. */
	bool out = !ept_space_failure(vm->space) && join_vcpus(vm, &deadline);
	/* A disk may hang, too: what can be saved comes first then. */
	if (hangs(vm))
		write_back(vm);
	if (vm->mmio)
		bus_stop(vm->mmio);
	r = write_back(vm);
	vm->end_ns = now_ns();
	ept_space_stop(vm->space);
	if (!out)
		join_vcpus(vm, NULL);
	return r;
}

void stopper_run(struct vm *vm)
{
	struct vm_stopper *s = &vm->stopper;
	int r = stop(vm);

	pthread_mutex_lock(&s->lock);
	s->result = r;
	s->done = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static void *stopper_thread(void *arg)
{
	struct vm *vm = arg;
	struct vm_stopper *s = &vm->stopper;

	pthread_setname_np(pthread_self(), "foal-stop");
	vm_read_cpuid(vm);
	vm_thread_begins(vm, THREAD_MAIN);
	pthread_mutex_lock(&s->lock);
	while (!s->wanted && !s->dismissed)
		pthread_cond_wait(&s->changed, &s->lock);
	bool dismissed = s->dismissed;
	pthread_mutex_unlock(&s->lock);
	if (!dismissed)
		stopper_run(vm);
	return NULL;
}

void stopper_init(struct vm *vm)
{
	struct vm_stopper *s = &vm->stopper;
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->changed, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&s->lock, NULL);
}

void stopper_dismiss(struct vm *vm)
{
	struct vm_stopper *s = &vm->stopper;

	if (!s->started)
		return;
	pthread_mutex_lock(&s->lock);
	s->dismissed = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	s->started = false;
}

void stopper_destroy(struct vm *vm)
{
	pthread_cond_destroy(&vm->stopper.changed);
	pthread_mutex_destroy(&vm->stopper.lock);
}

int stopper_start(struct vm *vm)
{
	vm_thread_expected(vm);
	int r = vm_thread_create(&vm->stopper.thread, stopper_thread, vm, 0);

	vm->stopper.started = r == 0;
	return r;
}

/* Wait for the stopper a little; true when it is done. */
static bool wait_a_little(struct vm_stopper *s)
{
	struct timespec until;
	bool done;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += LOOK_EVERY_NS;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&s->lock);
	if (!s->done)
		pthread_cond_timedwait(&s->changed, &s->lock, &until);
	done = s->done;
	pthread_mutex_unlock(&s->lock);
	return done;
}

/* They were kicked, and none goes back: who is still in there sleeps in the host's kernel. */
static bool in_kernel(const struct vm *vm)
{
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		if (atomic_load_explicit(&vm->vcpus[i].rounds, memory_order_relaxed) % 2)
			return true;
	return false;
}

/* A write-back that goes on for as long, by looks that are @passed apart. */
struct flush_watch {
	uint64_t waited;
	bool told;
};

/* It is not given up: what the guest wrote would be lost, and the storage may only be slow. */
static void look_at_flush(struct flush_watch *w, struct vm *vm, uint64_t passed)
{
	struct ept_area *area = atomic_load(&vm->stopper.flushing);
	unsigned limit = vm->opt->fault_timeout;
	struct ept_area_info info;

	w->waited = area ? w->waited + passed : 0;
	if (!limit || w->told || w->waited < limit * 1000000000ULL)
		return;
	ept_area_info(area, &info);
	notice("%s: the stop has waited %u s for what the guest wrote to reach %s: its storage is "
	       "slow, or does not answer; mend that, or kill process %d and lose it",
	       vm->opt->name, limit, info.file, getpid());
	w->told = true;
}

bool vm_stop(struct vm *vm, int *unwritten)
{
	struct flush_watch flush = {0};
	struct vm_stopper *s = &vm->stopper;
	uint64_t hung_since = 0, looked = now_ns(), asleep = 0;
	uint64_t limit = vm->opt->fault_timeout * 1000000000ULL;

	atomic_store(&vm->stopping, true);
	if (!s->started && !later_stop(vm)) {
		*unwritten = stop(vm);
		return true;
	}
	pthread_mutex_lock(&s->lock);
	s->wanted = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	while (!wait_a_little(s)) {
		/* Not only what failed the space: another failure may have come first. */
		bool hung = ept_space_check(vm->space);
		uint64_t passed = ept_watched(&looked, now_ns());

		look_at_flush(&flush, vm, passed);
		asleep = in_kernel(vm) ? asleep + passed : 0;
		if (limit && asleep >= limit)
			atomic_store(&vm->stuck, true);
		if (!hung_since && (hung || hangs(vm)))
			hung_since = now_ns();
		if (hung_since && now_ns() - hung_since > HUNG_PATIENCE_NS)
			return false;
	}
	if (s->started)
		pthread_join(s->thread, NULL);
	s->started = false;
	*unwritten = s->result;
	return true;
}
