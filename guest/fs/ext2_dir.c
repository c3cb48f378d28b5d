/*
 * Directories: lists of entries that fill whole blocks, none crossing a block's end. All under
 * sb->lock.
 */
#include "guest/fs/ext2.h"
#include "guest/include/string.h"

enum { DIRENT_HEADER = 8, DIR_BYTES_MAX = 4 << 20 };

/* DT_* of Linux by ext2's file types. */
static const u8 dirent_type[] = {0, 8, 4, 2, 6, 1, 12, 10};

/* One block of a directory. */
struct dir_block {
	struct buffer *buf;
	char *data;
};

static int open_block(struct inode *dir, u64 pos, struct dir_block *b)
{
	struct ext2_super *es = ext2_sb(dir);
	struct ext2_run run;
	void *data;
	int err = ext2_map_locked(dir, pos >> es->block_shift, &run);

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

/* Entries of the block from `from` on; *pos is behind the last that was taken. */
static int read_block(struct inode *dir, const struct dir_block *b, u32 from, u64 *pos,
		      readdir_fn fn, void *arg)
{
	struct ext2_super *es = ext2_sb(dir);
	u64 start = *pos - from;
	struct ext2_disk_dirent de;
	int err = 0;

	/* From the beginning: where a walk went on before, there may be no entry any more. */
	for (u32 offset = 0; offset < es->block_size; offset += de.rec_len) {
		err = get_entry(dir, b, offset, &de);
		if (err)
			return err;
		u8 type = es->filetype && de.file_type < ARRAY_SIZE(dirent_type)
			      ? dirent_type[de.file_type]
			      : 0;
		if (offset >= from && de.inode)
			err =
			    fn(arg, b->data + offset + DIRENT_HEADER, de.name_len, de.inode, type);
		if (err)
			return err;
		*pos = MAX(*pos, start + offset + de.rec_len);
	}
	return 0;
}

int ext2_readdir(struct inode *dir, u64 *pos, readdir_fn fn, void *arg)
{
	struct ext2_super *es = ext2_sb(dir);
	struct dir_block b;
	int err = 0;

	while (*pos < dir->size && !err) {
		err = open_block(dir, *pos, &b);
		if (err)
			return err;
		err = read_block(dir, &b, (u32)(*pos & (es->block_size - 1)), pos, fn, arg);
		buffer_put(b.buf);
	}
	return err;
}

/* --- one entry ------------------------------------------------------------------------------ */

/* Where an entry was found: its block, and the offset of the one before it (or its own). */
struct place {
	struct dir_block block;
	u32 offset, before;
	struct ext2_disk_dirent de;
};

/* What is looked for: the name, or a gap for it. */
struct wanted {
	const struct name *name;
	bool gap;
};

/* Bytes that an entry needs. */
static u32 dirent_size(unsigned name_len)
{
	return ALIGN_UP((u32)DIRENT_HEADER + name_len, 4U);
}

static bool fits(const struct wanted *w, const struct place *p)
{
	if (w->gap) {
		u32 used = p->de.inode ? dirent_size(p->de.name_len) : 0;

		return p->de.rec_len >= used + dirent_size(w->name->len);
	}
	return p->de.inode && p->de.name_len == w->name->len &&
	       !memcmp(p->block.data + p->offset + DIRENT_HEADER, w->name->s, w->name->len);
}

/* The first entry that fits; its block is held. 0, -ENOENT, or why it could not be looked for. */
static int find(struct inode *dir, const struct wanted *w, struct place *p)
{
	u32 block_size = ext2_sb(dir)->block_size;

	for (u64 pos = 0; pos < dir->size; pos += block_size) {
		int err = open_block(dir, pos, &p->block);

		if (err)
			return err;
		p->before = 0;
		for (p->offset = 0; p->offset < block_size; p->offset += p->de.rec_len) {
			err = get_entry(dir, &p->block, p->offset, &p->de);
			if (!err && fits(w, p))
				return 0;
			if (err)
				break;
			p->before = p->offset;
		}
		buffer_put(p->block.buf);
		if (err)
			return err;
	}
	return -ENOENT;
}

static int find_name(struct inode *dir, const struct name *name, struct place *p)
{
	if (name->len > EXT2_NAME_MAX)
		return -ENAMETOOLONG;
	return find(dir, &(struct wanted){.name = name}, p);
}

/* The fixed part goes back where it was read, with the bytes behind it. */
static void put_entry(struct dir_block *b, u32 offset, const struct ext2_disk_dirent *de,
		      const char *name)
{
	memcpy(b->data + offset, de, DIRENT_HEADER);
	if (name)
		memcpy(b->data + offset + DIRENT_HEADER, name, de->name_len);
	buffer_dirty(b->buf, b->data + offset, DIRENT_HEADER + (name ? de->name_len : 0));
}

/* The directory has changed; its index, if it has one, is no longer right. */
static int dir_changed(struct inode *dir)
{
	ext2_i(dir)->flags &= ~EXT2_FLAG_INDEX;
	ext2_touch(dir, true);
	return ext2_write_inode(dir);
}

static u8 file_type_of(const struct inode *inode)
{
	if (!ext2_sb(inode)->filetype)
		return 0;
	switch (inode->mode & S_IFMT) {
	case S_IFREG:
		return 1;
	case S_IFDIR:
		return 2;
	case S_IFIFO:
		return 5;
	default:
		return 7; /* a link */
	}
}

int ext2_find_entry(struct inode *dir, const struct name *name, u32 *ino)
{
	struct place p;
	int err = find_name(dir, name, &p);

	if (err)
		return err;
	*ino = p.de.inode;
	buffer_put(p.block.buf);
	return 0;
}

/* One more block, an empty entry all of it. */
static int grow(struct inode *dir, struct place *p)
{
	struct ext2_super *es = ext2_sb(dir);
	u64 pos = dir->size;
	u32 block;

	if (pos + es->block_size > DIR_BYTES_MAX)
		return -ENOSPC;
	int err = ext2_get_block(dir, pos >> es->block_shift, true, &block);
	if (err)
		return err;
	dir->size += es->block_size;
	err = open_block(dir, pos, &p->block);
	if (err)
		return err;
	p->offset = p->before = 0;
	p->de = (struct ext2_disk_dirent){.rec_len = (u16)es->block_size};
	put_entry(&p->block, 0, &p->de, NULL);
	return 0;
}

int ext2_add_entry(struct inode *dir, const struct name *name, const struct inode *inode)
{
	struct place p;
	int err = find(dir, &(struct wanted){name, true}, &p);

	if (err == -ENOENT)
		err = grow(dir, &p);
	if (err)
		return err;
	if (p.de.inode) {
		/* Behind the one that is there. */
		u16 used = (u16)dirent_size(p.de.name_len);
		u16 rest = (u16)(p.de.rec_len - used);

		p.de.rec_len = used;
		put_entry(&p.block, p.offset, &p.de, NULL);
		p.offset += used;
		p.de.rec_len = rest;
	}
	p.de.inode = (u32)inode->ino;
	p.de.name_len = (u8)name->len;
	p.de.file_type = file_type_of(inode);
	put_entry(&p.block, p.offset, &p.de, name->s);
	buffer_put(p.block.buf);
	return dir_changed(dir);
}

int ext2_remove_entry(struct inode *dir, const struct name *name)
{
	struct place p;
	int err = find_name(dir, name, &p);

	if (err)
		return err;
	if (p.before != p.offset) {
		struct ext2_disk_dirent before;

		memcpy(&before, p.block.data + p.before, DIRENT_HEADER);
		before.rec_len = (u16)(before.rec_len + p.de.rec_len);
		put_entry(&p.block, p.before, &before, NULL);
	}
	p.de.inode = 0;
	put_entry(&p.block, p.offset, &p.de, NULL);
	buffer_put(p.block.buf);
	return dir_changed(dir);
}

int ext2_set_entry(struct inode *dir, const struct name *name, const struct inode *inode)
{
	struct place p;
	int err = find_name(dir, name, &p);

	if (err)
		return err;
	p.de.inode = (u32)inode->ino;
	p.de.file_type = file_type_of(inode);
	put_entry(&p.block, p.offset, &p.de, NULL);
	buffer_put(p.block.buf);
	return dir_changed(dir);
}

/* --- whole directories ---------------------------------------------------------------------- */

int ext2_init_dir(struct inode *dir, const struct inode *parent)
{
	struct ext2_disk_dirent self = {.inode = (u32)dir->ino,
					.rec_len = (u16)dirent_size(1),
					.name_len = 1,
					.file_type = file_type_of(dir)};
	struct ext2_disk_dirent up = self;
	struct place p;
	int err = grow(dir, &p);

	if (err)
		return err;
	up.inode = (u32)parent->ino;
	up.name_len = 2;
	up.rec_len = (u16)(ext2_sb(dir)->block_size - self.rec_len);
	put_entry(&p.block, 0, &self, ".");
	put_entry(&p.block, self.rec_len, &up, "..");
	buffer_put(p.block.buf);
	return 0;
}

static int is_other(void *arg, const char *name, unsigned len, u64 ino, u8 type)
{
	(void)arg, (void)ino, (void)type;
	return !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

int ext2_check_empty(struct inode *dir)
{
	u64 pos = 0;
	int err = ext2_readdir(dir, &pos, is_other, NULL);

	return err > 0 ? -ENOTEMPTY : err;
}
