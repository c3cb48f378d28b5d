/* The guest's filesystem on images that mke2fs made: three block sizes, disk and pmem. */
#include "guest/fs/internal.h"
#include "tests/guest/fs_test.h"
#include <stdio.h>
#include <string.h>

/* Loop variable to image: three block sizes, each on a disk, a slow disk, and pmem. */
static const char *const images[] = {"1024.img", "2048.img", "4096.img"};

enum { KINDS = 3, COMBINATIONS = 3 * KINDS };

static struct fake_disk disk, other;

static void mount_combination(int i)
{
	fake_reset();
	ck_assert_int_eq(mount_image(&disk, 0, images[i / KINDS], i % KINDS == 2), 0);
	disk.async = i % KINDS == 1;
}

START_TEST(contents)
{
	mount_combination(_i);
	expect_same("/small", "small");
	expect_same("/deep/er/small", "deep/er/small");
	expect_same("/big", "big");
	expect_same("/sparse", "sparse");
	expect_same("/dir/many/a-file-with-the-number-299", "dir/many/a-file-with-the-number-299");
	ck_assert_uint_eq(must_find("/empty")->size, 0);
	inode_put(must_find("/empty")), inode_put(must_find("/empty"));
	inode_put(must_find("/empty"));
	ck_assert_str_eq(fake_log, "");
}
END_TEST

START_TEST(paths)
{
	mount_combination(_i);
	static const char *const same_file[] = {
	    "/small", "//./small", "/deep/../small", "/dir/fast", "/tail", "/slow", "/../../small",
	};
	struct inode *small = must_find("/small");

	for (size_t i = 0; i < ARRAY_SIZE(same_file); i++) {
		struct inode *inode = must_find(same_file[i]);

		ck_assert_msg(inode == small, "%s", same_file[i]);
		inode_put(inode);
	}
	inode_put(small);
	ck_assert_int_eq(find_error("/abs/small"), 0);
	ck_assert_int_eq(find_error("/abs/"), 0);
	ck_assert_int_eq(find_error("/"), 0);
	ck_assert_int_eq(find_error(""), -ENOENT);
	ck_assert_int_eq(find_error("/nothing"), -ENOENT);
	ck_assert_int_eq(find_error("/nothing/below"), -ENOENT);
	ck_assert_int_eq(find_error("/dangling"), -ENOENT);
	ck_assert_int_eq(find_error("/small/"), -ENOTDIR);
	ck_assert_int_eq(find_error("/tail/x"), -ENOTDIR);
	ck_assert_int_eq(find_error("/small/.."), -ENOTDIR);
	ck_assert_int_eq(find_error("/loop-a"), -ELOOP);

	static char path[PATH_MAX + 10];
	memset(path, 'x', sizeof(path) - 1);
	path[0] = '/';
	ck_assert_int_eq(find_error(path), -ENAMETOOLONG);
	path[NAME_MAX + 2] = 0;
	ck_assert_int_eq(find_error(path), -ENAMETOOLONG);
	path[NAME_MAX + 1] = 0;
	ck_assert_int_eq(find_error(path), -ENOENT);
	unmount_clean();
}
END_TEST

static int count_entry(void *arg, const char *name, unsigned len, u64 ino, u8 type)
{
	unsigned *count = arg;

	(void)ino;
	if (len > 2 && !memcmp(name, "a-f", 3)) {
		ck_assert_uint_eq(type, 8);
		++*count;
	}
	return *count == 100 ? 1 : 0;
}

/* Stopped in the middle, a walk goes on where it was. */
START_TEST(directory_walk)
{
	mount_combination(_i);
	struct inode *dir = must_find("/dir/many");
	u64 pos = 0;
	unsigned count = 0, total;

	ck_assert_int_eq(dir->ops->readdir(dir, &pos, count_entry, &count), 1);
	total = count - 1; /* the one it stopped at comes again */
	while (dir->ops->readdir(dir, &pos, count_entry, (count = 0, &count)))
		total += count - 1;
	ck_assert_uint_eq(total + count, 300);
	ck_assert_uint_eq(pos, dir->size);
	inode_put(dir);
	unmount_clean();
}
END_TEST

/* A second filesystem at a folder of the first, and the way back. */
START_TEST(second_mount)
{
	mount_combination(_i);
	ck_assert_int_eq(mount_image(&other, 1, "other.img", false), 0);
	struct inode *root = must_find("/");
	struct inode *there = must_find("/other");
	struct inode *back = must_find("/other/../other/..");

	ck_assert_ptr_eq(there->sb->bdev, &other.bdev);
	ck_assert_ptr_eq(back, root);
	ck_assert_int_eq(find_error("/other/lost+found"), 0);
	ck_assert_int_eq(find_error("/other/small"), -ENOENT);
	inode_put(root), inode_put(there), inode_put(back);
	ck_assert_int_eq(fs_mount(&other.bdev, "/other"), -EINVAL);
	ck_assert_int_eq(fs_mount(&other.bdev, "/a/b"), -EINVAL);
	ck_assert_int_eq(fs_sync(), 0);
	ck_assert_uint_gt(disk.flushes, 0);
	unmount_clean();
}
END_TEST

static void read_some(struct inode *inode, u64 pgoff, struct page **pages, int *errors, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		pages[i] = alloc_page(0);
	fake_read_pages(inode, pgoff, pages, errors, n);
}

static void put_pages(struct page **pages, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		put_page(pages[i]);
}

/* Consecutive blocks go in one bio, consecutive frames in one piece of it. */
START_TEST(coalescing)
{
	mount_combination(2 * KINDS); /* 4 KiB blocks, plain disk */
	struct inode *big = must_find("/big");
	struct page *pages[64];
	int errors[64];

	read_some(big, 20, pages, errors, 64); /* the map's buffers come in */
	put_pages(pages, 64);
	disk.bios = disk.vecs = 0;
	read_some(big, 20, pages, errors, 64);
	put_pages(pages, 64);
	ck_assert_uint_eq(disk.bios, 1);
	ck_assert_uint_eq(disk.vecs, 64);

	fake_contiguous_frames(true);
	disk.bios = disk.vecs = 0;
	read_some(big, 20, pages, errors, 64);
	put_pages(pages, 64);
	ck_assert_uint_eq(disk.bios, 1);
	ck_assert_uint_eq(disk.vecs, 1);
	inode_put(big);
	unmount_clean();
}
END_TEST

/* A sector that cannot be read fails its page and, if in the same bio, the others of that. */
START_TEST(read_error)
{
	mount_combination(_i);
	struct inode *big = must_find("/big");
	struct page *pages[1];
	int errors[1];
	char dirty[16];

	read_some(big, 100, pages, errors, 1);
	ck_assert_int_eq(errors[0], 0);
	memcpy(dirty, page_kva(pages[0]), sizeof(dirty));
	put_pages(pages, 1);

	/* Where the page lies: its first bytes are nowhere else in the image. */
	char *at = memmem(disk.image, disk.size, dirty, sizeof(dirty));
	disk.bad_first = disk.bad_last = (u64)(at - disk.image) >> SECTOR_SHIFT;
	read_some(big, 100, pages, errors, 1);
	ck_assert_int_eq(errors[0], -EIO);
	put_pages(pages, 1);
	read_some(big, 101, pages, errors, 1);
	ck_assert_int_eq(errors[0], 0);
	put_pages(pages, 1);

	disk.bad_last = 0;
	read_some(big, 100, pages, errors, 1);
	ck_assert_int_eq(errors[0], 0);
	put_pages(pages, 1);
	inode_put(big);
	unmount_clean();
}
END_TEST

/* Written pages lie in the file afterwards, everything else is as it was, e2fsck is content. */
START_TEST(write_in_place)
{
	mount_combination(_i);
	struct inode *big = must_find("/big");
	struct page *pages[3];
	int errors[3];
	u64 last = big->size >> PAGE_SHIFT;

	read_some(big, 700, pages, errors, 3);
	for (unsigned i = 0; i < 3; i++)
		memset(page_kva(pages[i]), 'A' + (int)i, PAGE_SIZE);
	ck_assert_int_eq(big->mapping.ops->write_pages(big, 700, pages, 3), 0);
	memset(page_kva(pages[0]), 'Z', PAGE_SIZE); /* past the file's end too */
	ck_assert_int_eq(big->mapping.ops->write_pages(big, last, pages, 1), 0);
	put_pages(pages, 3);
	inode_put(big);
	unmount_clean();

	fake_disk_save(&disk, in_dir("written.img"));
	shell(
	    "e2fsck -fn written.img >/dev/null 2>&1 && "
	    "debugfs -R 'dump /big big.out' written.img 2>/dev/null && cp tree/big big.want && "
	    "for i in 0 1 2; do head -c 4096 /dev/zero | tr '\\0' $(echo A B C | cut -c "
	    "$((2 * i + 1))) | dd of=big.want bs=4096 seek=$((700 + i)) conv=notrunc status=none; "
	    "done; head -c 123 /dev/zero | tr '\\0' Z | "
	    "dd of=big.want bs=4096 seek=768 conv=notrunc status=none; cmp big.out big.want");
	char tail[4];
	memcpy(tail, "ZZ\0", 4); /* the rest of the last block is zero, not the mapping's rubbish */
	char *end = memmem(disk.image, disk.size, tail, 3);
	ck_assert_ptr_nonnull(end);
	ck_assert_int_eq(end[3], 0);
}
END_TEST

START_TEST(write_refused)
{
	mount_combination(_i);
	struct inode *sparse = must_find("/sparse");
	struct page *page = alloc_page(GFP_ZERO);

	u64 blocks = sparse->blocks;

	/* A hole stays one: who writes asks for blocks first. */
	ck_assert_int_eq(sparse->mapping.ops->write_pages(sparse, 100, &page, 1), 0);
	ck_assert_uint_eq(sparse->blocks, blocks);
	disk.bad_last = disk.bdev.sectors;
	ck_assert_int_eq(sparse->mapping.ops->write_pages(sparse, 1251, &page, 1), -EIO);
	put_page(page);
	inode_put(sparse);
	unmount_clean();

	fake_reset();
	fake_disk_load(&disk, 0, in_dir("4096.img"), false);
	disk.bdev.read_only = true;
	ck_assert_int_eq(fs_mount(&disk.bdev, "/"), 0);
	struct inode *big = must_find("/big");
	ck_assert(fs_read_only(big));
	page = alloc_page(GFP_ZERO);
	ck_assert_int_eq(big->mapping.ops->write_pages(big, 0, &page, 1), -EROFS);
	put_page(page);
	inode_put(big);
	unmount_clean();
}
END_TEST

/* On pmem, a file's pages are where the device says, without any I/O. */
START_TEST(dax)
{
	mount_combination(2 * KINDS + 2);
	struct inode *big = must_find("/big");
	struct inode *sparse = must_find("/sparse");
	struct page *pages[1];
	int errors[1];
	u64 phys, n;

	ck_assert(big->dax);
	ck_assert_uint_eq(disk.bios, 0);
	for (u64 i = 0; i < big->size >> PAGE_SHIFT; i++) {
		ck_assert_int_eq(big->mapping.ops->dax_run(big, i, 1, &phys, &n), 0);
		ck_assert_uint_eq(n, 1);
		read_some(big, i, pages, errors, 1);
		ck_assert(!memcmp(phys_to_virt(phys), page_kva(pages[0]), PAGE_SIZE));
		put_pages(pages, 1);
	}
	ck_assert_int_eq(big->mapping.ops->dax_run(big, 769, 1, &phys, &n), -ERANGE);
	ck_assert_int_eq(big->mapping.ops->dax_run(big, ~0ULL, 1, &phys, &n), -ERANGE);
	ck_assert_int_eq(sparse->mapping.ops->dax_run(sparse, 100, 4, &phys, &n), -ENOENT);
	ck_assert_uint_eq(n, 4);

	/* Whole runs: what they say is what page by page gives, and they end with the file. */
	for (u64 i = 0, run; i < big->size >> PAGE_SHIFT; i += run) {
		u64 each;

		ck_assert_int_eq(big->mapping.ops->dax_run(big, i, ~0ULL, &phys, &run), 0);
		for (u64 k = 0; k < run; k++) {
			ck_assert_int_eq(big->mapping.ops->dax_run(big, i + k, 1, &each, &n), 0);
			ck_assert_uint_eq(each, phys + (k << PAGE_SHIFT));
		}
		ck_assert_uint_le(i + run, (big->size + PAGE_SIZE - 1) >> PAGE_SHIFT);
	}
	inode_put(big), inode_put(sparse);
	unmount_clean();

	/* Smaller blocks cannot be mapped: such files go through the page cache. */
	mount_combination(2);
	struct inode *small = must_find("/big");
	ck_assert(!small->dax);
	inode_put(small);
}
END_TEST

Suite *ext2_suite(void)
{
	Suite *s = suite_create("guest ext2");
	TCase *tc = tcase_create("ext2");

	tcase_add_unchecked_fixture(tc, images_make, images_remove);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, contents, 0, COMBINATIONS);
	tcase_add_loop_test(tc, paths, 0, COMBINATIONS);
	tcase_add_loop_test(tc, directory_walk, 0, COMBINATIONS);
	tcase_add_loop_test(tc, second_mount, 0, COMBINATIONS);
	tcase_add_test(tc, coalescing);
	tcase_add_loop_test(tc, read_error, 0, COMBINATIONS);
	tcase_add_loop_test(tc, write_in_place, 0, COMBINATIONS);
	tcase_add_loop_test(tc, write_refused, 0, 2);
	tcase_add_test(tc, dax);
	suite_add_tcase(s, tc);
	return s;
}
