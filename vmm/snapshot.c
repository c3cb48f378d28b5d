#include "vmm/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/vm.h"

/* How long memory's own threads may take to come to rest. */
#define HOLD_MS 5000

static int writes_in_place(const char *kind, const struct file_option *file, struct foal_error *err)
{
	if (file->mode != DISK_SHARED)
		return 0;
	return error_set(err, FOAL_EXIT_CONTROL, -EOPNOTSUPP,
			 "no snapshot: the guest writes %s %s itself (mode=shared), which goes on "
			 "changing; mode=cow keeps what it writes in the snapshot",
			 kind, file->path);
}

int snapshot_possible(const struct run_options *opt, struct foal_error *err)
{
	int r = 0;

	for (unsigned i = 0; i < opt->disk_count && r == 0; i++)
		r = writes_in_place("disk", &opt->disks[i], err);
	for (unsigned i = 0; i < opt->pmem_count && r == 0; i++)
		r = writes_in_place("pmem", &opt->pmems[i], err);
	return r;
}

unsigned snapshot_layers(const struct run_options *opt)
{
	unsigned n = 0;

	for (unsigned i = 0; i < opt->disk_count; i++)
		n += opt->disks[i].mode == DISK_COW;
	return n;
}

/* --- while the VM is paused --------------------------------------------------------------- */

static int no_fork(const struct vm *vm, int r, const char *what, struct foal_error *err)
{
	return error_set(err, FOAL_EXIT_CONTROL, r, "%s: no snapshot: %s: %s", vm->opt->name, what,
			 strerror(-r));
}

static int fork_child(struct vm *vm, struct snapshot_job *job, const struct snapshot_files *files,
		      const uint8_t *state, size_t len, struct foal_error *err)
{
	int r = ept_space_hold(vm->space, HOLD_MS);

	if (r)
		return no_fork(vm, r, "guest memory does not come to rest", err);
	r = ept_space_fork_begin(vm->space, &job->fork);
	if (r) {
		ept_space_release(vm->space);
		return no_fork(vm, r, "guest memory", err);
	}
	pid_t pid = fork();
	if (pid == 0)
		snapshot_child(vm, files, state, len);
	r = pid < 0 ? -errno : 0;
	ept_space_fork_parent(vm->space);
	ept_space_release(vm->space);
	if (r) {
		ept_space_fork_gone(vm->space, &job->fork);
		return no_fork(vm, r, "fork", err);
	}
	job->pid = pid;
	return 0;
}

static int freeze(struct vm *vm, struct snapshot_job *job, const struct snapshot_files *files,
		  struct snapshot_pause *out, struct foal_error *err)
{
	uint64_t begun = now_ns();
	uint8_t *state = NULL;
	size_t len = 0;
	int r = vm_state_save(vm, &state, &len, err);

	if (r == 0)
		r = vm_disks_freeze_passing(vm, err);
	out->state = now_ns() - begun;
	if (r == 0)
		r = fork_child(vm, job, files, state, len, err);
	out->fork = now_ns() - begun - out->state;
	free(state);
	return r;
}

/* --- the whole ---------------------------------------------------------------------------- */

int snapshot_begin(struct vm *vm, struct snapshot_job *job, const struct snapshot_files *files,
		   struct snapshot_pause *out, struct foal_error *err)
{
	struct foal_error ignored = {0};
	int r = snapshot_possible(vm->opt, err);

	*out = (struct snapshot_pause){0};
	if (r)
		return r;
	if (!snapshot_reap(vm, job))
		return error_set(err, FOAL_EXIT_CONTROL, -EBUSY,
				 "%s: a snapshot of it is being written; wait until it is there",
				 vm->opt->name);
	r = vm_pause(vm, PAUSE_LIMIT_NS, &out->stopping, err);
	out->was_paused = r == -EALREADY;
	if (r && !out->was_paused)
		return r;
	*err = (struct foal_error){0};
	r = freeze(vm, job, files, out, err);
	/* A VM that ends meanwhile is not paused any more. */
	if (!out->was_paused)
		vm_resume(vm, &out->paused, &ignored);
	return r;
}

bool snapshot_reap(struct vm *vm, struct snapshot_job *job)
{
	siginfo_t info = {0};

	if (job->pid == 0)
		return true;
	if (waitid(P_PID, (id_t)job->pid, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0)
		return false;
	ept_space_fork_gone(vm->space, &job->fork);
	if (info.si_code == CLD_EXITED && info.si_status == SNAPSHOT_CHILD_FOLDED)
		vm_disks_folded(vm);
	job->pid = 0;
	return true;
}
