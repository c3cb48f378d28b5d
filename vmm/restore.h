/* What a restored VM has beside its state: memory from a snapshot, a new identity. Private to vmm/.
 */
#ifndef FOAL_VMM_RESTORE_H
#define FOAL_VMM_RESTORE_H

#include "vmm/error.h"

struct vm;

/* vm->restore->memory becomes the memory of the areas that were declared. FOAL_EXIT_SNAPSHOT. */
int restore_memory(struct vm *vm, struct foal_error *err);

/* Of a VM whose memory was started: wait until all of it is there, if it is to be. */
int restore_wait(struct vm *vm, struct foal_error *err);

/* It may be one of several copies: a new VM generation ID, which vm_start() tells it of. */
int restore_identity(struct vm *vm, struct foal_error *err);

/* The run has ended: keep what it asked for, in which order, for the next restore. */
void restore_record(struct vm *vm);

#endif
