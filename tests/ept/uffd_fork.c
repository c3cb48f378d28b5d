/*
 * A space in a process that forks, on the real userfaultfd: what the child reads is what
 * was there at the fork, whatever the parent writes afterwards, and the other way round.
 */
#include "tests/ept/uffd_suites.h"
#include "tests/ept/util.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/wait.h>

#define PAGES	1024UL
#define HOLD_MS 60000

#define PARENT	0xa1
#define CHILD	0xb2

/* Both ways of telling the other side to go on; one byte each. */
struct pair {
	int to_child[2], to_parent[2];
	pid_t child;
};

static void say(int fd)
{
	ck_assert_int_eq(write(fd, "x", 1), 1);
}

static bool hear(int fd)
{
	char c;

	return read(fd, &c, 1) == 1;
}

/* In a child a failed assertion cannot be told by check: it ends with a status. */
#define child_assert(x) \
	do { \
		if (!(x)) { \
			dprintf(2, "%s:%d: in the child: %s\n", __FILE__, __LINE__, #x); \
			_exit(1); \
		} \
	} while (0)

/*
 * ThreadSanitizer takes a thread on the stack of one that the fork left behind for that
 * one: larger stacks are new ones.
 */
static void use_other_stacks(void)
{
	pthread_attr_t attr;
	size_t size;

	pthread_getattr_default_np(&attr);
	pthread_attr_getstacksize(&attr, &size);
	pthread_attr_setstacksize(&attr, size + (1UL << 20));
	pthread_setattr_default_np(&attr);
	pthread_attr_destroy(&attr);
}

static void name_of(const char *tid, char name[32])
{
	char path[320];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%s/comm", tid);
	f = fopen(path, "re");
	if (!f || !fgets(name, 32, f))
		name[0] = 0; /* it has ended */
	if (f)
		fclose(f);
}

/* Is there a thread that has not named itself yet, as each of a space does first? */
static bool one_begins(void)
{
	char mine[32], name[32], self[16];
	DIR *dir = opendir("/proc/self/task");
	bool begins = false;

	ck_assert_ptr_nonnull(dir);
	snprintf(self, sizeof(self), "%d", gettid());
	name_of(self, mine);
	for (struct dirent *e; (e = readdir(dir));) {
		if (e->d_name[0] == '.' || !strcmp(e->d_name, self))
			continue;
		name_of(e->d_name, name);
		begins |= !strcmp(name, mine);
	}
	closedir(dir);
	return begins;
}

#ifdef __SANITIZE_THREAD__
#	define HAS_NAMELESS_THREAD true /* of its run-time, for good */
#else
#	define HAS_NAMELESS_THREAD false
#endif

/*
 * A thread that begins under AddressSanitizer allocates memory, and a fork just then leaves
 * the child a sanitizer whose lock nobody opens (its fork does not take it before GCC 14).
 */
static void all_have_begun(void)
{
	while (!HAS_NAMELESS_THREAD && one_begins())
		sched_yield();
}

static struct pair fork_with(struct vm *vm, const struct ept_swap_file *swap)
{
	struct pair p;
	struct ept_fork f;
	char c;

	ck_assert_int_eq(pipe(p.to_child), 0);
	ck_assert_int_eq(pipe(p.to_parent), 0);
	ck_assert_int_eq(ept_space_hold(vm->space, HOLD_MS), 0);
	ck_assert_int_eq(ept_space_fork_begin(vm->space, &f), 0);
	all_have_begun();
	p.child = fork();
	if (!p.child) {
		int err = ept_space_fork_child(vm->space, &f, swap);

		say(p.to_parent[1]);  /* it has copied the swap file */
		close(p.to_child[1]); /* who waits for a parent that is gone ends */
		use_other_stacks();
		if (!err)
			err = ept_space_fork_start(vm->space, "child");
		if (err)
			dprintf(2, "child: %s\n", strerror(-err));
		child_assert(!err);
		ept_vcpu_bind(vm->space, 0, gettid());
		return p;
	}
	ept_space_fork_parent(vm->space);
	ept_space_release(vm->space);
	ck_assert_int_gt(p.child, 0);
	ck_assert_int_eq(read(p.to_parent[0], &c, 1), 1);
	ept_space_fork_done(vm->space, &f);
	return p;
}

static struct pair fork_space(struct vm *vm)
{
	return fork_with(vm, NULL);
}

static _Noreturn void child_ends(struct vm *vm)
{
	ept_space_stop(vm->space);
	child_assert(event_faults(vm->space) == events(vm->space));
	child_assert(!ept_space_failure(vm->space));
	ept_space_destroy(vm->space);
	_exit(0);
}

static void join(struct vm *vm, struct pair *p)
{
	int status;

	ck_assert_int_eq(waitpid(p->child, &status, 0), p->child);
	ck_assert_int_eq(status, 0);
	ck_assert_ptr_null(ept_space_failure(vm->space));
	for (int i = 0; i < 2; i++) {
		close(p->to_child[i]);
		close(p->to_parent[i]);
	}
}

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
	struct ept_config config = {.vm_name = "test", .vcpus = 1, .fault_around = 1};
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
	struct ept_config config = {.vm_name = "test", .vcpus = 1, .engine = EPT_ENGINE_HANDLER};
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

START_TEST(shared_files_are_refused)
{
	struct vm vm = vm_file(16 * PAGE, EPT_FILE_SHARED);
	char why[256] = "";

	ck_assert_int_eq(ept_space_can_fork(vm.space, false, why, sizeof(why)), -EOPNOTSUPP);
	ck_assert_ptr_nonnull(strstr(why, "pmem0 writes to disk.img"));
	ck_assert_int_eq(ept_space_can_fork(vm.space, true, why, sizeof(why)), 0);
	vm_destroy(&vm);
}
END_TEST

/* --- under a memory limit --------------------------------------------------------------------- */

#define LIMITED_SIZE (EPT_LIMIT_FLOOR / 2 * 3)

/*
 * Half of it random, so that the pool cannot keep all. Both as a vCPU touches: the host's
 * page tables order that with reclaim, which ThreadSanitizer does not see.
 */
__attribute__((no_sanitize("thread"))) static void fill_page(char *p, uint64_t page, uint64_t nonce)
{
	uint64_t *words = (uint64_t *)(void *)p, x = page * 2654435761U + nonce;

	for (size_t i = 0; i < PAGE / sizeof(*words); i++) {
		x = x * 6364136223846793005UL + 1442695040888963407UL;
		words[i] = i % 2 ? x : nonce;
	}
}

__attribute__((no_sanitize("thread"))) static bool page_has(const struct vm *vm, uint64_t page,
							    uint64_t nonce)
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
	struct ept_swap_file swap = {.fd = temp_file(0), .name = "swap", .size = 4 * LIMITED_SIZE};
	struct ept_swap_file other = {
	    .fd = temp_file(0), .name = "swap2", .size = 4 * LIMITED_SIZE};
	struct ept_config config = {
	    .vm_name = "test", .vcpus = 1, .memory_limit = EPT_LIMIT_FLOOR, .swap = &swap};
	uint64_t pages = LIMITED_SIZE / PAGE, kept = pages / 16;
	struct ept_reclaim_stats stats;
	struct vm vm;
	struct pair p;

	if (_i)
		vm = vm_file_with(&config, LIMITED_SIZE, EPT_FILE_COW);
	else
		vm = vm_create(&config, -1, 0, LIMITED_SIZE, EPT_FILE_COW);
	for (uint64_t page = 0; page < pages; page++)
		fill_page((char *)at(&vm, page), page, PARENT);
	ck_assert(ept_reclaim_stats(vm.space, &stats));
	ck_assert_uint_gt(stats.swapped, 0);
	p = fork_with(&vm, &other);
	if (!p.child) {
		child_assert(all_have(&vm, 0, pages, PARENT));
		for (uint64_t page = 0; page < pages; page++)
			fill_page((char *)at(&vm, page), page, CHILD);
		child_assert(all_have(&vm, 0, pages, CHILD));
		child_assert(ept_reclaim_stats(vm.space, &stats));
		child_assert(stats.peak <= EPT_LIMIT_FLOOR + EPT_LIMIT_FLOOR / 50);
		child_ends(&vm);
	}
	for (uint64_t page = 0; page < pages - kept; page++)
		fill_page((char *)at(&vm, page), page, PARENT + 1);
	ck_assert(all_have(&vm, 0, pages - kept, PARENT + 1));
	ck_assert(all_have(&vm, pages - kept, pages, PARENT));
	join(&vm, &p);
	vm_destroy(&vm);
	close(swap.fd);
	close(other.fd);
}
END_TEST

/* --- holding ------------------------------------------------------------------------------- */

struct toucher {
	struct vm *vm;
	unsigned done;
};

static void *touch_one(void *arg)
{
	struct toucher *t = arg;

	*at(t->vm, 9) = 1;
	__atomic_store_n(&t->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

START_TEST(held_faults_wait)
{
	struct ept_config config = {.vm_name = "test", .vcpus = 1, .engine = EPT_ENGINE_HANDLER};
	struct vm vm = vm_create(&config, -1, 0, 64 * PAGE, EPT_FILE_COW);
	struct toucher t = {.vm = &vm};
	struct ept_fork f;
	pthread_t thread;

	ck_assert_int_eq(ept_space_fork_begin(vm.space, &f), -EINVAL);
	ck_assert_int_eq(ept_space_hold(vm.space, HOLD_MS), 0);
	ck_assert_int_eq(ept_space_hold(vm.space, HOLD_MS), -EBUSY);
	ck_assert_int_eq(pthread_create(&thread, NULL, touch_one, &t), 0);
	/* Its event was read, so its fault stands at the gate or before it. */
	while (!events(vm.space))
		sched_yield();
	/* The holder's own touch passes. */
	ck_assert_int_eq(ept_write(vm.space, GPA(5 * PAGE), "x", 1, EPT_ORIGIN_DEVICE), 0);
	ck_assert_uint_eq(__atomic_load_n(&t.done, __ATOMIC_ACQUIRE), 0);
	assert_faults(&vm, EPT_CASE_ANON_WRITE, 1);
	ept_space_release(vm.space);
	pthread_join(thread, NULL);
	ck_assert_int_eq(ept_space_hold(vm.space, HOLD_MS), 0);
	assert_faults(&vm, EPT_CASE_ANON_WRITE, 2);
	ept_space_release(vm.space);
	vm_destroy(&vm);
}
END_TEST

/* A read that does not end: nothing is held afterwards. */
START_TEST(hold_has_a_limit)
{
	struct vm vm = vm_file(64 * PAGE, EPT_FILE_COW);
	struct toucher t = {.vm = &vm};
	pthread_t thread;

	inject_set(bad_to, 64 * PAGE);
	inject_set(block, true);
	ck_assert_int_eq(pthread_create(&thread, NULL, touch_one, &t), 0);
	while (!inject_get(blocked))
		sched_yield();
	ck_assert_int_eq(ept_space_hold(vm.space, 1), -ETIMEDOUT);
	inject_set(block, false);
	pthread_join(thread, NULL);
	ck_assert_int_eq(ept_space_hold(vm.space, HOLD_MS), 0);
	ept_space_stop(vm.space); /* held or not */
	ck_assert_int_eq(ept_space_hold(vm.space, HOLD_MS), -EBUSY);
	ept_space_release(vm.space);
	ck_assert_int_eq(ept_space_hold(vm.space, HOLD_MS), -ESHUTDOWN);
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
	tcase_add_test(tc, shared_files_are_refused);
	tcase_add_loop_test(tc, reclaimed_pages, 0, 2);
	tcase_add_test(tc, held_faults_wait);
	tcase_add_test(tc, hold_has_a_limit);
	suite_add_tcase(suite, tc);
	return suite;
}
