/*
 * A template (docs/fork.md): what a VM's frozen child forked, and stays. It has one thread, no KVM
 * VM, and memory that never changes (ept_space_template()); it serves a control socket and forks
 * clones. Some are forked ahead, the pool: each has built its VM, loaded the state and started its
 * threads, and waits for its name. Private to vmm/.
 */
#ifndef FOAL_VMM_TEMPLATE_H
#define FOAL_VMM_TEMPLATE_H

#include <jansson.h>

#include "vmm/fork.h"

struct control;

/* A clone that waits: hanging up ends it. */
struct pooled {
	int fd;
	pid_t pid;
};

struct template
{
	struct fork_birth *birth;
	struct pooled pool[FORK_POOL_MAX];
	unsigned ready, wanted; /* of the pool: how many are there, and are to be */
	unsigned children;	/* not reaped yet */
	uint64_t not_before;	/* now_ns() when the next is to be made: one could not be */
	int asked_by;		/* the channel of who asked for it, until it was told; -1 */
};

/*
 * In a child of the frozen one: be the template of the one order that comes. @adopted is closed
 * when memory is its own.
 */
_Noreturn void template_serve(struct vm *vm, const struct fork_request *request,
			      struct fork_birth *birth, struct ept_fork *memory, int adopted);

/*
 * Clone what @request asks for; its channel hears of each, and of what is wrong. First one whose
 * name is there already: returns how many need nothing more. Then the others, as their names come.
 */
unsigned template_clone_first(struct vm *vm, const struct fork_request *request);
void template_clone_rest(struct vm *vm, const struct fork_request *request, unsigned begun);

/* Between requests: reap, make one ready. True: there is more to do at once. */
bool template_tend(struct vm *vm);
/* Milliseconds until that is to be called again; -1: nothing is to come. */
int template_timeout(const struct vm *vm);

/*
 * In a clone of the pool, by the thread that forks: wait for its name, take it and arrive at
 * vm->confined, or end.
 */
void template_await(struct vm *vm);
/* Its name is there, on the thread that heeds it, which has not heard of it yet. */
bool template_asked(const struct vm *vm);
/*
 * Meanwhile by the first vCPU's thread, so that it need not be woken once more: its clocks and
 * timers went on while it waited for the same message, and go back. As vm_state_load_clocks().
 */
int template_heed(struct vm *vm, struct foal_error *err);

#endif
