/* 2 MiB in one step: when, what is left where it cannot be, and what it counts as. */
#include "tests/ept/fake_install.h"
#include "tests/ept/unit_suites.h"
#include "tests/ept/util.h"

#define LEAF  ((uint64_t)EPT_TABLE_SIZE)
#define PAGES (3 * LEAF + 100)

static struct ept_resolution res;

static struct vm huge_vm(int fd, uint64_t size, enum ept_file_mode mode, enum ept_huge huge)
{
	struct ept_config config = {.vm_name = "test", .log = true, .vcpus = 1, .huge = huge};

	return vm_create(&config, fd, 0, size, mode);
}

static enum ept_result fault(const struct vm *vm, uint64_t page, enum ept_access access)
{
	return fault_as(vm, page, access, EPT_ORIGIN_LOADER, 0, &res);
}

/* Resolve it, and it is this case, which installed so many pages. */
static void expect(const struct vm *vm, uint64_t page, enum ept_access access, enum ept_case kase,
		   uint64_t installed)
{
	ck_assert_int_eq(fault(vm, page, access), EPT_RESOLVED);
	ck_assert_str_eq(ept_case_name(res.kase), ept_case_name(kase));
	ck_assert_uint_eq(res.installed, installed);
	ck_assert_uint_eq(fake_double_installs(), 0);
}

START_TEST(anon_huge)
{
	struct vm vm = huge_vm(-1, PAGES * PAGE, EPT_FILE_COW, EPT_HUGE_ALWAYS);

	expect(&vm, LEAF + 7, _i ? EPT_WRITE : EPT_READ, EPT_CASE_ANON_HUGE, LEAF);
	ck_assert_uint_eq(res.around, LEAF - 1);
	ck_assert(!res.fallback);
	expect(&vm, LEAF + 8, EPT_WRITE, EPT_CASE_SPURIOUS, 0);
	ck_assert_uint_eq(area_info(&vm).huge, EPT_LEAF_BYTES);
	ck_assert_uint_eq(area_info(&vm).resident, EPT_LEAF_BYTES);
	/* The area does not hold all of the last 2 MiB. */
	expect(&vm, 3 * LEAF, EPT_WRITE, EPT_CASE_ANON_WRITE, 1);
	ck_assert(!res.fallback);
	vm_destroy(&vm);
}
END_TEST

/* A part given back splits it; what is gone comes back by 4 KiB, the rest stays. */
START_TEST(split)
{
	struct vm vm = huge_vm(-1, PAGES * PAGE, EPT_FILE_COW, EPT_HUGE_ALWAYS);

	expect(&vm, 0, EPT_WRITE, EPT_CASE_ANON_HUGE, LEAF);
	discard(&vm, 10, 2);
	ck_assert_uint_eq(area_info(&vm).huge, 0);
	ck_assert_uint_eq(area_info(&vm).resident, EPT_LEAF_BYTES - 2 * PAGE);
	expect(&vm, 10, EPT_WRITE, EPT_CASE_ANON_WRITE, 1);
	expect(&vm, 9, EPT_WRITE, EPT_CASE_SPURIOUS, 0);
	discard(&vm, 0, LEAF);
	expect(&vm, 9, EPT_WRITE, EPT_CASE_ANON_HUGE, LEAF);
	vm_destroy(&vm);
}
END_TEST

/* auto: huge where touches come over from a dense neighbour, at either end; never: not at all. */
START_TEST(stream)
{
	struct vm vm = huge_vm(-1, PAGES * PAGE, EPT_FILE_COW, _i ? EPT_HUGE_NEVER : EPT_HUGE_AUTO);
	enum ept_case kase = _i ? EPT_CASE_ANON_WRITE : EPT_CASE_ANON_HUGE;

	for (unsigned i = 0; i < LEAF; i++)
		expect(&vm, LEAF + i, EPT_WRITE, EPT_CASE_ANON_WRITE, 1);
	expect(&vm, 2 * LEAF, EPT_WRITE, kase, _i ? 1 : LEAF);
	expect(&vm, LEAF - 1, EPT_WRITE, kase, _i ? 1 : LEAF);
	vm_destroy(&vm);
	vm = huge_vm(-1, PAGES * PAGE, EPT_FILE_COW, EPT_HUGE_AUTO);
	for (unsigned i = 0; i < LEAF; i++)
		expect(&vm, LEAF + i, EPT_WRITE, EPT_CASE_ANON_WRITE, 1);
	expect(&vm, 2 * LEAF + 256, EPT_WRITE, EPT_CASE_ANON_WRITE, 1);
	expect(&vm, 2 * LEAF, EPT_WRITE, EPT_CASE_ANON_WRITE, 1);
	vm_destroy(&vm);
}
END_TEST

/* No huge page, or no way to move one: 512 small ones, and it says so. */
START_TEST(falls_back)
{
	struct vm vm = huge_vm(-1, PAGES * PAGE, EPT_FILE_COW, EPT_HUGE_ALWAYS);

	if (_i)
		fake_fail(FAKE_OP_MOVE, -EOPNOTSUPP, 1);
	else
		fake_host_staging(false);
	expect(&vm, 5, EPT_WRITE, EPT_CASE_ANON_WRITE, LEAF);
	ck_assert(res.fallback);
	ck_assert_uint_eq(case_stats(&vm, EPT_CASE_ANON_WRITE).fallback, 1);
	ck_assert_uint_eq(area_info(&vm).huge, 0);
	ck_assert_uint_eq(area_info(&vm).resident, EPT_LEAF_BYTES);
	vm_destroy(&vm);
}
END_TEST

/* Errors of the one step are those of the others. */
START_TEST(move_fails)
{
	static const struct {
		int error;
		enum ept_result result;
		enum ept_case kase;
	} ends[] = {{-EAGAIN, EPT_RESOLVED, EPT_CASE_ANON_HUGE},
		    {-ENOMEM, EPT_OUT_OF_MEM, EPT_CASE_NO_MEMORY},
		    {-ESHUTDOWN, EPT_FATAL, EPT_CASE_DYING}};
	struct vm vm = huge_vm(-1, PAGES * PAGE, EPT_FILE_COW, EPT_HUGE_ALWAYS);

	fake_fail(FAKE_OP_MOVE, ends[_i].error, 1);
	ck_assert_int_eq(fault(&vm, 5, EPT_WRITE), ends[_i].result);
	ck_assert_str_eq(ept_case_name(res.kase), ept_case_name(ends[_i].kase));
	vm_destroy(&vm);
}
END_TEST

/* What a move brought before it came apart is the guest's: it stays, and the rest joins it. */
START_TEST(move_in_part)
{
	int fd = temp_file(PAGES * PAGE);
	struct vm vm = huge_vm(fd, PAGES * PAGE, EPT_FILE_COW, EPT_HUGE_ALWAYS);

	fake_move_stops_after(100);
	expect(&vm, _i ? 7 : 300, EPT_WRITE, EPT_CASE_FILE_COW, LEAF);
	ck_assert(res.fallback);
	ck_assert_uint_eq(res.around, LEAF - 1);
	ck_assert_uint_eq(area_info(&vm).huge, 0);
	ck_assert_uint_eq(area_info(&vm).resident, EPT_LEAF_BYTES);
	ck_assert(has_pattern(vm.hva, 0, EPT_LEAF_BYTES));
	vm_destroy(&vm);
	close(fd);
}
END_TEST

START_TEST(file_huge)
{
	int fd = temp_file(PAGES * PAGE - 100);
	enum ept_file_mode mode = _i ? EPT_FILE_RO : EPT_FILE_COW;
	struct vm vm = huge_vm(fd, PAGES * PAGE - 100, mode, EPT_HUGE_ALWAYS);

	expect(&vm, LEAF + 9, EPT_READ, EPT_CASE_FILE_HUGE, LEAF);
	ck_assert_uint_eq(res.bytes_read, EPT_LEAF_BYTES);
	ck_assert(has_pattern(vm.hva + LEAF * PAGE, LEAF * PAGE, EPT_LEAF_BYTES));
	expect(&vm, LEAF, EPT_READ, EPT_CASE_SPURIOUS, 0);
	ck_assert_int_eq(fault(&vm, LEAF, EPT_WRITE), EPT_RESOLVED);
	ck_assert_int_eq(res.kase, mode == EPT_FILE_RO ? EPT_CASE_RO_WRITE : EPT_CASE_SPURIOUS);
	/* The end, which is no whole 2 MiB: a window, zeros after the last byte. */
	expect(&vm, PAGES - 1, EPT_READ, EPT_CASE_FILE_READ, 4);
	ck_assert(!res.fallback);
	ck_assert(has_pattern(vm.hva + (PAGES - 4) * PAGE, (PAGES - 4) * PAGE, 4 * PAGE - 100));
	ck_assert_int_eq(vm.hva[PAGES * PAGE - 1], 0);
	ck_assert_uint_eq(area_info(&vm).file_read, EPT_LEAF_BYTES + 4 * PAGE);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

/* A shared file stays in its cache, and auto shares it, too. */
START_TEST(cache_is_shared)
{
	int fd = temp_file(PAGES * PAGE);
	struct vm vm = huge_vm(fd, PAGES * PAGE, _i ? EPT_FILE_SHARED : EPT_FILE_COW,
			       _i ? EPT_HUGE_ALWAYS : EPT_HUGE_AUTO);

	expect(&vm, LEAF, EPT_READ, _i ? EPT_CASE_SHARED_READ : EPT_CASE_FILE_READ, 16);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

/* A neighbour that cannot be read is left out: the page asked for is read alone. */
START_TEST(bad_sector)
{
	int fd = temp_file(PAGES * PAGE);
	struct vm vm = huge_vm(fd, PAGES * PAGE, EPT_FILE_COW, EPT_HUGE_ALWAYS);

	inject.pread_errno = EIO;
	inject.bad_from = 700 * PAGE;
	inject.bad_to = 701 * PAGE;
	expect(&vm, LEAF + 9, EPT_READ, EPT_CASE_FILE_READ, 1);
	ck_assert(res.fallback);
	ck_assert(has_pattern(vm.hva + (LEAF + 9) * PAGE, (LEAF + 9) * PAGE, PAGE));
	ck_assert_int_eq(fault(&vm, 700, EPT_READ), EPT_BUS_ERROR);
	ck_assert_int_eq(res.kase, EPT_CASE_IO_ERROR);
	inject.pread_errno = 0;
	vm_destroy(&vm);
	close(fd);
}
END_TEST

Suite *suite_huge(void)
{
	Suite *suite = suite_create("ept: huge pages");
	TCase *tc = tcase_create("huge");

	tcase_add_loop_test(tc, anon_huge, 0, 2);
	tcase_add_test(tc, split);
	tcase_add_loop_test(tc, stream, 0, 2);
	tcase_add_loop_test(tc, falls_back, 0, 2);
	tcase_add_loop_test(tc, move_fails, 0, 3);
	tcase_add_loop_test(tc, move_in_part, 0, 2);
	tcase_add_loop_test(tc, file_huge, 0, 2);
	tcase_add_loop_test(tc, cache_is_shared, 0, 2);
	tcase_add_test(tc, bad_sector);
	suite_add_tcase(suite, tc);
	return suite;
}
