/*
 * Which blocks and inodes are free: a bitmap of each in every group. All under sb->lock.
 *
 * Bitmaps and counts are the image's word. A block that is handed out is checked to be none of
 * the filesystem's own; giving one back that is free already is an error, and nothing is done
 * twice because of it.
 */
#include "guest/fs/ext2.h"
#include "guest/include/page.h"
#include "guest/include/string.h"

enum { WORD_BITS = 64 };

/* A group's descriptor, checked, and where it lies. */
struct group {
	struct ext2_disk_group desc;
	struct ext2_disk_group *disk;
	struct buffer *buf;
};

static int open_group(struct super_block *sb, u32 nr, struct group *g)
{
	struct ext2_super *es = sb->private;
	u64 offset = ((u64)(es->first_data_block + 1) << es->block_shift) + nr * sizeof(g->desc);
	u32 table_blocks = ((es->inodes_per_group * es->inode_size - 1) >> es->block_shift) + 1;
	void *data;
	int err = buffer_read(sb, offset, sizeof(g->desc), &g->buf, &data);

	if (err)
		return err;
	g->disk = data;
	g->desc = *g->disk;
	if (ext2_blocks_ok(es, g->desc.block_bitmap, 1) &&
	    ext2_blocks_ok(es, g->desc.inode_bitmap, 1) &&
	    ext2_blocks_ok(es, g->desc.inode_table, table_blocks))
		return 0;
	buffer_put(g->buf);
	return ext2_corrupt(sb->root, "bitmaps or inodes outside the filesystem, group", nr);
}

static void close_group(struct group *g, bool changed)
{
	if (changed) {
		*g->disk = g->desc;
		buffer_dirty(g->buf, g->disk, sizeof(*g->disk));
	}
	buffer_put(g->buf);
}

/* The first clear bit of [from, end), or end. Whole words are skipped: ring 0 may be slow. */
static u32 find_clear(const u64 *map, u32 from, u32 end)
{
	while (from < end) {
		u64 word = READ_ONCE(map[from / WORD_BITS]) >> from % WORD_BITS;
		u32 left = WORD_BITS - from % WORD_BITS;

		/* The bits shifted in are zero, and none of the word's. */
		if (~word) {
			u32 skip = (u32)__builtin_ctzl(~word);

			if (skip < left)
				return MIN(from + skip, end);
		}
		from += left;
	}
	return end;
}

static bool test_bit(const u8 *map, u32 bit)
{
	return READ_ONCE(map[bit / 8]) >> bit % 8 & 1;
}

/* Takes the first clear bit of a bitmap block from `from` on: its number, or `bits`. */
static int take_bit(struct super_block *sb, u32 bitmap, u32 from, u32 bits, u32 *bit)
{
	struct ext2_super *es = sb->private;
	struct buffer *buf;
	void *data;
	int err = ext2_read_block(sb, bitmap, 0, es->block_size, &buf, &data);

	if (err)
		return err;
	*bit = find_clear(data, from, bits);
	if (*bit < bits) {
		u8 *byte = (u8 *)data + *bit / 8;

		*byte |= (u8)(1 << *bit % 8);
		buffer_dirty(buf, byte, 1);
	}
	buffer_put(buf);
	return 0;
}

/* Clears the bit; -EUCLEAN if it is clear. */
static int return_bit(struct super_block *sb, u32 bitmap, u32 bit)
{
	struct ext2_super *es = sb->private;
	struct buffer *buf;
	void *data;
	int err = ext2_read_block(sb, bitmap, 0, es->block_size, &buf, &data);

	if (err)
		return err;
	u8 *byte = (u8 *)data + bit / 8;
	if (test_bit(data, bit)) {
		*byte &= (u8) ~(1 << bit % 8);
		buffer_dirty(buf, byte, 1);
	} else {
		err = ext2_corrupt(sb->root, "given back though free, bit", bit);
	}
	buffer_put(buf);
	return err;
}

/* --- blocks --------------------------------------------------------------------------------- */

static u32 blocks_in_group(const struct ext2_super *es, u32 nr)
{
	u32 first = es->first_data_block + nr * es->blocks_per_group;

	return MIN(es->blocks_per_group, es->blocks_count - first);
}

/* Whether the group's own structures lie there: a lying bitmap would hand them out. */
static bool is_metadata(const struct ext2_super *es, const struct group *g, u32 block)
{
	u32 table_blocks = ((es->inodes_per_group * es->inode_size - 1) >> es->block_shift) + 1;
	u32 desc_blocks = (u32)((es->groups * sizeof(g->desc) - 1) >> es->block_shift) + 1;

	return block == g->desc.block_bitmap || block == g->desc.inode_bitmap ||
	       block - g->desc.inode_table < table_blocks ||
	       block <= es->first_data_block + desc_blocks;
}

static int alloc_in_group(struct super_block *sb, u32 nr, u32 from, u32 *block)
{
	struct ext2_super *es = sb->private;
	u32 bits = blocks_in_group(es, nr), bit = bits;
	struct group g;
	int err = open_group(sb, nr, &g);

	if (err)
		return err;
	if (g.desc.free_blocks_count)
		err = take_bit(sb, g.desc.block_bitmap, from, bits, &bit);
	if (!err && bit == bits)
		err = -ENOSPC;
	if (!err) {
		*block = es->first_data_block + nr * es->blocks_per_group + bit;
		g.desc.free_blocks_count--;
		es->free_blocks -= es->free_blocks != 0;
		if (is_metadata(es, &g, *block))
			err = ext2_corrupt(sb->root, "bitmap calls metadata free, block", *block);
	}
	close_group(&g, bit < bits);
	return err;
}

int ext2_alloc_block(struct super_block *sb, u32 goal, u32 *block)
{
	struct ext2_super *es = sb->private;

	if (goal <= es->first_data_block || goal >= es->blocks_count)
		goal = es->first_data_block + 1;
	u32 first = (goal - es->first_data_block) / es->blocks_per_group;
	u32 from = (goal - es->first_data_block) % es->blocks_per_group;

	ext2_changed(sb);
	/* The goal's group comes last a second time, for what lies before the goal. */
	for (u32 i = 0; i <= es->groups; i++) {
		int err = alloc_in_group(sb, (first + i) % es->groups, i ? 0 : from, block);

		if (err != -ENOSPC)
			return err;
	}
	return -ENOSPC;
}

int ext2_free_block(struct super_block *sb, u32 block)
{
	struct ext2_super *es = sb->private;
	struct group g;

	if (!ext2_blocks_ok(es, block, 1))
		return ext2_corrupt(sb->root, "block outside the filesystem", block);
	u32 nr = (block - es->first_data_block) / es->blocks_per_group;
	int err = open_group(sb, nr, &g);

	if (err)
		return err;
	ext2_changed(sb);
	if (is_metadata(es, &g, block))
		err = ext2_corrupt(sb->root, "metadata in a file, block", block);
	else
		err = return_bit(sb, g.desc.block_bitmap,
				 (block - es->first_data_block) % es->blocks_per_group);
	if (!err) {
		g.desc.free_blocks_count++;
		es->free_blocks++;
		buffer_forget(sb, (u64)block << es->block_shift, es->block_size);
	}
	close_group(&g, !err);
	return err;
}

/* --- inodes --------------------------------------------------------------------------------- */

static int alloc_inode_in_group(struct super_block *sb, u32 nr, bool is_dir, u32 *ino)
{
	struct ext2_super *es = sb->private;
	u32 first = nr * es->inodes_per_group;
	u32 bits = MIN(es->inodes_per_group, es->inodes_count - first), bit = bits;
	u32 reserved = first < es->first_ino ? MIN(es->first_ino - 1 - first, bits) : 0;
	struct group g;
	int err = open_group(sb, nr, &g);

	if (err)
		return err;
	if (g.desc.free_inodes_count)
		err = take_bit(sb, g.desc.inode_bitmap, reserved, bits, &bit);
	if (!err && bit == bits)
		err = -ENOSPC;
	if (!err) {
		*ino = first + bit + 1;
		g.desc.free_inodes_count--;
		g.desc.used_dirs_count = (u16)(g.desc.used_dirs_count + is_dir);
		es->free_inodes -= es->free_inodes != 0;
	}
	close_group(&g, bit < bits);
	return err;
}

int ext2_alloc_ino(struct super_block *sb, u32 near, bool is_dir, u32 *ino)
{
	struct ext2_super *es = sb->private;
	u32 used = (es->inodes_count - 1) / es->inodes_per_group + 1;
	u32 first = (near - 1) / es->inodes_per_group;

	ext2_changed(sb);
	for (u32 i = 0; i < used; i++) {
		int err = alloc_inode_in_group(sb, (first + i) % used, is_dir, ino);

		if (err != -ENOSPC)
			return err;
	}
	return -ENOSPC;
}

int ext2_free_ino(struct super_block *sb, u32 ino, bool is_dir)
{
	struct ext2_super *es = sb->private;
	u32 nr = (ino - 1) / es->inodes_per_group;
	struct group g;
	int err = open_group(sb, nr, &g);

	if (err)
		return err;
	ext2_changed(sb);
	err = return_bit(sb, g.desc.inode_bitmap, (ino - 1) % es->inodes_per_group);
	if (!err) {
		g.desc.free_inodes_count++;
		g.desc.used_dirs_count = (u16)(g.desc.used_dirs_count - is_dir);
		es->free_inodes++;
	}
	close_group(&g, !err);
	return err;
}
