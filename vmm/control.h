/*
 * The control socket of a VM that has a name, and the thread that serves it
 * (docs/control.md). Private to vmm/.
 */
#ifndef FOAL_VMM_CONTROL_H
#define FOAL_VMM_CONTROL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "vmm/console_log.h"
#include "vmm/control_conn.h"
#include "vmm/control_streams.h"
#include "vmm/error.h"
#include "vmm/fork.h"
#include "vmm/run_dir.h"
#include "vmm/snapshot.h"

struct vm;
struct run_options;

#define CONTROL_CLIENTS 16

/* Who asked for the end of the VM, and what becomes of it. */
struct control_stop {
	bool wanted;
	uint64_t deadline; /* now_ns() when it is ended without asking further */
};

struct control {
	struct vm *vm;
	struct run_dir dir;
	int lock_fd; /* held as long as the process lives */
	int listen_fd, wake_fd;
	uid_t uid; /* who started foal */
	pid_t pid;
	json_t *machine, *files; /* as a snapshot's manifest has them; NULL: it cannot */
	char *last_snapshot;	 /* directory, as it was said; NULL: none */
	FILE *smaps;		 /* its own, of /proc/self/smaps */
	pthread_t thread;
	atomic_bool started;
	struct console_log log;

	/* The control thread's. */
	struct conn conns[CONTROL_CLIENTS];
	struct streams streams;
	struct control_stop stop;
	struct frozen_child snapshot;
	struct frozen_child fork;
	uint64_t accept_after; /* now_ns(): no descriptor was left until then */

	/* How the run ended, by the main thread, before `ended` is set with release. */
	int status;
	const char *text;
	atomic_bool ended;
};

/*
 * Take the name that the VM was given; before a process of the background is forked.
 * *@out is to be closed, also on error. Without a name there is none: NULL, which the
 * functions below take for nothing to do.
 */
int control_claim(struct control **out, const struct run_options *opt, struct foal_error *err);

/* Open the socket and what its thread needs; before the sandbox. */
int control_open(struct control *control, struct vm *vm, struct foal_error *err);

/*
 * In a process that was forked, after control_let_go(): begin anew, with a name's lock and
 * listening socket, which are its own from then on. control_open() follows.
 */
void control_forked(struct control *control, int lock_fd, int listen_fd);

/* Serve it on the calling thread, until `ended` is set. */
void control_run(struct control *control);

/*
 * Start the thread, on the main thread, before it enters the sandbox; of a forked VM on
 * foal-fork, by control_begin(), when the first client is there. 0 or a negative errno.
 */
int control_start(struct control *control);
int control_begin(struct control *control);
/* Where clients are seen as long as the thread is not there, nor @asked for; else -1. */
int control_poll_fd(const struct control *control, bool asked);

/* What the guest wrote to a console. Any thread. */
void control_console(struct control *control, const void *data, size_t len);

/*
 * The run ended with @status and @text (may be empty): clients are told, and the thread
 * is gone. The VM is still there. Who does not listen is waited for a second at most.
 * False: the thread hangs in the host's kernel, and nothing of the VM may be freed.
 */
bool control_end(struct control *control, int status, const char *text);

/* Close the rest and free it. */
void control_close(struct control *control);

/* --- control_commands.c: what is asked of the VM; the control thread's ----------------- */

/* Serve @request, of the client at @conn, which is answered now or when the VM ends. */
void control_serve(struct control *control, struct conn *conn,
		   const struct control_request *request);

/* A stop's time is over: end the VM. Milliseconds until it is; -1: no stop waits. */
int control_stop_timeout(struct control *control, uint64_t now);

/* Tell all clients of the end. */
void control_tell_end(struct control *control);

/* Why the VM did not: @r of what was tried, @err's line without the VM's name before it. */
json_t *control_failure(const struct control *control, json_t *id, int r,
			const struct foal_error *err);

/* --- control_snapshot.c ------------------------------------------------------------------ */

/* Write down which machine it is, while files can be looked at. */
void control_know_machine(struct control *control);

json_t *control_serve_machine(struct control *control, struct conn *conn,
			      const struct control_request *request);
json_t *control_serve_snapshot(struct control *control, struct conn *conn,
			       const struct control_request *request);

/* --- control_fork.c ----------------------------------------------------------------------- */

json_t *control_serve_fork(struct control *control, struct conn *conn,
			   const struct control_request *request);

/* --- control_reset.c --------------------------------------------------------------------- */

json_t *control_serve_reset(struct control *control, struct conn *conn,
			    const struct control_request *request);

/* --- control_faults.c ------------------------------------------------------------------- */

json_t *control_serve_faults(struct control *control, struct conn *conn,
			     const struct control_request *request);

/* --- control_residency.c ---------------------------------------------------------------- */

json_t *control_serve_residency(struct control *control, struct conn *conn,
				const struct control_request *request);

/* In a child that was forked: close what is the VM's. NULL is allowed. */
void control_let_go(struct control *control);

#endif
