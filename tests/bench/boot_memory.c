#include "tests/bench/boot_memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/series.h"

static uint64_t memory_of(const char *pid)
{
	char path[300], line[256];
	unsigned long long kib = 0;

	snprintf(path, sizeof(path), "/proc/%s/smaps_rollup", pid);
	FILE *f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f) && sscanf(line, "Pss: %llu", &kib) != 1)
		;
	if (f)
		fclose(f);
	return kib;
}

uint64_t memory_of_group(pid_t group)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	uint64_t kib = 0;

	if (!proc)
		die("/proc: no such directory");
	while ((entry = readdir(proc))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
		if (pid > 0 && getpgid(pid) == group)
			kib += memory_of(entry->d_name);
	}
	closedir(proc);
	if (kib == 0)
		die("no memory of process group %d", (int)group);
	return kib;
}

static bool enters_kvm_run(pid_t tid)
{
	struct __ptrace_syscall_info info;

	return ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info) > 0 &&
	       info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr == SYS_ioctl &&
	       info.entry.args[1] == KVM_RUN;
}

/* Let every thread go on from one system call to the next until one enters KVM_RUN. */
static void trace_to_first_run(void)
{
	int status;
	pid_t tid;

	while ((tid = waitpid(-1, &status, __WALL)) > 0) {
		long signal = 0;
		if (!WIFSTOPPED(status))
			continue;
		if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
			if (enters_kvm_run(tid))
				return;
		} else if (status >> 16 == 0) {
			signal = WSTOPSIG(status); /* its own, not an event of ptrace */
		}
		ptrace(PTRACE_SYSCALL, tid, 0, signal);
	}
	die("it ended before its first KVM_RUN");
}

uint64_t memory_at_first_run(char *const argv[])
{
	const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE |
			     PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC;
	int status;

	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		setpgid(0, 0);
		raise(SIGSTOP);
		execv(argv[0], argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, WUNTRACED) != pid ||
	    ptrace(PTRACE_SEIZE, pid, 0, options))
		die("cannot trace %s", argv[0]);
	kill(pid, SIGCONT);
	trace_to_first_run();

	uint64_t kib = memory_of_group(pid);
	kill(-pid, SIGKILL);
	while (waitpid(-1, &status, __WALL) > 0 || errno == EINTR)
		;
	return kib;
}
