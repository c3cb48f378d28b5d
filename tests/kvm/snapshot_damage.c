/* Snapshots with flipped bits and missing ends: refused before a guest sees any of it. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/kvm/sandbox.h"
#include "tests/kvm/snapshot_rig.h"
#include "tests/kvm/suites.h"

static const char *const parts[] = {"manifest.json", "state", "memory.index", "memory",
				    "disk0.layer"};

static const char *part_path(const char *dir, const char *part)
{
	return scratch("%s/%s", dir, part);
}

/* A place in @fd: anywhere, or where there is data. */
static off_t some_place(int fd, bool *data)
{
	off_t size = lseek(fd, 0, SEEK_END);
	off_t at = (off_t)(((uint64_t)random_below(1u << 31) << 16 | random_below(1u << 16)) %
			   (uint64_t)size);
	off_t next = *data ? lseek(fd, at, SEEK_DATA) : at;

	if (next < 0)
		next = lseek(fd, 0, SEEK_DATA) + at % 4096;
	*data = lseek(fd, next, SEEK_DATA) == next;
	return next;
}

static void flip(int fd, off_t at, unsigned bit)
{
	unsigned char byte;

	ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
	byte ^= (unsigned char)(1u << bit);
	ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
}

static void make_small(const char *name)
{
	background(name, ARGS("--kernel", guest_path("working-set.elf"), "--append",
			      "pages=40 passes=100000000", "--memory", "24M", "--disk",
			      make_pmem("below.img", 16)));
	wait_for_memory(name, 40 * 4096);
	snapshot(name, scratch("%s", name));
	expect_command(ARGS("stop", name, "--kill"), 0, "gone");
}

/*
 * What verify does not see is harmless: white space of the manifest, what no extent covers.
 * What it sees, a restore sees before a guest does.
 */
START_TEST(flipped_bits)
{
	unsigned n = times("FOAL_SNAPSHOT_FLIPS", 400), seen = 0;

	make_small("flips");
	for (unsigned i = 0; i < n; i++) {
		const char *part = parts[i % 5];
		int fd = open(part_path("flips", part), O_RDWR);
		bool memory = strcmp(part, "memory") == 0, data = i % 3 != 0;
		unsigned bit = random_below(8);
		struct run run;

		ck_assert_int_ge(fd, 0);
		off_t at = some_place(fd, &data);
		bool was_data = memory && data;
		flip(fd, at, bit);
		foal_command(&run, ARGS("verify", scratch("flips")));
		bool harmless = strcmp(part, "manifest.json") == 0 || (memory && !was_data);
		ck_assert_msg(run.status == 114 || (run.status == 0 && harmless),
			      "%s byte %lld bit %u: %d: %s", part, (long long)at, bit, run.status,
			      run.err_text);
		if (run.status)
			ck_assert_uint_eq(foal_lines(&run), 1);
		seen += run.status == 114;
		run_free(&run);
		flip(fd, at, bit);
		if (memory && !was_data) /* a hole again */
			fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at & ~4095L,
				  4096);
		close(fd);
	}
	printf("%u of %u flipped bits refused, the others harmless\n", seen, n);
	ck_assert_uint_gt(seen, n / 2);
	expect_command(ARGS("verify", scratch("flips")), 0, "whole");
}
END_TEST

/* The guest never sees a damaged page: its VM stops with the place. */
START_TEST(damage_under_a_guest)
{
	make_small("under");
	int fd = open(part_path("under", "memory"), O_RDWR);
	/* All of its memory. */
	for (off_t at = lseek(fd, 0, SEEK_DATA); at >= 0; at = lseek(fd, at + 4096, SEEK_DATA))
		flip(fd, at + 8, 3);
	close(fd);
	expect_command(ARGS("restore", scratch("under"), "--prefetch", "off", "--stats", "off",
			    "--time-limit", GUEST_LIMIT),
		       114, "memory");
	expect_command(ARGS("restore", scratch("under"), "--eager"), 114, "memory");
	/* Where there is no KVM it is not even read. */
	for (unsigned i = 0; i < 2; i++) {
		const struct run_how how = {.plain = true, .prepare = kvm_is_busy};
		struct run run;

		run_start(&run, &how,
			  ARGS("restore", scratch("under"), "--eager", "--name", "under",
			       i ? "-d" : NULL));
		run_wait(&run);
		expect_end(&run, 101, "KVM: create a VM");
		run_free(&run);
	}
}
END_TEST

START_TEST(cut_short)
{
	make_small("cut");
	for (unsigned i = 0; i < 5; i++) {
		const char *path = part_path("cut", parts[i]);
		size_t len;
		unsigned char *bytes = read_file(path, &len);

		for (unsigned k = 0; k < 4; k++) {
			size_t keep = k == 0 ? 0 : k == 1 ? len - 1 : random_below((unsigned)len);
			write_file(path, bytes, keep);
			expect_command(ARGS(k % 2 ? "verify" : "restore", scratch("cut")), 114,
				       parts[i]);
		}
		unlink(path);
		expect_command(ARGS("verify", scratch("cut")), 114, parts[i]);
		write_file(path, bytes, len);
		free(bytes);
	}
	expect_command(ARGS("verify", scratch("cut")), 0, "whole");
}
END_TEST

Suite *snapshot_damage_suite(void)
{
	Suite *suite = suite_create("snapshot_damage");
	TCase *tc = tcase_create("snapshot_damage");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_test(tc, flipped_bits);
	tcase_add_test(tc, damage_under_a_guest);
	tcase_add_test(tc, cut_short);
	suite_add_tcase(suite, tc);
	return suite;
}
