/*
 * Disks behind a companion (qcow2, NBD), in forks: each VM has a companion of its own, which the
 * one of its parent starts (devices/nbd/protocol.h), since a VM may start nothing. In the pause
 * one is asked for that the frozen child has, and asks for more: vm->disks[].companion. What was
 * written is in layers above, as of any disk. Private to vmm/.
 */
#ifndef FOAL_VMM_FORK_DISKS_H
#define FOAL_VMM_FORK_DISKS_H

#include <stdbool.h>

#include "vmm/error.h"

struct run_options;
struct vm;

bool fork_disks_behind(const struct run_options *opt);

/* In the pause: freeze them all, and ask for the companions. FOAL_EXIT_CONTROL or _HOST. */
int fork_disks_freeze(struct vm *vm, struct foal_error *err);
/* In the VM that was forked from, when it was: they are the child's. */
void fork_disks_let_go(struct vm *vm);

/*
 * In who forks VMs: ask for those of the next one, MAX_FILES sockets at @out, -1 where there is
 * none. NULL, or why it cannot be.
 */
const char *fork_disks_share(struct vm *vm, int *out);
void fork_disks_none(int *out);
void fork_disks_close(int *out);

/* In the VM: open them, before its devices are made. FOAL_EXIT_DISK. */
int fork_disks_open(struct vm *vm, struct foal_error *err);

#endif
