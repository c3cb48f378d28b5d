/* A VM brought to rest and back, and hostile clients of its control socket. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/kvm/control_rig.h"
#include "tests/kvm/slow_file.h"
#include "tests/kvm/suites.h"

#define PAUSE  "{\"command\":\"pause\"}"
#define RESUME "{\"command\":\"resume\"}"
#define STATUS "{\"command\":\"status\"}"

/* With disk I/O in flight. */
#define ROUNDS 200

static void devices_guest(const char *name, const char *cpus)
{
	background(name, ARGS("--kernel", guest_path("devices.elf"), "--cpus", cpus));
}

/* --- it stands still ------------------------------------------------------------------ */

START_TEST(stands_still)
{
	devices_guest("still", "1");
	int fd = control_connect("still"), console = control_console(fd);
	uint64_t before, paused;

	read_until(console, "ready\n");
	if (!exits_of(fd))
		skip("KVM has no statistics here");
	control_number(fd, PAUSE, "took_ns");
	before = exits_of(fd);
	/* Typed now, it is heard when the guest goes on. */
	ck_assert_int_eq(send(console, "n", 1, 0), 1);
	for (int i = 0; i < 50; i++)
		ck_assert_uint_eq(exits_of(fd), before);
	char byte;
	ck_assert_int_eq(recv(console, &byte, 1, MSG_DONTWAIT), -1);
	paused = control_number(fd, RESUME, "paused_ns");
	ck_assert_uint_gt(paused, 0);
	read_until(console, "rounds ");
	ck_assert_uint_gt(exits_of(fd), before);
	close(console);
	close(fd);
}
END_TEST

/* Each access of the guest is done once, whenever the pause comes: it checks what it reads. */
START_TEST(accesses_are_whole)
{
	devices_guest("whole", "1");
	int fd = control_connect("whole"), console = control_console(fd);

	read_until(console, "ready\n");
	for (unsigned i = 0; i < rounds_here(300); i++) {
		control_number(fd, PAUSE, "took_ns");
		control_number(fd, RESUME, "paused_ns");
	}
	ck_assert_int_eq(send(console, "n", 1, 0), 1);
	read_until(console, "rounds ");
	control_send(fd, "{\"command\":\"stop\",\"timeout_ms\":100000}\n");
	ck_assert_int_eq(send(console, "q", 1, 0), 1);
	json_t *end = control_line(fd);
	ck_assert_int_eq(json_integer_value(json_object_get(end, "status")), 0);
	json_decref(end);
	close(console);
	close(fd);
}
END_TEST

/* Processors that wait for their INIT are at rest, too. */
START_TEST(many_processors)
{
	devices_guest("many", "4");
	int fd = control_connect("many");

	for (unsigned i = 0; i < rounds_here(100); i++) {
		control_number(fd, PAUSE, "took_ns");
		control_number(fd, RESUME, "paused_ns");
	}
	close(fd);
}
END_TEST

/* --- disk I/O in flight ------------------------------------------------------------------- */

static void sum_line(const char *image, char line[160])
{
	char sum[SHA256_HEX];

	sum_in_image(image, "/data/corpus", sum);
	snprintf(line, 160, "sha256 %s  /data/corpus", sum);
}

/* It may end any moment: the reply, or NULL, or its last word. */
static json_t *ask_while_it_runs(int fd, const char *request)
{
	send(fd, request, strlen(request), MSG_NOSIGNAL);
	return control_line(fd);
}

/* Requests of its disk so far; UINT64_MAX: it has ended. */
static uint64_t disk_requests(int fd)
{
	json_t *reply = ask_while_it_runs(fd, "{\"command\":\"stat\"}\n");
	json_t *disks = json_object_get(json_object_get(reply, "stats"), "disks");
	json_t *disk = json_array_get(disks, 0);
	uint64_t n = (uint64_t)json_integer_value(json_object_get(disk, "reads")) +
		     (uint64_t)json_integer_value(json_object_get(disk, "writes"));

	json_decref(reply);
	return disk ? n : UINT64_MAX;
}

/* False: it ended instead. */
static bool did(int fd, const char *request)
{
	json_t *reply = ask_while_it_runs(fd, request);
	bool ok = json_is_true(json_object_get(reply, "ok"));

	json_decref(reply);
	return ok;
}

/*
 * Each time that its disk was at work again it is paused, and its disk must rest; and
 * again as soon as the worker goes on with what has waited. Until it ends, or @most times.
 */
static unsigned pause_while_running(int fd, unsigned most)
{
	uint64_t seen = 0, now;
	unsigned rounds = 0;

	while (rounds < most && (now = disk_requests(fd)) != UINT64_MAX) {
		if (now == seen)
			continue;
		if (!did(fd, PAUSE "\n"))
			break;
		seen = disk_requests(fd);
		ck_assert_uint_eq(disk_requests(fd), seen);
		if (!did(fd, RESUME "\n") || !did(fd, PAUSE "\n") || !did(fd, RESUME "\n"))
			break;
		rounds += 2;
	}
	return rounds;
}

/* The guest kernel reads its disk and its pmem, sums them and writes both, paused all the time. */
START_TEST(with_io_in_flight)
{
	unsigned rounds = 0, wanted = rounds_here(ROUNDS);
	char line[160], disk_option[600], pmem_option[600];

	if (access(image_path("kernel.elf"), R_OK) || run_tool(NULL, ARGS("debugfs", "-V")))
		skip("no guest kernel, or no debugfs here");
	for (int i = 0; (i < 20 && rounds < wanted) || !rounds; i++) {
		struct run run;
		const char *disk = copy_file(image_path("disk.img"), "disk.img");
		const char *pmem = copy_file(image_path("pmem.img"), "pmem.img");
		snprintf(disk_option, sizeof(disk_option), "%s,mode=shared", disk);
		snprintf(pmem_option, sizeof(pmem_option), "%s,mode=shared", pmem);
		sum_line(disk, line);
		run_start(&run, NULL,
			  ARGS("--name", "io", "--kernel", image_path("kernel.elf"), "--disk",
			       disk_option, "--pmem", pmem_option, "--append",
			       "quiet init=/bin/main root=/dev/vda -- nonce=seven"));
		run_until(&run, "\n");
		int fd = control_connect("io");
		rounds += pause_while_running(fd, wanted - rounds);
		run_wait(&run);
		close(fd);
		ck_assert_msg(run.status == 0 && strstr(run.out_text, "main: ok"),
			      "status %d\n%s\n%s", run.status, run.out_text, run.err_text);
		ck_assert_msg(strstr(run.out_text, line) != NULL, "no \"%s\" in %s", line,
			      run.out_text);
		expect_fs_clean(disk);
		expect_fs_clean(pmem);
		run_free(&run);
	}
	printf("%u pauses with I/O in flight\n", rounds);
}
END_TEST

/* --- what is defined ------------------------------------------------------------------------ */

START_TEST(states)
{
	devices_guest("state", "1");
	int fd = control_connect("state");

	control_refused(fd, RESUME, "state");
	control_number(fd, PAUSE, "took_ns");
	control_refused(fd, PAUSE, "state");
	expect_command(ARGS("pause", "state"), 113, "paused already");
	control_refused(fd, "{\"command\":\"balloon\",\"size\":4096}", "unavailable");
	close(fd); /* who paused it is gone: it stays paused */
	fd = control_connect("state");
	ck_assert_uint_gt(control_number(fd, STATUS, "paused_for_ns"), 0);
	expect_command(ARGS("ps"), 0, " paused ");
	expect_command(ARGS("resume", "state"), 0, "it was paused for");
	ck_assert_uint_eq(control_number(fd, STATUS, "paused_for_ns"), 0);
	expect_command(ARGS("resume", "state"), 113, "not paused");
	close(fd);
}
END_TEST

/* Started, and paused: its connection. */
static int start_and_pause(struct run *run, const char *limit)
{
	run_start(
	    run, NULL,
	    ARGS("--name", "ending", "--kernel", guest_path("devices.elf"), "--time-limit", limit));
	run_until(run, "ready\n");
	int fd = control_connect("ending");
	control_number(fd, PAUSE, "took_ns");
	return fd;
}

/* Seconds that it is surely paused within: many times what it took once. */
static const char *limit_of_this_host(void)
{
	static char limit[24];
	time_t begin = time(NULL);
	struct run run;

	close(start_and_pause(&run, GUEST_LIMIT));
	snprintf(limit, sizeof(limit), "%ld", 2 + 10 * (time(NULL) - begin));
	kill(run.pid, SIGKILL);
	run_wait(&run);
	run_free(&run);
	return limit;
}

/* 0: by a signal, 1: by its time limit, 2: by a client that goes before the answer. */
START_TEST(ends_while_paused)
{
	struct run run;
	int fd = start_and_pause(&run, _i == 1 ? limit_of_this_host() : GUEST_LIMIT);

	if (_i == 0)
		kill(run.pid, SIGTERM);
	if (_i == 2) {
		control_send(fd, "{\"command\":\"stop\",\"kill\":true}\n");
		close(fd);
	}
	run_wait(&run);
	ck_assert_msg(run.status == (_i == 0   ? 143
				     : _i == 1 ? 108
					       : 109),
		      "status %d: %s", run.status, run.err_text);
	run_free(&run);
	if (_i != 2)
		close(fd);
}
END_TEST

/* A vCPU that the host's kernel holds: the pause says so and lets the guest go on. */
START_TEST(that_cannot_be)
{
	struct run run;
	pid_t server;

	if (!is_root())
		skip("only root can mount a file system");
	server = slow_file_serve(scratch("slow"), 512, 256);
	if (!server)
		skip("this host has no FUSE");
	run_start(&run, NULL,
		  ARGS("--name", "stuck", "--kernel", guest_path("loop.elf"), "--append",
		       "how=pmem mode=r", "--pmem", scratch("slow/slow.img"), "--fault-engine",
		       "kernel", "--fault-timeout", "60"));
	run_until(&run, "ready\n");
	int fd = control_connect("stuck");
	/* Until it has run into what does not come. */
	json_t *reply = NULL;
	for (const char *code = NULL; !code;) {
		reply = control_ask(fd, "{\"command\":\"pause\",\"timeout_ms\":100}");
		json_t *error = json_object_get(reply, "error");
		code = json_string_value(json_object_get(error, "code"));
		if (!code) {
			json_decref(reply);
			control_number(fd, RESUME, "paused_ns");
		} else {
			ck_assert_str_eq(code, "timeout");
			ck_assert_ptr_nonnull(
			    strstr(json_string_value(json_object_get(error, "message")),
				   "vCPU 0 has not left the host's kernel"));
		}
	}
	json_decref(reply);
	ck_assert_uint_eq(control_number(fd, STATUS, "paused_for_ns"), 0);
	kill(run.pid, SIGTERM);
	slow_file_end(server);
	run_wait(&run);
	run_free(&run);
	close(fd);
}
END_TEST

/* --- statistics and balloon ------------------------------------------------------------ */

START_TEST(statistics)
{
	background("stat", ARGS("--kernel", guest_path("loop.elf"), "--append", "how=anon",
				"--fault-engine", "handler", "--balloon", "on"));
	expect_command(ARGS("stat", "stat"), 0, "from start to now");
	int fd = control_connect("stat");
	json_t *reply = control_ask(fd, "{\"command\":\"stat\",\"format\":\"json\"}");
	json_t *stats = json_object_get(reply, "stats");
	ck_assert(json_is_true(json_object_get(stats, "running")));
	ck_assert(json_is_array(json_object_get(stats, "areas")));
	ck_assert_ptr_null(json_object_get(stats, "status"));
	json_decref(reply);
	expect_command(ARGS("balloon", "stat", "96M"), 0, "asked to put 160 MiB aside");
	reply = control_ask(fd, "{\"command\":\"stat\"}");
	json_t *balloon = json_object_get(json_object_get(reply, "stats"), "balloon");
	ck_assert_int_eq(json_integer_value(json_object_get(balloon, "target")), 160 << 20);
	json_decref(reply);
	expect_command(ARGS("balloon", "stat", "1G"), 113, "it has less memory");
	expect_command(ARGS("balloon", "stat", "12345"), 100, "a multiple of");
	control_number(fd, PAUSE, "took_ns");
	expect_command(ARGS("balloon", "stat", "96M"), 113, "the VM is paused");
	close(fd);
}
END_TEST

/* --- hostile clients
 * ------------------------------------------------------------------------------ */

static int raw_connect(const char *name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%.80s/%.20s.sock", scratch("run"), name);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

START_TEST(crowd)
{
	int fds[16];

	devices_guest("crowd", "1");
	for (int i = 0; i < 16; i++)
		fds[i] = control_connect("crowd");
	int late = raw_connect("crowd");
	json_t *line = control_line(late);
	ck_assert_str_eq(json_string_value(json_object_get(json_object_get(line, "error"), "code")),
			 "busy");
	json_decref(line);
	ck_assert_ptr_null(control_line(late));
	close(late);
	/* Who is in is served; who goes makes room. */
	ck_assert_uint_eq(control_number(fds[15], STATUS, "vcpus"), 1);
	close(fds[0]);
	ck_assert_uint_eq(control_number(fds[1], STATUS, "vcpus"), 1);
	fds[0] = control_connect("crowd");
	for (int i = 0; i < 16; i++)
		close(fds[i]);
}
END_TEST

/* Asks for much and reads nothing: others are served, and it costs no more than an answer. */
START_TEST(reads_nothing)
{
	static const char request[] = "{\"command\":\"stat\"}\n";

	devices_guest("mute", "1");
	int mute = control_connect("mute"), fd = control_connect("mute");
	size_t sent = 0;

	while (send(mute, request, sizeof(request) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		sent++;
	ck_assert_uint_gt(sent, 100);
	for (int i = 0; i < 20; i++)
		ck_assert_uint_eq(control_number(fd, STATUS, "vcpus"), 1);
	close(mute);
	ck_assert_uint_eq(control_number(fd, STATUS, "vcpus"), 1);
	close(fd);
}
END_TEST

START_TEST(nonsense)
{
	static const char letters[] = "{}[]\",:\\u09aeE+-. \t\r\1\x7f\x80\xff";
	char line[5000];

	devices_guest("sane", "1");
	int fd = control_connect("sane"), half = control_connect("sane");

	control_send(half, "{\"command\":");
	control_refused(fd, "[1,2,3]", "bad-request");
	control_refused(fd, "{\"command\":\"reboot\"}", "unknown-command");
	control_refused(fd, "{\"command\":\"pause\",\"kill\":true}", "bad-request");
	srandom(7);
	for (unsigned i = 0; i < rounds_here(500); i++) {
		size_t n = 1 + (size_t)random() % 100;
		for (size_t j = 0; j < n; j++)
			line[j] = letters[(size_t)random() % (sizeof(letters) - 1)];
		line[n] = 0;
		control_refused(fd, line, "bad-request");
	}
	memset(line, ' ', sizeof(line));
	line[sizeof(line) - 1] = 0;
	control_send(fd, line); /* without an end: it is not waited for */
	json_t *refusal = control_line(fd);
	json_t *code = json_object_get(json_object_get(refusal, "error"), "code");
	ck_assert_str_eq(json_string_value(code), "too-long");
	json_decref(refusal);
	ck_assert_ptr_null(control_line(fd));
	close(fd);
	control_send(half, "\"status\"}\n");
	json_decref(control_line(half));
	close(half);
}
END_TEST

/* The directory keeps others out; where it does not, the VM does. */
START_TEST(another_user)
{
	int status;

	if (!is_root())
		skip("only root can become another user");
	devices_guest("mine", "1");
	chmod(scratch("run"), 0755);
	chmod(scratch("run/mine.sock"), 0777);
	pid_t pid = fork();
	if (pid == 0) {
		char text[200] = "";
		ck_assert_int_eq(setresuid(12345, 12345, 12345), 0);
		int fd = raw_connect("mine");
		ck_assert_int_gt(recv(fd, text, sizeof(text) - 1, 0), 0);
		_exit(strstr(text, "\"denied\"") ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	chmod(scratch("run"), 0700);
	ck_assert_int_eq(status, 0);
}
END_TEST

static void add(Suite *suite, TCase *tc)
{
	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, end_all, end_all);
	suite_add_tcase(suite, tc);
}

Suite *pause_suite(void)
{
	Suite *suite = suite_create("pause");
	TCase *rest = tcase_create("pause"), *clients = tcase_create("clients");

	tcase_add_test(rest, stands_still);
	tcase_add_test(rest, accesses_are_whole);
	tcase_add_test(rest, many_processors);
	tcase_add_test(rest, with_io_in_flight);
	tcase_add_test(rest, states);
	tcase_add_loop_test(rest, ends_while_paused, 0, 3);
	tcase_add_test(rest, that_cannot_be);
	tcase_add_test(rest, statistics);
	add(suite, rest);
	tcase_add_test(clients, crowd);
	tcase_add_test(clients, reads_nothing);
	tcase_add_test(clients, nonsense);
	tcase_add_test(clients, another_user);
	add(suite, clients);
	return suite;
}
