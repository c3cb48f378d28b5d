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
		printk("%s: %u files were still in use\n", sb->where, in_use);
	buffer_release_all(sb);
	if (sb->private)
		sb->ops->unmount(sb);
	kfree(sb);
}

static struct super_block *alloc_super(struct block_device *bdev, const char *where)
{
	static u32 number;
	struct super_block *sb = kzalloc(sizeof(*sb));

	if (!sb)
		return NULL;
	sb->bdev = bdev;
	sb->number = ++number;
	memcpy(sb->where, where, strlen(where) + 1);
	list_init(&sb->buffers);
	mutex_init(&sb->lock);
	return sb;
}

/* Its root is read, and it is there. */
static int attach(struct super_block *sb, u64 root_ino)
{
	struct super_block **end = &mounted;
	int err;

	mutex_lock(&sb->lock);
	err = inode_lookup(sb, root_ino, &sb->root);
	mutex_unlock(&sb->lock);
	if (err)
		return err;
	if (!S_ISDIR(sb->root->mode)) {
		printk("%s: the root is not a directory\n", sb->where);
		inode_put(sb->root);
		return -EUCLEAN;
	}
	while (*end)
		end = &(*end)->next;
	*end = sb;
	return 0;
}

int fs_mount(struct block_device *bdev, const char *where)
{
	u64 root_ino;
	int err;

	if (!place_ok(where))
		return -EINVAL;
	struct super_block *sb = alloc_super(bdev, where);
	if (!sb)
		return -ENOMEM;
	sb->read_only = bdev->read_only;
	mutex_lock(&sb->lock);
	err = ext2_mount(sb, &root_ino);
	mutex_unlock(&sb->lock);
	if (!err)
		err = attach(sb, root_ino);
	if (err) {
		free_super(sb);
		return err;
	}
	pr_info("%s: ext2 mounted at %s%s\n", bdev->name, where,
		sb->read_only ? ", read-only" : "");
	return 0;
}

int fs_mount_pseudo(const char *where, const struct super_ops *ops, u64 root_ino)
{
	if (!place_ok(where))
		return -EINVAL;
	struct super_block *sb = alloc_super(NULL, where);
	if (!sb)
		return -ENOMEM;
	sb->uncached = true;
	sb->ops = ops;
	int err = attach(sb, root_ino);
	if (err)
		free_super(sb);
	return err;
}

void pseudo_inode(struct inode *inode, u32 mode, const struct inode_ops *ops)
{
	static const struct address_space_ops no_pages;

	inode->mode = mode;
	inode->nlink = S_ISDIR(mode) ? 2 : 1;
	inode->ops = ops;
	inode->atime = inode->mtime = inode->ctime = fs_time(inode);
	address_space_init(&inode->mapping, inode, &no_pages);
}

u64 fs_device(const struct inode *inode)
{
	return inode->sb ? inode->sb->number : 0;
}

bool fs_read_only(const struct inode *inode)
{
	return inode->sb && inode->sb->read_only;
}

s64 fs_time(const struct inode *inode)
{
	/* Those without a device count as the root does. */
	const struct super_block *sb = inode->sb->bdev ? inode->sb : mounted;

	return sb->time_base + (s64)(ktime_ns() / 1000000000);
}

void fs_statfs(const struct inode *inode, struct fs_stat *st)
{
	*st = (struct fs_stat){.type = 0x9fa0 /* proc's */, .block_size = PAGE_SIZE};
	if (inode->sb->ops->statfs)
		inode->sb->ops->statfs(inode->sb, st);
}

/* Everything dirty to the devices; with `last`, as it is to be left. */
static int sync_all(bool last)
{
	int first_error = 0;

	for (struct super_block *sb = mounted; sb; sb = sb->next) {
		if (!sb->bdev)
			continue;
		int err = inode_sync_all(sb);
		int meta_err = sb->ops->sync(sb, last && !err);
		int flush_err = blkdev_flush(sb->bdev);

		err = err ? err : meta_err;

		if (err || flush_err)
			printk("%s: not all was written (error %d)\n", sb->bdev->name,
			       err ? -err : -flush_err);
		if (!first_error)
			first_error = err ? err : flush_err;
	}
	return first_error;
}

int fs_sync(void)
{
	return sync_all(false);
}

void fs_unmount_all(void)
{
	sync_all(true);
	while (mounted) {
		struct super_block *sb = mounted;

		mounted = sb->next;
		inode_put(sb->root);
		free_super(sb);
	}
}
