/*
 * A guest that does with ports, registers and rings what no driver would
 * (guests/fuzz_ports.c). Whatever it does, the monitor lives, the devices work
 * after their reset, and the guest's own end is the end of the run.
 *
 * Each test runs with a seed; a failure names it. FUZZ_SEED=N runs that one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "tests/kvm/guests/lib/pattern.h"
#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

/* Of a guest that found all devices well. */
#define STATUS 42
#define END    "\nall devices answer\n"

/* The last seed is new each time, so that what no seed has found yet is found some day. */
static const unsigned seeds[] = {1, 2, 3, 0};

#define NR_SEEDS (int)(sizeof(seeds) / sizeof(seeds[0]))

static unsigned seed_of(int i)
{
	const char *given = getenv("FUZZ_SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 0) : seeds[i];

	while (seed == 0)
		ck_assert_int_eq(getrandom(&seed, sizeof(seed), 0), sizeof(seed));
	return seed;
}

/* Run the guest with five devices, and @how among its words. */
static void fuzz(unsigned seed, const char *how, const char *transport)
{
	struct run run;
	char append[160], shared_disk[600], ro_disk[600], shared_pmem[600];

	snprintf(append, sizeof(append), "seed=%u devices=5 %s", seed, how);
	snprintf(shared_disk, sizeof(shared_disk), "%s,mode=shared", make_pmem("disk", 64));
	snprintf(ro_disk, sizeof(ro_disk), "%s,mode=ro", make_pmem("ro-disk", 64));
	snprintf(shared_pmem, sizeof(shared_pmem), "%s,mode=shared", make_pmem("pmem", 64));
	run_foal(&run, ARGS("--kernel", guest_path("fuzz_ports.elf"), "--append", append, "--disk",
			    shared_disk, "--disk", ro_disk, "--disk", make_pmem("cow-disk", 64),
			    "--pmem", make_pmem("cow-pmem", 64), "--pmem", shared_pmem,
			    "--transport", transport, "--time-limit", GUEST_LIMIT));
	/* There may be zeros among what it said before. */
	ck_assert_msg(run.status == STATUS && memmem(run.out_text, run.out_len, END, strlen(END)),
		      "FUZZ_SEED=%u: status %d\nstdout: %.300s\nstderr: %.600s", seed, run.status,
		      run.out_text, run.err_text);
	check_events(&run);
	/* What is read-only stays as it was. */
	for (unsigned page = 0; page < 64; page++)
		ck_assert_uint_eq(page_word(scratch("ro-disk"), page), FILE_PATTERN(page));
	run_free(&run);
}

/* Every port, and every page where devices may be; of an emulated host's minutes a seventh. */
START_TEST(every_port_and_page)
{
	fuzz(seed_of(_i), emulated_host() ? "rounds=0 port_step=7 page_step=7" : "rounds=0",
	     "mmio");
}
END_TEST

START_TEST(registers_and_rings)
{
	fuzz(seed_of(_i), "rounds=1000 port_step=97 page_step=509", "mmio");
}
END_TEST

/* The same pages and ports with what PCI has there: configuration space and BARs. */
START_TEST(pci)
{
	fuzz(seed_of(_i), "rounds=300 port_step=29 page_step=251 flush=no", "pci");
}
END_TEST

Suite *fuzz_suite(void)
{
	Suite *suite = suite_create("fuzz");
	TCase *tc = tcase_create("sweep");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, every_port_and_page, 0, 1);
	suite_add_tcase(suite, tc);
	/* CK_RUN_CASE picks it on hosts where the other one takes too long. */
	tc = tcase_create("nonsense");
	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, registers_and_rings, 0, NR_SEEDS);
	tcase_add_loop_test(tc, pci, 0, NR_SEEDS);
	suite_add_tcase(suite, tc);
	return suite;
}
