/* Huge pages of the host: counted in its own tables, never timed. */
#include "ept/host_pages.h"
#include "ept/staging.h"
#include "ept/stats.h"
#include "ept/uffd_compat.h"
#include "tests/ept/uffd_suites.h"
#include "tests/ept/util.h"
#include "tests/host_huge.h"

#include <stdio.h>
#include <stdlib.h>

#define MIB (1UL << 20)

static uint64_t refusals_before;

static void skip_without_huge_pages(void)
{
	refusals_before = host_refusals();
	if (ept_host_gives_huge())
		return;
	printf("SKIP huge pages: the host gives none "
	       "(/sys/kernel/mm/transparent_hugepage/enabled is never)\n");
	exit(0);
}

static bool refused(void)
{
	return host_refusals() != refusals_before;
}

static struct vm anonymous_vm(enum ept_engine engine, enum ept_huge huge, uint64_t size)
{
	struct ept_config config = {
	    .vm_name = "test", .log = true, .engine = engine, .vcpus = 1, .huge = huge};

	return vm_create(&config, -1, 0, size, EPT_FILE_COW);
}

/* Bytes of [@vm->hva, + size) in huge pages (AnonHugePages of smaps). */
static uint64_t huge_bytes(const struct vm *vm)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	uint64_t start, end, kib, sum = 0;
	bool in = false;
	char line[512];

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			in = start - (uintptr_t)vm->hva < vm->size;
		else if (in && sscanf(line, "AnonHugePages: %lu", &kib) == 1)
			sum += kib << 10;
	}
	fclose(f);
	return sum;
}

static void touch(const struct vm *vm, uint64_t first, uint64_t pages)
{
	for (uint64_t i = first; i < first + pages; i++)
		((volatile char *)vm->hva)[i * PAGE] = 1;
}

/* The toucher is woken before its fault is counted: exact once the space is stopped. */
static void settle_and_count(struct vm *vm, enum ept_case kase, uint64_t n)
{
	ept_space_stop(vm->space);
	assert_faults(vm, kase, n);
}

START_TEST(kernel_always)
{
	struct vm vm;

	skip_without_huge_pages();
	vm = anonymous_vm(EPT_ENGINE_KERNEL, EPT_HUGE_ALWAYS, 16 * MIB);
	touch(&vm, 600, 1);
	if (refused())
		return;
	ck_assert_uint_eq(huge_bytes(&vm), 2 * MIB);
	ck_assert_uint_eq(area_info(&vm).resident, 2 * MIB);
	discard(&vm, 600, 1); /* a part: the rest stays */
	ck_assert_uint_eq(huge_bytes(&vm), 0);
	ck_assert_uint_eq(area_info(&vm).resident, 2 * MIB - PAGE);
	vm_destroy(&vm);
}
END_TEST

START_TEST(kernel_never)
{
	struct vm vm = anonymous_vm(EPT_ENGINE_KERNEL, EPT_HUGE_NEVER, 16 * MIB);

	touch(&vm, 0, 4096);
	ck_assert_uint_eq(huge_bytes(&vm), 0);
	ck_assert_uint_eq(area_info(&vm).resident, 16 * MIB);
	vm_destroy(&vm);
}
END_TEST

/* One page in each 2 MiB costs one page each, whatever the host's setting. */
START_TEST(kernel_auto_sparse)
{
	struct vm vm = anonymous_vm(EPT_ENGINE_KERNEL, EPT_HUGE_AUTO, 512 * MIB);

	for (unsigned i = 0; i < 256; i++)
		touch(&vm, i * 512, 1);
	ck_assert_uint_eq(huge_bytes(&vm), 0);
	ck_assert_uint_eq(area_info(&vm).resident, 256 * PAGE);
	vm_destroy(&vm);
}
END_TEST

/* The governor's own thread: what is touched all over is huge in the end, and holds what it did. */
START_TEST(kernel_auto_dense)
{
	struct vm vm;
	struct ept_huge_stats stats;

	skip_without_huge_pages();
	vm = anonymous_vm(EPT_ENGINE_KERNEL, EPT_HUGE_AUTO, 32 * MIB);
	touch(&vm, 0, 8192);
	do { /* ended by the test's limit if it never happens */
		discard(&vm, 0, 512);
		touch(&vm, 0, 512);
		ept_space_huge_stats(vm.space, &stats);
	} while (!stats.collapsed && !refused());
	ept_space_stop(vm.space);
	if (!refused())
		ck_assert_uint_gt(huge_bytes(&vm), 0);
	for (unsigned i = 512; i < 8192; i++)
		ck_assert_int_eq(vm.hva[i * PAGE], 1);
	vm_destroy(&vm);
}
END_TEST

static struct vm file_vm(int fd, uint64_t size, enum ept_file_mode mode, enum ept_huge huge)
{
	struct ept_config config = {.vm_name = "test", .log = true, .vcpus = 1, .huge = huge};

	return vm_create(&config, fd, 0, size, mode);
}

/*
 * How many of @steps that bring 2 MiB are one huge page here: none where the kernel
 * cannot move, all where an empty page table goes (Linux 6.14); between, all but
 * the first of an area that is told to be huge (handlers_huge.c).
 */
static uint64_t as_one(const struct vm *vm, uint64_t steps)
{
	if (!(vm->space->installer.features & UFFD_FEATURE_MOVE))
		return 0;
	if (ept_staging_tables_go(vm->space->staging))
		return steps;
	return vm->space->config.huge == EPT_HUGE_ALWAYS ? steps - 1 : 0;
}

/* Of @steps that bring 2 MiB, @one did so with one page, fewer if the host refused. Returns it. */
static uint64_t huge_faults(struct vm *vm, enum ept_case huge, uint64_t one)
{
	uint64_t faults;

	ept_space_stop(vm->space);
	faults = case_stats(vm, huge).faults;
	if (refused())
		ck_assert_uint_le(faults, one);
	else
		ck_assert_uint_eq(faults, one);
	return faults;
}

/* The others still go in with one event each, as small pages. */
static void expect_whole(struct vm *vm, enum ept_case huge, enum ept_case small, uint64_t steps)
{
	uint64_t one = huge_faults(vm, huge, as_one(vm, steps));
	struct ept_case_stats whole = case_stats(vm, huge), parts = case_stats(vm, small);

	if (refused())
		ck_assert_uint_le(huge_bytes(vm), one * 2 * MIB);
	else
		ck_assert_uint_eq(huge_bytes(vm), one * 2 * MIB);
	ck_assert_uint_eq(whole.installed, 512 * one);
	ck_assert_uint_eq(parts.fallback, steps - one);
	ck_assert_uint_eq(parts.installed, 512 * (steps - one));
	ck_assert_uint_eq(area_info(vm).huge, one * 2 * MIB);
}

START_TEST(anon_huge)
{
	struct vm vm;

	skip_without_huge_pages();
	vm = anonymous_vm(EPT_ENGINE_HANDLER, EPT_HUGE_ALWAYS, 16 * MIB);
	touch(&vm, 0, 4096);
	expect_whole(&vm, EPT_CASE_ANON_HUGE, EPT_CASE_ANON_WRITE, 8);
	vm_destroy(&vm);
}
END_TEST

/* A part given back: zeros there, the rest as it was; on the second touch by 4 KiB. */
START_TEST(split)
{
	struct vm vm;
	uint64_t one;

	skip_without_huge_pages();
	vm = anonymous_vm(EPT_ENGINE_HANDLER, EPT_HUGE_ALWAYS, 16 * MIB);
	touch(&vm, 0, 1024);
	one = as_one(&vm, 2);
	if (!refused())
		ck_assert_uint_eq(huge_bytes(&vm), one * 2 * MIB);
	/* In the second 2 MiB: they are one page wherever any is. */
	discard(&vm, 612, 2);
	ck_assert_uint_le(huge_bytes(&vm), (one ? one - 1 : 0) * 2 * MIB);
	ck_assert_uint_eq(area_info(&vm).resident, 1022 * PAGE);
	ck_assert_int_eq(vm.hva[613 * PAGE], 0);
	ck_assert_int_eq(vm.hva[614 * PAGE], 1);
	settle_and_count(&vm, EPT_CASE_ANON_READ, 1);
	vm_destroy(&vm);
}
END_TEST

/* By default: one region by single pages, the ones behind it in one step each. */
START_TEST(anon_stream)
{
	struct vm vm;
	uint64_t one;

	skip_without_huge_pages();
	vm = anonymous_vm(EPT_ENGINE_HANDLER, EPT_HUGE_AUTO, 16 * MIB);
	touch(&vm, 0, 4096);
	one = huge_faults(&vm, EPT_CASE_ANON_HUGE, as_one(&vm, 7));
	if (!refused())
		assert_faults(&vm, EPT_CASE_ANON_WRITE, 512 + 7 - one);
	vm_destroy(&vm);
}
END_TEST

START_TEST(file_huge)
{
	uint64_t size = 8 * MIB + 3 * PAGE - 50;
	enum ept_file_mode mode = _i ? EPT_FILE_RO : EPT_FILE_COW;
	int fd = temp_file(size);
	struct vm vm;
	uint64_t one;

	skip_without_huge_pages();
	vm = file_vm(fd, size, mode, EPT_HUGE_ALWAYS);
	ck_assert(has_pattern(vm.hva, 0, 8 * MIB));
	ck_assert_uint_eq(inject_get(bytes_read), 8 * MIB);
	ck_assert_uint_eq(inject_get(preads), 4);
	ck_assert(has_pattern(vm.hva + 8 * MIB, 8 * MIB, size - 8 * MIB));
	ck_assert_int_eq(vm.hva[vm.size - 1], 0);
	if (mode == EPT_FILE_COW) {
		memset(vm.hva, 0, vm.size);
		uint8_t first = pattern_byte(0);
		ck_assert(file_has(fd, 0, &first, 1));
	}
	one = huge_faults(&vm, EPT_CASE_FILE_HUGE, as_one(&vm, 4));
	assert_faults(&vm, EPT_CASE_FILE_READ, 1 + 4 - one);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

/* Without MOVE, as before Linux 6.8: the same contents, 512 pages an event. */
/* The kernel moves pages one by one where there is no huge one, up to the first it cannot. */
START_TEST(move_in_part)
{
	struct vm vm = anonymous_vm(EPT_ENGINE_HANDLER, EPT_HUGE_NEVER, 2 * MIB);
	char *map = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *src = (char *)(((uintptr_t)map + 2 * MIB - 1) & ~(2 * MIB - 1));
	struct ept_installer *in = &vm.space->installer;
	size_t done = 1;

	ept_install_advise(map, 4 * MIB, true);
	for (uint64_t i = 0; i < 512; i++)
		if (i != 100)
			src[i * PAGE] = (char)i;
	if (!(in->features & UFFD_FEATURE_MOVE)) {
		ck_assert_int_eq(ept_install_move(in, vm.hva, src, &done), -EOPNOTSUPP);
		ck_assert_uint_eq(done, 0);
	} else {
		ck_assert_int_eq(ept_install_move(in, vm.hva, src, &done), -EAGAIN);
		ck_assert_uint_eq(done, 100 * PAGE);
		for (uint64_t i = 0; i < 100; i++)
			ck_assert_int_eq(vm.hva[i * PAGE], (char)i);
	}
	munmap(map, 4 * MIB);
	vm_destroy(&vm);
}
END_TEST

START_TEST(without_move)
{
	int fd = temp_file(4 * MIB);
	struct vm vm;

	vm_without_move = true;
	vm = file_vm(fd, 4 * MIB, EPT_FILE_COW, EPT_HUGE_ALWAYS);
	ck_assert(has_pattern(vm.hva, 0, 4 * MIB));
	expect_whole(&vm, EPT_CASE_FILE_HUGE, EPT_CASE_FILE_READ, 2);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

struct reader {
	const struct vm *vm;
	unsigned seed;
	bool good;
};

static void *read_all_over(void *arg)
{
	struct reader *r = arg;

	r->good = true;
	for (unsigned i = 0; i < 4096; i++) {
		uint64_t page = (i * 1021 + r->seed * 333) % 4096;

		r->good = r->good && has_pattern(r->vm->hva + page * PAGE, page * PAGE, 64);
	}
	return NULL;
}

/*
 * Several guests on one file: each 2 MiB goes in once, as one page or, where the
 * event of another guest left a table, as small ones.
 */
START_TEST(guests_at_once)
{
	struct ept_config config = {
	    .vm_name = "test", .log = true, .vcpus = 3, .huge = EPT_HUGE_ALWAYS};
	int fd = temp_file(16 * MIB);
	struct reader reader[3];
	pthread_t thread[3];
	struct vm vm;
	uint64_t one;

	skip_without_huge_pages();
	vm = vm_create(&config, fd, 0, 16 * MIB, EPT_FILE_COW);
	for (unsigned i = 0; i < 3; i++) {
		reader[i] = (struct reader){.vm = &vm, .seed = i};
		ck_assert_int_eq(pthread_create(&thread[i], NULL, read_all_over, &reader[i]), 0);
	}
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(thread[i], NULL);
		ck_assert(reader[i].good);
	}
	ept_space_stop(vm.space);
	one = case_stats(&vm, EPT_CASE_FILE_HUGE).faults;
	ck_assert_uint_eq(one + case_stats(&vm, EPT_CASE_FILE_READ).fallback, 8);
	/* Moved as one; where the other guest's table came just before, in small pages. */
	ck_assert_uint_le(huge_bytes(&vm), one * 2 * MIB);
	ck_assert_uint_le(one, as_one(&vm, 8));
	ck_assert_uint_eq(inject_get(bytes_read), 16 * MIB);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

Suite *suite_uffd_huge(void)
{
	Suite *suite = suite_create("ept, huge pages");
	TCase *tc = tcase_create("huge");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, kernel_always);
	tcase_add_test(tc, kernel_never);
	tcase_add_test(tc, kernel_auto_sparse);
	tcase_add_test(tc, kernel_auto_dense);
	tcase_add_test(tc, anon_huge);
	tcase_add_test(tc, split);
	tcase_add_test(tc, anon_stream);
	tcase_add_loop_test(tc, file_huge, 0, 2);
	tcase_add_test(tc, move_in_part);
	tcase_add_test(tc, without_move);
	tcase_add_test(tc, guests_at_once);
	suite_add_tcase(suite, tc);
	return suite;
}
