/* Paths from user memory, and where they start. */
#include "guest/kernel/path.h"
#include "guest/include/errno.h"
#include "guest/include/page.h"
#include "guest/include/uaccess.h"

/* The directory of a descriptor, or the working directory. */
static s64 base_of(u64 dirfd, struct inode **base)
{
	struct file *f;

	if ((int)dirfd == AT_FDCWD) {
		*base = cwd_get();
		return 0;
	}
	f = fd_file((u32)dirfd);
	if (!f)
		return -EBADF;
	*base = f->inode;
	if (*base)
		inode_get(*base);
	file_put(f);
	return *base ? 0 : -ENOTDIR;
}

s64 at_get(struct at *at, u64 dirfd, u64 user_path)
{
	s64 ret;

	*at = (struct at){.path = kmalloc(PATH_MAX)};
	if (!at->path)
		return -ENOMEM;
	ret = strncpy_from_user(at->path, user_path, PATH_MAX);
	if (ret > 0 && at->path[0] == '/')
		return 0;
	if (ret >= 0)
		ret = base_of(dirfd, &at->base);
	if (ret < 0)
		at_put(at);
	return ret < 0 ? ret : 0;
}

void at_put(struct at *at)
{
	if (at->base)
		inode_put(at->base);
	kfree(at->path);
}

/* What the descriptor itself is; a pipe without a name has no inode. */
static s64 inode_of_base(struct at *at, u64 dirfd, struct inode **out)
{
	if (!at->base && (int)dirfd == AT_FDCWD)
		return fs_lookup("/", out);
	*out = at->base;
	inode_get(at->base);
	return 0;
}

s64 at_lookup(u64 dirfd, u64 user_path, u64 flags, struct inode **out)
{
	struct at at;
	s64 ret = at_get(&at, dirfd, user_path);

	if (ret)
		return ret;
	if (!at.path[0] && (flags & AT_EMPTY_PATH))
		ret = inode_of_base(&at, dirfd, out);
	else
		ret = fs_lookup_at(at.base, at.path, !(flags & AT_SYMLINK_NOFOLLOW), out);
	at_put(&at);
	return ret;
}
