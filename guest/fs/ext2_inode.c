/* Inodes: read and checked, made, written, deleted; the targets of links. */
#include "guest/fs/ext2.h"
#include "guest/include/page.h"
#include "guest/include/printk.h"
#include "guest/include/string.h"

enum {
	/* A directory larger than this would take minutes to search; mke2fs makes none. */
	MAX_DIR_BYTES = 4 << 20,
	MAX_COMPLAINTS = 20,
	/* A target that fits i_block is kept there. */
	FAST_LINK_SIZE = EXT2_BLOCKS * sizeof(u32),
};

int ext2_corrupt(const struct inode *inode, const char *what, u64 detail)
{
	struct ext2_super *es = ext2_sb(inode);

	/* An image that is all wrong must not keep the console busy. */
	if (es->complaints++ < MAX_COMPLAINTS)
		printk("%s: ext2: inode %lu: %s (%lu)\n", inode->sb->bdev->name, inode->ino, what,
		       detail);
	return -EUCLEAN;
}

int ext2_read_block(struct super_block *sb, u32 block, u32 offset, u32 len, struct buffer **buf,
		    void **data)
{
	struct ext2_super *es = sb->private;

	return buffer_read(sb, ((u64)block << es->block_shift) + offset, len, buf, data);
}

/* --- inodes --------------------------------------------------------------------------------- */

/* Where the inode lies in the inode table of its group. */
static int open_disk_inode(const struct inode *inode, struct buffer **buf,
			   struct ext2_disk_inode **di)
{
	struct ext2_super *es = ext2_sb(inode);
	void *data;

	if (!inode->ino || inode->ino > es->inodes_count)
		return ext2_corrupt(inode, "no such inode, of", es->inodes_count);
	u32 group = (u32)(inode->ino - 1) / es->inodes_per_group;
	u64 offset = (inode->ino - 1) % es->inodes_per_group * es->inode_size;

	/* The group descriptors follow the superblock's block. */
	u64 desc = ((u64)(es->first_data_block + 1) << es->block_shift) +
		   group * sizeof(struct ext2_disk_group);
	int err = buffer_read(inode->sb, desc, sizeof(struct ext2_disk_group), buf, &data);
	if (err)
		return err;
	u32 table = READ_ONCE(((struct ext2_disk_group *)data)->inode_table);
	buffer_put(*buf);

	u32 skip = (u32)(offset >> es->block_shift);
	if (!ext2_blocks_ok(es, table, skip + 1))
		return ext2_corrupt(inode, "inode table outside the filesystem", table);
	err = ext2_read_block(inode->sb, table + skip, (u32)offset & (es->block_size - 1),
			      es->inode_size, buf, &data);
	*di = data;
	return err;
}

static int check_inode(struct inode *inode, const struct ext2_disk_inode *di)
{
	struct ext2_super *es = ext2_sb(inode);

	if (!di->links_count)
		return ext2_corrupt(inode, "names a deleted inode, links", di->links_count);
	if (di->flags & EXT2_FLAGS_UNKNOWN)
		return ext2_corrupt(inode, "contents kept in an unknown way, flags", di->flags);
	switch (inode->mode & S_IFMT) {
	case S_IFREG:
		if (inode->size > ext2_max_size(es))
			return ext2_corrupt(inode, "size", inode->size);
		return 0;
	case S_IFDIR:
		if (!inode->size || inode->size > MAX_DIR_BYTES ||
		    !IS_ALIGNED(inode->size, es->block_size))
			return ext2_corrupt(inode, "directory's size", inode->size);
		return 0;
	case S_IFLNK:
		if (!inode->size || inode->size > es->block_size)
			return ext2_corrupt(inode, "link's size", inode->size);
		return 0;
	case S_IFIFO:
		return 0;
	default:
		return ext2_corrupt(inode, "neither file, directory, link nor pipe, mode",
				    inode->mode);
	}
}

/* What the kernel keeps of an inode beside the fields that the disk has, too. */
static int init_inode(struct inode *inode, const struct ext2_disk_inode *di)
{
	struct ext2_super *es = ext2_sb(inode);
	struct ext2_inode *ei = kzalloc(sizeof(*ei));

	if (!ei)
		return -ENOMEM;
	memcpy(ei->block, di->block, sizeof(ei->block));
	ei->flags = di->flags;
	ei->has_acl = di->file_acl != 0;
	inode->private = ei;
	inode->max_size = ext2_max_size(es);
	inode->ops = S_ISDIR(inode->mode) ? &ext2_dir_ops : &ext2_file_ops;
	/* Pages can only be mapped where they lie if blocks are as large as they. */
	inode->dax =
	    S_ISREG(inode->mode) && inode->sb->bdev->ops->direct && es->block_size == PAGE_SIZE;
	address_space_init(&inode->mapping, inode, &ext2_aops);
	return 0;
}

int ext2_read_inode(struct inode *inode)
{
	struct ext2_disk_inode *place, di;
	struct buffer *buf;
	int err = open_disk_inode(inode, &buf, &place);

	if (err)
		return err;
	di = *place;
	buffer_put(buf);
	inode->mode = di.mode;
	inode->nlink = di.links_count;
	inode->uid = di.uid | (u32)di.uid_high << 16;
	inode->gid = di.gid | (u32)di.gid_high << 16;
	inode->size = di.size;
	if (S_ISREG(di.mode))
		inode->size |= (u64)di.size_high << 32;
	inode->blocks = di.blocks;
	inode->atime = (s32)di.atime;
	inode->mtime = (s32)di.mtime;
	inode->ctime = (s32)di.ctime;
	err = check_inode(inode, &di);
	return err ? err : init_inode(inode, &di);
}

/* --- inodes that change --------------------------------------------------------------------- */

void ext2_touch(struct inode *inode, bool contents)
{
	inode->ctime = fs_time(inode);
	if (contents)
		inode->mtime = inode->ctime;
}

int ext2_write_inode(const struct inode *inode)
{
	const struct ext2_inode *ei = ext2_i(inode);
	struct ext2_disk_inode *di;
	struct buffer *buf;

	ext2_changed(inode->sb);
	int err = open_disk_inode(inode, &buf, &di);
	if (err)
		return err;
	di->mode = (u16)inode->mode;
	di->uid = (u16)inode->uid;
	di->uid_high = (u16)(inode->uid >> 16);
	di->gid = (u16)inode->gid;
	di->gid_high = (u16)(inode->gid >> 16);
	di->links_count = (u16)inode->nlink;
	di->size = (u32)inode->size;
	if (S_ISREG(inode->mode))
		di->size_high = (u32)(inode->size >> 32);
	di->blocks = (u32)inode->blocks;
	di->atime = (u32)inode->atime;
	di->mtime = (u32)inode->mtime;
	di->ctime = (u32)inode->ctime;
	di->dtime = inode->nlink ? 0 : (u32)fs_time(inode);
	di->flags = ei->flags;
	memcpy(di->block, ei->block, sizeof(di->block));
	buffer_dirty(buf, di, sizeof(*di));
	buffer_put(buf);
	return 0;
}

/* What lay in its place is another's that is gone. */
static int clear_disk_inode(const struct inode *inode)
{
	struct ext2_disk_inode *di;
	struct buffer *buf;
	int err = open_disk_inode(inode, &buf, &di);

	if (err)
		return err;
	u32 generation = di->generation + 1;
	memset(di, 0, ext2_sb(inode)->inode_size);
	di->generation = generation;
	buffer_dirty(buf, di, ext2_sb(inode)->inode_size);
	buffer_put(buf);
	return 0;
}

int ext2_new_inode(struct inode *dir, u32 mode, struct inode **out)
{
	static const struct ext2_disk_inode empty;
	struct super_block *sb = dir->sb;
	u32 ino;
	int err = ext2_alloc_ino(sb, (u32)dir->ino, S_ISDIR(mode), &ino);

	if (err)
		return err;
	struct inode *inode = inode_alloc(sb, ino);
	if (!inode) {
		ext2_free_ino(sb, ino, S_ISDIR(mode));
		return -ENOMEM;
	}
	inode->mode = mode;
	inode->nlink = S_ISDIR(mode) ? 2 : 1;
	ext2_touch(inode, true);
	inode->atime = inode->mtime;
	err = clear_disk_inode(inode);
	if (!err)
		err = init_inode(inode, &empty);
	if (err) {
		inode_discard(inode);
		ext2_free_ino(sb, ino, S_ISDIR(mode));
		return err;
	}
	/* In use, and the bitmap called it free: it stays marked, and what uses it is left alone.
	 */
	if (!inode_insert(inode)) {
		kfree(inode->private);
		inode_discard(inode);
		return ext2_corrupt(dir, "bitmap calls a file free, inode", ino);
	}
	*out = inode;
	return 0;
}

void ext2_delete_inode(struct inode *inode)
{
	bool has_blocks =
	    !S_ISFIFO(inode->mode) && !(S_ISLNK(inode->mode) && inode->size < FAST_LINK_SIZE);

	mutex_lock(&inode->sb->lock);
	if (has_blocks)
		ext2_free_blocks_from(inode, 0);
	inode->size = 0;
	ext2_write_inode(inode);
	ext2_free_ino(inode->sb, (u32)inode->ino, S_ISDIR(inode->mode));
	mutex_unlock(&inode->sb->lock);
}

/* --- links ---------------------------------------------------------------------------------- */

int ext2_set_link(struct inode *inode, const char *target)
{
	struct ext2_super *es = ext2_sb(inode);
	size_t len = strlen(target);
	struct buffer *buf;
	void *data;
	u32 block;

	inode->size = len;
	if (len < FAST_LINK_SIZE) {
		memcpy(ext2_i(inode)->block, target, len);
		return 0;
	}
	if (len >= es->block_size)
		return -ENAMETOOLONG;
	int err = ext2_get_block(inode, 0, true, &block);
	if (!err)
		err = ext2_read_block(inode->sb, block, 0, es->block_size, &buf, &data);
	if (err)
		return err;
	memcpy(data, target, len);
	buffer_dirty(buf, data, (u32)len);
	buffer_put(buf);
	return 0;
}

static int read_link_block(struct inode *inode, char *target)
{
	struct ext2_run run;
	struct buffer *buf;
	void *data;
	int err = ext2_map_locked(inode, 0, &run);

	if (err)
		return err;
	if (!run.block)
		return ext2_corrupt(inode, "link without a block, size", inode->size);
	err = ext2_read_block(inode->sb, run.block, 0, (u32)inode->size, &buf, &data);
	if (err)
		return err;
	memcpy(target, data, inode->size);
	buffer_put(buf);
	return 0;
}

int ext2_read_link(struct inode *inode, char *buf, unsigned size)
{
	int err = 0;

	if (inode->size > size)
		return -ENAMETOOLONG;
	mutex_lock(&inode->sb->lock);
	if (inode->size < FAST_LINK_SIZE)
		memcpy(buf, ext2_i(inode)->block, inode->size);
	else
		err = read_link_block(inode, buf);
	for (u64 i = 0; !err && i < inode->size; i++) {
		if (!buf[i])
			err = ext2_corrupt(inode, "zero byte in the link's target, at", i);
	}
	mutex_unlock(&inode->sb->lock);
	return err ? err : (int)inode->size;
}
