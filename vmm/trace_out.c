#include "vmm/trace_out.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER (64U << 10)
#define LINE   2048U /* the longest that trace_out_text() makes: two names, quoted */
/* What a pipe that says it takes something takes without waiting (pipe(7)). */
#define PIECE  4096U

struct trace_out {
	int fd, signals, error;
	bool waits;		       /* for who reads: no regular file */
	char path[PATH_MAX];	       /* as it was given, links followed */
	char temporary[PATH_MAX + 12]; /* "": it is written as it is */
	size_t len;
	char buffer[BUFFER];
};

/* --- opening ---------------------------------------------------------------------------- */

static int fail(int error, const char *path, struct foal_error *err)
{
	return error_set(err, FOAL_EXIT_TRACE, error, "%s: it cannot be written: %s", path,
			 strerror(-error));
}

/* A new file beside it, with the rights that it would have. */
static int open_temporary(struct trace_out *out)
{
	mode_t mask = umask(0);

	umask(mask);
	snprintf(out->temporary, sizeof(out->temporary), "%s.tmp-XXXXXX", out->path);
	int fd = mkostemp(out->temporary, O_CLOEXEC);
	if (fd < 0) {
		int r = -errno;
		out->temporary[0] = 0;
		return r;
	}
	fchmod(fd, 0666 & ~mask);
	return fd;
}

static int open_path(struct trace_out *out, const char *path)
{
	bool there;
	struct stat st;

	if (strcmp(path, "-") == 0) {
		int fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
		return fd < 0 ? -errno : fd;
	}
	if (strlen(path) >= sizeof(out->path))
		return -ENAMETOOLONG;
	there = stat(path, &st) == 0;
	if (there && S_ISDIR(st.st_mode))
		return -EISDIR;
	if (there && !S_ISREG(st.st_mode)) {
		int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
		return fd < 0 ? -errno : fd;
	}
	/* What a link names is replaced, not the link. */
	if (!there || !realpath(path, out->path))
		snprintf(out->path, sizeof(out->path), "%s", path);
	return open_temporary(out);
}

int trace_out_open(const char *path, int signals, struct trace_out **out, struct foal_error *err)
{
	struct trace_out *o = calloc(1, sizeof(*o));
	struct stat st;

	*out = NULL;
	if (!o)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "out of memory");
	o->signals = signals;
	o->fd = open_path(o, path);
	if (o->fd < 0) {
		int r = fail(o->fd, path, err);
		free(o);
		return r;
	}
	o->waits = fstat(o->fd, &st) == 0 && !S_ISREG(st.st_mode);
	if (!o->temporary[0])
		snprintf(o->path, sizeof(o->path), "%s",
			 strcmp(path, "-") == 0 ? "standard output" : path);
	*out = o;
	return 0;
}

/* --- writing ------------------------------------------------------------------------------ */

/* Nobody reads the pipe's other end for now: that may be so for ever, but for a signal. */
static int await_reader(const struct trace_out *out)
{
	struct pollfd fds[] = {{.fd = out->fd, .events = POLLOUT},
			       {.fd = out->signals, .events = POLLIN}};

	if (poll(fds, 2, -1) < 0)
		return errno == EINTR ? 0 : -errno;
	return fds[0].revents ? 0 : -EINTR;
}

static void flush(struct trace_out *out)
{
	const char *at = out->buffer;

	while (out->len && !out->error) {
		size_t piece = out->waits && out->len > PIECE ? PIECE : out->len;
		if (out->waits)
			out->error = await_reader(out);
		ssize_t n = out->error ? 0 : write(out->fd, at, piece);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			out->error = -errno;
		if (n > 0)
			at += n, out->len -= (size_t)n;
	}
	out->len = 0;
}

void trace_out_bytes(struct trace_out *out, const void *bytes, size_t len)
{
	while (len && !out->error) {
		size_t room = BUFFER - out->len, piece = len < room ? len : room;
		memcpy(out->buffer + out->len, bytes, piece);
		out->len += piece;
		bytes = (const char *)bytes + piece;
		len -= piece;
		if (out->len == BUFFER)
			flush(out);
	}
}

void trace_out_text(struct trace_out *out, const char *fmt, ...)
{
	va_list args;

	if (BUFFER - out->len < LINE)
		flush(out);
	va_start(args, fmt);
	int n = vsnprintf(out->buffer + out->len, LINE, fmt, args);
	va_end(args);
	if (n < 0 || n >= (int)LINE)
		trace_out_fail(out, -EOVERFLOW);
	else
		out->len += (size_t)n;
}

void trace_out_fail(struct trace_out *out, int error)
{
	out->error = out->error ? out->error : error;
}

void trace_out_push(struct trace_out *out)
{
	if (out->waits)
		flush(out);
}

int trace_out_error(const struct trace_out *out)
{
	return out->error;
}

/* --- the end ---------------------------------------------------------------------------- */

int trace_out_close(struct trace_out *out, bool keep, struct foal_error *err)
{
	int r;

	if (keep)
		flush(out);
	if (close(out->fd) && !out->error)
		out->error = -errno;
	if (keep && !out->error && out->temporary[0] && rename(out->temporary, out->path))
		out->error = -errno;
	if (out->temporary[0] && (!keep || out->error))
		unlink(out->temporary);
	if (keep && out->error == -EINTR)
		r = error_set(err, FOAL_EXIT_TRACE, -EINTR, "%s: given up: nobody reads it",
			      out->path);
	else
		r = keep && out->error ? fail(out->error, out->path, err) : 0;
	free(out);
	return r;
}

/* --- forms ------------------------------------------------------------------------------ */

static const struct trace_form *const forms[] = {&trace_chrome, &trace_csv, &trace_binary};

#define NR_FORMS (sizeof(forms) / sizeof(forms[0]))

const struct trace_form *trace_form_named(const char *name)
{
	for (size_t i = 0; i < NR_FORMS; i++)
		if (strcmp(forms[i]->name, name) == 0)
			return forms[i];
	return NULL;
}

const struct trace_form *trace_form_of(const char *path)
{
	size_t len = strlen(path);

	for (size_t i = 0; i < NR_FORMS; i++) {
		const char *suffix = forms[i]->suffix;
		size_t n = suffix ? strlen(suffix) : 0;
		if (!suffix || (len > n && strcmp(path + len - n, suffix) == 0))
			return forms[i];
	}
	return &trace_binary;
}
