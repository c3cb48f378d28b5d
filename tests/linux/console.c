/*
 * Stock Linux with hvc0 as its console, on a terminal: what is typed arrives, a
 * lot of output comes whole; and its hardware random numbers are the host's.
 * The guest's part is jobs/console.
 */
#include <stdio.h>
#include <string.h>

#include "tests/linux/suites.h"

/* hvc_console gives 16 bytes at a time and waits for each. */
#define LINES 4000

/* The numbers 1 to LINES, a line each, from where the guest was done with listening. */
static void check_output(const struct run *run)
{
	const char *at = strchr(guest_said(run, "heard "), '\n');

	for (unsigned i = 1; i <= LINES; i++) {
		char line[16];
		size_t len = (size_t)snprintf(line, sizeof(line), "\n%u", i);
		ck_assert_msg(strncmp(at, line, len) == 0, "%u is not there but %.20s", i, at);
		at += len;
	}
}

START_TEST(hvc0_and_random_bytes)
{
	struct run run;

	run_start(&run, &(struct run_how){.terminal = true},
		  ARGS("--kernel", linux_path("vmlinuz"), "--initrd", linux_path("initrd.gz"),
		       "--memory", "512M", "--time-limit", GUEST_LIMIT, "--console", "virtio",
		       "--rng", "on", "--append", "console=hvc0 panic=-1 quiet job=console"));
	run_until(&run, "guest: say something");
	run_type(&run, "a few words\r", 12);
	/* Read all along: a guest whose output nobody takes waits. */
	run_until(&run, "guest: done");
	run_wait(&run);
	ck_assert_msg(run.status == 0, "status %d\n%s", run.status, run.out_text);
	guest_said(&run, "console hvc0, size ");
	guest_said(&run, "rng virtio_rng.0");
	guest_said(&run, "random 1000 bytes");
	guest_said(&run, "heard a few words");
	check_output(&run);
	guest_said(&run, "done");
	check_events(&run);
	run_free(&run);
}
END_TEST

Suite *console_suite(void)
{
	Suite *suite = suite_create("console");
	TCase *tc = tcase_create("console");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_test(tc, hvc0_and_random_bytes);
	suite_add_tcase(suite, tc);
	return suite;
}
