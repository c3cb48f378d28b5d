/*
 * A child that stays what the VM was in a pause: the VM stands still while its state is taken
 * and its process forked, and goes on. What a snapshot and a fork begin with. Private to vmm/.
 */
#ifndef FOAL_VMM_FROZEN_H
#define FOAL_VMM_FROZEN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ept/ept.h"
#include "vmm/error.h"

struct vm;

/* Of one thread at a time. */
struct frozen_child {
	pid_t pid; /* 0: none */
	struct ept_fork fork;
};

struct frozen_pause {
	bool was_paused;			/* by who paused it before: it still is */
	uint64_t paused, stopping, state, fork; /* ns: how long in all, and of it for what */
};

struct frozen_how {
	const char *what; /* "snapshot": for messages */
	int (*freeze_disks)(struct vm *vm, struct foal_error *err);
	/* In the child, which does not return from it. @state is the VM's. */
	void (*run)(struct vm *vm, const void *arg, struct ept_fork *memory, const uint8_t *state,
		    size_t len);
	const void *arg;
};

/*
 * Pause @vm, take its state, fork @child, resume, unless it was paused before. What was
 * forked is given back by ept_space_fork_done() or _gone(). FOAL_EXIT_CONTROL.
 */
int frozen_begin(struct vm *vm, struct frozen_child *child, const struct frozen_how *how,
		 struct frozen_pause *out, struct foal_error *err);

/* It has ended: *@status is its exit status, -1: a signal's. Asked for once. */
bool frozen_ended(const struct frozen_child *child, int *status);

/*
 * One that is done is gone soon, but for what its host does meanwhile: wait for it to be reaped,
 * @ms at most.
 */
void frozen_reap_soon(struct vm *vm, struct frozen_child *child,
		      bool (*reap)(struct vm *vm, struct frozen_child *child), int ms);

/* Add @pause to @reply (docs/control.md), and return that. */
json_t *frozen_say(json_t *reply, const struct frozen_pause *pause);

#endif
