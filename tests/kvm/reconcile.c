/*
 * The counts agree while a guest runs, in what was restored and forked, and in what is told to
 * Prometheus; and what a start left for later is told.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/kvm/metrics.h"
#include "tests/kvm/snapshot_rig.h"
#include "tests/kvm/suites.h"
#include "tests/kvm/told.h"

static uint64_t number(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	ck_assert_msg(json_is_integer(value), "no number \"%s\"", name);
	return (uint64_t)json_integer_value(value);
}

/* The statistics of a running VM, now; json_decref() the reply. */
static json_t *stats_now(int fd, json_t **reply)
{
	*reply = control_ask(fd, "{\"command\":\"stat\"}");
	json_t *stats = json_object_get(*reply, "stats");

	ck_assert_ptr_nonnull(stats);
	return stats;
}

static uint64_t events_of(const json_t *stats)
{
	const json_t *books = json_object_get(stats, "reconciliation");

	return number(json_object_get(books, "cases"), "events");
}

/* --- while faults go on --------------------------------------------------------------------- */

/* A guest that faults for ever, since it has less memory than it goes over; asked while it does. */
START_TEST(of_a_running_vm)
{
	uint64_t first = 0, last = 0;
	json_t *reply;

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	background("busy", ARGS("--kernel", guest_path("working-set.elf"), "--append",
				"pages=8192 passes=100000000", "--memory", "64M", "--memory-limit",
				"16M", "--swap", scratch("swap")));
	int fd = control_connect("busy");
	for (unsigned i = 0; i < rounds_here(200) || last <= first; i++) {
		json_t *stats = stats_now(fd, &reply);

		check_reconciliation(stats);
		last = events_of(stats);
		first = first ? first : last;
		json_decref(reply);
	}
	close(fd);
}
END_TEST

/* Paused, nothing moves and nothing is under way. */
START_TEST(of_a_paused_vm)
{
	json_t *reply;

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	background("still", ARGS(MEMORY_GUEST, "--fault-engine", "handler"));
	wait_for_memory("still", MEMORY_GUEST_BYTES);
	int fd = control_connect("still");
	control_number(fd, "{\"command\":\"pause\"}", "took_ns");
	wait_for_counts("still");
	uint64_t events = events_of(stats_now(fd, &reply));
	ck_assert_uint_eq(check_reconciliation(json_object_get(reply, "stats")), 0);
	json_decref(reply);
	ck_assert_uint_eq(events_of(stats_now(fd, &reply)), events);
	ck_assert_uint_ge(events, 2048);
	json_decref(reply);
	close(fd);
}
END_TEST

/* --- against KVM's counts ------------------------------------------------------------------- */

static uint64_t pf_of(const struct run *run, const char *name)
{
	const json_t *books = json_object_get(run->stats, "reconciliation");
	const json_t *kvm = json_object_get(books, "kvm");

	if (json_is_null(kvm))
		skip("no statistics of KVM here");
	return number(kvm, name);
}

static void write_in_ring_3(struct run *run, unsigned pages)
{
	char append[32];

	snprintf(append, sizeof(append), "pages=%u", pages);
	run_foal(run, ARGS("--kernel", guest_path("ring3.elf"), "--memory", "64M", "--append",
			   append, "--fault-engine", "handler", "--huge", "never", "--fault-around",
			   "1", "--rip-sample", "0"));
	ck_assert_msg(run->status == 0, "status %d: %s", run->status, run->err_text);
	check_events(run);
}

/*
 * One vCPU in ring 3 that writes each page first, with shadow paging or nested: of the pages
 * beyond the first each is one event and one of pf_taken, which put it in. What a run over one
 * page has besides is in both runs: events of ring 0, where KVM emulates it, and faults of KVM for
 * pages that were there.
 */
START_TEST(page_for_page)
{
	static const unsigned counts[] = {64, 2048};
	struct run one;

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	write_in_ring_3(&one, 1);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		struct run run;

		write_in_ring_3(&run, counts[i]);
		ck_assert_uint_eq(events_of(run.stats) - events_of(one.stats), counts[i] - 1);
		ck_assert_uint_eq(pf_of(&run, "pf_taken") - pf_of(&one, "pf_taken"), counts[i] - 1);
		ck_assert_uint_eq(pf_of(&run, "fixed") - pf_of(&one, "fixed"), counts[i] - 1);
		ck_assert_uint_eq(pf_of(&run, "remainder"), pf_of(&one, "remainder"));
		run_free(&run);
	}
	run_free(&one);
}
END_TEST

/* --- fault debt ------------------------------------------------------------------------------ */

#define PAGES	   1000
#define READY_AT   300
#define DEBT_GUEST "--kernel", guest_path("working-set.elf"), "--memory", "64M"

static const json_t *debt_in(const json_t *stats)
{
	const json_t *debt = json_object_get(json_object_get(stats, "start"), "debt");

	ck_assert_msg(json_is_object(debt), "no debt in the statistics");
	return debt;
}

/* In order, and no more than there is. */
static void check_points(const json_t *debt)
{
	static const char *const names[] = {"p50", "p90", "p99"};
	static const unsigned percents[] = {50, 90, 99};
	uint64_t ns = 0, pages = 0, faults = 0;

	for (int i = 0; i < 3; i++) {
		const json_t *at = json_object_get(debt, names[i]);

		ck_assert_uint_ge(number(at, "ns"), ns);
		ck_assert_uint_ge(number(at, "pages"), pages);
		ck_assert_uint_ge(number(at, "faults"), faults);
		ns = number(at, "ns");
		pages = number(at, "pages");
		faults = number(at, "faults");
		ck_assert_uint_ge(pages * 100, number(debt, "pages") * percents[i]);
	}
	ck_assert_uint_le(pages, number(debt, "pages"));
	ck_assert_uint_le(faults, number(debt, "faults"));
}

/* The same of KVM's count, which is looked at now and then. */
static void check_looks(const json_t *kvm)
{
	if (json_is_null(kvm))
		return;
	ck_assert_str_eq(json_string_value(json_object_get(kvm, "source")), "KVM statistics");
	if (!number(kvm, "fixed")) { /* nor does it count those of a ring 0 that it emulates */
		ck_assert(json_is_null(json_object_get(kvm, "p50")));
		return;
	}
	ck_assert_uint_ge(number(json_object_get(kvm, "p99"), "ns"),
			  number(json_object_get(kvm, "p50"), "ns"));
	ck_assert_uint_ge(number(json_object_get(kvm, "p50"), "fixed") * 2, number(kvm, "fixed"));
}

/* Where a fault brings one page, pages, faults and cases are told by the same numbers. */
START_TEST(of_a_start)
{
	char append[64];
	struct run run;

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	snprintf(append, sizeof(append), "pages=%d passes=2 ready=%d", PAGES, READY_AT);
	run_foal(&run, ARGS(DEBT_GUEST, "--append", append, "--fault-engine", "handler", "--huge",
			    "never", "--fault-around", "1"));
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	check_events(&run);
	const json_t *debt = debt_in(run.stats), *ready = json_object_get(debt, "ready");
	ck_assert_str_eq(json_string_value(json_object_get(debt, "source")), "userfaultfd");
	ck_assert_uint_gt(number(debt, "first_run_ns"), 0);
	ck_assert_uint_eq(number(debt, "faults"), events_of(run.stats));
	/* Each page that is there came once; zero pages that are written are the same pages. */
	ck_assert_uint_eq(number(debt, "pages"),
			  count_of(&run, NULL, "anon_read", "installed") +
			      count_of(&run, NULL, "anon_write", "installed") +
			      count_of(&run, NULL, "file_read", "installed") +
			      count_of(&run, NULL, "file_cow", "installed"));
	check_points(debt);
	check_looks(json_object_get(debt, "kvm"));
	/* When it is ready READY_AT of its pages have been touched, each by a fault of its own. */
	uint64_t left = number(debt, "faults") - number(ready, "faults");
	ck_assert_uint_ge(left, PAGES - READY_AT);
	ck_assert_uint_ge(number(ready, "faults"), READY_AT);
	ck_assert_uint_gt(number(ready, "ns"), number(debt, "first_run_ns"));
	ck_assert_uint_le(number(ready, "pages"), number(debt, "pages") - (PAGES - READY_AT));
	run_free(&run);
}
END_TEST

START_TEST(of_no_handler)
{
	struct run run;

	run_foal(&run,
		 ARGS(DEBT_GUEST, "--append", "pages=600 passes=1", "--fault-engine", "kernel"));
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	const json_t *debt = debt_in(run.stats);
	ck_assert_uint_eq(number(debt, "pages"), 0);
	ck_assert(json_is_null(json_object_get(debt, "p50")));
	ck_assert(json_is_null(json_object_get(debt, "ready"))); /* it did not say so */
	check_looks(json_object_get(debt, "kvm"));
	check_reconciliation(run.stats);
	ck_assert_uint_eq(events_of(run.stats), 0);
	run_free(&run);
}
END_TEST

/* Wait until the guest has said it is ready; the statistics then. */
static json_t *when_ready(int fd)
{
	for (;;) {
		json_t *reply, *stats = stats_now(fd, &reply);

		if (json_is_object(json_object_get(debt_in(stats), "ready")))
			return reply;
		json_decref(reply);
		usleep(10000);
	}
}

static void check_ready(const char *name, bool has_pages)
{
	int fd = control_connect(name);
	json_t *reply = when_ready(fd), *stats = json_object_get(reply, "stats");
	const json_t *debt = debt_in(stats);

	check_reconciliation(stats);
	ck_assert_uint_gt(number(debt, "first_run_ns"), 0);
	ck_assert_uint_ge(number(json_object_get(debt, "ready"), "ns"),
			  number(debt, "first_run_ns"));
	check_looks(json_object_get(debt, "kvm"));
	if (has_pages)
		check_points(debt);
	ck_assert_uint_eq(number(debt, "pages") != 0, has_pages);
	json_decref(reply);
	close(fd);
}

/* A copy has a debt of its own, that begins at nothing: the parent's ready is not its. */
START_TEST(of_copies)
{
	char append[64];

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	snprintf(append, sizeof(append), "pages=%d passes=100000000 ready=%d", PAGES, READY_AT);
	background("first", ARGS(DEBT_GUEST, "--append", append, "--fault-engine", "handler"));
	check_ready("first", true);
	wait_for_memory("first", PAGES * 4096UL);
	json_decref(forks_of(ARGS("fork", "first", "--json")));
	check_ready("first.1", false); /* all its pages are there: KVM's faults are its debt */
	snapshot("first", scratch("snap"));
	expect_command(
	    ARGS("restore", scratch("snap"), "-d", "--name", "second", "--time-limit", GUEST_LIMIT),
	    0, "second: running");
	check_ready("second", true);
	expect_command(ARGS("template", "first", "--name", "mould"), 0, "");
	expect_command(ARGS("clone", "mould", "--name", "third"), 0, "");
	check_ready("third", false);
}
END_TEST

/* --- a fork and a restore that run on -------------------------------------------------- */

#define UNTOUCHED 1500UL

/* Let it touch all its pages; then it rests, and the books close with nothing under way. */
static void check_to_the_end(const char *name)
{
	int fd = control_connect(name), console = control_console(fd);
	json_t *reply;

	ck_assert_int_eq(write(console, "x", 1), 1);
	read_until(console, "done");
	control_number(fd, "{\"command\":\"pause\"}", "took_ns");
	wait_for_counts(name);
	uint64_t in_flight = check_reconciliation(stats_now(fd, &reply));
	ck_assert_uint_eq(in_flight, 0);
	ck_assert_uint_ge(events_of(json_object_get(reply, "stats")), UNTOUCHED);
	json_decref(reply);
	close(console);
	close(fd);
}

/* None had touched its pages when it was copied: each faults for all of them itself. */
START_TEST(of_a_fork_and_a_restore)
{
	char append[64];

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	snprintf(append, sizeof(append), "pages=%lu wait=1", UNTOUCHED);
	background("first", ARGS(DEBT_GUEST, "--append", append, "--fault-engine", "handler",
				 "--fault-around", "1", "--huge", "never"));
	int fd = control_connect("first"), console = control_console(fd);
	read_until(console, "ready");
	close(console);
	close(fd);
	json_decref(forks_of(ARGS("fork", "first", "--json")));
	snapshot("first", scratch("snap"));
	expect_command(
	    ARGS("restore", scratch("snap"), "-d", "--name", "second", "--time-limit", GUEST_LIMIT),
	    0, "second: running");
	check_to_the_end("first.1");
	check_to_the_end("second");
	check_to_the_end("first");
}
END_TEST

/* --- Prometheus ------------------------------------------------------------------------------ */

static struct metrics *metrics_of(const char *name)
{
	struct run run;

	foal_command(&run, ARGS("stat", name, "--prometheus"));
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	struct metrics *all = metrics_read(run.out_text);
	run_free(&run);
	return all;
}

/* Of a VM that is paused metrics and JSON say the same. */
START_TEST(to_prometheus)
{
	const char *hard = scratch("a \"b\" \\ c");
	json_t *reply;

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	copy_file(make_pmem("plain", 64), "a \"b\" \\ c");
	background("told", ARGS(MEMORY_GUEST, "--fault-engine", "handler", "--pmem", hard));
	wait_for_memory("told", MEMORY_GUEST_BYTES);
	int fd = control_connect("told");
	control_number(fd, "{\"command\":\"pause\"}", "took_ns");
	wait_for_counts("told");
	const json_t *stats = stats_now(fd, &reply);
	struct metrics *all = metrics_of("told");
	const json_t *events = json_object_get(stats, "events");
	double faults = metrics_sum(all, "foal_faults_total", NULL, NULL);

	ck_assert(metrics_sum(all, "foal_events_total", "origin", "vcpu") ==
		  (double)number(events, "vcpu"));
	ck_assert(metrics_sum(all, "foal_events_total", NULL, NULL) == (double)events_of(stats));
	ck_assert(metrics_sum(all, "foal_events_open", NULL, NULL) == 0);
	ck_assert(faults >= (double)events_of(stats));
	ck_assert(metrics_sum(all, "foal_fault_latency_seconds_count", NULL, NULL) <= faults);
	ck_assert(metrics_sum(all, "foal_fault_latency_seconds_sum", NULL, NULL) > 0);
	ck_assert(metrics_sum(all, "foal_memory_bytes", NULL, NULL) == 64 << 20);
	ck_assert(metrics_sum(all, "foal_vcpus", "vm", "told") == 1);
	ck_assert(metrics_sum(all, "foal_file_size_bytes", "path", hard) == 64 * 4096);
	ck_assert(metrics_sum(all, "foal_start_debt_faults", "share", "0.99") <= faults);
	json_decref(reply);
	close(fd);
	free(all);
	expect_command(ARGS("stat", "told", "--prometheus", "--json"), 100, "give one");
	expect_command(ARGS("ps", "--prometheus"), 100, "no such option");
}
END_TEST

START_TEST(format_of_a_client)
{
	background("asked", ARGS(MEMORY_GUEST));
	int fd = control_connect("asked");

	control_refused(fd, "{\"command\":\"stat\",\"format\":\"xml\"}", "bad-request");
	json_t *reply = control_ask(fd, "{\"command\":\"stat\",\"format\":\"prometheus\"}");
	free(metrics_read(json_string_value(json_object_get(reply, "prometheus"))));
	json_decref(reply);
	close(fd);
}
END_TEST

Suite *reconcile_suite(void)
{
	Suite *suite = suite_create("reconcile");
	TCase *tc = tcase_create("reconcile");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_test(tc, of_a_running_vm);
	tcase_add_test(tc, of_a_paused_vm);
	tcase_add_test(tc, page_for_page);
	tcase_add_test(tc, of_a_start);
	tcase_add_test(tc, of_no_handler);
	tcase_add_test(tc, of_copies);
	tcase_add_test(tc, of_a_fork_and_a_restore);
	tcase_add_test(tc, to_prometheus);
	tcase_add_test(tc, format_of_a_client);
	suite_add_tcase(suite, tc);
	return suite;
}
