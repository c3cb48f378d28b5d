/*
 * What a forked VM does without until it is needed: threads that a thousand copies would each
 * have, asleep. foal-fork, who alone may make threads, makes them then, and stops the VM
 * itself. Each is in its own sandbox before it does anything.
 */
#include "vmm/vm.h"

static void ask(struct vm *vm, unsigned what)
{
	struct forker *f = &vm->forker;

	pthread_mutex_lock(&f->lock);
	if (!f->settled) {
		f->later |= what;
		pthread_cond_broadcast(&f->changed);
	}
	pthread_mutex_unlock(&f->lock);
}

bool later_has(const struct vm *vm)
{
	return vm->birth;
}

void later_make(struct vm *vm, enum later what)
{
	if (later_has(vm))
		ask(vm, what);
}

bool later_stop(struct vm *vm)
{
	struct forker *f = &vm->forker;

	if (!later_has(vm) || !f->started)
		return false;
	quiesce_break(vm); /* a fork that pauses the VM gives up */
	ask(vm, LATER_STOP);
	pthread_mutex_lock(&f->lock);
	f->settled = true;
	pthread_mutex_unlock(&f->lock);
	return true;
}

bool later_do(struct vm *vm)
{
	struct forker *f = &vm->forker;
	unsigned what = f->later;

	if (!what)
		return false;
	f->later = 0;
	if (what & LATER_CONTROL)
		control_begin(vm->control);
	pthread_mutex_unlock(&f->lock);
	/* Without it the VM still ends for want of progress, and the line names all files. */
	if (what & LATER_FILES)
		ept_space_watch_files(vm->space);
	if (what & LATER_STOP)
		stopper_run(vm);
	pthread_mutex_lock(&f->lock);
	return true;
}
