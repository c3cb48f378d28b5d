#include "tests/guest/fs_test.h"
#include "tests/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CHUNK = 16 };

static char dir[64];

const char *in_dir(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

void shell(const char *command)
{
	char line[2048];

	snprintf(line, sizeof(line), "cd %s && PATH=$PATH:/usr/sbin:/sbin && { %s; } >/dev/null",
		 dir, command);
	ck_assert_msg(system(line) == 0, "failed: %s", command);
}

/* Bytes that differ from page to page, the same in each run. */
static void write_noise(const char *name, size_t len)
{
	FILE *f = fopen(in_dir(name), "wb");
	u32 x = 12345;

	ck_assert_ptr_nonnull(f);
	for (size_t i = 0; i < len; i++) {
		x = x * 1664525 + 1013904223;
		fputc((int)(x >> 24), f);
	}
	ck_assert_int_eq(fclose(f), 0);
}

void images_make(void)
{
	snprintf(dir, sizeof(dir), "%s", scratch("images"));
	ck_assert_int_eq(mkdir(dir, 0755), 0);
	shell("mkdir -p tree/dir/many tree/deep/er && printf 'a small file\n' >tree/small &&"
	      ": >tree/empty && cp tree/small tree/deep/er/small");
	write_noise("tree/big", (3 << 20) + 123);
	/* The last part is behind three levels of indirection if blocks are of 1 KiB. */
	shell("truncate -s 70M tree/sparse && "
	      "dd if=tree/big of=tree/sparse bs=1k count=50 seek=5000 conv=notrunc status=none && "
	      "dd if=tree/big of=tree/sparse bs=1k count=3 seek=71000 conv=notrunc status=none");
	shell("for i in $(seq 300); do echo $i >tree/dir/many/a-file-with-the-number-$i; done");
	shell(
	    "cd tree && ln -s ../small dir/fast && ln -s /deep/er abs && ln -s nowhere dangling &&"
	    "ln -s loop-b loop-a && ln -s loop-a loop-b && ln -s small tail &&"
	    "ln -s $(printf './%.0s' $(seq 100))small slow");
	shell("for bs in 1024 2048 4096; do"
	      "  mke2fs -q -F -t ext2 -b $bs -m 0 -N 512 -d tree $bs.img 8M; done");
	shell("mke2fs -q -F -t ext4 ext4.img 8M");
	shell("mke2fs -q -F -t ext2 -b 4096 -O dir_nlink other.img 4M");
}

void images_remove(void)
{
	char line[128];

	snprintf(line, sizeof(line), "rm -rf %s", dir);
	ck_assert_int_eq(system(line), 0);
}

int mount_image(struct fake_disk *disk, unsigned slot, const char *name, bool pmem)
{
	fake_disk_load(disk, slot, in_dir(name), pmem);
	return fs_mount(&disk->bdev, slot ? "/other" : "/");
}

struct inode *must_find(const char *path)
{
	struct inode *inode = NULL;
	int err = fs_lookup(path, &inode);

	ck_assert_msg(!err, "%s: error %d: %s", path, err, fake_log);
	return inode;
}

int find_error(const char *path)
{
	struct inode *inode;
	int err = fs_lookup(path, &inode);

	if (!err)
		inode_put(inode);
	return err;
}

/* One page against the original, zeroes past its end. */
static void compare_page(FILE *f, u64 index, const struct page *page, const char *name)
{
	static char want[PAGE_SIZE];

	memset(want, 0, sizeof(want));
	fseek(f, (long)(index << PAGE_SHIFT), SEEK_SET);
	if (!fread(want, 1, sizeof(want), f) || memcmp(page_kva(page), want, PAGE_SIZE) != 0)
		ck_abort_msg("%s: page %lu differs", name, index);
}

void expect_same(const char *path, const char *original)
{
	char name[128];
	struct page *pages[CHUNK];
	int errors[CHUNK];
	struct inode *inode = must_find(path);

	snprintf(name, sizeof(name), "tree/%s", original);
	FILE *f = fopen(in_dir(name), "rb");
	ck_assert_ptr_nonnull(f);
	fseek(f, 0, SEEK_END);
	ck_assert_uint_eq(inode->size, (u64)ftell(f));
	for (unsigned i = 0; i < CHUNK; i++)
		pages[i] = alloc_page(0);
	u64 end = (inode->size + PAGE_SIZE - 1) >> PAGE_SHIFT;
	for (u64 at = 0; at < end; at += CHUNK) {
		unsigned n = (unsigned)MIN(end - at, (u64)CHUNK);

		fake_read_pages(inode, at, pages, errors, n);
		for (unsigned i = 0; i < n; i++) {
			if (errors[i])
				ck_abort_msg("%s: page %lu: error %d", path, at + i, errors[i]);
			compare_page(f, at + i, pages[i], path);
		}
	}
	for (unsigned i = 0; i < CHUNK; i++)
		put_page(pages[i]);
	fclose(f);
	inode_put(inode);
}

void unmount_clean(void)
{
	fs_unmount_all();
	ck_assert_msg(!strstr(fake_log, "in use"), "%s", fake_log);
	ck_assert_int_eq(fake_allocated(), 0);
}
