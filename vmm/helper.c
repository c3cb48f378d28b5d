#include "vmm/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/vm.h"

/* How long a helper may take to notice that its socket is closed. */
#define PATIENCE_MS 500

/* Newer than glibc 2.36's headers on some hosts; the same on every architecture. */
#ifndef P_PIDFD
#	define P_PIDFD 3
#endif

/* --- starting ---------------------------------------------------------------------- */

static void default_signals(void)
{
	sigset_t none;

	for (int signal_nr = 1; signal_nr < NSIG; signal_nr++)
		signal(signal_nr, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static bool become_user(const struct helpers *helpers)
{
	return setgroups(0, NULL) == 0 &&
	       setresgid(helpers->gid, helpers->gid, helpers->gid) == 0 &&
	       setresuid(helpers->uid, helpers->uid, helpers->uid) == 0;
}

/* A parent that was gone before there was a signal for it sends none. */
void helper_dies_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(FOAL_EXIT_HOST);
}

/*
 * In the child. The death signal is for a foal that is killed; one that ends
 * closes the socket. A process group of its own keeps what the terminal sends
 * to foal away.
 */
static void become(const struct helpers *helpers, const char *const argv[], int socket, int report,
		   pid_t parent)
{
	int error;

	setsid();
	default_signals();
	/* Before the death signal, which a change of user takes away. */
	if (helpers->change_ids && !become_user(helpers)) {
		error = errno;
		if (write(report, &error, sizeof(error)) < 0)
			_exit(2);
		_exit(1);
	}
	if (helpers->detached)
		dup2(helpers->log, STDERR_FILENO);
	else
		helper_dies_with(parent);
	/* Both are moved out of the way first: either may be HELPER_FD. */
	socket = fcntl(socket, F_DUPFD_CLOEXEC, HELPER_FD + 2);
	report = fcntl(report, F_DUPFD_CLOEXEC, HELPER_FD + 2);
	if (socket >= 0 && report >= 0 && dup2(STDERR_FILENO, STDOUT_FILENO) >= 0 &&
	    dup2(socket, HELPER_FD) >= 0) {
		int in = open("/dev/null", O_RDONLY);

		if (in != STDIN_FILENO)
			dup2(in, STDIN_FILENO);
		/* Whatever lacks O_CLOEXEC, or was inherited by foal itself. */
		syscall(SYS_close_range, HELPER_FD + 1, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */);
		execvp(argv[0], (char *const *)argv);
	}
	error = errno;
	if (write(report, &error, sizeof(error)) < 0)
		_exit(2);
	_exit(1);
}

/* What the child says before it is another program: nothing, or why it is not. */
static int exec_error(int report)
{
	int error = 0;
	ssize_t n;

	do
		n = read(report, &error, sizeof(error));
	while (n < 0 && errno == EINTR);
	return n == sizeof(error) ? error : 0;
}

static int spawn(const struct helpers *helpers, const char *const argv[], int socket, int *pidfd)
{
	pid_t parent = getpid(), pid;
	int report[2], error;

	if (pipe2(report, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid == 0)
		become(helpers, argv, socket, report[1], parent);
	error = pid < 0 ? errno : 0;
	close(report[1]);
	if (pid > 0)
		error = exec_error(report[0]);
	close(report[0]);
	if (error == 0) {
		*pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		error = *pidfd < 0 ? errno : 0;
	}
	if (error && pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return -error;
}

int helper_start(struct helpers *helpers, const char *const argv[], const char *what,
		 const char *loss, int *socket, struct foal_error *err)
{
	struct helper *helper = &helpers->list[helpers->count];
	int pair[2], r = 0;

	if (helpers->count == MAX_HELPERS)
		return error_set(err, FOAL_EXIT_USAGE, -E2BIG, "%s: at most %d helpers", what,
				 MAX_HELPERS);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		r = -errno;
	if (r)
		return error_set(err, FOAL_EXIT_HOST, r, "%s: socketpair: %s", what, error_text(r));
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	r = spawn(helpers, argv, pair[1], &helper->pidfd);
	close(pair[1]);
	if (r) {
		close(pair[0]);
		return error_set(err, FOAL_EXIT_HOST, r, "%s needs the program %s: %s%s", what,
				 argv[0], error_text(r),
				 r == -ENOENT ? "; install Debian's package of that name" : "");
	}
	helper->what = what;
	helper->loss = loss;
	if (helpers->detached)
		close(helper->pidfd);
	else
		helpers->count++;
	*socket = pair[0];
	return 0;
}

/* What a child of ours is to be, and where its standard streams are. */
struct program {
	const char *path;
	char *const *argv;
	int in, out;
	bool stamp;
};

static bool take_streams(const struct program *p)
{
	int in = p->in >= 0 ? p->in : open("/dev/null", O_RDONLY | O_CLOEXEC);

	return in >= 0 && dup2(in, STDIN_FILENO) >= 0 && dup2(p->out, STDOUT_FILENO) >= 0;
}

static bool write_stamp(void)
{
	uint64_t now = now_ns();

	return write(STDOUT_FILENO, &now, sizeof(now)) == sizeof(now);
}

/* In the child, which goes with its parent: that one may be killed, the child be stopped. */
static void become_program(const struct program *p, pid_t parent)
{
	helper_dies_with(parent);
	default_signals();
	if (take_streams(p) && (!p->stamp || write_stamp()))
		execv(p->path, p->argv);
	_exit(FOAL_EXIT_HOST);
}

pid_t helper_program(const char *path, char *const argv[], int in, bool stamp, int *out)
{
	struct program p = {.path = path, .argv = argv, .in = in, .stamp = stamp};
	pid_t parent = getpid(), pid;
	int fds[2];

	*out = -1;
	if (pipe2(fds, O_CLOEXEC))
		return -1;
	p.out = fds[1];
	pid = fork();
	if (pid == 0)
		become_program(&p, parent);
	close(fds[1]);
	if (pid < 0)
		close(fds[0]);
	else
		*out = fds[0];
	return pid;
}

int helper_beside(const char *name, char *path, size_t size, struct foal_error *err)
{
	ssize_t n = readlink("/proc/self/exe", path, size - 1);
	char *slash;

	if (n < 0)
		return error_set(err, FOAL_EXIT_HOST, -errno, "/proc/self/exe: %s",
				 strerror(errno));
	path[n] = '\0';
	slash = strrchr(path, '/');
	if (!slash || (size_t)(slash - path) + strlen(name) + 2 > size)
		return error_set(err, FOAL_EXIT_HOST, -ENAMETOOLONG, "%s: too long a path", path);
	memcpy(slash + 1, name, strlen(name) + 1);
	return 0;
}

pid_t helper_self(char *const argv[], int *out)
{
	return helper_program("/proc/self/exe", argv, -1, false, out);
}

/* --- watching ---------------------------------------------------------------------- */

void helpers_poll(const struct helpers *helpers, struct pollfd *fds)
{
	for (unsigned i = 0; i < helpers->count; i++)
		fds[i] = (struct pollfd){.fd = helpers->list[i].pidfd, .events = POLLIN};
}

/* Reap it if it has ended. */
static bool reap(struct helper *helper, siginfo_t *info)
{
	info->si_pid = 0;
	if (waitid(P_PIDFD, (id_t)helper->pidfd, info, WEXITED | WNOHANG) || info->si_pid == 0)
		return false;
	close(helper->pidfd);
	helper->pidfd = -1;
	return true;
}

void helpers_look(struct helpers *helpers, const struct pollfd *fds, const char *vm_name)
{
	for (unsigned i = 0; i < helpers->count; i++) {
		struct helper *helper = &helpers->list[i];
		siginfo_t info;

		if (fds[i].revents && reap(helper, &info))
			notice("%s: %s: its helper ended (%s %d): %s", vm_name, helper->what,
			       info.si_code == CLD_EXITED ? "status" : "signal", info.si_status,
			       helper->loss);
	}
}

/* One that stays is left to the death signal. */
void helpers_stop(struct helpers *helpers)
{
	for (unsigned i = 0; i < helpers->count; i++) {
		struct helper *helper = &helpers->list[i];
		struct pollfd fd = {.fd = helper->pidfd, .events = POLLIN};
		siginfo_t info;

		if (helper->pidfd < 0)
			continue;
		if (poll(&fd, 1, PATIENCE_MS) != 1 || !reap(helper, &info))
			close(helper->pidfd);
	}
	helpers->count = 0;
}
