/*
 * Programs that a run starts to do what foal does not: passt, for a network
 * without privileges. A helper has one socket to foal, its descriptor 3, and
 * standard error; it ends when foal does, and its own end ends no run. Helpers
 * start before any thread but the first vCPU's, and before the sandbox. Private to vmm/.
 */
#ifndef FOAL_VMM_HELPER_H
#define FOAL_VMM_HELPER_H

#include <poll.h>
#include <stdbool.h>
#include <sys/types.h>

#include "vmm/error.h"

#define MAX_HELPERS 16
/* The helper's end of the socket. */
#define HELPER_FD   3

struct helper {
	const char *what; /* the option it is for, and what the guest loses with it */
	const char *loss;
	int pidfd; /* negative: it was reaped */
};

struct helpers {
	/* They run as this user, too (foal run --user). */
	bool change_ids;
	uid_t uid;
	gid_t gid;
	/*
	 * They are not of the process that starts them: they end when their socket is closed,
	 * and say what they have to say to @log. None is in the list.
	 */
	bool detached;
	int log;
	struct helper list[MAX_HELPERS];
	unsigned count;
};

/*
 * Start argv[0], found in PATH, for option @what; @loss completes "...: " when
 * it ends early. Both are literals. *@socket is foal's end of a stream socket
 * to it, non-blocking, the caller's to close.
 */
int helper_start(struct helpers *helpers, const char *const argv[], const char *what,
		 const char *loss, int *socket, struct foal_error *err);

/* What to poll for: fills @helpers->count of @fds. */
void helpers_poll(const struct helpers *helpers, struct pollfd *fds);

/* Reap those that ended, of which poll() told, and say so. */
void helpers_look(struct helpers *helpers, const struct pollfd *fds, const char *vm_name);

/* Their sockets are closed: wait a while for them to end. */
void helpers_stop(struct helpers *helpers);

/*
 * The path of @name, a file that was built with this program and lies beside it: what PATH has may
 * be of another build. Whether it is there is not looked at. FOAL_EXIT_HOST.
 */
int helper_beside(const char *name, char *path, size_t size, struct foal_error *err);

/*
 * Start foal itself once more: its standard output is read from *@out, its standard
 * input is empty. It inherits what is not close-on-exec, and is killed when the calling
 * thread ends. Its number, for the caller to wait for, or -1.
 */
pid_t helper_self(char *const argv[], int *out);

/*
 * The same of any program; @in: its standard input, -1: empty. @stamp: the first eight bytes of
 * *@out are now_ns() of the moment before its exec.
 */
pid_t helper_program(const char *path, char *const argv[], int in, bool stamp, int *out);

/*
 * In a child of @parent, its getpid() before fork(): the child is killed when the thread that
 * forked it ends, also if it has already.
 */
void helper_dies_with(pid_t parent);

#endif
