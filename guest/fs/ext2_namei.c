/*
 * What changes the tree: names come, go and move. Each runs as a whole under sb->lock. What
 * fails half-way is taken back; if that fails too, the image was not to be trusted.
 */
#include "guest/fs/ext2.h"
#include "guest/include/page.h"

/* Far more levels than a path of PATH_MAX can name. */
enum { DEPTH_MAX = 4096 };

static const struct name dotdot = {"..", 2};

/* --- lookups -------------------------------------------------------------------------------- */

static int find_inode(struct inode *dir, const struct name *name, struct inode **out)
{
	u32 ino;
	int err = ext2_find_entry(dir, name, &ino);

	return err ? err : inode_lookup(dir->sb, ino, out);
}

static int ext2_lookup(struct inode *dir, const char *s, unsigned len, struct inode **out)
{
	struct name name = {s, len};

	mutex_lock(&dir->sb->lock);
	int err = find_inode(dir, &name, out);
	mutex_unlock(&dir->sb->lock);
	return err;
}

static int ext2_readdir_locking(struct inode *dir, u64 *pos, readdir_fn fn, void *arg)
{
	mutex_lock(&dir->sb->lock);
	int err = ext2_readdir(dir, pos, fn, arg);
	mutex_unlock(&dir->sb->lock);
	return err;
}

/* --- create, link ---------------------------------------------------------------------------- */

/* -EEXIST if there is one; of a directory that was removed while open: -ENOENT. */
static int check_absent(struct inode *dir, const struct name *name)
{
	u32 ino;
	int err = ext2_find_entry(dir, name, &ino);

	if (!dir->nlink)
		return -ENOENT;
	if (err == -ENOENT)
		return 0;
	return err ? err : -EEXIST;
}

static int fill_new(struct inode *dir, const struct name *name, const char *target,
		    struct inode *inode)
{
	int err = 0;

	if (S_ISDIR(inode->mode))
		err = ext2_init_dir(inode, dir);
	if (S_ISLNK(inode->mode))
		err = ext2_set_link(inode, target);
	if (!err)
		err = ext2_write_inode(inode);
	if (err)
		return err;
	dir->nlink += S_ISDIR(inode->mode);
	err = ext2_add_entry(dir, name, inode);
	if (err)
		dir->nlink -= S_ISDIR(inode->mode);
	return err;
}

static int create(struct inode *dir, const struct name *name, u32 mode, const char *target,
		  struct inode **out)
{
	int err = check_absent(dir, name);

	if (!err && S_ISDIR(mode) && dir->nlink >= EXT2_LINK_MAX)
		err = -EMLINK;
	if (!err)
		err = ext2_new_inode(dir, mode, out);
	if (err) {
		*out = NULL;
		return err;
	}
	err = fill_new(dir, name, target, *out);
	if (err)
		(*out)->nlink = 0; /* goes with its reference */
	return err;
}

static int ext2_create(struct inode *dir, const struct name *name, u32 mode, const char *target,
		       struct inode **out)
{
	mutex_lock(&dir->sb->lock);
	int err = create(dir, name, mode, target, out);
	mutex_unlock(&dir->sb->lock);
	if (err && *out)
		inode_put(*out);
	return err;
}

static int link_locked(struct inode *dir, const struct name *name, struct inode *inode)
{
	int err = check_absent(dir, name);

	if (!err && inode->nlink >= EXT2_LINK_MAX)
		err = -EMLINK;
	if (!err && !inode->nlink)
		err = -ENOENT;
	if (!err)
		err = ext2_add_entry(dir, name, inode);
	if (err)
		return err;
	inode->nlink++;
	ext2_touch(inode, false);
	return ext2_write_inode(inode);
}

static int ext2_link(struct inode *dir, const struct name *name, struct inode *inode)
{
	mutex_lock(&dir->sb->lock);
	int err = link_locked(dir, name, inode);
	mutex_unlock(&dir->sb->lock);
	return err;
}

/* --- unlink ---------------------------------------------------------------------------------- */

/* Whether the name may go, or be taken over by another inode. */
static int check_removable(struct inode *victim, bool want_dir)
{
	if (S_ISDIR(victim->mode) != want_dir)
		return want_dir ? -ENOTDIR : -EISDIR;
	if (ext2_i(victim)->has_acl)
		return -EOPNOTSUPP;
	return want_dir ? ext2_check_empty(victim) : 0;
}

/* One name less. A directory loses its own, too. */
static int drop_link(struct inode *inode)
{
	inode->nlink -= MIN(inode->nlink, S_ISDIR(inode->mode) ? 2U : 1U);
	ext2_touch(inode, false);
	return ext2_write_inode(inode);
}

/* The parent's count of its directories' "..". */
static void count_dirs(struct inode *dir, int by)
{
	if (by > 0 || dir->nlink > 2)
		dir->nlink += (u32)by;
}

static int unlink_locked(struct inode *dir, const struct name *name, bool want_dir,
			 struct inode **victim)
{
	int err = find_inode(dir, name, victim);

	if (err) {
		*victim = NULL;
		return err;
	}
	err = check_removable(*victim, want_dir);
	if (err)
		return err;
	if (want_dir)
		count_dirs(dir, -1);
	err = ext2_remove_entry(dir, name);
	return err ? err : drop_link(*victim);
}

static int ext2_unlink(struct inode *dir, const struct name *name, bool want_dir)
{
	struct inode *victim;

	mutex_lock(&dir->sb->lock);
	int err = unlink_locked(dir, name, want_dir, &victim);
	mutex_unlock(&dir->sb->lock);
	if (victim)
		inode_put(victim);
	return err;
}

/* --- rename ---------------------------------------------------------------------------------- */

/* The moved inode, what it replaces (or NULL), and the directories. */
struct move {
	struct inode *old_dir, *new_dir;
	const struct name *old, *new;
	struct inode *inode, *victim;
};

/* -EINVAL if dir lies in inode, or is it. */
static int check_not_below(const struct inode *inode, struct inode *dir)
{
	u32 ino = (u32)dir->ino;

	for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
		struct inode *at;
		int err;

		if (ino == inode->ino)
			return -EINVAL;
		if (ino == EXT2_ROOT_INO)
			return 0;
		err = inode_lookup(dir->sb, ino, &at);
		if (err)
			return err;
		err = S_ISDIR(at->mode) ? ext2_find_entry(at, &dotdot, &ino) : -ENOTDIR;
		/* Not inode_put: it has a name, nothing is deleted, and the lock is held. */
		__atomic_fetch_sub(&at->refcount, 1, __ATOMIC_RELAXED);
		if (err)
			return err == -ENOENT || err == -ENOTDIR
				   ? ext2_corrupt(dir, "no way to the root from inode", ino)
				   : err;
	}
	return ext2_corrupt(dir, "directories in a circle, from inode", dir->ino);
}

static int check_move(const struct move *m)
{
	bool is_dir = S_ISDIR(m->inode->mode);
	bool other_dir = m->old_dir != m->new_dir;
	int err = 0;

	if (!m->new_dir->nlink)
		return -ENOENT;
	if (is_dir && other_dir)
		err = check_not_below(m->inode, m->new_dir);
	if (err)
		return err;
	if (!m->victim)
		return is_dir && other_dir && m->new_dir->nlink >= EXT2_LINK_MAX ? -EMLINK : 0;
	if (S_ISDIR(m->victim->mode) && other_dir) {
		err = check_not_below(m->victim, m->old_dir);
		if (err)
			return err == -EINVAL ? -ENOTEMPTY : err;
	}
	return check_removable(m->victim, is_dir);
}

static int do_move(const struct move *m)
{
	bool is_dir = S_ISDIR(m->inode->mode);
	int err;

	if (m->victim)
		err = ext2_set_entry(m->new_dir, m->new, m->inode);
	else
		err = ext2_add_entry(m->new_dir, m->new, m->inode);
	if (err)
		return err;
	if (is_dir) {
		count_dirs(m->old_dir, -1);
		if (!m->victim)
			count_dirs(m->new_dir, 1);
		if (m->old_dir != m->new_dir)
			err = ext2_set_entry(m->inode, &dotdot, m->new_dir);
	}
	if (!err)
		err = ext2_remove_entry(m->old_dir, m->old);
	if (!err && is_dir)
		err = ext2_write_inode(m->new_dir);
	if (!err && m->victim)
		err = drop_link(m->victim);
	if (!err) {
		ext2_touch(m->inode, false);
		err = ext2_write_inode(m->inode);
	}
	return err;
}

static int rename_locked(struct move *m, bool keep)
{
	int err = find_inode(m->old_dir, m->old, &m->inode);

	if (err) {
		m->inode = NULL;
		return err;
	}
	err = find_inode(m->new_dir, m->new, &m->victim);
	if (err)
		m->victim = NULL;
	if (err && err != -ENOENT)
		return err;
	if (m->victim && keep)
		return -EEXIST;
	if (m->victim == m->inode)
		return 0;
	err = check_move(m);
	return err ? err : do_move(m);
}

static int ext2_rename(struct inode *old_dir, const struct name *old, struct inode *new_dir,
		       const struct name *new, bool keep)
{
	struct move m = {.old_dir = old_dir, .new_dir = new_dir, .old = old, .new = new};

	mutex_lock(&old_dir->sb->lock);
	int err = rename_locked(&m, keep);
	mutex_unlock(&old_dir->sb->lock);
	if (m.inode)
		inode_put(m.inode);
	if (m.victim)
		inode_put(m.victim);
	return err;
}

/* --- inodes ---------------------------------------------------------------------------------- */

static int ext2_update(struct inode *inode)
{
	mutex_lock(&inode->sb->lock);
	int err = ext2_write_inode(inode);
	mutex_unlock(&inode->sb->lock);
	return err;
}

static int ext2_fsync(struct inode *inode)
{
	int err = inode->sb->ops->sync(inode->sb, false);

	return err ? err : blkdev_flush(inode->sb->bdev);
}

static int ext2_allocate(struct inode *inode, u64 pgoff, u64 end)
{
	struct ext2_super *es = ext2_sb(inode);
	u32 shift = PAGE_SHIFT - es->block_shift;
	u64 last = MIN((pgoff + 1) << shift, (end + es->block_size - 1) >> es->block_shift);
	u64 blocks = inode->blocks;
	int err = 0;

	mutex_lock(&inode->sb->lock);
	for (u64 b = pgoff << shift; b < last && !err; b++) {
		u32 block;

		err = ext2_get_block(inode, b, inode->dax, &block);
	}
	if (inode->blocks != blocks) {
		int write_err = ext2_write_inode(inode);

		err = err ? err : write_err;
	}
	mutex_unlock(&inode->sb->lock);
	return err;
}

static int ext2_truncate(struct inode *inode)
{
	struct ext2_super *es = ext2_sb(inode);

	mutex_lock(&inode->sb->lock);
	int err =
	    ext2_free_blocks_from(inode, (inode->size + es->block_size - 1) >> es->block_shift);
	int write_err = ext2_write_inode(inode);
	mutex_unlock(&inode->sb->lock);
	return err ? err : write_err;
}

const struct inode_ops ext2_dir_ops = {
    .lookup = ext2_lookup,
    .readdir = ext2_readdir_locking,
    .create = ext2_create,
    .link = ext2_link,
    .unlink = ext2_unlink,
    .rename = ext2_rename,
    .update = ext2_update,
    .fsync = ext2_fsync,
};

const struct inode_ops ext2_file_ops = {
    .allocate = ext2_allocate,
    .truncate = ext2_truncate,
    .update = ext2_update,
    .fsync = ext2_fsync,
};
