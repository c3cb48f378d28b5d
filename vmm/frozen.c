#include "vmm/frozen.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/vm.h"

/* How long memory's own threads may take to come to rest. */
#define HOLD_MS 5000
/* More than the state of most VMs takes while it is made. */
#define ROOM	(64UL << 10)

/*
 * The child begins when the VM goes on: until then it would take processors, and the locks
 * of memory, from it. A pipe of which the parent's end is closed then, or by its death.
 */
struct latch {
	int ends[2]; /* -1: none, it begins at once */
};

static void latch_make(struct latch *latch)
{
	if (pipe2(latch->ends, O_CLOEXEC))
		latch->ends[0] = latch->ends[1] = -1;
}

static void latch_shut(const struct latch *latch)
{
	for (int i = 0; i < 2; i++)
		if (latch->ends[i] >= 0)
			close(latch->ends[i]);
}

/* In the child. */
static void latch_pass(const struct latch *latch)
{
	char byte;

	if (latch->ends[0] < 0)
		return;
	close(latch->ends[1]);
	while (read(latch->ends[0], &byte, 1) < 0 && errno == EINTR)
		;
	close(latch->ends[0]);
}

/* What of this program runs for the first time in the pause is mapped before (Linux 5.14). */
static void make_text_ready(void)
{
	extern char __executable_start[], etext[];
	uintptr_t at = (uintptr_t)__executable_start & ~(uintptr_t)(EPT_PAGE_SIZE - 1);

	madvise((void *)at, (uintptr_t)etext - at, MADV_POPULATE_READ);
}

/* What allocates in the pause finds memory that is there. */
static void make_room(void)
{
	char *room = malloc(ROOM);

	if (room)
		explicit_bzero(room, ROOM); /* which no compiler leaves out */
	free(room);
}

struct state_bytes {
	uint8_t *bytes;
	size_t len;
};

static int no_child(const struct vm *vm, const struct frozen_how *how, int r, const char *what,
		    struct foal_error *err)
{
	return error_set(err, FOAL_EXIT_CONTROL, r, "%s: no %s: %s: %s", vm->opt->name, how->what,
			 what, error_text(r));
}

/* A VM that ends meanwhile is not paused any more. */
static void go_on(struct vm *vm, struct frozen_pause *out)
{
	struct foal_error ignored = {0};

	if (!out->was_paused && !out->paused)
		vm_resume(vm, &out->paused, &ignored);
}

/* The guest goes on before memory does: what it faults on waits that long, and nothing else. */
static int fork_child(struct vm *vm, struct frozen_child *child, const struct frozen_how *how,
		      const struct latch *latch, struct frozen_pause *out, struct state_bytes s,
		      struct foal_error *err)
{
	uint64_t begun = now_ns();
	int r = ept_space_hold(vm->space, HOLD_MS);

	if (r)
		return no_child(vm, how, r, "guest memory does not come to rest", err);
	r = ept_space_fork_begin(vm->space, &child->fork);
	if (r) {
		ept_space_release(vm->space);
		return no_child(vm, how, r, "guest memory", err);
	}
	pid_t pid = fork();
	if (pid == 0) {
		latch_pass(latch);
		how->run(vm, how->arg, &child->fork, s.bytes, s.len);
	}
	r = pid < 0 ? -errno : 0;
	out->fork = now_ns() - begun;
	go_on(vm, out);
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
		  const struct latch *latch, struct frozen_pause *out, struct foal_error *err)
{
	struct state_bytes state = {0};
	uint64_t begun = now_ns();
	int r = vm_state_save(vm, &state.bytes, &state.len, err);

	if (r == 0)
		r = how->freeze_disks(vm, err);
	out->state = now_ns() - begun;
	if (r == 0)
		r = fork_child(vm, child, how, latch, out, state, err);
	free(state.bytes);
	return r;
}

int frozen_begin(struct vm *vm, struct frozen_child *child, const struct frozen_how *how,
		 struct frozen_pause *out, struct foal_error *err)
{
	struct latch latch;
	int r;

	make_text_ready();
	make_room();
	latch_make(&latch);
	r = vm_pause(vm, PAUSE_LIMIT_NS, &out->stopping, err);
	out->was_paused = r == -EALREADY;
	if (r == 0 || out->was_paused) {
		*err = (struct foal_error){0};
		r = freeze(vm, child, how, &latch, out, err);
		go_on(vm, out);
	}
	latch_shut(&latch);
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

json_t *frozen_say(json_t *reply, const struct frozen_pause *pause)
{
	json_object_set_new(reply, "was_paused", json_boolean(pause->was_paused));
	json_object_set_new(reply, "paused_ns", json_integer((json_int_t)pause->paused));
	json_object_set_new(reply, "stop_ns", json_integer((json_int_t)pause->stopping));
	json_object_set_new(reply, "state_ns", json_integer((json_int_t)pause->state));
	json_object_set_new(reply, "fork_ns", json_integer((json_int_t)pause->fork));
	return reply;
}

void frozen_reap_soon(struct vm *vm, struct frozen_child *child,
		      bool (*reap)(struct vm *vm, struct frozen_child *child), int ms)
{
	for (; !reap(vm, child) && ms > 0; ms--)
		poll(NULL, 0, 1);
}
