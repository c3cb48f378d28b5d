/*
 * The directory where the VMs of one user that have a name are found by it:
 *
 *   NAME.lock   held (flock) by the VM's process for as long as it lives: what says
 *               whether the name is taken
 *   NAME.sock   its control socket (docs/control.md)
 *   NAME.log    of a VM in the background: its standard error
 *
 * A process that was killed leaves the files and lets go of the lock; the next that
 * wants the name, or that lists VMs, clears them away. Private to vmm/.
 */
#ifndef FOAL_VMM_RUN_DIR_H
#define FOAL_VMM_RUN_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#include "vmm/error.h"

#define VM_NAME_SIZE 64 /* with its end */

/* Letters, digits, '-', '_' and '.', the first a letter or a digit; NULL, or what to give. */
const char *vm_name_fault(const char *name);

struct run_dir {
	int fd; /* negative: not open */
	char path[256];
};

/*
 * Open it: @given, or $FOAL_RUN_DIR, or $XDG_RUNTIME_DIR/foal, or for root /run/foal,
 * or /tmp/foal-UID. @make: as a home for VMs of this user, made if it is not there (mode
 * 0700); refused if it is another's or open to others. Without @make, root may look at
 * another user's. -ENOENT without @make, @err untouched: there is none.
 */
int run_dir_open(struct run_dir *dir, const char *given, bool make, struct foal_error *err);
void run_dir_close(struct run_dir *dir);

/*
 * Take @name for this process and the children it forks: *@lock is to stay open as long.
 * What another left of it is cleared away. FOAL_EXIT_NAME in @err: it is taken.
 */
int name_claim(const struct run_dir *dir, const char *name, int *lock, struct foal_error *err);

/*
 * The same for another process, which it is passed to, without waiting for one that just ends:
 * -EEXIST, @err untouched: it is taken.
 */
int name_try_claim(const struct run_dir *dir, const char *name, int *lock, struct foal_error *err);

/* Its files are the directory's owner's: who claims for a process of another user is root. */
void name_hand_over(const struct run_dir *dir, const char *name);

/* A listening socket for the name that was claimed; negative: @err is filled. */
int name_listen(const struct run_dir *dir, const char *name, struct foal_error *err);

/* An empty log of it, or a negative errno. */
int name_log(const struct run_dir *dir, const char *name);

/*
 * A connection to @name's VM; -ENOENT or -ECONNREFUSED: nobody is there. -EAGAIN: as many as have
 * room wait to be let in. Does not wait.
 */
int name_connect(const struct run_dir *dir, const char *name);

/* Is there a log of a VM of this name, running or not? */
bool name_has_log(const struct run_dir *dir, const char *name);

/* Clear away what a VM that is gone left, but for its log. False: it is not gone. */
bool name_tidy(const struct run_dir *dir, const char *name);

/* Which VM has the name: each makes its socket anew. */
struct name_mark {
	ino_t inode;
	struct timespec made;
};

/* That of now. */
void name_mark(const struct run_dir *dir, const char *name, struct name_mark *mark);

/*
 * Wait until the process that has @name, of @mark, has ended, @timeout ms at most
 * (negative: for ever), whether or not another one takes the name then. 0, or -ETIMEDOUT.
 */
int name_wait_gone(const struct run_dir *dir, const char *name, const struct name_mark *mark,
		   int timeout);

/* Call @each for every name there may be a VM of, in alphabetical order. 0 or a negative errno. */
int names_each(const struct run_dir *dir, void (*each)(void *ctx, const char *name), void *ctx);

#endif
