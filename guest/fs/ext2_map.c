/*
 * Where the blocks of a file lie: the map of direct and indirect blocks, read in runs, filled when
 * a block is first written, taken apart by truncate. All under sb->lock.
 */
#include "guest/fs/ext2.h"
#include "guest/include/page.h"
#include "guest/include/string.h"

/* How far a run is followed: far enough for readahead, not so far that it costs. */
enum { MAX_RUN = 64 };

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

int ext2_map_locked(struct inode *inode, u64 first, struct ext2_run *run)
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

int ext2_map(struct inode *inode, u64 first, struct ext2_run *run)
{
	mutex_lock(&inode->sb->lock);
	int err = ext2_map_locked(inode, first, run);
	mutex_unlock(&inode->sb->lock);
	return err;
}

u64 ext2_max_size(const struct ext2_super *es)
{
	u64 all = (EXT2_DIRECT + span(es, 1) + span(es, 2) + span(es, 3)) << es->block_shift;

	return es->large_files ? all : MIN(all, 0x7fffffffUL);
}

/* --- filling -------------------------------------------------------------------------------- */

int ext2_zero_block(struct super_block *sb, u32 block)
{
	struct ext2_super *es = sb->private;
	struct buffer *buf;
	void *data;
	int err = ext2_read_block(sb, block, 0, es->block_size, &buf, &data);

	if (err)
		return err;
	memset(data, 0, es->block_size);
	buffer_dirty(buf, data, es->block_size);
	buffer_put(buf);
	return 0;
}

/* The way to a block: which entry of i_block, then of each indirect block. */
struct block_path {
	unsigned depth; /* entries; 0: past the largest file */
	u32 slot[4];
};

static struct block_path path_to(const struct ext2_super *es, u64 block)
{
	struct block_path path = {0};

	if (block < EXT2_DIRECT)
		return (struct block_path){.depth = 1, .slot = {(u32)block}};
	block -= EXT2_DIRECT;
	for (unsigned level = 1; level <= 3; level++) {
		if (block < span(es, level)) {
			path.slot[path.depth++] = EXT2_DIRECT + level - 1;
			while (level--) {
				path.slot[path.depth++] = (u32)(block / span(es, level));
				block %= span(es, level);
			}
			return path;
		}
		block -= span(es, level);
	}
	return path;
}

/* A block for an empty entry, near what was allocated last. */
static int fill_entry(struct inode *inode, u32 goal, bool zeroed, u32 *block)
{
	struct ext2_super *es = ext2_sb(inode);
	int err = ext2_alloc_block(inode->sb, goal, block);

	if (!err && zeroed)
		err = ext2_zero_block(inode->sb, *block);
	if (err)
		return err;
	inode->blocks += es->block_size >> SECTOR_SHIFT;
	ext2_i(inode)->run.count = 0;
	return 0;
}

static u32 goal_of(const struct inode *inode)
{
	const struct ext2_super *es = ext2_sb(inode);
	const struct ext2_run *run = &ext2_i(inode)->run;

	if (run->block)
		return run->block + MAX(run->count, 1U);
	return es->first_data_block +
	       (u32)((inode->ino - 1) / es->inodes_per_group) * es->blocks_per_group;
}

int ext2_get_block(struct inode *inode, u64 first, bool zeroed, u32 *block)
{
	struct ext2_super *es = ext2_sb(inode);
	struct block_path path = path_to(es, first);
	u32 *entry = &ext2_i(inode)->block[path.slot[0]];
	u32 goal = goal_of(inode);
	struct buffer *buf = NULL;
	int err = path.depth ? 0 : -EFBIG;

	for (unsigned i = 0; !err; i++) {
		bool last = i + 1 == path.depth;
		void *data;

		*block = READ_ONCE(*entry);
		if (!*block) {
			err = fill_entry(inode, goal, zeroed || !last, block);
			if (err)
				break;
			*entry = *block;
			goal = *block + 1;
			if (buf)
				buffer_dirty(buf, entry, sizeof(*entry));
		} else if (!ext2_blocks_ok(es, *block, 1)) {
			err = ext2_corrupt(inode, "block outside the filesystem", *block);
			break;
		}
		if (last)
			break;
		if (buf)
			buffer_put(buf);
		err = ext2_read_block(inode->sb, *block, 0, es->block_size, &buf, &data);
		if (err)
			return err;
		entry = (u32 *)data + path.slot[i + 1];
	}
	if (buf)
		buffer_put(buf);
	if (!err)
		ext2_i(inode)->run = (struct ext2_run){.first = first, .block = *block, .count = 1};
	return err;
}

/* --- taking apart --------------------------------------------------------------------------- */

static int free_table(struct inode *inode, u32 block, unsigned level, u64 from, bool whole);

/*
 * Gives back what an entry stands for at `level` (0: a block of data), from block `from` of that
 * on. The entry is cleared if nothing is left. An indirect block is given back before those it
 * names: one that a hostile map names twice is not gone through twice.
 */
static int free_entry(struct inode *inode, u32 *entry, unsigned level, u64 from)
{
	struct ext2_super *es = ext2_sb(inode);
	u32 block = READ_ONCE(*entry);
	int err = 0;

	if (!block)
		return 0;
	if (!ext2_blocks_ok(es, block, 1))
		err = ext2_corrupt(inode, "block outside the filesystem", block);
	if (!err && level)
		err = free_table(inode, block, level, from, !from);
	else if (!err)
		err = ext2_free_block(inode->sb, block);
	if (from)
		return err;
	*entry = 0;
	if (!err)
		inode->blocks -= MIN(inode->blocks, (u64)(es->block_size >> SECTOR_SHIFT));
	return err;
}

static int free_table(struct inode *inode, u32 block, unsigned level, u64 from, bool whole)
{
	struct ext2_super *es = ext2_sb(inode);
	u64 each = span(es, level - 1);
	struct buffer *buf;
	void *data;
	int first_error = 0,
	    err = ext2_read_block(inode->sb, block, 0, es->block_size, &buf, &data);

	if (!err && whole) {
		err = ext2_free_block(inode->sb, block);
		if (err)
			buffer_put(buf);
	}
	if (err)
		return err;
	for (u64 i = from / each; i < es->block_size / sizeof(u32); i++) {
		u64 rest = i == from / each ? from % each : 0;

		err = free_entry(inode, (u32 *)data + i, level - 1, rest);
		if (!first_error)
			first_error = err;
	}
	if (!whole)
		buffer_dirty(buf, data, es->block_size);
	buffer_put(buf);
	return whole ? 0 : first_error;
}

int ext2_free_blocks_from(struct inode *inode, u64 from)
{
	struct ext2_super *es = ext2_sb(inode);
	struct ext2_inode *ei = ext2_i(inode);
	u64 start = EXT2_DIRECT;
	int first_error = 0, err;

	ei->run.count = 0;
	for (u64 i = from; i < EXT2_DIRECT; i++) {
		err = free_entry(inode, &ei->block[i], 0, 0);
		if (!first_error)
			first_error = err;
	}
	for (unsigned level = 1; level <= 3; start += span(es, level), level++) {
		if (from >= start + span(es, level))
			continue;
		err = free_entry(inode, &ei->block[EXT2_DIRECT + level - 1], level,
				 from > start ? from - start : 0);
		if (!first_error)
			first_error = err;
	}
	return first_error;
}
