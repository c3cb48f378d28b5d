/*
 * Memory of a snapshot: written by a forked child while the parent goes on, and restored
 * page by page. What the restored VM reads is what was there in the pause.
 */
#include "ept/snapshot.h"
#include "ept/snapshot_format.h"
#include "tests/ept/uffd_suites.h"
#include "tests/ept/util.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define PAGES	1040UL /* the last extent of the last leaf, too */
#define SIZE	(PAGES * PAGE)
#define HOLD_MS 5000
#define WRITTEN 61UL

static const uint8_t id[16] = "0123456789abcde";

struct files {
	int memory, index;
	struct ept_snapshot_info info; /* of a child: not filled in */
};

static int empty_file(void)
{
	return temp_file(0);
}

/* In the child: its status is the writer's error. */
/* What the next snapshots are differences to, and their identity. */
static struct ept_snapshot *layers[4];
static size_t nr_layers;
static uint8_t next_id;

/* A file that the child finds cut short, where it may not ask what a page is; -1: none. */
static int cut_short = -1;
static struct ept_space *failing;

static void on_bus_error(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)context;
	if (!ept_space_bus_error(failing, info))
		_exit(254);
}

static void cut(struct ept_space *space)
{
	struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};

	failing = space;
	if (sigaction(SIGBUS, &action, NULL) || ftruncate(cut_short, 0))
		_exit(253);
	close(space->pagemap_fd);
	space->pagemap_fd = -1;
}

static _Noreturn void write_and_end(struct ept_space *space, const struct files *files, int zstd,
				    int out)
{
	struct ept_snapshot_options options = {
	    .memory_fd = files->memory, .index_fd = files->index, .zstd_level = zstd};
	struct ept_snapshot_info info;
	char why[300] = "";
	int err;

	memcpy(options.id, id, sizeof(id));
	options.id[15] = next_id;
	options.layers = layers;
	options.count = nr_layers;
	ept_space_fork_frozen(space, open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
	if (cut_short >= 0)
		cut(space);
	err = ept_snapshot_write(space, &options, &info, why, sizeof(why));
	if (write(out, &info, sizeof(info)) != sizeof(info) ||
	    write(out, why, sizeof(why)) != sizeof(why))
		_exit(255);
	_exit(-err);
}

/* The writer's error; *@why and the files' info are what it said. */
static int snapshot_of(struct vm *vm, struct files *files, int zstd, bool overwrite, char why[300])
{
	struct ept_fork f;
	int fds[2], status;
	pid_t child;

	files->memory = empty_file();
	files->index = empty_file();
	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(ept_space_hold(vm->space, HOLD_MS), 0);
	ck_assert_int_eq(ept_space_fork_begin(vm->space, &f), 0);
	child = fork();
	if (!child)
		write_and_end(vm->space, files, zstd, fds[1]);
	ept_space_fork_parent(vm->space);
	ept_space_release(vm->space);
	if (overwrite) /* while it is being written */
		memset(vm->hva, 0x77, vm->size);
	ck_assert_int_eq(read(fds[0], &files->info, sizeof(files->info)), sizeof(files->info));
	ck_assert_int_eq(read(fds[0], why, 300), 300);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ept_space_fork_done(vm->space, &f);
	close(fds[0]);
	close(fds[1]);
	ck_assert(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

/* --- what is in memory ------------------------------------------------------------------ */

/* Untouched, read, written with bytes that compress or not, written with zeros; in turn. */
static void use(const struct vm *vm)
{
	for (uint64_t page = 0; page < PAGES; page++) {
		volatile char *p = at(vm, page);

		switch (page / 5 % 5) {
		case 0:
			break;
		case 1:
			(void)*p;
			break;
		case 2:
			memset((char *)p, (int)(page % 250) + 1, PAGE);
			break;
		case 3:
			for (uint64_t i = 0; i < PAGE; i++)
				p[i] = (char)pattern_byte(~(page * PAGE + i));
			break;
		case 4:
			memset((char *)p, 0, PAGE);
			break;
		}
	}
}

/* @file: its pattern is below what was not written. */
static void expect_page(uint64_t page, bool file, char *to)
{
	for (uint64_t i = 0; i < PAGE; i++)
		switch (page / 5 % 5) {
		case 0:
		case 1:
			to[i] = (char)(file ? pattern_byte(page * PAGE + i) : 0);
			break;
		case 2:
			to[i] = (char)((page % 250) + 1);
			break;
		case 3:
			to[i] = (char)pattern_byte(~(page * PAGE + i));
			break;
		case 4:
			to[i] = 0;
			break;
		}
}

static bool page_is(const struct vm *vm, uint64_t page, bool file)
{
	char want[PAGE];

	expect_page(page, file, want);
	return !memcmp((char *)vm->hva + page * PAGE, want, PAGE);
}

static bool all_are_there(const struct vm *vm, bool file)
{
	for (uint64_t page = 0; page < PAGES; page++)
		if (!page_is(vm, page, file))
			return false;
	return true;
}

static const struct origin {
	enum ept_engine engine;
	enum ept_huge huge;
	bool file;
	int zstd;
} origins[] = {
    {EPT_ENGINE_HANDLER, EPT_HUGE_NEVER, false, 0},  {EPT_ENGINE_HANDLER, EPT_HUGE_NEVER, false, 3},
    {EPT_ENGINE_HANDLER, EPT_HUGE_ALWAYS, false, 0}, {EPT_ENGINE_HANDLER, EPT_HUGE_NEVER, true, 0},
    {EPT_ENGINE_HANDLER, EPT_HUGE_ALWAYS, true, 1},  {EPT_ENGINE_KERNEL, EPT_HUGE_NEVER, false, 0},
    {EPT_ENGINE_KERNEL, EPT_HUGE_ALWAYS, false, 1},  {EPT_ENGINE_KERNEL, EPT_HUGE_NEVER, true, 0},
};
#define NR_ORIGINS (int)(sizeof(origins) / sizeof(*origins))

static struct vm make(const struct origin *o)
{
	struct ept_config config = {
	    .vm_name = "test", .vcpus = 1, .engine = o->engine, .huge = o->huge};

	if (o->file)
		return vm_file_with(&config, SIZE, EPT_FILE_COW);
	return vm_create(&config, -1, 0, SIZE, EPT_FILE_COW);
}

/* --- restoring ---------------------------------------------------------------------------------
 */

struct restored {
	struct vm vm;
	struct ept_snapshot *snapshot;
};

/* Do restored spaces record what is asked for, or bring all in? */
static bool recording, bring_all;

static struct restored restore_with(const struct ept_config *config, const struct files *files,
				    int origin_fd, const struct ept_working_set *set)
{
	struct restored r = {.vm = {.size = SIZE, .fd = -1}};
	struct ept_object *obj, *origin = NULL;
	struct ept_slot slot;
	char why[300];

	ck_assert_int_eq(
	    ept_snapshot_open(files->memory, files->index, "snap", &r.snapshot, why, sizeof(why)),
	    0);
	if (origin_fd >= 0)
		ck_assert_int_eq(
		    ept_object_file(origin_fd, "disk.img", 0, SIZE, EPT_FILE_COW, &origin), 0);
	ck_assert_int_eq(ept_object_snapshot(&r.snapshot, 1, GPA(0), SIZE, origin, &obj), 0);
	ept_object_put(origin);
	ck_assert_int_eq(ept_space_create(config, &r.vm.space), 0);
	ck_assert_int_eq(ept_area_add(r.vm.space, "ram", GPA(0), SIZE, obj, &r.vm.area), 0);
	ept_object_put(obj);
	if (set)
		ck_assert_int_eq(ept_space_prefetch(r.vm.space, set), 0);
	if (recording)
		ck_assert_int_eq(ept_space_record(r.vm.space), 0);
	if (bring_all)
		ck_assert_int_eq(ept_space_prefetch_all(r.vm.space), 0);
	ck_assert_int_eq(ept_space_start(r.vm.space), 0);
	ck_assert_uint_eq(ept_space_slots(r.vm.space, &slot, 1), 1);
	r.vm.hva = slot.hva;
	ept_vcpu_bind(r.vm.space, 0, gettid());
	return r;
}

static struct restored restore(const struct files *files, int origin_fd)
{
	return restore_with(&one_thread, files, origin_fd, NULL);
}

static void restored_destroy(struct restored *r)
{
	vm_destroy(&r->vm);
	ept_snapshot_close(r->snapshot);
}

static void close_files(const struct files *files)
{
	close(files->memory);
	close(files->index);
}

/* For each engine and kind; the parent overwrites everything meanwhile. */
START_TEST(restored_is_what_was)
{
	const struct origin *o = &origins[_i];
	struct vm vm = make(o);
	struct restored r;
	struct files files;
	char why[300];

	use(&vm);
	ck_assert_msg(!snapshot_of(&vm, &files, o->zstd, true, why), "%s", why);
	r = restore(&files, vm.fd);
	ck_assert(all_are_there(&r.vm, o->file));
	ck_assert_int_eq(ept_snapshot_verify(r.snapshot, why, sizeof(why)), 0);
	memset(r.vm.hva, 0x55, SIZE);
	restored_destroy(&r);
	r = restore(&files, vm.fd); /* the first one wrote into nothing but itself */
	ck_assert(all_are_there(&r.vm, o->file));
	restored_destroy(&r);
	close_files(&files);
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
	struct vm vm = vm_file_with(&config, SIZE, EPT_FILE_COW);
	struct restored r;
	struct files files;
	uint64_t granted = 0;
	char why[300];

	for (uint64_t page = 0; page < PAGES; page++)
		(void)*at(&vm, page);
	for (uint64_t page = 0; page < WRITTEN; page++)
		*at(&vm, page) = (char)pattern_byte(page * PAGE); /* what it was */
	for (uint64_t page = WRITTEN; page < PAGES; page++) {
		const struct ept_leaf *leaf = ept_mirror_find(&vm.space->mirror, GPA(page * PAGE));

		granted += ept_pte_get(leaf, ept_leaf_index(GPA(page * PAGE))) == EPT_PTE_PRIVATE;
	}
	ck_assert_uint_gt(granted, 0);
	ept_object_drop(vm.area->obj, 0, PAGES);
	ck_assert_msg(!snapshot_of(&vm, &files, 0, false, why), "%s", why);
	r = restore(&files, vm.fd);
	for (uint64_t page = 0; page < PAGES; page++) {
		ck_assert(has_pattern(at(&r.vm, page), page * PAGE, PAGE));
		ck_assert(has_pattern(at(&vm, page), page * PAGE, PAGE)); /* the source's, too */
	}
	restored_destroy(&r);
	close_files(&files);
	vm_destroy(&vm);
}
END_TEST

/* Holes stay holes, zeros are not stored, and the file can be mapped as it is. */
START_TEST(full_snapshot_is_sparse)
{
	struct vm vm = make(&origins[0]);
	struct files files;
	char why[300], page[PAGE];
	struct stat st;
	uint64_t data = 0;

	use(&vm);
	ck_assert_int_eq(snapshot_of(&vm, &files, 0, false, why), 0);
	for (uint64_t i = 0; i < PAGES; i++)
		data += i / 5 % 5 == 2 || i / 5 % 5 == 3;
	ck_assert_uint_eq(files.info.pages, data);
	ck_assert_uint_eq(files.info.stored_bytes, data * PAGE);
	ck_assert_uint_eq(files.info.memory_bytes, SIZE);
	ck_assert_int_eq(fstat(files.memory, &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_size, SIZE);
	ck_assert_uint_lt((uint64_t)st.st_blocks * 512, data * PAGE + EPT_EXTENT); /* and its map */
	for (uint64_t i = 0; i < PAGES; i++) {
		expect_page(i, false, page);
		ck_assert(file_has(files.memory, i * PAGE, page, PAGE));
	}
	close_files(&files);
	vm_destroy(&vm);
}
END_TEST

/* A page is read with its extent, once; a zero page reads nothing. */
START_TEST(restore_is_lazy)
{
	struct vm vm = make(&origins[0]);
	struct ept_case_stats stats;
	struct restored r;
	struct files files;
	char why[300];

	memset((char *)at(&vm, 16), 1, 16 * PAGE);
	memset((char *)at(&vm, 64), 2, 3 * PAGE);
	ck_assert_int_eq(snapshot_of(&vm, &files, 0, false, why), 0);
	ck_assert_uint_eq(files.info.extents, 2);
	r = restore(&files, -1);
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
	restored_destroy(&r);
	close_files(&files);
	vm_destroy(&vm);
}
END_TEST

/* Given back: zero from then on, also where nothing was touched before, and after a fork. */
START_TEST(discarded_is_zero)
{
	struct vm vm = make(&origins[0]);
	struct restored r;
	struct files files, again;
	char why[300];

	memset(vm.hva, 3, SIZE);
	ck_assert_int_eq(snapshot_of(&vm, &files, 0, false, why), 0);
	r = restore(&files, -1);
	ck_assert_int_eq(*at(&r.vm, 100), 3);
	discard(&r.vm, 100, 2);
	discard(&r.vm, 600, 1);
	ck_assert_int_eq(*at(&r.vm, 100), 0);
	ck_assert_int_eq(*at(&r.vm, 101), 0);
	ck_assert_int_eq(*at(&r.vm, 599), 3);
	*at(&r.vm, 600) = 0;
	ck_assert_int_eq(at(&r.vm, 600)[7], 0);
	/* A snapshot of the restored VM is whole, whatever was touched of it. */
	ck_assert_msg(!snapshot_of(&r.vm, &again, 1, false, why), "%s", why);
	restored_destroy(&r);
	r = restore(&again, -1);
	for (uint64_t page = 0; page < PAGES; page++)
		ck_assert_int_eq(at(&r.vm, page)[9],
				 page == 100 || page == 101 || page == 600 ? 0 : 3);
	restored_destroy(&r);
	close_files(&files);
	close_files(&again);
	vm_destroy(&vm);
}
END_TEST

/* --- differences ---------------------------------------------------------------------------- */

static void add_layer(const struct files *files)
{
	char why[300];

	memmove(layers + 1, layers, nr_layers * sizeof(*layers));
	ck_assert_int_eq(
	    ept_snapshot_open(files->memory, files->index, "snap", &layers[0], why, sizeof(why)),
	    0);
	nr_layers++;
	next_id++;
}

static struct vm vm_of_layers(struct ept_snapshot *const *from, size_t count, int origin_fd)
{
	struct vm vm = {.size = SIZE, .fd = -1};
	struct ept_object *obj, *origin = NULL;
	struct ept_slot slot;

	if (origin_fd >= 0)
		ck_assert_int_eq(
		    ept_object_file(origin_fd, "disk.img", 0, SIZE, EPT_FILE_COW, &origin), 0);
	ck_assert_int_eq(ept_object_snapshot(from, count, GPA(0), SIZE, origin, &obj), 0);
	ept_object_put(origin);
	ck_assert_int_eq(ept_space_create(&one_thread, &vm.space), 0);
	ck_assert_int_eq(ept_area_add(vm.space, "ram", GPA(0), SIZE, obj, &vm.area), 0);
	ept_object_put(obj);
	ck_assert_int_eq(ept_space_start(vm.space), 0);
	ck_assert_uint_eq(ept_space_slots(vm.space, &slot, 1), 1);
	vm.hva = slot.hva;
	return vm;
}

static void ck_assert_equal(const struct vm *a, const char *want)
{
	for (uint64_t page = 0; page < PAGES; page++)
		ck_assert_msg(!memcmp((char *)a->hva + page * PAGE, want + page * PAGE, PAGE),
			      "page %lu", page);
}

/*
 * A full snapshot and two differences: of the VM as it goes on, or each of one that was
 * restored from those before. Pages become others, zeros, and zeros again something.
 */
START_TEST(differences_are_read_through)
{
	const struct origin *o = &origins[_i / 2];
	bool restored = _i % 2;
	struct vm first = make(o), vm = first;
	char why[300], *want = malloc(SIZE);
	struct files files[3];

	use(&vm);
	for (int n = 0; n < 3; n++) {
		if (n) {
			memset((char *)at(&vm, (uint64_t)n * 100), 0x10 + n, 3 * PAGE);
			memset((char *)at(&vm, (uint64_t)n * 300), 0, 20 * PAGE);
			if (!o->file)
				discard(&vm, (uint64_t)n * 450, 40);
			*at(&vm, 451) = 7;
		}
		ck_assert_msg(!snapshot_of(&vm, &files[n], n == 1 ? 1 : o->zstd, false, why), "%s",
			      why);
		if (n) /* 3, 20, 40 and 1 pages lie in so many extents */
			ck_assert_uint_le(files[n].info.extents, 2 + 3 + 4 + 1);
		memcpy(want, (char *)vm.hva, SIZE);
		add_layer(&files[n]);
		if (!restored)
			continue;
		if (n)
			vm_destroy(&vm);
		vm = vm_of_layers(layers, nr_layers, first.fd);
	}
	if (!restored)
		vm = vm_of_layers(layers, nr_layers, first.fd);
	ck_assert_equal(&vm, want);
	vm_destroy(&vm);
	/* Not without its parent, and not in another order. */
	struct ept_object *obj;
	ck_assert_int_eq(ept_object_snapshot(layers, 2, GPA(0), SIZE, NULL, &obj), -EINVAL);
	ck_assert_int_eq(ept_object_snapshot(layers + 1, 1, GPA(0), SIZE, NULL, &obj), -EINVAL);
	for (size_t i = 0; i < nr_layers; i++)
		ept_snapshot_close(layers[i]);
	for (int n = 0; n < 3; n++)
		close_files(&files[n]);
	vm_destroy(&first);
	free(want);
}
END_TEST

/* Nothing happened: nothing is written. */
START_TEST(no_difference)
{
	struct vm vm = make(&origins[_i]);
	struct files full, diff;
	char why[300];

	use(&vm);
	ck_assert_int_eq(snapshot_of(&vm, &full, 0, false, why), 0);
	add_layer(&full);
	ck_assert_int_eq(snapshot_of(&vm, &diff, 0, false, why), 0);
	ck_assert_uint_eq(diff.info.extents, 0);
	*at(&vm, 700) ^= 1;
	close_files(&diff);
	ck_assert_int_eq(snapshot_of(&vm, &diff, 0, false, why), 0);
	ck_assert_uint_eq(diff.info.extents, 1);
	ept_snapshot_close(layers[0]);
	close_files(&full);
	close_files(&diff);
	vm_destroy(&vm);
}
END_TEST

/* Once verified the kernel may map it: clones write into nothing but themselves. */
START_TEST(template_is_mapped)
{
	struct ept_config config = {.vm_name = "test", .vcpus = 1, .engine = EPT_ENGINE_KERNEL};
	struct vm vm = make(&origins[_i]);
	struct ept_snapshot *s;
	struct ept_object *obj;
	struct files files;
	char why[300];

	use(&vm);
	ck_assert_int_eq(snapshot_of(&vm, &files, origins[_i].zstd, false, why), 0);
	ck_assert_int_eq(ept_snapshot_open(files.memory, files.index, "snap", &s, why, sizeof(why)),
			 0);
	if (!origins[_i].zstd && !origins[_i].file)
		ck_assert_int_eq(ept_object_template(s, GPA(0), SIZE, &obj), -EPERM);
	ck_assert_int_eq(ept_snapshot_verify(s, why, sizeof(why)), 0);
	ck_assert_int_eq(ept_object_template(s, GPA(0), SIZE - PAGE, &obj), -EINVAL);
	if (origins[_i].zstd || origins[_i].file)
		ck_assert_int_eq(ept_object_template(s, GPA(0), SIZE, &obj), -EINVAL);
	for (int n = 0; n < 2 && !origins[_i].zstd && !origins[_i].file; n++) {
		struct vm clone = {.size = SIZE, .fd = -1};
		struct ept_slot slot;

		ck_assert_int_eq(ept_object_template(s, GPA(0), SIZE, &obj), 0);
		ck_assert_int_eq(ept_space_create(&config, &clone.space), 0);
		ck_assert_int_eq(ept_area_add(clone.space, "ram", GPA(0), SIZE, obj, &clone.area),
				 0);
		ept_object_put(obj);
		ck_assert_int_eq(ept_space_start(clone.space), 0);
		ept_space_slots(clone.space, &slot, 1);
		clone.hva = slot.hva;
		ck_assert(all_are_there(&clone, false));
		memset(clone.hva, 9, SIZE);
		vm_destroy(&clone);
	}
	ept_snapshot_close(s);
	close_files(&files);
	vm_destroy(&vm);
}
END_TEST

/* --- damage -------------------------------------------------------------------------------- */

static void flip(int fd, uint64_t bit)
{
	uint8_t byte;

	ck_assert_int_eq(pread(fd, &byte, 1, (off_t)(bit / 8)), 1);
	byte ^= (uint8_t)(1U << bit % 8);
	ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)(bit / 8)), 1);
}

static uint64_t size_of(int fd)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	return (uint64_t)st.st_size;
}

/* Of the index every bit; each is refused with a line. */
START_TEST(index_with_a_wrong_bit)
{
	struct vm vm = make(&origins[0]);
	struct ept_snapshot *s;
	struct files files;
	char why[300];

	memset((char *)at(&vm, 3), 1, 40 * PAGE);
	ck_assert_int_eq(snapshot_of(&vm, &files, _i, false, why), 0);
	for (uint64_t bit = 0; bit < size_of(files.index) * 8; bit++) {
		flip(files.index, bit);
		*why = 0;
		ck_assert_int_eq(
		    ept_snapshot_open(files.memory, files.index, "snap", &s, why, sizeof(why)),
		    -EINVAL);
		ck_assert(!strncmp(why, "snap: memory.index: ", 20));
		flip(files.index, bit);
	}
	for (uint64_t len = size_of(files.index); len-- > 0;) {
		ck_assert_int_eq(ftruncate(files.index, (off_t)len), 0);
		ck_assert_int_eq(
		    ept_snapshot_open(files.memory, files.index, "snap", &s, why, sizeof(why)),
		    -EINVAL);
	}
	close_files(&files);
	vm_destroy(&vm);
}
END_TEST

/*
 * Of the memory, some bits of what is stored: refused by a verify, and by the first touch
 * of the extent, before any of it is there.
 */
START_TEST(memory_with_a_wrong_bit)
{
	struct vm vm = make(&origins[0]);
	struct restored r;
	struct files files;
	char why[300], c;
	uint64_t at_byte;

	for (uint64_t i = 64 * PAGE; i < 80 * PAGE; i++)
		vm.hva[i] = (char)pattern_byte(i * 7);
	ck_assert_int_eq(snapshot_of(&vm, &files, _i, false, why), 0);
	at_byte = _i ? size_of(files.memory) / 2 : 64 * PAGE + 12345;
	flip(files.memory, at_byte * 8 + 3);
	r = restore(&files, -1);
	ck_assert_int_eq(ept_snapshot_verify(r.snapshot, why, sizeof(why)), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(why, "for gpa 0x40000, has a wrong checksum"));
	ck_assert_int_eq(ept_read(r.vm.space, GPA(66 * PAGE), &c, 1, EPT_ORIGIN_DEVICE), -EBADMSG);
	ck_assert_ptr_nonnull(ept_space_failure(r.vm.space));
	ck_assert_ptr_nonnull(strstr(ept_space_failure(r.vm.space)->message,
				     "for gpa 0x40000, has a wrong checksum"));
	assert_faults(&r.vm, EPT_CASE_IO_ERROR, 1);
	ck_assert_uint_eq(area_info(&r.vm).resident, 0);
	restored_destroy(&r);
	ck_assert_int_eq(ftruncate(files.memory, (off_t)size_of(files.memory) - 1), 0);
	ck_assert_int_eq(
	    ept_snapshot_open(files.memory, files.index, "snap", &r.snapshot, why, sizeof(why)),
	    -EINVAL);
	close_files(&files);
	vm_destroy(&vm);
}
END_TEST

/* A bit at each of many places, those that are not stored included: refused, or what it was. */
START_TEST(wrong_bits_all_over)
{
	struct vm vm = make(&origins[0]);
	struct ept_snapshot *s;
	struct files files;
	char why[300];
	uint64_t bits, seed = 12345, refused = 0;

	use(&vm);
	ck_assert_int_eq(snapshot_of(&vm, &files, _i, false, why), 0);
	bits = size_of(files.memory) * 8;
	ck_assert_int_eq(ept_snapshot_open(files.memory, files.index, "snap", &s, why, 300), 0);
	for (int n = 0; n < 100; n++) {
		int err;

		seed = seed * 6364136223846793005UL + 1442695040888963407UL;
		flip(files.memory, (seed >> 11) % bits);
		err = ept_snapshot_verify(s, why, sizeof(why));
		ck_assert(err == 0 || err == -EBADMSG);
		refused += err != 0;
		flip(files.memory, (seed >> 11) % bits);
	}
	ck_assert_uint_gt(refused, 60); /* most of it is stored, or lies in an extent that is */
	ck_assert_int_eq(ept_snapshot_verify(s, why, sizeof(why)), 0);
	ept_snapshot_close(s);
	close_files(&files);
	vm_destroy(&vm);
}
END_TEST

/* A byte where nothing is stored: who maps the file would see it, so it is not found whole. */
START_TEST(hole_with_bytes)
{
	struct vm vm = make(&origins[0]);
	struct ept_snapshot *s;
	struct ept_object *obj;
	struct files files;
	char why[300];

	memset((char *)at(&vm, 100), 1, PAGE);
	ck_assert_int_eq(snapshot_of(&vm, &files, 0, false, why), 0);
	ck_assert_int_eq(ept_snapshot_open(files.memory, files.index, "snap", &s, why, 300), 0);
	ck_assert_int_eq(ept_snapshot_verify(s, why, sizeof(why)), 0);
	for (int i = 0; i < 3; i++) {
		static const uint64_t places[] = {7 * PAGE, 112 * PAGE, SIZE - 1};

		flip(files.memory, places[i] * 8);
		ck_assert_int_eq(ept_snapshot_verify(s, why, sizeof(why)), -EBADMSG);
		ck_assert_int_eq(ept_object_template(s, GPA(0), SIZE, &obj), -EPERM);
		flip(files.memory, places[i] * 8);
		ck_assert_int_eq(ept_snapshot_verify(s, why, sizeof(why)), 0); /* zeros will do */
	}
	ept_snapshot_close(s);
	close_files(&files);
	vm_destroy(&vm);
}
END_TEST

/* The index is hostile, its checksums are right: what cannot be is refused, never read. */
START_TEST(hostile_index)
{
	static const struct {
		size_t at;
		uint64_t value;
		unsigned bytes;
	} lies[] = {
	    {16, UINT64_MAX, 8},  {24, UINT64_MAX, 8}, {24, 0, 8},	   {24, 1, 8},
	    {32, PAGE, 8},	  {104, 1, 8},	       {104, ~0xfffUL, 8}, {112, 0, 8},
	    {112, UINT64_MAX, 8}, {120, ~0xfffUL, 8},  {128, 8, 4},	   {136, 0x20000, 8},
	    {136, 1UL << 47, 8},  {144, ~0xfffUL, 8},  {144, 4096, 8},	   {152, UINT32_MAX, 4},
	    {156, 64, 2},	  {156, 0xffff, 2},    {152, 4096, 4},	   {156, 17, 2},
	    {156, 0, 2},	  {158, 2, 2},	       {158, 0xffff, 2},   {158, 3, 2},
	    {160, 0, 2},	  {162, 0xffff, 2},    {164, 1, 4},
	};
	struct vm vm = make(&origins[0]);
	struct ept_snapshot *s;
	struct ept_index_header *h;
	struct files files;
	char why[300], index[4096], good[4096];
	size_t size;

	memset((char *)at(&vm, 3), 1, 40 * PAGE);
	ck_assert_int_eq(snapshot_of(&vm, &files, 0, false, why), 0);
	size = size_of(files.index);
	ck_assert_uint_le(size, sizeof(index));
	ck_assert_int_eq(pread(files.index, good, size, 0), size);
	for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
		int err;

		memcpy(index, good, size);
		memcpy(index + lies[i].at, &lies[i].value, lies[i].bytes);
		h = (struct ept_index_header *)(void *)index;
		h->table = ept_checksum(index + sizeof(*h), size - sizeof(*h));
		h->sum = ept_checksum(h, offsetof(struct ept_index_header, sum));
		ck_assert_int_eq(pwrite(files.index, index, size, 0), size);
		err = ept_snapshot_open(files.memory, files.index, "snap", &s, why, sizeof(why));
		/* Compressed by its flags only: what comes out of it is not a page. */
		if (!err && lies[i].value == 3) {
			ck_assert_int_lt(ept_snapshot_verify(s, why, sizeof(why)), 0);
			ept_snapshot_close(s);
			continue;
		}
		ck_assert_msg(err == -EINVAL, "lie %zu: %d", i, err);
	}
	close_files(&files);
	vm_destroy(&vm);
}
END_TEST

/* A page alone is not worth the VM: with poison it goes on. */
START_TEST(wrong_extent_is_poisoned)
{
	struct ept_config config = {.vm_name = "test", .vcpus = 1, .on_io_error = EPT_IO_POISON};
	struct vm vm = make(&origins[0]);
	struct restored r;
	struct files files;
	char why[300], c;

	memset(vm.hva, 3, SIZE);
	ck_assert_int_eq(snapshot_of(&vm, &files, 0, false, why), 0);
	flip(files.memory, 100 * PAGE * 8);
	r = restore_with(&config, &files, -1, NULL);
	if (ept_space_can_poison(r.vm.space)) {
		ck_assert_int_eq(ept_read(r.vm.space, GPA(100 * PAGE), &c, 1, EPT_ORIGIN_DEVICE),
				 -EIO);
		ck_assert(ept_poisoned(r.vm.space, GPA(100 * PAGE)));
		ck_assert_ptr_null(ept_space_failure(r.vm.space));
		ck_assert_int_eq(*at(&r.vm, 200), 3);
	}
	restored_destroy(&r);
	close_files(&files);
	vm_destroy(&vm);
}
END_TEST

START_TEST(writer_runs_out_of_space)
{
	struct vm vm = make(&origins[_i]);
	struct files files;
	char why[300];

	use(&vm);
	inject_set(pwrite_errno, ENOSPC);
	ck_assert_int_eq(snapshot_of(&vm, &files, origins[_i].zstd, false, why), -ENOSPC);
	inject_set(pwrite_errno, 0);
	ck_assert_ptr_nonnull(strstr(why, "No space left"));
	close_files(&files);
	inject_set(fdatasync_errno, EIO);
	ck_assert_int_eq(snapshot_of(&vm, &files, origins[_i].zstd, false, why), -EIO);
	inject_set(fdatasync_errno, 0);
	close_files(&files);
	ck_assert_int_eq(snapshot_of(&vm, &files, origins[_i].zstd, false, why), 0);
	close_files(&files);
	ck_assert(all_are_there(&vm, false)); /* the source is well */
	vm_destroy(&vm);
}
END_TEST

/* What its file no longer has is not written as zeros; and it is nothing to the parent. */
START_TEST(file_is_cut_short_meanwhile)
{
	struct vm vm = make(&origins[NR_ORIGINS - 1]);
	struct pollfd failed = {.fd = ept_space_failure_fd(vm.space), .events = POLLIN};
	struct files files;
	char why[300];

	memset(vm.hva, 3, 10 * PAGE);
	cut_short = vm.fd;
	ck_assert_int_eq(snapshot_of(&vm, &files, 0, false, why), -EIO);
	cut_short = -1;
	ck_assert_ptr_nonnull(strstr(why, "it shrank from"));
	ck_assert_uint_eq(size_of(files.index), 0);
	ck_assert_int_eq(poll(&failed, 1, 0), 0);
	ck_assert_ptr_null(ept_space_failure(vm.space));
	close_files(&files);
	vm_destroy(&vm);
}
END_TEST

/* --- the working set ---------------------------------------------------------------------------
 */

static void wait_for_prefetch(const struct restored *r, struct ept_prefetch_stats *stats)
{
	do {
		sched_yield();
		ept_prefetch_stats(r->vm.space, stats);
	} while (!stats->done);
}

/* Every 97th page is in it, in this order, but for the zero pages. */
static uint64_t asked_for(const struct vm *vm)
{
	uint64_t n = 0;

	for (uint64_t page = 5; page < PAGES; page += 97) {
		ck_assert_int_eq(*at(vm, page), page == 5 ? 0 : 3);
		n += page != 5;
	}
	return n;
}

static void ck_record(const struct files *files, int fd, uint64_t *n)
{
	struct restored r;

	recording = true;
	r = restore(files, -1);
	recording = false;
	*n = asked_for(&r.vm);
	ck_assert_int_eq(ept_working_set_save(r.vm.space, id, fd), *n);
	restored_destroy(&r);
}

START_TEST(working_set_comes_first)
{
	static const uint8_t other[16] = "another";
	struct vm vm = make(&origins[0]);
	struct ept_prefetch_stats stats;
	struct ept_working_set *set;
	struct restored r;
	struct files files;
	char why[300];
	int fd = empty_file();
	uint64_t n;

	memset(vm.hva, 3, SIZE);
	memset((char *)at(&vm, 5), 0, PAGE);
	ck_assert_int_eq(snapshot_of(&vm, &files, _i, false, why), 0);
	ck_record(&files, fd, &n);
	ck_assert_int_eq(ept_working_set_open(fd, other, &set), -EINVAL);
	for (uint64_t bit = 0; bit < (72 + n * 8 + 16) * 8; bit++) {
		flip(fd, bit);
		ck_assert_int_eq(ept_working_set_open(fd, id, &set), -EINVAL);
		flip(fd, bit);
	}
	ck_assert_int_eq(ept_working_set_open(fd, id, &set), 0);
	r = restore_with(&one_thread, &files, -1, set);
	wait_for_prefetch(&r, &stats);
	ck_assert_uint_eq(stats.brought, n);
	ck_assert_uint_eq(area_info(&r.vm).resident, n * PAGE);
	asked_for(&r.vm);
	ept_space_stop(r.vm.space);
	ck_assert_uint_eq(events(r.vm.space), 1); /* the zero page's: nobody else had to ask */
	restored_destroy(&r);
	ept_working_set_close(set);
	for (uint64_t len = size_of(fd); len > 0; len -= len > 999 ? 999 : len) {
		ck_assert_int_eq(ftruncate(fd, (off_t)len - 1), 0);
		ck_assert_int_eq(ept_working_set_open(fd, id, &set), -EINVAL);
	}
	close(fd);
	close_files(&files);
	vm_destroy(&vm);
}
END_TEST

/* Bytes that are wrong: none of that chunk goes in, and who asks gets the snapshot's. */
START_TEST(wrong_working_set_is_not_used)
{
	struct vm vm = make(&origins[0]);
	struct ept_prefetch_stats stats;
	struct ept_working_set *set;
	struct restored r;
	struct files files;
	char why[300];
	int fd = empty_file();
	uint64_t n;

	memset(vm.hva, 3, SIZE);
	memset((char *)at(&vm, 5), 0, PAGE);
	ck_assert_int_eq(snapshot_of(&vm, &files, 0, false, why), 0);
	ck_record(&files, fd, &n);
	flip(fd, (size_of(fd) - PAGE / 2) * 8);
	ck_assert_int_eq(ept_working_set_open(fd, id, &set), 0);
	r = restore_with(&one_thread, &files, -1, set);
	wait_for_prefetch(&r, &stats);
	ck_assert_uint_eq(stats.brought, 0);
	asked_for(&r.vm);
	discard(&r.vm, 102, 1); /* given back: a set that comes late does not bring it again */
	ck_assert_uint_eq(ept_snap_put(r.vm.space, (uint64_t[]){102 * PAGE}, why, 1), 0);
	ck_assert_int_eq(*at(&r.vm, 102), 0);
	restored_destroy(&r);
	ept_working_set_close(set);
	close(fd);
	close_files(&files);
	vm_destroy(&vm);
}
END_TEST

/* Threes, but for page 5, which is zeros. */
static void ck_threes(const struct vm *vm)
{
	for (uint64_t page = 0; page < PAGES; page++) {
		ck_assert_int_eq(*at(vm, page), page == 5 ? 0 : 3);
		ck_assert_int_eq(at(vm, page)[PAGE - 1], page == 5 ? 0 : 3);
	}
}

static void snapshot_of_threes(struct files *files, int zstd)
{
	struct vm vm = make(&origins[0]);
	char why[300];

	memset(vm.hva, 3, SIZE);
	memset((char *)at(&vm, 5), 0, PAGE);
	ck_assert_int_eq(snapshot_of(&vm, files, zstd, false, why), 0);
	vm_destroy(&vm);
}

static const enum ept_huge huge_modes[] = {EPT_HUGE_NEVER, EPT_HUGE_AUTO, EPT_HUGE_ALWAYS};

/* Before the first touch; then nobody has to ask. By 2 MiB the zeros among them come, too. */
START_TEST(all_comes_in)
{
	struct ept_config config = one_thread;
	bool whole = huge_modes[_i / 2] != EPT_HUGE_NEVER;
	struct restored r;
	struct files files;

	config.huge = huge_modes[_i / 2];
	snapshot_of_threes(&files, _i % 2);
	bring_all = true;
	r = restore_with(&config, &files, -1, NULL);
	bring_all = false;
	ck_assert_int_eq(ept_space_prefetch_wait(r.vm.space), 0);
	ck_assert_uint_eq(area_info(&r.vm).resident, (whole ? PAGES : PAGES - 1) * PAGE);
	ck_threes(&r.vm);
	memset(r.vm.hva, 3, 5 * PAGE);
	ept_space_stop(r.vm.space);
	ck_assert_uint_eq(events(r.vm.space), whole ? 0 : 1);
	restored_destroy(&r);
	close_files(&files);
}
END_TEST

/* It says so, and where; nothing of that extent goes in. */
START_TEST(all_with_a_wrong_bit)
{
	struct ept_config config = one_thread;
	struct restored r;
	struct files files;

	config.huge = huge_modes[_i];
	snapshot_of_threes(&files, 0);
	flip(files.memory, 700 * PAGE * 8);
	bring_all = true;
	r = restore_with(&config, &files, -1, NULL);
	bring_all = false;
	ck_assert_int_eq(ept_space_prefetch_wait(r.vm.space), -EBADMSG);
	const struct ept_failure *failure = ept_space_failure(r.vm.space);
	ck_assert(failure && strstr(failure->message, "wrong checksum"));
	const struct ept_leaf *leaf = ept_mirror_find(&r.vm.space->mirror, GPA(700 * PAGE));
	ck_assert(!leaf || ept_pte_get(leaf, 700 % 512) == EPT_PTE_NONE);
	restored_destroy(&r);
	close_files(&files);
}
END_TEST

/* Of each 2 MiB that a page of the set lies in, all; who touches them meanwhile finds them right.
 */
START_TEST(working_set_by_2_mib)
{
	struct ept_config config = one_thread;
	struct ept_prefetch_stats stats;
	struct ept_working_set *set;
	struct restored r;
	struct files files;
	int fd = empty_file();
	uint64_t n;

	config.huge = EPT_HUGE_ALWAYS;
	snapshot_of_threes(&files, 0);
	ck_record(&files, fd, &n);
	ck_assert_int_eq(ept_working_set_open(fd, id, &set), 0);
	r = restore_with(&config, &files, -1, set);
	if (_i)
		ck_threes(&r.vm);
	wait_for_prefetch(&r, &stats);
	ck_threes(&r.vm);
	/* The set ends at page 975, below what does not fill 2 MiB. */
	ck_assert_uint_ge(area_info(&r.vm).resident, 1024 * PAGE);
	if (!_i)
		ck_assert_uint_eq(stats.brought, 1024);
	restored_destroy(&r);
	ept_working_set_close(set);
	close(fd);
	close_files(&files);
}
END_TEST

static void *stop(void *space)
{
	ept_space_stop(space);
	return NULL;
}

/* The set's storage does not answer: a stop waits for it, and that is told. */
START_TEST(hung_working_set)
{
	struct ept_config config = {.vm_name = "test", .vcpus = 1, .fault_timeout = 1};
	struct vm vm = make(&origins[0]);
	struct ept_working_set *set;
	struct restored r;
	struct files files;
	pthread_t stopper;
	char why[300];
	int fd = empty_file();
	uint64_t n;

	memset(vm.hva, 3, SIZE);
	memset((char *)at(&vm, 5), 0, PAGE);
	ck_assert_int_eq(snapshot_of(&vm, &files, 0, false, why), 0);
	ck_record(&files, fd, &n);
	ck_assert_int_eq(ept_working_set_open(fd, id, &set), 0);
	inject_block(size_of(fd) - 1, size_of(fd));
	r = restore_with(&config, &files, -1, set);
	inject_wait_blocked();
	ck_assert(!ept_space_check(r.vm.space)); /* nobody waits for it yet */
	pthread_create(&stopper, NULL, stop, r.vm.space);
	while (!ept_space_check(r.vm.space))
		usleep(10000);
	ck_assert_int_eq(ept_space_failure(r.vm.space)->error, -ETIMEDOUT);
	inject_set(block, false);
	pthread_join(stopper, NULL);
	restored_destroy(&r);
	ept_working_set_close(set);
	close(fd);
	close_files(&files);
	vm_destroy(&vm);
}
END_TEST

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static int threads_until_none;

/* Without room for a stack no thread can be made. */
static void expected(void *ctx)
{
	struct rlimit limit;

	(void)ctx;
	if (--threads_until_none)
		return;
	ck_assert_int_eq(getrlimit(RLIMIT_AS, &limit), 0);
	limit.rlim_cur = PAGE;
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
}

/* Each of its threads is the one that cannot be made: none of the others is left. */
START_TEST(start_that_fails)
{
	struct ept_config config = {.vm_name = "test",
				    .vcpus = 1,
				    .engine = EPT_ENGINE_HANDLER,
				    .thread_expected = expected};
	struct vm vm = make(&origins[0]);
	struct ept_working_set *set;
	struct ept_snapshot *snapshot;
	struct ept_object *ram, *file;
	struct ept_space *space;
	struct files files;
	struct rlimit limit;
	char why[300];
	int fd = empty_file(), disk = temp_file(SIZE), err = -1;
	uint64_t n;

	memset(vm.hva, 3, SIZE);
	memset((char *)at(&vm, 5), 0, PAGE);
	ck_assert_int_eq(snapshot_of(&vm, &files, 0, false, why), 0);
	ck_record(&files, fd, &n);
	vm_destroy(&vm);
	ck_assert_int_eq(ept_working_set_open(fd, id, &set), 0);
	ck_assert_int_eq(
	    ept_snapshot_open(files.memory, files.index, "snap", &snapshot, why, sizeof(why)), 0);
	ck_assert_int_eq(ept_object_snapshot(&snapshot, 1, GPA(0), SIZE, NULL, &ram), 0);
	ck_assert_int_eq(ept_object_file(disk, "disk.img", 0, SIZE, EPT_FILE_COW, &file), 0);
	getrlimit(RLIMIT_AS, &limit);
	for (int nth = 1; err; nth++) {
		ck_assert_int_eq(ept_space_create(&config, &space), 0);
		ck_assert_int_eq(ept_area_add(space, "ram", GPA(0), SIZE, ram, NULL), 0);
		ck_assert_int_eq(ept_area_add(space, "pmem0", GPA(SIZE), SIZE, file, NULL), 0);
		ck_assert_int_eq(ept_space_prefetch(space, set), 0);
		threads_until_none = nth;
		err = ept_space_start(space);
		setrlimit(RLIMIT_AS, &limit);
		ck_assert_int_lt(nth, 10);
		ck_assert(!err || (!space->files.running && !space->prefetch.running &&
				   !space->nr_threads));
		ept_space_destroy(space);
	}
	ck_assert_int_eq(threads_until_none, 1); /* each of them had its turn */
	ept_object_put(ram);
	ept_object_put(file);
	ept_snapshot_close(snapshot);
	ept_working_set_close(set);
	close(fd);
	close(disk);
	close_files(&files);
}
END_TEST
#endif

Suite *suite_uffd_snapshot(void)
{
	Suite *suite = suite_create("ept on userfaultfd: snapshot");
	TCase *tc = tcase_create("snapshot");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, restored_is_what_was, 0, NR_ORIGINS);
	tcase_add_test(tc, granted_page_is_the_files);
	tcase_add_test(tc, full_snapshot_is_sparse);
	tcase_add_test(tc, restore_is_lazy);
	tcase_add_test(tc, discarded_is_zero);
	tcase_add_loop_test(tc, differences_are_read_through, 0, 2 * NR_ORIGINS);
	tcase_add_loop_test(tc, no_difference, 0, NR_ORIGINS);
	tcase_add_loop_test(tc, template_is_mapped, 0, NR_ORIGINS);
	tcase_add_loop_test(tc, index_with_a_wrong_bit, 0, 2);
	tcase_add_loop_test(tc, memory_with_a_wrong_bit, 0, 2);
	tcase_add_loop_test(tc, wrong_bits_all_over, 0, 2);
	tcase_add_test(tc, hole_with_bytes);
	tcase_add_test(tc, hostile_index);
	tcase_add_test(tc, wrong_extent_is_poisoned);
	tcase_add_loop_test(tc, writer_runs_out_of_space, 0, 2);
	tcase_add_loop_test(tc, working_set_comes_first, 0, 2);
	tcase_add_test(tc, wrong_working_set_is_not_used);
	tcase_add_loop_test(tc, all_comes_in, 0, 6);
	tcase_add_loop_test(tc, all_with_a_wrong_bit, 0, 3);
	tcase_add_loop_test(tc, working_set_by_2_mib, 0, 2);
	tcase_add_test(tc, file_is_cut_short_meanwhile);
	tcase_add_test(tc, hung_working_set);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	tcase_add_test(tc, start_that_fails);
#endif
	suite_add_tcase(suite, tc);
	return suite;
}
