/*
 * The guest kernel's own tests, booted: /bin/check goes through its fault and
 * system call cases, the rest through ends of a run that have lost memory
 * before. Each must end with its status and every page given back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/abi.h"
#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

enum { SWAP_MIB = 16 };

#define SMP_WORDS "smp: 0 sums wrong, 0 translations stale, 0 left alive"

static const struct {
	const char *append, *memory, *engine, *words;
	int status;
	const char *cpus;
} programs[] = {
    {"init=/bin/check", "256M", "handler", " 0 failed", 0, "1"},
    {"init=/bin/check", "256M", "kernel", " 0 failed", 0, "2"},
    {"init=/bin/main", "16M", "handler", "main: ok", 0, "1"}, /* reclaims clean pages */
    {"init=/bin/orphans", "64M", "handler", "", 0, "1"},
    {"init=/bin/orphans -- reboot", "64M", "handler", "", 0, "2"},
    {"init=/bin/segv", "64M", "handler", "segmentation fault at 0", FOAL_EXIT_RESERVED - 1, "1"},
    {"init=/bin/exit -- 7", "64M", "handler", "", 7, "4"},
    {"init=/bin/hog -- 8", "6M", "kernel", "out of memory: ending hog", 0, "1"},
    {"init=/bin/hog -- 5 1", "64M", "kernel", "out of memory of its group: ending hog", 0, "2"},
    /* Twice what there is, and twice the limit: more takes `make test-swap`. */
    {"init=/bin/swap swap=/dev/vdb -- 8", "4M", "kernel", " 0 wrong", 0, "1"},
    {"init=/bin/swap swap=/dev/vdb -- 2 1 fork", "64M", "kernel", " 0 wrong", 0, "2"},
    {"init=/bin/check swap=/dev/vdb -- huge_page_out huge_reclaimed", "64M", "kernel",
     "check: 2 cases, 0 failed", 0, "1"},
    {"init=/bin/check hugepages=4 -- hugetlb_private hugetlb_parts hugetlb_unreserved "
     "hugetlb_fork hugetlb_fork_empty hugetlb_taken_back hugetlb_shared",
     "64M", "kernel", "check: 7 cases, 0 failed", 0, "1"},
    {"init=/bin/check numa_balancing=enable -- numa_hints", "64M", "kernel", " numa_hint=", 0, "1"},
    {"init=/bin/smp", "64M", "kernel", SMP_WORDS, 0, "2"},
    /* The last, in `make soak` alone: as before, and slow where there are fewer processors. */
    {"init=/bin/smp", "64M", "handler", SMP_WORDS, 0, "4"},
};

/* An area as mkswap makes it: the header is all that counts. */
static const char *swap_area(void)
{
	const char *path = scratch("swap.img");
	const uint32_t fields[2] = {1, SWAP_MIB * 256 - 1}; /* version, last page */
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fseek(f, 1024, SEEK_SET), 0);
	ck_assert_uint_eq(fwrite(fields, sizeof(fields), 1, f), 1);
	ck_assert_int_eq(fseek(f, 4096 - 10, SEEK_SET), 0);
	ck_assert_uint_eq(fwrite("SWAPSPACE2", 10, 1, f), 1);
	ck_assert_int_eq(ftruncate(fileno(f), SWAP_MIB << 20), 0);
	ck_assert_int_eq(fclose(f), 0);
	return path;
}

START_TEST(guest_program)
{
	char append[256];
	struct run run;

	if (access(image_path("kernel.elf"), R_OK) || access(image_path("disk.img"), R_OK))
		skip("no guest kernel or images here");
	if (strcmp(programs[_i].engine, "handler") == 0 && !have_userfaultfd())
		skip("no userfaultfd here");
	snprintf(append, sizeof(append), "quiet root=/dev/vda %s", programs[_i].append);
	const char *swap = strstr(programs[_i].append, "swap=") ? swap_area() : NULL;
	run_foal(&run, ARGS("--kernel", image_path("kernel.elf"), "--disk", image_path("disk.img"),
			    "--memory", programs[_i].memory, "--fault-engine", programs[_i].engine,
			    "--append", append, "--cpus", programs[_i].cpus, "--time-limit",
			    GUEST_LIMIT, swap ? "--disk" : NULL, swap));
	ck_assert_msg(run.status == programs[_i].status, "status %d\n%s\n%s", run.status,
		      run.out_text, run.err_text);
	ck_assert_ptr_nonnull(strstr(run.out_text, programs[_i].words));
	ck_assert_ptr_nonnull(strstr(run.out_text, ", 0 not given back"));
	/* What a left out one would do, shadow page tables hide. */
	if (strstr(append, "/smp"))
		ck_assert_ptr_nonnull(strstr(run.out_text, " shootdowns="));
	run_free(&run);
}
END_TEST

/*
 * What the cases of /bin/check expect is what Linux does: the same program, run here. Those that
 * need no file of the image, nor a host's settings.
 */
START_TEST(same_on_linux)
{
	if (access(image_path("user/check"), X_OK))
		skip("no guest programs here");
	ck_assert_int_eq(
	    run_tool(NULL,
		     ARGS(image_path("user/check"), "anon_zero_then_own", "unmap_middle",
			  "map_fixed_replaces", "brk_moves", "write_read_only", "protect_back",
			  "read_none", "null_read", "sparse", "count_anon", "count_mprotect",
			  "count_populate", "count_grows_down", "mremap_shrinks_and_grows",
			  "mremap_moves", "mremap_old_place", "mremap_dontunmap", "mremap_refused",
			  "merged", "mincore_tells", "mlock_keeps", "dont_fork", "shared_memory",
			  "shared_memory_ends", "guard_gap_wide", "guard_gap_narrow", "limit_calls",
			  "limit_address_space", "limit_data", "limit_stack_reached",
			  "limit_stack_passed", "stack_in_address_space", "limit_inherited",
			  "smaps_own", "hugetlb_refused", "futex_refused")),
	    0);
}
END_TEST

Suite *guest_kernel_suite(void)
{
	Suite *suite = suite_create("guest_kernel");
	const int nr = sizeof(programs) / sizeof(programs[0]);
	TCase *tc = tcase_create("guest_kernel");

	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, guest_program, 0, nr - !getenv("SOAK"));
	tcase_add_test(tc, same_on_linux);
	suite_add_tcase(suite, tc);
	return suite;
}
