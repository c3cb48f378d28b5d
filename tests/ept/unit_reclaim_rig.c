#include "tests/ept/reclaim_rig.h"

struct ept_swap_file swap = {.name = "swap.img", .size = 64UL << 20};
struct ept_resolution res;

struct vm vm_limited(int mode, bool move, bool swaps)
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
	__atomic_store_n(&vm.space->reclaim.manual, true,
			 __ATOMIC_RELAXED); /* its thread sleeps till the end */
	return vm;
}

enum ept_result touch(const struct vm *vm, uint64_t page, enum ept_access access)
{
	struct ept_request req = {.gpa = GPA(page * PAGE),
				  .access = access,
				  .origin = EPT_ORIGIN_LOADER,
				  .picked_up = ept_now()};

	return handle_ept_fault(vm->space, &req, &res);
}

struct ept_leaf *leaf_of(const struct vm *vm)
{
	return ept_mirror_find(&vm->space->mirror, GPA(0));
}

enum ept_pte pte(const struct vm *vm)
{
	return ept_pte_get(leaf_of(vm), AT);
}

void first_touch(const struct vm *vm, enum ept_access access, char byte)
{
	ck_assert_int_eq(touch(vm, AT, access), EPT_RESOLVED);
	if (access == W && byte)
		vm->hva[AT * PAGE + 9] = byte;
}

struct ept_sampled sample(const struct vm *vm)
{
	return ept_reclaim_sample(vm->space, 32);
}

unsigned touch_all(struct vm *vm, uint64_t step, bool returned)
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

void evict_all(const struct vm *vm)
{
	for (uint64_t gone = 0; gone < 64;) {
		sample(vm);
		gone += ept_reclaim_evict(vm->space, 32);
	}
}

struct vm pooled_page(void)
{
	struct vm vm = vm_limited(ANON, true, true);

	first_touch(&vm, W, 7);
	ck_assert_uint_eq(sample(&vm).added, 1);
	ck_assert_uint_eq(ept_reclaim_evict(vm.space, 32), 1);
	ck_assert_int_eq(pte(&vm), EPT_PTE_POOLED);
	return vm;
}

struct vm swapped_page(void)
{
	struct vm vm = pooled_page();

	ept_reclaim_write(vm.space, 0);
	ck_assert_int_eq(pte(&vm), EPT_PTE_SWAPPED);
	ck_assert_uint_eq(vm.space->reclaim.pool.bytes, 0);
	ck_assert_uint_eq(vm.space->reclaim.swap.pages, 1);
	return vm;
}
