/* Reclaim step by step against the fake installer: each transition, and what goes wrong. */
#include "tests/ept/fake_install.h"
#include "tests/ept/unit_suites.h"
#include "tests/ept/util.h"

#include "ept/uffd_compat.h"

#include <pthread.h>
#include <sys/syscall.h>

#define ANON (-1)
#define R    EPT_READ
#define W    EPT_WRITE
#define AT   20UL /* the page that is looked at */

static struct ept_swap_file swap = {.name = "swap.img", .size = 64UL << 20};
static struct ept_resolution res;

static struct vm vm_limited(int mode, bool move, bool swaps)
{
	struct ept_config config = one_thread;
	struct vm vm;

	config.memory_limit = EPT_LIMIT_FLOOR;
	config.fault_around = 1;
	swap.fd = temp_file(0);
	config.swap = swaps ? &swap : NULL;
	vm_without_move = !move;
	vm = vm_create(&config, mode == ANON ? -1 : temp_file(64 * PAGE), 0, 64 * PAGE,
		       mode == ANON ? EPT_FILE_COW : (enum ept_file_mode)mode);
	vm.space->reclaim.manual = true; /* its thread sleeps till the end */
	return vm;
}

static enum ept_result touch(const struct vm *vm, uint64_t page, enum ept_access access)
{
	struct ept_request req = {.gpa = GPA(page * PAGE),
				  .access = access,
				  .origin = EPT_ORIGIN_LOADER,
				  .picked_up = ept_now()};

	return handle_ept_fault(vm->space, &req, &res);
}

static struct ept_leaf *leaf_of(const struct vm *vm)
{
	return ept_mirror_find(&vm->space->mirror, GPA(0));
}

static enum ept_pte pte(const struct vm *vm)
{
	return ept_pte_get(leaf_of(vm), AT);
}

/* Touch the page for the first time, and leave a byte of its own in what can be written. */
static void first_touch(const struct vm *vm, enum ept_access access, char byte)
{
	ck_assert_int_eq(touch(vm, AT, access), EPT_RESOLVED);
	if (access == W && byte)
		vm->hva[AT * PAGE + 9] = byte;
}

static struct ept_sampled sample(const struct vm *vm)
{
	return ept_reclaim_sample(vm->space, 32);
}

/* What becomes of a page, and which case a touch is then. */
static const struct {
	const char *what;
	int mode;
	bool move;
	enum ept_access first;
	char byte;
	enum ept_pte sampled;
	enum ept_case read, write; /* of the sampled page */
	enum ept_pte after_read, after_write;
	enum ept_pte evicted;
	enum ept_case refault; /* a read of it then */
} ways[] = {
    {"anonymous", ANON, true, W, 1, EPT_PTE_HELD, EPT_CASE_HINT_READ, EPT_CASE_HINT_WRITE,
     EPT_PTE_PRIVATE, EPT_PTE_PRIVATE, EPT_PTE_POOLED, EPT_CASE_SWAP_READ},
    {"anonymous zeros", ANON, true, W, 0, EPT_PTE_HELD, EPT_CASE_HINT_READ, EPT_CASE_HINT_WRITE,
     EPT_PTE_PRIVATE, EPT_PTE_PRIVATE, EPT_PTE_NONE, EPT_CASE_ANON_READ},
    {"anonymous, no move", ANON, false, W, 1, EPT_PTE_AGED, EPT_CASE_SPURIOUS, EPT_CASE_HINT_WRITE,
     EPT_PTE_AGED, EPT_PTE_PRIVATE, EPT_PTE_POOLED, EPT_CASE_SWAP_READ},
    {"read-only file", EPT_FILE_RO, true, R, 0, EPT_PTE_SAMPLED, EPT_CASE_HINT_READ,
     EPT_CASE_RO_WRITE, EPT_PTE_FILE, EPT_PTE_SAMPLED, EPT_PTE_NONE, EPT_CASE_FILE_READ},
    {"private file", EPT_FILE_COW, true, R, 0, EPT_PTE_SAMPLED, EPT_CASE_HINT_READ,
     EPT_CASE_HINT_WRITE, EPT_PTE_FILE, EPT_PTE_PRIVATE, EPT_PTE_NONE, EPT_CASE_FILE_READ},
    {"private copy", EPT_FILE_COW, true, W, 1, EPT_PTE_AGED, EPT_CASE_SPURIOUS, EPT_CASE_HINT_WRITE,
     EPT_PTE_AGED, EPT_PTE_PRIVATE, EPT_PTE_POOLED, EPT_CASE_SWAP_READ},
    {"shared file", EPT_FILE_SHARED, true, R, 0, EPT_PTE_SAMPLED, EPT_CASE_HINT_READ,
     EPT_CASE_HINT_WRITE, EPT_PTE_CLEAN, EPT_PTE_DIRTY, EPT_PTE_NONE, EPT_CASE_SHARED_READ},
};

#define NR_WAYS ((int)(sizeof(ways) / sizeof(*ways)))

static struct vm sampled_page(int way)
{
	struct vm vm = vm_limited(ways[way].mode, ways[way].move, true);

	first_touch(&vm, ways[way].first, ways[way].byte);
	ck_assert_uint_eq(sample(&vm).added, 1);
	ck_assert_int_eq(pte(&vm), ways[way].sampled);
	return vm;
}

START_TEST(transitions)
{
	bool write = _i % 2;
	int way = _i / 2;
	struct vm vm = sampled_page(way);
	enum ept_case kase = write ? ways[way].write : ways[way].read;

	ck_assert_int_eq(touch(&vm, AT, write ? W : R), EPT_RESOLVED);
	ck_assert_str_eq(ept_case_name(res.kase), ept_case_name(kase));
	ck_assert(!res.major);
	ck_assert_int_eq(pte(&vm), write ? ways[way].after_write : ways[way].after_read);
	ck_assert_uint_eq(fake_double_installs(), 0);
	vm_destroy(&vm);
}
END_TEST

START_TEST(evictions)
{
	struct vm vm = sampled_page(_i);
	uint64_t own = vm.space->reclaim.own, gone = ept_reclaim_evict(vm.space, 32);
	bool file = ways[_i].sampled == EPT_PTE_SAMPLED;

	ck_assert_uint_eq(gone, 1);
	ck_assert_int_eq(pte(&vm), ways[_i].evicted);
	ck_assert_uint_eq(vm.space->reclaim.own, file ? own : own - 1);
	if (vm.area->obj && file)
		ck_assert_uint_eq(vm.area->obj->nr_cached, 0);
	ck_assert_int_eq(touch(&vm, AT, R), EPT_RESOLVED);
	ck_assert_str_eq(ept_case_name(res.kase), ept_case_name(ways[_i].refault));
	ck_assert(res.major == (file && ways[_i].mode != ANON));
	if (ways[_i].byte)
		ck_assert_int_eq(vm.hva[AT * PAGE + 9], ways[_i].byte);
	else if (vm.area->obj)
		ck_assert(has_pattern(vm.hva + AT * PAGE, AT * PAGE, PAGE));
	vm_destroy(&vm);
}
END_TEST

/* A hit buys visits of the hand in peace: 3, then 5, then 7 and no more. */
START_TEST(hits_make_older)
{
	static const unsigned visits[] = {3, 5, 7, 7};
	struct vm vm = vm_limited(ANON, true, true);

	first_touch(&vm, W, 1);
	for (int round = 0; round < 4; round++) {
		ck_assert_uint_eq(sample(&vm).added, 1);
		ck_assert_int_eq(touch(&vm, AT, R), EPT_RESOLVED);
		ck_assert_uint_eq(ept_reclaim_evict(vm.space, 32), 0); /* its slot is empty */
		for (unsigned i = 0; i < visits[round]; i++)
			ck_assert_uint_eq(sample(&vm).added, 0);
	}
	vm_destroy(&vm);
}
END_TEST

/* Back before the limit went once over: as good as a hit. Later: a page like any other. */
START_TEST(back_soon_stays)
{
	struct vm vm = vm_limited(ANON, true, true);
	struct ept_reclaim *r = &vm.space->reclaim;
	bool late = _i / 2, file = _i % 2;

	first_touch(&vm, W, 1);
	ck_assert_uint_eq(sample(&vm).added, 1);
	ck_assert_uint_eq(ept_reclaim_evict(vm.space, 32), 1);
	if (file)
		ept_reclaim_write(vm.space, 0);
	ck_assert_int_eq(pte(&vm), file ? EPT_PTE_SWAPPED : EPT_PTE_POOLED);
	r->gone += late ? r->limit + r->limit / 4 : r->limit / 2;
	ck_assert_int_eq(touch(&vm, AT, R), EPT_RESOLVED);
	ck_assert_uint_eq(r->counts.activated, !late);
	for (unsigned i = 0; i < 3 && !late; i++)
		ck_assert_uint_eq(sample(&vm).added, 0);
	ck_assert_uint_eq(sample(&vm).added, 1);
	vm_destroy(&vm);
}
END_TEST

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

START_TEST(dirty_pages_stay)
{
	struct vm vm = vm_limited(EPT_FILE_SHARED, true, true);
	struct ept_sampled s;

	first_touch(&vm, W, 1);
	s = sample(&vm);
	ck_assert(s.dirty);
	ck_assert_uint_eq(s.added, 0);
	ck_assert_int_eq(ept_area_sync(vm.area), 0);
	s = sample(&vm);
	ck_assert(!s.dirty);
	ck_assert_uint_eq(s.added, 1);
	/* While a write-back is under way its area is left alone. */
	ck_assert_int_eq(touch(&vm, AT + 1, R), EPT_RESOLVED);
	pthread_mutex_lock(&vm.area->obj->sync_lock);
	ck_assert_uint_eq(sample(&vm).added, 0);
	pthread_mutex_unlock(&vm.area->obj->sync_lock);
	vm_destroy(&vm);
}
END_TEST

/* Two VMs share a cache: what one of them maps stays for both. */
START_TEST(mapped_elsewhere)
{
	struct vm vm = vm_limited(EPT_FILE_RO, true, false);
	struct ept_space *other;
	struct ept_slot slot;
	struct ept_request req = {.gpa = GPA(AT * PAGE), .origin = EPT_ORIGIN_LOADER};

	ck_assert_int_eq(ept_space_create(&one_thread, &other), 0);
	ck_assert_int_eq(ept_area_add(other, "f", GPA(0), vm.size, vm.area->obj, NULL), 0);
	ck_assert_int_eq(ept_space_start(other), 0);
	ept_space_slots(other, &slot, 1);
	first_touch(&vm, R, 0);
	ck_assert_int_eq(handle_ept_fault(other, &req, &res), EPT_RESOLVED);
	ck_assert_uint_eq(sample(&vm).added, 1);
	ck_assert_uint_eq(ept_reclaim_evict(vm.space, 32), 0);
	ck_assert_uint_eq(vm.area->obj->nr_cached, 1);
	ck_assert(has_pattern((char *)slot.hva + AT * PAGE, AT * PAGE, PAGE));
	ck_assert_int_eq(touch(&vm, AT, R), EPT_RESOLVED);
	ck_assert(!res.major);
	ept_space_destroy(other);
	vm_destroy(&vm);
}
END_TEST

/* An own page that the pool has goes to the file and comes back. */
static struct vm pooled_page(void)
{
	struct vm vm = vm_limited(ANON, true, true);

	first_touch(&vm, W, 7);
	ck_assert_uint_eq(sample(&vm).added, 1);
	ck_assert_uint_eq(ept_reclaim_evict(vm.space, 32), 1);
	ck_assert_int_eq(pte(&vm), EPT_PTE_POOLED);
	return vm;
}

static struct vm swapped_page(void)
{
	struct vm vm = pooled_page();

	ept_reclaim_write(vm.space, 0);
	ck_assert_int_eq(pte(&vm), EPT_PTE_SWAPPED);
	ck_assert_uint_eq(vm.space->reclaim.pool.bytes, 0);
	ck_assert_uint_eq(vm.space->reclaim.swap.pages, 1);
	return vm;
}

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

/* All pages touched in the order of @step: what the touches of those that were taken cost. */
static unsigned touch_all(struct vm *vm, uint64_t step, bool returned)
{
	unsigned faults = 0;

	for (uint64_t i = 0, page = 0; i < 64; i++, page = (page + step) % 64) {
		enum ept_pte is =
		    ept_pte_get(ept_mirror_get(&vm->space->mirror, GPA(0)), (unsigned)page);

		if (is == EPT_PTE_PRIVATE)
			continue;
		faults++;
		ck_assert_int_eq(touch(vm, page, W), EPT_RESOLVED);
		ck_assert(!returned || res.kase == EPT_CASE_SWAP_WRITE);
	}
	for (uint64_t page = 0; page < 64; page++) {
		char *byte = vm->hva + page * PAGE + 9;

		ck_assert(!returned || *byte == (char)(page + 1));
		*byte = (char)(page + 1);
	}
	return faults;
}

/* In order pages come back several at a time, and with fewer reads; at random one by one. */
START_TEST(swap_in_ahead)
{
	bool file = _i % 2, in_order = _i / 2;
	struct vm vm = vm_limited(ANON, true, true);
	struct ept_reclaim *r = &vm.space->reclaim;
	unsigned faults;

	ck_assert_uint_eq(touch_all(&vm, 27, false), 64);
	vm.space->config.fault_around = 16;
	for (uint64_t gone = 0; gone < 64;) {
		sample(&vm);
		gone += ept_reclaim_evict(vm.space, 32);
	}
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
	uint64_t at;

	vm.space->config.fault_around = 16;
	touch_all(&vm, 27, false);
	for (uint64_t gone = 0; gone < 64;) {
		sample(&vm);
		gone += ept_reclaim_evict(vm.space, 32);
	}
	ept_reclaim_write(vm.space, 0);
	for (uint64_t page = 0; page < 2; page++)
		ck_assert_int_eq(touch(&vm, page, W), EPT_RESOLVED);
	at = (ept_pte_value(leaf_of(&vm), 3) & ((1UL << 34) - 1)) * EPT_IMAGE_ALIGN;
	ck_assert_int_eq(syscall(SYS_pwrite64, swap.fd, &head, sizeof(head), (off_t)at),
			 sizeof(head));
	ck_assert_int_eq(touch(&vm, 2, W), EPT_RESOLVED);
	ck_assert_int_eq(vm.hva[2 * PAGE + 9], 3);
	ck_assert_int_eq(ept_pte_get(leaf_of(&vm), 3), EPT_PTE_SWAPPED);
	ck_assert_uint_eq(r->counts.ahead, 0);
	ck_assert_uint_gt(fake_wakes(vm.hva + 3 * PAGE), 0);
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

/* All over the place: a window is filled when a quarter of it was touched, if there is room. */
START_TEST(dense_touches)
{
	struct vm vm = vm_limited(ANON, true, true);
	struct ept_reclaim *r = &vm.space->reclaim;
	bool room = _i % 2, balloon = _i / 2;

	vm.space->config.fault_around = 16;
	if (!room)
		r->low = 10;
	for (uint64_t page = 16; page < 32; page += 4) { /* 4 of 16, and none before them */
		ck_assert_int_eq(touch(&vm, page, W), EPT_RESOLVED);
		ck_assert_uint_eq(res.installed, 1);
	}
	if (balloon)
		discard(&vm, 20, 1);
	ck_assert_int_eq(touch(&vm, 25, W), EPT_RESOLVED);
	ck_assert_uint_eq(res.installed, room && !balloon ? 3 : 1);
	ck_assert_int_eq(ept_pte_get(leaf_of(&vm), 26),
			 room && !balloon ? EPT_PTE_PRIVATE : EPT_PTE_NONE);
	ck_assert_int_eq(ept_pte_get(leaf_of(&vm), 15), EPT_PTE_NONE);
	ck_assert_int_eq(touch(&vm, 40, W), EPT_RESOLVED);
	ck_assert_uint_eq(res.installed, 1);
	ck_assert_uint_eq(fake_double_installs(), 0);
	vm_destroy(&vm);
}
END_TEST

/* The page asked for went in, or not, when a window comes to a stop. */
START_TEST(dense_window_stops)
{
	struct vm vm = vm_limited(ANON, true, true);

	vm.space->config.fault_around = 16;
	for (uint64_t page = 16; page < 32; page += 4)
		ck_assert_int_eq(touch(&vm, page, W), EPT_RESOLVED);
	fake_set_page(vm.hva + (_i ? 27 : 25) * PAGE, FAKE_FOREIGN);
	ck_assert_int_eq(touch(&vm, 26, W), EPT_RESOLVED);
	ck_assert_int_eq(fake_page(vm.hva + 26 * PAGE), FAKE_OWN);
	ck_assert_int_eq(ept_pte_get(leaf_of(&vm), 26), EPT_PTE_PRIVATE);
	ck_assert_int_eq(ept_pte_get(leaf_of(&vm), _i ? 27 : 25), EPT_PTE_NONE);
	ck_assert_uint_eq(vm.space->reclaim.own, _i ? 6 : 5);
	vm_destroy(&vm);
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

/* The guest gives the page back: wherever it was, it is nowhere, and its place is free. */
START_TEST(discard_of_reclaimed_pages)
{
	struct vm vm = _i == 0 ? sampled_page(0) : _i == 1 ? pooled_page() : swapped_page();
	const struct ept_reclaim *r = &vm.space->reclaim;

	discard(&vm, AT, 1);
	ck_assert_int_eq(pte(&vm), EPT_PTE_NONE);
	ck_assert_uint_eq(r->own + r->pool.pages + r->pool.bytes + r->swap.pages + r->swap.used, 0);
	ck_assert_uint_eq(ept_reclaim_evict(vm.space, 32), 0);
	ck_assert_int_eq(touch(&vm, AT, R), EPT_RESOLVED);
	ck_assert_int_eq(res.kase, EPT_CASE_ANON_READ);
	vm_destroy(&vm);
}
END_TEST

/* The kernel holds the page: it is passed over on its way out, copied on its way back. */
START_TEST(page_is_busy)
{
	struct vm vm = vm_limited(ANON, true, true);

	first_touch(&vm, W, 7);
	fake_fail(FAKE_OP_MOVE, -EBUSY, 1);
	ck_assert_uint_eq(sample(&vm).added, 0);
	ck_assert_int_eq(pte(&vm), EPT_PTE_PRIVATE);
	ck_assert_uint_eq(sample(&vm).added, 0); /* left alone for one visit */
	ck_assert_uint_eq(sample(&vm).added, 1);
	fake_fail(FAKE_OP_MOVE, -EBUSY, 1);
	ck_assert_int_eq(touch(&vm, AT, R), EPT_RESOLVED);
	ck_assert_int_eq(pte(&vm), EPT_PTE_PRIVATE);
	ck_assert_int_eq(vm.hva[AT * PAGE + 9], 7);
	vm_destroy(&vm);
}
END_TEST

/* Without a swap file own pages come back from the ring, and the fault that waited ends. */
START_TEST(limit_cannot_be_held)
{
	struct vm vm = vm_limited(ANON, true, false);
	struct ept_reclaim *r = &vm.space->reclaim;

	for (uint64_t page = 0; page < 8; page++) {
		ck_assert_int_eq(touch(&vm, page, W), EPT_RESOLVED);
		vm.hva[page * PAGE] = 1;
	}
	r->limit = r->hard = r->high = 8;
	r->low = 7;
	ck_assert_int_eq(touch(&vm, AT, R), EPT_OUT_OF_MEM);
	ck_assert_int_eq(res.kase, EPT_CASE_NO_MEMORY);
	ck_assert_uint_eq(r->own, 8);
	ck_assert_ptr_nonnull(strstr(ept_space_failure(vm.space)->message, "give a swap file"));
	vm_destroy(&vm);
}
END_TEST

START_TEST(limit_makes_room)
{
	struct vm vm = vm_limited(ANON, true, true);
	struct ept_reclaim *r = &vm.space->reclaim;

	for (uint64_t page = 0; page < 8; page++)
		ck_assert_int_eq(touch(&vm, page, W), EPT_RESOLVED); /* zeros */
	r->limit = r->hard = 8;
	r->high = 7;
	r->low = 6;
	ck_assert_int_eq(touch(&vm, AT, W), EPT_RESOLVED);
	ck_assert_uint_le(r->own, 7);
	ck_assert_uint_ge(r->counts.zeroed, 2);
	ck_assert_uint_eq(r->counts.waits, 1);
	ck_assert_uint_le(r->peak, 8);
	vm_destroy(&vm);
}
END_TEST

/* --- all at once ---------------------------------------------------------------------- */

#define GUESTS	4U
#define TOUCHES 20000U
#define GIVEN	48U /* pages from here on are given back now and then */

struct guest {
	struct vm *vm;
	uint64_t random;
	uint8_t *expected; /* byte 9 of each page; under the leaf's lock, as its page is */
	pthread_t thread;
};

/* As a guest's write: it reaches the page while it is there and writable. */
static void write_byte(const struct guest *g, uint64_t page)
{
	struct ept_leaf *leaf = leaf_of(g->vm);
	char *byte = g->vm->hva + page * PAGE + 9;
	enum ept_pte is;

	pthread_mutex_lock(&leaf->lock);
	is = ept_pte_get(leaf, (unsigned)page);
	if (is == EPT_PTE_PRIVATE || is == EPT_PTE_DIRTY) {
		if (page < GIVEN && g->expected[page] && (uint8_t)*byte != g->expected[page])
			ck_abort_msg("page %lu has not what was written to it last", page);
		*byte = (char)(g->expected[page] = (uint8_t)(g->random >> 40 | 1));
	}
	pthread_mutex_unlock(&leaf->lock);
}

static void *guest_main(void *arg)
{
	struct guest *g = arg;
	struct ept_resolution mine;

	for (unsigned i = 0; i < TOUCHES; i++) {
		struct ept_request req = {.origin = EPT_ORIGIN_LOADER};
		uint64_t page;

		g->random = g->random * 6364136223846793005UL + 1442695040888963407UL;
		page = g->random >> 33 & 63;
		req.gpa = GPA(page * PAGE);
		req.access = g->random >> 62 ? R : W;
		if (handle_ept_fault(g->vm->space, &req, &mine) != EPT_RESOLVED)
			ck_abort_msg("a fault on page %lu is not resolved", page);
		if (req.access == W)
			write_byte(g, page);
	}
	return NULL;
}

static void check_all_pages(const struct vm *vm, const uint8_t *expected)
{
	const struct ept_reclaim *r = &vm->space->reclaim;
	uint64_t own = 0, pooled = 0, swapped = 0;

	for (uint64_t page = 0; page < 64; page++) {
		enum ept_pte is;

		ck_assert_int_eq(touch(vm, page, R), EPT_RESOLVED);
		is = ept_pte_get(leaf_of(vm), (unsigned)page);
		if (page < GIVEN && expected[page] && is != EPT_PTE_NONE)
			ck_assert_int_eq((uint8_t)vm->hva[page * PAGE + 9], expected[page]);
	}
	for (unsigned page = 0; page < 64; page++) {
		enum ept_pte is = ept_pte_get(leaf_of(vm), page);

		own += ept_pte_own(is);
		pooled += is == EPT_PTE_POOLED;
		swapped += is == EPT_PTE_SWAPPED;
	}
	ck_assert_uint_eq(own, r->own);
	ck_assert_uint_eq(pooled, r->pool.pages);
	ck_assert_uint_eq(swapped, r->swap.pages);
	ck_assert_uint_eq(fake_double_installs(), 0);
}

/* Guests, reclaim with its thread, discards or write-back, on 64 pages of which 24 may be there. */
START_TEST(all_at_once)
{
	static const int modes[] = {ANON, ANON, EPT_FILE_COW, EPT_FILE_SHARED};
	struct vm vm = vm_limited(modes[_i], _i != 1, true);
	struct ept_reclaim *r = &vm.space->reclaim;
	uint8_t expected[64] = {0};
	struct guest guests[GUESTS];
	struct ept_reclaim_stats stats;

	r->limit = 64;
	r->window = 1;
	r->hard = 24;
	r->high = 20;
	r->low = 16;
	r->ring.size = 12;
	r->manual = false;
	ck_assert_int_eq(touch(&vm, 0, R), EPT_RESOLVED);
	for (unsigned i = 0; i < GUESTS; i++) {
		guests[i] = (struct guest){.vm = &vm, .random = i, .expected = expected};
		pthread_create(&guests[i].thread, NULL, guest_main, &guests[i]);
	}
	for (unsigned i = 0; i < 200; i++) {
		if (modes[_i] == ANON)
			discard(&vm, GIVEN + i % 8, 8);
		else
			ck_assert_int_eq(ept_area_sync(vm.area), 0);
		pthread_mutex_lock(&r->work);
		ept_reclaim_write(vm.space, 0);
		pthread_mutex_unlock(&r->work);
	}
	for (unsigned i = 0; i < GUESTS; i++)
		pthread_join(guests[i].thread, NULL);
	ck_assert_ptr_null(ept_space_failure(vm.space));
	ck_assert(ept_reclaim_stats(vm.space, &stats));
	ck_assert_uint_gt(stats.sampled, 100);
	pthread_mutex_lock(&r->work); /* its round is over, and no other begins */
	r->manual = true;
	r->hard = r->high = r->low = 1000;
	pthread_mutex_unlock(&r->work);
	check_all_pages(&vm, expected);
	vm_destroy(&vm);
}
END_TEST

START_TEST(limits_that_are_refused)
{
	struct ept_config config = one_thread;
	struct ept_space *space;

	config.memory_limit = EPT_LIMIT_FLOOR - PAGE;
	ck_assert_int_eq(ept_space_create(&config, &space), -EINVAL);
	config.memory_limit = EPT_LIMIT_FLOOR;
	config.engine = EPT_ENGINE_KERNEL;
	ck_assert_int_eq(ept_space_create(&config, &space), -EINVAL);
}
END_TEST

Suite *suite_reclaim(void)
{
	Suite *suite = suite_create("ept: reclaim");
	TCase *tc = tcase_create("reclaim");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, transitions, 0, 2 * NR_WAYS);
	tcase_add_loop_test(tc, evictions, 0, NR_WAYS);
	tcase_add_test(tc, hits_make_older);
	tcase_add_loop_test(tc, back_soon_stays, 0, 4);
	tcase_add_test(tc, pool_stays_dense);
	tcase_add_test(tc, dirty_pages_stay);
	tcase_add_test(tc, mapped_elsewhere);
	tcase_add_loop_test(tc, swap_in_from_the_file, 0, 2);
	tcase_add_loop_test(tc, swap_file_spoilt, 0, 5);
	tcase_add_test(tc, swap_file_spoilt_poisons);
	tcase_add_loop_test(tc, swap_in_ahead, 0, 4);
	tcase_add_test(tc, swap_in_ahead_spoilt);
	tcase_add_loop_test(tc, first_touches_ahead, 0, 2);
	tcase_add_loop_test(tc, dense_touches, 0, 4);
	tcase_add_loop_test(tc, dense_window_stops, 0, 2);
	tcase_add_loop_test(tc, swap_file_full, 0, 2);
	tcase_add_loop_test(tc, discard_of_reclaimed_pages, 0, 3);
	tcase_add_test(tc, page_is_busy);
	tcase_add_test(tc, limit_cannot_be_held);
	tcase_add_test(tc, limit_makes_room);
	tcase_add_loop_test(tc, all_at_once, 0, 4);
	tcase_add_test(tc, limits_that_are_refused);
	suite_add_tcase(suite, tc);
	return suite;
}
