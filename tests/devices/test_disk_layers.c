/* Layers of a copy-on-write disk: frozen, written over, saved, laid under another disk. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/disk_backend.h"
#include "devices/disk_layer_file.h"
#include "tests/devices/disk_rig.h"
#include "tests/devices/rig.h"

#define SECTORS (DISK_BYTES / 512)
#define FLIPS	3000

static int file;

static void set_up(void)
{
	disk_set_up();
	file = memfd_create("layer", 0);
}

static void tear_down(void)
{
	close(file);
	disk_tear_down();
}

/* The disk of another run, over what was saved. */
static int reopen(void)
{
	disk_close(disk);
	disk_use(DISK_COW);
	return disk_load_layer(disk, file);
}

/* What every sector is to hold; negative: its number. */
static int model[SECTORS];

static void put(unsigned from, unsigned to, uint8_t byte)
{
	ck_assert_int_eq(disk_put(from * 512, (to - from) * 512, byte), 0);
	for (unsigned s = from; s < to; s++)
		model[s] = byte;
}

static void expect_model(void)
{
	for (unsigned s = 0; s < SECTORS; s++)
		disk_expect(s, s + 1, model[s]);
	/* Long reads meet every kind of run. */
	for (unsigned s = 0; s < SECTORS; s += 128) {
		ck_assert_int_eq(disk_get(s * 512, sizeof(disk_buf)), 0);
		for (unsigned i = 0; i < 128; i++)
			ck_assert_uint_eq(disk_buf[i * 512],
					  model[s + i] < 0 ? (uint8_t)(s + i) : model[s + i]);
	}
}

START_TEST(written_over_and_over)
{
	disk_use(DISK_COW);
	memset(model, -1, sizeof(model));
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < 40; i++) {
			unsigned from = (unsigned)rand() % (SECTORS - 1);
			unsigned len = 1 + (unsigned)rand() % 30;
			put(from, from + len < SECTORS ? from + len : SECTORS,
			    (uint8_t)(round * 40 + i));
		}
		expect_model();
		ck_assert_int_eq(disk_freeze(disk), 0);
		expect_model();
	}
	ck_assert_int_eq(disk_save_layers(disk, file, NULL, 0), 0);
	/* What is written after the freeze is not in it. */
	ck_assert_int_eq(disk_put(0, 4096, 0xee), 0);
	ck_assert_int_eq(reopen(), 0);
	expect_model();
	put(3, 21, 0x99);
	ck_assert_int_eq(disk_write_zeroes(disk, 40 * 512, 9 * 512, false), 0);
	for (unsigned s = 40; s < 49; s++)
		model[s] = 0;
	expect_model();
	/* And a layer over a layer file. */
	ck_assert_int_eq(disk_freeze(disk), 0);
	ck_assert_int_eq(ftruncate(file, 0), 0);
	int second = memfd_create("second", 0);
	ck_assert_int_eq(disk_save_layers(disk, second, NULL, 0) != 0, 1); /* its file was cut */
	close(second);
	disk_expect_file(0, SECTORS, -1);
}
END_TEST

/* Back to what it held, again and again, with layers that others froze meanwhile. */
START_TEST(goes_back)
{
	disk_use(DISK_COW);
	memset(model, -1, sizeof(model));
	for (unsigned mark = 0; mark < 3; mark++) {
		int was[SECTORS];

		if (mark) /* the first time nothing was written yet */
			put(mark * 10, mark * 10 + 37, (uint8_t)mark);
		ck_assert_int_eq(disk_mark(disk), 0);
		memcpy(was, model, sizeof(was));
		for (unsigned round = 0; round < 6; round++) {
			put(round * 7, round * 11 + 20, (uint8_t)(100 + round));
			if (round % 3 == 1) /* by a snapshot; its reader ends before, or after */
				ck_assert_int_eq(disk_freeze_passing(disk), 0);
			if (round % 3 == 2) {
				put(3, 9, (uint8_t)round);
				ck_assert_int_eq(disk_freeze_passing(disk), 0);
				ck_assert_int_eq(disk_fold(disk), 0);
				if (round == 2)
					disk_folded(disk);
			}
			expect_model();
			disk_go_back(disk);
			disk_folded(disk);
			memcpy(model, was, sizeof(was));
			expect_model();
		}
	}
}
END_TEST

START_TEST(one_of_two)
{
	disk_use(DISK_COW);
	memset(model, -1, sizeof(model));
	put(0, 100, 1);
	ck_assert_int_eq(disk_freeze(disk), 0);
	ck_assert_int_eq(disk_save_layers(disk, file, NULL, 0), 0);
	ck_assert_int_eq(reopen(), 0);
	put(50, 150, 2);
	ck_assert_int_eq(disk_freeze(disk), 0);
	close(file);
	file = memfd_create("both", 0);
	ck_assert_int_eq(disk_save_layers(disk, file, NULL, 0), 0);
	ck_assert_int_eq(reopen(), 0);
	expect_model();
}
END_TEST

START_TEST(nothing_written)
{
	disk_use(DISK_COW);
	ck_assert_int_eq(disk_freeze(disk), 0);
	ck_assert_int_eq(disk_save_layers(disk, file, NULL, 0), 0);
	ck_assert_int_eq(reopen(), 0);
	disk_expect(0, 64, -1);
}
END_TEST

START_TEST(not_for_every_disk)
{
	disk_use(DISK_COW);
	put(0, 8, 1);
	ck_assert_int_eq(disk_freeze(disk), 0);
	ck_assert_int_eq(disk_save_layers(disk, file, NULL, 0), 0);
	ck_assert_int_eq(disk_load_layer(disk, file), -EBUSY);
	disk_close(disk);
	disk_use(DISK_RO);
	ck_assert_int_eq(disk_load_layer(disk, file), -EBUSY);
	disk_close(disk);
	ck_assert_int_eq(ftruncate(disk_fd, DISK_BYTES / 2), 0);
	disk_use(DISK_COW);
	ck_assert_int_eq(disk_load_layer(disk, file), -EINVAL);
}
END_TEST

static uint8_t *map_file(size_t *len)
{
	struct stat st;

	ck_assert_int_eq(fstat(file, &st), 0);
	*len = (size_t)st.st_size;
	return mmap(NULL, *len, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
}

/* Refused at once, or when the block is read, or in what nobody reads; never other bytes. */
START_TEST(bit_flips)
{
	unsigned refused = 0, failed = 0;
	uint8_t *bytes;
	size_t len;

	disk_use(DISK_COW);
	put(5, 7, 0x55);
	put(100, 140, 0x66);
	put(SECTORS - 3, SECTORS, 0x77);
	ck_assert_int_eq(disk_freeze(disk), 0);
	ck_assert_int_eq(disk_save_layers(disk, file, NULL, 0), 0);
	bytes = map_file(&len);
	for (unsigned i = 0; i < FLIPS; i++) {
		/* Half of them in what says how the rest is to be read. */
		size_t bit = (size_t)rand() % (i % 2 ? len * 8 : 300UL * 8);
		int rc;

		if (i % 4 == 0)
			bit += 4096UL * 8;
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		rc = reopen();
		refused += rc != 0;
		for (unsigned s = 0; rc == 0 && s < SECTORS; s += 8) {
			int got = disk_get(s * 512, 4096);
			failed += got != 0;
			ck_assert(got == 0 || got == -EBADMSG);
			for (unsigned k = 0; got == 0 && k < 8; k++) {
				unsigned at = s + k;
				uint8_t want = at >= 5 && at < 7       ? 0x55
					       : at >= 100 && at < 140 ? 0x66
					       : at >= SECTORS - 3     ? 0x77
								       : (uint8_t)at;
				ck_assert_uint_eq(disk_buf[k * 512], want);
			}
		}
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	ck_assert_uint_gt(refused, 0);
	ck_assert_uint_gt(failed, 0);
	munmap(bytes, len);
}
END_TEST

START_TEST(truncated)
{
	uint8_t *bytes;
	size_t len;

	disk_use(DISK_COW);
	put(0, 64, 0x55);
	ck_assert_int_eq(disk_freeze(disk), 0);
	ck_assert_int_eq(disk_save_layers(disk, file, NULL, 0), 0);
	bytes = map_file(&len);
	munmap(bytes, len);
	for (size_t cut = 0; cut < len; cut += 509) {
		int whole = file;

		file = memfd_create("cut", 0);
		ck_assert_int_eq(ftruncate(file, (off_t)cut), 0);
		(void)!sendfile(file, whole, &(off_t){0}, cut);
		ck_assert_int_lt(reopen(), 0);
		close(file);
		file = whole;
	}
}
END_TEST

/* --- differences ---------------------------------------------------------------------------- */

#define CHAIN 5

static void write_some(unsigned round)
{
	for (unsigned i = 0; i < 20; i++) {
		unsigned from = (unsigned)rand() % (SECTORS - 31);

		put(from, from + 1 + (unsigned)rand() % 30, (uint8_t)(round * 20 + i));
	}
}

static uint64_t bytes_of(int fd)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	return (uint64_t)st.st_size;
}

/* @files, newest first, and their descriptors for who takes them. */
static void save_difference(int *files, unsigned count)
{
	int taken[CHAIN];

	for (unsigned i = 0; i < count; i++)
		taken[i] = dup(files[i]);
	memmove(files + 1, files, count * sizeof(*files));
	files[0] = memfd_create("difference", 0);
	ck_assert_int_eq(disk_save_layers(disk, files[0], taken, count), 0);
}

static void load_chain(const int *files, unsigned count)
{
	disk_close(disk);
	disk_use(DISK_COW);
	while (count-- > 0)
		ck_assert_int_eq(disk_load_layer(disk, files[count]), 0);
}

/* Of a disk as it goes on, or of one that was loaded from those before. */
START_TEST(differences)
{
	int files[CHAIN + 1], one = memfd_create("one", 0);
	unsigned first = (unsigned)rand() % (SECTORS - 8);

	disk_use(DISK_COW);
	memset(model, -1, sizeof(model));
	put(first, first + 8, 0xcc);
	for (unsigned n = 0; n < CHAIN; n++) {
		if (n != 2)
			write_some(n);
		put(first, first + 1, 0xcc); /* as it was: no difference */
		ck_assert_int_eq(disk_freeze(disk), 0);
		save_difference(files, n);
		if (n == 2) /* written, and with nothing else than before */
			ck_assert_uint_eq(bytes_of(files[0]), 4096);
		if (_i)
			load_chain(files, n + 1);
	}
	expect_model();
	load_chain(files, CHAIN);
	expect_model();
	ck_assert_int_eq(disk_layer_merge(files, CHAIN, one), 0);
	load_chain(&one, 1);
	expect_model();
	for (unsigned n = 0; n < CHAIN; n++)
		close(files[n]);
	close(one);
}
END_TEST

/*
 * The parent has what the disk has not: of another VM, or of one that went back since. It reads as
 * the disk does.
 */
START_TEST(difference_to_a_stranger)
{
	int files[3];

	disk_use(DISK_COW);
	memset(model, -1, sizeof(model));
	put(0, 8, 1);
	ck_assert_int_eq(disk_mark(disk), 0);
	put(4, 60, 2);
	put(SECTORS - 3, SECTORS, 3);
	ck_assert_int_eq(disk_freeze_passing(disk), 0);
	save_difference(files, 0);
	disk_go_back(disk);
	memset(model, -1, sizeof(model));
	for (unsigned s = 0; s < 8; s++)
		model[s] = 1;
	if (_i)
		put(100, 117, 4);
	ck_assert_int_eq(disk_freeze_passing(disk), 0);
	expect_model();
	save_difference(files, 1);
	load_chain(files, 2);
	expect_model();
	/* And of one that was never written to. */
	disk_close(disk);
	disk_use(DISK_COW);
	save_difference(files, 2);
	load_chain(files, 3);
	disk_expect(0, SECTORS, -1);
	ck_assert_int_eq(disk_layer_merge(files, 3, file), 0);
	ck_assert_int_eq(reopen(), 0);
	disk_expect(0, SECTORS, -1);
	for (unsigned i = 0; i < 3; i++)
		close(files[i]);
}
END_TEST

static void close_nothing(struct disk_backend *backend)
{
	(void)backend;
}

/* What serves the VM's process alone is not asked by another; refused, if it would have to be. */
START_TEST(difference_to_a_stranger_behind_a_companion)
{
	static const struct disk_backend_ops ops = {.close = close_nothing};
	static struct disk_backend backend = {.ops = &ops, .size = DISK_BYTES};
	int files[3], taken;

	disk_use(DISK_COW);
	memset(model, -1, sizeof(model));
	put(8, 16, 1);
	ck_assert_int_eq(disk_freeze(disk), 0);
	save_difference(files, 0);
	disk_close(disk);
	ck_assert_int_eq(disk_open_on(&backend, DISK_COW, &disk), 0);
	taken = dup(files[0]);
	ck_assert_int_eq(disk_save_layers(disk, file, &taken, 1), -ESTALE);
	put(8, 16, 2); /* its own */
	ck_assert_int_eq(disk_freeze(disk), 0);
	save_difference(files, 1);
	ck_assert_uint_eq(bytes_of(files[0]), 3 * 4096);
	close(files[0]);
	close(files[1]);
}
END_TEST

/* One block's sum is right and its bytes are not: it is no difference only if they are the same. */
START_TEST(same_sum_is_not_enough)
{
	int files[2], taken;

	disk_use(DISK_COW);
	memset(model, -1, sizeof(model));
	put(0, 8, 1);
	ck_assert_int_eq(disk_freeze(disk), 0);
	save_difference(files, 0);
	ck_assert_int_eq(pwrite(files[0], "x", 1, 8192), 1); /* the block itself */
	taken = dup(files[0]);
	ck_assert_int_eq(disk_save_layers(disk, file, &taken, 1), -EBADMSG);
	close(files[0]);
}
END_TEST

/* How large the disk is only the file says: what it has is what merging it costs. */
START_TEST(size_is_not_trusted)
{
	struct layer_header header = {
	    .magic = LAYER_MAGIC, .version = LAYER_VERSION, .size = 1UL << 45, .nr = 2};
	uint8_t block[2][DISK_BLOCK] = {"first", "last"}, found[DISK_BLOCK];
	struct layer_entry index[2] = {{1, XXH3_64bits(block[0], DISK_BLOCK)},
				       {(1UL << 33) - 1, XXH3_64bits(block[1], DISK_BLOCK)}};
	int one = memfd_create("one", 0);

	layer_sum_head(&header, index, &header.sum);
	ck_assert_int_eq(layer_transfer(file, TO_FILE, &header, sizeof(header), 0), 0);
	ck_assert_int_eq(layer_transfer(file, TO_FILE, index, sizeof(index), DISK_BLOCK), 0);
	ck_assert_int_eq(layer_transfer(file, TO_FILE, block, sizeof(block), 2 * DISK_BLOCK), 0);
	ck_assert_int_eq(disk_layer_merge(&file, 1, one), 0);
	ck_assert_int_eq(layer_transfer(one, FROM_FILE, found, DISK_BLOCK, 3 * DISK_BLOCK), 0);
	ck_assert(!memcmp(found, block[1], DISK_BLOCK));
	close(one);
}
END_TEST

/* --- layers that become one ----------------------------------------------------------------- */

static bool is_overlay(int fd)
{
	char path[64], name[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ssize_t len = readlink(path, name, sizeof(name) - 1);
	name[len > 0 ? len : 0] = 0;
	return strstr(name, "foal-overlay");
}

static unsigned overlays(void)
{
	unsigned n = 0;

	for (int fd = 3; fd < 200; fd++)
		n += is_overlay(fd);
	return n;
}

/* However many snapshots: one layer is left, and what is written. */
START_TEST(folded_into_one)
{
	disk_use(DISK_COW);
	memset(model, -1, sizeof(model));
	for (unsigned n = 0; n < 12; n++) {
		bool well = n % 5 != 3; /* some readers are killed */
		write_some(n % 12);
		ck_assert_int_eq(disk_freeze_passing(disk), 0);
		write_some(n % 12 + 1); /* meanwhile */
		ck_assert_int_eq(disk_fold(disk), 0);
		expect_model();
		if (well)
			disk_folded(disk);
		expect_model();
		ck_assert_uint_le(overlays(), well ? 2 : 4);
	}
	ck_assert_int_eq(disk_freeze(disk), 0);
	ck_assert_int_eq(disk_save_layers(disk, file, NULL, 0), 0);
	ck_assert_int_eq(reopen(), 0);
	expect_model();
}
END_TEST

/* By forks, of each of which a layer stays: so many, then none, until a snapshot was restored. */
START_TEST(as_many_as_may_be)
{
	disk_use(DISK_COW);
	memset(model, -1, sizeof(model));
	for (unsigned n = 0; n < DISK_LAYERS_MAX; n++) {
		put(n % 7, n % 7 + 1, (uint8_t)n);
		ck_assert_int_eq(disk_freeze(disk), 0);
	}
	ck_assert_int_eq(disk_freeze(disk), 0); /* nothing was written */
	put(3, 4, 77);
	ck_assert_int_eq(disk_freeze(disk), -EMLINK);
	expect_model();
	ck_assert_int_eq(disk_freeze_passing(disk), 0);
	ck_assert_int_eq(disk_save_layers(disk, file, NULL, 0), 0);
	ck_assert_int_eq(reopen(), 0);
	expect_model();
	put(3, 4, 78);
	ck_assert_int_eq(disk_freeze(disk), 0);
}
END_TEST

#define HELD 8

/* The overlays that there are, as a fork holds them, and what was in them. */
static struct {
	int fd;
	uint8_t *was;
} held[HELD];
static unsigned nr_held;

static void hold_overlays(void)
{
	for (int fd = 3; fd < 200 && nr_held < HELD; fd++) {
		if (!is_overlay(fd))
			continue;
		held[nr_held].was = malloc(DISK_BYTES);
		ck_assert_int_eq(pread(fd, held[nr_held].was, DISK_BYTES, 0), (ssize_t)DISK_BYTES);
		held[nr_held++].fd = fcntl(fd, F_DUPFD, 300);
	}
}

/* What a fork froze is its, too: it is not written, and nothing folded into it. */
START_TEST(a_fork_keeps_its_layers)
{
	uint8_t *now = malloc(DISK_BYTES);

	disk_use(DISK_COW);
	memset(model, -1, sizeof(model));
	for (unsigned n = 0; n < 6; n++) {
		write_some(n);
		ck_assert_int_eq((n ? disk_freeze_passing : disk_freeze)(disk), 0);
		ck_assert_int_eq(disk_fold(disk), 0);
		if (n == 2) { /* a fork while the reader is at it */
			ck_assert_int_eq(disk_freeze(disk), 0);
			hold_overlays();
		}
		disk_folded(disk);
		expect_model();
	}
	ck_assert_uint_eq(nr_held, 3);
	for (unsigned i = 0; i < nr_held; i++) {
		ck_assert_int_eq(pread(held[i].fd, now, DISK_BYTES, 0), (ssize_t)DISK_BYTES);
		ck_assert_int_eq(memcmp(now, held[i].was, DISK_BYTES), 0);
		close(held[i].fd);
		free(held[i].was);
	}
	free(now);
}
END_TEST

Suite *disk_layers_suite(void)
{
	Suite *suite = suite_create("disk layers");
	TCase *tc = tcase_create("disk layers");

	tcase_set_timeout(tc, 300);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, written_over_and_over);
	tcase_add_test(tc, goes_back);
	tcase_add_test(tc, one_of_two);
	tcase_add_test(tc, nothing_written);
	tcase_add_test(tc, not_for_every_disk);
	tcase_add_test(tc, bit_flips);
	tcase_add_test(tc, truncated);
	tcase_add_loop_test(tc, differences, 0, 2);
	tcase_add_loop_test(tc, difference_to_a_stranger, 0, 2);
	tcase_add_test(tc, difference_to_a_stranger_behind_a_companion);
	tcase_add_test(tc, same_sum_is_not_enough);
	tcase_add_test(tc, size_is_not_trusted);
	tcase_add_test(tc, folded_into_one);
	tcase_add_test(tc, as_many_as_may_be);
	tcase_add_test(tc, a_fork_keeps_its_layers);
	suite_add_tcase(suite, tc);
	tc = tcase_create("soon done");
	tcase_set_timeout(tc, 30);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, size_is_not_trusted);
	suite_add_tcase(suite, tc);
	return suite;
}
