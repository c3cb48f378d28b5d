/* The mounted filesystems: one at "/", others at folders directly below. */
#include "guest/fs/internal.h"
#include "guest/include/page.h"
#include "guest/include/printk.h"
#include "guest/include/string.h"

struct super_block *mounted; /* in order of mounting: "/" first */

static bool place_ok(const char *where)
{
	size_t len = strlen(where);

	if (where[0] != '/' || len >= sizeof(((struct super_block *)0)->where))
		return false;
	if (!mounted)
		return len == 1;
	for (struct super_block *sb = mounted; sb; sb = sb->next) {
		if (!strcmp(sb->where, where))
			return false;
	}
	return len > 1 && !strchr(where + 1, '/');
}

static void free_super(struct super_block *sb)
{
	unsigned in_use = inode_release_all(sb);

	if (in_use)
		printk("%s: %u files were still in use\n", sb->bdev->name, in_use);
	buffer_release_all(sb);
	if (sb->private)
		sb->ops->unmount(sb);
	kfree(sb);
}

int fs_mount(struct block_device *bdev, const char *where)
{
	struct super_block **end = &mounted;
	u64 root_ino;

	if (!place_ok(where))
		return -EINVAL;
	struct super_block *sb = kzalloc(sizeof(*sb));
	if (!sb)
		return -ENOMEM;
	sb->bdev = bdev;
	sb->read_only = bdev->read_only;
	memcpy(sb->where, where, strlen(where) + 1);
	list_init(&sb->buffers);

	int err = ext2_mount(sb, &root_ino);
	if (err)
		goto fail;
	err = inode_lookup(sb, root_ino, &sb->root);
	if (!err && !S_ISDIR(sb->root->mode)) {
		printk("%s: the root is not a directory\n", bdev->name);
		inode_put(sb->root);
		err = -EUCLEAN;
	}
	if (err)
		goto fail;
	while (*end)
		end = &(*end)->next;
	*end = sb;
	pr_info("%s: ext2 mounted at %s%s\n", bdev->name, where,
		sb->read_only ? ", read-only" : "");
	return 0;
fail:
	free_super(sb);
	return err;
}

bool fs_read_only(const struct inode *inode)
{
	return inode->sb && inode->sb->read_only;
}

int fs_sync(void)
{
	int first_error = 0;

	for (struct super_block *sb = mounted; sb; sb = sb->next) {
		int err = inode_sync_all(sb);
		int flush_err = blkdev_flush(sb->bdev);

		if (err || flush_err)
			printk("%s: not all was written (error %d)\n", sb->bdev->name,
			       err ? -err : -flush_err);
		if (!first_error)
			first_error = err ? err : flush_err;
	}
	return first_error;
}

void fs_unmount_all(void)
{
	fs_sync();
	while (mounted) {
		struct super_block *sb = mounted;

		mounted = sb->next;
		inode_put(sb->root);
		free_super(sb);
	}
}
