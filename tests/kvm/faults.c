/* The control command `faults`: what a VM's log says is what its counters say. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/fd_passing.h"
#include "ept/record.h"
#include "tests/kvm/control_rig.h"
#include "tests/kvm/suites.h"

#define ASK "{\"command\":\"faults\"}\n"

/* What came: the reply, and the log's reader. */
struct faults {
	json_t *reply;
	int fd;
};

static struct faults ask_faults(const char *name)
{
	struct faults out = {.fd = -1};
	int ends[2], fd = control_connect(name);
	char byte = 0;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	control_pass(fd, ASK, ends[1], 1);
	close(ends[1]);
	out.reply = control_line(fd);
	ck_assert(json_is_true(json_object_get(out.reply, "ok")));
	ck_assert_int_eq(fd_recv(ends[0], &byte, 1, 0, &out.fd), 1);
	ck_assert_int_ge(out.fd, 0);
	ck_assert_int_eq(recv(ends[0], &byte, 1, 0), 0); /* nothing more comes */
	close(ends[0]);
	close(fd);
	return out;
}

static void let_go(struct faults *f)
{
	json_decref(f->reply);
	close(f->fd);
}

/* --- sums of records, and of counters --------------------------------------------------------- */

#define MAX_AREAS 32

struct sum {
	uint64_t faults, major, installed, around, bytes_read, granted, fallback;
	uint64_t by_origin[EPT_NR_ORIGINS];
};

static struct sum sums[MAX_AREAS + 1][EPT_NR_CASES]; /* the last: of no area */

static uint64_t sum_records(int fd)
{
	struct ept_records *records;
	struct ept_record r;
	uint64_t count = 0;

	memset(sums, 0, sizeof(sums));
	ck_assert_int_eq(ept_records_open(fd, false, &records), 0);
	for (; ept_records_next(records, &r); count++) {
		struct sum *sum =
		    &sums[r.area == EPT_RECORD_NONE ? MAX_AREAS : r.area % MAX_AREAS][r.kase];

		sum->faults++;
		sum->major += (r.flags & EPT_RECORD_MAJOR) != 0;
		sum->fallback += (r.flags & EPT_RECORD_FALLBACK) != 0;
		sum->installed += r.installed;
		sum->around += r.around;
		sum->bytes_read += r.bytes_read;
		sum->granted += r.granted;
		sum->by_origin[r.origin]++;
		ck_assert((r.origin == EPT_ORIGIN_VCPU && r.flags & EPT_RECORD_EVENT) ==
			  (r.vcpu == 0));
	}
	ck_assert_uint_eq(ept_records_lost(records), 0);
	ept_records_close(records);
	return count;
}

static uint64_t number(const json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

static void expect_case(const json_t *kase, const json_t *names, struct sum *of_area)
{
	const char *name = json_string_value(json_object_get(kase, "case"));
	int c = 0;

	while (strcmp(json_string_value(json_array_get(names, (size_t)c)), name) != 0)
		ck_assert_int_lt(++c, EPT_NR_CASES);
	const struct sum *sum = &of_area[c];
	ck_assert_msg(sum->faults == number(kase, "faults"), "%s: %lu records, %lu faults", name,
		      sum->faults, number(kase, "faults"));
	ck_assert_uint_eq(sum->major, number(kase, "major"));
	ck_assert_uint_eq(sum->fallback, number(kase, "fallback"));
	ck_assert_uint_eq(sum->installed, number(kase, "installed"));
	ck_assert_uint_eq(sum->around, number(kase, "around"));
	ck_assert_uint_eq(sum->bytes_read, number(kase, "bytes_read"));
	ck_assert_uint_eq(sum->granted, number(kase, "granted"));
	for (int o = 0; o < EPT_NR_ORIGINS; o++)
		ck_assert_uint_eq(sum->by_origin[o], number(json_object_get(kase, "by_origin"),
							    ept_origin_name((enum ept_origin)o)));
}

static uint64_t expect_cases(const json_t *cases, const json_t *names, struct sum *of_area)
{
	uint64_t faults = 0;
	json_t *kase;
	size_t i;

	json_array_foreach(cases, i, kase)
	{
		expect_case(kase, names, of_area);
		faults += number(kase, "faults");
	}
	return faults;
}

static void expect_same_area(const json_t *told, const json_t *area)
{
	char gpa[32];
	const char *file = json_string_value(json_object_get(area, "file"));

	snprintf(gpa, sizeof(gpa), "0x%lx", number(told, "gpa"));
	ck_assert_str_eq(gpa, json_string_value(json_object_get(area, "gpa")));
	ck_assert_uint_eq(number(told, "size"), number(area, "size"));
	ck_assert_str_eq(json_string_value(json_object_get(told, "name")),
			 json_string_value(json_object_get(area, "name")));
	ck_assert_str_eq(json_string_value(json_object_get(told, "file")), file ? file : "");
}

static uint64_t faults_in(const json_t *stats)
{
	const json_t *areas = json_object_get(stats, "areas");
	uint64_t faults = 0;
	json_t *kase;
	size_t i, j;

	json_array_foreach(json_object_get(stats, "no_area"), j, kase) faults +=
	    number(kase, "faults");
	for (i = 0; i < json_array_size(areas); i++)
		json_array_foreach(json_object_get(json_array_get(areas, i), "cases"), j, kase)
		    faults += number(kase, "faults");
	return faults;
}

/* Who was woken may rest while its fault is counted still: ask until both say as much. */
static json_t *stat_as_logged(int fd, int log)
{
	for (int tries = 0; tries < 1000; tries++) {
		json_t *stat = control_ask(fd, "{\"command\":\"stat\"}");

		if (sum_records(log) == faults_in(json_object_get(stat, "stats")))
			return stat;
		json_decref(stat);
		usleep(10000);
	}
	ck_abort_msg("the log never has as many records as faults were counted");
	return NULL;
}

/* The log of @name, whose guest rests, has what `foal stat --json` says; how many records. */
static uint64_t expect_log_is_stat(const char *name)
{
	struct faults f = ask_faults(name);
	const json_t *names = json_object_get(f.reply, "cases");
	const json_t *told = json_object_get(f.reply, "areas");
	int fd = control_connect(name);
	json_t *stat = stat_as_logged(fd, f.fd);
	const json_t *stats = json_object_get(stat, "stats"),
		     *areas = json_object_get(stats, "areas");
	uint64_t faults;
	json_t *area;
	size_t i;

	ck_assert_uint_eq(json_array_size(told), json_array_size(areas));
	ck_assert_uint_le(json_array_size(told), MAX_AREAS);
	ck_assert_uint_eq(number(f.reply, "memory"), number(stats, "memory"));
	ck_assert_uint_eq(number(f.reply, "cpus"), number(stats, "cpus"));
	ck_assert_uint_eq(number(f.reply, "first_run_ns"),
			  number(json_object_get(stats, "start"), "first_run_ns"));
	ck_assert_uint_eq(number(f.reply, "main_ns"),
			  number(json_object_get(stats, "start"), "main_ns"));
	faults = expect_cases(json_object_get(stats, "no_area"), names, sums[MAX_AREAS]);
	json_array_foreach(areas, i, area)
	{
		expect_same_area(json_array_get(told, i), area);
		faults += expect_cases(json_object_get(area, "cases"), names, sums[i]);
	}
	json_decref(stat);
	close(fd);
	let_go(&f);
	return faults;
}

/* --- tests -------------------------------------------------------------------------------- */

/* It says "ready" when it has touched its pages, and touches none after that. */
static void start_guest(const char *name, const char *log)
{
	static char pmem[512];

	snprintf(pmem, sizeof(pmem), "%s", make_pmem("pmem.img", 128));
	background(name, ARGS("--kernel", guest_path("pmem.elf"), "--append",
			      "mode=rw pages=128 then=loop", "--pmem", pmem, "--fault-engine",
			      "handler", "--memory", "64M", "--fault-log", log));
	int fd = control_connect(name), console = control_console(fd);
	read_until(console, "ready");
	close(console);
	close(fd);
}

START_TEST(equal_the_counters)
{
	start_guest("one", "on");
	ck_assert_uint_gt(expect_log_is_stat("one"), 20);
}
END_TEST

/* A fork's begins empty, and takes nothing from its parent's; a clone's, too, a template has none.
 */
START_TEST(of_copies)
{
	start_guest("one", "on");
	uint64_t before = expect_log_is_stat("one");

	expect_command(ARGS("fork", "one", "--name", "two"), 0, "two: running");
	expect_log_is_stat("two");
	ck_assert_uint_ge(expect_log_is_stat("one"), before);
	expect_command(ARGS("template", "one", "--name", "tee"), 0, "tee: template");
	expect_command(ARGS("clone", "tee", "--name", "three"), 0, "three: running");
	expect_log_is_stat("three");
	int fd = control_connect("tee");
	control_refused(fd, "{\"command\":\"faults\"}", "unavailable");
	close(fd);
}
END_TEST

/* Its own, of the faults that bring its memory out of the snapshot. */
START_TEST(of_restored)
{
	start_guest("one", "on");
	expect_command(ARGS("snapshot", "one", scratch("snap")), 0, "paused for");
	expect_command(ARGS("stop", "one", "--kill"), 0, "gone");
	expect_command(ARGS("restore", scratch("snap"), "-d", "--name", "two"), 0, "two: running");
	ck_assert_uint_gt(expect_log_is_stat("two"), 0);
	expect_command(
	    ARGS("restore", scratch("snap"), "-d", "--name", "none", "--fault-log", "off"), 0,
	    "none: running");
	int fd = control_connect("none");
	control_refused(fd, "{\"command\":\"faults\"}", "unavailable");
	close(fd);
}
END_TEST

/* The VM is gone, the log is not; and whoever has it cannot write to it. */
START_TEST(outlives_the_vm)
{
	start_guest("one", "on");
	struct faults f = ask_faults("one");
	uint64_t before = sum_records(f.fd);

	ck_assert_ptr_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f.fd, 0), MAP_FAILED);
	ck_assert_int_lt(write(f.fd, "x", 1), 0);
	expect_command(ARGS("stop", "one", "--kill"), 0, "gone");
	ck_assert_uint_ge(sum_records(f.fd), before);
	let_go(&f);
}
END_TEST

START_TEST(refusals)
{
	int ends[2], pipes[2], fd;

	start_guest("none", "off");
	fd = control_connect("none");
	control_refused(fd, "{\"command\":\"faults\"}", "unavailable");
	close(fd);
	start_guest("one", "on");
	fd = control_connect("one");
	control_refused(fd, "{\"command\":\"faults\"}", "bad-request");
	control_refused(fd, "{\"command\":\"faults\",\"size\":1}", "bad-request");
	/* What takes no descriptor, or nothing any more; the VM does not wait for it. */
	ck_assert_int_eq(pipe(pipes), 0);
	control_pass(fd, ASK, pipes[1], 1);
	json_t *reply = control_line(fd);
	ck_assert(!json_is_true(json_object_get(reply, "ok")));
	json_decref(reply);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
	while (send(ends[1], "full", 4, MSG_NOSIGNAL) > 0)
		;
	control_pass(fd, ASK, ends[1], 1);
	reply = control_line(fd);
	ck_assert(!json_is_true(json_object_get(reply, "ok")));
	json_decref(reply);
	close(fd);
	ck_assert_uint_gt(expect_log_is_stat("one"), 20);
}
END_TEST

Suite *faults_suite(void)
{
	Suite *suite = suite_create("faults");
	TCase *tc = tcase_create("faults");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, end_all, end_all);
	if (have_userfaultfd()) {
		tcase_add_test(tc, equal_the_counters);
		tcase_add_test(tc, of_copies);
		tcase_add_test(tc, of_restored);
		tcase_add_test(tc, outlives_the_vm);
		tcase_add_test(tc, refusals);
	}
	suite_add_tcase(suite, tc);
	return suite;
}
