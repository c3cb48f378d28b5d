/*
 * Storage that does not answer: the VM stops, says what it waited for, and does not wait. Or one
 * that answers with an error.
 */
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/kvm/control_rig.h"
#include "tests/kvm/slow_file.h"
#include "tests/kvm/suites.h"

#define PAGES 512
#define HUNG  256 /* from this page on */

static const char *const engines[] = {"handler", "kernel"};

static pid_t serve_file(const char *engine, pid_t (*serve)(const char *, unsigned, unsigned))
{
	pid_t server;

	if (!is_root())
		skip("only root can mount a file system");
	if (strcmp(engine, "handler") == 0 && !have_userfaultfd())
		skip("no userfaultfd here");
	server = serve(scratch("slow"), PAGES, HUNG);
	if (!server)
		skip("this host has no FUSE");
	return server;
}

static pid_t start_on_slow_file(struct run *run, const char *engine, const char *limit)
{
	pid_t server = serve_file(engine, slow_file_serve);

	run_start(run, NULL,
		  ARGS("--kernel", guest_path("loop.elf"), "--append", "how=pmem mode=r", "--pmem",
		       scratch("slow/slow.img"), "--fault-engine", engine, "--fault-timeout",
		       limit));
	return server;
}

static void expect_named(const struct run *run, const char *engine)
{
	ck_assert_ptr_nonnull(strstr(run->err_text, "slow.img"));
	if (strcmp(engine, "handler") == 0) {
		ck_assert_ptr_nonnull(strstr(run->err_text, ", byte "));
		ck_assert_ptr_nonnull(strstr(run->err_text, "vcpu), is not resolved "
							    "after 1 s: it waits for a read of "
							    "its file"));
	} else {
		ck_assert_ptr_nonnull(
		    strstr(run->err_text, "vCPU 0 has not left the host's kernel for 1 s"));
	}
}

/*
 * The kernel does not let go of a process that waits for this file; by then foal has said
 * why it ends, and is gone when the file's server is.
 */
START_TEST(hung_read)
{
	struct run run;
	pid_t server = start_on_slow_file(&run, engines[_i], "1");

	run_until_error(&run, ": ended without waiting for what hangs");
	expect_named(&run, engines[_i]);
	slow_file_end(server);
	run_wait(&run);
	ck_assert_msg(run.status == 108, "status %d: %s", run.status, run.err_text);
	ck_assert_ptr_null(run.stats);
	run_free(&run);
}
END_TEST

/* Does a thread of @pid sleep where no signal gets it out? */
static bool sleeps_for_good(pid_t pid)
{
	char pattern[64], line[256], state = 0;
	glob_t tasks;

	snprintf(pattern, sizeof(pattern), "/proc/%d/task/*/stat", pid);
	if (glob(pattern, 0, NULL, &tasks))
		return false;
	for (size_t i = 0; i < tasks.gl_pathc && state != 'D'; i++) {
		FILE *f = fopen(tasks.gl_pathv[i], "r");
		if (f && fgets(line, sizeof(line), f))
			sscanf(line, "%*d (%*[^)]) %c", &state);
		if (f)
			fclose(f);
	}
	globfree(&tasks);
	return state == 'D';
}

/* A signal while it hangs, before that was noticed: its status counts. */
START_TEST(signal_while_hung)
{
	struct run run;
	pid_t server = start_on_slow_file(&run, engines[_i], "8");

	run_until(&run, "ready\n");
	while (strcmp(engines[_i], "kernel") == 0 && !sleeps_for_good(run.pid))
		usleep(1000);
	kill(run.pid, SIGTERM);
	run_until_error(&run, "ended by signal 15");
	slow_file_end(server);
	run_wait(&run);
	ck_assert_msg(run.status == 128 + SIGTERM, "status %d: %s", run.status, run.err_text);
	run_free(&run);
}
END_TEST

/* What the guest wrote is not given up, and who waits for the end is told what it waits for. */
START_TEST(hung_write_back)
{
	int begun[2], go[2];
	struct run run;
	char pmem[600], byte = 0;

	if (!is_root() || !have_userfaultfd())
		skip("only root can mount a file system, and userfaultfd is needed");
	ck_assert_int_eq(pipe2(begun, O_CLOEXEC) | pipe2(go, O_CLOEXEC), 0);
	pid_t server = waiting_file_serve(scratch("slow"), PAGES, begun[1], go[0]);
	if (!server)
		skip("this host has no FUSE");
	snprintf(pmem, sizeof(pmem), "%s,mode=shared", scratch("slow/slow.img"));
	run_start(&run, NULL,
		  ARGS("--kernel", guest_path("loop.elf"), "--append", "how=pmem mode=w first=1",
		       "--pmem", pmem, "--fault-timeout", "1"));
	run_until(&run, "ready\n");
	kill(run.pid, SIGTERM);
	ck_assert_int_eq(read(begun[0], &byte, 1), 1);
	run_until_error(&run, "the stop has waited 1 s for what the guest wrote to reach");
	ck_assert_ptr_nonnull(strstr(run.err_text, "slow.img"));
	ck_assert_int_eq(write(go[1], &byte, 1), 1);
	run_wait(&run);
	ck_assert_msg(run.status == 128 + SIGTERM, "status %d: %s", run.status, run.err_text);
	ck_assert_ptr_null(strstr(run.err_text, "lost"));
	slow_file_end(server);
	run_free(&run);
}
END_TEST

static const struct {
	const char *engine, *guest, *append;
} reads[] = {
    {"handler", "loop.elf", "how=pmem mode=r"},
    {"handler", "loop.elf", "how=pmem mode=w"},
    {"handler", "poison.elf", "page=256 mce=0 mode=r ring=3"},
    {"kernel", "loop.elf", "how=pmem mode=r"},
    {"kernel", "loop.elf", "how=pmem mode=w"},
    {"kernel", "poison.elf", "page=256 mce=0 mode=r ring=3"},
    {"kernel", "poison.elf", "page=256 mce=0 mode=w ring=3"},
    {"kernel", "poison.elf", "page=256 mce=0 mode=r ring=3 smap=1"},
};

/*
 * What the host kernel cannot bring in it may tell nobody: the guest's registers do. On an
 * emulated host the vCPU may take longer to look there than the watchdog waits.
 */
static void expect_told(const struct run *run)
{
	if (emulated_host() && run->status == 108) { /* the registers follow */
		ck_assert_ptr_nonnull(strstr(run->err_text, "vCPU 0 faults without progress: "));
		ck_assert_ptr_nonnull(strstr(run->err_text, "slow.img)\n"));
	} else if (emulated_host() && !strstr(run->err_text, "slow.img")) {
		expect_end(run, 106, "a file behind it failed");
	} else {
		expect_end(run, 106, ": cannot read byte 1048576 of ");
		ck_assert_ptr_nonnull(
		    strstr(run->err_text, "slow.img for pmem0: Input/output error; "));
	}
}

/* The file's storage answers with an error: the VM ends, and one line says why. */
START_TEST(read_error)
{
	pid_t server = serve_file(reads[_i].engine, bad_file_serve);
	struct run run;

	run_start(&run, NULL,
		  ARGS("--kernel", guest_path(reads[_i].guest), "--append", reads[_i].append,
		       "--pmem", scratch("slow/slow.img"), "--fault-engine", reads[_i].engine));
	run_until(&run, "ready\n");
	run_type(&run, "x", 1);
	run_wait(&run);
	if (strcmp(reads[_i].engine, "handler") == 0)
		expect_end(&run, 106, "slow.img for pmem0: Input/output error");
	else
		expect_told(&run);
	slow_file_end(server);
	run_free(&run);
}
END_TEST

/* A snapshot of which nothing comes, and all is waited for before the guest goes on. */
START_TEST(eager_restore)
{
	const char *dir = scratch("eager"), *memory = scratch("eager/memory");
	struct run_how how = {.plain = true};
	struct stat st;
	struct run run;
	pid_t server;

	if (!is_root() || !have_userfaultfd())
		skip("only root can mount a file system, and userfaultfd is needed");
	background("frozen", ARGS("--kernel", guest_path("identity.elf"), "--memory", "16M"));
	expect_command(ARGS("snapshot", "frozen", dir), 0, "the guest was paused for");
	expect_command(ARGS("stop", "frozen", "--kill"), 0, "gone");
	ck_assert_int_eq(stat(memory, &st), 0);
	server = slow_file_serve(scratch("slow"), (unsigned)(st.st_size / 4096), 0);
	if (!server)
		skip("this host has no FUSE");
	ck_assert_int_eq(mount(scratch("slow/slow.img"), memory, NULL, MS_BIND, NULL), 0);
	run_start(&run, &how,
		  ARGS("restore", dir, "--eager", "--fault-timeout", "1", "--stats", "off"));
	run_until_error(&run, "ended without waiting for what hangs\n");
	ck_assert_ptr_nonnull(strstr(run.err_text, "nothing of "));
	slow_file_end(server);
	run_wait(&run);
	ck_assert_msg(run.status == 108, "status %d: %s", run.status, run.err_text);
	ck_assert_uint_eq(foal_lines(&run), 1);
	run_free(&run);
}
END_TEST

Suite *hung_suite(void)
{
	Suite *suite = suite_create("hung");
	TCase *tc = tcase_create("hung");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, hung_read, 0, 2);
	tcase_add_loop_test(tc, signal_while_hung, 0, 2);
	tcase_add_test(tc, hung_write_back);
	tcase_add_loop_test(tc, read_error, 0, sizeof(reads) / sizeof(reads[0]));
	tcase_add_test(tc, eager_restore);
	suite_add_tcase(suite, tc);
	return suite;
}
