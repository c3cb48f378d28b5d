/* Power-off, reset, power button, generation ID and clock, as a guest meets them. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

static void run_platform(struct run *run, const char *append)
{
	run_foal(run, ARGS("--kernel", guest_path("platform.elf"), "--append", append));
}

START_TEST(power_off)
{
	struct run run;

	run_platform(&run, "do=off");
	ck_assert_int_eq(run.status, 0);
	ck_assert_uint_eq(foal_lines(&run), 0);
	run_free(&run);
}
END_TEST

START_TEST(reset)
{
	static const char *const ways[] = {"do=reset", "do=keyboard"};
	struct run run;

	run_platform(&run, ways[_i]);
	expect_end(&run, 111, "the guest reset itself");
	run_free(&run);
}
END_TEST

/* Ctrl-A p presses it; the run goes on. */
START_TEST(power_button)
{
	struct run_how how = {.terminal = true};
	struct run run;

	run_start(&run, &how,
		  ARGS("--kernel", guest_path("platform.elf"), "--append", "do=button"));
	run_until(&run, "ready\n");
	run_type(&run, _i ? "\1P" : "\1p", 2);
	run_wait(&run);
	ck_assert_int_eq(run.status, 0);
	ck_assert_ptr_nonnull(strstr(run.out_text, "0000000000000001"));
	run_free(&run);
}
END_TEST

/* No two VMs have the same, and none has none. */
START_TEST(generation_id)
{
	struct run first, second;

	run_platform(&first, "do=id");
	run_platform(&second, "do=id");
	ck_assert_int_eq(first.status, 0);
	ck_assert_uint_eq(first.out_len, 34);
	ck_assert_str_ne(first.out_text, "0000000000000000 0000000000000000\n");
	ck_assert_str_ne(first.out_text, second.out_text);
	run_free(&first);
	run_free(&second);
}
END_TEST

static time_t guest_time(const char *text)
{
	struct tm tm = {0};
	unsigned century, year;

	ck_assert_int_eq(sscanf(text, "00%2u%2u%2d%2d%2d%2d%2d", &century, &year, &tm.tm_mon,
				&tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec),
			 7);
	tm.tm_year = (int)(century * 100 + year) - 1900;
	tm.tm_mon--;
	return timegm(&tm);
}

START_TEST(clock_is_the_hosts)
{
	struct run run;
	time_t before = time(NULL);

	run_platform(&run, "do=clock");
	ck_assert_int_eq(run.status, 0);
	time_t guest = guest_time(run.out_text);
	ck_assert_int_ge(guest, before);
	ck_assert_int_le(guest, time(NULL));
	run_free(&run);
}
END_TEST

static uint64_t mmio_exits(const struct run *run)
{
	json_t *kvm = json_object_get(run->stats, "kvm");

	return (uint64_t)json_integer_value(json_object_get(kvm, "mmio_exits"));
}

/* Notifications of a PCI device don't leave the kernel, also after its BAR was moved. */
START_TEST(pci_doorbell)
{
	const char *pmem = make_pmem("pmem", 4);
	struct run few, many;

	run_guest(&few, "pci.elf", "flushes=1 move=3", "--transport", "pci", "--pmem", pmem);
	run_guest(&many, "pci.elf", "flushes=100 move=3", "--transport", "pci", "--pmem", pmem);
	ck_assert_uint_gt(mmio_exits(&few), 20);
	ck_assert_uint_le(mmio_exits(&many), mmio_exits(&few) + 20);
	run_free(&few);
	run_free(&many);
}
END_TEST

Suite *platform_suite(void)
{
	Suite *suite = suite_create("platform");
	TCase *tc = tcase_create("platform");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_test(tc, power_off);
	tcase_add_loop_test(tc, reset, 0, 2);
	tcase_add_loop_test(tc, power_button, 0, 2);
	tcase_add_test(tc, pci_doorbell);
	tcase_add_test(tc, generation_id);
	tcase_add_test(tc, clock_is_the_hosts);
	suite_add_tcase(suite, tc);
	return suite;
}
