/* A memory limit under real faults: contents after many rounds, and what stays resident. */
#include "ept/stats.h"
#include "tests/ept/fork_rig.h"
#include "tests/ept/uffd_suites.h"

#include "ept/uffd_compat.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define MIB	 (1UL << 20)
#define LIMIT	 EPT_LIMIT_FLOOR
#define SIZE	 (3 * LIMIT)
#define GUESTS	 4U
/* Of each guest; many are faults, which an emulated host takes half a millisecond for. */
#define ACCESSES 2000U

static struct ept_swap_file swap = {.name = "swap", .size = 4 * SIZE};

/* What a guest of the tests is made of; the page at @_i of a loop. */
struct kind {
	const char *what;
	int mode; /* negative: anonymous */
	bool move, atomic_protect;
};

static const struct kind kinds[] = {
    {"anonymous", -1, true, true},
    {"anonymous, no move", -1, false, true},
    {"private file", EPT_FILE_COW, true, true},
    {"private file, two steps", EPT_FILE_COW, false, false},
    {"shared file", EPT_FILE_SHARED, true, true},
    {"shared file, two steps", EPT_FILE_SHARED, false, false},
};

#define NR_KINDS ((int)(sizeof(kinds) / sizeof(*kinds)))

static struct vm vm_limited(const struct kind *kind, int fd)
{
	struct ept_config config = one_thread;

	config.vcpus = GUESTS;
	config.memory_limit = LIMIT;
	config.swap = &swap;
	swap.fd = temp_file(0);
	vm_without_atomic_protect = !kind->atomic_protect;
	vm_without_move = !kind->move;
	return vm_create(&config, fd, 0, SIZE, kind->mode < 0 ? EPT_FILE_COW : kind->mode);
}

static int file_for(const struct kind *kind)
{
	return kind->mode < 0 ? -1 : temp_file(SIZE);
}

static struct ept_reclaim_stats stats_of(const struct vm *vm)
{
	struct ept_reclaim_stats stats;

	ck_assert(ept_reclaim_stats(vm->space, &stats));
	return stats;
}

/* Never more than 2 % above the limit. */
static void check_limit(const struct vm *vm)
{
	struct ept_reclaim_stats s = stats_of(vm);

	ck_assert_uint_le(s.peak, LIMIT + LIMIT / 50);
	ck_assert_uint_ge(s.peak, LIMIT / 2);
	ck_assert_uint_gt(s.refaults, 0);
}

struct guest {
	struct vm *vm;
	unsigned nr;
	pthread_t thread;
};

/* Each guest has a word of its own in each page, and a mirror of it elsewhere. */
static volatile uint64_t *word(const struct vm *vm, uint64_t page, unsigned nr)
{
	return (volatile uint64_t *)(void *)(vm->hva + page * PAGE + 64 + 8 * nr);
}

AS_VCPU static void *guest_main(void *arg)
{
	struct guest *g = arg;
	uint64_t pages = g->vm->size / PAGE, *sum = calloc(pages, sizeof(*sum));
	uint64_t random = g->nr + 1, wrong = 0;

	ept_vcpu_bind(g->vm->space, g->nr, gettid());
	for (unsigned i = 0; i < ACCESSES; i++) {
		uint64_t page;

		random = random * 6364136223846793005UL + 1442695040888963407UL;
		page = (random >> 33) % (random & 1 ? pages : pages / 5);
		if (sum[page])
			wrong += *word(g->vm, page, g->nr) != sum[page];
		if (!sum[page] || random >> 62) {
			sum[page] = random | 1;
			*word(g->vm, page, g->nr) = sum[page];
		}
	}
	for (uint64_t page = 0; page < pages; page++)
		wrong += sum[page] && *word(g->vm, page, g->nr) != sum[page];
	free(sum);
	return (void *)wrong;
}

static void run_guests(struct vm *vm)
{
	struct guest guests[GUESTS];

	for (unsigned i = 0; i < GUESTS; i++) {
		guests[i] = (struct guest){.vm = vm, .nr = i};
		pthread_create(&guests[i].thread, NULL, guest_main, &guests[i]);
	}
	for (unsigned i = 0; i < GUESTS; i++) {
		void *wrong;

		pthread_join(guests[i].thread, &wrong);
		ck_assert_ptr_null(wrong);
	}
}

START_TEST(no_write_is_lost)
{
	int fd = file_for(&kinds[_i]);
	struct vm vm = vm_limited(&kinds[_i], fd);

	run_guests(&vm);
	ck_assert_ptr_null(ept_space_failure(vm.space));
	check_limit(&vm);
	vm_destroy(&vm);
	close(swap.fd);
	close(fd);
}
END_TEST

/* --- a space that forks ------------------------------------------------------------------ */

#define LIMITED_SIZE (LIMIT / 2 * 3)

/* Whose words a page has. */
enum nonce { PARENT = 1, PARENT_LATER, CHILD };

/* Half of it random, so that the pool cannot keep all. */
AS_VCPU static void fill_page(char *p, uint64_t page, uint64_t nonce)
{
	uint64_t *words = (uint64_t *)(void *)p, x = page * 2654435761U + nonce;

	for (size_t i = 0; i < PAGE / sizeof(*words); i++) {
		x = x * 6364136223846793005UL + 1442695040888963407UL;
		words[i] = i % 2 ? x : nonce;
	}
}

AS_VCPU static bool page_has(const struct vm *vm, uint64_t page, uint64_t nonce)
{
	char want[PAGE] __attribute__((aligned(8)));
	const volatile uint64_t *is =
	    (const volatile uint64_t *)(const volatile void *)at(vm, page);
	size_t same = 0;

	fill_page(want, page, nonce);
	while (same < PAGE / sizeof(*is) && is[same] == ((uint64_t *)(void *)want)[same])
		same++;
	return same == PAGE / sizeof(*is);
}

static bool all_have(const struct vm *vm, uint64_t first, uint64_t end, uint64_t nonce)
{
	for (uint64_t page = first; page < end; page++)
		if (!page_has(vm, page, nonce))
			return false;
	return true;
}

/* Pages that are held, aged, pooled and swapped at the fork; both sides go on swapping. */
START_TEST(reclaimed_pages)
{
	struct ept_swap_file other = {.fd = temp_file(0), .name = "swap2", .size = swap.size};
	struct ept_config config = {
	    .vm_name = "test", .vcpus = 1, .memory_limit = LIMIT, .swap = &swap};
	uint64_t pages = LIMITED_SIZE / PAGE, kept = pages / 16;
	struct ept_reclaim_stats stats;
	struct vm vm;
	struct pair p;

	swap.fd = temp_file(0);
	if (_i)
		vm = vm_file_with(&config, LIMITED_SIZE, EPT_FILE_COW);
	else
		vm = vm_create(&config, -1, 0, LIMITED_SIZE, EPT_FILE_COW);
	for (uint64_t page = 0; page < pages; page++)
		fill_page((char *)at(&vm, page), page, PARENT);
	ck_assert(ept_reclaim_stats(vm.space, &stats));
	ck_assert_uint_gt(stats.swapped, 0);
	ck_assert_uint_le(stats.peak, LIMIT + LIMIT / 50);
	p = fork_with(&vm, &other);
	if (!p.child) {
		child_assert(all_have(&vm, 0, pages, PARENT));
		for (uint64_t page = 0; page < pages; page++)
			fill_page((char *)at(&vm, page), page, CHILD);
		child_assert(all_have(&vm, 0, pages, CHILD));
		child_assert(ept_reclaim_stats(vm.space, &stats));
		child_assert(stats.peak <= LIMIT + LIMIT / 50);
		child_ends(&vm);
	}
	for (uint64_t page = 0; page < pages - kept; page++)
		fill_page((char *)at(&vm, page), page, PARENT_LATER);
	ck_assert(all_have(&vm, 0, pages - kept, PARENT_LATER));
	ck_assert(all_have(&vm, pages - kept, pages, PARENT));
	join(&vm, &p);
	vm_destroy(&vm);
	close(swap.fd);
	close(other.fd);
}
END_TEST

/* --- two areas in one leaf ------------------------------------------------------------------- */

#define BORDER 20UL
#define BOTH   64UL /* pages */

/* Memory, and from BORDER on a private file: as a kernel's data lie in RAM. Nobody reclaims. */
static struct vm vm_of_two(int fd, struct ept_area **high)
{
	struct ept_config config = one_thread;
	struct ept_object *obj;
	struct vm vm;

	config.memory_limit = LIMIT;
	config.swap = &swap;
	swap.fd = temp_file(0);
	ck_assert_int_eq(ept_object_file(fd, "f", 0, (BOTH - BORDER) * PAGE, EPT_FILE_COW, &obj),
			 0);
	vm = vm_begin(&config, "low", NULL, BORDER * PAGE);
	ck_assert_int_eq(
	    ept_area_add(vm.space, "high", GPA(BORDER * PAGE), (BOTH - BORDER) * PAGE, obj, high),
	    0);
	ept_object_put(obj);
	vm_start(&vm);
	__atomic_store_n(&vm.space->reclaim.manual, true, __ATOMIC_RELAXED);
	return vm;
}

static void evict_both(const struct vm *vm)
{
	struct ept_reclaim *r = &vm->space->reclaim;

	for (uint64_t page = 0; page < BOTH; page++)
		*(volatile uint64_t *)(volatile void *)at(vm, page) = page + 1;
	for (unsigned i = 0; r->pool.pages + r->swap.pages < BOTH && i < 1000; i++) {
		ept_reclaim_sample(vm->space, 32);
		ept_reclaim_evict(vm->space, 32);
	}
	ck_assert_uint_eq(r->pool.pages + r->swap.pages, BOTH);
}

/* Who comes back to them in order is given an area's pages, and not the next one's with them. */
START_TEST(comes_back_by_area)
{
	int fd = temp_file((BOTH - BORDER) * PAGE);
	struct ept_area *high;
	struct vm vm = vm_of_two(fd, &high);
	struct ept_area_info info;

	evict_both(&vm);
	if (_i)
		ept_reclaim_write(vm.space, 0);
	for (uint64_t page = 0; page < BOTH; page++) {
		struct ept_resolution res;

		ck_assert_int_eq(fault_as(&vm, page, EPT_WRITE, EPT_ORIGIN_LOADER, 0, &res),
				 EPT_RESOLVED);
		ck_assert_uint_eq(*(volatile uint64_t *)(volatile void *)at(&vm, page), page + 1);
	}
	ck_assert_uint_gt(stats_of(&vm).ahead, 0);
	ck_assert_uint_eq(area_info(&vm).resident, BORDER * PAGE);
	ept_area_info(high, &info);
	ck_assert_uint_eq(info.resident, (BOTH - BORDER) * PAGE);
	vm_destroy(&vm);
	close(swap.fd);
	close(fd);
}
END_TEST

/* A page that went though the kernel says otherwise is where it went, and comes back whole. */
START_TEST(moved_and_denied)
{
	struct ept_area *high;
	struct vm vm = vm_of_two(temp_file(BOTH * PAGE), &high);

	if (!vm.space->reclaim.ring.base) {
		vm_destroy(&vm);
		return; /* it cannot move pages */
	}
	for (uint64_t page = 0; page < BORDER; page++)
		*(volatile uint64_t *)(volatile void *)at(&vm, page) = page + 1;
	inject_set(move_denied, true);
	ck_assert_uint_ge(ept_reclaim_sample(vm.space, BORDER).added, BORDER);
	for (uint64_t page = 0; page < BORDER; page++) {
		struct ept_leaf *leaf = ept_mirror_find(&vm.space->mirror, GPA(page * PAGE));

		ck_assert_int_eq(ept_pte_get(leaf, (unsigned)page), EPT_PTE_HELD);
	}
	for (uint64_t page = 0; page < BORDER; page++)
		ck_assert_uint_eq(*(volatile uint64_t *)(volatile void *)at(&vm, page), page + 1);
	inject_set(move_denied, false);
	vm_destroy(&vm);
}
END_TEST

Suite *suite_uffd_reclaim(void)
{
	Suite *suite = suite_create("ept on userfaultfd: reclaim");
	TCase *tc = tcase_create("reclaim");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, no_write_is_lost, 0, NR_KINDS);
	tcase_add_loop_test(tc, reclaimed_pages, 0, 2);
	tcase_add_loop_test(tc, comes_back_by_area, 0, 2);
	tcase_add_test(tc, moved_and_denied);
	suite_add_tcase(suite, tc);
	return suite;
}
