#include "vmm/background.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- the child ------------------------------------------------------------------------ */

/*
 * A lock or the end of a pipe that the caller had open would be held as long as the VM
 * lives. Ours are close-on-exec, so what is not came from there.
 */
static int close_inherited(struct foal_error *err)
{
	DIR *list = opendir("/proc/self/fd");
	const struct dirent *entry;

	if (!list)
		return error_set(err, FOAL_EXIT_HOST, -errno, "/proc/self/fd: %s", strerror(errno));
	while ((entry = readdir(list))) {
		int fd = (int)strtol(entry->d_name, NULL, 10);
		int flags = fd > STDERR_FILENO ? fcntl(fd, F_GETFD) : -1;

		if (flags >= 0 && !(flags & FD_CLOEXEC))
			close(fd);
	}
	closedir(list);
	return 0;
}

static int become_background(int log, struct foal_error *err)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return error_set(err, FOAL_EXIT_HOST, -errno, "/dev/null: %s", strerror(errno));
	setsid();
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(log, STDERR_FILENO);
	close(null);
	return close_inherited(err);
}

int background_tell(struct background *bg)
{
	int r = 0;

	if (bg->tell < 0)
		return 0;
	if (write(bg->tell, "", 1) != 1)
		r = -EPIPE;
	close(bg->tell);
	bg->tell = -1;
	return r;
}

/* --- the parent ------------------------------------------------------------------------ */

/* What it said while it started; said here. */
static void repeat_log(int log)
{
	char buf[1024];
	off_t at = 0;
	ssize_t n;

	while ((n = pread(log, buf, sizeof(buf), at)) > 0) {
		at += n;
		if (write(STDERR_FILENO, buf, (size_t)n) < 0)
			return; /* nobody is listening */
	}
}

static int wait_for(pid_t child, int told, int log, const char *name, int *status)
{
	ssize_t n;
	char byte;
	int end;

	do
		n = read(told, &byte, 1);
	while (n < 0 && errno == EINTR);
	repeat_log(log);
	if (n == 1) {
		printf("%s: running, pid %d\n", name, (int)child);
		*status = fflush(stdout) ? FOAL_EXIT_HOST : 0;
		return 1;
	}
	while (waitpid(child, &end, 0) < 0 && errno == EINTR)
		;
	*status = WIFEXITED(end) ? WEXITSTATUS(end) : FOAL_EXIT_SIGNAL + WTERMSIG(end);
	return 1;
}

int background_start(struct background *bg, const struct run_dir *dir, const char *name,
		     int *status, struct foal_error *err)
{
	int told[2], log = name_log(dir, name), r;

	if (log < 0)
		return error_set(err, FOAL_EXIT_HOST, log, "%s/%s.log: %s", dir->path, name,
				 strerror(-log));
	if (pipe2(told, O_CLOEXEC)) {
		r = error_set(err, FOAL_EXIT_HOST, -errno, "pipe: %s", strerror(errno));
		goto out;
	}
	pid_t child = fork();
	if (child == 0) {
		close(told[0]);
		bg->tell = told[1];
		signal(SIGPIPE, SIG_IGN); /* as the run has it: who started it may be gone */
		r = become_background(log, err);
	} else {
		r = child < 0 ? -errno : 0;
		close(told[1]);
		if (child > 0)
			r = wait_for(child, told[0], log, name, status);
		else
			error_set(err, FOAL_EXIT_HOST, r, "fork: %s", strerror(-r));
		close(told[0]);
	}
out:
	close(log);
	return r;
}
