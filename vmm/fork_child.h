/* What processes that were forked from a VM do alike (fork_child.c, template.c). Private to vmm/.
 */
#ifndef FOAL_VMM_FORK_CHILD_H
#define FOAL_VMM_FORK_CHILD_H

#include <jansson.h>

#include "vmm/fork.h"

/* A message: the name of a VM to be, and what comes with it. */
struct order {
	char name[VM_NAME_SIZE];
	int files[FORK_FILES];
	unsigned count;
};

/*
 * False: nothing comes any more, or not within *@left_ms (NULL: for ever), of which what it waited
 * is taken.
 */
bool receive_order(int channel, struct order *order, int *left_ms);
bool well_formed(const struct order *order, const struct fork_request *request);
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
/* Of the parent's struct, what stays; the rest is as of a VM that is to be built. */
void begin_anew(struct vm *vm, struct fork_birth *birth, int swap_fd);

/*
 * Memory is this process's own: be the VM, to its end. @order NULL: it hears its name by
 * birth->await_fd, and runs then.
 */
_Noreturn void become_vm(struct vm *vm, struct fork_birth *birth, const struct order *order,
			 int channel);

#endif
