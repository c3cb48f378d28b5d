/* Snapshots that are differences: read through, merged, and to what they may be one. */
#include "ept/snapshot.h"
#include "ept/snapshot_format.h"
#include "tests/ept/snapshot_rig.h"
#include "tests/ept/uffd_suites.h"
#include "tests/ept/util.h"

#include <stdlib.h>

/* The next one is a difference to this one. */
static void add_layer(const struct snap_files *files)
{
	struct snap_next *n = &snap_next;

	memmove(n->layers + 1, n->layers, n->count * sizeof(*n->layers));
	n->layers[0] = snap_open(files);
	n->count++;
	n->id++;
}

static struct vm vm_of_layers(int origin_fd)
{
	struct vm vm = snap_vm(&one_thread, snap_next.layers, snap_next.count, origin_fd);

	vm_start(&vm);
	return vm;
}

/* The chain made one: it says the same, and has its id. */
static struct ept_snapshot *merged(int zstd, struct snap_files *out)
{
	struct ept_snapshot_options options = {.zstd_level = zstd};
	struct ept_snapshot *s;
	char why[300] = "";
	uint8_t parent[16];

	*out = (struct snap_files){.memory = temp_file(0), .index = temp_file(0)};
	options.memory_fd = out->memory;
	options.index_fd = out->index;
	ept_snapshot_ids(snap_next.layers[0], options.id, parent);
	ck_assert_msg(!ept_snapshot_merge(snap_next.layers, snap_next.count, &options, &out->info,
					  why, sizeof(why)),
		      "%s", why);
	s = snap_open(out);
	ck_assert_int_eq(ept_snapshot_verify(s, why, sizeof(why)), 0);
	return s;
}

static void ck_assert_equal(const struct vm *a, const char *want)
{
	for (uint64_t page = 0; page < SNAP_PAGES; page++)
		ck_assert_msg(!memcmp((char *)a->hva + page * PAGE, want + page * PAGE, PAGE),
			      "page %lu", page);
}

/*
 * A full snapshot and two differences: of the VM as it goes on, or each of one that was
 * restored from those before. Pages become others, zeros, and zeros again something.
 */
START_TEST(differences_are_read_through)
{
	const struct snap_origin *o = &snap_origins[_i / 2];
	bool restored = _i % 2;
	struct vm first = snap_make(o), vm = first;
	char *want = malloc(SNAP_SIZE);
	struct snap_files files[3];

	snap_use(&vm);
	for (int n = 0; n < 3; n++) {
		if (n) {
			memset((char *)at(&vm, (uint64_t)n * 100), 0x10 + n, 3 * PAGE);
			memset((char *)at(&vm, (uint64_t)n * 300), 0, 20 * PAGE);
			if (!o->file)
				discard(&vm, (uint64_t)n * 450, 40);
			*at(&vm, 451) = 7;
		}
		snap_take(&vm, &files[n], n == 1 ? 1 : o->zstd);
		if (n) /* 3, 20, 40 and 1 pages lie in so many extents */
			ck_assert_uint_le(files[n].info.extents, 2 + 3 + 4 + 1);
		memcpy(want, (char *)vm.hva, SNAP_SIZE);
		add_layer(&files[n]);
		if (!restored)
			continue;
		if (n)
			vm_destroy(&vm);
		vm = vm_of_layers(first.fd);
	}
	if (!restored)
		vm = vm_of_layers(first.fd);
	ck_assert_equal(&vm, want);
	vm_destroy(&vm);
	for (int zstd = 0; zstd < 2; zstd++) {
		struct snap_files all;
		struct ept_snapshot *one = merged(zstd, &all);

		vm = snap_vm(&one_thread, &one, 1, first.fd);
		vm_start(&vm);
		ck_assert_equal(&vm, want);
		vm_destroy(&vm);
		ept_snapshot_close(one);
		snap_close(&all);
	}
	/* Not without its parent, and not in another order. */
	struct ept_object *obj;
	ck_assert_int_eq(ept_object_snapshot(snap_next.layers, 2, GPA(0), SNAP_SIZE, NULL, &obj),
			 -EINVAL);
	ck_assert_int_eq(
	    ept_object_snapshot(snap_next.layers + 1, 1, GPA(0), SNAP_SIZE, NULL, &obj), -EINVAL);
	for (size_t i = 0; i < snap_next.count; i++)
		ept_snapshot_close(snap_next.layers[i]);
	for (int n = 0; n < 3; n++)
		snap_close(&files[n]);
	vm_destroy(&first);
	free(want);
}
END_TEST

/* Nothing happened: nothing is written. */
START_TEST(no_difference)
{
	struct vm vm = snap_make(&snap_origins[_i]);
	struct snap_files full, diff;

	snap_use(&vm);
	snap_take(&vm, &full, 0);
	add_layer(&full);
	snap_take(&vm, &diff, 0);
	ck_assert_uint_eq(diff.info.extents, 0);
	*at(&vm, 700) ^= 1;
	snap_close(&diff);
	snap_take(&vm, &diff, 0);
	ck_assert_uint_eq(diff.info.extents, 1);
	ept_snapshot_close(snap_next.layers[0]);
	snap_close(&full);
	snap_close(&diff);
	vm_destroy(&vm);
}
END_TEST

/* Of VMs that have nothing in common but their areas and the file: what one wrote the other did
 * not. */
START_TEST(any_snapshot_is_a_parent)
{
	const struct snap_origin *o = &snap_origins[_i];
	struct vm other = snap_make(o), vm = snap_make(o), back;
	char *want = malloc(SNAP_SIZE);
	struct snap_files parent, diff;

	snap_use(&other);
	*at(&vm, 3) = 1;
	memset((char *)at(&vm, 500), 0, 3 * PAGE);
	snap_take(&other, &parent, o->zstd);
	add_layer(&parent);
	snap_take(&vm, &diff, 0);
	memcpy(want, (char *)vm.hva, SNAP_SIZE);
	add_layer(&diff);
	back = vm_of_layers(other.fd);
	ck_assert_equal(&back, want);
	vm_destroy(&back);
	for (size_t i = 0; i < snap_next.count; i++)
		ept_snapshot_close(snap_next.layers[i]);
	snap_close(&parent);
	snap_close(&diff);
	vm_destroy(&other);
	vm_destroy(&vm);
	free(want);
}
END_TEST

/* All that the writer needs of a parent; whatever else it is not the difference to. */
START_TEST(index_alone)
{
	struct vm vm = snap_make(&snap_origins[0]), small;
	struct snap_files full, diff;
	char why[300] = "";

	snap_use(&vm);
	snap_take(&vm, &full, 1);
	ck_assert_int_eq(
	    ept_snapshot_open(-1, full.index, "index", &snap_next.layers[0], why, sizeof(why)), 0);
	snap_next.count = 1;
	*at(&vm, 700) ^= 1;
	snap_take(&vm, &diff, 0);
	ck_assert_uint_eq(diff.info.extents, 1);
	snap_close(&diff);
	small = vm_anon(SNAP_SIZE / 2);
	ck_assert_int_eq(snap_try(&small, &diff, 0, false, why), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why, "machine with other memory"));
	ept_snapshot_close(snap_next.layers[0]);
	snap_close(&full);
	snap_close(&diff);
	vm_destroy(&small);
	vm_destroy(&vm);
}
END_TEST

/* A chain with a damaged page does not become a whole snapshot. */
START_TEST(damage_is_not_merged)
{
	struct ept_snapshot_options options = {0};
	struct vm vm = snap_make(&snap_origins[0]);
	struct snap_files full, diff, out = {.memory = temp_file(0), .index = temp_file(0)};
	char why[300] = "";

	snap_use(&vm);
	snap_take(&vm, &full, 0);
	add_layer(&full);
	*at(&vm, 700) ^= 1;
	snap_take(&vm, &diff, 1);
	add_layer(&diff);
	snap_flip(full.memory, 8 * (uint64_t)lseek(full.memory, 0, SEEK_DATA) + 5);
	options.memory_fd = out.memory;
	options.index_fd = out.index;
	ck_assert_int_eq(
	    ept_snapshot_merge(snap_next.layers, 2, &options, &out.info, why, sizeof(why)),
	    -EBADMSG);
	ck_assert_ptr_nonnull(strstr(why, "wrong checksum"));
	ck_assert_int_eq(
	    ept_snapshot_merge(snap_next.layers, 1, &options, &out.info, why, sizeof(why)),
	    -EINVAL);
	ck_assert_uint_eq(snap_size(out.index), 0);
	for (size_t i = 0; i < snap_next.count; i++)
		ept_snapshot_close(snap_next.layers[i]);
	snap_close(&full);
	snap_close(&diff);
	snap_close(&out);
	vm_destroy(&vm);
}
END_TEST

/* An index that is long, has right checksums, and costs its maker nothing: no memory is asked for.
 */
START_TEST(index_with_holes)
{
	struct vm vm = snap_make(&snap_origins[0]);
	struct snap_files full;
	struct ept_index_header h;
	char why[300] = "";

	snap_use(&vm);
	snap_take(&vm, &full, 0);
	ck_assert_int_eq(pread(full.index, &h, sizeof(h), 0), sizeof(h));
	h.extents = 1UL << 24;
	h.sum = ept_checksum(&h, offsetof(struct ept_index_header, sum));
	ck_assert_int_eq(pwrite(full.index, &h, sizeof(h), 0), sizeof(h));
	ck_assert_int_eq(
	    ftruncate(full.index, (off_t)(sizeof(h) + h.areas * sizeof(struct ept_index_area) +
					  h.extents * sizeof(struct ept_index_extent))),
	    0);
	ck_assert_int_eq(snap_open_error(&full, why), -EINVAL);
	ck_assert_msg(strstr(why, "holes"), "%s", why);
	snap_close(&full);
	vm_destroy(&vm);
}
END_TEST

Suite *suite_uffd_chain(void)
{
	Suite *suite = suite_create("ept on userfaultfd: chains");
	TCase *tc = tcase_create("chains");

	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, differences_are_read_through, 0, 2 * SNAP_ORIGINS);
	tcase_add_loop_test(tc, no_difference, 0, SNAP_ORIGINS);
	tcase_add_loop_test(tc, any_snapshot_is_a_parent, 0, SNAP_ORIGINS);
	tcase_add_test(tc, index_alone);
	tcase_add_test(tc, damage_is_not_merged);
	tcase_add_test(tc, index_with_holes);
	suite_add_tcase(suite, tc);
	return suite;
}
