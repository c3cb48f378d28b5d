#include "tests/ept/fork_rig.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>

#include "ept/fork_threads.h"

void say(int fd)
{
	ck_assert_int_eq(write(fd, "x", 1), 1);
}

bool hear(int fd)
{
	char c;

	return read(fd, &c, 1) == 1;
}

static void name_of(const char *tid, char name[32])
{
	char path[320];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%s/comm", tid);
	f = fopen(path, "re");
	if (!f || !fgets(name, 32, f))
		name[0] = 0; /* it has ended */
	if (f)
		fclose(f);
}

/* Is there a thread that has not named itself yet, as each of a space does first? */
static bool one_begins(void)
{
	char mine[32], name[32], self[16];
	DIR *dir = opendir("/proc/self/task");
	bool begins = false;

	ck_assert_ptr_nonnull(dir);
	snprintf(self, sizeof(self), "%d", gettid());
	name_of(self, mine);
	for (struct dirent *e; (e = readdir(dir));) {
		if (e->d_name[0] == '.' || !strcmp(e->d_name, self))
			continue;
		name_of(e->d_name, name);
		begins |= !strcmp(name, mine);
	}
	closedir(dir);
	return begins;
}

#ifdef __SANITIZE_THREAD__
#	define HAS_NAMELESS_THREAD true /* of its run-time, for good */
#else
#	define HAS_NAMELESS_THREAD false
#endif

/*
 * A thread that begins under AddressSanitizer allocates memory, and a fork just then leaves
 * the child a sanitizer whose lock nobody opens (its fork does not take it before GCC 14).
 */
static void all_have_begun(void)
{
	while (!HAS_NAMELESS_THREAD && one_begins())
		sched_yield();
}

struct pair fork_with(struct vm *vm, const struct ept_swap_file *swap)
{
	struct pair p;
	struct ept_fork f;
	char c;

	ck_assert_int_eq(pipe(p.to_child), 0);
	ck_assert_int_eq(pipe(p.to_parent), 0);
	ck_assert_int_eq(ept_space_hold(vm->space, HOLD_MS), 0);
	ck_assert_int_eq(ept_space_fork_begin(vm->space, &f), 0);
	all_have_begun();
	p.child = fork();
	if (!p.child) {
		int err = ept_space_fork_child(vm->space, &f, swap);

		say(p.to_parent[1]);  /* it has copied the swap file */
		close(p.to_child[1]); /* who waits for a parent that is gone ends */
		ept_use_other_stacks();
		if (!err)
			err = ept_space_fork_start(vm->space, "child");
		if (err)
			dprintf(2, "child: %s\n", strerror(-err));
		child_assert(!err);
		ept_vcpu_bind(vm->space, 0, gettid());
		return p;
	}
	ept_space_fork_parent(vm->space);
	ept_space_release(vm->space);
	ck_assert_int_gt(p.child, 0);
	ck_assert_int_eq(read(p.to_parent[0], &c, 1), 1);
	ept_space_fork_done(vm->space, &f);
	return p;
}

struct pair fork_space(struct vm *vm)
{
	return fork_with(vm, NULL);
}

void make_template(struct vm *vm)
{
	ck_assert_int_eq(ept_space_hold(vm->space, HOLD_MS), 0);
	ck_assert_int_eq(ept_space_template(vm->space), 0);
	ept_space_release(vm->space);
}

_Noreturn void child_ends(struct vm *vm)
{
	ept_space_stop(vm->space);
	child_assert(event_faults(vm->space) == events(vm->space));
	child_assert(!ept_space_failure(vm->space));
	ept_space_destroy(vm->space);
	_exit(0);
}

void join(struct vm *vm, struct pair *p)
{
	int status;

	ck_assert_int_eq(waitpid(p->child, &status, 0), p->child);
	ck_assert_int_eq(status, 0);
	ck_assert_ptr_null(ept_space_failure(vm->space));
	for (int i = 0; i < 2; i++) {
		close(p->to_child[i]);
		close(p->to_parent[i]);
	}
}
