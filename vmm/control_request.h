/*
 * One request of the control socket (docs/control.md): a JSON object in one line, from
 * a client that may say anything. Private to vmm/.
 */
#ifndef FOAL_VMM_CONTROL_REQUEST_H
#define FOAL_VMM_CONTROL_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/ends.h"
#include "vmm/snapshot.h"

/* Of the greeting; another one speaks another language. */
#define CONTROL_VERSION	  1
/* Bytes of a request, its end of line not counted. */
#define CONTROL_LINE_MAX  4096
#define CONTROL_ID_MAX	  64
/* Of an answer to "residency". */
#define CONTROL_CELLS_MIN 16
#define CONTROL_CELLS_MAX 4096

/* name, members that it takes beside "id" and "command" */
#define CONTROL_COMMANDS(X) \
	X(STATUS, "status", 0) \
	X(PAUSE, "pause", TAKES_TIMEOUT) \
	X(RESUME, "resume", 0) \
	X(STOP, "stop", TAKES_TIMEOUT | TAKES_KILL) \
	X(STAT, "stat", TAKES_FORMAT) \
	X(BALLOON, "balloon", TAKES_SIZE) \
	X(CONSOLE, "console", 0) \
	X(MACHINE, "machine", 0) \
	X(SNAPSHOT, "snapshot", TAKES_HOW) \
	X(FORK, "fork", TAKES_COUNT | TAKES_CLOCK | TAKES_SWAP | TAKES_POOL | TAKES_ENDS) \
	X(RESET, "reset", TAKES_HERE | TAKES_CLOCK) \
	X(FAULTS, "faults", 0) \
	X(RESIDENCY, "residency", TAKES_CELLS)

enum control_command {
#define X(id, name, takes) CONTROL_##id,
	CONTROL_COMMANDS(X)
#undef X
	    NR_CONTROL_COMMANDS
};

/* What goes wrong, in a word for programs. */
#define CONTROL_ERRORS(X) \
	X(BAD_REQUEST, "bad-request") /* no JSON object, or not as documented */ \
	X(UNKNOWN_COMMAND, "unknown-command") \
	X(TOO_LONG, "too-long")	      /* the connection is closed then */ \
	X(TOO_SLOW, "too-slow")	      /* the same */ \
	X(BUSY, "busy")		      /* the same: too many clients */ \
	X(DENIED, "denied")	      /* the same: another user */ \
	X(STATE, "state")	      /* not as the VM is: paused, not paused, ending */ \
	X(TIMEOUT, "timeout")	      /* nothing was changed */ \
	X(UNAVAILABLE, "unavailable") /* this VM does not have it */ \
	X(FAILED, "failed")

enum control_error {
#define X(id, name) CONTROL_ERROR_##id,
	CONTROL_ERRORS(X)
#undef X
};

const char *control_error_name(enum control_error error);

struct control_request {
	enum control_command command;
	json_t *id; /* a string or an integer, or NULL: none was given; owned */
	bool has_timeout;
	uint64_t timeout_ms; /* 0 .. 3,600,000; of a pause, 60,000 */
	bool kill;
	enum { STAT_JSON, STAT_TABLE, STAT_PROMETHEUS } format; /* of stat */
	uint64_t size;	 /* of balloon: bytes, a multiple of the page size, not 0 */
	unsigned count;	 /* of fork: 1 .. FORK_COUNT_MAX */
	bool jump, swap; /* of fork and reset: "clock" is "jump"; of fork: each VM comes with a swap
			    file */
	bool clone;	 /* the same: of a template alone */
	bool template;	 /* the same: one that is kept, with */
	unsigned pool;	 /* so many clones made ready ahead */
	bool reset_point;      /* the same: of clone, its start is its reset point */
	struct end_kinds ends; /* the same: "nets" and "vsock", which come with each VM */
	bool here;	       /* of reset: the point is to be set */
	unsigned cells;	       /* of residency: at most, CONTROL_CELLS_MIN .. _MAX */
	struct snapshot_how how;
	char *dir; /* of snapshot: where it is to be, or NULL; owned */
};

struct control_fault {
	enum control_error code;
	char text[160];
};

/*
 * Take @line apart. 0: @out is to be freed with control_request_free(). -EINVAL: @fault
 * says why, and @out->id is what can be answered to, or NULL; also to be freed.
 */
int control_request_parse(const char *line, size_t len, struct control_request *out,
			  struct control_fault *fault);
void control_request_free(struct control_request *request);

#endif
