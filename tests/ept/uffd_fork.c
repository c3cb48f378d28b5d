/*
 * A space in a process that forks, on the real userfaultfd: what the child reads is what
 * was there at the fork, whatever the parent writes afterwards, and the other way round.
 */
#include "ept/stats.h"
#include "tests/ept/fork_rig.h"
#include "tests/ept/uffd_suites.h"

#define PAGES  1024UL
#define PARENT 0xa1
#define CHILD  0xb2

/* --- what was there before --------------------------------------------------------------- */

/* How page @page was used before the fork: by its number, so that all come in turn. */
enum before { UNTOUCHED, READ, WRITTEN, READ_THEN_WRITTEN, NR_BEFORE };

static enum before before_of(uint64_t page)
{
	return (enum before)(page / 3 % NR_BEFORE);
}

static void use_before(struct vm *vm, bool writable)
{
	for (uint64_t page = 0; page < PAGES; page++) {
		volatile char *p = at(vm, page);
		enum before before = before_of(page);

		if (before == READ || before == READ_THEN_WRITTEN)
			(void)*p;
		if (writable && (before == WRITTEN || before == READ_THEN_WRITTEN))
			p[8] = (char)(page | 1);
	}
}

/* The page as it was at the fork. */
static bool as_before(const struct vm *vm, uint64_t page, bool file, bool writable)
{
	const volatile uint8_t *p = (const volatile uint8_t *)at(vm, page);
	enum before before = before_of(page);
	bool written = writable && (before == WRITTEN || before == READ_THEN_WRITTEN);

	for (uint64_t i = 0; i < PAGE; i += i == 8 ? 1 : 4) {
		uint8_t want = file ? pattern_byte(page * PAGE + i) : 0;

		if (i == 8 && written)
			want = (uint8_t)(page | 1);
		if (p[i] != want)
			return false;
	}
	return true;
}

static bool all_as_before(const struct vm *vm, bool file, bool writable)
{
	for (uint64_t page = 0; page < PAGES; page++)
		if (!as_before(vm, page, file, writable))
			return false;
	return true;
}

static void overwrite(const struct vm *vm, uint8_t nonce)
{
	for (uint64_t page = 0; page < PAGES; page++)
		memset((char *)vm->hva + page * PAGE, nonce, PAGE);
}

static bool all_are(const struct vm *vm, uint8_t nonce)
{
	for (uint64_t i = 0; i < PAGES * PAGE; i += 61)
		if ((uint8_t)vm->hva[i] != nonce)
			return false;
	return true;
}

static const struct kind {
	enum ept_engine engine;
	enum ept_huge huge;
	bool file;
	enum ept_file_mode mode;
	uint64_t offset;
} kinds[] = {
    {EPT_ENGINE_HANDLER, EPT_HUGE_NEVER, false, EPT_FILE_COW, 0},
    {EPT_ENGINE_HANDLER, EPT_HUGE_ALWAYS, false, EPT_FILE_COW, 0},
    {EPT_ENGINE_HANDLER, EPT_HUGE_NEVER, true, EPT_FILE_COW, 0},
    {EPT_ENGINE_HANDLER, EPT_HUGE_NEVER, true, EPT_FILE_RO, 0},
    {EPT_ENGINE_HANDLER, EPT_HUGE_ALWAYS, true, EPT_FILE_COW, 0}, /* own */
    {EPT_ENGINE_HANDLER, EPT_HUGE_ALWAYS, true, EPT_FILE_RO, 0},
    {EPT_ENGINE_KERNEL, EPT_HUGE_AUTO, false, EPT_FILE_COW, 0},
    {EPT_ENGINE_KERNEL, EPT_HUGE_ALWAYS, false, EPT_FILE_COW, 0},
    {EPT_ENGINE_KERNEL, EPT_HUGE_AUTO, true, EPT_FILE_COW, 0},
    {EPT_ENGINE_KERNEL, EPT_HUGE_AUTO, true, EPT_FILE_RO, 0},
};
#define NR_KINDS (int)(sizeof(kinds) / sizeof(*kinds))

static struct vm make(const struct kind *kind)
{
	/* One page a fault: the state of each page is what its own touch made it. */
	struct ept_config config = {.vm_name = "test",
				    .vcpus = 1,
				    .engine = kind->engine,
				    .huge = kind->huge,
				    .fault_around = kind->huge == EPT_HUGE_NEVER ? 1 : 0};

	if (kind->file)
		return vm_file_with(&config, PAGES * PAGE, kind->mode);
	return vm_create(&config, -1, 0, PAGES * PAGE, EPT_FILE_COW);
}

/* Who writes first, and into every kind of area and page: the other sees nothing of it. */
START_TEST(nonces_do_not_cross)
{
	const struct kind *kind = &kinds[_i / 2];
	bool writable = !kind->file || kind->mode != EPT_FILE_RO, parent_first = _i % 2;
	struct vm vm = make(kind);
	struct pair p;

	use_before(&vm, writable);
	p = fork_space(&vm);
	if (!p.child) {
		if (parent_first)
			child_assert(hear(p.to_child[0]));
		child_assert(all_as_before(&vm, kind->file, writable));
		if (writable) {
			overwrite(&vm, CHILD);
			child_assert(all_are(&vm, CHILD));
		}
		say(p.to_parent[1]);
		child_assert(hear(p.to_child[0])); /* the parent has looked, and written */
		child_assert(writable ? all_are(&vm, CHILD)
				      : all_as_before(&vm, kind->file, false));
		child_ends(&vm);
	}
	if (parent_first && writable)
		overwrite(&vm, PARENT);
	if (parent_first)
		say(p.to_child[1]);
	ck_assert(hear(p.to_parent[0]));
	if (!parent_first) {
		ck_assert(all_as_before(&vm, kind->file, writable));
		if (writable)
			overwrite(&vm, PARENT);
	}
	ck_assert(writable ? all_are(&vm, PARENT) : all_as_before(&vm, kind->file, false));
	say(p.to_child[1]);
	join(&vm, &p);
	vm_destroy(&vm);
}
END_TEST

/* The child goes on and forks, and so does its child; each with its nonce. */
START_TEST(forks_of_forks)
{
	const struct kind *kind = &kinds[_i];
	bool writable = !kind->file || kind->mode != EPT_FILE_RO;
	struct vm vm = make(kind);
	struct pair p, q;

	use_before(&vm, writable);
	p = fork_space(&vm);
	if (!p.child) {
		/* Half of it, so that the fork of the fork finds both. */
		for (uint64_t page = 0; page < PAGES / 2; page++)
			child_assert(as_before(&vm, page, kind->file, writable));
		q = fork_space(&vm);
		if (!q.child) {
			child_assert(all_as_before(&vm, kind->file, writable));
			if (writable)
				overwrite(&vm, CHILD + 1);
			say(q.to_parent[1]);
			child_assert(hear(q.to_child[0]));
			child_assert(!writable || all_are(&vm, CHILD + 1));
			child_ends(&vm);
		}
		child_assert(hear(q.to_parent[0]));
		child_assert(all_as_before(&vm, kind->file, writable));
		if (writable)
			overwrite(&vm, CHILD);
		say(q.to_child[1]);
		join(&vm, &q);
		child_assert(!writable || all_are(&vm, CHILD));
		child_ends(&vm);
	}
	join(&vm, &p);
	ck_assert(all_as_before(&vm, kind->file, writable));
	vm_destroy(&vm);
}
END_TEST

/* The file is read by whoever wants it, and the cases are those of a VM without a fork. */
START_TEST(child_counts_its_own)
{
	struct ept_config config = {.vm_name = "test", .log = true, .vcpus = 1, .fault_around = 1};
	struct vm vm = vm_file_with(&config, PAGES * PAGE, EPT_FILE_COW);
	struct pair p;

	(void)*at(&vm, 0);
	*at(&vm, 1) = 1;
	(void)*at(&vm, 2);
	p = fork_space(&vm);
	if (!p.child) {
		struct ept_case_stats stats;

		child_assert(event_faults(vm.space) == 0 && events(vm.space) == 0);
		*at(&vm, 2) = 5;	   /* protected still: seen */
		child_assert(*at(&vm, 0)); /* mapped by the kernel, or as seen here */
		child_assert(*at(&vm, 1) == 1);
		*at(&vm, 3) = 7;
		child_assert(has_pattern(at(&vm, 4), 4 * PAGE, PAGE));
		ept_space_stop(vm.space);
		ept_area_case_stats(vm.space, 0, EPT_CASE_FILE_WP, &stats);
		child_assert(stats.faults == 1);
		ept_area_case_stats(vm.space, 0, EPT_CASE_FILE_COW, &stats);
		child_assert(stats.faults == 1 && stats.major == 1);
		ept_area_case_stats(vm.space, 0, EPT_CASE_FILE_READ, &stats);
		child_assert(stats.faults == 1 && stats.bytes_read == PAGE);
		child_ends(&vm);
	}
	join(&vm, &p);
	ck_assert_int_eq(*at(&vm, 2), (char)pattern_byte(2 * PAGE));
	assert_faults(&vm, EPT_CASE_FILE_WP, 0);
	vm_destroy(&vm);
}
END_TEST

/* Nothing of the mapping is its own, so fork() copies no page table: zero pages, files' pages. */
START_TEST(only_read_before)
{
	struct ept_config config = {
	    .vm_name = "test", .log = true, .vcpus = 1, .engine = EPT_ENGINE_HANDLER};
	struct vm vm = _i ? vm_file_with(&config, 64 * PAGE, EPT_FILE_COW)
			  : vm_create(&config, -1, 0, 64 * PAGE, EPT_FILE_COW);
	struct pair p;

	for (uint64_t page = 0; page < 32; page++)
		(void)*at(&vm, page);
	p = fork_space(&vm);
	if (!p.child) {
		for (uint64_t page = 0; page < 64; page++) {
			uint8_t want = _i ? pattern_byte(page * PAGE) : 0;

			child_assert((uint8_t)*at(&vm, page) == want);
			*at(&vm, page) = CHILD - 0x80;
		}
		ept_space_stop(vm.space); /* each write of a zero page was seen */
		child_assert(_i || faults(&vm, EPT_CASE_ANON_WP) == 64);
		child_ends(&vm);
	}
	join(&vm, &p);
	for (uint64_t page = 0; page < 64; page++)
		ck_assert_int_eq((uint8_t)*at(&vm, page), _i ? pattern_byte(page * PAGE) : 0);
	vm_destroy(&vm);
}
END_TEST

/* What the child reads after the fork goes nowhere near the parent's cache. */
START_TEST(parent_changes_the_file)
{
	struct vm vm = vm_file(64 * PAGE, EPT_FILE_COW);
	static char other[PAGE];
	struct pair p;

	(void)*at(&vm, 40);
	p = fork_space(&vm);
	if (!p.child) {
		child_assert(hear(p.to_child[0]));
		/* Read before the fork: as it was; not yet: as the file is now. */
		child_assert(has_pattern(at(&vm, 40), 40 * PAGE, PAGE));
		child_assert(*at(&vm, 3) == 0x33);
		child_ends(&vm);
	}
	memset(other, 0x33, sizeof(other));
	(void)*at(&vm, 3); /* before: so the parent keeps what it has read */
	for (uint64_t page = 0; page < 64; page++)
		ck_assert_int_eq(pwrite(vm.fd, other, PAGE, (off_t)(page * PAGE)), PAGE);
	say(p.to_child[1]);
	join(&vm, &p);
	ck_assert(has_pattern(at(&vm, 3), 3 * PAGE, PAGE));
	vm_destroy(&vm);
}
END_TEST

START_TEST(poisoned_pages_stay)
{
	struct ept_config config = {
	    .vm_name = "test", .vcpus = 1, .fault_around = 1, .on_io_error = EPT_IO_POISON};
	struct vm vm = vm_file_with(&config, 64 * PAGE, EPT_FILE_COW);
	struct pair p;
	char c;

	if (!ept_space_can_poison(vm.space)) {
		vm_destroy(&vm);
		return;
	}
	inject_set(bad_from, 7 * PAGE);
	inject_set(bad_to, 8 * PAGE);
	inject_set(pread_errno, EIO);
	ck_assert_int_eq(ept_read(vm.space, GPA(7 * PAGE), &c, 1, EPT_ORIGIN_DEVICE), -EIO);
	inject_set(pread_errno, 0);
	p = fork_space(&vm);
	if (!p.child) {
		child_assert(ept_poisoned(vm.space, GPA(7 * PAGE)));
		child_assert(ept_read(vm.space, GPA(7 * PAGE), &c, 1, EPT_ORIGIN_DEVICE) == -EIO);
		child_assert(has_pattern(at(&vm, 8), 8 * PAGE, PAGE));
		child_ends(&vm);
	}
	join(&vm, &p);
	vm_destroy(&vm);
}
END_TEST

Suite *suite_uffd_fork(void)
{
	Suite *suite = suite_create("ept on userfaultfd: fork");
	TCase *tc = tcase_create("fork");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, nonces_do_not_cross, 0, 2 * NR_KINDS);
	tcase_add_loop_test(tc, forks_of_forks, 0, NR_KINDS);
	tcase_add_test(tc, child_counts_its_own);
	tcase_add_loop_test(tc, only_read_before, 0, 2);
	tcase_add_test(tc, parent_changes_the_file);
	tcase_add_test(tc, poisoned_pages_stay);
	suite_add_tcase(suite, tc);
	return suite;
}
