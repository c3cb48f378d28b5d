/* Disks of forks and clones that lie behind a helper, and the layers that reset points make of
 * them. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/devices.h"
#include "tests/kvm/identity_rig.h"
#include "tests/kvm/suites.h"
#include "tests/kvm/told.h"

static bool is_companion(const char *exe)
{
	static const char name[] = "/foal-nbd";
	char path[512];
	ssize_t n = readlink(exe, path, sizeof(path));

	return n >= (ssize_t)strlen(name) &&
	       memcmp(path + n - strlen(name), name, strlen(name)) == 0;
}

/* How many companions of disks have that log for what they have to say. */
static unsigned helpers_that_say_to(const char *log)
{
	DIR *dir = opendir("/proc");
	const struct dirent *e;
	struct stat is, its;
	char path[300];
	unsigned n = 0;

	ck_assert_ptr_nonnull(dir);
	ck_assert_int_eq(stat(scratch("run/%s", log), &is), 0);
	while ((e = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/%s/exe", e->d_name);
		if (e->d_name[0] < '1' || e->d_name[0] > '9' || !is_companion(path))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/fd/2", e->d_name);
		n += stat(path, &its) == 0 && its.st_dev == is.st_dev && its.st_ino == is.st_ino;
	}
	closedir(dir);
	return n;
}

START_TEST(disks_behind_a_helper)
{
	const char *raw = scratch("helped.raw"), *image = scratch("helped.qcow2");
	const char *other = scratch("other.qcow2");
	char option[256];
	uint64_t was;

	if (run_tool(NULL, ARGS("qemu-nbd", "--version")) ||
	    run_tool(NULL, ARGS("qemu-img", "--version")))
		skip("no qemu-utils here");
	write_file(raw, "disk", 4);
	ck_assert_int_eq(truncate(raw, 1 << 20), 0);
	ck_assert_int_eq(run_tool(NULL, ARGS("qemu-img", "convert", "-q", "-f", "raw", "-O",
					     "qcow2", raw, image)),
			 0);
	snprintf(option, sizeof(option), "%s,format=qcow2,mode=cow", image);
	identity_start("q", "ready\n", ARGS(IDENTITY_GUEST, "--disk", option));
	was = identity_number("q", 'B');
	ck_assert_uint_eq(identity_number("q", 'b'), was + 1);
	expect_command(ARGS("fork", "q", "-n", "2"), 0, "q.2: running");
	ck_assert_uint_eq(helpers_that_say_to("q.1.log"), 1);
	ck_assert_uint_eq(helpers_that_say_to("q.2.log"), 1);
	ck_assert_uint_eq(identity_number("q", 'B'), was + 1);
	ck_assert_uint_eq(identity_number("q.1", 'b'), was + 1);
	ck_assert_uint_eq(identity_number("q.1", 'B'), was + 1);
	ck_assert_uint_eq(identity_number("q.1", 'B'), was + 2);
	expect_command(ARGS("fork", "q.1"), 0, "q.1.1: running");
	expect_command(ARGS("template", "q"), 0, "q.template: template");
	/* With its helper. One that is killed leaves a socket of libnbd's in /tmp. */
	expect_command(ARGS("stop", "q", "--kill"), 0, "gone");
	ck_assert_uint_eq(identity_number("q.1.1", 'b'), was + 3);
	ck_assert_uint_eq(identity_number("q.2", 'b'), was + 1);
	expect_command(ARGS("clone", "q.template", "-n", "2"), 0, "q.template.2: running");
	ck_assert_uint_eq(identity_number("q.template.1", 'B'), was + 2);
	ck_assert_uint_eq(identity_number("q.template.2", 'b'), was + 2);
	/* Another image of the same name, size and time: those that run have theirs. */
	ck_assert_int_eq(run_tool(NULL, ARGS("cp", "-p", image, other)), 0);
	ck_assert_int_eq(rename(other, image), 0);
	expect_command(ARGS("fork", "q.1"), 113, "it was replaced or changed");
	expect_command(ARGS("clone", "q.template"), 113, "it was replaced or changed");
	ck_assert_uint_eq(identity_number("q.1", 'b'), was + 3);
}
END_TEST

/* What one writes to a disk no other reads, whoever writes first; it was written before, or not. */
START_TEST(disks)
{
	const char *raw = in_round("disk%d.raw", _i), *dir = scratch("of-a-disk");
	const char *vm = in_round("d%d", _i), *a = in_round("d%d.1", _i),
		   *b = in_round("d%d.2", _i);
	const char *grandchild = in_round("d%d.1.1", _i), *template = in_round("d%d.template", _i);
	uint64_t was = (uint64_t)_i;
	char option[256];

	write_file(scratch("%s", raw), "", 0);
	ck_assert_int_eq(truncate(scratch("%s", raw), 1 << 20), 0);
	snprintf(option, sizeof(option), "%s,mode=cow", scratch("%s", raw));
	identity_start(vm, "ready\n", ARGS(IDENTITY_GUEST, "--disk", option));
	if (_i)
		ck_assert_uint_eq(identity_number(vm, 'B'), 0);
	expect_command(ARGS("fork", vm, "-n", "2"), 0, "it was paused for");
	ck_assert_uint_eq(identity_number(vm, 'B'), was); /* the parent first */
	ck_assert_uint_eq(identity_number(a, 'B'), was);
	ck_assert_uint_eq(identity_number(a, 'B'), was + 1);
	expect_command(ARGS("fork", a), 0, "it was paused for");
	ck_assert_uint_eq(identity_number(grandchild, 'B'), was + 2); /* the child first */
	ck_assert_uint_eq(identity_number(a, 'b'), was + 2);
	ck_assert_uint_eq(identity_number(b, 'b'), was);
	ck_assert_uint_eq(identity_number(vm, 'B'), was + 1);
	expect_command(ARGS("template", vm), 0, "template");
	ck_assert_uint_eq(identity_number(vm, 'B'), was + 2);
	expect_command(ARGS("clone", template, "-n", "2", "--name", in_round("dc%d-%%", _i)), 0,
		       "running");
	ck_assert_uint_eq(identity_number(in_round("dc%d-1", _i), 'B'), was + 2);
	ck_assert_uint_eq(identity_number(in_round("dc%d-1", _i), 'b'), was + 3);
	ck_assert_uint_eq(identity_number(in_round("dc%d-2", _i), 'b'), was + 2);
	if (have_userfaultfd()) {
		snapshot(a, dir);
		ck_assert_uint_eq(identity_number(a, 'B'), was + 2);
		expect_command(ARGS("restore", dir, "-d", "--name", in_round("dr%d", _i),
				    "--time-limit", GUEST_LIMIT),
			       0, "running");
		ck_assert_uint_eq(identity_number(in_round("dr%d", _i), 'B'), was + 2);
		ck_assert_uint_eq(identity_number(a, 'b'), was + 3);
	}
	ck_assert_uint_eq(identity_number(grandchild, 'b'), was + 3);
	ck_assert_uint_eq(identity_number(b, 'b'), was);
}
END_TEST

/* What the guest wrote after its reset point is in the parent, and is not the guest's any more. */
START_TEST(difference_after_a_reset)
{
	const char *raw = scratch("went-back.raw"), *full = scratch("went-back-0");
	const char *diff = scratch("went-back-1");
	char option[256];

	if (!have_userfaultfd())
		skip("no userfaultfd");
	write_file(raw, "", 0);
	ck_assert_int_eq(truncate(raw, 1 << 20), 0);
	snprintf(option, sizeof(option), "%s,mode=cow", raw);
	identity_start("wb", "ready\n", ARGS(IDENTITY_GUEST, "--disk", option));
	expect_command(ARGS("reset", "wb", "--here"), 0, "");
	ck_assert_uint_eq(identity_number("wb", 'B'), 0);
	ck_assert_uint_eq(identity_number("wb", 'B'), 1);
	snapshot("wb", full);
	expect_command(ARGS("reset", "wb"), 0, "");
	ck_assert_uint_eq(identity_number("wb", 'b'), 0);
	expect_command(ARGS("snapshot", "wb", diff, "--diff"), 0, "more than");
	expect_command(ARGS("restore", diff, "-d", "--name", "wb2", "--time-limit", GUEST_LIMIT), 0,
		       "running");
	ck_assert_uint_eq(identity_number("wb2", 'b'), 0);
	ck_assert_uint_eq(identity_number("wb2", 'B'), 0);
	expect_command(ARGS("verify", diff), 0, "whole");
}
END_TEST

/*
 * Each reset point is a layer, and each layer a descriptor: more than a usual limit allows, and
 * then no more, while the guest goes on.
 */
START_TEST(many_layers)
{
	static const char here[] = "{\"command\":\"reset\",\"here\":true}";
	const char *raw = scratch("layered.raw");
	struct rlimit limit;
	char option[256];
	unsigned points = 0;

	write_file(raw, "", 0);
	ck_assert_int_eq(truncate(raw, 1 << 20), 0);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_max < 512)
		skip("the hard limit of open files is too low");
	limit.rlim_cur = 128;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	snprintf(option, sizeof(option), "%s,mode=cow", raw);
	identity_start("layers", "ready\n", ARGS(IDENTITY_GUEST, "--disk", option));
	int fd = control_connect("layers");
	do
		ck_assert_uint_eq(identity_number("layers", 'B'), points);
	while (points++ < DISK_LAYERS_MAX && control_number(fd, here, "took_ns"));
	control_refused(fd, here, "failed");
	ck_assert_uint_eq(identity_number("layers", 'B'), points);
	ck_assert_uint_eq(identity_number("layers", 'b'), points + 1);
	close(fd);
}
END_TEST

Suite *identity_disks_suite(void)
{
	Suite *suite = suite_create("identity_disks");
	TCase *tc = tcase_create("identity_disks");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_test(tc, disks_behind_a_helper);
	tcase_add_loop_test(tc, disks, 0, 2);
	tcase_add_test(tc, difference_after_a_reset);
	tcase_add_test(tc, many_layers);
	suite_add_tcase(suite, tc);
	return suite;
}
