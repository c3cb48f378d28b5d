#include "tests/kvm/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <utmp.h>

#define MAX_ARGS 96

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* In the child: become foal. */
static void exec_foal(int foal, const struct run_how *how, char **argv)
{
	if (how->prepare)
		how->prepare(how->arg);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that is killed leaves nothing behind */
	fexecve(foal, argv, environ);
	_exit(127);
}

static pid_t start_on_pipes(struct run *run, int foal, const struct run_how *how, char **argv)
{
	int in[2], out[2], err[2];

	ck_assert(!pipe2(in, O_CLOEXEC) && !pipe2(out, O_CLOEXEC) && !pipe2(err, O_CLOEXEC));
	pid_t pid = fork();
	if (pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(err[1], 2);
		exec_foal(foal, how, argv);
	}
	close(in[0]);
	close(out[1]);
	close(err[1]);
	run->in = in[1];
	run->out = out[0];
	run->err = err[0];
	return pid;
}

/* The other end stays open here, so that what foal did to it can be seen after its end. */
static pid_t start_on_terminal(struct run *run, int foal, const struct run_how *how, char **argv)
{
	int master;

	ck_assert_int_eq(openpty(&master, &run->terminal, NULL, NULL, NULL), 0);
	fcntl(master, F_SETFD, FD_CLOEXEC);
	pid_t pid = fork();
	if (pid == 0) {
		login_tty(run->terminal);
		exec_foal(foal, how, argv);
	}
	run->in = dup(master);
	run->out = master;
	return pid;
}

void run_start(struct run *run, const struct run_how *how, const char *const *args)
{
	static const struct run_how plain_way;
	static unsigned number;
	const char *argv[MAX_ARGS] = {"foal"};
	unsigned n = 1;

	how = how ? how : &plain_way;
	setenv("FOAL_RUN_DIR", *how->run_dir ? how->run_dir : scratch("run"), 1);
	*run = (struct run){.in = -1, .out = -1, .err = -1, .terminal = -1};
	snprintf(run->stats_path, sizeof(run->stats_path), "%s", scratch("stats-%u", number++));
	if (!how->plain)
		argv[n++] = "run";
	for (; *args; args++) {
		ck_assert_uint_lt(n, MAX_ARGS - 6);
		argv[n++] = *args;
	}
	if (!how->plain) {
		argv[n++] = "--stats";
		argv[n++] = "json";
		argv[n++] = "--stats-file";
		argv[n++] = run->stats_path;
	}
	/* By descriptor: whoever lost its rights may not reach the path any more. */
	int foal = open(foal_path(), O_RDONLY | O_CLOEXEC);
	ck_assert_msg(foal >= 0, "%s: %s; build it, or set FOAL", foal_path(), strerror(errno));
	run->pid =
	    (how->terminal ? start_on_terminal : start_on_pipes)(run, foal, how, (char **)argv);
	ck_assert_int_gt(run->pid, 0);
	close(foal);
	run->out_text = calloc(1, 1);
	run->err_text = calloc(1, 1);
}

/* Take what has come on @fd; at its end, close it. */
static void take(int *fd, char **text, size_t *len)
{
	char buf[4096];
	ssize_t n = read(*fd, buf, sizeof(buf));

	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0) { /* a terminal whose other end is gone: EIO */
		close(*fd);
		*fd = -1;
		return;
	}
	*text = realloc(*text, *len + (size_t)n + 1);
	ck_assert_ptr_nonnull(*text);
	memcpy(*text + *len, buf, (size_t)n);
	*len += (size_t)n;
	(*text)[*len] = 0;
}

/* Whether it had ended before. */
static bool kill_run(struct run *run)
{
	bool ended = waitpid(run->pid, NULL, WNOHANG) == run->pid;

	if (!ended) {
		kill(run->pid, SIGKILL);
		waitpid(run->pid, NULL, 0);
	}
	return ended;
}

/* Read both outputs until @text is in @where, or, without one, until both end. */
static void read_outputs(struct run *run, char *const *where, const char *text)
{
	double end = seconds() + RUN_LIMIT;

	while (run->out >= 0 || run->err >= 0) {
		struct pollfd fds[] = {{.fd = run->out, .events = POLLIN},
				       {.fd = run->err, .events = POLLIN}};
		if (text && strstr(*where, text))
			return;
		poll(fds, 2, 100);
		if (fds[0].revents)
			take(&run->out, &run->out_text, &run->out_len);
		if (fds[1].revents)
			take(&run->err, &run->err_text, &run->err_len);
		if (seconds() < end)
			continue;
		bool ended = kill_run(run);
		ck_abort_msg("%s after %d s\nstdout: %.300s\nstderr: %.300s",
			     text    ? "not heard"
			     : ended ? "ended, but a process of its holds its output open"
				     : "still running",
			     RUN_LIMIT, run->out_text, run->err_text);
	}
	ck_assert_msg(!text || strstr(*where, text), "ended before \"%s\"\nstdout: %s\nstderr: %s",
		      text, run->out_text, run->err_text);
}

void run_until(struct run *run, const char *text)
{
	read_outputs(run, &run->out_text, text);
}

void run_until_error(struct run *run, const char *text)
{
	read_outputs(run, &run->err_text, text);
}

void run_type(struct run *run, const void *text, size_t len)
{
	ck_assert_int_eq(write(run->in, text, len), (ssize_t)len);
}

/* A child whose outputs are closed is at its end, or it is stuck. */
static int reap(struct run *run)
{
	double end = seconds() + RUN_LIMIT;
	struct timespec pause = {.tv_nsec = 2000000};
	int status;

	while (waitpid(run->pid, &status, WNOHANG) == 0) {
		if (seconds() > end) {
			kill_run(run);
			ck_abort_msg("closed its outputs, but did not end");
		}
		nanosleep(&pause, NULL);
	}
	return status;
}

/* Kept for who asks for it: what a kernel says at its end may be more than a test looks at. */
static void keep_console(const struct run *run)
{
	const char *dir = getenv("FOAL_CONSOLES");
	static unsigned nr;
	char path[256];

	if (!dir)
		return;
	snprintf(path, sizeof(path), "%s/%d.%u", dir, (int)getpid(), nr++);
	write_file(path, run->out_text, run->out_len);
}

void run_wait(struct run *run)
{
	int status;

	if (run->terminal >= 0) {
		status = reap(run);
		tcgetattr(run->terminal, &run->modes);
		close(run->terminal);
		run->terminal = -1;
		read_outputs(run, NULL, NULL);
	} else {
		read_outputs(run, NULL, NULL);
		status = reap(run);
	}
	run->status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
	keep_console(run);
	run->stats = json_load_file(run->stats_path, JSON_REJECT_DUPLICATES, NULL);
	unlink(run->stats_path);
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void run_free(struct run *run)
{
	close_fd(run->in);
	close_fd(run->out);
	close_fd(run->err);
	close_fd(run->terminal);
	free(run->out_text);
	free(run->err_text);
	json_decref(run->stats);
}

/*
 * An emulator that loses its state (docs/hosts.md) ends a guest in a triple fault
 * without a word of its kernel, as it resets the whole host, or leaves it at one
 * instruction for good: in one of some hundred boots. A guest that means it does it again.
 */
static bool emulator_lost_it(const struct run *run)
{
	if (!emulated_host())
		return false;
	return (run->status == 105 && strstr(run->err_text, "triple fault (rip 0xfff0)")) ||
	       (run->status == 108 &&
		strstr(run->err_text, "still running after " GUEST_LIMIT " s (--time-limit)"));
}

void run_foal(struct run *run, const char *const *args)
{
	run_start(run, NULL, args);
	run_wait(run);
	if (!emulator_lost_it(run))
		return;
	printf("a guest on an emulated host lost: once more\n%s%s", run->out_text, run->err_text);
	fflush(stdout);
	run_free(run);
	run_start(run, NULL, args);
	run_wait(run);
}

void run_guest(struct run *run, const char *guest, const char *append, const char *a, const char *b,
	       const char *c, const char *d)
{
	run_foal(run, ARGS("--kernel", guest_path(guest), "--append", append, a, b, c, d));
	ck_assert_msg(run->status == 0, "%s %s: status %d\nstdout: %s\nstderr: %s", guest, append,
		      run->status, run->out_text, run->err_text);
}

unsigned foal_lines(const struct run *run)
{
	unsigned n = 0;

	for (const char *at = run->err_text; (at = strstr(at, "foal: ")); at++)
		n += at == run->err_text || at[-1] == '\n';
	return n;
}

void expect_end(const struct run *run, int status, const char *words)
{
	ck_assert_msg(run->status == status, "status %d instead of %d: %s", run->status, status,
		      run->err_text);
	ck_assert_msg(strstr(run->err_text, words) != NULL, "no \"%s\" in: %s", words,
		      run->err_text);
	ck_assert_msg(foal_lines(run) == 1 && !strncmp(run->err_text, "foal: ", 6) &&
			  strchr(run->err_text, '\n') == run->err_text + run->err_len - 1,
		      "not one line of foal's: %s", run->err_text);
}

void expect_refusal(const char *const *args, int status, const char *words)
{
	struct run run;

	run_foal(&run, args);
	expect_end(&run, status, words);
	ck_assert_uint_eq(run.out_len, 0);
	run_free(&run);
}
