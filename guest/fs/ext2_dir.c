/* Directories: lists of entries that fill whole blocks, none crossing a block's end. */
#include "guest/fs/ext2.h"
#include "guest/include/string.h"

enum { DIRENT_HEADER = 8 };

/* DT_* of Linux by ext2's file types. */
static const u8 dirent_type[] = {0, 8, 4, 2, 6, 1, 12, 10};

/* One block of a directory. */
struct dir_block {
	struct buffer *buf;
	const char *data;
};

static int open_block(struct inode *dir, u64 pos, struct dir_block *b)
{
	struct ext2_super *es = ext2_sb(dir);
	struct ext2_run run;
	void *data;
	int err = ext2_map(dir, pos >> es->block_shift, &run);

	if (err)
		return err;
	if (!run.block)
		return ext2_corrupt(dir, "hole in the directory, at", pos);
	err = ext2_read_block(dir->sb, run.block, 0, es->block_size, &b->buf, &data);
	b->data = data;
	return err;
}

/* Checks and copies the fixed part of the entry at `offset` of the block. */
static int get_entry(struct inode *dir, const struct dir_block *b, u32 offset,
		     struct ext2_disk_dirent *de)
{
	struct ext2_super *es = ext2_sb(dir);
	u32 left = es->block_size - offset;

	if (left < DIRENT_HEADER)
		return ext2_corrupt(dir, "directory entry past its block, at", offset);
	memcpy(de, b->data + offset, DIRENT_HEADER);
	if (de->rec_len < DIRENT_HEADER || de->rec_len & 3 || de->rec_len > left ||
	    de->name_len > de->rec_len - DIRENT_HEADER)
		return ext2_corrupt(dir, "directory entry's length", de->rec_len);
	if (de->inode && (!de->name_len || de->inode > es->inodes_count))
		return ext2_corrupt(dir, "directory entry's inode", de->inode);
	return 0;
}

static int ext2_readdir(struct inode *dir, u64 *pos, readdir_fn fn, void *arg)
{
	struct ext2_super *es = ext2_sb(dir);
	struct ext2_disk_dirent de;
	struct dir_block b;
	int err = 0;

	while (*pos < dir->size && !err) {
		u32 offset = (u32)(*pos & (es->block_size - 1));

		err = open_block(dir, *pos, &b);
		if (err)
			return err;
		for (; offset < es->block_size; offset += de.rec_len) {
			err = get_entry(dir, &b, offset, &de);
			if (err)
				break;
			u8 type = es->filetype && de.file_type < ARRAY_SIZE(dirent_type)
				      ? dirent_type[de.file_type]
				      : 0;
			if (de.inode)
				err = fn(arg, b.data + offset + DIRENT_HEADER, de.name_len,
					 de.inode, type);
			if (err)
				break;
			*pos += de.rec_len;
		}
		buffer_put(b.buf);
	}
	return err;
}

/* What lookup looks for, and finds. */
struct wanted {
	const char *name;
	unsigned len;
	u64 ino; /* 0: not found */
};

static int match(void *arg, const char *name, unsigned len, u64 ino, u8 type)
{
	struct wanted *w = arg;

	(void)type;
	if (len != w->len || memcmp(name, w->name, len) != 0)
		return 0;
	w->ino = ino;
	return 1;
}

static int ext2_lookup(struct inode *dir, const char *name, unsigned len, struct inode **out)
{
	struct wanted w = {.name = name, .len = len};
	u64 pos = 0;

	if (len > EXT2_NAME_MAX)
		return -ENAMETOOLONG;
	int err = ext2_readdir(dir, &pos, match, &w);
	if (err < 0)
		return err;
	return w.ino ? inode_lookup(dir->sb, w.ino, out) : -ENOENT;
}

static int ext2_fsync(struct inode *inode)
{
	return blkdev_flush(inode->sb->bdev);
}

const struct inode_ops ext2_dir_ops = {
    .lookup = ext2_lookup,
    .readdir = ext2_readdir,
    .fsync = ext2_fsync,
};

const struct inode_ops ext2_file_ops = {
    .fsync = ext2_fsync,
};
