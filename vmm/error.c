#include "vmm/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int error_set(struct foal_error *err, enum foal_exit status, int error, const char *fmt, ...)
{
	va_list args;

	if (err->status)
		return error;
	err->status = (int)status;
	va_start(args, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	return error;
}

/*
 * One write, so that lines of several threads don't mix. The carriage return
 * costs nothing on a sane terminal and keeps lines straight on a raw one. File
 * names come from outside: nothing of theirs may steer the terminal.
 */
static void line_out(const char *text)
{
	char line[560];
	int n = snprintf(line, sizeof(line) - 2, "foal: %s", text);

	if (n > (int)sizeof(line) - 3)
		n = sizeof(line) - 3;
	for (int i = 0; i < n; i++) {
		unsigned char c = (unsigned char)line[i];
		if (c < 0x20 || c == 0x7f)
			line[i] = '?';
	}
	if (isatty(STDERR_FILENO))
		line[n++] = '\r';
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return; /* nobody is listening */
}

const char *error_text(int error)
{
	switch (-error) {
	case EAGAIN:
		return "no process or thread more: raise the limit (ulimit -u, a cgroup's "
		       "pids.max)";
	case EMFILE:
		return "too many open files: raise the limit (ulimit -n)";
	default:
		return strerror(-error);
	}
}

void error_print(const struct foal_error *err)
{
	line_out(err->text);
}

static void say(const char *fmt, va_list args)
{
	char text[500];

	vsnprintf(text, sizeof(text), fmt, args);
	line_out(text);
}

int usage_error(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	say(fmt, args);
	va_end(args);
	return FOAL_EXIT_USAGE;
}

void notice(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	say(fmt, args);
	va_end(args);
}
