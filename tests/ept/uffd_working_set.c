/* The working set of a restored VM: recorded, brought in before it is asked for, or not used. */
#include "tests/ept/fork_rig.h"
#include "tests/ept/snapshot_rig.h"
#include "tests/ept/uffd_suites.h"

#include <sched.h>
#include <sys/resource.h>

static void wait_for_prefetch(const struct snap_restored *r, struct ept_prefetch_stats *stats)
{
	do {
		sched_yield();
		ept_prefetch_stats(r->vm.space, stats);
	} while (!stats->done);
}

/* Every 97th page is in it, in this order, but for the zero pages. */
static uint64_t asked_for(const struct vm *vm)
{
	uint64_t n = 0;

	for (uint64_t page = 5; page < SNAP_PAGES; page += 97) {
		ck_assert_int_eq(*at(vm, page), page == 5 ? 0 : 3);
		n += page != 5;
	}
	return n;
}

/* All of it. */
static void ck_threes(const struct vm *vm)
{
	for (uint64_t page = 0; page < SNAP_PAGES; page++) {
		ck_assert_int_eq(*at(vm, page), page == 5 ? 0 : 3);
		ck_assert_int_eq(at(vm, page)[PAGE - 1], page == 5 ? 0 : 3);
	}
}

static struct snap_files snapshot_of_threes(int zstd)
{
	struct vm vm = snap_make(&snap_origins[0]);
	struct snap_files files;

	memset(vm.hva, 3, SNAP_SIZE);
	memset((char *)at(&vm, 5), 0, PAGE);
	snap_take(&vm, &files, zstd);
	vm_destroy(&vm);
	return files;
}

/* As many pages of the first 2 MiB as have all of it brought in, of the second one less. */
static uint64_t asked_for_dense(const struct vm *vm)
{
	for (uint64_t page = 256; page < 256 + EPT_SET_DENSE; page++) {
		ck_assert_int_eq(*at(vm, page), 3);
		if (page > 256)
			ck_assert_int_eq(*at(vm, 512 + page), 3);
	}
	return 2 * EPT_SET_DENSE - 1;
}

/* A snapshot, of which a restored VM recorded pages that it asked for. */
struct recorded {
	struct snap_files files;
	int fd; /* of the set */
	uint64_t pages;
};

static struct recorded record_of(int zstd, uint64_t (*ask)(const struct vm *vm))
{
	struct recorded rec = {.files = snapshot_of_threes(zstd), .fd = temp_file(0)};
	struct ept_snapshot *s = snap_open(&rec.files);
	struct vm vm = snap_vm(&one_thread, &s, 1, -1);

	ck_assert_int_eq(ept_space_record(vm.space), 0);
	vm_start(&vm);
	rec.pages = ask(&vm);
	ck_assert_int_eq(ept_working_set_save(vm.space, snap_id, rec.fd), rec.pages);
	vm_destroy(&vm);
	ept_snapshot_close(s);
	return rec;
}

static struct recorded record(int zstd)
{
	return record_of(zstd, asked_for);
}

static void forget(const struct recorded *rec)
{
	close(rec->fd);
	snap_close(&rec->files);
}

static int open_error(const struct recorded *rec, const uint8_t id[SNAP_ID])
{
	struct ept_working_set *set;
	int err = ept_working_set_open(rec->fd, id, &set);

	if (!err)
		ept_working_set_close(set);
	return err;
}

static struct ept_working_set *open_set(const struct recorded *rec)
{
	struct ept_working_set *set;

	ck_assert_int_eq(ept_working_set_open(rec->fd, snap_id, &set), 0);
	return set;
}

START_TEST(working_set_comes_first)
{
	static const uint8_t other[SNAP_ID] = "another";
	struct recorded rec = record(_i);
	struct ept_prefetch_stats stats;
	struct ept_working_set *set;
	struct snap_restored r;

	ck_assert_int_eq(open_error(&rec, other), -EINVAL);
	for (uint64_t bit = 0; bit < (72 + rec.pages * 8 + 16) * 8; bit++) {
		snap_flip(rec.fd, bit);
		ck_assert_int_eq(open_error(&rec, snap_id), -EINVAL);
		snap_flip(rec.fd, bit);
	}
	set = open_set(&rec);
	r = snap_restore_with(&one_thread, &rec.files, -1, set);
	wait_for_prefetch(&r, &stats);
	ck_assert_uint_eq(stats.brought, rec.pages);
	ck_assert_uint_eq(area_info(&r.vm).resident, rec.pages * PAGE);
	asked_for(&r.vm);
	ept_space_stop(r.vm.space);
	ck_assert_uint_eq(events(r.vm.space), 1); /* the zero page's: nobody else had to ask */
	snap_restored_destroy(&r);
	ept_working_set_close(set);
	for (uint64_t len = snap_size(rec.fd); len > 0; len -= len > 999 ? 999 : len) {
		ck_assert_int_eq(ftruncate(rec.fd, (off_t)len - 1), 0);
		ck_assert_int_eq(open_error(&rec, snap_id), -EINVAL);
	}
	forget(&rec);
}
END_TEST

/* Bytes that are wrong: none of that chunk goes in, and who asks gets the snapshot's. */
START_TEST(wrong_working_set_is_not_used)
{
	struct recorded rec = record(0);
	struct ept_prefetch_stats stats;
	struct ept_working_set *set;
	struct snap_restored r;
	char bytes[PAGE] = "";

	snap_flip(rec.fd, (snap_size(rec.fd) - PAGE / 2) * 8);
	set = open_set(&rec);
	r = snap_restore_with(&one_thread, &rec.files, -1, set);
	wait_for_prefetch(&r, &stats);
	ck_assert_uint_eq(stats.brought, 0);
	asked_for(&r.vm);
	discard(&r.vm, 102, 1); /* given back: a set that comes late does not bring it again */
	ck_assert_uint_eq(ept_snap_put(r.vm.space, (uint64_t[]){102 * PAGE}, bytes, 1), 0);
	ck_assert_int_eq(*at(&r.vm, 102), 0);
	snap_restored_destroy(&r);
	ept_working_set_close(set);
	forget(&rec);
}
END_TEST

/* --- all of it ----------------------------------------------------------------------------- */

static const enum ept_huge huge_modes[] = {EPT_HUGE_NEVER, EPT_HUGE_AUTO, EPT_HUGE_ALWAYS};

static struct snap_restored bring_all(const struct snap_files *files, enum ept_huge huge)
{
	struct snap_restored r = {.snapshot = snap_open(files)};
	struct ept_config config = one_thread;

	config.huge = huge;
	r.vm = snap_vm(&config, &r.snapshot, 1, -1);
	ck_assert_int_eq(ept_space_prefetch_all(r.vm.space), 0);
	vm_start(&r.vm);
	return r;
}

/* Before the first touch; then nobody has to ask. By 2 MiB the zeros among them come, too. */
START_TEST(all_comes_in)
{
	bool whole = huge_modes[_i / 2] != EPT_HUGE_NEVER;
	struct snap_files files = snapshot_of_threes(_i % 2);
	struct snap_restored r = bring_all(&files, huge_modes[_i / 2]);

	ck_assert_int_eq(ept_space_prefetch_wait(r.vm.space, 0), 0);
	ck_assert_uint_eq(area_info(&r.vm).resident, (whole ? SNAP_PAGES : SNAP_PAGES - 1) * PAGE);
	ck_threes(&r.vm);
	ept_space_stop(r.vm.space);
	ck_assert_uint_eq(events(r.vm.space), whole ? 0 : 1);
	snap_restored_destroy(&r);
	snap_close(&files);
}
END_TEST

/* It says so, and where; nothing of that extent goes in. */
START_TEST(all_with_a_wrong_bit)
{
	struct snap_files files = snapshot_of_threes(0);
	struct snap_restored r;

	snap_flip(files.memory, 700 * PAGE * 8);
	r = bring_all(&files, huge_modes[_i]);
	ck_assert_int_eq(ept_space_prefetch_wait(r.vm.space, 0), -EBADMSG);
	const struct ept_failure *failure = ept_space_failure(r.vm.space);
	ck_assert(failure && strstr(failure->message, "wrong checksum"));
	const struct ept_leaf *leaf = ept_mirror_find(&r.vm.space->mirror, GPA(700 * PAGE));
	ck_assert(!leaf || ept_pte_get(leaf, 700 % 512) == EPT_PTE_NONE);
	snap_restored_destroy(&r);
	snap_close(&files);
}
END_TEST

static struct snap_restored restore_by_2_mib(const struct recorded *rec,
					     struct ept_working_set *set)
{
	struct ept_config config = one_thread;

	config.huge = EPT_HUGE_ALWAYS;
	return snap_restore_with(&config, &rec->files, -1, set);
}

/* Of each 2 MiB in which the set is dense, all; who touches them meanwhile finds them right. */
START_TEST(working_set_by_2_mib)
{
	struct recorded rec = record_of(0, asked_for_dense);
	struct ept_working_set *set = open_set(&rec);
	struct snap_restored r = restore_by_2_mib(&rec, set);
	struct ept_prefetch_stats stats;

	if (_i)
		ck_threes(&r.vm);
	wait_for_prefetch(&r, &stats);
	if (!_i)
		ck_assert_uint_eq(stats.brought, 512 + EPT_SET_DENSE - 1);
	ck_threes(&r.vm);
	snap_restored_destroy(&r);
	ept_working_set_close(set);
	forget(&rec);
}
END_TEST

/* Who is asked for something of the others before the set is there brings no 2 MiB, either. */
START_TEST(sparse_2_mib_stay_small)
{
	struct recorded rec = record_of(0, asked_for_dense);
	struct ept_prefetch_stats stats;
	struct ept_working_set *set;
	struct snap_restored r;

	snap_flip(rec.fd, (snap_size(rec.fd) - PAGE / 2) * 8); /* so that nothing of it goes in */
	set = open_set(&rec);
	r = restore_by_2_mib(&rec, set);
	wait_for_prefetch(&r, &stats);
	ck_assert_uint_eq(stats.brought, 512);
	ck_assert_int_eq(*at(&r.vm, 512), 3);
	ck_assert_uint_eq(area_info(&r.vm).resident, (512 + EPT_EXTENT_PAGES) * PAGE);
	ck_threes(&r.vm);
	snap_restored_destroy(&r);
	ept_working_set_close(set);
	forget(&rec);
}
END_TEST

/* Of the second 2 MiB @few pages. */
static uint64_t asked_for_some(const struct vm *vm, uint64_t few)
{
	for (uint64_t page = 256; page < 256 + EPT_SET_DENSE; page++)
		ck_assert_int_eq(*at(vm, page), 3);
	for (uint64_t page = 700; page < 700 + few; page++)
		ck_assert_int_eq(*at(vm, page), 3);
	return EPT_SET_DENSE + few;
}

static uint64_t asked_for_two(const struct vm *vm)
{
	return asked_for_some(vm, 2);
}

static uint64_t asked_for_three(const struct vm *vm)
{
	return asked_for_some(vm, 3);
}

/*
 * For two pages beside those that come by 2 MiB the set's chunk, which is damaged, is not
 * read: they are the snapshot's, and no more of it comes in. For three it would be.
 */
START_TEST(few_beside_2_mib)
{
	struct recorded rec = record_of(0, _i ? asked_for_three : asked_for_two);
	struct ept_prefetch_stats stats;
	struct ept_working_set *set;
	struct snap_restored r;

	snap_flip(rec.fd, (snap_size(rec.fd) - PAGE / 2) * 8);
	set = open_set(&rec);
	r = restore_by_2_mib(&rec, set);
	wait_for_prefetch(&r, &stats);
	ck_assert_uint_eq(stats.brought, _i ? 512 : 512 + 2);
	ck_assert_uint_eq(area_info(&r.vm).resident, stats.brought * PAGE);
	ck_threes(&r.vm);
	snap_restored_destroy(&r);
	ept_working_set_close(set);
	forget(&rec);
}
END_TEST

/* --- trouble ------------------------------------------------------------------------------- */

static void *stop(void *space)
{
	ept_space_stop(space);
	return NULL;
}

/* The set's storage does not answer: a stop waits for it, and that is told. */
#define LIMIT	   EPT_LIMIT_FLOOR
#define LARGE_SIZE (2 * LIMIT)

/* One of twice the limit, of a snapshot of which every page is asked for. */
static struct vm large(const struct ept_config *config, struct ept_snapshot *s)
{
	struct ept_object *obj;
	struct vm vm;

	ck_assert_int_eq(ept_object_snapshot(&s, 1, GPA(0), LARGE_SIZE, NULL, &obj), 0);
	vm = vm_begin(config, "ram", obj, LARGE_SIZE);
	ept_object_put(obj);
	return vm;
}

static struct recorded record_large(void)
{
	struct vm source = vm_anon(LARGE_SIZE), vm;
	struct recorded rec = {.fd = temp_file(0)};
	struct ept_snapshot *s;

	memset(source.hva, 3, LARGE_SIZE);
	snap_take(&source, &rec.files, 0);
	vm_destroy(&source);
	s = snap_open(&rec.files);
	vm = large(&one_thread, s);
	ck_assert_int_eq(ept_space_record(vm.space), 0);
	vm_start(&vm);
	for (uint64_t page = 0; page < LARGE_SIZE / PAGE; page++)
		ck_assert_int_eq(*at(&vm, page), 3);
	ck_assert_int_eq(ept_working_set_save(vm.space, snap_id, rec.fd), LARGE_SIZE / PAGE);
	vm_destroy(&vm);
	ept_snapshot_close(s);
	return rec;
}

/* Several threads bring it in; what they look at before they do is what the others did, too. */
START_TEST(working_set_under_a_limit)
{
	struct ept_config config = {
	    .vm_name = "test", .log = true, .vcpus = 1, .memory_limit = LIMIT};
	struct recorded rec = record_large();
	struct ept_working_set *set = open_set(&rec);
	struct ept_snapshot *s = snap_open(&rec.files);
	struct ept_prefetch_stats stats;
	struct ept_reclaim_stats reclaim;
	struct snap_restored r;

	for (unsigned round = 0; round < 10; round++) {
		r.vm = large(&config, s);
		ck_assert_int_eq(ept_space_prefetch(r.vm.space, set), 0);
		vm_start(&r.vm);
		wait_for_prefetch(&r, &stats);
		ck_assert(ept_reclaim_stats(r.vm.space, &reclaim));
		ck_assert_uint_le(reclaim.peak, LIMIT);
		ck_assert_uint_ge(reclaim.peak, LIMIT / 4 * 3);
		ck_assert_uint_eq(stats.brought * PAGE, reclaim.resident);
		vm_destroy(&r.vm);
	}
	ept_snapshot_close(s);
	ept_working_set_close(set);
	forget(&rec);
}
END_TEST

START_TEST(hung_working_set)
{
	struct ept_config config = {.vm_name = "test", .log = true, .vcpus = 1, .fault_timeout = 1};
	struct recorded rec = record(0);
	struct ept_working_set *set = open_set(&rec);
	struct snap_restored r;
	pthread_t stopper;

	inject_block(snap_size(rec.fd) - 1, snap_size(rec.fd));
	inject_clock_stop();
	r = snap_restore_with(&config, &rec.files, -1, set);
	inject_wait_blocked();
	ck_assert(!ept_space_check(r.vm.space)); /* nobody waits for it yet */
	pthread_create(&stopper, NULL, stop, r.vm.space);
	while (!ept_space_check(r.vm.space)) {
		inject_clock_passes(100);
		usleep(1000);
	}
	ck_assert_int_eq(ept_space_failure(r.vm.space)->error, -ETIMEDOUT);
	inject_set(block, false);
	pthread_join(stopper, NULL);
	snap_restored_destroy(&r);
	ept_working_set_close(set);
	forget(&rec);
}
END_TEST

/* A template has read all: its clones bring in nothing ahead, wherever it was with that. */
START_TEST(not_in_a_clone)
{
	struct recorded rec = record(0);
	struct ept_working_set *set = open_set(&rec);
	struct snap_restored r = snap_restore_with(&one_thread, &rec.files, -1, set);
	struct ept_prefetch_stats stats;

	wait_for_prefetch(&r, &stats);
	r.vm.space->prefetch.stats.done = false;
	make_template(&r.vm);
	struct pair p = fork_space(&r.vm);
	if (!p.child) {
		child_assert(!r.vm.space->prefetch.running);
		child_assert(*at(&r.vm, 7) == 3);
		child_ends(&r.vm);
	}
	join(&r.vm, &p);
	snap_restored_destroy(&r);
	ept_working_set_close(set);
	forget(&rec);
}
END_TEST

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static int threads_until_none;

/* Without room for a stack no thread can be made. */
static void expected(void *ctx)
{
	struct rlimit limit;

	(void)ctx;
	if (--threads_until_none)
		return;
	ck_assert_int_eq(getrlimit(RLIMIT_AS, &limit), 0);
	limit.rlim_cur = PAGE;
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
}

/* Each of its threads is the one that cannot be made: none of the others is left. */
START_TEST(start_that_fails)
{
	struct ept_config config = {.vm_name = "test",
				    .vcpus = 1,
				    .engine = EPT_ENGINE_HANDLER,
				    .thread_expected = expected};
	struct recorded rec = record(0);
	struct ept_working_set *set = open_set(&rec);
	struct ept_snapshot *snapshot = snap_open(&rec.files);
	struct ept_object *ram, *file;
	struct ept_space *space;
	struct rlimit limit;
	int disk = temp_file(SNAP_SIZE), err = -1;

	ck_assert_int_eq(ept_object_snapshot(&snapshot, 1, GPA(0), SNAP_SIZE, NULL, &ram), 0);
	ck_assert_int_eq(ept_object_file(disk, "disk.img", 0, SNAP_SIZE, EPT_FILE_COW, &file), 0);
	getrlimit(RLIMIT_AS, &limit);
	for (int nth = 1; err; nth++) {
		ck_assert_int_eq(ept_space_create(&config, &space), 0);
		ck_assert_int_eq(ept_area_add(space, "ram", GPA(0), SNAP_SIZE, ram, NULL), 0);
		ck_assert_int_eq(
		    ept_area_add(space, "pmem0", GPA(SNAP_SIZE), SNAP_SIZE, file, NULL), 0);
		ck_assert_int_eq(ept_space_prefetch(space, set), 0);
		threads_until_none = nth;
		err = ept_space_start(space);
		setrlimit(RLIMIT_AS, &limit);
		ck_assert_int_lt(nth, 10);
		ck_assert(!err || (!space->files.running && !space->prefetch.running &&
				   !space->nr_threads));
		ept_space_destroy(space);
	}
	ck_assert_int_eq(threads_until_none, 1); /* each of them had its turn */
	ept_object_put(ram);
	ept_object_put(file);
	ept_snapshot_close(snapshot);
	ept_working_set_close(set);
	close(disk);
	forget(&rec);
}
END_TEST
#endif

Suite *suite_uffd_working_set(void)
{
	Suite *suite = suite_create("ept on userfaultfd: working set");
	TCase *tc = tcase_create("working set");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, working_set_comes_first, 0, 2);
	tcase_add_test(tc, wrong_working_set_is_not_used);
	tcase_add_loop_test(tc, all_comes_in, 0, 6);
	tcase_add_loop_test(tc, all_with_a_wrong_bit, 0, 3);
	tcase_add_test(tc, sparse_2_mib_stay_small);
	tcase_add_loop_test(tc, working_set_by_2_mib, 0, 2);
	tcase_add_loop_test(tc, few_beside_2_mib, 0, 2);
	tcase_add_test(tc, working_set_under_a_limit);
	tcase_add_test(tc, hung_working_set);
	tcase_add_test(tc, not_in_a_clone);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	tcase_add_test(tc, start_that_fails);
#endif
	suite_add_tcase(suite, tc);
	return suite;
}
