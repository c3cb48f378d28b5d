/* Pages of a snapshot against the fake installer: races, errors, who is woken. */
#include "ept/hold.h"
#include "ept/snapshot.h"
#include "ept/snapshot_format.h"
#include "ept/stats.h"
#include "tests/ept/fake_install.h"
#include "tests/ept/unit_suites.h"
#include "tests/ept/util.h"

#define PAGES 640UL /* a leaf, and some of the next */

static struct ept_resolution res;

struct restored {
	struct vm vm;
	struct ept_snapshot *snapshot;
	int memory; /* its file */
};

/* All of its pages but 20 to 23 hold their pattern. */
static struct restored restored_with(const struct ept_config *config)
{
	struct ept_snapshot_options options = {.memory_fd = temp_file(0), .index_fd = temp_file(0)};
	struct restored r = {.vm = {.size = PAGES * PAGE, .fd = -1}};
	struct ept_snapshot_info info;
	struct vm source = vm_anon(PAGES * PAGE);
	struct ept_object *obj;
	struct ept_slot slot;
	char why[300], page[PAGE];

	for (uint64_t n = 0; n < PAGES; n++) {
		if (n >= 20 && n < 24)
			continue;
		for (uint64_t i = 0; i < PAGE; i++)
			page[i] = (char)pattern_byte(n * PAGE + i);
		/* Of the handler engine, or of the kernel's: the writer looks itself. */
		ck_assert_int_eq(
		    ept_write(source.space, GPA(n * PAGE), page, PAGE, EPT_ORIGIN_LOADER), 0);
	}
	ck_assert_msg(!ept_snapshot_write(source.space, &options, &info, why, sizeof(why)), "%s",
		      why);
	ck_assert_uint_eq(info.pages, PAGES - 4);
	ck_assert_uint_eq(info.extents, PAGES / EPT_EXTENT_PAGES);
	vm_destroy(&source);
	ck_assert_int_eq(ept_snapshot_open(options.memory_fd, options.index_fd, "snap", &r.snapshot,
					   why, sizeof(why)),
			 0);
	r.memory = options.memory_fd;
	close(options.index_fd);
	ck_assert_int_eq(ept_object_snapshot(&r.snapshot, 1, GPA(0), r.vm.size, NULL, &obj), 0);
	ck_assert_int_eq(ept_space_create(config, &r.vm.space), 0);
	ck_assert_int_eq(ept_area_add(r.vm.space, "ram", GPA(0), r.vm.size, obj, &r.vm.area), 0);
	ept_object_put(obj);
	ck_assert_int_eq(ept_space_start(r.vm.space), 0);
	ept_space_slots(r.vm.space, &slot, 1);
	r.vm.hva = slot.hva;
	ept_vcpu_bind(r.vm.space, 0, gettid());
	return r;
}

static char *page_at(const struct restored *r, uint64_t page)
{
	return r->vm.hva + page * PAGE;
}

static struct restored restored(void)
{
	return restored_with(&one_thread);
}

static void done(struct restored *r)
{
	ck_assert_uint_eq(fake_double_installs(), 0);
	vm_destroy(&r->vm);
	ept_snapshot_close(r->snapshot);
	close(r->memory);
}

static enum ept_result touch(const struct restored *r, uint64_t page, enum ept_access access)
{
	return fault_as(&r->vm, page, access, EPT_ORIGIN_DEVICE, 0, &res);
}

static bool came(const struct restored *r, uint64_t page)
{
	return has_pattern(at(&r->vm, page), page * PAGE, PAGE);
}

/* Its extent, and no more; each page of it can be written. */
START_TEST(extent_comes_whole)
{
	struct restored r = restored();
	enum ept_access access = _i ? EPT_WRITE : EPT_READ;

	ck_assert_int_eq(touch(&r, 35, access), EPT_RESOLVED);
	ck_assert_int_eq(res.kase, _i ? EPT_CASE_SNAP_WRITE : EPT_CASE_SNAP_READ);
	ck_assert_uint_eq(res.installed, EPT_EXTENT_PAGES);
	ck_assert_uint_eq(res.around, EPT_EXTENT_PAGES - 1);
	ck_assert_uint_eq(res.bytes_read, EPT_EXTENT);
	for (uint64_t page = 0; page < PAGES; page++) {
		bool in = page >= 32 && page < 48;

		ck_assert_int_eq(fake_page(page_at(&r, page)), in ? FAKE_OWN : FAKE_NONE);
		ck_assert(!in || came(&r, page));
	}
	ck_assert_int_eq(touch(&r, 36, EPT_WRITE), EPT_RESOLVED);
	ck_assert_int_eq(res.kase, EPT_CASE_SPURIOUS);
	done(&r);
}
END_TEST

/* Zeros of an extent that is not all zeros: nothing is read for them, nor put in with it. */
START_TEST(zeros_among_pages)
{
	struct restored r = restored();

	ck_assert_int_eq(touch(&r, 21, EPT_READ), EPT_RESOLVED);
	ck_assert_int_eq(res.kase, EPT_CASE_ANON_READ);
	ck_assert_uint_eq(res.bytes_read, 0);
	ck_assert_int_eq(touch(&r, 22, EPT_WRITE), EPT_RESOLVED);
	ck_assert_int_eq(res.kase, EPT_CASE_ANON_WRITE);
	ck_assert_int_eq(touch(&r, 19, EPT_READ), EPT_RESOLVED);
	ck_assert_uint_eq(res.installed, EPT_EXTENT_PAGES - 4);
	ck_assert_int_eq(fake_page(page_at(&r, 20)), FAKE_NONE);
	ck_assert_int_eq(fake_page(page_at(&r, 21)), FAKE_ZERO);
	ck_assert_int_eq(fake_page(page_at(&r, 22)), FAKE_OWN);
	ck_assert(came(&r, 24));
	done(&r);
}
END_TEST

/* Who waits for a page of the extent that did not get in after all is woken. */
START_TEST(races_and_errors)
{
	static const struct {
		int error;
		unsigned times;
		enum ept_result result;
		enum ept_case kase;
	} errors[] = {
	    {-EAGAIN, 3, EPT_RESOLVED, EPT_CASE_SNAP_READ},
	    {-ENOMEM, 100, EPT_OUT_OF_MEM, EPT_CASE_NO_MEMORY},
	    {-ESHUTDOWN, 100, EPT_FATAL, EPT_CASE_DYING},
	};
	struct restored r = restored();
	unsigned wakes = fake_wakes(page_at(&r, 5));

	fake_fail(FAKE_OP_COPY, errors[_i].error, errors[_i].times);
	ck_assert_int_eq(touch(&r, 3, EPT_READ), errors[_i].result);
	ck_assert_int_eq(res.kase, errors[_i].kase);
	ck_assert_uint_gt(fake_wakes(page_at(&r, 5)), wakes);
	fake_fail(FAKE_OP_COPY, 0, 0);
	if (errors[_i].result == EPT_RESOLVED)
		ck_assert(came(&r, 3));
	else
		ck_assert_int_eq(fake_page(page_at(&r, 3)), FAKE_NONE);
	done(&r);
}
END_TEST

/* Somebody else's page there: raced, and what is around it comes all the same. */
START_TEST(page_is_there)
{
	struct restored r = restored();

	fake_set_page(page_at(&r, 3), FAKE_FOREIGN);
	ck_assert_int_eq(touch(&r, 3, EPT_READ), EPT_RESOLVED);
	ck_assert_int_eq(res.kase, EPT_CASE_SPURIOUS);
	ck_assert_uint_eq(res.installed, 3);
	ck_assert_int_eq(touch(&r, 9, EPT_READ), EPT_RESOLVED);
	ck_assert_int_eq(res.kase, EPT_CASE_SNAP_READ);
	ck_assert_uint_eq(res.installed, 12);
	ck_assert(came(&r, 15));
	done(&r);
}
END_TEST

/* Who asks again and again gets more at once, up to the 2 MiB; the next ones begin anew. */
START_TEST(windows_grow)
{
	struct restored r = restored();
	const uint64_t zeros = 4, leaf = EPT_TABLE_SIZE;

	ck_assert_int_eq(touch(&r, 35, EPT_READ), EPT_RESOLVED);
	ck_assert_uint_eq(res.installed, 16);
	ck_assert_int_eq(touch(&r, 100, EPT_WRITE), EPT_RESOLVED);
	ck_assert_uint_eq(res.installed, 64);
	ck_assert_uint_eq(res.bytes_read, 64 * PAGE);
	ck_assert_int_eq(touch(&r, 300, EPT_READ), EPT_RESOLVED);
	ck_assert_uint_eq(res.installed, leaf - 16 - 64 - zeros);
	ck_assert_uint_eq(res.bytes_read, (leaf - 16 - 64) * PAGE);
	for (uint64_t page = 0; page < leaf; page++)
		ck_assert(page / zeros == 5 ? fake_page(page_at(&r, page)) == FAKE_NONE
					    : came(&r, page));
	ck_assert_int_eq(touch(&r, leaf + 50, EPT_READ), EPT_RESOLVED);
	ck_assert_uint_eq(res.installed, 16);
	done(&r);
}
END_TEST

/*
 * An extent that is damaged stays out of the others' window, and is refused to who asks for it,
 * for whom the other one is not read again.
 */
START_TEST(damage_in_a_window)
{
	struct restored r = restored();
	const uint64_t bad = 200, other = 400;

	ck_assert_int_eq(pwrite(r.memory, "!", 1, (off_t)(bad * PAGE)), 1);
	ck_assert_int_eq(pwrite(r.memory, "!", 1, (off_t)(other * PAGE)), 1);
	ck_assert_int_eq(touch(&r, 35, EPT_READ), EPT_RESOLVED);
	ck_assert_int_eq(touch(&r, 100, EPT_READ), EPT_RESOLVED);
	ck_assert_int_eq(touch(&r, 300, EPT_READ), EPT_RESOLVED);
	for (uint64_t page = 24; page < EPT_TABLE_SIZE; page++) {
		if (page / 16 == bad / 16 || page / 16 == other / 16)
			ck_assert_int_eq(fake_page(page_at(&r, page)), FAKE_NONE);
		else
			ck_assert(came(&r, page));
	}
	ck_assert_uint_gt(fake_wakes(page_at(&r, bad)), 0);
	ck_assert_ptr_null(ept_space_failure(r.vm.space));
	ck_assert_int_ne(touch(&r, other + 3, EPT_READ), EPT_RESOLVED);
	ck_assert_uint_eq(res.bytes_read, EPT_EXTENT);
	ck_assert_int_eq(fake_page(page_at(&r, other + 3)), FAKE_NONE);
	ck_assert_ptr_nonnull(strstr(ept_space_failure(r.vm.space)->message, "0x190000"));
	done(&r);
}
END_TEST

/* What the limit lets a fault bring at once is no more than that of an extent. */
START_TEST(under_a_limit)
{
	struct ept_config config = {
	    .vm_name = "test", .log = true, .vcpus = 4, .memory_limit = EPT_LIMIT_FLOOR};
	struct restored r = restored_with(&config);
	unsigned window = r.vm.space->reclaim.window;

	ck_assert_uint_lt(window, EPT_EXTENT_PAGES);
	ck_assert_int_eq(touch(&r, 35, EPT_READ), EPT_RESOLVED);
	ck_assert_uint_eq(res.installed, window);
	ck_assert_uint_eq(ept_reclaim_charge(r.vm.space), window);
	ck_assert(came(&r, 35));
	done(&r);
}
END_TEST

/* Zeros that nobody asked for go where there are to be zeros, not over the snapshot's pages. */
START_TEST(windows_of_zeros)
{
	struct ept_config config = {
	    .vm_name = "test", .log = true, .vcpus = 1, .memory_limit = EPT_LIMIT_FLOOR};
	struct restored r = restored_with(&config);
	unsigned alone = 0;

	discard(&r.vm, 0, 41); /* given back, and then written in order */
	for (uint64_t page = 0; page < 41; page++) {
		ck_assert_int_eq(touch(&r, page, EPT_WRITE), EPT_RESOLVED);
		alone += res.installed == 1;
	}
	ck_assert_uint_lt(alone, 41);
	for (uint64_t page = 41; page < PAGES; page++) {
		ck_assert_int_eq(touch(&r, page, EPT_READ), EPT_RESOLVED);
		ck_assert(came(&r, page));
	}
	done(&r);
}
END_TEST

/* What a working set brings counts, though nobody asked for it: the peak has it. */
START_TEST(brought_in_under_a_limit)
{
	struct ept_config config = {
	    .vm_name = "test", .log = true, .vcpus = 1, .memory_limit = EPT_LIMIT_FLOOR};
	struct restored r = restored_with(&config);
	static char bytes[8 * PAGE];
	struct ept_reclaim_stats stats;
	uint64_t gpa[8];

	for (unsigned i = 0; i < 8; i++)
		gpa[i] = (32 + i) * PAGE;
	ck_assert_uint_eq(ept_snap_put(r.vm.space, gpa, bytes, 8), 8);
	ck_assert(ept_reclaim_stats(r.vm.space, &stats));
	ck_assert_uint_eq(stats.resident, 8 * PAGE);
	ck_assert_uint_eq(stats.peak, 8 * PAGE);
	done(&r);
}
END_TEST

/* What the guest made zeros of is zeros when reclaim has taken it, not the snapshot's page. */
START_TEST(zeros_that_were_written)
{
	struct ept_swap_file swap = {.fd = temp_file(0), .name = "swap.img", .size = 1UL << 20};
	struct ept_config config = {
	    .vm_name = "test", .vcpus = 1, .memory_limit = EPT_LIMIT_FLOOR, .swap = &swap};
	struct restored r = restored_with(&config);
	struct ept_reclaim *reclaim = &r.vm.space->reclaim;

	__atomic_store_n(&reclaim->manual, true,
			 __ATOMIC_RELAXED); /* its thread sleeps till the end */
	ck_assert_int_eq(touch(&r, 35, EPT_WRITE), EPT_RESOLVED);
	ck_assert(came(&r, 35));
	memset(page_at(&r, 35), 0, PAGE);
	for (unsigned i = 0; i < 64 && reclaim->own; i++) {
		ept_reclaim_sample(r.vm.space, 32);
		ept_reclaim_evict(r.vm.space, 32);
	}
	ck_assert_uint_eq(reclaim->own, 0);
	ck_assert_uint_eq(reclaim->counts.zeroed, 1);
	ck_assert_int_eq(touch(&r, 35, EPT_READ), EPT_RESOLVED);
	ck_assert_str_eq(ept_case_name(res.kase), "anon_read");
	done(&r);
	close(swap.fd);
}
END_TEST

static void *touch_page_35(void *arg)
{
	ck_assert_int_eq(touch(arg, 35, EPT_READ), EPT_RESOLVED);
	return NULL;
}

struct giver {
	struct vm *vm;
	pid_t tid; /* atomic; 0: not there yet */
};

static void *give_back_16(void *arg)
{
	struct giver *g = arg;

	__atomic_store_n(&g->tid, gettid(), __ATOMIC_RELEASE);
	discard(g->vm, 16, 16);
	return NULL;
}

/* What is given back while its 2 MiB come in is no huge page any more when they have. */
START_TEST(given_back_on_its_way)
{
	struct ept_config config = {
	    .vm_name = "test", .log = true, .vcpus = 1, .huge = EPT_HUGE_ALWAYS};
	struct restored r = restored_with(&config);
	struct giver g = {.vm = &r.vm};
	struct ept_area_info info;
	pthread_t fault, giver;

	inject_block(0, 1UL << 40);
	pthread_create(&fault, NULL, touch_page_35, &r);
	inject_wait_blocked();
	pthread_create(&giver, NULL, give_back_16, &g);
	while (!__atomic_load_n(&g.tid, __ATOMIC_ACQUIRE) || !is_asleep(g.tid))
		usleep(1000);
	inject_set(block, false);
	pthread_join(fault, NULL);
	pthread_join(giver, NULL);
	ck_assert_str_eq(ept_case_name(res.kase), "file_huge");
	ept_area_info(r.vm.area, &info);
	ck_assert_uint_eq(info.huge, 0);
	ck_assert_uint_eq(info.resident, (EPT_TABLE_SIZE - 16) * PAGE);
	ck_assert_int_eq(touch(&r, 16, EPT_READ), EPT_RESOLVED);
	ck_assert_str_eq(ept_case_name(res.kase), "anon_read");
	done(&r);
}
END_TEST

static void *bring_rest(void *arg)
{
	struct restored *r = arg;
	struct ept_rest rest = {.area = r->vm.area, .first = 16, .end = 32};
	uint64_t bytes = 0;
	unsigned put;

	ept_work_begin(r->vm.space);
	put = ept_snap_bring_rest(&rest, 16, 32, &bytes);
	ept_work_end(r->vm.space);
	return (void *)(uintptr_t)put;
}

/* Who asks for a page that comes behind another's fault waits for a read that is nobody's fault. */
START_TEST(hung_behind_a_fault)
{
	struct ept_config config = one_thread;
	struct restored r;
	pthread_t thread;
	void *put;

	config.fault_timeout = 1;
	r = restored_with(&config);
	ck_assert_int_eq(touch(&r, 0, EPT_READ), EPT_RESOLVED);
	inject_clock_stop();
	inject_block(0, 1UL << 40);
	pthread_create(&thread, NULL, bring_rest, &r);
	inject_wait_blocked();
	for (unsigned i = 0; i < 20 && !ept_space_check(r.vm.space); i++)
		inject_clock_passes(100);
	ck_assert_ptr_nonnull(ept_space_failure(r.vm.space));
	ck_assert_int_eq(ept_space_failure(r.vm.space)->error, -ETIMEDOUT);
	ck_assert_ptr_nonnull(
	    strstr(ept_space_failure(r.vm.space)->message, "gpa 0x10000, byte 65536 of"));
	inject_set(block, false);
	pthread_join(thread, &put);
	ck_assert_uint_eq((uintptr_t)put, 12); /* four are zeros */
	ck_assert(!ept_space_check(r.vm.space));
	done(&r);
}
END_TEST

/* The kernel's engine would use what nobody checked. */
START_TEST(kernel_engine_is_refused)
{
	struct ept_config config = {
	    .vm_name = "test", .log = true, .vcpus = 1, .engine = EPT_ENGINE_KERNEL};
	struct restored r = restored();
	struct ept_space *space;

	ck_assert_int_eq(ept_space_create(&config, &space), 0);
	ck_assert_int_eq(ept_area_add(space, "ram", GPA(0), r.vm.size, r.vm.area->obj, NULL),
			 -EINVAL);
	ept_space_destroy(space);
	done(&r);
}
END_TEST

Suite *suite_snapshot(void)
{
	Suite *suite = suite_create("ept: snapshot");
	TCase *tc = tcase_create("snapshot");

	tcase_add_loop_test(tc, extent_comes_whole, 0, 2);
	tcase_add_test(tc, zeros_among_pages);
	tcase_add_loop_test(tc, races_and_errors, 0, 3);
	tcase_add_test(tc, page_is_there);
	tcase_add_test(tc, windows_grow);
	tcase_add_test(tc, damage_in_a_window);
	tcase_add_test(tc, under_a_limit);
	tcase_add_test(tc, windows_of_zeros);
	tcase_add_test(tc, brought_in_under_a_limit);
	tcase_add_test(tc, zeros_that_were_written);
	tcase_add_test(tc, given_back_on_its_way);
	tcase_add_test(tc, hung_behind_a_fault);
	tcase_add_test(tc, kernel_engine_is_refused);
	suite_add_tcase(suite, tc);
	return suite;
}
