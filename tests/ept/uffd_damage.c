/*
 * Files of a snapshot that are damaged, cut short, hostile, or cannot be written: each is
 * said in a line, and no guest sees a wrong byte.
 */
#include "ept/snapshot_format.h"
#include "tests/ept/inject.h"
#include "tests/ept/snapshot_rig.h"
#include "tests/ept/uffd_suites.h"

#include <poll.h>
#include <stddef.h>
#include <stdlib.h>

/* Of the index every bit; each is refused with a line. */
START_TEST(index_with_a_wrong_bit)
{
	struct vm vm = snap_make(&snap_origins[0]);
	struct snap_files files;
	char why[300];

	memset((char *)at(&vm, 3), 1, 40 * PAGE);
	snap_take(&vm, &files, _i);
	for (uint64_t bit = 0; bit < snap_size(files.index) * 8; bit++) {
		snap_flip(files.index, bit);
		*why = 0;
		ck_assert_int_eq(snap_open_error(&files, why), -EINVAL);
		ck_assert(!strncmp(why, "snap: memory.index: ", 20));
		snap_flip(files.index, bit);
	}
	for (uint64_t len = snap_size(files.index); len-- > 0;) {
		ck_assert_int_eq(ftruncate(files.index, (off_t)len), 0);
		ck_assert_int_eq(snap_open_error(&files, why), -EINVAL);
	}
	snap_close(&files);
	vm_destroy(&vm);
}
END_TEST

/*
 * Of the memory, some bits of what is stored: refused by a verify, and by the first touch
 * of the extent, before any of it is there.
 */
START_TEST(memory_with_a_wrong_bit)
{
	struct vm vm = snap_make(&snap_origins[0]);
	struct snap_restored r;
	struct snap_files files;
	char why[300], c;
	uint64_t at_byte;

	for (uint64_t i = 64 * PAGE; i < 80 * PAGE; i++)
		vm.hva[i] = (char)pattern_byte(i * 7);
	snap_take(&vm, &files, _i);
	at_byte = _i ? snap_size(files.memory) / 2 : 64 * PAGE + 12345;
	snap_flip(files.memory, at_byte * 8 + 3);
	r = snap_restore(&files, -1);
	ck_assert_int_eq(ept_snapshot_verify(r.snapshot, why, sizeof(why)), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(why, "for gpa 0x40000, has a wrong checksum"));
	ck_assert_int_eq(ept_read(r.vm.space, GPA(66 * PAGE), &c, 1, EPT_ORIGIN_DEVICE), -EBADMSG);
	ck_assert_ptr_nonnull(ept_space_failure(r.vm.space));
	ck_assert_ptr_nonnull(strstr(ept_space_failure(r.vm.space)->message,
				     "for gpa 0x40000, has a wrong checksum"));
	assert_faults(&r.vm, EPT_CASE_IO_ERROR, 1);
	ck_assert_uint_eq(area_info(&r.vm).resident, 0);
	snap_restored_destroy(&r);
	ck_assert_int_eq(ftruncate(files.memory, (off_t)snap_size(files.memory) - 1), 0);
	ck_assert_int_eq(snap_open_error(&files, why), -EINVAL);
	snap_close(&files);
	vm_destroy(&vm);
}
END_TEST

/* A bit at each of many places, those that are not stored included: refused, or what it was. */
START_TEST(wrong_bits_all_over)
{
	struct vm vm = snap_make(&snap_origins[0]);
	struct ept_snapshot *s;
	struct snap_files files;
	char why[300];
	uint64_t bits, seed = 12345, refused = 0;

	snap_use(&vm);
	snap_take(&vm, &files, _i);
	bits = snap_size(files.memory) * 8;
	s = snap_open(&files);
	for (int n = 0; n < 100; n++) {
		int err;

		seed = seed * 6364136223846793005UL + 1442695040888963407UL;
		snap_flip(files.memory, (seed >> 11) % bits);
		err = ept_snapshot_verify(s, why, sizeof(why));
		ck_assert(err == 0 || err == -EBADMSG);
		refused += err != 0;
		snap_flip(files.memory, (seed >> 11) % bits);
	}
	ck_assert_uint_gt(refused, 60); /* most of it is stored, or lies in an extent that is */
	ck_assert_int_eq(ept_snapshot_verify(s, why, sizeof(why)), 0);
	ept_snapshot_close(s);
	snap_close(&files);
	vm_destroy(&vm);
}
END_TEST

/* A byte where nothing is stored: who maps the file would see it, so it is not found whole. */
START_TEST(hole_with_bytes)
{
	struct vm vm = snap_make(&snap_origins[0]);
	struct ept_snapshot *s;
	struct snap_files files;
	char why[300];

	memset((char *)at(&vm, 100), 1, PAGE);
	snap_take(&vm, &files, 0);
	s = snap_open(&files);
	ck_assert_int_eq(ept_snapshot_verify(s, why, sizeof(why)), 0);
	for (int i = 0; i < 3; i++) {
		static const uint64_t places[] = {7 * PAGE, 112 * PAGE, SNAP_SIZE - 1};

		snap_flip(files.memory, places[i] * 8);
		ck_assert_int_eq(ept_snapshot_verify(s, why, sizeof(why)), -EBADMSG);
		snap_flip(files.memory, places[i] * 8);
		ck_assert_int_eq(ept_snapshot_verify(s, why, sizeof(why)), 0); /* zeros will do */
	}
	ept_snapshot_close(s);
	snap_close(&files);
	vm_destroy(&vm);
}
END_TEST

/* The index is hostile, its checksums are right: what cannot be is refused, never read. */
START_TEST(hostile_index)
{
	static const struct {
		size_t at;
		uint64_t value;
		unsigned bytes;
	} lies[] = {
	    {16, UINT64_MAX, 8},  {24, UINT64_MAX, 8}, {24, 0, 8},	   {24, 1, 8},
	    {32, PAGE, 8},	  {104, 1, 8},	       {104, ~0xfffUL, 8}, {112, 0, 8},
	    {112, UINT64_MAX, 8}, {120, ~0xfffUL, 8},  {128, 8, 4},	   {136, 0x20000, 8},
	    {136, 1UL << 47, 8},  {144, ~0xfffUL, 8},  {144, 4096, 8},	   {152, UINT32_MAX, 4},
	    {156, 64, 2},	  {156, 0xffff, 2},    {152, 4096, 4},	   {156, 17, 2},
	    {156, 0, 2},	  {158, 2, 2},	       {158, 0xffff, 2},   {158, 3, 2},
	    {160, 0, 2},	  {162, 0xffff, 2},    {164, 1, 4},	   {8, 2, 4},
	};
	struct vm vm = snap_make(&snap_origins[0]);
	struct ept_snapshot *s;
	struct ept_index_header *h;
	struct snap_files files;
	char why[300], index[4096], good[4096];
	size_t size;

	memset((char *)at(&vm, 3), 1, 40 * PAGE);
	snap_take(&vm, &files, 0);
	size = snap_size(files.index);
	ck_assert_uint_le(size, sizeof(index));
	ck_assert_int_eq(pread(files.index, good, size, 0), size);
	for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
		int err;

		memcpy(index, good, size);
		memcpy(index + lies[i].at, &lies[i].value, lies[i].bytes);
		h = (struct ept_index_header *)(void *)index;
		h->table = ept_checksum(index + sizeof(*h), size - sizeof(*h));
		h->sum = ept_checksum(h, offsetof(struct ept_index_header, sum));
		ck_assert_int_eq(pwrite(files.index, index, size, 0), size);
		err = ept_snapshot_open(files.memory, files.index, "snap", &s, why, sizeof(why));
		/* Compressed by its flags only: what comes out of it is not a page. */
		if (!err && lies[i].value == 3) {
			ck_assert_int_lt(ept_snapshot_verify(s, why, sizeof(why)), 0);
			ept_snapshot_close(s);
			continue;
		}
		ck_assert_msg(err == -EINVAL, "lie %zu: %d", i, err);
	}
	snap_close(&files);
	vm_destroy(&vm);
}
END_TEST

#define MANY 100000UL

/* What is read for it is in proportion to the file, whatever its index says. */
START_TEST(very_many_areas)
{
	size_t areas = MANY * sizeof(struct ept_index_area);
	size_t len = areas + MANY * sizeof(struct ept_index_extent);
	struct ept_index_header h = {.magic = EPT_INDEX_MAGIC,
				     .version = EPT_INDEX_VERSION,
				     .extent = EPT_EXTENT,
				     .areas = MANY,
				     .extents = MANY,
				     .memory_bytes = 256 * PAGE};
	int memory = memfd_create("memory", 0), index = memfd_create("index", 0);
	char *table = calloc(1, len), *bytes = calloc(256, PAGE), why[300];
	struct ept_index_area *area = (struct ept_index_area *)(void *)table;
	struct ept_index_extent *e = (struct ept_index_extent *)(void *)(table + areas);
	struct ept_snapshot *s;

	/* All of them in one place, which is zeros and no hole. */
	for (uint64_t i = 0; i < MANY; i++) {
		area[i] = (struct ept_index_area){.gpa = i << 20, .size = 256 * PAGE};
		e[i] = (struct ept_index_extent){
		    .gpa = i << 20, .stored = 16 * PAGE, .pages = 16, .zero = 1};
		e[i].sum = ept_checksum(bytes, EPT_EXTENT);
	}
	h.table = ept_checksum(table, len);
	h.sum = ept_checksum(&h, offsetof(struct ept_index_header, sum));
	ck_assert_int_eq(pwrite(memory, bytes, 256 * PAGE, 0), 256 * PAGE);
	ck_assert_int_eq(pwrite(index, &h, sizeof(h), 0), sizeof(h));
	ck_assert_int_eq(pwrite(index, table, len, sizeof(h)), (ssize_t)len);
	ck_assert_int_eq(ept_snapshot_open(memory, index, "snap", &s, why, sizeof(why)), 0);
	ck_assert_int_eq(ept_snapshot_verify(s, why, sizeof(why)), 0);
	ept_snapshot_close(s);
	close(memory);
	close(index);
	free(table);
	free(bytes);
}
END_TEST

/* A page alone is not worth the VM: with poison it goes on. */
START_TEST(wrong_extent_is_poisoned)
{
	struct ept_config config = {
	    .vm_name = "test", .log = true, .vcpus = 1, .on_io_error = EPT_IO_POISON};
	struct vm vm = snap_make(&snap_origins[0]);
	struct snap_restored r;
	struct snap_files files;
	char c;

	memset(vm.hva, 3, SNAP_SIZE);
	snap_take(&vm, &files, 0);
	snap_flip(files.memory, 100 * PAGE * 8);
	r = snap_restore_with(&config, &files, -1, NULL);
	if (ept_space_can_poison(r.vm.space)) {
		ck_assert_int_eq(ept_read(r.vm.space, GPA(100 * PAGE), &c, 1, EPT_ORIGIN_DEVICE),
				 -EIO);
		ck_assert(ept_poisoned(r.vm.space, GPA(100 * PAGE)));
		ck_assert_ptr_null(ept_space_failure(r.vm.space));
		ck_assert_int_eq(*at(&r.vm, 200), 3);
	}
	snap_restored_destroy(&r);
	snap_close(&files);
	vm_destroy(&vm);
}
END_TEST

START_TEST(writer_runs_out_of_space)
{
	struct vm vm = snap_make(&snap_origins[_i]);
	struct snap_files files;
	char why[300];

	snap_use(&vm);
	inject_set(pwrite_errno, ENOSPC);
	ck_assert_int_eq(snap_try(&vm, &files, snap_origins[_i].zstd, false, why), -ENOSPC);
	inject_set(pwrite_errno, 0);
	ck_assert_ptr_nonnull(strstr(why, "No space left"));
	snap_close(&files);
	inject_set(fdatasync_errno, EIO);
	ck_assert_int_eq(snap_try(&vm, &files, snap_origins[_i].zstd, false, why), -EIO);
	inject_set(fdatasync_errno, 0);
	snap_close(&files);
	snap_take(&vm, &files, snap_origins[_i].zstd);
	snap_close(&files);
	ck_assert(snap_all_there(&vm, false)); /* the source is well */
	vm_destroy(&vm);
}
END_TEST

/* What its file no longer has is not written as zeros; and it is nothing to the parent. */
START_TEST(file_is_cut_short_meanwhile)
{
	struct pollfd failed = {.events = POLLIN};
	struct snap_files files;
	char why[300];
	struct vm vm;

	inject_clock_stop(); /* else the parent's file watch would find it cut, too */
	vm = snap_make(&snap_origins[SNAP_ORIGINS - 1]);
	failed.fd = ept_space_failure_fd(vm.space);
	memset(vm.hva, 3, 10 * PAGE);
	snap_next.cut_short = vm.fd;
	ck_assert_int_eq(snap_try(&vm, &files, 0, false, why), -EIO);
	snap_next.cut_short = -1;
	ck_assert_ptr_nonnull(strstr(why, "it shrank from"));
	ck_assert_uint_eq(snap_size(files.index), 0);
	ck_assert_int_eq(poll(&failed, 1, 0), 0);
	ck_assert_ptr_null(ept_space_failure(vm.space));
	snap_close(&files);
	vm_destroy(&vm);
}
END_TEST

Suite *suite_uffd_damage(void)
{
	Suite *suite = suite_create("ept on userfaultfd: damaged snapshots");
	TCase *tc = tcase_create("damage");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, index_with_a_wrong_bit, 0, 2);
	tcase_add_loop_test(tc, memory_with_a_wrong_bit, 0, 2);
	tcase_add_loop_test(tc, wrong_bits_all_over, 0, 2);
	tcase_add_test(tc, hole_with_bytes);
	tcase_add_test(tc, hostile_index);
	tcase_add_test(tc, wrong_extent_is_poisoned);
	tcase_add_loop_test(tc, writer_runs_out_of_space, 0, 2);
	tcase_add_test(tc, file_is_cut_short_meanwhile);
	suite_add_tcase(suite, tc);
	tc = tcase_create("soon done");
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, very_many_areas);
	suite_add_tcase(suite, tc);
	return suite;
}
