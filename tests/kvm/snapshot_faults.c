/*
 * What goes wrong while a snapshot is written, merged or read: no room, storage that fails, whoever
 * is killed at whatever moment, clients that lie. The VM goes on, and snapshots that are there are
 * good.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "devices/fd_passing.h"
#include "tests/kvm/snapshot_rig.h"
#include "tests/kvm/suites.h"

/* A VM that checks its memory for ever, with a disk; foal's part of it begins with @how. */
static void start(struct run *run, const struct run_how *how, const char *name)
{
	char disk[256];

	snprintf(disk, sizeof(disk), "%s", make_pmem("faults.img", 16));
	run_start(run, how,
		  ARGS("--name", name, MEMORY_GUEST, "--disk", disk, "--time-limit", GUEST_LIMIT));
	close(control_connect_soon(name));
	wait_for_memory(name, MEMORY_GUEST_BYTES);
}

static void expect_still_good(const char *name, const char *dir)
{
	int fd = control_connect(name);

	ck_assert_uint_eq(control_number(fd, "{\"command\":\"status\"}", "vcpus"), 1);
	close(fd);
	expect_command(ARGS("verify", dir), 0, "whole");
}

/* --- no room -------------------------------------------------------------------------------- */

/* As root of a user namespace, if need be. */
static bool own_mounts(void)
{
	if (unshare(CLONE_NEWNS) && unshare(CLONE_NEWUSER | CLONE_NEWNS))
		return false;
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static uint64_t free_kib(const char *at)
{
	struct statvfs fs;

	ck_assert_int_eq(statvfs(at, &fs), 0);
	return (uint64_t)fs.f_bavail * fs.f_frsize >> 10;
}

/* Leave @kib of the file system. */
static void fill(const char *at, uint64_t kib)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/filler", at);
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	ck_assert_int_ge(fd, 0);
	uint64_t have = free_kib(at);
	if (have > kib)
		ck_assert_int_eq(posix_fallocate(fd, 0, (off_t)((have - kib) << 10)), 0);
	close(fd);
}

/* Whichever part has no room: one line, nothing left; what was there is there. */
START_TEST(no_room_for_any_part)
{
	static const int kib[] = {0, 4, 8, 12, 16, 20, 24, 1000, 6000, -20, -16, -12, -8, -4};
	const char *at = scratch("small"), *dir = scratch("small/dir");
	unsigned failed = 0;
	struct run run;

	ck_assert_int_eq(mkdir(at, 0700), 0);
	if (!own_mounts() || mount("tmpfs", at, "tmpfs", 0, "size=40m"))
		skip("no file system of its own here");
	start(&run, &(struct run_how){0}, "room");
	uint64_t before = free_kib(at);
	snapshot("room", dir);
	uint64_t used = before - free_kib(at);
	for (unsigned i = 0; i < sizeof(kib) / sizeof(*kib); i++) {
		struct run command;

		fill(at, kib[i] >= 0 ? (uint64_t)kib[i] : used - (uint64_t)-kib[i]);
		foal_command(&command, ARGS("snapshot", "room", dir));
		ck_assert_msg(command.status == 0 ||
				  ((command.status == 113 || command.status == 114) &&
				   strstr(command.err_text, "No space left") &&
				   foal_lines(&command) == 1),
			      "%d KiB: %d: %s", kib[i], command.status, command.err_text);
		failed += command.status != 0;
		run_free(&command);
		ck_assert_uint_eq(leftovers(dir), 0);
		expect_still_good("room", dir);
	}
	printf("%u of %zu snapshots had no room\n", failed, sizeof(kib) / sizeof(*kib));
	ck_assert_uint_ge(failed, 10);
	fill(at, 20000);
	snapshot("room", dir);
	/* Nor has one that is to be merged. */
	expect_command(
	    ARGS("snapshot", "room", scratch("small/more"), "--diff", "--compress", "zstd"), 0,
	    "more than");
	fill(at, 500);
	expect_command(ARGS("snapshot", "merge", scratch("small/more")), 114, "No space left");
	ck_assert_uint_eq(leftovers(scratch("small/more")), 0);
	expect_still_good("room", scratch("small/more"));
	expect_command(ARGS("stop", "room", "--kill"), 0, "gone, status 109");
	run_wait(&run);
	run_free(&run);
}
END_TEST

/* --- storage that fails --------------------------------------------------------------------- */

/* A system call that says EIO. */
static void fail_call(void *arg)
{
	unsigned nr = *(unsigned *)arg;
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EIO),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog program = {sizeof(code) / sizeof(*code), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
		_exit(126);
}

static const struct {
	bool vms; /* of the process that writes; else of the command */
	unsigned nr;
	int status;
	const char *words;
} failing[] = {
    {true, SYS_pwrite64, 113, "cannot write the state: Input/output error"},
    {true, SYS_pwritev, 113, "cannot write what the guest wrote to disk"},
    {true, SYS_fdatasync, 113, "does not get to the disk: Input/output error"},
    {false, SYS_fsync, 114, "Input/output error; nothing of the snapshot is kept"},
    {false, SYS_renameat2, 114, "Input/output error; nothing of the snapshot is kept"},
};

#define NR_FAILING (int)(sizeof(failing) / sizeof(*failing))

START_TEST(storage_fails)
{
	const char *dir = scratch("failing"), *old = scratch("failing-old");
	unsigned nr = failing[_i].nr;
	struct run_how how = {.plain = true}; /* the command: it fails, or the VM does */
	struct run vm, command;

	if (!failing[_i].vms) {
		how.prepare = fail_call;
		how.arg = &nr;
	}

	start(&vm, &(struct run_how){.prepare = failing[_i].vms ? fail_call : NULL, .arg = &nr},
	      "bad");
	/* Of another VM, to be replaced. */
	background("good", ARGS(MEMORY_GUEST));
	snapshot("good", old);
	for (int replaces = 0; replaces < 2; replaces++) {
		run_start(&command, &how, ARGS("snapshot", "bad", replaces ? old : dir));
		run_wait(&command);
		expect_end(&command, failing[_i].status, failing[_i].words);
		run_free(&command);
		ck_assert(!exists(dir));
		ck_assert_uint_eq(leftovers(dir) + leftovers(old), 0);
		expect_still_good("bad", old);
	}
	expect_command(ARGS("stop", "bad", "--kill"), 0, "gone, status 109");
	expect_command(ARGS("stop", "good", "--kill"), 0, "gone, status 109");
	run_wait(&vm);
	run_free(&vm);
}
END_TEST

/* --- killed ----------------------------------------------------------------------------------- */

enum victim { COMMAND, MONITOR, WRITER, RESTORER, MERGER, VICTIMS };

static pid_t restored(const char *dir)
{
	struct run run;
	int pid = 0;

	foal_command(&run,
		     ARGS("restore", dir, "-d", "--name", "victim", "--time-limit", GUEST_LIMIT));
	ck_assert_msg(sscanf(run.out_text, "victim: running, pid %d", &pid) == 1, "%d: %s",
		      run.status, run.err_text);
	run_free(&run);
	return pid;
}

static void wait_gone(pid_t pid)
{
	while (kill(pid, 0) == 0)
		usleep(200);
}

/* Begun, and something of it killed; the VM's process from then on. */
static pid_t kill_one(enum victim who, pid_t vm, unsigned most_us)
{
	const char *base = scratch("killed"), *top = scratch("killed-diff");
	struct run_how how = {.plain = true};
	struct run run;
	pid_t child;

	if (who == RESTORER)
		run_start(&run, &how,
			  ARGS("restore", top, "--time-limit", GUEST_LIMIT, "--stats", "off"));
	else if (who == MERGER)
		run_start(&run, &how, ARGS("snapshot", "merge", top, scratch("killed-one")));
	else
		run_start(&run, &how, ARGS("snapshot", "victim", top, "--diff", base));
	some_moment(most_us);
	if (who == WRITER && (child = child_of(vm)))
		kill(child, SIGKILL);
	if (who == MONITOR)
		kill(vm, SIGKILL);
	if (who == COMMAND || who == RESTORER || who == MERGER)
		kill(run.pid, SIGKILL);
	run_wait(&run);
	run_free(&run);
	if (who != MONITOR)
		return vm;
	wait_gone(vm);
	return restored(top);
}

/* Whoever is killed, whenever: there is a whole snapshot, the old one or the new one. */
START_TEST(killed_meanwhile)
{
	unsigned n = times("FOAL_SNAPSHOT_KILLS", 20),
		 seed = times("FOAL_SEED", (unsigned)time(NULL));
	const char *base = scratch("killed"), *top = scratch("killed-diff");
	pid_t pid = background("victim", ARGS(MEMORY_GUEST));

	printf("FOAL_SEED=%u FOAL_SNAPSHOT_KILLS=%u\n", seed, n);
	fflush(stdout);
	random_from(seed);
	snapshot("victim", base);
	expect_command(ARGS("snapshot", "victim", top, "--diff"), 0, "more than");
	for (unsigned i = 0; i < n; i++) {
		pid = kill_one((enum victim)(i % VICTIMS), pid, i % 3 ? 40000 : 10000);
		expect_still_good("victim", top);
		if (exists(scratch("killed-one")))
			expect_command(ARGS("verify", scratch("killed-one")), 0, "whole");
	}
	/* One whose writer is not gone yet is refused, and only then. */
	while (child_of(pid))
		usleep(1000);
	expect_command(ARGS("snapshot", "victim", top, "--diff", base), 0, "more than");
	expect_command(ARGS("stop", "victim", "--kill"), 0, "gone, status 109");
	restored(top);
	expect_still_good("victim", top);
	expect_command(ARGS("stop", "victim", "--kill"), 0, "gone, status 109");
}
END_TEST

/* --- clients that are no foal ---------------------------------------------------------- */

#define FILES 3

/* Send @count descriptors with a message on @channel. */
static void pass(int channel, const int *fds, unsigned count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(8 * sizeof(int))];
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t) "x", 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = CMSG_SPACE(count * sizeof(int))};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(cmsg), fds, count * sizeof(int));
	ck_assert_int_eq(sendmsg(channel, &msg, MSG_NOSIGNAL), 1);
}

static int empty(const char *name)
{
	int fd = open(scratch("%s", name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	return fd;
}

/* Our end of the channel of a request with @members, and with @parents messages; the VM took it. */
static int request(const char *name, const char *members, const int *parent, unsigned parents)
{
	int fd = control_connect(name), ends[2];
	int files[FILES] = {empty("c-memory"), empty("c-index"), empty("c-state")};
	char text[256];
	json_t *reply;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	pass(ends[0], files, FILES);
	for (unsigned i = 0; i < parents; i++)
		pass(ends[0], parent, 1);
	snprintf(text, sizeof(text), "{\"command\":\"snapshot\"%s}\n", members);
	ck_assert_int_gt(fd_send(fd, text, strlen(text), 0, ends[1]), 0);
	reply = control_line(fd);
	ck_assert_msg(json_is_true(json_object_get(reply, "ok")), "%s", json_dumps(reply, 0));
	json_decref(reply);
	for (int i = 0; i < FILES; i++)
		close(files[i]);
	close(ends[1]);
	close(fd);
	return ends[0];
}

/* What the writer says, which has to have @words. */
static void expect_message(int channel, const char *words)
{
	char text[1024];
	ssize_t n = recv(channel, text, sizeof(text) - 1, 0);

	ck_assert_int_gt(n, 0);
	text[n] = 0;
	ck_assert_msg(strstr(text, words), "%s", text);
}

/* Until its writer is gone there is no other; it does not wait for ever. */
START_TEST(second_is_refused)
{
	pid_t pid = background("busy", ARGS(MEMORY_GUEST));
	const char *dir = scratch("second");
	int channel = request("busy", ",\"pagemap\":true", NULL, 0);

	/* It waits for the page map. */
	expect_message(channel, "{\"child\":");
	ck_assert_int_gt(child_of(pid), 0);
	expect_command(ARGS("snapshot", "busy", dir), 113, "a snapshot of it is being written");
	ck_assert(!exists(dir) && leftovers(dir) == 0);
	pass(channel, &(int){STDERR_FILENO}, 1); /* that is none */
	expect_message(channel, "\"ok\":true");
	close(channel);
	while (child_of(pid))
		usleep(1000);
	snapshot("busy", dir);
	/* Whoever asked has gone. */
	close(request("busy", ",\"pagemap\":true", NULL, 0));
	while (child_of(pid))
		usleep(1000);
	snapshot("busy", dir);
	expect_still_good("busy", dir);
	expect_command(ARGS("stop", "busy", "--kill"), 0, "gone, status 109");
}
END_TEST

START_TEST(parents_that_lie)
{
	int garbage = empty("garbage"), channel;
	pid_t pid = background("doubts", ARGS(MEMORY_GUEST));

	channel = request("doubts", ",\"parents\":2", NULL, 0);
	expect_message(channel, "the files of parent 0 do not come");
	close(channel);
	while (child_of(pid))
		usleep(1000);
	ck_assert_int_eq(pwrite(garbage, "garbage", 7, 5000), 7);
	channel = request("doubts", ",\"parents\":1,\"compress\":\"zstd\"", &garbage, 1);
	expect_message(channel, "this is no index");
	close(channel);
	while (child_of(pid))
		usleep(1000);
	int fd = control_connect("doubts");
	control_refused(fd, "{\"command\":\"snapshot\",\"parents\":64}", "bad-request");
	control_refused(fd, "{\"command\":\"snapshot\",\"parents\":-1}", "bad-request");
	control_refused(fd, "{\"command\":\"snapshot\",\"compress\":\"xz\"}", "bad-request");
	control_refused(fd, "{\"command\":\"snapshot\",\"dir\":\"here\"}", "bad-request");
	control_refused(fd, "{\"command\":\"snapshot\",\"pagemap\":1}", "bad-request");
	control_refused(fd, "{\"command\":\"machine\",\"parents\":1}", "bad-request");
	close(fd);
	snapshot("doubts", scratch("doubts"));
	expect_still_good("doubts", scratch("doubts"));
	expect_command(ARGS("stop", "doubts", "--kill"), 0, "gone, status 109");
}
END_TEST

/* --- memory that moves ---------------------------------------------------------------------- */

/* Taken while reclaim writes out, and while a restore brings in; differences, each of the last. */
START_TEST(during_reclaim_and_restore)
{
	const char *swap = scratch("tight-swap"), *dir = scratch("tight-first");
	pid_t pid = background("tight", ARGS("--kernel", guest_path("working-set.elf"), "--append",
					     "pages=8192 passes=100000000", "--memory", "64M",
					     "--memory-limit", "16M", "--swap", swap));

	some_moment(300000);
	snapshot("tight", dir);
	for (int i = 0; i < 6; i++) {
		struct run run;
		char *line;
		int got;

		dir = scratch("tight-%d", i);
		some_moment(i % 2 ? 1000 : 200000);
		expect_command(ARGS("snapshot", "tight", dir, "--diff"), 0, "more than");
		ck_assert_msg(kill(pid, SIGKILL) == 0, "round %d: the guest had ended", i);
		wait_gone(pid);
		foal_command(&run, ARGS("restore", dir, "-d", "--name", "tight", "--time-limit",
					GUEST_LIMIT, "--memory-limit", "16M", "--swap", swap));
		line = strstr(run.out_text, "pid ");
		ck_assert_msg(line && sscanf(line, "pid %d", &got) == 1, "round %d: %d: %s", i,
			      run.status, run.err_text);
		pid = got;
		run_free(&run);
	}
	some_moment(50000);
	expect_still_good("tight", dir);
	expect_command(ARGS("stop", "tight", "--kill"), 0, "gone, status 109");
}
END_TEST

Suite *snapshot_faults_suite(void)
{
	Suite *suite = suite_create("snapshot_faults");
	TCase *tc = tcase_create("snapshot_faults");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_test(tc, no_room_for_any_part);
	tcase_add_loop_test(tc, storage_fails, 0, NR_FAILING);
	tcase_add_test(tc, killed_meanwhile);
	tcase_add_test(tc, second_is_refused);
	tcase_add_test(tc, parents_that_lie);
	tcase_add_test(tc, during_reclaim_and_restore);
	suite_add_tcase(suite, tc);
	return suite;
}
