#include "vmm/snapshot.h"

#include <errno.h>

#include "vmm/vm.h"

static int writes_in_place(const char *what, const char *kind, const struct file_option *file,
			   struct foal_error *err)
{
	if (file->mode != DISK_SHARED)
		return 0;
	return error_set(err, FOAL_EXIT_CONTROL, -EOPNOTSUPP,
			 "no %s: the guest writes %s %s itself (mode=shared), which goes on "
			 "changing; mode=cow keeps what it writes with the VM",
			 what, kind, file->path);
}

int snapshot_possible(const struct run_options *opt, const char *what, struct foal_error *err)
{
	int r = 0;

	for (unsigned i = 0; i < opt->disk_count && r == 0; i++)
		r = writes_in_place(what, "disk", &opt->disks[i], err);
	for (unsigned i = 0; i < opt->pmem_count && r == 0; i++)
		r = writes_in_place(what, "pmem", &opt->pmems[i], err);
	return r;
}

unsigned snapshot_layers(const struct run_options *opt)
{
	unsigned n = 0;

	for (unsigned i = 0; i < opt->disk_count; i++)
		n += opt->disks[i].mode == DISK_COW;
	return n;
}

static void child_writes(struct vm *vm, const void *files, struct ept_fork *memory,
			 const uint8_t *state, size_t len)
{
	(void)memory;
	snapshot_child(vm, files, state, len);
}

int snapshot_begin(struct vm *vm, struct frozen_child *job, const struct snapshot_files *files,
		   struct frozen_pause *out, struct foal_error *err)
{
	const struct frozen_how how = {"snapshot", vm_disks_freeze_passing, child_writes, files};
	int r = snapshot_possible(vm->opt, "snapshot", err);

	*out = (struct frozen_pause){0};
	if (r)
		return r;
	if (!snapshot_reap(vm, job))
		return error_set(err, FOAL_EXIT_CONTROL, -EBUSY,
				 "%s: a snapshot of it is being written; wait until it is there",
				 vm->opt->name);
	return frozen_begin(vm, job, &how, out, err);
}

bool snapshot_reap(struct vm *vm, struct frozen_child *job)
{
	int status;

	if (job->pid == 0)
		return true;
	if (!frozen_ended(job, &status))
		return false;
	ept_space_fork_gone(vm->space, &job->fork);
	if (status == SNAPSHOT_CHILD_FOLDED)
		vm_disks_folded(vm);
	job->pid = 0;
	return true;
}
