/* A memory limit under real faults: contents after many rounds, and what stays resident. */
#include "tests/ept/uffd_suites.h"
#include "tests/ept/util.h"

#include "ept/uffd_compat.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define MIB	 (1UL << 20)
#define LIMIT	 EPT_LIMIT_FLOOR
#define SIZE	 (3 * LIMIT)
#define GUESTS	 4U
/* Of each guest; many are faults, which an emulated host takes half a millisecond for. */
#define ACCESSES 4000U

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

/*
 * The thread stands for a vCPU: the host's page tables order what it does and what
 * reclaim reads, and ThreadSanitizer does not see those.
 */
__attribute__((no_sanitize("thread"))) static void *guest_main(void *arg)
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

Suite *suite_uffd_reclaim(void)
{
	Suite *suite = suite_create("ept on userfaultfd: reclaim");
	TCase *tc = tcase_create("reclaim");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, no_write_is_lost, 0, NR_KINDS);
	suite_add_tcase(suite, tc);
	return suite;
}
