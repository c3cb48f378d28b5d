/*
 * Memory of a snapshot: written by a forked child while the parent goes on, and restored
 * page by page. What the restored VM reads is what was there in the pause.
 */
#include "ept/snapshot_format.h"
#include "ept/stats.h"
#include "tests/ept/fork_rig.h"
#include "tests/ept/snapshot_rig.h"
#include "tests/ept/uffd_suites.h"

#include <stdlib.h>
#include <sys/stat.h>

#define WRITTEN 61UL

/* For each engine and kind; the parent overwrites everything meanwhile. */
START_TEST(restored_is_what_was)
{
	const struct snap_origin *o = &snap_origins[_i];
	struct vm vm = snap_make(o);
	struct snap_restored r;
	struct snap_files files;
	char why[300];

	snap_use(&vm);
	ck_assert_msg(!snap_try(&vm, &files, o->zstd, true, why), "%s", why);
	r = snap_restore(&files, vm.fd);
	ck_assert(snap_all_there(&r.vm, o->file));
	ck_assert_int_eq(ept_snapshot_verify(r.snapshot, why, sizeof(why)), 0);
	memset(r.vm.hva, 0x55, SNAP_SIZE);
	snap_restored_destroy(&r);
	r = snap_restore(&files, vm.fd); /* the first one wrote into nothing but itself */
	ck_assert(snap_all_there(&r.vm, o->file));
	snap_restored_destroy(&r);
	snap_close(&files);
	vm_destroy(&vm);
}
END_TEST

/*
 * Writing was granted ahead of who writes in order, and not used: such a page is still the
 * file's, and no zeros, whatever reclaim has given back of the cache.
 */
START_TEST(granted_page_is_the_files)
{
	struct ept_config config = {.vm_name = "test",
				    .vcpus = 1,
				    .engine = EPT_ENGINE_HANDLER,
				    .memory_limit = EPT_LIMIT_FLOOR};
	struct vm vm = vm_file_with(&config, SNAP_SIZE, EPT_FILE_COW);
	struct snap_restored r;
	struct snap_files files;
	uint64_t granted = 0;

	for (uint64_t page = 0; page < SNAP_PAGES; page++)
		(void)*at(&vm, page);
	for (uint64_t page = 0; page < WRITTEN; page++)
		*at(&vm, page) = (char)pattern_byte(page * PAGE); /* what it was */
	for (uint64_t page = WRITTEN; page < SNAP_PAGES; page++) {
		const struct ept_leaf *leaf = ept_mirror_find(&vm.space->mirror, GPA(page * PAGE));

		granted += ept_pte_get(leaf, ept_leaf_index(GPA(page * PAGE))) == EPT_PTE_PRIVATE;
	}
	ck_assert_uint_gt(granted, 0);
	ept_object_drop(vm.area->obj, 0, SNAP_PAGES);
	snap_take(&vm, &files, 0);
	r = snap_restore(&files, vm.fd);
	for (uint64_t page = 0; page < SNAP_PAGES; page++) {
		ck_assert(has_pattern(at(&r.vm, page), page * PAGE, PAGE));
		ck_assert(has_pattern(at(&vm, page), page * PAGE, PAGE)); /* the source's, too */
	}
	snap_restored_destroy(&r);
	snap_close(&files);
	vm_destroy(&vm);
}
END_TEST

/* Holes stay holes, zeros are not stored, and the file can be mapped as it is. */
START_TEST(full_snapshot_is_sparse)
{
	struct vm vm = snap_make(&snap_origins[0]);
	struct snap_files files;
	char page[PAGE];
	struct stat st;
	uint64_t data = 0;

	snap_use(&vm);
	snap_take(&vm, &files, 0);
	for (uint64_t i = 0; i < SNAP_PAGES; i++)
		data += i / 5 % 5 == 2 || i / 5 % 5 == 3;
	ck_assert_uint_eq(files.info.pages, data);
	ck_assert_uint_eq(files.info.stored_bytes, data * PAGE);
	ck_assert_uint_eq(files.info.memory_bytes, SNAP_SIZE);
	ck_assert_int_eq(fstat(files.memory, &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_size, SNAP_SIZE);
	ck_assert_uint_lt((uint64_t)st.st_blocks * 512, data * PAGE + EPT_EXTENT); /* and its map */
	for (uint64_t i = 0; i < SNAP_PAGES; i++) {
		snap_page(i, false, page);
		ck_assert(file_has(files.memory, i * PAGE, page, PAGE));
	}
	snap_close(&files);
	vm_destroy(&vm);
}
END_TEST

/* A page is read with its extent, once; a zero page reads nothing. */
START_TEST(restore_is_lazy)
{
	struct vm vm = snap_make(&snap_origins[0]);
	struct ept_case_stats stats;
	struct snap_restored r;
	struct snap_files files;

	memset((char *)at(&vm, 16), 1, 16 * PAGE);
	memset((char *)at(&vm, 64), 2, 3 * PAGE);
	snap_take(&vm, &files, 0);
	ck_assert_uint_eq(files.info.extents, 2);
	r = snap_restore(&files, -1);
	ck_assert_int_eq(*at(&r.vm, 65), 2);
	ck_assert_int_eq(*at(&r.vm, 0), 0);
	*at(&r.vm, 20) = 9;
	ck_assert_int_eq(*at(&r.vm, 21), 1);
	ck_assert_int_eq(*at(&r.vm, 70), 0);
	*at(&r.vm, 71) = 1;
	ept_space_stop(r.vm.space);
	stats = case_stats(&r.vm, EPT_CASE_SNAP_READ);
	ck_assert_uint_eq(stats.faults, 1);
	ck_assert_uint_eq(stats.installed, 3);
	ck_assert_uint_eq(stats.bytes_read, EPT_EXTENT);
	stats = case_stats(&r.vm, EPT_CASE_SNAP_WRITE);
	ck_assert_uint_eq(stats.faults, 1);
	ck_assert_uint_eq(stats.installed, 16);
	assert_faults(&r.vm, EPT_CASE_ANON_READ, 2);
	assert_faults(&r.vm, EPT_CASE_ANON_WRITE, 1);
	snap_restored_destroy(&r);
	snap_close(&files);
	vm_destroy(&vm);
}
END_TEST

/* Given back: zero from then on, also where nothing was touched before, and after a fork. */
START_TEST(discarded_is_zero)
{
	struct vm vm = snap_make(&snap_origins[0]);
	struct snap_restored r;
	struct snap_files files, again;

	memset(vm.hva, 3, SNAP_SIZE);
	snap_take(&vm, &files, 0);
	r = snap_restore(&files, -1);
	ck_assert_int_eq(*at(&r.vm, 100), 3);
	discard(&r.vm, 100, 2);
	discard(&r.vm, 600, 1);
	ck_assert_int_eq(*at(&r.vm, 100), 0);
	ck_assert_int_eq(*at(&r.vm, 101), 0);
	ck_assert_int_eq(*at(&r.vm, 599), 3);
	*at(&r.vm, 600) = 0;
	ck_assert_int_eq(at(&r.vm, 600)[7], 0);
	/* A snapshot of the restored VM is whole, whatever was touched of it. */
	snap_take(&r.vm, &again, 1);
	snap_restored_destroy(&r);
	r = snap_restore(&again, -1);
	for (uint64_t page = 0; page < SNAP_PAGES; page++)
		ck_assert_int_eq(at(&r.vm, page)[9],
				 page == 100 || page == 101 || page == 600 ? 0 : 3);
	snap_restored_destroy(&r);
	snap_close(&files);
	snap_close(&again);
	vm_destroy(&vm);
}
END_TEST

static int64_t snap_blocks(int fd)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	return st.st_blocks;
}

/*
 * What a clone has not written is its template's, though the host says that it is a file's. To
 * look at it makes that no larger.
 */
START_TEST(of_a_template)
{
	struct vm vm = snap_make(&snap_origins[0]);
	struct snap_restored r;
	struct snap_files files;
	int template_fd;
	int64_t held;

	snap_use(&vm);
	make_template(&vm);
	for (uint64_t page = 0; page < SNAP_PAGES / 2; page++)
		(void)*at(&vm, page);
	template_fd = vm.space->areas[0]->template_fd;
	held = snap_blocks(template_fd);
	snap_take(&vm, &files, 0);
	ck_assert_int_eq(snap_blocks(template_fd), held);
	r = snap_restore(&files, -1);
	ck_assert(snap_all_there(&r.vm, false));
	snap_restored_destroy(&r);
	snap_close(&files);
	vm_destroy(&vm);
}
END_TEST

/*
 * A clone that is made a template: what it never looked at, what it wrote, and what it gave back.
 * What the first one's file has not got is not put into it.
 */
START_TEST(of_a_clone)
{
	struct vm vm = snap_make(&snap_origins[0]);
	struct ept_area *area;
	int64_t held;
	int first;

	snap_use(&vm);
	make_template(&vm);
	vm.space->pagemap_fd = ept_pagemap_open("/proc/self/pagemap"); /* its engine needs none */
	area = vm.space->areas[0];
	first = dup(area->template_fd);
	held = snap_blocks(first);
	make_template(&vm);
	ck_assert_int_eq(snap_blocks(first), held);
	ck_assert(snap_all_there(&vm, false));
	*at(&vm, 3) ^= 1;
	make_template(&vm);
	*at(&vm, 3) ^= 1;
	ck_assert(snap_all_there(&vm, false));
	memset((char *)at(&vm, 4), 9, PAGE);
	make_template(&vm);
	close(first);
	first = dup(area->template_fd);
	held = snap_blocks(first);
	discard(&vm, 4, 1);
	make_template(&vm);
	ck_assert_int_eq(snap_blocks(first), held);
	ck_assert(!area->gave_back);
	ck_assert_int_eq(*at(&vm, 4), 0);
	close(first);
	vm_destroy(&vm);
}
END_TEST

/* Neither compressed nor of a file: whoever maps the memory file has the guest's memory. */
START_TEST(file_is_memory)
{
	struct ept_config config = {
	    .vm_name = "test", .log = true, .vcpus = 1, .engine = EPT_ENGINE_KERNEL};
	struct vm vm = snap_make(&snap_origins[0]), mapped;
	struct ept_object *obj;
	struct snap_files files;

	snap_use(&vm);
	snap_take(&vm, &files, 0);
	ck_assert_int_eq(ept_object_file(files.memory, "memory", 0, SNAP_SIZE, EPT_FILE_COW, &obj),
			 0);
	mapped = vm_begin(&config, "ram", obj, SNAP_SIZE);
	ept_object_put(obj);
	vm_start(&mapped);
	ck_assert(snap_all_there(&mapped, false));
	vm_destroy(&mapped);
	snap_close(&files);
	vm_destroy(&vm);
}
END_TEST

Suite *suite_uffd_snapshot(void)
{
	Suite *suite = suite_create("ept on userfaultfd: snapshot");
	TCase *tc = tcase_create("snapshot");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, restored_is_what_was, 0, SNAP_ORIGINS);
	tcase_add_test(tc, granted_page_is_the_files);
	tcase_add_test(tc, full_snapshot_is_sparse);
	tcase_add_test(tc, restore_is_lazy);
	tcase_add_test(tc, discarded_is_zero);
	tcase_add_test(tc, of_a_template);
	tcase_add_test(tc, of_a_clone);
	tcase_add_test(tc, file_is_memory);
	suite_add_tcase(suite, tc);
	return suite;
}
