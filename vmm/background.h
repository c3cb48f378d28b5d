/*
 * foal run -d: the VM runs in a process of its own, and who started it returns when the
 * guest runs, or with the reason why it does not. Private to vmm/.
 */
#ifndef FOAL_VMM_BACKGROUND_H
#define FOAL_VMM_BACKGROUND_H

#include "vmm/run_dir.h"

struct background {
	int tell; /* in the background: where it says that the guest runs; -1: not there */
};

/*
 * Fork. In the child, 0: it is in a session of its own, its standard input and output are
 * /dev/null, its standard error is the name's log, and what else the caller had open is
 * closed. In the parent, 1: *@status is what
 * to end with; what the child had to say is on standard error. Or a negative errno.
 * No thread may have been created.
 */
int background_start(struct background *bg, const struct run_dir *dir, const char *name,
		     int *status, struct foal_error *err);

/* The guest runs: let the parent return. -EPIPE: it is gone. 0 in the foreground. */
int background_tell(struct background *bg);

#endif
