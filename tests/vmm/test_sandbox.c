/*
 * Each kind of thread enters its sandbox in a child of the test and tries what
 * an attacker would, and what a run does. A filter that lets one more call
 * through, or one fewer, fails here.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "tests/vmm/suites.h"
#include "vmm/filters/filters.h"
#include "vmm/filters/rules.h"
#include "vmm/sandbox.h"

#define M   (1U << THREAD_MAIN)
#define W   (1U << THREAD_VCPU_STATE)
#define V   (1U << THREAD_VCPU | W)
#define F   (1U << THREAD_FAULT)
#define R   (1U << THREAD_READ)
#define D   (1U << THREAD_DEVICE)
#define C   (1U << THREAD_CONTROL)
/* It may what any other may, and this. */
#define K   (1U << THREAD_FORK)
#define ALL (M | V | F | R | D | C)

static const char *const kinds[] = {
#define X(id, name) name,
    THREAD_KINDS(X)
#undef X
};

static char page[8192] __attribute__((aligned(4096)));
static const char *const no_args[] = {"sh", NULL};

#define CALL(number, ...) \
	{ \
#		number " " #		    __VA_ARGS__, SYS_##number, \
		{ \
			__VA_ARGS__ \
		} \
	}
#define L(x)	((long)(x))

#define OWN_PID (-4711) /* the child's */

struct attempt {
	const char *text;
	long number;
	long args[6];
};

/* Calls with numbers alone for arguments; pointers are filled in where a page is wanted. */
static const struct {
	struct attempt call;
	unsigned allowed; /* to these kinds */
} attempts[] = {
    /* What an attacker would try. */
    {CALL(openat, AT_FDCWD, 0, O_RDONLY), K},
    {CALL(openat, AT_FDCWD, 0, O_RDWR), 0},
    {CALL(openat, AT_FDCWD, 0, O_RDONLY | O_CREAT), 0},
    {CALL(open, 0, O_RDONLY), 0},
    {CALL(openat2, AT_FDCWD, 0, 0, 0), 0},
    {CALL(execve, 0, 0, 0), 0},
    {CALL(execveat, 0, 0, 0, 0, AT_EMPTY_PATH), 0},
    {CALL(fork), 0},
    {CALL(clone, SIGCHLD, 0, 0, 0, 0), 0},
    {CALL(clone3, 0, 0), K},
    {CALL(socket, AF_INET, SOCK_STREAM, 0), 0},
    {CALL(socket, AF_NETLINK, SOCK_RAW, 0), 0},
    {CALL(connect, 0, 0, 0), 0},
    {CALL(ptrace, 0, 1, 0, 0), 0},
    {CALL(process_vm_writev, 1, 0, 0, 0, 0, 0), 0},
    {CALL(process_vm_readv, OWN_PID, 0, 0, 0, 0, 0), 0},
    {CALL(kill, 1, 0), 0},
    {CALL(tgkill, 1, 1, 0), K},
    {CALL(pidfd_getfd, 0, 0, 0), 0},
    {CALL(unshare, 0), 0},
    {CALL(setns, 0, 0), 0},
    {CALL(mount, 0, 0, 0, 0, 0), 0},
    {CALL(bpf, 0, 0, 0), 0},
    {CALL(userfaultfd, 0), K},
    {CALL(io_uring_setup, 1, 0), K}, /* ENOSYS: no_rings */
    {CALL(perf_event_open, 0, 0, 0, 0, 0), 0},
    {CALL(keyctl, 0, 0), 0},
    {CALL(prctl, PR_SET_DUMPABLE, 1), 0},
    {CALL(setuid, 0), 0},
    {CALL(unlinkat, AT_FDCWD, 0, 0), 0},
    {CALL(mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 0},
    {CALL(newfstatat, AT_FDCWD, 0, 0, 0), 0},
    {CALL(newfstatat, AT_FDCWD, L("/etc/passwd"), L(page), AT_EMPTY_PATH), 0},
    {CALL(ioctl, 0, TIOCSTI, 0), 0},
    {CALL(ioctl, 1, TCSETS, 0), 0},
    {CALL(ioctl, -1, KVM_CREATE_VM, 0), K},
    {CALL(ioctl, -1, KVM_CREATE_DEVICE, 0), K},
    {CALL(rt_sigaction, SIGSYS, 0, 0, 8), 0},
    /* What is for some kinds alone. */
    {CALL(ioctl, -1, KVM_RUN, 0), V},
    {CALL(ioctl, -1, KVM_IOEVENTFD, 0), V | C},
    {CALL(ioctl, -1, KVM_SET_GSI_ROUTING, 0), V | C},
    {CALL(ioctl, -1, KVM_SET_USER_MEMORY_REGION, 0), W | C},
    {CALL(ioctl, -1, KVM_CLEAR_DIRTY_LOG, 0), W | C},
    {CALL(ioctl, -1, KVM_SET_REGS, 0), W | C},
    {CALL(ioctl, -1, UFFDIO_COPY, 0), M | V | F | D | C},
    {CALL(preadv, -1, 0, 0, 0), V | D | C},
    {CALL(pwritev, -1, 0, 0, 0), D | C},
    {CALL(fallocate, -1, 0, 0, 0), F | D},
    {CALL(fdatasync, -1), M | F | D | C},
    {CALL(mincore, 1, 0, 0), M | V | F | D | C},
    {CALL(ioctl, -1, KVM_GET_STATS_FD, 0), M | C},
    {CALL(ioctl, -1, KVM_KVMCLOCK_CTRL, 0), V},
    {CALL(accept4, -1, 0, 0, 0), D | C},
    {CALL(recvmsg, -1, 0, 0), D | C},
    {CALL(sendmsg, -1, 0, 0), D | C},
    {CALL(getsockopt, -1, 0, 0, 0, 0), C},
    {CALL(sched_setaffinity, 0, 0, 0), F},
    {CALL(sched_setaffinity, 1, 0, 0), K},
    {CALL(readv, -1, 0, 0), D},
    {CALL(io_uring_enter, -1, 0, 0, 0, 0, 0), R},
    {CALL(io_uring_register, -1, 0, 0, 0), 0},
    /* What every run does. */
    {CALL(mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ALL},
    {CALL(pread64, -1, 0, 0, 0), ALL},
    {CALL(futex, 0, 1, 0, 0, 0, 0), ALL},
    {CALL(fstat, -1, 0), ALL},
    {CALL(tgkill, OWN_PID, OWN_PID, 0), ALL},
    {CALL(tgkill, FILTER_OWN_PID, 1, 0), K},
};

#define NR_ATTEMPTS (sizeof(attempts) / sizeof(attempts[0]))

/* How a child ended that entered @kind's sandbox and made @call; what it said is in @text. */
static int try(enum thread_kind kind, const struct attempt *call, char *text, size_t size)
{
	int said[2], status;
	const long *a = call->args;

	ck_assert_int_eq(pipe(said), 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct sandbox box = {.on = true};
		struct foal_error err = {0};
		dup2(said[1], STDERR_FILENO);
		if (sandbox_prepare(&box, &err) || sandbox_enter(&box, kind, &err)) {
			dprintf(STDERR_FILENO, "%s", err.text);
			_exit(9);
		}
		long own = getpid();
		syscall(call->number, a[0] == OWN_PID ? own : a[0], a[1] == OWN_PID ? own : a[1],
			a[2], a[3], a[4], a[5]);
		syscall(SYS_exit, 0);
	}
	close(said[1]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ssize_t n = read(said[0], text, size - 1);
	close(said[0]);
	text[n > 0 ? n : 0] = 0;
	return status;
}

START_TEST(system_calls)
{
	char text[512];

	for (int kind = 0; kind < NR_THREAD_KINDS; kind++) {
		const struct attempt *call = &attempts[_i].call;
		int status = try((enum thread_kind)kind, call, text, sizeof(text));
		bool allowed = attempts[_i].allowed & (kind == THREAD_FORK ? ALL | K : 1U << kind);
		if (allowed) {
			ck_assert_msg(status == 0, "%s thread: %s was stopped: %s", kinds[kind],
				      call->text, text);
			continue;
		}
		ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS,
			      "%s thread: %s went through: status 0x%x %s", kinds[kind], call->text,
			      status, text);
		ck_assert_msg(strstr(text, "does not allow: ") && strchr(text, '\n'),
			      "%s: not said: %s", call->text, text);
	}
}
END_TEST

/* What is answered, not stopped: libraries do without. Without the sandbox it would be EFAULT. */
START_TEST(no_rings)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct sandbox box = {.on = true};
		struct foal_error err = {0};
		if (sandbox_prepare(&box, &err) || sandbox_enter(&box, THREAD_FORK, &err))
			_exit(9);
		bool ring = syscall(SYS_io_uring_setup, 1, NULL) != -1 || errno != ENOSYS;
		bool clone = syscall(SYS_clone3, NULL, 0) != -1 || errno != ENOSYS;
		syscall(SYS_exit, ring + 2 * clone);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

#define MANY_THREADS 16

static const struct sandbox *shared_box;
static pthread_barrier_t all_there;

#define BLOCKS	   16
#define BLOCK_SIZE 65536 /* not mapped by itself */

/* So much that libc gives memory back to the kernel when it is freed. */
static void use_much(void)
{
	void *volatile blocks[BLOCKS];

	for (unsigned i = 0; i < BLOCKS; i++)
		blocks[i] = malloc(BLOCK_SIZE);
	for (unsigned i = BLOCKS; i-- > 0;)
		free(blocks[i]);
}

/* Each while the others are still there, so that libc has no memory of theirs to give. */
static void *allocate(void *unused)
{
	struct foal_error err = {0};

	(void)unused;
	bool entered = sandbox_enter(shared_box, THREAD_DEVICE, &err) == 0;
	void *volatile memory = malloc(100);
	use_much();
	pthread_barrier_wait(&all_there);
	free(memory);
	return entered && memory ? (void *)1 : NULL;
}

/* In the child: a VM of many disks, each of whose threads needs memory in the end. */
static void allocate_in_many_threads(void)
{
	struct sandbox box = {.on = true};
	struct foal_error err = {0};
	pthread_t threads[MANY_THREADS];
	void *well = (void *)1;

	if (sandbox_prepare(&box, &err))
		_exit(9);
	shared_box = &box;
	pthread_barrier_init(&all_there, NULL, MANY_THREADS);
	for (unsigned i = 0; i < MANY_THREADS; i++)
		if (pthread_create(&threads[i], NULL, allocate, NULL))
			_exit(8);
	for (unsigned i = 0; i < MANY_THREADS && well; i++)
		pthread_join(threads[i], &well);
	_exit(well ? 0 : 7);
}

START_TEST(memory_for_many_threads)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		allocate_in_many_threads();
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(status == 0, "status 0x%x", status);
}
END_TEST

/* The line names the thread, the call and, of an ioctl, the request. */
START_TEST(message)
{
	static const struct attempt execve_call = CALL(execve, 0, 0, 0);
	static const struct attempt ioctl_call = CALL(ioctl, -1, 0xae01, 0);
	char text[512];

	try(THREAD_FAULT, &execve_call, text, sizeof(text));
	ck_assert_msg(strstr(text, "foal: test_vmm ") == text, "%s", text);
	ck_assert_ptr_nonnull(strstr(text, ": execve 59;"));
	try(THREAD_VCPU, &ioctl_call, text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, ": ioctl 16, request 44545;"));
}
END_TEST

/* Stopped before it is executed: mprotect of a page that exists. */
START_TEST(no_executable_memory)
{
	const struct attempt exec_call = {
	    "mprotect", SYS_mprotect, {L(page), 4096, PROT_READ | PROT_EXEC}};
	const struct attempt data_call = {
	    "mprotect", SYS_mprotect, {L(page), 4096, PROT_READ | PROT_WRITE}};
	char text[512];

	for (int kind = 0; kind < NR_THREAD_KINDS; kind++) {
		int status = try((enum thread_kind)kind, &exec_call, text, sizeof(text));
		ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
		ck_assert_int_eq(try((enum thread_kind)kind, &data_call, text, sizeof(text)), 0);
	}
}
END_TEST

/* The number in /proc/PID/status after @key; -1: there is no such line. */
static long status_number(pid_t pid, const char *key, int base)
{
	char path[64], line[256];
	long value = -1;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	FILE *f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, strlen(key)) == 0 && line[strlen(key)] == ':')
			value = strtol(line + strlen(key) + 1, NULL, base);
	}
	fclose(f);
	return value;
}

/* What the kernel says of a child in the sandbox, which waits until its standard input ends. */
START_TEST(what_is_given_up)
{
	struct sandbox box = {.on = true, .change_ids = geteuid() == 0, .uid = 4711, .gid = 4712};
	int in[2], out[2];
	char c;

	ck_assert(!pipe(in) && !pipe(out));
	pid_t pid = fork();
	if (pid == 0) {
		struct foal_error err = {0};
		close(in[1]);
		if (sandbox_prepare(&box, &err) || sandbox_enter(&box, THREAD_VCPU, &err))
			_exit(9);
		if (write(out[1], "x", 1) == 1 && read(in[0], &c, 1) == 0)
			syscall(SYS_exit, 0);
	}
	close(in[0]);
	close(out[1]);
	ck_assert_int_eq(read(out[0], &c, 1), 1);
	ck_assert_int_eq(status_number(pid, "NoNewPrivs", 10), 1);
	ck_assert_int_eq(status_number(pid, "Seccomp", 10), 2);
	ck_assert_int_eq(status_number(pid, "CapEff", 16), 0);
	ck_assert_int_eq(status_number(pid, "CapPrm", 16), 0);
	ck_assert_int_eq(status_number(pid, "CapInh", 16), 0);
	ck_assert_int_eq(status_number(pid, "CapAmb", 16), 0);
	if (box.change_ids) {
		ck_assert_int_eq(status_number(pid, "Uid", 10), 4711);
		ck_assert_int_eq(status_number(pid, "Gid", 10), 4712);
		ck_assert_int_eq(status_number(pid, "Groups", 10), 0); /* none */
	}
	close(in[1]);
	waitpid(pid, NULL, 0);
}
END_TEST

/* Landlock alone, without the filter that would stop open before it. */
START_TEST(landlock)
{
	struct sandbox box = {.on = true};
	struct foal_error err = {0};

	if (sandbox_landlock_abi() == 0) {
		printf("SKIP landlock: this kernel has none\n");
		return;
	}
	ck_assert_int_eq(sandbox_prepare(&box, &err), 0);
	ck_assert_int_ge(box.ruleset_fd, 0);
	int open_before = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ck_assert_int_eq(syscall(SYS_landlock_restrict_self, box.ruleset_fd, 0), 0);
	ck_assert_int_lt(open("/proc/self/status", O_RDONLY | O_CLOEXEC), 0);
	ck_assert_int_eq(errno, EACCES);
	execve("/bin/sh", (char **)no_args, NULL);
	ck_assert_int_eq(errno, EACCES);
	ck_assert_int_eq(read(open_before, page, 1), 1);
	sandbox_close(&box);
}
END_TEST

/* Off is off: nothing is given up. */
START_TEST(off)
{
	struct sandbox box = {.on = false};
	struct foal_error err = {0};

	ck_assert_int_eq(sandbox_prepare(&box, &err), 0);
	ck_assert_int_eq(sandbox_enter(&box, THREAD_MAIN, &err), 0);
	ck_assert_int_eq(status_number(getpid(), "Seccomp", 10), 0);
	ck_assert_int_eq(status_number(getpid(), "NoNewPrivs", 10), 0);
}
END_TEST

/* A row of docs/sandbox.md for each rule, in the same order, and no other. */
START_TEST(documented)
{
	FILE *doc = fopen("docs/sandbox.md", "re");
	char line[512], row[512];
	size_t i = 0;

	ck_assert_msg(doc != NULL, "docs/sandbox.md cannot be read; run from the top of the tree");
	while (fgets(line, sizeof(line), doc) && strncmp(line, "| system call |", 15) != 0)
		;
	ck_assert_ptr_nonnull(fgets(line, sizeof(line), doc)); /* |---| */
	while (fgets(line, sizeof(line), doc) && line[0] == '|') {
		ck_assert_msg(i < nr_rules, "a row too many: %s", line);
		const struct rule *r = &rules[i++];
		int n = snprintf(row, sizeof(row), "| %s | %s |", r->call, r->only ? r->only : "");
		for (int kind = 0; kind < NR_THREAD_KINDS; kind++)
			n += snprintf(row + n, sizeof(row) - (size_t)n, " %s |",
				      r->kinds & 1U << kind ? "x" : "");
		line[strcspn(line, "\n")] = 0;
		ck_assert_msg(strcmp(row, line) == 0,
			      "docs/sandbox.md has\n%s\nand it is\n%s\nbuild/vmm/filters/"
			      "make_filters --table prints the table",
			      line, row);
	}
	ck_assert_uint_eq(i, nr_rules);
	fclose(doc);
}
END_TEST

Suite *sandbox_suite(void)
{
	Suite *suite = suite_create("sandbox");
	TCase *tc = tcase_create("sandbox");

	tcase_add_test(tc, documented);
	tcase_add_test(tc, off);
	if (FOAL_SANDBOX_DEFAULT) { /* a sanitizer makes calls of its own */
		tcase_add_loop_test(tc, system_calls, 0, NR_ATTEMPTS);
		tcase_add_test(tc, no_rings);
		tcase_add_test(tc, memory_for_many_threads);
		tcase_add_test(tc, message);
		tcase_add_test(tc, no_executable_memory);
		tcase_add_test(tc, what_is_given_up);
		tcase_add_test(tc, landlock);
	}
	suite_add_tcase(suite, tc);
	return suite;
}
