/* Huge pages of the host: counted in its own tables, never timed. */
#include "ept/host_pages.h"
#include "tests/ept/uffd_suites.h"
#include "tests/ept/util.h"

#include <stdio.h>
#include <stdlib.h>

#define MIB (1UL << 20)

static void skip_without_huge_pages(void)
{
	if (ept_host_gives_huge())
		return;
	printf("skipped: the host gives no huge pages "
	       "(/sys/kernel/mm/transparent_hugepage/enabled is never)\n");
	exit(0);
}

static struct vm anonymous_vm(enum ept_engine engine, enum ept_huge huge, uint64_t size)
{
	struct ept_config config = {.vm_name = "test", .engine = engine, .vcpus = 1, .huge = huge};

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

START_TEST(kernel_always)
{
	struct vm vm;

	skip_without_huge_pages();
	vm = anonymous_vm(EPT_ENGINE_KERNEL, EPT_HUGE_ALWAYS, 16 * MIB);
	touch(&vm, 600, 1);
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
	} while (!stats.collapsed);
	ept_space_stop(vm.space);
	ck_assert_uint_gt(huge_bytes(&vm), 0);
	for (unsigned i = 512; i < 8192; i++)
		ck_assert_int_eq(vm.hva[i * PAGE], 1);
	vm_destroy(&vm);
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
	suite_add_tcase(suite, tc);
	return suite;
}
