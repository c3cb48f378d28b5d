/* From paths to inodes: components, ".." across mounts, symbolic links. */
#include "guest/fs/namei.h"
#include "guest/include/page.h"
#include "guest/include/string.h"

enum { MAX_LINKS = 40 };

static void move_to(struct walk *w, struct inode *inode)
{
	inode_get(inode);
	inode_put(w->dir);
	w->dir = inode;
}

struct super_block *mounted_at(const struct name *name)
{
	for (struct super_block *sb = mounted->next; sb; sb = sb->next) {
		if (strlen(sb->where) == name->len + 1 &&
		    !memcmp(sb->where + 1, name->s, name->len))
			return sb;
	}
	return NULL;
}

int walk_step(struct walk *w, const struct name *name, struct inode **next)
{
	struct super_block *over = NULL;

	if (is_dotdot(name) && w->dir == w->dir->sb->root)
		*next = mounted->root;
	else if (w->dir == mounted->root && (over = mounted_at(name)))
		*next = over->root;
	else
		return w->dir->ops->lookup(w->dir, name->s, name->len, next);
	inode_get(*next);
	return 0;
}

int walk_follow(struct walk *w, struct inode *link)
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

static unsigned name_length(const char *name)
{
	unsigned len = 0;

	while (name[len] && name[len] != '/')
		len++;
	return len;
}

static bool only_slashes(const char *s)
{
	while (*s == '/')
		s++;
	return !*s;
}

int walk_on(struct walk *w)
{
	for (;;) {
		while (w->path[w->at] == '/')
			w->at++;
		struct name name = {w->path + w->at, name_length(w->path + w->at)};
		bool ends = only_slashes(name.s + name.len);

		w->last = name;
		/* Also with slashes behind it, the last name has to be a directory's. */
		if ((w->at || name.len) && !S_ISDIR(w->dir->mode))
			return -ENOTDIR;
		if (name.len > NAME_MAX)
			return -ENAMETOOLONG;
		if (!name.len || (w->parent && ends))
			return 0;
		w->at += name.len;
		if (is_dot(&name))
			continue;

		struct inode *next;
		int err = walk_step(w, &name, &next);
		if (err)
			return err;
		if (S_ISLNK(next->mode) && !(w->nofollow && !w->path[w->at]))
			err = walk_follow(w, next);
		else
			move_to(w, next);
		inode_put(next);
		if (err || (!S_ISDIR(w->dir->mode) && !w->path[w->at]))
			return err;
	}
}

int walk_begin(struct walk *w, struct inode *base, const char *path)
{
	size_t len = strlen(path);

	if (!mounted || !len)
		return -ENOENT;
	if (len >= PATH_MAX)
		return -ENAMETOOLONG;
	w->path = kmalloc(PATH_MAX);
	if (!w->path)
		return -ENOMEM;
	memcpy(w->path, path, len + 1);
	w->dir = base && path[0] != '/' ? base : mounted->root;
	inode_get(w->dir);
	return 0;
}

void walk_end(struct walk *w)
{
	if (!w->path)
		return;
	inode_put(w->dir);
	kfree(w->path);
}

int fs_lookup_at(struct inode *base, const char *path, bool follow, struct inode **out)
{
	struct walk w = {.nofollow = !follow};
	int err = walk_begin(&w, base, path);

	if (!err)
		err = walk_on(&w);
	if (!err) {
		*out = w.dir;
		inode_get(w.dir);
	}
	walk_end(&w);
	return err;
}

int fs_lookup(const char *path, struct inode **out)
{
	return fs_lookup_at(NULL, path, true, out);
}

/* --- from a directory to its path ------------------------------------------------------------ */

/* The entry of inode number ino is copied in front of *at. */
struct ancestor {
	u64 ino;
	char *at, *start;
};

static int take_name(void *arg, const char *name, unsigned len, u64 ino, u8 type)
{
	struct ancestor *a = arg;
	struct name n = {name, len};

	(void)type;
	if (ino != a->ino || is_dot(&n) || is_dotdot(&n))
		return 0;
	if ((size_t)(a->at - a->start) < len + 1)
		return -ENAMETOOLONG;
	a->at -= len;
	memcpy(a->at, name, len);
	*--a->at = '/';
	return 1;
}

/* One level up; what dir is called there goes in front. */
static int climb(struct inode **dir, struct ancestor *a)
{
	struct inode *up;
	u64 pos = 0;
	int err = (*dir)->ops->lookup(*dir, "..", 2, &up);

	if (err)
		return err;
	a->ino = (*dir)->ino;
	err = S_ISDIR(up->mode) ? up->ops->readdir(up, &pos, take_name, a) : -ENOTDIR;
	inode_put(*dir);
	*dir = up;
	if (!err)
		return -ENOENT;
	return err < 0 ? err : 0;
}

char *fs_path_of(struct inode *dir, char *buf, unsigned size)
{
	struct ancestor a = {.at = buf + size - 1, .start = buf};
	size_t len;

	*a.at = 0;
	inode_get(dir);
	while (dir != dir->sb->root && !climb(&dir, &a))
		;
	bool whole = dir == dir->sb->root;
	const char *where = dir->sb->where;

	inode_put(dir);
	if (!whole)
		return NULL;
	len = where[1] || !*a.at ? strlen(where) : 0;
	if ((size_t)(a.at - a.start) < len)
		return NULL;
	a.at -= len;
	memcpy(a.at, where, len);
	return a.at;
}

/* On to the folder of the file that is meant, links followed: w->last is its name there. */
static int walk_to_file(struct walk *w)
{
	for (;;) {
		struct inode *next;
		int err = walk_on(w);

		if (!err)
			err = w->last.len ? walk_step(w, &w->last, &next) : -EISDIR;
		if (err)
			return err;
		bool link = S_ISLNK(next->mode);
		if (link) {
			w->at += w->last.len;
			err = walk_follow(w, next);
		}
		inode_put(next);
		if (err || !link)
			return err;
	}
}

int fs_path_of_file(struct inode *base, const char *path, char *buf, unsigned size)
{
	struct walk w = {.parent = true};
	int err = walk_begin(&w, base, path);

	if (!err)
		err = walk_to_file(&w);
	if (!err) {
		const struct name last = w.last;
		char *dir = fs_path_of(w.dir, buf, size);
		size_t len = dir ? strlen(dir) : 0;

		if (len && dir[len - 1] == '/') /* the root's */
			len--;
		if (!dir || len + 1 + last.len >= size)
			err = -ENAMETOOLONG;
		if (!err) {
			memmove(buf, dir, len);
			buf[len++] = '/';
			memcpy(buf + len, last.s, last.len);
			buf[len + last.len] = 0;
		}
	}
	walk_end(&w);
	return err;
}
