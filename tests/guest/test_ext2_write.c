/*
 * The guest's filesystem changed: random sequences of calls, each also made on a directory of the
 * build machine. Errors and trees must be equal, and e2fsck content. Linux is the oracle.
 */
#include "guest/fs/ext2.h"
#include "guest/include/file.h"
#include "tests/guest/fs_test.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_SIZE = 128, LINE_SIZE = 300 };
enum { OPERATIONS = 1000, SEEDS = 4, OPEN_FILES = 4, KEEP = 1 /* RENAME_NOREPLACE */ };

static const char *const images[] = {"empty1024.img", "empty2048.img", "empty4096.img"};
static struct fake_disk disk;
static int ref; /* the host's directory */
static struct inode *held[OPEN_FILES];

static void make_empty_images(void)
{
	images_make();
	shell("for bs in 1024 2048 4096; do"
	      "  mke2fs -q -F -t ext2 -b $bs -m 0 -N 256 -g 2048 empty$bs.img 8M; done");
}

static void check_image(void)
{
	fake_disk_save(&disk, in_dir("changed.img"));
	shell("e2fsck -fn changed.img >changed.log 2>&1 || { cat changed.log >&2; false; } &&"
	      "dumpe2fs -h changed.img 2>/dev/null | grep -q 'state: *clean$'");
}

/* --- a random path ---------------------------------------------------------------------------- */

static unsigned roll(unsigned n)
{
	return (unsigned)rand() / 7 % n;
}

static const char *random_path(char path[PATH_SIZE])
{
	static const char *const names[] = {"a", "b", "c", "dd", "a-longer-name-than-the-others"};
	unsigned depth = 1 + roll(3);

	int len = snprintf(path, PATH_SIZE, "top");

	for (unsigned i = 0; i < depth; i++)
		len += snprintf(path + len, (size_t)(PATH_SIZE - len), "/%s",
				roll(30) ? names[roll(5)] : ".");
	if (roll(20) == 0)
		snprintf(path + len, (size_t)(PATH_SIZE - len), "/");
	return path;
}

/* --- one call on both sides: the two errors --------------------------------------------------- */

struct result {
	int guest, host;
};

static int host_error(int ret)
{
	return ret < 0 ? -errno : 0;
}

static struct result do_open(const char *path)
{
	const int flags[] = {O_RDONLY,
			     O_CREAT | O_RDWR,
			     O_CREAT | O_EXCL | O_RDWR,
			     O_RDWR,
			     O_RDONLY | O_DIRECTORY,
			     O_CREAT | O_RDWR | O_TRUNC,
			     O_RDWR | O_NOFOLLOW};
	int f = flags[roll(7)];
	struct inode **slot = &held[roll(OPEN_FILES)], *inode;
	int fd = openat(ref, path, f | O_NONBLOCK, 0640);
	struct result r = {fs_open(NULL, path, (u32)f, 0640, &inode), host_error(fd)};

	if (fd >= 0)
		close(fd);
	if (!r.guest) {
		if (*slot)
			inode_put(*slot);
		*slot = inode; /* lives on though its name goes */
	}
	return r;
}

static struct result do_make(const char *path)
{
	char target[PATH_SIZE], path_to[PATH_SIZE];

	switch (roll(4)) {
	case 0:
		/* Beside the link; sometimes too long to be kept in the inode. */
		snprintf(target, sizeof(target), "%s%s",
			 roll(3) ? "" : "./././././././././././././././././././",
			 random_path(path_to) + 4);
		return (struct result){fs_make(NULL, path, S_IFLNK | 0777, target),
				       host_error(symlinkat(target, ref, path))};
	case 1:
		return (struct result){fs_make(NULL, path, S_IFIFO | 0600, NULL),
				       host_error(mkfifoat(ref, path, 0600))};
	default:
		return (struct result){fs_make(NULL, path, S_IFDIR | 0755, NULL),
				       host_error(mkdirat(ref, path, 0755))};
	}
}

static struct result do_unlink(const char *path)
{
	bool dir = roll(2);

	return (struct result){fs_unlink(NULL, path, dir),
			       host_error(unlinkat(ref, path, dir ? AT_REMOVEDIR : 0))};
}

static struct result do_link(const char *old, const char *new)
{
	struct inode *inode;
	struct result r = {fs_lookup_at(NULL, old, false, &inode), 0};

	if (!r.guest) {
		r.guest = fs_link(inode, NULL, new);
		inode_put(inode);
	}
	r.host = host_error(linkat(ref, old, ref, new, 0));
	return r;
}

static struct result do_rename(const char *old, const char *new)
{
	bool keep = roll(5) == 0;

	return (struct result){fs_rename(NULL, old, NULL, new, keep),
			       host_error(renameat2(ref, old, ref, new, keep ? KEEP : 0))};
}

/* Pages of the file, near its start or behind each level of indirect blocks. */
static u64 random_page(void)
{
	static const u64 starts[] = {0, 0, 60, 1030, 16500};

	return starts[roll(5)] + roll(12);
}

static int write_page(struct inode *inode, u64 pgoff, int byte)
{
	struct page *page = alloc_page(0);
	int err;

	memset(page_kva(page), byte, PAGE_SIZE);
	inode->size = MAX(inode->size, (pgoff + 1) << PAGE_SHIFT);
	err = inode->ops->allocate(inode, pgoff, inode->size);
	if (!err)
		err = inode->mapping.ops->write_pages(inode, pgoff, &page, 1);
	if (!err)
		err = inode->ops->truncate(inode);
	put_page(page);
	return err;
}

static struct result do_change(const char *path)
{
	struct inode *inode;
	u64 page = random_page();
	bool cut = roll(3) == 0;
	char data[PAGE_SIZE];
	int byte = 1 + (int)roll(255);
	int fd = openat(ref, path, O_RDWR | O_NONBLOCK);
	struct result r = {fs_open(NULL, path, O_RDWR, 0, &inode), host_error(fd)};

	if (r.guest || r.host)
		return r;
	memset(data, byte, sizeof(data));
	if (S_ISREG(inode->mode)) {
		if (cut)
			r = (struct result){fs_truncate(inode, page << PAGE_SHIFT),
					    host_error(ftruncate(fd, (off_t)(page << PAGE_SHIFT)))};
		else
			r = (struct result){write_page(inode, page, byte),
					    host_error((int)pwrite(fd, data, sizeof(data),
								   (off_t)(page << PAGE_SHIFT)))};
	}
	inode_put(inode);
	close(fd);
	return r;
}

static struct result one_call(char line[LINE_SIZE])
{
	char path[PATH_SIZE], other[PATH_SIZE];
	unsigned op = roll(6);

	random_path(path);
	random_path(other);
	snprintf(line, LINE_SIZE, "%u %s %s", op, path, other);
	switch (op) {
	case 0:
		return do_open(path);
	case 1:
		return do_make(path);
	case 2:
		return do_unlink(path);
	case 3:
		return do_link(path, other);
	case 4:
		return do_rename(path, other);
	default:
		return do_change(path);
	}
}

/* --- the trees -------------------------------------------------------------------------------- */

static void compare_contents(struct inode *inode, int fd, const char *path)
{
	char want[PAGE_SIZE];
	struct page *page = alloc_page(0);
	int error;

	for (off_t at = 0; (at = lseek(fd, at, SEEK_DATA)) >= 0; at += PAGE_SIZE) {
		at &= ~(off_t)(PAGE_SIZE - 1);
		memset(want, 0, sizeof(want));
		ck_assert_int_ge(pread(fd, want, sizeof(want), at), 0);
		fake_read_pages(inode, (u64)at >> PAGE_SHIFT, &page, &error, 1);
		ck_assert_int_eq(error, 0);
		ck_assert_msg(!memcmp(want, page_kva(page), PAGE_SIZE), "%s at %ld", path, at);
	}
	put_page(page);
}

static int count_names(void *arg, const char *name, unsigned len, u64 ino, u8 type)
{
	(void)name, (void)len, (void)ino, (void)type;
	++*(unsigned *)arg;
	return 0;
}

static void compare_dir(struct inode *dir, int fd, const char *path);

static void compare_entry(int fd, const char *name, const char *path)
{
	char full[512], target[256], want[256];
	struct inode *inode;
	struct stat st;

	snprintf(full, sizeof(full), "%s/%s", path, name);
	ck_assert_int_eq(fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	ck_assert_msg(!fs_lookup_at(NULL, full, false, &inode), "%s is missing", full);
	ck_assert_msg((inode->mode & S_IFMT) == (st.st_mode & S_IFMT), "%s", full);
	if (S_ISDIR(st.st_mode)) {
		int below = openat(fd, name, O_RDONLY | O_DIRECTORY);

		compare_dir(inode, below, full);
		close(below);
	} else {
		ck_assert_msg(inode->nlink == st.st_nlink, "%s: links", full);
	}
	if (S_ISLNK(st.st_mode)) {
		ssize_t len = readlinkat(fd, name, want, sizeof(want));

		ck_assert_int_eq(fs_read_link(inode, target, sizeof(target)), len);
		ck_assert_int_eq(memcmp(target, want, (size_t)len), 0);
	}
	if (S_ISREG(st.st_mode)) {
		int file = openat(fd, name, O_RDONLY);

		ck_assert_uint_eq(inode->size, (u64)st.st_size);
		compare_contents(inode, file, full);
		close(file);
	}
	inode_put(inode);
}

static void compare_dir(struct inode *dir, int fd, const char *path)
{
	DIR *d = fdopendir(dup(fd));
	unsigned here = 0, there = 0;
	u64 pos = 0;

	for (struct dirent *de; (de = readdir(d)); here++) {
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			compare_entry(fd, de->d_name, path);
	}
	closedir(d);
	ck_assert_int_eq(dir->ops->readdir(dir, &pos, count_names, &there), 0);
	ck_assert_msg(here == there, "%s: %u names, %u on the host", path, there, here);
}

static void compare_trees(void)
{
	struct inode *top = must_find("/top");
	int fd = openat(ref, "top", O_RDONLY | O_DIRECTORY);

	compare_dir(top, fd, "/top");
	close(fd);
	inode_put(top);
}

START_TEST(random_calls)
{
	char line[LINE_SIZE], buf[PATH_MAX];

	srand((unsigned)_i);
	fake_reset();
	shell("rm -rf ref && mkdir -p ref/top");
	ck_assert_int_eq(mount_image(&disk, 0, images[_i % 3], _i % 4 == 3), 0);
	disk.async = _i & 1;
	ck_assert_int_eq(fs_make(NULL, "/top", S_IFDIR | 0755, NULL), 0);
	ref = open(in_dir("ref"), O_RDONLY | O_DIRECTORY);
	struct inode *base = must_find("/top");

	ck_assert_str_eq(fs_path_of(base, buf, sizeof(buf)), "/top");
	inode_put(base);
	for (unsigned i = 0; i < OPERATIONS; i++) {
		struct result r = one_call(line);

		ck_assert_msg(r.guest == r.host, "call %u (%s): %d, on the host %d\n%s", i, line,
			      r.guest, r.host, fake_log);
	}
	for (unsigned i = 0; i < OPEN_FILES; i++) {
		if (held[i])
			inode_put(held[i]);
		held[i] = NULL;
	}
	compare_trees();
	close(ref);
	ck_assert_str_eq(fake_log, "");
	unmount_clean();
	check_image();
}
END_TEST

static u64 free_blocks(void)
{
	struct inode *root = must_find("/");
	struct fs_stat st;

	fs_statfs(root, &st);
	inode_put(root);
	return st.free_blocks;
}

static void expect_all(const char *path, int byte)
{
	struct inode *inode = must_find(path);
	struct page *page = alloc_page(0);
	char want[PAGE_SIZE];
	int error;

	memset(want, byte, sizeof(want));
	for (u64 at = 0; at < inode->size >> PAGE_SHIFT; at++) {
		fake_read_pages(inode, at, &page, &error, 1);
		ck_assert_msg(!error && !memcmp(page_kva(page), want, PAGE_SIZE),
			      "%s, page %lu: error %d, or other contents", path, at, error);
	}
	put_page(page);
	inode_put(inode);
}

/* Directories that are gone before they were written: their blocks are data's now. */
static void leave_dirty_blocks(void)
{
	char path[32];

	for (unsigned i = 0; i < 60; i++) {
		snprintf(path, sizeof(path), "/dir-%u", i % 30);
		ck_assert_int_eq(i < 30 ? fs_make(NULL, path, S_IFDIR | 0755, NULL)
					: fs_unlink(NULL, path, true),
				 0);
	}
}

/* Files until no block is free; what did not fit leaves nothing behind. */
START_TEST(full)
{
	struct inode *inode;
	char path[32];
	unsigned made = 0;
	int err = 0;

	fake_reset();
	ck_assert_int_eq(mount_image(&disk, 0, images[_i], false), 0);
	u64 before = free_blocks();

	leave_dirty_blocks();
	for (; !err; made++) {
		snprintf(path, sizeof(path), "/file-%u", made);
		err = fs_open(NULL, path, O_CREAT | O_RDWR, 0600, &inode);
		for (u64 page = 0; !err && page < 40; page++)
			err = write_page(inode, page, 'f');
		if (!err)
			inode_put(inode);
	}
	ck_assert_int_eq(err, -ENOSPC);
	ck_assert_uint_gt(made, 20);
	ck_assert_uint_lt(free_blocks(), 64);
	/* The file that did not fit: open, then not. */
	fs_truncate(inode, 0);
	inode_put(inode);
	ck_assert_int_eq(fs_sync(), 0);
	for (unsigned i = 0; i < made; i++) {
		snprintf(path, sizeof(path), "/file-%u", i);
		expect_all(path, 'f');
		ck_assert_int_eq(fs_unlink(NULL, path, false), 0);
	}
	ck_assert_uint_eq(free_blocks(), before);
	ck_assert_str_eq(fake_log, "");
	unmount_clean();
	check_image();
}
END_TEST

Suite *ext2_write_suite(void)
{
	Suite *s = suite_create("guest ext2, written");
	TCase *tc = tcase_create("write");

	tcase_add_unchecked_fixture(tc, make_empty_images, images_remove);
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, random_calls, 0, 3 * SEEDS);
	tcase_add_loop_test(tc, full, 0, 3);
	suite_add_tcase(s, tc);
	return s;
}
