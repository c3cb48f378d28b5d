/* File areas: how much is read and how often, odd offsets and tails, files that fail. */
#include "ept/stats.h"
#include "tests/ept/uffd_suites.h"
#include "tests/ept/util.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>

#define MIB (1UL << 20)

static unsigned char sum_of_pages(const volatile char *p, uint64_t size)
{
	unsigned char sum = 0;

	for (uint64_t at = 0; at < size; at += PAGE)
		sum = (unsigned char)(sum + p[at]);
	return sum;
}

/*
 * 64 MiB front to back: at most a fifteenth of the faults that single pages take, and
 * so few only if windows grow to a leaf; no byte is read twice.
 */
START_TEST(sequential_read)
{
	struct vm vm = vm_file(64 * MIB, EPT_FILE_COW);

	ck_assert(has_pattern(vm.hva, 0, vm.size));
	ept_space_stop(vm.space);
	ck_assert_uint_le(events(vm.space), 64 * MIB / PAGE / 15);
	ck_assert_uint_eq(area_info(&vm).file_read, 64 * MIB);
	ck_assert_uint_eq(file_bytes_read(&vm), 64 * MIB);
	ck_assert_uint_eq(area_info(&vm).resident, 64 * MIB);
	/* All that came ahead of the faults was wanted. */
	ck_assert_uint_gt(ahead_stats(&vm).reads, 0);
	ck_assert_uint_eq(ahead_stats(&vm).wasted, 0);
	ck_assert_uint_eq(ahead_stats(&vm).failed, 0);
	vm_destroy(&vm);
}
END_TEST

/* The same when the cache has everything: what windows alone make of it. */
START_TEST(sequential_read_of_what_is_cached)
{
	struct vm vm = vm_file(16 * MIB, EPT_FILE_RO);
	uint64_t bytes = 0;

	for (uint64_t page = 0; page < 16 * MIB / PAGE; page += 512)
		ck_assert_int_eq(ept_object_fill(vm.area->obj, page, page, page + 512, &bytes), 0);
	sum_of_pages(vm.hva, vm.size);
	ept_space_stop(vm.space);
	/* Of 16 pages, 48, 448, then leaves. */
	ck_assert_uint_eq(events(vm.space), 3 + 16 / 2 - 1);
	ck_assert_uint_eq(ahead_stats(&vm).reads, 0);
	vm_destroy(&vm);
}
END_TEST

/* A random page of each leaf, so that no two are near: by the host's read-ahead size. */
static uint64_t read_at_random(uint64_t host_ahead, unsigned reads_of_a_leaf, uint64_t *touched)
{
	const unsigned leaves = 16;
	uint64_t size = leaves * EPT_LEAF_BYTES, bytes;
	struct vm vm = vm_file(size, EPT_FILE_RO);
	unsigned seed = 1;

	pthread_mutex_lock(&vm.area->reads.lock);
	vm.area->reads.host_ahead = host_ahead;
	pthread_mutex_unlock(&vm.area->reads.lock);
	*touched = (uint64_t)leaves * reads_of_a_leaf;
	for (uint64_t i = 0; i < *touched; i++) {
		/* Even pages, downwards in each leaf: none goes on with another. */
		uint64_t slot = EPT_TABLE_SIZE / reads_of_a_leaf;
		uint64_t page = i % leaves * EPT_TABLE_SIZE +
				(reads_of_a_leaf - 1 - i / leaves) * slot +
				(uint64_t)rand_r(&seed) % (slot / 2);

		ck_assert(has_pattern(vm.hva + page * PAGE, page * PAGE, 8));
	}
	ept_space_stop(vm.space);
	bytes = file_bytes_read(&vm);
	ck_assert_uint_eq(area_info(&vm).file_read, bytes);
	vm_destroy(&vm);
	return bytes;
}

/* The windows around the first few; once reads are known to be random, each page alone. */
START_TEST(random_read_reads_only_what_is_asked)
{
	uint64_t touched, bytes = read_at_random(512, 1, &touched);

	ck_assert_uint_eq(bytes, (EPT_MISSES * 16 + (touched - EPT_MISSES)) * PAGE);
}
END_TEST

/* Many of one leaf: no more than the host's own path would read around each. */
START_TEST(dense_random_read_reads_no_more_than_the_host)
{
	uint64_t touched, bytes = read_at_random(_i, 32, &touched);

	ck_assert_uint_le(bytes,
			  (EPT_MISSES * 16 + EPT_HOST_MISSES * (unsigned)_i + touched) * PAGE);
}
END_TEST

START_TEST(fault_around_off)
{
	struct ept_config config = one_thread;
	struct vm vm;

	config.fault_around = 1;
	vm = vm_file_with(&config, 64 * PAGE, EPT_FILE_COW);
	sum_of_pages(vm.hva, 20 * PAGE);
	ept_space_stop(vm.space);
	ck_assert_uint_eq(events(vm.space), 20);
	ck_assert_uint_eq(inject_get(bytes_read), 20 * PAGE);
	vm_destroy(&vm);
}
END_TEST

START_TEST(a_page_written_first_is_read_once)
{
	struct vm vm = vm_file(64 * PAGE, EPT_FILE_COW);

	vm.hva[5 * PAGE] = 0;
	ck_assert(has_pattern(vm.hva + 6 * PAGE, 6 * PAGE, PAGE));
	ck_assert(has_pattern(vm.hva, 0, 5 * PAGE));
	ck_assert_int_eq(vm.hva[5 * PAGE], 0);
	ept_space_stop(vm.space);
	ck_assert_uint_ge(area_info(&vm).file_read, 16 * PAGE);
	ck_assert_uint_eq(file_bytes_read(&vm), area_info(&vm).file_read); /* no byte twice */
	vm_destroy(&vm);
}
END_TEST

/* Nothing about the file is aligned: offset, length, and the file goes on after it. */
START_TEST(odd_offset_and_tail)
{
	static const enum ept_file_mode modes[] = {EPT_FILE_RO, EPT_FILE_COW, EPT_FILE_SHARED};
	int fd = temp_file(64 * PAGE);
	uint64_t length = 20 * PAGE + 100;
	struct vm vm = vm_create(&one_thread, fd, 777, length, modes[_i]);

	ck_assert_uint_eq(vm.size, 21 * PAGE);
	ck_assert(has_pattern(vm.hva, 777, length));
	for (uint64_t i = length; i < vm.size; i++)
		ck_assert_int_eq(vm.hva[i], 0);
	ck_assert_uint_eq(area_info(&vm).file_bytes, length);
	ck_assert_uint_eq(area_info(&vm).file_read, length);
	ck_assert_uint_eq(inject_get(bytes_read), length);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

START_TEST(short_and_interrupted_reads_are_finished)
{
	struct vm vm = vm_file(64 * PAGE, EPT_FILE_COW);

	inject_set(pread_max, 1000);
	inject_set(eintr_every, 3);
	ck_assert(has_pattern(vm.hva, 0, 64 * PAGE));
	ck_assert_ptr_null(ept_space_failure(vm.space));
	vm_destroy(&vm);
}
END_TEST

/* A slot of a RAM area, a file inside it, and what is around: one slot, three areas. */
START_TEST(file_inside_ram)
{
	int fd = temp_file(4 * PAGE);
	struct ept_space *space;
	struct ept_object *obj;
	struct ept_slot slot;
	char *hva;

	ck_assert_int_eq(ept_space_create(&one_thread, &space), 0);
	ck_assert_int_eq(ept_area_add(space, "ram", GPA(0), 64 * PAGE, NULL, NULL), 0);
	ck_assert_int_eq(ept_object_file(fd, "vmlinux", 0, 4 * PAGE, EPT_FILE_COW, &obj), 0);
	ck_assert_int_eq(ept_area_add(space, "kernel", GPA(10 * PAGE), 4 * PAGE, obj, NULL), 0);
	ept_object_put(obj);
	ck_assert_int_eq(ept_space_start(space), 0);
	ck_assert_uint_eq(ept_space_slots(space, &slot, 1), 1);
	ck_assert_uint_eq(slot.size, 64 * PAGE);
	hva = slot.hva;
	hva[9 * PAGE] = 1;
	ck_assert(has_pattern(hva + 10 * PAGE, 0, 4 * PAGE));
	ck_assert_int_eq(((volatile char *)hva)[14 * PAGE], 0);
	hva[13 * PAGE] = 1;
	ck_assert_int_eq(hva[9 * PAGE], 1);
	ept_space_stop(space);
	ck_assert_uint_eq(ept_area_count(space), 3);
	ept_space_destroy(space);
	close(fd);
}
END_TEST

static bool readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static void *touch(void *p)
{
	return (void *)(uintptr_t) * (volatile char *)p;
}

/*
 * A vCPU whose page cannot be read sleeps until the space is stopped; the reason is kept. It
 * is the same if the look at the files finds it first.
 */
START_TEST(truncated_file_fails_the_space)
{
	struct vm vm = vm_file(64 * PAGE, EPT_FILE_COW);
	const struct ept_failure *failure;
	pthread_t guest;
	char c;

	ck_assert_int_eq(ftruncate(vm.fd, 20 * PAGE + 7), 0);
	if (_i)
		ept_space_check_files(vm.space);
	/* The part of the window that is still there is served. */
	ck_assert(has_pattern(vm.hva + 17 * PAGE, 17 * PAGE, PAGE));
	assert_faults(&vm, EPT_CASE_IO_ERROR, 0);
	pthread_create(&guest, NULL, touch, vm.hva + 20 * PAGE);
	while (!faults(&vm, EPT_CASE_IO_ERROR))
		usleep(1000);
	ck_assert(readable(ept_space_failure_fd(vm.space)));
	failure = ept_space_failure(vm.space);
	ck_assert_ptr_nonnull(failure);
	ck_assert_int_eq(failure->kase, EPT_CASE_IO_ERROR);
	ck_assert_int_eq(failure->error, -EIO);
	ck_assert_uint_eq(failure->gpa.v, 20 * PAGE);
	ck_assert_str_eq(
	    failure->message,
	    "test: cannot read byte 81920 of disk.img for pmem0: it shrank from 262144 "
	    "to 81927 bytes; restore it and start the VM again");
	ck_assert_int_eq(ept_read(vm.space, GPA(40 * PAGE), &c, 1, EPT_ORIGIN_DEVICE), -EIO);
	ept_space_stop(vm.space);
	pthread_join(guest, NULL);
	assert_faults(&vm, EPT_CASE_IO_ERROR, 2);
	vm_destroy(&vm);
}
END_TEST

START_TEST(check_finds_a_shrunk_file)
{
	struct vm vm = vm_file(64 * PAGE, EPT_FILE_COW);

	ept_space_check_files(vm.space);
	ck_assert_ptr_null(ept_space_failure(vm.space));
	ck_assert_int_eq(ftruncate(vm.fd, 40 * PAGE), 0);
	ept_space_check_files(vm.space);
	ck_assert_ptr_nonnull(ept_space_failure(vm.space));
	ck_assert_uint_eq(ept_space_failure(vm.space)->gpa.v, 40 * PAGE);
	ck_assert(readable(ept_space_failure_fd(vm.space)));
	vm_destroy(&vm);
}
END_TEST

START_TEST(io_error_of_a_neighbour_is_not_ours)
{
	struct vm vm = vm_file(64 * PAGE, EPT_FILE_COW);
	char c;

	inject_set(pread_errno, EIO);
	inject_set(bad_from, 3 * PAGE);
	inject_set(bad_to, 4 * PAGE);
	ck_assert(has_pattern(vm.hva + 8 * PAGE, 8 * PAGE, PAGE));
	ck_assert(has_pattern(vm.hva, 0, 3 * PAGE));
	ck_assert_ptr_null(ept_space_failure(vm.space));
	ck_assert_int_eq(ept_read(vm.space, GPA(3 * PAGE), &c, 1, EPT_ORIGIN_DEVICE), -EIO);
	ck_assert_ptr_nonnull(strstr(ept_space_failure(vm.space)->message, "Input/output error"));
	inject_set(pread_errno, 0); /* the storage is back */
	ck_assert_int_eq(ept_read(vm.space, GPA(3 * PAGE), &c, 1, EPT_ORIGIN_DEVICE), 0);
	vm_destroy(&vm);
}
END_TEST

START_TEST(two_spaces_share_one_cache)
{
	int fd = temp_file(64 * PAGE);
	struct ept_space *space[2];
	struct ept_object *obj;
	struct ept_slot slot;
	char *hva[2];

	ck_assert_int_eq(ept_object_file(fd, "layer", 0, 64 * PAGE, EPT_FILE_COW, &obj), 0);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(ept_space_create(&one_thread, &space[i]), 0);
		ck_assert_int_eq(ept_area_add(space[i], "m", GPA(0), 64 * PAGE, obj, NULL), 0);
		ck_assert_int_eq(ept_space_start(space[i]), 0);
		ept_space_slots(space[i], &slot, 1);
		hva[i] = slot.hva;
	}
	ept_object_put(obj);
	ck_assert(has_pattern(hva[0], 0, 64 * PAGE));
	hva[0][0] = 0;
	ck_assert(has_pattern(hva[1], 0, 64 * PAGE));
	ck_assert_uint_eq(inject_get(bytes_read), 64 * PAGE);
	ept_space_destroy(space[0]);
	hva[1][0] = 0;
	ept_space_destroy(space[1]);
	close(fd);
}
END_TEST

Suite *suite_uffd_files(void)
{
	Suite *suite = suite_create("ept on userfaultfd: files");
	TCase *tc = tcase_create("files");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, sequential_read);
	tcase_add_test(tc, sequential_read_of_what_is_cached);
	tcase_add_test(tc, random_read_reads_only_what_is_asked);
	tcase_add_loop_test(tc, dense_random_read_reads_no_more_than_the_host, 32, 33);
	tcase_add_loop_test(tc, dense_random_read_reads_no_more_than_the_host, 0, 1);
	tcase_add_test(tc, fault_around_off);
	tcase_add_test(tc, a_page_written_first_is_read_once);
	tcase_add_loop_test(tc, odd_offset_and_tail, 0, 3);
	tcase_add_test(tc, short_and_interrupted_reads_are_finished);
	tcase_add_test(tc, file_inside_ram);
	tcase_add_loop_test(tc, truncated_file_fails_the_space, 0, 2);
	tcase_add_test(tc, check_finds_a_shrunk_file);
	tcase_add_test(tc, io_error_of_a_neighbour_is_not_ours);
	tcase_add_test(tc, two_spaces_share_one_cache);
	suite_add_tcase(suite, tc);
	return suite;
}
