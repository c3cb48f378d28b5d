/* The dispatch table, one case at a time, and every answer an installer can give. */
#include "ept/stats.h"
#include "tests/ept/fake_install.h"
#include "tests/ept/unit_suites.h"
#include "tests/ept/util.h"

#define KIND_ANON (-1)

static struct ept_resolution res;

static struct vm vm_with(const struct ept_config *config, int mode)
{
	return mode == KIND_ANON ? vm_create(config, -1, 0, 64 * PAGE, EPT_FILE_COW)
				 : vm_file_with(config, 64 * PAGE, (enum ept_file_mode)mode);
}

static struct vm vm_of(int mode)
{
	return vm_with(&one_thread, mode);
}

static enum ept_result fault(const struct vm *vm, uint64_t page, enum ept_access access)
{
	return fault_as(vm, page, access, EPT_ORIGIN_LOADER, 0, &res);
}

static enum fake_page page_at(const struct vm *vm, uint64_t page)
{
	return fake_page(vm->hva + page * PAGE);
}

static enum ept_pte pte_at(const struct vm *vm, uint64_t page)
{
	struct ept_leaf *leaf = ept_mirror_find(&vm->space->mirror, GPA(page * PAGE));

	return leaf ? ept_pte_get(leaf, ept_leaf_index(GPA(page * PAGE))) : EPT_PTE_NONE;
}

#define ANON   KIND_ANON
#define RO     EPT_FILE_RO
#define COW    EPT_FILE_COW
#define SHARED EPT_FILE_SHARED
#define R      EPT_READ
#define W      EPT_WRITE

/* The table of fault.c: what the first access leaves, and what the second then is. */
static const struct {
	int mode;
	enum ept_access first, second;
	enum ept_case first_case, second_case;
	enum ept_pte pte;    /* in the end */
	enum fake_page page; /* in the end */
} pairs[] = {
#define PAIR(m, a, b, ca, cb, pte, page) \
	{ \
		m, a, b, EPT_CASE_##ca, EPT_CASE_##cb, EPT_PTE_##pte, FAKE_##page \
	}
    PAIR(ANON, R, R, ANON_READ, SPURIOUS, ZERO, ZERO),
    PAIR(ANON, R, W, ANON_READ, ANON_WP, PRIVATE, OWN),
    PAIR(ANON, W, R, ANON_WRITE, SPURIOUS, PRIVATE, OWN),
    PAIR(ANON, W, W, ANON_WRITE, SPURIOUS, PRIVATE, OWN),
    PAIR(RO, R, R, FILE_READ, SPURIOUS, FILE, WRITABLE), /* by userfaultfd; the mapping is not */
    PAIR(RO, R, W, FILE_READ, RO_WRITE, FILE, WRITABLE),
    PAIR(RO, W, W, RO_WRITE, RO_WRITE, NONE, NONE),
    PAIR(COW, R, R, FILE_READ, SPURIOUS, FILE, PROTECTED),
    PAIR(COW, R, W, FILE_READ, FILE_WP, PRIVATE, WRITABLE),
    PAIR(COW, W, R, FILE_COW, SPURIOUS, PRIVATE, OWN),
    PAIR(COW, W, W, FILE_COW, SPURIOUS, PRIVATE, OWN),
    PAIR(SHARED, R, R, SHARED_READ, SPURIOUS, CLEAN, PROTECTED),
    PAIR(SHARED, R, W, SHARED_READ, SHARED_MKWRITE, DIRTY, WRITABLE),
    PAIR(SHARED, W, R, SHARED_WRITE, SPURIOUS, DIRTY, WRITABLE),
    PAIR(SHARED, W, W, SHARED_WRITE, SPURIOUS, DIRTY, WRITABLE),
#undef PAIR
};

START_TEST(dispatch_table)
{
	struct vm vm = vm_of(pairs[_i].mode);

	ck_assert_int_eq(fault(&vm, 20, pairs[_i].first), EPT_RESOLVED);
	ck_assert_str_eq(ept_case_name(res.kase), ept_case_name(pairs[_i].first_case));
	ck_assert_int_eq(fault(&vm, 20, pairs[_i].second), EPT_RESOLVED);
	ck_assert_str_eq(ept_case_name(res.kase), ept_case_name(pairs[_i].second_case));
	ck_assert_int_eq(pte_at(&vm, 20), pairs[_i].pte);
	ck_assert_int_eq(page_at(&vm, 20), pairs[_i].page);
	ck_assert_uint_ge(faults(&vm, pairs[_i].first_case), 1);
	ck_assert_uint_ge(faults(&vm, pairs[_i].second_case), 1);
	ck_assert_uint_eq(fake_double_installs(), 0);
	vm_destroy(&vm);
}
END_TEST

START_TEST(no_area)
{
	struct vm vm = vm_of(ANON);
	struct ept_case_stats stats;

	ck_assert_int_eq(fault(&vm, 64, R), EPT_BUS_ERROR);
	ck_assert_int_eq(res.kase, EPT_CASE_NO_AREA);
	ck_assert_int_eq(res.error, -EFAULT);
	ck_assert_int_eq(ept_stray(vm.space, GPA(1UL << 47), W), EPT_CASE_NO_AREA);
	ck_assert_int_eq(ept_stray(vm.space, GPA(0), W), EPT_CASE_NO_AREA);
	ept_area_case_stats(vm.space, 1, EPT_CASE_NO_AREA, &stats);
	ck_assert_uint_eq(stats.faults, 3);
	ck_assert_ptr_null(ept_space_failure(vm.space)); /* the machine's policy, not the end */
	ept_space_destroy(vm.space);
}
END_TEST

/* What each first fault installs with, to inject into. */
static const struct {
	int mode;
	enum ept_access access;
	enum fake_op op;
} installs[] = {
    {ANON, R, FAKE_OP_ZERO},	   {ANON, W, FAKE_OP_COPY}, {RO, R, FAKE_OP_CONTINUE},
    {COW, R, FAKE_OP_CONTINUE},	   {COW, W, FAKE_OP_COPY},  {SHARED, R, FAKE_OP_CONTINUE},
    {SHARED, W, FAKE_OP_CONTINUE},
};

#define NR_INSTALLS ((int)(sizeof(installs) / sizeof(*installs)))

/* The address space was changing: the top loop goes round until it is not. */
START_TEST(eagain_is_tried_again)
{
	struct vm vm = vm_of(installs[_i].mode);

	fake_fail(installs[_i].op, -EAGAIN, 3);
	ck_assert_int_eq(fault(&vm, 20, installs[_i].access), EPT_RESOLVED);
	ck_assert_int_ne(page_at(&vm, 20), FAKE_NONE);
	ck_assert_int_ne(pte_at(&vm, 20), EPT_PTE_NONE);
	ck_assert_uint_eq(faults(&vm, res.kase), 1); /* passes are not faults */
	vm_destroy(&vm);
}
END_TEST

START_TEST(enomem_fails_the_space)
{
	struct vm vm = vm_of(installs[_i].mode);

	fake_fail(installs[_i].op, -ENOMEM, 1);
	ck_assert_int_eq(fault(&vm, 20, installs[_i].access), EPT_OUT_OF_MEM);
	ck_assert_int_eq(res.kase, EPT_CASE_NO_MEMORY);
	ck_assert_int_eq(res.error, -ENOMEM);
	ck_assert_int_eq(pte_at(&vm, 20), EPT_PTE_NONE);
	ck_assert_uint_eq(area_info(&vm).resident, 0);
	ck_assert_int_eq(ept_space_failure(vm.space)->kase, EPT_CASE_NO_MEMORY);
	ck_assert_ptr_nonnull(strstr(ept_space_failure(vm.space)->message, "0x14000"));
	vm_destroy(&vm);
}
END_TEST

/* In a space that nobody stops the waiter would sleep for good: it fails, and says so. */
START_TEST(shutdown_is_dying)
{
	struct vm vm = vm_of(installs[_i].mode);

	fake_fail(installs[_i].op, -ESHUTDOWN, 1);
	ck_assert_int_eq(fault(&vm, 20, installs[_i].access), EPT_FATAL);
	ck_assert_int_eq(res.kase, EPT_CASE_DYING);
	ck_assert_int_eq(pte_at(&vm, 20), EPT_PTE_NONE);
	ck_assert_int_eq(ept_space_failure(vm.space)->error, -ESHUTDOWN);
	ck_assert_ptr_nonnull(strstr(ept_space_failure(vm.space)->message, "0x14000"));
	vm_destroy(&vm);
}
END_TEST

/* Somebody else's page is there: raced, woken, and the mirror assumes the worst. */
START_TEST(eexist_is_spurious)
{
	static const enum ept_pte after[] = {EPT_PTE_PRIVATE, EPT_PTE_PRIVATE, EPT_PTE_FILE,
					     EPT_PTE_FILE,    EPT_PTE_PRIVATE, EPT_PTE_DIRTY,
					     EPT_PTE_DIRTY};
	struct ept_config config = one_thread;
	struct vm vm;

	config.fault_around = 1;
	vm = vm_with(&config, installs[_i].mode);
	fake_set_page(vm.hva + 20 * PAGE, FAKE_FOREIGN);
	ck_assert_int_eq(fault(&vm, 20, installs[_i].access), EPT_RESOLVED);
	ck_assert_int_eq(res.kase, EPT_CASE_SPURIOUS);
	ck_assert_uint_eq(res.installed, 0);
	ck_assert_uint_ge(fake_wakes(vm.hva + 20 * PAGE), 1);
	ck_assert_int_eq(pte_at(&vm, 20), after[_i]);
	vm_destroy(&vm);
}
END_TEST

/* KVM's worker says "write" whatever the guest did: its neighbours are mapped as for a read. */
START_TEST(write_of_the_worker)
{
	static const struct {
		int mode;
		enum ept_pte own, others;
	} kinds[] = {{COW, EPT_PTE_PRIVATE, EPT_PTE_FILE}, {SHARED, EPT_PTE_DIRTY, EPT_PTE_CLEAN}};
	struct vm vm = vm_of(kinds[_i].mode);
	struct ept_request req = {.gpa = GPA(20 * PAGE), .access = W, .origin = EPT_ORIGIN_KVM};

	ck_assert_int_eq(handle_ept_fault(vm.space, &req, &res), EPT_RESOLVED);
	ck_assert_uint_eq(res.installed, 16);
	ck_assert_uint_eq(res.around, 15);
	for (int page = 16; page < 32; page++)
		ck_assert_int_eq(pte_at(&vm, page), page == 20 ? kinds[_i].own : kinds[_i].others);
	ck_assert(has_pattern(vm.hva + 16 * PAGE, 16 * PAGE, 16 * PAGE));
	ck_assert_int_eq(pte_at(&vm, 32), EPT_PTE_NONE);
	/* Who is known to have written gets one page. */
	req = (struct ept_request){.gpa = GPA(40 * PAGE), .access = W, .origin = EPT_ORIGIN_VCPU};
	ck_assert_int_eq(handle_ept_fault(vm.space, &req, &res), EPT_RESOLVED);
	ck_assert_uint_eq(res.installed, 1);
	ck_assert_uint_eq(fake_double_installs(), 0);
	vm.space->events[EPT_ORIGIN_KVM]++; /* as if they had been read */
	vm.space->events[EPT_ORIGIN_VCPU]++;
	vm_destroy(&vm);
}
END_TEST

START_TEST(eexist_inside_a_window)
{
	struct vm vm = vm_of(SHARED);

	fake_set_page(vm.hva + 20 * PAGE, FAKE_FOREIGN);
	ck_assert_int_eq(fault(&vm, 18, R), EPT_RESOLVED);
	ck_assert_int_eq(res.kase, EPT_CASE_SHARED_READ);
	for (int page = 16; page < 32; page++) /* any of them may be writable: none is clean */
		ck_assert_int_eq(pte_at(&vm, page), EPT_PTE_DIRTY);
	vm_destroy(&vm);
}
END_TEST

/* CONTINUE that stops half way: what is in is in, the asked page decides. */
START_TEST(partial_window)
{
	struct vm vm = vm_of(COW);

	fake_continue_stops_after(4, -ENOMEM);
	ck_assert_int_eq(fault(&vm, 18, R), EPT_RESOLVED);
	ck_assert_uint_eq(res.installed, 4);
	ck_assert_uint_eq(res.around, 3);
	ck_assert_int_eq(pte_at(&vm, 19), EPT_PTE_FILE);
	ck_assert_int_eq(pte_at(&vm, 20), EPT_PTE_NONE);
	ck_assert_uint_ge(fake_wakes(vm.hva + 25 * PAGE),
			  1); /* its event may have been left to us */
	ck_assert_int_eq(fault(&vm, 36 + 5, R), EPT_OUT_OF_MEM);
	ck_assert_uint_eq(area_info(&vm).resident, 8 * PAGE);
	ck_assert_uint_eq(fake_double_installs(), 0);
	vm_destroy(&vm);
}
END_TEST

START_TEST(window_is_clipped)
{
	struct ept_config config = one_thread;
	int fd = temp_file(64 * PAGE);
	struct ept_object *obj;
	struct ept_space *space;
	struct ept_slot slot;
	struct ept_request req = {.access = R, .origin = EPT_ORIGIN_LOADER};

	config.fault_around = 512;
	ck_assert_int_eq(ept_space_create(&config, &space), 0);
	ck_assert_int_eq(ept_object_file(fd, "f", 0, 40 * PAGE, EPT_FILE_COW, &obj), 0);
	/* Over the border of two leaves: 12 pages below it, 28 above. */
	ck_assert_int_eq(ept_area_add(space, "f", GPA(500 * PAGE), 40 * PAGE, obj, NULL), 0);
	ept_object_put(obj);
	ck_assert_int_eq(ept_space_start(space), 0);
	ept_space_slots(space, &slot, 1);
	req.gpa = GPA(511 * PAGE);
	ck_assert_int_eq(handle_ept_fault(space, &req, &res), EPT_RESOLVED);
	ck_assert_uint_eq(res.installed, 12);
	ck_assert_uint_eq(res.bytes_read, 12 * PAGE);
	req.gpa = GPA(539 * PAGE);
	ck_assert_int_eq(handle_ept_fault(space, &req, &res), EPT_RESOLVED);
	ck_assert_uint_eq(res.installed, 28);
	ck_assert(has_pattern(slot.hva, 0, 40 * PAGE));
	ept_space_destroy(space);
	close(fd);
}
END_TEST

START_TEST(dying_space_installs_nothing)
{
	struct vm vm = vm_of(ANON);

	/* Registered still, as between the two steps of a stop. */
	__atomic_store_n(&vm.space->life, EPT_LIFE_DYING, __ATOMIC_RELEASE);
	ck_assert_int_eq(fault(&vm, 20, W), EPT_FATAL);
	ck_assert_int_eq(page_at(&vm, 20), FAKE_NONE);
	__atomic_store_n(&vm.space->life, EPT_LIFE_STARTED, __ATOMIC_RELEASE);
	ept_space_stop(vm.space);
	ck_assert_int_eq(fault(&vm, 20, W), EPT_FATAL);
	ck_assert_int_eq(res.kase, EPT_CASE_DYING);
	ck_assert_int_eq(res.error, -ESHUTDOWN);
	ck_assert_ptr_null(ept_space_failure(vm.space));
	vm_destroy(&vm);
}
END_TEST

Suite *suite_faults(void)
{
	Suite *suite = suite_create("ept: faults");
	TCase *tc = tcase_create("faults");

	tcase_add_loop_test(tc, dispatch_table, 0, (int)(sizeof(pairs) / sizeof(*pairs)));
	tcase_add_test(tc, no_area);
	tcase_add_loop_test(tc, eagain_is_tried_again, 0, NR_INSTALLS);
	tcase_add_loop_test(tc, enomem_fails_the_space, 0, NR_INSTALLS);
	tcase_add_loop_test(tc, shutdown_is_dying, 0, NR_INSTALLS);
	tcase_add_loop_test(tc, eexist_is_spurious, 0, NR_INSTALLS);
	tcase_add_test(tc, eexist_inside_a_window);
	tcase_add_loop_test(tc, write_of_the_worker, 0, 2);
	tcase_add_test(tc, partial_window);
	tcase_add_test(tc, window_is_clipped);
	tcase_add_test(tc, dying_space_installs_nothing);
	suite_add_tcase(suite, tc);
	return suite;
}
