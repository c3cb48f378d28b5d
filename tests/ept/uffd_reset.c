/*
 * Going back to a reset point: whatever was written, given back or read since, by guest or
 * device, memory is as it was at the point, for every kind of area and engine; and only
 * what was written is touched.
 */
#include "ept/reset.h"
#include "tests/ept/fork_rig.h"
#include "tests/ept/snapshot_rig.h"
#include "tests/ept/uffd_suites.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define PAGES	SNAP_PAGES
#define SIZE	SNAP_SIZE
#define LIMITED (3 * EPT_LIMIT_FLOOR)
#define ROUNDS	12
#define WRITES	300U

static unsigned random_below(unsigned n)
{
	static unsigned x = 362436069;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x % n;
}

/* --- the VMs ------------------------------------------------------------------------------- */

static const struct kind {
	const char *what;
	enum ept_engine engine;
	enum ept_huge huge;
	bool file, layers, limited;
} kinds[] = {
    {.what = "anonymous", .engine = EPT_ENGINE_HANDLER},
    {.what = "huge", .engine = EPT_ENGINE_HANDLER, .huge = EPT_HUGE_ALWAYS},
    {.what = "file", .engine = EPT_ENGINE_HANDLER, .file = true},
    {.what = "huge file", .engine = EPT_ENGINE_HANDLER, .huge = EPT_HUGE_ALWAYS, .file = true},
    {.what = "kernel's", .engine = EPT_ENGINE_KERNEL},
    {.what = "kernel's file", .engine = EPT_ENGINE_KERNEL, .file = true},
    {.what = "snapshot", .engine = EPT_ENGINE_HANDLER, .layers = true},
    {.what = "limited", .engine = EPT_ENGINE_HANDLER, .limited = true},
    {.what = "limited file", .engine = EPT_ENGINE_HANDLER, .file = true, .limited = true},
};

#define NR_KINDS ((int)(sizeof(kinds) / sizeof(*kinds)))

struct rig {
	struct vm vm;
	struct ept_snapshot *snapshot;
	struct ept_swap_file swap;
	uint64_t pages, *log;
	const uint64_t *logs[1];
	char *want; /* memory at the point */
};

/* Of a VM whose pages hold their numbers, but for each third. */
static void make_restored(struct rig *rig, const struct ept_config *config)
{
	struct vm vm = vm_anon(SIZE);
	struct snap_files files;

	for (uint64_t page = 0; page < PAGES; page++)
		if (page % 3)
			memset((char *)at(&vm, page), (int)(page % 255) + 1, PAGE);
	snap_take(&vm, &files, 0);
	vm_destroy(&vm);
	rig->snapshot = snap_open(&files);
	snap_close(&files);
	rig->vm = snap_vm(config, &rig->snapshot, 1, -1);
	vm_start(&rig->vm);
}

static void make(struct rig *rig, const struct kind *kind)
{
	struct ept_config config = {
	    .vm_name = "test", .vcpus = 1, .engine = kind->engine, .huge = kind->huge};
	uint64_t size = kind->limited ? LIMITED : SIZE;

	*rig = (struct rig){.pages = size / PAGE};
	if (kind->limited) {
		rig->swap =
		    (struct ept_swap_file){.fd = temp_file(0), .name = "swap", .size = 4 * size};
		config.memory_limit = EPT_LIMIT_FLOOR;
		config.swap = &rig->swap;
	}
	if (kind->layers)
		make_restored(rig, &config);
	else if (kind->file)
		rig->vm = vm_file_with(&config, size, EPT_FILE_COW);
	else
		rig->vm = vm_create(&config, -1, 0, size, EPT_FILE_COW);
	rig->log = calloc(rig->pages / 64 + 1, sizeof(*rig->log));
	rig->want = malloc(size);
	rig->logs[0] = rig->log;
}

static void end(struct rig *rig)
{
	vm_destroy(&rig->vm);
	ept_snapshot_close(rig->snapshot);
	if (rig->swap.name)
		close(rig->swap.fd);
	free(rig->log);
	free(rig->want);
}

/* --- what happens to them -------------------------------------------------------------------- */

/* As a guest, whose writes KVM logs. */
static void guest_writes(struct rig *rig, uint64_t page, int byte)
{
	memset((char *)at(&rig->vm, page) + random_below(8) * 512, byte, 512);
	rig->log[page / 64] |= 1UL << page % 64;
}

static void device_writes(struct rig *rig, uint64_t page, int byte)
{
	char bytes[64];

	memset(bytes, byte, sizeof(bytes));
	ck_assert_int_eq(ept_write(rig->vm.space, GPA(page * PAGE + 4000), bytes, sizeof(bytes),
				   EPT_ORIGIN_DEVICE),
			 0);
}

static void use(struct rig *rig, const struct kind *kind, unsigned writes)
{
	for (unsigned i = 0; i < writes; i++) {
		uint64_t page = random_below((unsigned)rig->pages - 16), given;
		int byte = (int)random_below(3);

		switch (random_below(6)) {
		case 0:
			(void)*at(&rig->vm, page);
			break;
		case 1:
			device_writes(rig, page, byte);
			break;
		case 2:
			if (!kind->file)
				ck_assert_int_eq(
				    ept_discard_anonymous(rig->vm.space, GPA(page * PAGE),
							  (1 + random_below(16)) * PAGE, &given),
				    0);
			break;
		default:
			guest_writes(rig, page, byte);
		}
	}
}

static void point(struct rig *rig, bool first)
{
	char why[300] = "";

	ck_assert_msg(ept_reset_point(rig->vm.space, first ? NULL : rig->logs, why, sizeof(why)) ==
			  0,
		      "%s", why);
	memcpy(rig->want, rig->vm.hva, rig->pages * PAGE);
	memset(rig->log, 0, (rig->pages / 64 + 1) * sizeof(*rig->log));
}

static struct ept_reset_stats back(struct rig *rig)
{
	struct ept_reset_stats stats;
	char why[300] = "";
	bool begun;

	ck_assert_msg(ept_reset_back(rig->vm.space, rig->logs, &stats, &begun, why, sizeof(why)) ==
			  0,
		      "%s", why);
	memset(rig->log, 0, (rig->pages / 64 + 1) * sizeof(*rig->log));
	return stats;
}

static void expect_as_it_was(const struct rig *rig, const char *what)
{
	for (uint64_t page = 0; page < rig->pages; page++)
		ck_assert_msg(!memcmp((char *)at(&rig->vm, page), rig->want + page * PAGE, PAGE),
			      "%s: page %lu is not as it was", what, (unsigned long)page);
}

/* Round after round, of which some set the point anew. */
START_TEST(rounds)
{
	const struct kind *kind = &kinds[_i];
	struct rig rig;

	make(&rig, kind);
	use(&rig, kind, WRITES);
	point(&rig, true);
	for (int round = 0; round < ROUNDS; round++) {
		use(&rig, kind, WRITES);
		if (round % 5 == 3) {
			point(&rig, false);
			continue;
		}
		back(&rig);
		if (round % 2) /* else what nobody looked at stays so */
			expect_as_it_was(&rig, kind->what);
	}
	back(&rig);
	expect_as_it_was(&rig, kind->what);
	end(&rig);
}
END_TEST

/* Set when nothing was touched yet: nothing is kept, and what is written comes from its origin. */
START_TEST(fresh)
{
	const struct kind *kind = &kinds[_i];
	struct ept_reset_stats stats;
	struct rig rig, twin;
	char why[300];

	make(&rig, kind);
	make(&twin, kind);
	memcpy(rig.want, twin.vm.hva, rig.pages * PAGE);
	ck_assert_int_eq(ept_reset_point(rig.vm.space, NULL, why, sizeof(why)), 0);
	for (int round = 0; round < 3; round++) {
		use(&rig, kind, WRITES / 4);
		stats = back(&rig);
		if (!kind->file && !kind->layers)
			ck_assert_uint_eq(stats.kept, 0);
	}
	expect_as_it_was(&rig, kind->what);
	end(&twin);
	end(&rig);
}
END_TEST

/* A clone of a template has pages that are neither its own nor zeros; given back, they are. */
START_TEST(of_a_template)
{
	struct rig rig;

	make(&rig, &kinds[0]);
	use(&rig, &kinds[0], WRITES);
	make_template(&rig.vm);
	if (_i)
		use(&rig, &kinds[0], WRITES / 10);
	point(&rig, true);
	for (int round = 0; round < 3; round++) {
		use(&rig, &kinds[0], WRITES);
		back(&rig);
		expect_as_it_was(&rig, "of a template");
	}
	end(&rig);
}
END_TEST

/* A point of one that gave memory back puts nothing into the template's file, which others have. */
START_TEST(of_a_template_that_gave_back)
{
	struct rig rig;
	struct stat before, after;
	char why[300] = "";
	int fd;

	make(&rig, &kinds[0]);
	guest_writes(&rig, 3, 7);
	guest_writes(&rig, 4, 7);
	make_template(&rig.vm);
	rig.vm.space->pagemap_fd = ept_pagemap_open("/proc/self/pagemap");
	fd = rig.vm.space->areas[0]->template_fd;
	discard(&rig.vm, 4, 1);
	ck_assert_int_eq(fstat(fd, &before), 0);
	ck_assert_int_eq(ept_reset_point(rig.vm.space, NULL, why, sizeof(why)), 0);
	ck_assert_int_eq(fstat(fd, &after), 0);
	ck_assert_int_eq(after.st_blocks, before.st_blocks);
	point(&rig, false); /* it looks at all of it itself */
	guest_writes(&rig, 3, 8);
	guest_writes(&rig, 4, 8);
	guest_writes(&rig, 5, 8);
	back(&rig);
	expect_as_it_was(&rig, "of a template");
	end(&rig);
}
END_TEST

/* Exactly the pages that were written, and none that is zeros and was given back. */
START_TEST(counts)
{
	const struct kind *kind = &kinds[_i];
	struct ept_reset_stats stats;
	struct rig rig;
	uint64_t given;

	make(&rig, kind);
	for (uint64_t page = 0; page < 64; page++)
		guest_writes(&rig, page, 7);
	point(&rig, true);
	ck_assert_uint_eq(back(&rig).pages, 0);
	for (uint64_t page = 10; page < 20; page++)
		guest_writes(&rig, page, 8);
	device_writes(&rig, 19, 8);
	device_writes(&rig, 40, 8);
	ck_assert_uint_eq(back(&rig).pages, 11);
	ck_assert_uint_eq(back(&rig).pages, 0);
	expect_as_it_was(&rig, kind->what);
	if (!kind->file && !kind->layers) {
		ck_assert_int_eq(
		    ept_discard_anonymous(rig.vm.space, GPA(62 * PAGE), 200 * PAGE, &given), 0);
		ck_assert_uint_eq(back(&rig).pages, 2);
	}
	stats = back(&rig);
	ck_assert_uint_eq(stats.pages, 0);
	expect_as_it_was(&rig, kind->what);
	end(&rig);
}
END_TEST

/* Setting it again and again keeps no page twice. */
START_TEST(kept_once)
{
	struct rig rig;

	make(&rig, &kinds[0]);
	for (int round = 0; round < 50; round++) {
		uint64_t given;

		for (uint64_t page = 0; page < 32; page++)
			guest_writes(&rig, page, 1 + round);
		point(&rig, round == 0);
		ck_assert_int_eq(ept_discard_anonymous(rig.vm.space, GPA(0), 32 * PAGE, &given), 0);
		if (round)
			point(&rig, false);
	}
	ck_assert_uint_le(back(&rig).kept, 32 * PAGE);
	end(&rig);
}
END_TEST

/* What cannot be read leaves memory as it is, and the point where it was. */
START_TEST(unreadable)
{
	struct ept_reset_stats stats;
	char why[300], seen[PAGE];
	struct rig rig;
	bool begun;

	make(&rig, &kinds[2]);
	point(&rig, true);
	guest_writes(&rig, 5, 0x55);
	memcpy(seen, (char *)at(&rig.vm, 5), PAGE);
	inject_set(bad_from, 5 * PAGE);
	inject_set(bad_to, 6 * PAGE);
	inject_set(pread_errno, EIO);
	ck_assert_int_eq(ept_reset_back(rig.vm.space, rig.logs, &stats, &begun, why, sizeof(why)),
			 -EIO);
	inject_set(pread_errno, 0);
	ck_assert(!begun && strstr(why, "cannot be read"));
	ck_assert(!memcmp(seen, (char *)at(&rig.vm, 5), PAGE));
	rig.log[0] = 0; /* KVM tells it once */
	ck_assert_uint_eq(back(&rig).pages, 1);
	expect_as_it_was(&rig, "unreadable");
	end(&rig);
}
END_TEST

START_TEST(refused)
{
	struct ept_reset_stats stats;
	struct vm vm = vm_file(SIZE, EPT_FILE_SHARED), anon = vm_anon(SIZE);
	char why[300];
	bool begun;

	ck_assert_int_eq(ept_reset_point(vm.space, NULL, why, sizeof(why)), -EOPNOTSUPP);
	ck_assert(strstr(why, "writes to"));
	ck_assert_int_eq(ept_reset_back(anon.space, NULL, &stats, &begun, why, sizeof(why)),
			 -EINVAL);
	ept_space_stop(anon.space);
	ck_assert_int_eq(ept_reset_point(anon.space, NULL, why, sizeof(why)), -ESHUTDOWN);
	vm_destroy(&anon);
	vm_destroy(&vm);
}
END_TEST

/* A child has none, and its parent's stays. */
START_TEST(forked)
{
	struct ept_fork fork_state;
	struct rig rig;
	int status;

	make(&rig, &kinds[_i]);
	use(&rig, &kinds[_i], WRITES);
	point(&rig, true);
	use(&rig, &kinds[_i], WRITES);
	ck_assert_int_eq(ept_space_hold(rig.vm.space, HOLD_MS), 0);
	ck_assert_int_eq(ept_space_fork_begin(rig.vm.space, &fork_state), 0);
	pid_t child = fork();
	if (!child) {
		struct ept_reset_stats stats;
		char why[300];
		bool begun;

		if (ept_space_fork_child(rig.vm.space, &fork_state, NULL) ||
		    ept_space_fork_start(rig.vm.space, "child"))
			_exit(1);
		_exit(ept_reset_back(rig.vm.space, rig.logs, &stats, &begun, why, sizeof(why)) !=
		      -EINVAL);
	}
	ept_space_fork_parent(rig.vm.space);
	ept_space_release(rig.vm.space);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ept_space_fork_done(rig.vm.space, &fork_state);
	ck_assert_int_eq(status, 0);
	back(&rig);
	expect_as_it_was(&rig, "forked");
	end(&rig);
}
END_TEST

Suite *suite_uffd_reset(void)
{
	Suite *s = suite_create("userfaultfd: reset");
	TCase *t = tcase_create("back");

	tcase_add_loop_test(t, rounds, 0, NR_KINDS);
	tcase_add_loop_test(t, fresh, 0, NR_KINDS - 2);
	tcase_add_loop_test(t, counts, 0, NR_KINDS - 2);
	tcase_add_loop_test(t, of_a_template, 0, 2);
	tcase_add_test(t, of_a_template_that_gave_back);
	tcase_add_test(t, kept_once);
	tcase_add_test(t, unreadable);
	tcase_add_test(t, refused);
	tcase_add_loop_test(t, forked, 0, 7);
	suite_add_tcase(s, t);
	return s;
}
