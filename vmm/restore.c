#include "vmm/restore.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ept/snapshot.h"
#include "vmm/snapshot_dir.h"
#include "vmm/vm.h"

int restore_memory(struct vm *vm, struct foal_error *err)
{
	const struct vm_restore *from = vm->restore;
	char why[300] = "out of memory";
	struct ept_snapshot *layers[1 + SNAPSHOT_CHAIN_MAX] = {from->memory};
	unsigned n = 1 + snapshot_dir_memory(from->below, layers + 1);
	int r = ept_space_restore(vm->space, layers, n, why, sizeof(why));

	if (r == 0 && from->all)
		r = ept_space_prefetch_all(vm->space);
	else if (r == 0 && from->ahead)
		r = ept_space_prefetch(vm->space, from->ahead);
	else if (r == 0 && from->record_fd < 0)
		r = ept_space_prefetch_rest(vm->space);
	if (r == 0 && from->record_fd >= 0)
		r = ept_space_record(vm->space);
	return r ? error_set(err, FOAL_EXIT_SNAPSHOT, r, "%s: %s", vm->opt->name, why) : 0;
}

int restore_wait(struct vm *vm, struct foal_error *err)
{
	unsigned limit = vm->opt->fault_timeout;
	int r =
	    vm->restore->eager && vm->restore->all ? ept_space_prefetch_wait(vm->space, limit) : 0;
	const struct ept_failure *failure = ept_space_failure(vm->space);

	if (r == 0)
		return 0;
	if (r == -ETIMEDOUT) {
		vm->abandoned = true; /* its threads sleep in the host's kernel */
		return error_set(err, FOAL_EXIT_STUCK, r,
				 "%s: nothing of %s came for %u s; ended without waiting for what "
				 "hangs",
				 vm->opt->name, vm->restore->path ? vm->restore->path : "it",
				 limit);
	}
	return error_set(err, FOAL_EXIT_SNAPSHOT, r, "%s",
			 failure
			     ? failure->message
			     : "its memory is damaged, or cannot be read; foal verify says where");
}

int restore_identity(struct vm *vm, struct foal_error *err)
{
	int r = vmgenid_renew(&vm->host, NULL);
	const struct ept_failure *failure = ept_space_failure(vm->space);

	if (r && failure)
		return error_set(err, FOAL_EXIT_SNAPSHOT, r, "%s", failure->message);
	return r ? error_set(err, r == -EBADMSG ? FOAL_EXIT_SNAPSHOT : FOAL_EXIT_HOST, r,
			     "%s: VM generation ID: %s", vm->opt->name, strerror(-r))
		 : 0;
}

/* Never needed for being right: what cannot be written is left. */
void restore_record(struct vm *vm)
{
	const struct vm_restore *from = vm->restore;
	uint8_t id[16], parent[16];

	if (!from || !from->memory || from->record_fd < 0)
		return;
	ept_snapshot_ids(from->memory, id, parent);
	if (ept_working_set_save(vm->space, id, from->record_fd) < 0)
		return;
}
