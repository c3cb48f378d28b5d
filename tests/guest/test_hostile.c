/* Images that are wrong: each kind once by hand, then many by dice. Never a crash or a hang. */
#include "guest/fs/ext2.h"
#include "guest/include/file.h"
#include "tests/guest/fs_test.h"
#include <stdlib.h>
#include <string.h>

enum { DICE_ROUNDS = 150, MAX_PAGES = 64 };

static struct fake_disk disk;

static struct ext2_disk_super *super(void)
{
	return (struct ext2_disk_super *)(disk.image + EXT2_SUPER_OFFSET);
}

static struct ext2_disk_inode *disk_inode(const struct inode *inode)
{
	struct ext2_super *es = inode->sb->private;
	struct ext2_disk_group *groups =
	    (void *)(disk.image + ((u64)(es->first_data_block + 1) << es->block_shift));
	u64 index = inode->ino - 1;

	return (void *)(disk.image +
			((u64)groups[index / es->inodes_per_group].inode_table << es->block_shift) +
			index % es->inodes_per_group * es->inode_size);
}

static void load(const char *name)
{
	fake_reset();
	fake_disk_load(&disk, 0, in_dir(name), false);
	disk.limit = 100000;
}

static void expect_refused(int err, const char *message)
{
	ck_assert_int_eq(fs_mount(&disk.bdev, "/"), err);
	ck_assert_msg(strstr(fake_log, message), "\"%s\" is not in: %s", message, fake_log);
	ck_assert_int_eq(fake_allocated(), 0);
}

START_TEST(not_ext2)
{
	load("tree/big");
	expect_refused(-EUCLEAN, "no such filesystem");
	load("small.img"); /* too short to hold a superblock */
	ck_assert_int_eq(fs_mount(&disk.bdev, "/"), -EIO);
	ck_assert_int_eq(fake_allocated(), 0);
}
END_TEST

START_TEST(unknown_features)
{
	load("ext4.img");
	expect_refused(-EOPNOTSUPP, "features 0x");
	load("4096.img");
	super()->feature_ro_compat |= 0x400; /* metadata checksums: readable, not writable */
	ck_assert_int_eq(fs_mount(&disk.bdev, "/"), 0);
	struct inode *root = must_find("/");
	ck_assert(fs_read_only(root));
	inode_put(root);
	unmount_clean();
}
END_TEST

#define BAD_SUPER(field, value, message) \
	do { \
		load("4096.img"); \
		super()->field = (value); \
		expect_refused(-EUCLEAN, message); \
	} while (0)

START_TEST(bad_superblock)
{
	BAD_SUPER(log_block_size, 3, "block size");
	BAD_SUPER(log_block_size, ~0U, "block size");
	BAD_SUPER(inode_size, 100, "inode size");
	BAD_SUPER(inode_size, 192, "inode size");
	BAD_SUPER(inode_size, 8192, "inode size");
	BAD_SUPER(first_data_block, 1, "first data block");
	BAD_SUPER(blocks_count, 1000000, "larger than its device");
	BAD_SUPER(blocks_count, 0, "larger than its device");
	BAD_SUPER(blocks_per_group, 0, "blocks per group");
	BAD_SUPER(blocks_per_group, ~0U, "blocks per group");
	BAD_SUPER(inodes_per_group, 0, "inodes per group");
	BAD_SUPER(inodes_count, 1, "inodes");
	BAD_SUPER(inodes_count, ~0U, "inodes");
}
END_TEST

START_TEST(truncated_device)
{
	load("4096.img");
	disk.bdev.sectors /= 2;
	expect_refused(-EUCLEAN, "larger than its device");
}
END_TEST

/* The inode of /big on a fresh image, changed before the filesystem looks at it again. */
static struct ext2_disk_inode *remount_with_big(void)
{
	load("4096.img");
	ck_assert_int_eq(fs_mount(&disk.bdev, "/"), 0);
	struct inode *big = must_find("/big");
	struct ext2_disk_inode *di = disk_inode(big);

	inode_put(big);
	unmount_clean();
	return di;
}

static int lookup_again(const char *path)
{
	ck_assert_int_eq(fs_mount(&disk.bdev, "/"), 0);
	int err = find_error(path);

	unmount_clean();
	return err;
}

START_TEST(bad_inode)
{
	remount_with_big()->links_count = 0;
	ck_assert_int_eq(lookup_again("/big"), -EUCLEAN);
	remount_with_big()->flags |= 0x80000;
	ck_assert_int_eq(lookup_again("/big"), -EUCLEAN);
	remount_with_big()->size_high = 0x7fffffff;
	ck_assert_int_eq(lookup_again("/big"), -EUCLEAN);
	remount_with_big()->mode = S_IFCHR | 0644;
	ck_assert_int_eq(lookup_again("/big"), -EUCLEAN);
	remount_with_big()->mode = S_IFDIR | 0755; /* its size is not a multiple of a block */
	ck_assert_int_eq(lookup_again("/big"), -EUCLEAN);
	remount_with_big()->mode = S_IFLNK | 0777;
	ck_assert_int_eq(lookup_again("/big"), -EUCLEAN);
	ck_assert_msg(strstr(fake_log, "fake0: ext2: inode"), "%s", fake_log);
}
END_TEST

/* Reads one page of /big from a fresh mount; its error. */
static int read_page_again(u64 index)
{
	struct page *page = alloc_page(0);
	int error;

	ck_assert_int_eq(fs_mount(&disk.bdev, "/"), 0);
	struct inode *big = must_find("/big");
	fake_read_pages(big, index, &page, &error, 1);
	inode_put(big);
	put_page(page);
	unmount_clean();
	return error;
}

START_TEST(bad_block_map)
{
	struct ext2_disk_inode *di = remount_with_big();

	di->block[3] = super()->blocks_count;
	ck_assert_int_eq(read_page_again(2), 0);
	ck_assert_int_eq(read_page_again(3), -EUCLEAN);
	ck_assert_int_eq(read_page_again(4), 0);
	di->block[12] = ~0U;
	ck_assert_int_eq(read_page_again(12), -EUCLEAN);
	di->block[12] = 0; /* a hole of 1024 blocks */
	ck_assert_int_eq(read_page_again(12), 0);
	/* An indirect block that is its own first entry: just another block of data. */
	di->block[12] = 2000;
	*(u32 *)(disk.image + 2000 * PAGE_SIZE) = 2000;
	ck_assert_int_eq(read_page_again(12), 0);
}
END_TEST

START_TEST(bad_directory)
{
	load("4096.img");
	ck_assert_int_eq(fs_mount(&disk.bdev, "/"), 0);
	struct inode *root = must_find("/");
	struct ext2_disk_inode *di = disk_inode(root);
	struct ext2_disk_dirent *first = (void *)(disk.image + di->block[0] * PAGE_SIZE);
	struct ext2_disk_dirent saved = *first;

	inode_put(root);
	unmount_clean();
	for (unsigned rec_len = 0; rec_len < 12; rec_len++) {
		first->rec_len = (u16)rec_len;
		first->name_len = 5;
		ck_assert_int_eq(lookup_again("/big"), -EUCLEAN);
	}
	first->rec_len = 4100;
	ck_assert_int_eq(lookup_again("/big"), -EUCLEAN);
	memcpy(first, &saved, sizeof(saved));
	first->inode = ~0U;
	ck_assert_int_eq(lookup_again("/big"), -EUCLEAN);
	memcpy(first, &saved, sizeof(saved));
	ck_assert_int_eq(lookup_again("/big"), 0);
	di->block[0] = 0;
	ck_assert_int_eq(lookup_again("/big"), -EUCLEAN);
	/* One root for ever: a directory that contains itself is walked as far as the path goes. */
}
END_TEST

/* Reads what can be read of whatever `path` names now. */
static void poke(const char *path)
{
	struct page *pages[MAX_PAGES];
	int errors[MAX_PAGES];
	struct inode *inode;
	u64 run, phys;

	if (fs_lookup(path, &inode))
		return;
	if (S_ISREG(inode->mode)) {
		u64 end = (inode->size + PAGE_SIZE - 1) >> PAGE_SHIFT;
		unsigned n = (unsigned)MIN(end, (u64)MAX_PAGES);

		for (unsigned i = 0; i < n; i++)
			pages[i] = alloc_page(0);
		/* The beginning and the end; frames or memory may be out. */
		bool all = true;
		for (unsigned i = 0; i < n; i++)
			all = all && pages[i];
		if (n && all) {
			fake_read_pages(inode, 0, pages, errors, n);
			fake_read_pages(inode, end - n, pages, errors, n);
			inode->mapping.ops->write_pages(inode, 0, pages, n);
		}
		if (inode->dax)
			inode->mapping.ops->dax_run(inode, end / 2, end, &phys, &run);
		for (unsigned i = 0; i < n; i++) {
			if (pages[i])
				put_page(pages[i]);
		}
	}
	inode_put(inode);
}

/* Changes what can be changed: where the bitmaps lie, the maps have loops, the names are no names.
 */
static void change_all(void)
{
	struct inode *inode;

	fs_make(NULL, "/dir/fresh", S_IFDIR | 0755, NULL);
	fs_make(NULL, "/dir/fresh/link", S_IFLNK | 0777, "a target");
	fs_rename(NULL, "/deep", NULL, "/dir/fresh/deep", false);
	fs_rename(NULL, "/dir/many/a-file-with-the-number-9", NULL, "/small", false);
	fs_unlink(NULL, "/dir/many/a-file-with-the-number-8", false);
	if (!fs_open(NULL, "/dir/fresh/file", O_RDWR | O_CREAT, 0644, &inode)) {
		static const u64 pages[] = {0, 11, 12, 1100};

		for (unsigned i = 0; i < ARRAY_SIZE(pages); i++) {
			inode->size = (pages[i] + 1) << PAGE_SHIFT;
			if (S_ISREG(inode->mode))
				inode->ops->allocate(inode, pages[i], inode->size);
		}
		if (S_ISREG(inode->mode))
			fs_truncate(inode, 5 * PAGE_SIZE);
		fs_link(inode, NULL, "/another");
		inode_put(inode);
	}
	if (!fs_lookup("/sparse", &inode)) {
		if (S_ISREG(inode->mode))
			fs_truncate(inode, 3 << 20);
		inode_put(inode);
	}
	fs_unlink(NULL, "/big", false);
	fs_unlink(NULL, "/sparse", false);
	fs_unlink(NULL, "/dir/fresh/file", false);
	fs_unlink(NULL, "/dir/many", true);
}

static void poke_all(void)
{
	static const char *const paths[] = {
	    "/small",	"/big",		  "/sparse",   "/dir/many/a-file-with-the-number-7",
	    "/slow",	"/abs/small",	  "/dir/fast", "/loop-a",
	    "/nothing", "/deep/er/small", "/empty",
	};

	if (fs_mount(&disk.bdev, "/"))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		poke(paths[i]);
	change_all();
	fs_unmount_all();
}

/* Where the metadata is: what lies before the first megabyte, and the indirect blocks. */
static void roll_dice(unsigned seed, const char *pristine, size_t len)
{
	memcpy(disk.image, pristine, len);
	srand(seed);
	for (unsigned n = (unsigned)rand() % 200 + 1; n; n--) {
		size_t at = (size_t)rand() % (rand() % 4 ? len / 16 : len);

		if (rand() % 8 == 0 && at + 4 <= len) /* a whole field of ones, or of zeroes */
			memset(disk.image + at, rand() % 2 ? 0xff : 0, 4);
		else
			disk.image[at] = (char)rand();
	}
}

START_TEST(dice)
{
	static const char *const images[] = {"1024.img", "2048.img", "4096.img"};
	char *pristine;

	fake_reset();
	fake_disk_load(&disk, 0, in_dir(images[_i % 3]), _i >= 3);
	pristine = malloc(disk.size);
	memcpy(pristine, disk.image, disk.size);
	for (unsigned seed = 0; seed < DICE_ROUNDS; seed++) {
		roll_dice(seed, pristine, disk.size);
		disk.bios = 0;
		disk.limit = 100000;
		disk.async = seed & 1;
		poke_all();
		ck_assert_int_eq(fake_allocated(), 0);
	}
	free(pristine);
}
END_TEST

/* Each allocation fails once: an error comes out, nothing leaks. */
START_TEST(out_of_memory)
{
	load(_i ? "1024.img" : "4096.img");
	char *pristine = malloc(disk.size);

	memcpy(pristine, disk.image, disk.size);
	for (long n = 0; n < 400; n++) {
		memcpy(disk.image, pristine, disk.size);
		fake_fail_allocation(n);
		poke_all();
		fake_fail_allocation(-1);
		ck_assert_int_eq(fake_allocated(), 0);
		disk.bios = 0;
	}
	free(pristine);
}
END_TEST

static void make_images(void)
{
	images_make();
	shell("printf x >small.img");
}

Suite *hostile_suite(void)
{
	Suite *s = suite_create("guest ext2, hostile");
	TCase *tc = tcase_create("hostile");

	tcase_add_unchecked_fixture(tc, make_images, images_remove);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, not_ext2);
	tcase_add_test(tc, unknown_features);
	tcase_add_test(tc, bad_superblock);
	tcase_add_test(tc, truncated_device);
	tcase_add_test(tc, bad_inode);
	tcase_add_test(tc, bad_block_map);
	tcase_add_test(tc, bad_directory);
	tcase_add_loop_test(tc, dice, 0, 6);
	tcase_add_loop_test(tc, out_of_memory, 0, 2);
	suite_add_tcase(s, tc);
	return s;
}
