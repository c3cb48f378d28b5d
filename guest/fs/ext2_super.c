/* The superblock: whether it is one, whether it makes sense, and what it asks of a reader. */
#include "guest/fs/ext2.h"
#include "guest/include/page.h"
#include "guest/include/printk.h"

static int refuse(const struct super_block *sb, const char *what, u64 detail)
{
	printk("%s: ext2: %s (%lu)\n", sb->bdev->name, what, detail);
	return -EUCLEAN;
}

static int check_features(struct super_block *sb, const struct ext2_disk_super *ds)
{
	u32 unknown = ds->feature_incompat & ~EXT2_INCOMPAT_KNOWN;

	if (!ds->rev_level)
		return 0;
	if (unknown) {
		printk("%s: ext2: made with features 0x%x, which this kernel does not read; "
		       "mke2fs -t ext2 makes none of them\n",
		       sb->bdev->name, unknown);
		return -EOPNOTSUPP;
	}
	if (ds->feature_ro_compat & ~EXT2_RO_COMPAT_KNOWN)
		sb->read_only = true;
	return 0;
}

/* Sizes and counts: each in its range, then against each other and the device. */
static int check_geometry(const struct super_block *sb, const struct ext2_disk_super *ds,
			  struct ext2_super *es)
{
	if (ds->log_block_size > 2)
		return refuse(sb, "block size is not 1, 2 or 4 KiB, logarithm", ds->log_block_size);
	es->block_shift = 10 + ds->log_block_size;
	es->block_size = 1U << es->block_shift;
	es->inode_size = ds->rev_level ? ds->inode_size : sizeof(struct ext2_disk_inode);
	if (es->inode_size < sizeof(struct ext2_disk_inode) || es->inode_size > es->block_size ||
	    es->inode_size & (es->inode_size - 1))
		return refuse(sb, "inode size", es->inode_size);
	if (ds->first_data_block != (es->block_size == 1024))
		return refuse(sb, "first data block", ds->first_data_block);
	if (ds->blocks_count <= ds->first_data_block ||
	    (u64)ds->blocks_count << (es->block_shift - SECTOR_SHIFT) > sb->bdev->sectors)
		return refuse(sb, "larger than its device, or empty, blocks", ds->blocks_count);
	if (!ds->blocks_per_group || ds->blocks_per_group > 8 * es->block_size)
		return refuse(sb, "blocks per group", ds->blocks_per_group);
	if (!ds->inodes_per_group || ds->inodes_per_group > 8 * es->block_size)
		return refuse(sb, "inodes per group", ds->inodes_per_group);

	es->blocks_count = ds->blocks_count;
	es->first_data_block = ds->first_data_block;
	es->blocks_per_group = ds->blocks_per_group;
	es->inodes_per_group = ds->inodes_per_group;
	es->inodes_count = ds->inodes_count;
	es->first_ino = MAX(ds->rev_level ? ds->first_ino : 11, EXT2_ROOT_INO + 1U);
	es->free_blocks = ds->free_blocks_count;
	es->free_inodes = ds->free_inodes_count;
	es->groups = (es->blocks_count - es->first_data_block - 1) / es->blocks_per_group + 1;
	if (es->inodes_count < EXT2_ROOT_INO ||
	    es->inodes_count > (u64)es->groups * es->inodes_per_group)
		return refuse(sb, "inodes", es->inodes_count);
	return 0;
}

/* --- the superblock while it is mounted ------------------------------------------------------ */

static int update_super(struct super_block *sb, u16 state)
{
	struct ext2_super *es = sb->private;
	struct ext2_disk_super *ds;
	struct buffer *buf;
	void *data;
	int err = buffer_read(sb, EXT2_SUPER_OFFSET, sizeof(*ds), &buf, &data);

	if (err)
		return err;
	ds = data;
	ds->free_blocks_count = es->free_blocks;
	ds->free_inodes_count = es->free_inodes;
	ds->state = state;
	buffer_dirty(buf, ds, sizeof(*ds));
	buffer_put(buf);
	return 0;
}

void ext2_changed(struct super_block *sb)
{
	struct ext2_super *es = sb->private;

	if (es->changed)
		return;
	es->changed = true;
	update_super(sb, es->state & (u16)~EXT2_STATE_CLEAN);
}

static int ext2_sync(struct super_block *sb, bool last)
{
	struct ext2_super *es = sb->private;
	int err = 0;

	mutex_lock(&sb->lock);
	if (es->changed)
		err = update_super(sb, es->state & (u16) ~(last ? 0 : EXT2_STATE_CLEAN));
	if (!err)
		err = buffer_sync(sb);
	mutex_unlock(&sb->lock);
	return err;
}

static void ext2_statfs(struct super_block *sb, struct fs_stat *st)
{
	const struct ext2_super *es = sb->private;

	*st = (struct fs_stat){
	    .type = EXT2_SUPER_MAGIC,
	    .block_size = es->block_size,
	    .blocks = es->blocks_count - es->first_data_block,
	    .free_blocks = es->free_blocks,
	    .inodes = es->inodes_count,
	    .free_inodes = es->free_inodes,
	};
}

static void ext2_unmount(struct super_block *sb)
{
	kfree(sb->private);
}

static void ext2_free_inode(struct inode *inode)
{
	kfree(inode->private);
}

static const struct super_ops ext2_super_ops = {
    .read_inode = ext2_read_inode,
    .read_link = ext2_read_link,
    .delete_inode = ext2_delete_inode,
    .sync = ext2_sync,
    .statfs = ext2_statfs,
    .free_inode = ext2_free_inode,
    .unmount = ext2_unmount,
};

int ext2_mount(struct super_block *sb, u64 *root_ino)
{
	struct ext2_super *es = kzalloc(sizeof(*es));
	struct buffer *buf;
	void *data;

	if (!es)
		return -ENOMEM;
	int err = buffer_read(sb, EXT2_SUPER_OFFSET, sizeof(struct ext2_disk_super), &buf, &data);
	if (err)
		goto fail;
	/* Checked and used must be the same: on persistent memory the host could change it. */
	struct ext2_disk_super ds = *(const struct ext2_disk_super *)data;
	buffer_put(buf);

	err = ds.magic == EXT2_SUPER_MAGIC ? 0 : refuse(sb, "no such filesystem, magic", ds.magic);
	if (!err)
		err = check_features(sb, &ds);
	if (!err)
		err = check_geometry(sb, &ds, es);
	if (err)
		goto fail;
	if (!(ds.state & EXT2_STATE_CLEAN))
		printk("%s: ext2: was not unmounted cleanly, or has errors: e2fsck it\n",
		       sb->bdev->name);
	es->state = ds.state;
	es->filetype = ds.rev_level && ds.feature_incompat & EXT2_INCOMPAT_FILETYPE;
	es->large_files = ds.rev_level && ds.feature_ro_compat & EXT2_RO_COMPAT_LARGE_FILE;
	/* e2fsck takes small times of deletion for inode numbers. */
	sb->time_base = (s64)MAX(MAX(ds.wtime, ds.mtime), ds.inodes_count + 1);
	sb->private = es;
	sb->ops = &ext2_super_ops;
	*root_ino = EXT2_ROOT_INO;
	return 0;
fail:
	kfree(es);
	return err;
}
