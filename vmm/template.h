/*
 * A template (docs/fork.md): a frozen child of a VM that stays. It has one thread, no KVM VM, and
 * memory that never changes (ept_space_template()); it serves a control socket and forks clones.
 * Some are forked ahead, the pool: each has built its VM, loaded the state and started its
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
};

struct template
{
	struct fork_birth *birth;
	struct pooled pool[FORK_POOL_MAX];
	unsigned ready, wanted; /* of the pool: how many are there, and are to be */
	unsigned children;	/* not reaped yet */
};

/* In the frozen child: be the template of the one order that comes. */
_Noreturn void template_serve(struct vm *vm, const struct fork_request *request,
			      struct fork_birth *birth, struct ept_fork *memory);

/* Clone what @request asks for. NULL, or what is wrong. */
const char *template_clone(struct vm *vm, const struct fork_request *request);

/* Between requests: reap, make one ready. True: there is more to do at once. */
bool template_tend(struct vm *vm);
/* Is there something to look at from time to time, or at once? */
bool template_idle(const struct vm *vm);
bool template_hungry(const struct vm *vm);

/* In a clone of the pool, by the thread that forks: wait for its name, take it, or end. */
void template_await(struct vm *vm);

#endif
