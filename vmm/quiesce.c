#include "vmm/quiesce.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "vmm/vm.h"

/* A wait looks this often whether the run ends. */
#define SLICE_NS 20000000ULL

void quiesce_init(struct quiesce *q)
{
	pthread_mutex_init(&q->changing, NULL);
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->parked_one, NULL);
	pthread_cond_init(&q->go, NULL);
}

void quiesce_destroy(struct quiesce *q)
{
	pthread_cond_destroy(&q->go);
	pthread_cond_destroy(&q->parked_one);
	pthread_mutex_destroy(&q->lock);
	pthread_mutex_destroy(&q->changing);
}

/* --- those who are held ------------------------------------------------------------ */

void quiesce_park(struct quiesce *q)
{
	pthread_mutex_lock(&q->lock);
	q->parked++;
	pthread_cond_signal(&q->parked_one);
	while (atomic_load(&q->wanted))
		pthread_cond_wait(&q->go, &q->lock);
	q->parked--;
	pthread_mutex_unlock(&q->lock);
}

bool quiesce_enter(struct quiesce *q)
{
	pthread_mutex_lock(&q->lock);
	if (!atomic_load(&q->wanted))
		return true;
	pthread_mutex_unlock(&q->lock);
	return false;
}

void quiesce_leave(struct quiesce *q)
{
	pthread_mutex_unlock(&q->lock);
}

/* --- the one who holds them; `changing` is held -------------------------------------- */

static uint64_t slice_end(uint64_t deadline)
{
	uint64_t end = now_ns() + SLICE_NS;

	return end < deadline ? end : deadline;
}

static bool goes_on(const struct vm *vm, uint64_t deadline)
{
	return !atomic_load(&vm->stopping) && now_ns() < deadline;
}

static bool begin(struct vm *vm)
{
	struct quiesce *q = &vm->quiesce;
	bool ended;

	pthread_mutex_lock(&q->lock);
	ended = q->ended || atomic_load(&vm->stopping);
	if (!ended) {
		q->since = now_ns();
		atomic_store(&q->wanted, true);
	}
	pthread_mutex_unlock(&q->lock);
	return !ended;
}

/* True: all of them wait, but @self (NULL: all), whose thread this is. */
static bool park_vcpus(struct vm *vm, const struct vcpu *self, uint64_t deadline)
{
	struct quiesce *q = &vm->quiesce;
	unsigned wanted = vm->vcpu_count - (self != NULL);
	bool all;

	for (unsigned i = 0; i < vm->vcpu_count; i++)
		if (&vm->vcpus[i] != self)
			vcpu_kick(&vm->vcpus[i]);
	pthread_mutex_lock(&q->lock);
	while (!(all = q->parked == wanted) && goes_on(vm, deadline)) {
		uint64_t end = slice_end(deadline);
		struct timespec until = {(time_t)(end / 1000000000u), (long)(end % 1000000000u)};
		pthread_cond_clockwait(&q->parked_one, &q->lock, CLOCK_MONOTONIC, &until);
	}
	pthread_mutex_unlock(&q->lock);
	return all;
}

/* NULL: they are at rest; or one that is not. */
static struct device *hold_devices(struct vm *vm, uint64_t deadline)
{
	struct bus *buses[] = {vm->pio, vm->mmio};
	struct device *busy = NULL;

	for (int i = 0; i < 2; i++) {
		do
			busy = bus_hold(buses[i], slice_end(deadline));
		while (busy && goes_on(vm, deadline));
		if (busy)
			break;
	}
	return busy;
}

static void let_go(struct vm *vm)
{
	struct quiesce *q = &vm->quiesce;

	atomic_store(&q->paused_since, 0);
	bus_release(vm->pio);
	bus_release(vm->mmio);
	pthread_mutex_lock(&q->lock);
	atomic_store(&q->wanted, false);
	pthread_cond_broadcast(&q->go);
	pthread_mutex_unlock(&q->lock);
}

/* --- what a pause waited for ---------------------------------------------------------- */

/* The first that is still in KVM_RUN, or else at a device. */
static void describe_vcpus(const struct vm *vm, char *text, size_t size)
{
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		if (atomic_load_explicit(&vm->vcpus[i].rounds, memory_order_relaxed) % 2) {
			snprintf(
			    text, size,
			    "vCPU %u has not left the host's kernel, which waits for a page of "
			    "guest memory",
			    i);
			return;
		}
	}
	snprintf(
	    text, size,
	    "a vCPU waits for a device: does nobody read the console that foal run prints on?");
}

static void describe_device(const struct vm *vm, struct device *busy, char *text, size_t size)
{
	for (unsigned i = 0; i < vm->opt->disk_count; i++) {
		if (vm->disks[i].device == busy) {
			snprintf(text, size, "a request of disk %.200s is not finished",
				 vm->opt->disks[i].path);
			return;
		}
	}
	snprintf(text, size, "a request of a %s device is not finished", device_kind(busy));
}

static int fail(struct vm *vm, struct device *busy, uint64_t limit, struct foal_error *err)
{
	char what[280];

	if (atomic_load(&vm->stopping))
		return error_set(err, FOAL_EXIT_CONTROL, -ESHUTDOWN, "%s: the VM is ending",
				 vm->opt->name);
	if (busy)
		describe_device(vm, busy, what, sizeof(what));
	else
		describe_vcpus(vm, what, sizeof(what));
	return error_set(err, FOAL_EXIT_CONTROL, -ETIMEDOUT,
			 "%s: not paused within %llu ms, the guest goes on: %s", vm->opt->name,
			 (unsigned long long)(limit / 1000000), what);
}

/* --- pause and resume ------------------------------------------------------------------- */

static int pause_now(struct vm *vm, const struct vcpu *self, uint64_t limit, uint64_t *took,
		     struct foal_error *err)
{
	struct quiesce *q = &vm->quiesce;
	struct device *busy = NULL;

	if (atomic_load(&q->paused_since))
		return error_set(err, FOAL_EXIT_CONTROL, -EALREADY, "%s: the VM is paused already",
				 vm->opt->name);
	if (!begin(vm))
		return fail(vm, NULL, limit, err);
	uint64_t deadline = q->since + limit;
	if (!park_vcpus(vm, self, deadline) || (busy = hold_devices(vm, deadline)) != NULL) {
		let_go(vm);
		return fail(vm, busy, limit, err);
	}
	*took = now_ns() - q->since;
	atomic_store(&q->paused_since, q->since);
	return 0;
}

int vm_pause(struct vm *vm, uint64_t limit, uint64_t *took, struct foal_error *err)
{
	*took = 0;
	pthread_mutex_lock(&vm->quiesce.changing);
	int r = pause_now(vm, NULL, limit, took, err);
	pthread_mutex_unlock(&vm->quiesce.changing);
	return r;
}

static uint64_t resume_now(struct vm *vm)
{
	struct quiesce *q = &vm->quiesce;
	uint64_t since = atomic_load(&q->paused_since);

	let_go(vm);
	uint64_t paused = now_ns() - since;
	q->pauses++;
	q->paused_ns += paused;
	return paused;
}

/* Whoever has `changing` may wait for this vCPU to park: it must not wait for them. */
int vm_pause_by_vcpu(struct vcpu *self, struct foal_error *err)
{
	struct vm *vm = self->vm;
	uint64_t took;

	if (pthread_mutex_trylock(&vm->quiesce.changing))
		return -EAGAIN;
	int r = quiesce_wanted(&vm->quiesce) ? -EAGAIN
					     : pause_now(vm, self, PAUSE_LIMIT_NS, &took, err);
	if (r)
		pthread_mutex_unlock(&vm->quiesce.changing);
	return r;
}

void vm_resume_by_vcpu(struct vcpu *self)
{
	resume_now(self->vm);
	pthread_mutex_unlock(&self->vm->quiesce.changing);
}

int vm_resume(struct vm *vm, uint64_t *paused, struct foal_error *err)
{
	struct quiesce *q = &vm->quiesce;
	int r = 0;

	pthread_mutex_lock(&q->changing);
	uint64_t since = atomic_load(&q->paused_since);
	if (since) {
		*paused = resume_now(vm);
	} else {
		*paused = 0;
		r = error_set(err, FOAL_EXIT_CONTROL, -EINVAL, "%s: the VM is not paused",
			      vm->opt->name);
	}
	pthread_mutex_unlock(&q->changing);
	return r;
}

uint64_t vm_paused_for(struct vm *vm)
{
	uint64_t since = atomic_load(&vm->quiesce.paused_since);

	return since ? now_ns() - since : 0;
}

/* Devices stay held: they are stopped next, and find nothing to do. */
void quiesce_break(struct vm *vm)
{
	struct quiesce *q = &vm->quiesce;

	pthread_mutex_lock(&q->lock);
	q->ended = true;
	atomic_store(&q->wanted, false);
	pthread_cond_broadcast(&q->go);
	pthread_cond_broadcast(&q->parked_one);
	pthread_mutex_unlock(&q->lock);
}

void quiesce_end(struct vm *vm)
{
	struct quiesce *q = &vm->quiesce;

	quiesce_break(vm);
	/* A pause that was under way sees that the run ends. */
	pthread_mutex_lock(&q->changing);
	atomic_store(&q->paused_since, 0);
	pthread_mutex_unlock(&q->changing);
}
