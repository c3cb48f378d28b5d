/*
 * The directories of a chain of snapshots, compressed and not, without a VM: bits that flip,
 * anywhere in any file, are refused or harmless, and never another memory or disk.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/disk.h"
#include "devices/state.h"
#include "ept/snapshot_out.h"
#include "tests/vmm/suites.h"
#include "vmm/manifest.h"
#include "vmm/snapshot_dir.h"
#include "vmm/snapshot_out.h"

#define CHAIN	3
#define EXTENTS 5
#define PARTS	5

static char top[64], paths[CHAIN][96]; /* [0] stands alone */
static const char *const names[PARTS] = {"manifest.json", "memory", "memory.index", "state",
					 "disk0.layer"};

static void path_of(char *out, size_t size, unsigned dir, const char *name)
{
	snprintf(out, size, "%s/%s", paths[dir], name);
}

static int part(unsigned dir, const char *name, int flags)
{
	char path[128];

	path_of(path, sizeof(path), dir, name);
	int fd = open(path, flags | O_CLOEXEC, 0600);
	ck_assert_msg(fd >= 0, "%s", path);
	return fd;
}

/* --- a chain is made ---------------------------------------------------------------------- */

static void write_memory(unsigned dir, const char *hex_parent, char hex[33])
{
	struct ept_snapshot_options options = {.memory_fd = part(dir, "memory", O_RDWR | O_CREAT),
					       .index_fd =
						   part(dir, "memory.index", O_RDWR | O_CREAT),
					       .zstd_level = dir == 1};
	static char bytes[EPT_EXTENT] __attribute__((aligned(EPT_PAGE_SIZE)));
	struct ept_snapshot_info info;
	struct ept_out out;
	uint8_t parent[16] = {0};
	char why[300];

	memset(options.id, 0xa0 + (int)dir, sizeof(options.id));
	if (hex_parent)
		memset(parent, 0xa0 + (int)dir - 1, sizeof(parent));
	ck_assert_int_eq(ept_out_init(&out, &options, "test", 1, &info, why, sizeof(why)), 0);
	ept_out_area(&out, 0, 16 * EPT_EXTENT, 0);
	for (unsigned i = dir; i < EXTENTS; i++) {
		struct ept_index_extent e = {.gpa = i * 2 * EPT_EXTENT, .pages = 16};

		memset(bytes, 0, sizeof(bytes));
		for (unsigned page = dir; page < 16; page += 5) {
			memset(bytes + page * EPT_PAGE_SIZE, (int)(dir * 50 + i * 7 + page),
			       EPT_PAGE_SIZE - page);
			e.present |= (uint16_t)(1U << page);
		}
		e.zero = hex_parent ? (uint16_t)~e.present : 0;
		e.sum = ept_checksum(bytes, sizeof(bytes));
		ck_assert_int_eq(ept_out_extent(&out, &e, bytes), 0);
	}
	ck_assert_int_eq(ept_out_finish(&out, parent), 0);
	ept_out_free(&out);
	close(options.memory_fd);
	close(options.index_fd);
	for (unsigned i = 0; i < 16; i++)
		snprintf(hex + 2 * i, 3, "%02x", options.id[i]);
}

static void write_state(unsigned dir)
{
	int fd = part(dir, "state", O_RDWR | O_CREAT);
	uint64_t number = dir;
	struct state s;
	uint8_t *bytes;
	size_t len;

	state_save(&s);
	ck_assert(state_begin(&s, "test", 0, 1));
	state_u64(&s, &number);
	state_end(&s);
	ck_assert_int_eq(state_saved(&s, &bytes, &len), 0);
	ck_assert_int_eq(write(fd, bytes, len), (ssize_t)len);
	free(bytes);
	close(fd);
}

static void write_layer(unsigned dir, const char *disk_path)
{
	int fd = part(dir, "disk0.layer", O_RDWR | O_CREAT), base = open(disk_path, O_RDONLY);
	struct disk *disk;
	uint8_t data[512];

	ck_assert_int_eq(disk_open(base, DISK_COW, &disk), 0);
	for (unsigned i = dir; i < 6; i++) {
		struct iovec iov = {data, sizeof(data)};

		memset(data, (int)(dir * 40 + i), sizeof(data));
		ck_assert_int_eq(disk_write(disk, i * 8192, &iov, 1, sizeof(data)), 0);
	}
	ck_assert_int_eq(disk_freeze(disk), 0);
	ck_assert_int_eq(disk_save_layers(disk, fd, NULL, 0), 0);
	disk_close(disk);
	close(base);
	close(fd);
}

static void set(struct run_options *opt, const char *name, const char *value)
{
	struct foal_error err = {0};

	ck_assert_msg(options_set(opt, name, value, &err) == 0, "%s", err.text);
}

static void make_chain(void)
{
	char kernel[96], disk[96], option[112], hex[33] = "", parent[33] = "";
	struct foal_error err = {0};
	struct run_options opt;

	snprintf(top, sizeof(top), "/tmp/foal-chain-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(top));
	snprintf(kernel, sizeof(kernel), "%s/kernel", top);
	snprintf(disk, sizeof(disk), "%s/disk", top);
	snprintf(option, sizeof(option), "%s,mode=cow", disk);
	close(open(kernel, O_CREAT | O_WRONLY, 0600));
	int fd = open(disk, O_CREAT | O_WRONLY, 0600);
	ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
	close(fd);
	options_defaults(&opt);
	set(&opt, "kernel", kernel);
	set(&opt, "disk", option);
	set(&opt, "memory", "1M");
	json_t *machine = manifest_machine(&opt), *files = manifest_files(&opt, &err);
	for (unsigned dir = 0; dir < CHAIN; dir++) {
		snprintf(paths[dir], sizeof(paths[dir]), "%s/%u", top, dir);
		ck_assert_int_eq(mkdir(paths[dir], 0700), 0);
		write_memory(dir, dir ? parent : NULL, hex);
		write_state(dir);
		write_layer(dir, disk);
		json_t *written = json_pack("{s:s, s:{}}", "id", hex, "memory");
		if (dir)
			json_object_set_new(written, "parent",
					    json_pack("{s:s+, s:s}", "path", "../",
						      dir == 1 ? "0" : "1", "id", parent));
		int at = open(paths[dir], O_RDONLY | O_DIRECTORY);
		ck_assert_int_eq(snapshot_dir_write(at, machine, files, written, 1), 0);
		close(at);
		json_decref(written);
		memcpy(parent, hex, sizeof(parent));
	}
	json_decref(machine);
	json_decref(files);
	options_free(&opt);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void remove_chain(void)
{
	nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* --- it is read --------------------------------------------------------------------------- */

/* All of the memory and of the disk that it makes. */
struct contents {
	struct ept_sum memory, disk;
};

static struct ept_sum sum_of(int fd)
{
	struct stat st;
	struct ept_sum sum = {0};

	ck_assert_int_eq(fstat(fd, &st), 0);
	if (st.st_size) {
		void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
		ck_assert_ptr_ne(bytes, MAP_FAILED);
		sum = ept_checksum(bytes, (size_t)st.st_size);
		munmap(bytes, (size_t)st.st_size);
	}
	close(fd);
	return sum;
}

/* What who reads page by page would see, and refuses what is not as it was written. */
static bool read_chain(const struct snapshot_dir *dir, struct contents *out)
{
	struct ept_snapshot_options options = {.memory_fd = memfd_create("memory", 0),
					       .index_fd = memfd_create("index", 0)};
	struct ept_snapshot *layers[SNAPSHOT_CHAIN_MAX];
	unsigned n = snapshot_dir_memory(dir, layers), count = 0;
	struct ept_snapshot_info info;
	int fds[SNAPSHOT_CHAIN_MAX], disk = memfd_create("disk", 0);
	char why[300];

	for (const struct snapshot_dir *d = dir; d; d = d->below)
		fds[count++] = d->layers[0];
	bool well = ept_snapshot_merge(layers, n, &options, &info, why, sizeof(why)) == 0 &&
		    disk_layer_merge(fds, count, disk) == 0;
	out->memory = sum_of(options.memory_fd);
	out->disk = sum_of(disk);
	close(options.index_fd);
	return well;
}

/* 0: whole, by all checksums. */
static int look(struct contents *out, bool *readable, char line[480])
{
	struct foal_error err = {0};
	struct run_options opt;
	struct snapshot_dir dir;

	options_defaults(&opt);
	snapshot_dir_init(&dir);
	int r = snapshot_open(&dir, paths[CHAIN - 1], &opt, &err);
	*readable = r == 0 && read_chain(&dir, out);
	if (r == 0)
		r = snapshot_dir_verify(&dir, false, &err);
	snprintf(line, 480, "%s", err.text);
	ck_assert_int_eq(r != 0, err.status == FOAL_EXIT_SNAPSHOT);
	snapshot_dir_close(&dir);
	options_free(&opt);
	return r;
}

static uint32_t next_random(void)
{
	static uint32_t x = 2463534242;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x;
}

static void flip(int fd, off_t at, unsigned bit)
{
	uint8_t byte;

	ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
	byte ^= (uint8_t)(1u << bit);
	ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
}

/* Where there is data: what is a hole belongs to nobody, or to a whole extent. */
static off_t place_in(int fd)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	off_t at = (off_t)(next_random() % (uint64_t)st.st_size), next = lseek(fd, at, SEEK_DATA);
	return next < 0 ? lseek(fd, 0, SEEK_DATA) : next;
}

START_TEST(flipped_bits)
{
	const char *said = getenv("FOAL_CHAIN_FLIPS");
	unsigned n = said ? (unsigned)strtoul(said, NULL, 10) : 10000, refused = 0;
	struct contents good, is;
	bool readable;
	char line[480];

	make_chain();
	ck_assert_msg(look(&good, &readable, line) == 0 && readable, "%s", line);
	for (unsigned i = 0; i < n; i++) {
		unsigned dir = i % CHAIN, bit = next_random() % 8;
		const char *name = names[i / CHAIN % PARTS];
		int fd = part(dir, name, O_RDWR);
		off_t at = place_in(fd);

		flip(fd, at, bit);
		int r = look(&is, &readable, line);
		ck_assert_msg(!readable || memcmp(&is, &good, sizeof(is)) == 0,
			      "%u/%s byte %ld bit %u: other contents", dir, name, (long)at, bit);
		ck_assert_msg(r == 0 || (line[0] && !strchr(line, '\n')), "%u/%s byte %ld: \"%s\"",
			      dir, name, (long)at, line);
		/* Of these not a bit is nobody's. */
		ck_assert_msg(r ||
				  (strcmp(name, "state") != 0 && strcmp(name, "memory.index") != 0),
			      "%u/%s byte %ld bit %u: not seen", dir, name, (long)at, bit);
		refused += r != 0;
		flip(fd, at, bit);
		close(fd);
	}
	printf("%u of %u flipped bits refused, the others harmless\n", refused, n);
	ck_assert_uint_gt(refused, n / 2);
	ck_assert_msg(look(&is, &readable, line) == 0 && readable, "%s", line);
	remove_chain();
}
END_TEST

/* One file of a snapshot lies where another one's should, each of them whole. */
START_TEST(swapped_files)
{
	char here[128], there[128], line[480];
	struct contents is;
	bool readable;

	make_chain();
	for (unsigned i = 0; i < PARTS * CHAIN; i++) {
		path_of(here, sizeof(here), i % CHAIN, names[i / CHAIN]);
		path_of(there, sizeof(there), (i + 1) % CHAIN, names[i / CHAIN]);
		ck_assert_int_eq(renameat2(AT_FDCWD, here, AT_FDCWD, there, RENAME_EXCHANGE), 0);
		ck_assert_msg(look(&is, &readable, line) && line[0], "%s, %s", here, there);
		ck_assert_msg(!readable, "%s, %s: %s", here, there, line);
		ck_assert_int_eq(renameat2(AT_FDCWD, here, AT_FDCWD, there, RENAME_EXCHANGE), 0);
	}
	ck_assert_msg(look(&is, &readable, line) == 0 && readable, "%s", line);
	remove_chain();
}
END_TEST

/* Of a foal to come: said so, whatever else is in it. */
START_TEST(later_format)
{
	char path[128], line[480];
	struct contents is;
	bool readable;

	make_chain();
	path_of(path, sizeof(path), (unsigned)_i, names[0]);
	json_t *manifest = json_load_file(path, 0, NULL);
	json_object_set_new(manifest, "format", json_integer(2));
	json_object_set_new(manifest, "more", json_true());
	ck_assert_int_eq(json_dump_file(manifest, path, 0), 0);
	ck_assert_int_ne(look(&is, &readable, line), 0);
	ck_assert_msg(strstr(line, "format 2 is not known, this foal reads 1") &&
			  strstr(line, strrchr(paths[_i], '/')),
		      "%s", line);
	json_decref(manifest);
	remove_chain();
}
END_TEST

/* A manifest that says what it likes, with a right checksum. */
static void rewrite(unsigned dir, const char *key, json_t *value)
{
	char path[128];

	path_of(path, sizeof(path), dir, "manifest.json");
	json_t *manifest = json_load_file(path, 0, NULL), *written = json_object();
	json_object_set(written, "id", json_object_get(manifest, "id"));
	json_object_set(written, "memory", json_object_get(manifest, "memory"));
	json_object_set(written, "parent", json_object_get(manifest, "parent"));
	json_t *files = json_incref(json_object_get(manifest, "files"));
	if (strcmp(key, "files") == 0)
		json_decref(files), files = json_incref(value);
	else
		json_object_set(written, key, value);
	ck_assert_int_eq(unlink(path), 0);
	int at = open(paths[dir], O_RDONLY | O_DIRECTORY);
	ck_assert_int_eq(
	    snapshot_dir_write(at, json_object_get(manifest, "machine"), files, written, 1), 0);
	close(at);
	json_decref(files);
	json_decref(written);
	json_decref(manifest);
	json_decref(value);
}

#define ID(digit) \
	digit digit digit digit digit digit digit digit digit digit digit digit digit digit digit \
	    digit

static const struct {
	unsigned dir;
	const char *key, *json, *words;
} lies[] = {
    {2, "parent", "{\"path\": \"../0\", \"id\": \"" ID("a0") "\"}", "than the manifest says"},
    {2, "parent", "{\"path\": \"../0\", \"id\": \"" ID("a1") "\"}", "another snapshot than"},
    {2, "parent", "{\"path\": \"../2\", \"id\": \"" ID("a1") "\"}", "another snapshot than"},
    {2, "parent", "{\"id\": \"" ID("a1") "\"}", "does not say where"},
    {2, "parent", "{\"path\": 7, \"id\": \"" ID("a1") "\"}", "does not say where"},
    {2, "parent", "{\"path\": \"/nowhere\", \"id\": \"" ID("a1") "\"}", "No such file"},
    {2, "parent", "{\"path\": \"/dev/null\", \"id\": \"" ID("a1") "\"}", "Not a directory"},
    {2, "parent", "{\"path\": \"../1\"}", "than the manifest says"},
    {2, "parent", "[]", "than the manifest says"},
    {0, "parent", "{\"path\": \"../0\", \"id\": \"" ID("a0") "\"}", "than the manifest says"},
    {2, "id", "\"" ID("a1") "\"", "it is of another snapshot"},
    {1, "files", "[]", "another machine or other files"},
    {0, "files", "[{\"path\": \"/x\", \"size\": 1, \"mtime_ns\": 1}]", "other files"},
};

START_TEST(lying_manifests)
{
	struct contents is;
	bool readable;
	char line[480];

	make_chain();
	rewrite(lies[_i].dir, lies[_i].key, json_loads(lies[_i].json, JSON_DECODE_ANY, NULL));
	ck_assert_int_ne(look(&is, &readable, line), 0);
	ck_assert_msg(strstr(line, lies[_i].words), "%s: %s", lies[_i].json, line);
	remove_chain();
}
END_TEST

/* Those of a restored VM are others; all else has to be the same. */
START_TEST(same_machine)
{
	static const struct {
		const char *options;
		bool same;
	} others[] = {
	    {"[[\"memory\",\"1024K\"],[\"net\",\"user,mac=2\"],[\"vsock\",\"cid=3,path=/a\"]]",
	     true},
	    {"[[\"memory\",\"1024K\"],[\"net\",\"tap=t,mac=1\"],[\"vsock\",\"cid=3,path=/b\"]]",
	     true},
	    {"[[\"memory\",\"2048K\"],[\"net\",\"user,mac=1\"],[\"vsock\",\"cid=3,path=/a\"]]",
	     false},
	    {"[[\"memory\",\"1024K\"],[\"net\",\"user,mac=1\"]]", false},
	    {"[[\"memory\",\"1024K\"],[\"net\",\"user\"],[\"net\",\"user\"]]", false},
	    {"[[\"memory\",\"1024K\"],[\"disk\",\"user,mac=1\"],[\"vsock\",\"cid=3,path=/a\"]]",
	     false},
	    {"[[\"memory\",\"1024K\"],7,[]]", false},
	    {"{}", false},
	};
	struct snapshot_dir dir;

	snapshot_dir_init(&dir);
	dir.manifest = json_pack("{s:{s:o}, s:[]}", "machine", "options",
				 json_loads(others[0].options, 0, NULL), "files");
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		json_t *machine =
		    json_pack("{s:o}", "options", json_loads(others[i].options, 0, NULL));
		json_t *files = json_array();

		ck_assert_msg(snapshot_dir_same_machine(&dir, machine, files) == others[i].same,
			      "%s", others[i].options);
		json_decref(machine);
		json_decref(files);
	}
	snapshot_dir_close(&dir);
}
END_TEST

/* An ancestor of itself: its ids cannot be told from right ones. It is not gone round for ever. */
START_TEST(its_own_ancestor)
{
	struct contents is;
	bool readable;
	char line[480];

	make_chain();
	struct ept_index_header h;
	int fd = part(0, "memory.index", O_RDWR);
	ck_assert_int_eq(pread(fd, &h, sizeof(h), 0), sizeof(h));
	memset(h.parent, 0xa2, sizeof(h.parent));
	h.sum = ept_checksum(&h, offsetof(struct ept_index_header, sum));
	ck_assert_int_eq(pwrite(fd, &h, sizeof(h), 0), sizeof(h));
	close(fd);
	rewrite(0, "parent", json_pack("{s:s, s:s}", "path", "../2", "id", ID("a2")));
	ck_assert_int_ne(look(&is, &readable, line), 0);
	ck_assert_msg(strstr(line, "foal reads no more"), "%s", line);
	remove_chain();
}
END_TEST

/* --- a name is given ---------------------------------------------------------------------- */

static bool no_flags; /* as on NFS */

/* In place of libc's. */
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned int flags)
{
	if (no_flags && flags) {
		errno = EINVAL;
		return -1;
	}
	return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
}

/* A snapshot of a file; @err says why not. */
static int put(const char *to, struct foal_error *err)
{
	struct snapshot_out out;
	int r = snapshot_out_open(&out, to, 0, err), fd;

	if (r == 0) {
		fd = openat(out.fd, SNAPSHOT_MANIFEST, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		ck_assert_int_ge(fd, 0);
		close(fd);
		r = snapshot_out_commit(&out, err);
	}
	snapshot_out_close(&out);
	return r;
}

START_TEST(file_systems)
{
	char dir[] = "/tmp/foal-named-XXXXXX", to[64], all[72];
	struct foal_error err = {0};
	struct stat first, now;

	no_flags = _i;
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(to, sizeof(to), "%s/one", dir);
	snprintf(top, sizeof(top), "%s", dir);
	ck_assert_msg(put(to, &err) == 0, "%s", err.text);
	ck_assert_int_eq(stat(to, &first), 0);
	ck_assert_int_eq(put(to, &err), _i ? -EINVAL : 0);
	ck_assert_int_eq(strstr(err.text, "cannot exchange") != NULL, _i);
	ck_assert_int_eq(stat(to, &now), 0);
	ck_assert_int_eq(now.st_ino == first.st_ino, _i);
	glob_t found = {0};
	snprintf(all, sizeof(all), "%s*", to);
	ck_assert_int_eq(glob(all, 0, NULL, &found), 0);
	ck_assert_uint_eq(found.gl_pathc, 1); /* nothing is left beside it */
	globfree(&found);
	remove_chain();
}
END_TEST

Suite *snapshot_dir_suite(void)
{
	Suite *suite = suite_create("snapshot_dir");
	TCase *tc = tcase_create("snapshot_dir");

	tcase_set_timeout(tc, 300);
	tcase_add_test(tc, flipped_bits);
	tcase_add_test(tc, swapped_files);
	tcase_add_loop_test(tc, later_format, 0, CHAIN);
	tcase_add_loop_test(tc, lying_manifests, 0, (int)(sizeof(lies) / sizeof(*lies)));
	tcase_add_test(tc, same_machine);
	tcase_add_test(tc, its_own_ancestor);
	tcase_add_loop_test(tc, file_systems, 0, 2);
	suite_add_tcase(suite, tc);
	return suite;
}
