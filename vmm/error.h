/*
 * How a run can end other than by the guest's own status, and the one line
 * that says so. docs/exit-statuses.md is the table for users.
 */
#ifndef FOAL_VMM_ERROR_H
#define FOAL_VMM_ERROR_H

#include "guest/abi.h"

/* name, status, what it means to whoever reads it in a script */
#define EXIT_STATUSES(X) \
	X(USAGE, 100, "the command line is wrong") \
	X(HOST, 101, "this host lacks something that foal needs") \
	X(KERNEL, 102, "the kernel, initrd or firmware cannot be used") \
	X(DISK, 103, "a disk or pmem file cannot be used") \
	X(MEMORY, 104, "the guest's memory does not fit the guest or the host") \
	X(GUEST, 105, "the guest crashed: triple fault or an instruction KVM cannot run") \
	X(FAULT, 106, "guest memory could not be provided: a file shrank or failed") \
	X(FLUSH, 107, "what the guest wrote could not be written back") \
	X(STUCK, 108, "a vCPU made no progress, or the time limit ended the run") \
	X(QUIT, 109, "ended from the console (Ctrl-A x) or by foal stop") \
	X(INTERNAL, 110, "the monitor failed") \
	X(RESET, 111, "the guest reset itself") \
	X(NAME, 112, "the VM's name is taken, or no VM has it") \
	X(CONTROL, 113, "a running VM refused what it was asked, or could not do it") \
	X(SNAPSHOT, 114, "a snapshot cannot be used") \
	X(TRACE, 115, "a trace cannot be read or written")

enum foal_exit {
#define X(id, status, what) FOAL_EXIT_##id = (status),
	EXIT_STATUSES(X)
#undef X
};

/* Ended by a signal: 128 + its number, as shells have it. */
#define FOAL_EXIT_SIGNAL 128

struct foal_error {
	int status; /* one of enum foal_exit */
	char text[480];
};

/*
 * Fill @err (first error wins) and return @error, a negative errno, so that
 * `return error_set(...)` is the whole error path.
 */
int error_set(struct foal_error *err, enum foal_exit status, int error, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/*
 * strerror(-@error) of a negative errno, and where it is a limit of the host's that stands in the
 * way, which: of processes and threads (EAGAIN), of open files (EMFILE). A literal or libc's.
 */
const char *error_text(int error);

/* Print "foal: <text>" as one line on stderr; control characters are shown as '?'. */
void error_print(const struct foal_error *err);

/* Say so, in one line, and return FOAL_EXIT_USAGE: for a command that has not begun. */
int usage_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Print one line for the user to know, not an error. */
void notice(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
