/* From paths to inodes: components, ".." across mounts, symbolic links. */
#include "guest/fs/internal.h"
#include "guest/include/page.h"
#include "guest/include/string.h"

enum { MAX_LINKS = 40 };

/* A walk under way. `path` holds what is still to be walked, from `at` on. */
struct walk {
	struct inode *dir; /* a reference */
	char *path;	   /* PATH_MAX bytes */
	unsigned at;
	unsigned links; /* followed so far */
};

static void move_to(struct walk *w, struct inode *inode)
{
	inode_get(inode);
	inode_put(w->dir);
	w->dir = inode;
}

/* The filesystem mounted at /NAME. */
static struct super_block *mounted_at(const char *name, unsigned len)
{
	for (struct super_block *sb = mounted->next; sb; sb = sb->next) {
		if (strlen(sb->where) == len + 1 && !memcmp(sb->where + 1, name, len))
			return sb;
	}
	return NULL;
}

/* One component; *next gets a reference. Mount points need no folder below them. */
static int step(struct walk *w, const char *name, unsigned len, struct inode **next)
{
	struct super_block *over = NULL;
	bool dotdot = len == 2 && name[0] == '.' && name[1] == '.';

	if (dotdot && w->dir == w->dir->sb->root)
		*next = mounted->root;
	else if (w->dir == mounted->root && (over = mounted_at(name, len)))
		*next = over->root;
	else
		return w->dir->ops->lookup(w->dir, name, len, next);
	inode_get(*next);
	return 0;
}

/* Puts the link's target in front of what is left of the path. */
static int follow_link(struct walk *w, struct inode *link)
{
	char *path = kmalloc(PATH_MAX);
	size_t rest = strlen(w->path + w->at);
	int err;

	if (!path)
		return -ENOMEM;
	if (++w->links > MAX_LINKS) {
		err = -ELOOP;
		goto fail;
	}
	int len = link->sb->ops->read_link(link, path, PATH_MAX - 1);
	if (len <= 0) {
		err = len ? len : -ENOENT;
		goto fail;
	}
	if ((size_t)len + rest >= PATH_MAX) {
		err = -ENAMETOOLONG;
		goto fail;
	}
	memcpy(path + len, w->path + w->at, rest + 1);
	kfree(w->path);
	w->path = path;
	w->at = 0;
	if (path[0] == '/')
		move_to(w, mounted->root);
	return 0;
fail:
	kfree(path);
	return err;
}

static int walk(struct walk *w)
{
	for (;;) {
		while (w->path[w->at] == '/')
			w->at++;
		const char *name = w->path + w->at;
		unsigned len = 0;

		while (name[len] && name[len] != '/')
			len++;
		/* Also with slashes behind it, the last name has to be a directory's. */
		if (w->at && !S_ISDIR(w->dir->mode))
			return -ENOTDIR;
		if (!len)
			return 0;
		if (len > NAME_MAX)
			return -ENAMETOOLONG;
		w->at += len;
		if (len == 1 && name[0] == '.')
			continue;

		struct inode *next;
		int err = step(w, name, len, &next);
		if (err)
			return err;
		if (S_ISLNK(next->mode))
			err = follow_link(w, next);
		else
			move_to(w, next);
		inode_put(next);
		if (err || (!S_ISDIR(w->dir->mode) && !w->path[w->at]))
			return err;
	}
}

int fs_lookup(const char *path, struct inode **out)
{
	size_t len = strlen(path);
	struct walk w = {0};

	if (!mounted || !len)
		return -ENOENT;
	if (len >= PATH_MAX)
		return -ENAMETOOLONG;
	w.path = kmalloc(PATH_MAX);
	if (!w.path)
		return -ENOMEM;
	memcpy(w.path, path, len + 1);
	w.dir = mounted->root;
	inode_get(w.dir);

	int err = walk(&w);
	if (err)
		inode_put(w.dir);
	else
		*out = w.dir;
	kfree(w.path);
	return err;
}
