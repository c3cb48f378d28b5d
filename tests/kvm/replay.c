/*
 * foal replay: what it says of other settings, beside runs that have them; and traces of which it
 * can make nothing, or only a part. Counts, no time.
 */
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/kvm/snapshot_rig.h"
#include "tests/kvm/suites.h"

#define FILE_PAGES 2048

/*
 * What a guest touches, in order, every so often, at random; it waits when it is done. Who reads
 * in order rests after each page: what is read ahead is there before it comes.
 */
static const struct job {
	const char *guest, *append;
	bool waits; /* before it begins, too */
} jobs[] = {
    {"pmem.elf", "mode=r pages=2048 rest=500000 then=loop", false},
    {"pmem.elf", "mode=rw pages=256 stride=8 then=loop", false},
    {"pmem.elf", "mode=w pages=2048 then=loop", false},
    {"working-set.elf", "where=pmem pages=2048 passes=1 wait=1", true},
    {"working-set.elf", "where=ram pages=4098 passes=1 wait=1", true}, /* one behind the other */
    {"working-set.elf", "where=ram pages=2048 passes=1 wait=1", true},
};
#define JOBS (int)(sizeof(jobs) / sizeof(jobs[0]))

static const struct setting {
	const char *around, *huge;
} settings[] = {{"1", "never"}, {"16", "never"}, {"64", "never"}, {"16", "always"}};
#define SETTINGS (sizeof(settings) / sizeof(settings[0]))

/* Run @job with them; the file its trace is in. */
static const char *recorded(const struct job *job, const struct setting *with, const char *engine)
{
	const char *path = scratch("%s-%s.trace", with->around, with->huge);
	struct run_how how = {.plain = true};
	struct run run;

	run_start(&run, &how,
		  ARGS("run", "--name", "job", "--kernel", guest_path(job->guest), "--append",
		       job->append, "--pmem", make_pmem("job.img", FILE_PAGES), "--memory", "64M",
		       "--fault-engine", engine, "--fault-around", with->around, "--huge",
		       with->huge, "--stats", "off"));
	run_until(&run, "ready\n");
	if (job->waits) {
		run_type(&run, "x", 1);
		run_until(&run, "done\n");
	}
	expect_command(ARGS("trace", "job", "--for", "0", "-o", path), 0, "");
	kill(run.pid, SIGTERM);
	run_wait(&run);
	run_free(&run);
	return path;
}

static json_t *asked(const char *const *args, int status)
{
	struct run run;

	foal_command(&run, args);
	ck_assert_msg(run.status == status, "status %d: %s", run.status, run.err_text);
	json_t *json = json_loads(run.out_text, 0, NULL);
	ck_assert_msg(json != NULL, "%s", run.out_text);
	run_free(&run);
	return json;
}

static uint64_t number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	ck_assert_msg(json_is_integer(value), "no %s", key);
	return (uint64_t)json_integer_value(value);
}

/* Over all cases of what foal trace --json says. */
static uint64_t sum(const json_t *trace, const char *counter)
{
	uint64_t all = 0;
	const json_t *one;
	size_t i;

	json_array_foreach(json_object_get(trace, "cases"), i, one)
	{
		all += number(one, counter);
	}
	return all;
}

/* Within a tenth, and two that race. */
static void expect_near(const char *what, uint64_t predicted, uint64_t real)
{
	uint64_t off = predicted > real ? predicted - real : real - predicted;

	ck_assert_msg(off <= real / 10 + 2, "%s: %lu predicted, %lu in the run", what,
		      (unsigned long)predicted, (unsigned long)real);
}

START_TEST(as_the_real_run)
{
	char what[128];

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	const char *base = recorded(&jobs[_i], &settings[0], "handler");
	for (size_t i = 0; i < SETTINGS; i++) {
		const struct setting *to = &settings[i];
		const char *real_path = i ? recorded(&jobs[_i], to, "handler") : base;
		json_t *real = asked(ARGS("trace", real_path, "--json"), 0);
		json_t *said = asked(ARGS("replay", base, "--fault-around", to->around, "--huge",
					  to->huge, "--json"),
				     0);
		const json_t *least = json_object_get(said, "least");

		ck_assert(json_is_true(json_object_get(said, "exact")));
		ck_assert_uint_eq(number(least, "faults"),
				  number(json_object_get(said, "most"), "faults"));
		snprintf(what, sizeof(what), "%s --fault-around %s --huge %s", jobs[_i].append,
			 to->around, to->huge);
		expect_near(what, number(least, "faults"), sum(real, "faults"));
		expect_near(what, number(least, "installed"), sum(real, "installed"));
		json_decref(real);
		json_decref(said);
	}
}
END_TEST

/* --- of a restore ------------------------------------------------------------------------- */

/* After which all that a restore brings ahead is there, also on a busy host. */
#define REST_US	    300000
/* Of the guest itself: it asks for them at once, and races what is brought ahead. */
#define FIRST_PAGES 10U

#define PASSES	    "pages=2048 passes=2 wait=2"

/* A guest that has gone over its pages once, and waits, in @dir. */
static void between_passes(const char *dir)
{
	const struct run_how how = {.plain = true};
	struct run run;

	run_start(&run, &how,
		  ARGS("run", "--name", "job", "--kernel", guest_path("working-set.elf"),
		       "--append", PASSES, "--memory", "64M", "--stats", "off"));
	run_until(&run, "ready\n");
	run_type(&run, "x", 1);
	run_until(&run, "pass\n");
	snapshot("job", dir);
	kill(run.pid, SIGTERM);
	run_wait(&run);
	run_free(&run);
}

/* It goes over them once more; the file its trace is in. @how: foal restore's --prefetch. */
static const char *restored(const char *dir, const char *how, const char *name)
{
	const char *path = scratch("%s.trace", name);
	const struct run_how plain = {.plain = true};
	struct run run;

	run_start(&run, &plain,
		  ARGS("restore", dir, "--name", "job", "--prefetch", how, "--huge", "never",
		       "--stats", "off"));
	usleep(REST_US);
	run_type(&run, "x", 1);
	run_until(&run, "done\n");
	expect_command(ARGS("trace", "job", "--for", "0", "-o", path), 0, "");
	kill(run.pid, SIGTERM);
	run_wait(&run);
	run_free(&run);
	return path;
}

/* Recorded once, by the restore that makes the working set. */
START_TEST(of_a_restore)
{
	static const struct {
		const char *prefetch, *restore;
	} how[] = {{"off", "off"}, {"set", "auto"}, {"all", "all"}};
	const char *dir = scratch("snap");

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	between_passes(dir);
	const char *base = restored(dir, "auto", "base");
	ck_assert(exists(scratch("snap/working-set")));
	for (size_t i = 0; i < sizeof(how) / sizeof(how[0]); i++) {
		const char *path = restored(dir, how[i].restore, how[i].prefetch);
		json_t *real = asked(ARGS("trace", path, "--json"), 0);
		json_t *said =
		    asked(ARGS("replay", base, "--prefetch", how[i].prefetch, "--json"), 0);
		const json_t *to = json_object_get(said, "predicted_for");
		const json_t *by = json_object_get(real, "by_origin");

		ck_assert(json_is_true(json_object_get(said, "exact")));
		ck_assert_str_eq(json_string_value(json_object_get(to, "prefetch")),
				 how[i].prefetch);
		ck_assert_uint_gt(number(json_object_get(said, "recorded"), "faults"), 2048);
		uint64_t predicted = number(json_object_get(said, "least"), "faults");
		uint64_t faults = sum(real, "faults") - number(by, "loader");
		if (i == 0)
			expect_near(how[i].prefetch, predicted, faults);
		else
			ck_assert_msg(predicted <= FIRST_PAGES && faults <= FIRST_PAGES,
				      "%s: %lu predicted, %lu in the run", how[i].prefetch,
				      (unsigned long)predicted, (unsigned long)faults);
		json_decref(real);
		json_decref(said);
	}
	expect_command(ARGS("replay", scratch("all.trace")), 0, "all figures are lower bounds");
}
END_TEST

/* What is not restored has nothing to bring ahead. */
START_TEST(of_no_restore)
{
	if (!have_userfaultfd())
		skip("no userfaultfd here");
	expect_command(
	    ARGS("replay", recorded(&jobs[2], &settings[0], "handler"), "--prefetch", "all"), 100,
	    "is of no VM that foal restore made");
}
END_TEST

/* Of pages that came with others nobody knows: what was lies between the least and the most. */
START_TEST(what_is_not_known)
{
	if (!have_userfaultfd())
		skip("no userfaultfd here");
	json_t *real =
	    asked(ARGS("trace", recorded(&jobs[0], &settings[0], "handler"), "--json"), 0);
	json_t *said = asked(ARGS("replay", recorded(&jobs[0], &settings[1], "handler"),
				  "--fault-around", "1", "--json"),
			     0);
	uint64_t faults = sum(real, "faults");

	ck_assert(!json_is_true(json_object_get(said, "exact")));
	ck_assert_uint_lt(number(json_object_get(said, "least"), "faults"), faults);
	ck_assert_uint_ge(number(json_object_get(said, "most"), "faults"), faults * 9 / 10);
	json_decref(real);
	json_decref(said);
}
END_TEST

/* foal bench replay has a row for the faults of each prediction, and one for its time. */
START_TEST(bench_rows)
{
	struct run run;
	size_t i;
	json_t *row;

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	foal_command(&run, ARGS("bench", "replay", "--json", "--rounds", "1", "--pages", "512",
				"--dir", scratch("."), "--only", "replay.anon.random.*"));
	ck_assert_msg(run.status == 0 || run.status == 1, "%d: %s", run.status, run.err_text);
	json_t *root = json_loads(run.out_text, 0, NULL);
	const json_t *rows = json_object_get(root, "rows");
	ck_assert_uint_eq(json_array_size(rows), 2 * SETTINGS);
	json_array_foreach(rows, i, row)
	{
		const char *name = json_string_value(json_object_get(row, "name"));
		ck_assert_msg(!json_object_get(row, "not_measured"), "%s: not measured", name);
		if (strstr(name, ".faults"))
			ck_assert_msg(json_is_true(json_object_get(row, "holds")), "%s", name);
	}
	json_decref(root);
	run_free(&run);
}
END_TEST

/* --- what cannot be -------------------------------------------------------------------- */

static const struct {
	const char *option, *value, *words;
} wrong[] = {
    {"--fault-around", "3", "give a power of two, 1 to 512"},
    {"--fault-around", "1024", "give a power of two, 1 to 512"},
    {"--huge", "sometimes", "give auto, always or never"},
    {"--memory-limit", "1M", "give at least 16M, or off"},
    {"--page-ns", "-1", "give nanoseconds"},
    {"--prefetch", "auto", "give off, set or all"},
};

START_TEST(wrong_settings)
{
	expect_command(ARGS("replay", "none.trace", wrong[_i].option, wrong[_i].value), 100,
		       wrong[_i].words);
}
END_TEST

START_TEST(wrong_files)
{
	const char *path = scratch("text");

	write_file(path, "no trace", 8);
	expect_command(ARGS("replay"), 100, "a FILE of foal trace is needed");
	expect_command(ARGS("replay", path, path), 100, "not taken");
	expect_command(ARGS("replay", path), 115, "no trace in foal's binary form");
	expect_command(ARGS("replay", scratch("not-there")), 115, "No such file");
}
END_TEST

/* What is before the cut is whole: it is used, and the status says that it was not all. */
START_TEST(cut_short)
{
	size_t len;

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	const char *path = recorded(&jobs[2], &settings[0], "handler");
	char *bytes = read_file(path, &len);
	write_file(path, bytes, len - 8);
	free(bytes);
	expect_command(ARGS("replay", path, "--fault-around", "64"), 115, "records before that");
	json_t *said = asked(ARGS("replay", path, "--json"), 115);
	ck_assert_uint_gt(number(json_object_get(said, "recorded"), "faults"), FILE_PAGES);
	json_decref(said);
}
END_TEST

/* While it measures the host it has a directory: that goes with it. */
START_TEST(ended_by_signal)
{
	static const int signals[] = {SIGINT, SIGTERM};
	const struct run_how how = {.plain = true};
	struct run run;
	glob_t found;

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	const char *path = recorded(&jobs[2], &settings[0], "handler");
	ck_assert_int_eq(mkdir(scratch("tmp"), 0700), 0);
	setenv("TMPDIR", scratch("tmp"), 1);
	run_start(&run, &how, ARGS("replay", path, "--fault-around", "64"));
	while (glob(scratch("tmp/foal-replay-*"), 0, NULL, &found) == GLOB_NOMATCH)
		usleep(1000);
	globfree(&found);
	kill(run.pid, signals[_i]);
	run_wait(&run);
	expect_end(&run, 128 + signals[_i], "nothing is predicted");
	run_free(&run);
	ck_assert_int_eq(rmdir(scratch("tmp")), 0);
}
END_TEST

/* The host kernel has no record of what it does. */
START_TEST(nothing_recorded)
{
	const char *path = recorded(&jobs[2], &settings[0], "kernel");

	expect_command(ARGS("replay", path), 115, "no fault in it that could be replayed");
}
END_TEST

Suite *replay_suite(void)
{
	Suite *suite = suite_create("replay");
	TCase *tc = tcase_create("replay");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_loop_test(tc, as_the_real_run, 0, JOBS);
	tcase_add_test(tc, of_a_restore);
	tcase_add_test(tc, of_no_restore);
	tcase_add_test(tc, what_is_not_known);
	tcase_add_test(tc, bench_rows);
	tcase_add_loop_test(tc, wrong_settings, 0, sizeof(wrong) / sizeof(wrong[0]));
	tcase_add_test(tc, wrong_files);
	tcase_add_test(tc, cut_short);
	tcase_add_test(tc, nothing_recorded);
	tcase_add_loop_test(tc, ended_by_signal, 0, 2);
	suite_add_tcase(suite, tc);
	return suite;
}
