/* What changes the tree by path: open with O_CREAT, mkdir and its like, link, unlink, rename. */
#include "guest/fs/namei.h"
#include "guest/include/file.h"
#include "guest/include/file_rw.h"

/* To the directory of the last name, which must be one that can be made or removed. */
static int walk_to_parent(struct walk *w, struct inode *base, const char *path)
{
	int err = walk_begin(w, base, path);

	w->parent = true;
	return err ? err : walk_on(w);
}

static bool plain_name(const struct walk *w)
{
	return w->last.len && !is_dot(&w->last) && !is_dotdot(&w->last);
}

static bool slash_behind(const struct walk *w)
{
	return w->last.s[w->last.len] == '/';
}

static int check_writable(const struct inode *dir)
{
	return dir->sb->read_only ? -EROFS : 0;
}

/* Whether something is mounted at the name: then it can be neither removed nor replaced. */
static bool is_mount_point(const struct walk *w)
{
	return w->dir == mounted->root && mounted_at(&w->last);
}

static int create_at(struct walk *w, u32 mode, const char *target, struct inode **out)
{
	int err = check_writable(w->dir);

	if (!err && !w->dir->ops->create)
		err = -EPERM;
	return err ? err : w->dir->ops->create(w->dir, &w->last, mode, target, out);
}

/* The last name's inode, links followed, or w left at where it is to be made. */
static int walk_to_open(struct walk *w, u32 flags, struct inode **out)
{
	for (;;) {
		int err = walk_on(w);

		if (err)
			return err;
		if (!plain_name(w))
			return flags & O_EXCL ? -EEXIST : -EISDIR;
		if (slash_behind(w))
			return -EISDIR;
		err = walk_step(w, &w->last, out);
		if (err || !S_ISLNK((*out)->mode) || (flags & (O_EXCL | O_NOFOLLOW)))
			return err;
		w->at = (unsigned)(w->last.s - w->path) + w->last.len;
		err = walk_follow(w, *out);
		inode_put(*out);
		if (err)
			return err;
	}
}

static int open_or_create(struct inode *base, const char *path, u32 flags, u32 mode,
			  struct inode **out)
{
	struct walk w = {.parent = true};
	int err = walk_begin(&w, base, path);

	if (!err)
		err = walk_to_open(&w, flags, out);
	if (err == -ENOENT && w.path && plain_name(&w) && w.last.s[w.last.len] == 0 &&
	    w.last.s == w.path + w.at)
		err = create_at(&w, S_IFREG | (mode & 07777), NULL, out);
	else if (!err && (flags & O_EXCL)) {
		inode_put(*out);
		err = -EEXIST;
	}
	walk_end(&w);
	return err;
}

static int check_open(struct inode *inode, u32 flags)
{
	bool writes = (flags & O_ACCMODE) != O_RDONLY;

	if (S_ISLNK(inode->mode))
		return -ELOOP;
	if (S_ISDIR(inode->mode) && (writes || (flags & O_CREAT)))
		return -EISDIR;
	if (!S_ISDIR(inode->mode) && (flags & O_DIRECTORY))
		return -ENOTDIR;
	if (S_ISREG(inode->mode) && (writes || (flags & O_TRUNC)) && inode->sb->read_only)
		return -EROFS;
	return 0;
}

int fs_open(struct inode *base, const char *path, u32 flags, u32 mode, struct inode **out)
{
	int err = flags & O_CREAT ? open_or_create(base, path, flags, mode, out)
				  : fs_lookup_at(base, path, !(flags & O_NOFOLLOW), out);

	if (err)
		return err;
	err = check_open(*out, flags);
	if (!err && (flags & O_TRUNC) && S_ISREG((*out)->mode) && (*out)->size)
		err = fs_truncate(*out, 0);
	if (err)
		inode_put(*out);
	return err;
}

/* -EEXIST comes before what else may be wrong. */
static int check_absent(struct walk *w)
{
	struct inode *inode;
	int err = walk_step(w, &w->last, &inode);

	if (err)
		return err == -ENOENT ? 0 : err;
	inode_put(inode);
	return -EEXIST;
}

int fs_make(struct inode *base, const char *path, u32 mode, const char *target)
{
	struct walk w = {0};
	struct inode *inode;
	int err = walk_to_parent(&w, base, path);

	if (!err && !plain_name(&w))
		err = -EEXIST;
	if (!err)
		err = check_absent(&w);
	if (!err && slash_behind(&w) && !S_ISDIR(mode))
		err = -ENOENT;
	if (!err)
		err = create_at(&w, mode, target, &inode);
	if (!err)
		inode_put(inode);
	walk_end(&w);
	return err;
}

int fs_link(struct inode *inode, struct inode *base, const char *path)
{
	struct walk w = {0};
	int err = walk_to_parent(&w, base, path);

	if (!err && !plain_name(&w))
		err = -EEXIST;
	if (!err)
		err = check_absent(&w);
	if (!err && slash_behind(&w))
		err = -ENOENT;
	if (!err && inode->sb != w.dir->sb)
		err = -EXDEV;
	if (!err)
		err = check_writable(w.dir);
	if (!err && (S_ISDIR(inode->mode) || !w.dir->ops->link))
		err = -EPERM;
	if (!err)
		err = w.dir->ops->link(w.dir, &w.last, inode);
	walk_end(&w);
	return err;
}

int fs_unlink(struct inode *base, const char *path, bool want_dir)
{
	struct walk w = {0};
	int err = walk_to_parent(&w, base, path);

	if (!err && !plain_name(&w)) {
		if (!want_dir)
			err = -EISDIR;
		else if (!w.last.len)
			err = -EBUSY;
		else
			err = is_dot(&w.last) ? -EINVAL : -ENOTEMPTY;
	}
	if (!err && is_mount_point(&w))
		err = want_dir ? -EBUSY : -EISDIR;
	if (!err)
		err = check_writable(w.dir);
	if (!err && !w.dir->ops->unlink)
		err = -EPERM;
	if (!err && slash_behind(&w) && !want_dir) {
		struct inode *inode;

		err = walk_step(&w, &w.last, &inode);
		if (!err) {
			err = S_ISDIR(inode->mode) ? -EISDIR : -ENOTDIR;
			inode_put(inode);
		}
	}
	if (!err)
		err = w.dir->ops->unlink(w.dir, &w.last, want_dir);
	walk_end(&w);
	return err;
}

static int rename_between(struct walk *from, struct walk *to, bool keep)
{
	struct inode *inode;
	int err;

	if (from->dir->sb != to->dir->sb)
		return -EXDEV;
	if (!plain_name(from) || !plain_name(to) || is_mount_point(from) || is_mount_point(to))
		return keep && plain_name(from) ? -EEXIST : -EBUSY;
	err = check_writable(to->dir);
	if (!err && !to->dir->ops->rename)
		err = -EPERM;
	if (!err)
		err = walk_step(from, &from->last, &inode);
	if (err)
		return err;
	if (keep)
		err = check_absent(to);
	if (!err && (slash_behind(from) || slash_behind(to)) && !S_ISDIR(inode->mode))
		err = -ENOTDIR;
	inode_put(inode);
	return err ? err : from->dir->ops->rename(from->dir, &from->last, to->dir, &to->last, keep);
}

int fs_rename(struct inode *old_base, const char *old, struct inode *new_base, const char *new,
	      bool keep)
{
	struct walk from = {0}, to = {0};
	int err = walk_to_parent(&from, old_base, old);

	if (!err)
		err = walk_to_parent(&to, new_base, new);
	if (!err)
		err = rename_between(&from, &to, keep);
	walk_end(&from);
	walk_end(&to);
	return err;
}

int fs_truncate(struct inode *inode, u64 size)
{
	if (S_ISDIR(inode->mode))
		return -EISDIR;
	if (!S_ISREG(inode->mode) || !inode->ops->truncate)
		return -EINVAL;
	if (inode->sb->read_only)
		return -EROFS;
	if (size > inode->max_size)
		return -EFBIG;
	mutex_lock(&inode->lock);
	int err = file_set_size(inode, size);
	mutex_unlock(&inode->lock);
	return err;
}

int fs_read_link(struct inode *inode, char *buf, unsigned size)
{
	return S_ISLNK(inode->mode) ? inode->sb->ops->read_link(inode, buf, size) : -EINVAL;
}
