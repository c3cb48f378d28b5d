/* What Linux makes of the platform: ACPI's devices, its clock, power button and reboot. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/linux/suites.h"

#define CPUS "8"

/* A device of the DSDT, and the driver that Linux has for it. */
static const char *const devices[] = {
    "ACPI0007:00 has processor",   "ACPI0013:00 has acpi-ged", "FOAL0001:00 has vmgenid",
    "LNRO0005:00 has virtio-mmio", "PNP0501:00 has serial",    "PNP0B00:00 has rtc_cmos",
    "PNP0C0C:00 has button",
};

/* More processors than the host has, one device of each kind, a key pressed on the console. */
START_TEST(linux_finds_it)
{
	struct run_how how = {.terminal = true};
	time_t before = time(NULL);
	long long clock;
	struct run run;

	run_start(&run, &how,
		  ARGS("--kernel", linux_path("vmlinuz"), "--initrd", linux_path("initrd.gz"),
		       "--memory", "512M", "--cpus", CPUS, "--halt", "exit", "--disk",
		       make_pmem("disk", 4), "--time-limit", GUEST_LIMIT, "--append",
		       "console=ttyS0 panic=-1 quiet job=platform"));
	run_until(&run, "guest: press");
	run_type(&run, "\1p", 2);
	run_wait(&run);
	ck_assert_msg(run.status == 0, "status %d\n%s", run.status, run.out_text);
	guest_said(&run, CPUS " processors");
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
		guest_said(&run, devices[i]);
	ck_assert_int_eq(sscanf(guest_said(&run, "clock "), "%lld", &clock), 1);
	ck_assert_int_ge(clock, before);
	ck_assert_int_le(clock, time(NULL));
	guest_said(&run, "log: clean");
	guest_said(&run, "key 1 74 1 0");
	run_free(&run);
}
END_TEST

/*
 * On its own way, through firmware that does not know of the first start, and by a
 * triple fault, which a crash could be as well.
 */
static const struct {
	const char *option, *value, *reboot;
	int status;
	const char *words;
} reboots[] = {
    {"--cpus", "1", "", 111, "the guest reset itself"},
    {"--firmware", "qboot", "", 111, "the guest reset itself"},
    {"--firmware", "seabios", "", 111, "the guest reset itself"},
    {"--cpus", "1", " reboot=t", 105, "the guest ended in a triple fault"},
};

START_TEST(reboot_ends_the_run)
{
	char append[80];
	struct run run;

	snprintf(append, sizeof(append), "console=ttyS0 panic=-1 quiet job=reboot%s",
		 reboots[_i].reboot);
	run_foal(&run, ARGS("--kernel", linux_path("vmlinuz"), "--initrd", linux_path("initrd.gz"),
			    "--memory", "512M", "--time-limit", GUEST_LIMIT, "--append", append,
			    reboots[_i].option, reboots[_i].value));
	expect_end(&run, reboots[_i].status, reboots[_i].words);
	run_free(&run);
}
END_TEST

Suite *platform_suite(void)
{
	Suite *suite = suite_create("platform");
	TCase *tc = tcase_create("platform");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_test(tc, linux_finds_it);
	tcase_add_loop_test(tc, reboot_ends_the_run, 0, sizeof(reboots) / sizeof(reboots[0]));
	suite_add_tcase(suite, tc);
	return suite;
}
