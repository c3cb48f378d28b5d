/* Inodes, and where the blocks of a file lie. */
#include "guest/fs/ext2.h"
#include "guest/include/page.h"
#include "guest/include/printk.h"
#include "guest/include/string.h"

enum {
	/* A directory larger than this would take minutes to search; mke2fs makes none. */
	MAX_DIR_BYTES = 4 << 20,
	/* How far a run is followed: far enough for readahead, not so far that it costs. */
	MAX_RUN = 64,
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

/* --- block map ------------------------------------------------------------------------------ */

/* How many blocks of the file one entry at `level` stands for: 1, n, n^2, n^3. */
static u64 span(const struct ext2_super *es, unsigned level)
{
	return 1ULL << (level * (es->block_shift - 2));
}

/*
 * The length of the run that starts at entries[0]: consecutive numbers, or holes. `entries` is
 * copied word by word, as it may be shared with the host. -EUCLEAN if the first is no block.
 */
static int measure_run(struct inode *inode, const u32 *entries, u32 count, struct ext2_run *run)
{
	struct ext2_super *es = ext2_sb(inode);
	u32 step;

	count = MIN(count, (u32)MAX_RUN);
	run->block = READ_ONCE(entries[0]);
	step = run->block != 0;
	if (run->block && !ext2_blocks_ok(es, run->block, 1))
		return ext2_corrupt(inode, "block outside the filesystem", run->block);
	if (run->block)
		count = MIN(count, es->blocks_count - run->block);
	for (run->count = 1; run->count < count; run->count++) {
		if (READ_ONCE(entries[run->count]) != run->block + run->count * step)
			break;
	}
	return 0;
}

/* A hole at `level`: all that the missing entry stands for, from the wanted block on. */
static void hole_run(struct ext2_run *run, u64 left)
{
	run->block = 0;
	run->count = (u32)MIN(left, (u64)1 << 30);
}

/* Walks down from an entry of i_block. `index`: which of the blocks below it. */
static int walk_indirect(struct inode *inode, u32 block, unsigned level, u64 index,
			 struct ext2_run *run)
{
	struct ext2_super *es = ext2_sb(inode);
	u32 entries = es->block_size / sizeof(u32);
	struct buffer *buf;
	void *data;

	for (;; level--) {
		if (!block) {
			hole_run(run, span(es, level) - index);
			return 0;
		}
		if (!ext2_blocks_ok(es, block, 1))
			return ext2_corrupt(inode, "indirect block outside the filesystem", block);
		int err = ext2_read_block(inode->sb, block, 0, es->block_size, &buf, &data);
		if (err)
			return err;
		const u32 *table = data;
		u32 slot = (u32)(index / span(es, level - 1));

		if (level == 1) {
			err = measure_run(inode, table + slot, entries - slot, run);
			buffer_put(buf);
			return err;
		}
		block = READ_ONCE(table[slot]);
		index %= span(es, level - 1);
		buffer_put(buf);
	}
}

static int find_run(struct inode *inode, u64 first, struct ext2_run *run)
{
	const struct ext2_super *es = ext2_sb(inode);
	const u32 *map = ext2_i(inode)->block;

	if (first < EXT2_DIRECT)
		return measure_run(inode, map + first, EXT2_DIRECT - (u32)first, run);
	first -= EXT2_DIRECT;
	for (unsigned level = 1; level <= 3; level++) {
		if (first < span(es, level))
			return walk_indirect(inode, map[EXT2_DIRECT + level - 1], level, first,
					     run);
		first -= span(es, level);
	}
	hole_run(run, ~0ULL);
	return 0;
}

int ext2_map(struct inode *inode, u64 first, struct ext2_run *run)
{
	struct ext2_run *last = &ext2_i(inode)->run;
	u64 skip = first - last->first; /* huge if it lies before */

	if (skip >= last->count) {
		struct ext2_run found = {.first = first};
		int err = find_run(inode, first, &found);

		if (err)
			return err;
		*last = found;
		skip = 0;
	}
	run->first = first;
	run->block = last->block ? last->block + (u32)skip : 0;
	run->count = last->count - (u32)skip;
	return 0;
}

/* --- inodes --------------------------------------------------------------------------------- */

/* Copies the inode from its place in the inode table of its group. */
static int read_disk_inode(struct inode *inode, struct ext2_disk_inode *di)
{
	struct ext2_super *es = ext2_sb(inode);
	struct buffer *buf;
	void *data;

	if (!inode->ino || inode->ino > es->inodes_count)
		return ext2_corrupt(inode, "no such inode, of", es->inodes_count);
	u32 group = (u32)(inode->ino - 1) / es->inodes_per_group;
	u64 offset = (inode->ino - 1) % es->inodes_per_group * es->inode_size;

	/* The group descriptors follow the superblock's block. */
	u64 desc = ((u64)(es->first_data_block + 1) << es->block_shift) +
		   group * sizeof(struct ext2_disk_group);
	int err = buffer_read(inode->sb, desc, sizeof(struct ext2_disk_group), &buf, &data);
	if (err)
		return err;
	u32 table = READ_ONCE(((struct ext2_disk_group *)data)->inode_table);
	buffer_put(buf);

	u32 skip = (u32)(offset >> es->block_shift);
	if (!ext2_blocks_ok(es, table, skip + 1))
		return ext2_corrupt(inode, "inode table outside the filesystem", table);
	err = ext2_read_block(inode->sb, table + skip, (u32)offset & (es->block_size - 1),
			      sizeof(*di), &buf, &data);
	if (err)
		return err;
	*di = *(const struct ext2_disk_inode *)data;
	buffer_put(buf);
	return 0;
}

/* The largest file that the map can hold. */
static u64 max_size(const struct ext2_super *es)
{
	return (EXT2_DIRECT + span(es, 1) + span(es, 2) + span(es, 3)) << es->block_shift;
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
		if (inode->size > max_size(es))
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
	default:
		return ext2_corrupt(inode, "neither file, directory nor link, mode", inode->mode);
	}
}

int ext2_read_inode(struct inode *inode)
{
	struct ext2_disk_inode di;
	int err = read_disk_inode(inode, &di);

	if (err)
		return err;
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
	if (err)
		return err;

	struct ext2_inode *ei = kzalloc(sizeof(*ei));
	if (!ei)
		return -ENOMEM;
	memcpy(ei->block, di.block, sizeof(ei->block));
	inode->private = ei;
	inode->ops = S_ISDIR(di.mode) ? &ext2_dir_ops : &ext2_file_ops;
	/* Pages can only be mapped where they lie if blocks are as large as they. */
	inode->dax = S_ISREG(di.mode) && inode->sb->bdev->ops->direct &&
		     ext2_sb(inode)->block_size == PAGE_SIZE;
	address_space_init(&inode->mapping, inode, &ext2_aops);
	return 0;
}

int ext2_read_link(struct inode *inode, char *buf, unsigned size)
{
	struct ext2_inode *ei = ext2_i(inode);
	struct ext2_run run;
	struct buffer *b;
	void *data;

	if (inode->size > size)
		return -ENAMETOOLONG;
	if (inode->size < FAST_LINK_SIZE) {
		memcpy(buf, ei->block, inode->size);
	} else {
		int err = ext2_map(inode, 0, &run);
		if (err)
			return err;
		if (!run.block)
			return ext2_corrupt(inode, "link without a block, size", inode->size);
		err = ext2_read_block(inode->sb, run.block, 0, (u32)inode->size, &b, &data);
		if (err)
			return err;
		memcpy(buf, data, inode->size);
		buffer_put(b);
	}
	for (u64 i = 0; i < inode->size; i++) {
		if (!buf[i])
			return ext2_corrupt(inode, "zero byte in the link's target, at", i);
	}
	return (int)inode->size;
}
