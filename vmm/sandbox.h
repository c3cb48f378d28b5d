/*
 * What a run gives up before its guest's first instruction, so that a guest
 * which breaks out of a device's code finds nothing to take. Each thread gives
 * it up for itself, because privileges, Landlock domains and seccomp filters
 * are a thread's own: no new privileges, no capabilities, no file or socket by
 * name (Landlock), and of system calls only what its kind of thread needs
 * (seccomp(2); the lists are vmm/filters/rules.c). docs/sandbox.md is for
 * users. Private to vmm/.
 */
#ifndef FOAL_VMM_SANDBOX_H
#define FOAL_VMM_SANDBOX_H

#include <stdbool.h>
#include <sys/types.h>

#include "vmm/error.h"
#include "vmm/thread_kinds.h"

struct sandbox {
	bool on;
	bool change_ids; /* to uid and gid, also with the sandbox off */
	uid_t uid;
	gid_t gid;
	int ruleset_fd;	     /* Landlock: everything is handled, nothing allowed; -1: not there */
	int fork_ruleset_fd; /* the same, but that files below /proc may be read */
	bool forked;	     /* by a thread that is in it: what THREAD_FORK gives up is given up */
	pid_t pid;
};

/*
 * Open what sandbox_enter() needs and catch SIGSYS, which is what a filter
 * answers to anything else: one line says who tried what, and the process ends
 * by that signal. @on, @change_ids, @uid and @gid are filled in by the caller.
 * Once, before any thread that enters it.
 */
int sandbox_prepare(struct sandbox *box, struct foal_error *err);

/*
 * The calling thread gives up what its kind does not need; there is no way
 * back, and threads it creates start as it is now. What it needs has to be open.
 */
int sandbox_enter(const struct sandbox *box, enum thread_kind kind, struct foal_error *err);

/* In a process that a THREAD_FORK forked: threads enter what is left to them. */
void sandbox_forked(struct sandbox *box);

void sandbox_close(struct sandbox *box);

/* The Landlock ABI of this kernel; 0: none. */
int sandbox_landlock_abi(void);

/* Whether the kernel takes seccomp filters that trap. */
bool sandbox_seccomp_there(void);

#endif
