#include "vmm/fork.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/fork_disks.h"
#include "vmm/snapshot.h"
#include "vmm/template.h"
#include "vmm/vm.h"

/* --- what cannot be ------------------------------------------------------------------------ */

static int cannot(struct foal_error *err, const char *what, const char *which, const char *why)
{
	return error_set(err, FOAL_EXIT_CONTROL, -EOPNOTSUPP, "no fork: %s %s: %s", what, which,
			 why);
}

static int check_files(const struct run_options *opt, struct foal_error *err)
{
	static const char why[] = "the guest writes it itself (mode=shared), and so would the "
				  "other VM; mode=cow gives each its own";

	for (unsigned i = 0; i < opt->disk_count; i++)
		if (opt->disks[i].mode == DISK_SHARED)
			return cannot(err, "disk", opt->disks[i].path, why);
	for (unsigned i = 0; i < opt->pmem_count; i++)
		if (opt->pmems[i].mode == DISK_SHARED)
			return cannot(err, "pmem", opt->pmems[i].path, why);
	return 0;
}

int fork_possible(const struct vm *vm, const struct fork_request *request, struct foal_error *err)
{
	const struct run_options *opt = vm->opt;
	int r = check_files(opt, err);

	if (r == 0 && !request->template)
		r = ends_possible(opt, &request->ends, err);
	if (r == 0 && opt->limit.swap && !request->has_swap)
		r = cannot(err, "--swap", opt->limit.swap,
			   "each VM needs a swap file of its own; foal fork --swap FILE");
	if (r == 0 && !opt->limit.swap && request->has_swap)
		r = error_set(err, FOAL_EXIT_CONTROL, -EOPNOTSUPP,
			      "no fork: --swap: the VM itself has no swap file");
	if (r == 0 && opt->limit.bytes && request->template)
		r = error_set(err, FOAL_EXIT_CONTROL, -EOPNOTSUPP,
			      "no template: --memory-limit: a template has all of its memory at "
			      "hand, and its clones share it");
	return r;
}

static void child_forks(struct vm *vm, const void *request, struct ept_fork *memory,
			const uint8_t *state, size_t len)
{
	fork_frozen(vm, request, memory, state, len);
}

/* --- the thread ------------------------------------------------------------------------------- */

static void *fork_thread(void *arg)
{
	struct vm *vm = arg;
	struct forker *f = &vm->forker;

	pthread_setname_np(pthread_self(), "foal-fork");
	vm_thread_begins(vm, THREAD_FORK);
	if (fork_made_ahead(vm))
		template_await(vm);
	fork_trim_stack(vm);
	pthread_mutex_lock(&f->lock);
	while (!f->ending) {
		if (later_do(vm))
			continue;
		if (!f->wanted) {
			pthread_cond_wait(&f->changed, &f->lock);
			continue;
		}
		f->wanted = false;
		pthread_mutex_unlock(&f->lock);
		const struct frozen_how how = {"fork", fork_disks_freeze, child_forks, f->request};
		int r = frozen_begin(vm, f->job, &how, f->pause, f->err);
		fork_disks_let_go(vm);
		pthread_mutex_lock(&f->lock);
		f->result = r;
		f->done = true;
		pthread_cond_broadcast(&f->changed);
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

bool fork_made_ahead(const struct vm *vm)
{
	return vm->birth && vm->birth->ahead;
}

void forker_init(struct vm *vm)
{
	pthread_mutex_init(&vm->forker.lock, NULL);
	pthread_cond_init(&vm->forker.changed, NULL);
}

int forker_start(struct vm *vm)
{
	if (!vm->control)
		return 0;
	vm_thread_expected(vm);
	if (fork_made_ahead(vm))
		gate_expect(&vm->confined); /* until its name has come */
	int r = vm_thread_create(&vm->forker.thread, fork_thread, vm, 0);
	vm->forker.started = r == 0;
	return r;
}

void forker_end(struct vm *vm)
{
	struct forker *f = &vm->forker;

	if (f->started) {
		pthread_mutex_lock(&f->lock);
		f->ending = true;
		pthread_cond_broadcast(&f->changed);
		pthread_mutex_unlock(&f->lock);
		pthread_join(f->thread, NULL);
		f->started = false;
	}
	pthread_cond_destroy(&f->changed);
	pthread_mutex_destroy(&f->lock);
}

int fork_begin(struct vm *vm, struct frozen_child *job, const struct fork_request *request,
	       struct frozen_pause *out, struct foal_error *err)
{
	struct forker *f = &vm->forker;
	int r;

	*out = (struct frozen_pause){0};
	if (!fork_reap(vm, job))
		return error_set(err, FOAL_EXIT_CONTROL, -EBUSY,
				 "%s: it is being forked already; wait until that is done",
				 vm->opt->name);
	pthread_mutex_lock(&f->lock);
	f->request = request;
	f->job = job;
	f->pause = out;
	f->err = err;
	f->done = false;
	f->wanted = true;
	pthread_cond_broadcast(&f->changed);
	while (!f->done)
		pthread_cond_wait(&f->changed, &f->lock);
	r = f->result;
	pthread_mutex_unlock(&f->lock);
	return r;
}

bool fork_reap(struct vm *vm, struct frozen_child *job)
{
	int status;

	if (job->pid == 0)
		return true;
	if (!frozen_ended(job, &status))
		return false;
	ept_space_fork_done(vm->space, &job->fork);
	job->pid = 0;
	return true;
}
