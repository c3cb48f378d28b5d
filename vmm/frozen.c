#include "vmm/frozen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/vm.h"

/* How long memory's own threads may take to come to rest. */
#define HOLD_MS 5000

static int no_child(const struct vm *vm, const struct frozen_how *how, int r, const char *what,
		    struct foal_error *err)
{
	return error_set(err, FOAL_EXIT_CONTROL, r, "%s: no %s: %s: %s", vm->opt->name, how->what,
			 what, strerror(-r));
}

static int fork_child(struct vm *vm, struct frozen_child *child, const struct frozen_how *how,
		      const uint8_t *state, size_t len, struct foal_error *err)
{
	int r = ept_space_hold(vm->space, HOLD_MS);

	if (r)
		return no_child(vm, how, r, "guest memory does not come to rest", err);
	r = ept_space_fork_begin(vm->space, &child->fork);
	if (r) {
		ept_space_release(vm->space);
		return no_child(vm, how, r, "guest memory", err);
	}
	pid_t pid = fork();
	if (pid == 0)
		how->run(vm, how->arg, &child->fork, state, len);
	r = pid < 0 ? -errno : 0;
	ept_space_fork_parent(vm->space);
	ept_space_release(vm->space);
	if (r) {
		ept_space_fork_gone(vm->space, &child->fork);
		return no_child(vm, how, r, "fork", err);
	}
	child->pid = pid;
	return 0;
}

static int freeze(struct vm *vm, struct frozen_child *child, const struct frozen_how *how,
		  struct frozen_pause *out, struct foal_error *err)
{
	uint64_t begun = now_ns();
	uint8_t *state = NULL;
	size_t len = 0;
	int r = vm_state_save(vm, &state, &len, err);

	if (r == 0)
		r = how->freeze_disks(vm, err);
	out->state = now_ns() - begun;
	if (r == 0)
		r = fork_child(vm, child, how, state, len, err);
	out->fork = now_ns() - begun - out->state;
	free(state);
	return r;
}

int frozen_begin(struct vm *vm, struct frozen_child *child, const struct frozen_how *how,
		 struct frozen_pause *out, struct foal_error *err)
{
	struct foal_error ignored = {0};
	int r = vm_pause(vm, PAUSE_LIMIT_NS, &out->stopping, err);

	out->was_paused = r == -EALREADY;
	if (r && !out->was_paused)
		return r;
	*err = (struct foal_error){0};
	r = freeze(vm, child, how, out, err);
	/* A VM that ends meanwhile is not paused any more. */
	if (!out->was_paused)
		vm_resume(vm, &out->paused, &ignored);
	return r;
}

bool frozen_ended(const struct frozen_child *child, int *status)
{
	siginfo_t info = {0};

	if (waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0)
		return false;
	*status = info.si_code == CLD_EXITED ? info.si_status : -1;
	return true;
}

void frozen_say(json_t *reply, const struct frozen_pause *pause)
{
	json_object_set_new(reply, "was_paused", json_boolean(pause->was_paused));
	json_object_set_new(reply, "paused_ns", json_integer((json_int_t)pause->paused));
	json_object_set_new(reply, "stop_ns", json_integer((json_int_t)pause->stopping));
	json_object_set_new(reply, "state_ns", json_integer((json_int_t)pause->state));
	json_object_set_new(reply, "fork_ns", json_integer((json_int_t)pause->fork));
}
