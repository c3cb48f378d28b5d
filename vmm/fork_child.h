/* What processes that were forked from a VM do alike (fork_child.c, template.c). Private to vmm/.
 */
#ifndef FOAL_VMM_FORK_CHILD_H
#define FOAL_VMM_FORK_CHILD_H

#include <jansson.h>

#include "vmm/fork.h"

/* A message: the name of a VM to be, and what comes with it. */
struct order {
	char text[FORK_MESSAGE + 1];
	char name[VM_NAME_SIZE];
	int files[FORK_FILES_MAX];
	unsigned count;
	struct ends ends;     /* once it is well formed; of its descriptors */
	int disks[MAX_FILES]; /* fork_disks.h; -1: not behind a companion */
};

/*
 * False: nothing comes any more, or not within *@left_ms (NULL: for ever), of which what it waited
 * is taken.
 */
bool receive_order(int channel, struct order *order, int *left_ms);
/*
 * NULL: it is what @request announced, and each file is what it is passed as; takes @order->ends
 * from it. Else what is wrong, for tell_fault().
 */
const char *order_fault(struct order *order, const struct fork_request *request);
void tell_fault(int channel, const struct order *order, const char *fault);
void close_order(struct order *order);

/* Send @message, which is used up. Who asked may be slow, but is not waited for for ever. -EPIPE.
 */
int fork_say(int channel, json_t *message);
int tell_failure(int channel, const char *name, const char *why);

/* A session and signals as a VM in the background has them; the second: standard descriptors, too.
 */
void become_process(void);
void become_background(const struct order *order);

/* What the parent was told to run it as that does not hold for it. */
void own_options(struct fork_birth *birth, const struct run_options *parents, const char *name);
/* What a VM that is not made ahead has of its own; after begin_anew(). */
void take_ends(struct vm *vm, struct fork_birth *birth, const struct order *order);
/* Of the parent's struct, what stays; the rest is as of a VM that is to be built. */
void begin_anew(struct vm *vm, struct fork_birth *birth, int swap_fd);

/*
 * Memory is this process's own: be the VM, to its end. @order NULL: it hears its name by
 * birth->await_fd, and runs then.
 */
_Noreturn void become_vm(struct vm *vm, struct fork_birth *birth, const struct order *order,
			 int channel);

#endif
