/* The pool and the swap file step by step: pages come back, ahead of faults too, or are lost. */
#include "ept/handlers.h"
#include "ept/stats.h"
#include "tests/ept/reclaim_rig.h"
#include "tests/ept/unit_suites.h"

#include "ept/uffd_compat.h"

#include <sys/syscall.h>

/* Images come and go at random: chunks that have room are filled before a new one is begun. */
START_TEST(pool_stays_dense)
{
	enum { LIVE = 600, PUT = 20000 };
	struct {
		struct ept_image image;
		char bytes[200];
	} small = {0};
	struct ept_pool pool = {0};
	uint64_t handle[LIVE], random = 1;
	unsigned a_chunk = EPT_POOL_CHUNK / (2 * EPT_POOL_STEP);

	ck_assert_int_eq(ept_pool_init(&pool, 4UL << 20), 0);
	for (unsigned i = 0; i < LIVE; i++)
		handle[i] = ept_pool_put(&pool, &small.image, sizeof(small));
	for (unsigned i = 0; i < PUT; i++) {
		random = random * 6364136223846793005UL + 1442695040888963407UL;
		unsigned n = (unsigned)(random >> 33) % LIVE;
		ept_pool_drop(&pool, handle[n]);
		handle[n] = ept_pool_put(&pool, &small.image, sizeof(small));
		ck_assert_uint_ne(handle[n], 0);
	}
	ck_assert_uint_eq(pool.pages, LIVE);
	ck_assert_uint_le(pool.bytes / EPT_POOL_CHUNK, (LIVE + a_chunk - 1) / a_chunk);
	for (unsigned i = 0; i < LIVE; i++)
		ept_pool_drop(&pool, handle[i]);
	ck_assert_uint_eq(pool.bytes + pool.images + pool.pages, 0);
	ept_pool_free(&pool);
}
END_TEST

START_TEST(swap_in_from_the_file)
{
	struct vm vm = swapped_page();

	fake_fail(FAKE_OP_COPY, -EAGAIN, 2); /* a discard is pending */
	ck_assert_int_eq(touch(&vm, AT, _i ? W : R), EPT_RESOLVED);
	ck_assert_int_eq(res.kase, _i ? EPT_CASE_SWAP_WRITE : EPT_CASE_SWAP_READ);
	ck_assert(res.major);
	ck_assert_int_eq(pte(&vm), EPT_PTE_PRIVATE);
	ck_assert_int_eq(vm.hva[AT * PAGE + 9], 7);
	ck_assert_uint_eq(vm.space->reclaim.swap.pages, 0);
	ck_assert_uint_eq(vm.space->reclaim.swap.used, 0);
	vm_destroy(&vm);
}
END_TEST

/* The file was cut short, spoilt in each of its parts, or cannot be read. */
START_TEST(swap_file_spoilt)
{
	struct vm vm = swapped_page();
	char bytes[] = "\xff\xff\xff\xff\xff\xff\xff\xff";
	off_t at = (off_t)(_i - 2) * 8;

	if (_i == 0)
		ck_assert_int_eq(ftruncate(swap.fd, 0), 0);
	else if (_i == 1)
		inject_set(pread_errno, EIO), inject_set(bad_to, 1 << 20);
	else
		ck_assert_int_eq(syscall(SYS_pwrite64, swap.fd, bytes, 8, at), 8);
	ck_assert_int_eq(touch(&vm, AT, R), EPT_BUS_ERROR);
	ck_assert_int_eq(res.kase, EPT_CASE_IO_ERROR);
	ck_assert_int_eq(res.error, -EIO);
	ck_assert_int_eq(pte(&vm), EPT_PTE_SWAPPED);
	ck_assert_int_eq(fake_page(vm.hva + AT * PAGE), FAKE_NONE);
	ck_assert_ptr_nonnull(strstr(ept_space_failure(vm.space)->message, "swap.img"));
	vm_destroy(&vm);
}
END_TEST

/* A page that is lost costs the guest that page, where that is asked for. */
START_TEST(swap_file_spoilt_poisons)
{
	struct vm vm = swapped_page();

	vm.space->config.on_io_error = EPT_IO_POISON;
	vm.space->installer.features |= UFFD_FEATURE_POISON;
	ck_assert_int_eq(ftruncate(swap.fd, 0), 0);
	ck_assert_int_eq(touch(&vm, AT, R), EPT_RESOLVED);
	ck_assert_int_eq(res.kase, EPT_CASE_IO_POISON);
	ck_assert_int_eq(pte(&vm), EPT_PTE_POISON);
	ck_assert_uint_eq(vm.space->reclaim.swap.pages + vm.space->reclaim.swap.used, 0);
	ck_assert_ptr_null(ept_space_failure(vm.space));
	discard(&vm, AT, 1);
	ck_assert_int_eq(touch(&vm, AT, R), EPT_RESOLVED);
	ck_assert_int_eq(res.kase, EPT_CASE_ANON_READ);
	vm_destroy(&vm);
}
END_TEST

/* In order pages come back several at a time, and with fewer reads; at random one by one. */
START_TEST(swap_in_ahead)
{
	bool file = _i % 2, in_order = _i / 2;
	struct vm vm = vm_limited(ANON, true, true);
	struct ept_reclaim *r = &vm.space->reclaim;
	unsigned faults;

	ck_assert_uint_eq(touch_all(&vm, 27, false), 64);
	vm.space->config.fault_around = 16;
	evict_all(&vm);
	if (file)
		ept_reclaim_write(vm.space, 0);
	faults = touch_all(&vm, in_order ? 1 : 27, true);
	ck_assert_uint_eq(r->counts.refaults, faults);
	ck_assert_uint_eq(r->counts.refaults + r->counts.ahead, 64);
	if (in_order)
		ck_assert_uint_le(faults, 10);
	else
		ck_assert_uint_eq(faults, 64);
	ck_assert_uint_eq(r->counts.read, file ? 64 : 0);
	/* What lies in one block is read with it; a block is read once. */
	if (file && in_order)
		ck_assert_uint_le(r->counts.read_bytes, faults * 2 * EPT_SWAP_BLOCK);
	ck_assert_uint_eq(r->pool.pages + r->swap.pages + r->swap.used, 0);
	vm_destroy(&vm);
}
END_TEST

/* A neighbour that cannot be read is left to its own fault. */
START_TEST(swap_in_ahead_spoilt)
{
	struct vm vm = vm_limited(ANON, true, true);
	struct ept_reclaim *r = &vm.space->reclaim;
	struct ept_image head = {0};
	unsigned wakes;
	uint64_t at;

	vm.space->config.fault_around = 16;
	touch_all(&vm, 27, false);
	evict_all(&vm);
	ept_reclaim_write(vm.space, 0);
	for (uint64_t page = 0; page < 2; page++)
		ck_assert_int_eq(touch(&vm, page, W), EPT_RESOLVED);
	at = (ept_pte_value(leaf_of(&vm), 3) & ((1UL << 34) - 1)) * EPT_IMAGE_ALIGN;
	ck_assert_int_eq(syscall(SYS_pwrite64, swap.fd, &head, sizeof(head), (off_t)at),
			 sizeof(head));
	wakes = fake_wakes(vm.hva + 3 * PAGE);
	ck_assert_int_eq(touch(&vm, 2, W), EPT_RESOLVED);
	ck_assert_int_eq(vm.hva[2 * PAGE + 9], 3);
	ck_assert_int_eq(ept_pte_get(leaf_of(&vm), 3), EPT_PTE_SWAPPED);
	ck_assert_uint_eq(r->counts.ahead, 0);
	ck_assert_uint_gt(fake_wakes(vm.hva + 3 * PAGE), wakes);
	ck_assert_int_eq(touch(&vm, 3, W), EPT_BUS_ERROR);
	vm_destroy(&vm);
}
END_TEST

/* First touches in order: under a limit several pages at a time, the rest one by one. */
START_TEST(first_touches_ahead)
{
	struct vm vm = vm_limited(ANON, true, true);

	vm.space->config.fault_around = _i ? 16 : 1;
	if (_i)
		ck_assert_uint_lt(touch_all(&vm, 1, false), 52);
	else
		ck_assert_uint_eq(touch_all(&vm, 1, false), 64);
	ck_assert_uint_eq(vm.space->reclaim.own, 64);
	ck_assert_uint_eq(fake_double_installs(), 0);
	vm_destroy(&vm);
}
END_TEST

/*
 * All over the place: a window is filled when an eighth of it was touched; if pages have to
 * go for it a quarter, and as long as such zeros were of use.
 */
static const struct {
	const char *what;
	bool pressed, balloon;
	unsigned used, unused; /* of such zeros lately */
	bool fills;
} windows[] = {
    {"room", false, false, 0, 1000, true},
    {"room, one page given back", false, true, 0, 0, false},
    {"pressed, nothing known", true, false, 0, 0, true},
    {"pressed, of use", true, false, 125, 875, true},
    {"pressed, of no use", true, false, 124, 876, false},
};

#define NR_WINDOWS ((int)(sizeof(windows) / sizeof(*windows)))

START_TEST(dense_touches)
{
	struct vm vm = vm_limited(ANON, true, true);
	struct ept_reclaim *r = &vm.space->reclaim;
	bool fills = windows[_i].fills;
	unsigned before = windows[_i].pressed ? 4 : 2;

	vm.space->config.fault_around = 16;
	r->unasked.used = windows[_i].used;
	r->unasked.unused = windows[_i].unused;
	if (windows[_i].pressed)
		r->low = 10;
	for (unsigned i = 0; i < before; i++) { /* of 16, and none before them */
		ck_assert_int_eq(touch(&vm, 16 + 4 * i, W), EPT_RESOLVED);
		ck_assert_uint_eq(res.installed, 1);
	}
	if (windows[_i].balloon)
		discard(&vm, 20, 1);
	ck_assert_int_eq(touch(&vm, 25, W), EPT_RESOLVED);
	ck_assert_uint_eq(res.installed, fills ? 16 - before : 1);
	ck_assert_uint_eq(res.around, fills ? 15 - before : 0);
	ck_assert_int_eq(ept_pte_get(leaf_of(&vm), 18), fills ? EPT_PTE_PRIVATE : EPT_PTE_NONE);
	ck_assert_int_eq(ept_pte_get(leaf_of(&vm), 15), EPT_PTE_NONE);
	ck_assert_int_eq(touch(&vm, 40, W), EPT_RESOLVED);
	ck_assert_uint_eq(res.installed, 1);
	ck_assert_uint_eq(fake_double_installs(), 0);
	vm_destroy(&vm);
}
END_TEST

/* Wherever a window comes to a stop, the page asked for goes in, and what follows. */
START_TEST(dense_window_stops)
{
	struct vm vm = vm_limited(ANON, true, true);
	unsigned foreign = _i ? 27 : 25;

	vm.space->config.fault_around = 16;
	for (uint64_t page = 16; page < 24; page += 4)
		ck_assert_int_eq(touch(&vm, page, W), EPT_RESOLVED);
	fake_set_page(vm.hva + foreign * PAGE, FAKE_FOREIGN);
	ck_assert_int_eq(touch(&vm, 26, W), EPT_RESOLVED);
	ck_assert_int_eq(fake_page(vm.hva + 26 * PAGE), FAKE_OWN);
	ck_assert_int_eq(ept_pte_get(leaf_of(&vm), 26), EPT_PTE_PRIVATE);
	ck_assert_int_eq(ept_pte_get(leaf_of(&vm), foreign), EPT_PTE_NONE);
	ck_assert_uint_eq(vm.space->reclaim.own, 15);
	ck_assert_uint_eq(res.around, 12);
	vm_destroy(&vm);
}
END_TEST

/* At the ring's end it is seen what of a window was of use; what was free is not judged. */
START_TEST(windows_are_judged)
{
	struct vm vm = vm_limited(ANON, true, true);
	struct ept_reclaim *r = &vm.space->reclaim;
	uint64_t gone = 0;

	vm.space->config.fault_around = 16;
	if (_i)
		r->low = 0;
	for (uint64_t page = 16; page < 32; page += 4)
		ck_assert_int_eq(touch(&vm, page, W), EPT_RESOLVED);
	ck_assert_int_eq(touch(&vm, 26, W), EPT_RESOLVED);
	vm.hva[17 * PAGE] = vm.hva[18 * PAGE] = vm.hva[26 * PAGE] = 1;
	for (int visit = 0; visit < 4; visit++) {
		sample(&vm);
		gone += ept_reclaim_evict(vm.space, 32);
	}
	ck_assert_uint_eq(gone, 16);
	ck_assert_uint_eq(r->unasked.used, _i ? 2 : 0);
	ck_assert_uint_eq(r->unasked.unused, _i ? 9 : 0);
	r->unasked.turn = r->ring.tail - r->ring.size; /* old news: it turned since */
	ck_assert_int_eq(touch(&vm, 26, W), EPT_RESOLVED);
	sample(&vm);
	for (int visit = 0; visit < 4; visit++)
		sample(&vm);
	ck_assert_uint_eq(ept_reclaim_evict(vm.space, 32), 1);
	ck_assert_uint_eq(r->unasked.used, _i ? 1 : 0);
	ck_assert_uint_eq(r->unasked.unused, _i ? 4 : 0);
	vm_destroy(&vm);
}
END_TEST

/* What was read ahead, and nobody came for, can go as well, where nothing was touched near it. */
START_TEST(read_ahead_of_nobody)
{
	struct ept_config config = one_thread;
	struct ept_reclaim *r;
	struct vm vm;
	int fd = temp_file(1024 * PAGE);

	config.memory_limit = EPT_LIMIT_FLOOR;
	vm = vm_create(&config, fd, 0, 1024 * PAGE, EPT_FILE_COW);
	r = &vm.space->reclaim;
	__atomic_store_n(&r->manual, true, __ATOMIC_RELAXED);
	for (uint64_t page = 0; page < 256; page++)
		ck_assert_int_eq(touch(&vm, page, R), EPT_RESOLVED);
	while (__atomic_load_n(&vm.area->obj->nr_coming, __ATOMIC_RELAXED))
		usleep(1000);
	ck_assert(ept_object_cached(vm.area->obj, EPT_TABLE_SIZE));
	for (unsigned i = 0; i < 200; i++) {
		sample(&vm);
		ept_reclaim_evict(vm.space, 32);
	}
	ck_assert_uint_eq(ept_reclaim_charge(vm.space), 0);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

struct ahead {
	struct vm *vm;
	uint64_t first;
	pid_t tid; /* atomic; 0: not there yet */
	pthread_t thread;
};

/* As at the end of a fault that wants 512 pages read ahead. */
static void *want_ahead(void *arg)
{
	struct ahead *a = arg;
	struct fault f = {.area = a->vm->area,
			  .step = {.ahead_first = a->first, .ahead_end = a->first + 512}};

	__atomic_store_n(&a->tid, gettid(), __ATOMIC_RELEASE);
	ept_fault_read_ahead(&f);
	return NULL;
}

/* Where there is room for one window, two faults at once do not both use it. */
START_TEST(read_ahead_within_the_limit)
{
	struct ept_config config = one_thread;
	int fd = temp_file(1024 * PAGE);
	struct ahead a[2];
	struct vm vm;

	config.memory_limit = EPT_LIMIT_FLOOR;
	vm = vm_create(&config, fd, 0, 1024 * PAGE, EPT_FILE_COW);
	__atomic_store_n(&vm.space->reclaim.manual, true, __ATOMIC_RELAXED);
	vm.space->reclaim.high = 600;
	pthread_mutex_lock(&vm.area->obj->lock);
	for (unsigned i = 0; i < 2; i++) {
		a[i] = (struct ahead){.vm = &vm, .first = i * 512};
		pthread_create(&a[i].thread, NULL, want_ahead, &a[i]);
		while (!__atomic_load_n(&a[i].tid, __ATOMIC_ACQUIRE) || !is_asleep(a[i].tid))
			usleep(1000);
	}
	pthread_mutex_unlock(&vm.area->obj->lock);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(a[i].thread, NULL);
	ck_assert_uint_eq(ept_reclaim_charge(vm.space), 512);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

START_TEST(swap_file_full)
{
	struct vm vm = pooled_page();
	struct ept_reclaim_stats stats;

	inject_set(pwrite_errno, _i ? EIO : ENOSPC);
	ept_reclaim_write(vm.space, 0);
	ck_assert_int_eq(pte(&vm), EPT_PTE_POOLED);
	ck_assert(ept_reclaim_stats(vm.space, &stats));
	ck_assert_int_eq(stats.swap_error, _i ? -EIO : -ENOSPC);
	ck_assert_uint_eq(stats.swap_used, 0);
	inject_set(pwrite_errno, 0);
	ept_reclaim_write(vm.space, 0); /* not tried again */
	ck_assert_int_eq(pte(&vm), EPT_PTE_POOLED);
	ck_assert_int_eq(touch(&vm, AT, R), EPT_RESOLVED);
	ck_assert_int_eq(vm.hva[AT * PAGE + 9], 7);
	vm_destroy(&vm);
}
END_TEST

Suite *suite_swap(void)
{
	Suite *suite = suite_create("ept: swap");
	TCase *tc = tcase_create("swap");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, pool_stays_dense);
	tcase_add_loop_test(tc, swap_in_from_the_file, 0, 2);
	tcase_add_loop_test(tc, swap_file_spoilt, 0, 5);
	tcase_add_test(tc, swap_file_spoilt_poisons);
	tcase_add_loop_test(tc, swap_in_ahead, 0, 4);
	tcase_add_test(tc, swap_in_ahead_spoilt);
	tcase_add_loop_test(tc, first_touches_ahead, 0, 2);
	tcase_add_loop_test(tc, dense_touches, 0, NR_WINDOWS);
	tcase_add_loop_test(tc, dense_window_stops, 0, 2);
	tcase_add_loop_test(tc, windows_are_judged, 0, 2);
	tcase_add_test(tc, read_ahead_of_nobody);
	tcase_add_test(tc, read_ahead_within_the_limit);
	tcase_add_loop_test(tc, swap_file_full, 0, 2);
	suite_add_tcase(suite, tc);
	return suite;
}
