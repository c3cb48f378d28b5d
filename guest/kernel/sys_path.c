/* System calls on paths: what makes, removes and renames. */
#include "guest/include/errno.h"
#include "guest/include/page.h"
#include "guest/include/syscall.h"
#include "guest/include/uaccess.h"
#include "guest/kernel/path.h"

#define RENAME_NOREPLACE 1U

/* --- open ----------------------------------------------------------------------------------------
 */

static s64 open_at(u64 dirfd, u64 user_path, u32 flags, u32 mode)
{
	struct file *f;
	struct at at;
	s64 ret = at_get(&at, dirfd, user_path);

	if (ret)
		return ret;
	ret = file_open_at(at.base, at.path, flags, mode & ~umask_get() & 07777, &f);
	at_put(&at);
	return ret ? ret : fd_install(f);
}

SYSCALL(open)
{
	return open_at((u64)AT_FDCWD, regs->rdi, (u32)regs->rsi, (u32)regs->rdx);
}

SYSCALL(openat)
{
	return open_at(regs->rdi, regs->rsi, (u32)regs->rdx, (u32)regs->r10);
}

SYSCALL(creat)
{
	return open_at((u64)AT_FDCWD, regs->rdi, O_CREAT | O_WRONLY | O_TRUNC, (u32)regs->rsi);
}

/* --- mkdir, mknod, symlink
 * ------------------------------------------------------------------------ */

static s64 make_at(u64 dirfd, u64 user_path, u32 type, u32 mode, const char *target)
{
	struct at at;
	s64 ret = at_get(&at, dirfd, user_path);

	if (ret)
		return ret;
	ret = fs_make(at.base, at.path, type | mode, target);
	at_put(&at);
	return ret;
}

static s64 mkdir_at(u64 dirfd, u64 user_path, u64 mode)
{
	return make_at(dirfd, user_path, S_IFDIR, mode & 01777 & ~umask_get(), NULL);
}

SYSCALL(mkdir)
{
	return mkdir_at((u64)AT_FDCWD, regs->rdi, regs->rsi);
}

SYSCALL(mkdirat)
{
	return mkdir_at(regs->rdi, regs->rsi, regs->rdx);
}

/* Files and pipes; devices are the kernel's own. */
static s64 mknod_at(u64 dirfd, u64 user_path, u64 mode)
{
	u32 type = mode & S_IFMT ? (u32)mode & S_IFMT : S_IFREG;

	if (type != S_IFREG && type != S_IFIFO)
		return type == S_IFDIR ? -EPERM : -EINVAL;
	return make_at(dirfd, user_path, type, mode & 07777 & ~umask_get(), NULL);
}

SYSCALL(mknod)
{
	return mknod_at((u64)AT_FDCWD, regs->rdi, regs->rsi);
}

SYSCALL(mknodat)
{
	return mknod_at(regs->rdi, regs->rsi, regs->rdx);
}

static s64 symlink_at(u64 user_target, u64 dirfd, u64 user_path)
{
	char *target = kmalloc(PATH_MAX);
	s64 ret;

	if (!target)
		return -ENOMEM;
	ret = strncpy_from_user(target, user_target, PATH_MAX);
	if (!ret)
		ret = -ENOENT;
	if (ret > 0)
		ret = make_at(dirfd, user_path, S_IFLNK, 0777, target);
	kfree(target);
	return ret;
}

SYSCALL(symlink)
{
	return symlink_at(regs->rdi, (u64)AT_FDCWD, regs->rsi);
}

SYSCALL(symlinkat)
{
	return symlink_at(regs->rdi, regs->rsi, regs->rdx);
}

/* --- link, unlink, rename
 * ------------------------------------------------------------------------- */

static s64 link_at(u64 old_dirfd, u64 old, u64 dirfd, u64 user_path, u64 flags)
{
	u64 how = (flags & AT_EMPTY_PATH) | (flags & AT_SYMLINK_FOLLOW ? 0 : AT_SYMLINK_NOFOLLOW);
	struct inode *inode;
	struct at at;
	s64 ret;

	if (flags & ~(u64)(AT_EMPTY_PATH | AT_SYMLINK_FOLLOW))
		return -EINVAL;
	ret = at_lookup(old_dirfd, old, how, &inode);
	if (ret)
		return ret;
	ret = at_get(&at, dirfd, user_path);
	if (!ret) {
		ret = fs_link(inode, at.base, at.path);
		at_put(&at);
	}
	inode_put(inode);
	return ret;
}

SYSCALL(link)
{
	return link_at((u64)AT_FDCWD, regs->rdi, (u64)AT_FDCWD, regs->rsi, 0);
}

SYSCALL(linkat)
{
	return link_at(regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8);
}

static s64 unlink_at(u64 dirfd, u64 user_path, bool want_dir)
{
	struct at at;
	s64 ret = at_get(&at, dirfd, user_path);

	if (ret)
		return ret;
	ret = fs_unlink(at.base, at.path, want_dir);
	at_put(&at);
	return ret;
}

SYSCALL(unlink)
{
	return unlink_at((u64)AT_FDCWD, regs->rdi, false);
}

SYSCALL(rmdir)
{
	return unlink_at((u64)AT_FDCWD, regs->rdi, true);
}

SYSCALL(unlinkat)
{
	if (regs->rdx & ~(u64)AT_REMOVEDIR)
		return -EINVAL;
	return unlink_at(regs->rdi, regs->rsi, regs->rdx);
}

static s64 rename_at(u64 old_dirfd, u64 old_path, u64 dirfd, u64 path, u32 flags)
{
	struct at old, new;
	s64 ret;

	if (flags & ~RENAME_NOREPLACE)
		return -EINVAL;
	ret = at_get(&old, old_dirfd, old_path);
	if (ret)
		return ret;
	ret = at_get(&new, dirfd, path);
	if (!ret) {
		ret = fs_rename(old.base, old.path, new.base, new.path, flags);
		at_put(&new);
	}
	at_put(&old);
	return ret;
}

SYSCALL(rename)
{
	return rename_at((u64)AT_FDCWD, regs->rdi, (u64)AT_FDCWD, regs->rsi, 0);
}

SYSCALL(renameat)
{
	return rename_at(regs->rdi, regs->rsi, regs->rdx, regs->r10, 0);
}

SYSCALL(renameat2)
{
	return rename_at(regs->rdi, regs->rsi, regs->rdx, regs->r10, (u32)regs->r8);
}

/* --- the working directory
 * ------------------------------------------------------------------------ */

static s64 enter(struct inode *dir)
{
	if (S_ISDIR(dir->mode)) {
		cwd_set(dir);
		return 0;
	}
	inode_put(dir);
	return -ENOTDIR;
}

SYSCALL(chdir)
{
	struct inode *dir;
	s64 ret = at_lookup((u64)AT_FDCWD, regs->rdi, 0, &dir);

	return ret ? ret : enter(dir);
}

SYSCALL(fchdir)
{
	struct file *f = fd_file(regs->rdi);
	s64 ret = -ENOTDIR;

	if (!f)
		return -EBADF;
	if (f->inode) {
		inode_get(f->inode);
		ret = enter(f->inode);
	}
	file_put(f);
	return ret;
}

SYSCALL(getcwd)
{
	struct inode *dir = cwd_get();
	char *buf = kmalloc(PATH_MAX);
	char *path = buf;
	s64 ret = buf ? -ENOENT : -ENOMEM;

	if (buf && dir)
		path = fs_path_of(dir, buf, PATH_MAX);
	else if (buf)
		buf[0] = '/', buf[1] = 0;
	if (path) {
		size_t len = 1;

		while (path[len - 1])
			len++;
		if (len > regs->rsi)
			ret = -ERANGE;
		else
			ret = copy_to_user(regs->rdi, path, len) ? -EFAULT : (s64)len;
	}
	if (dir)
		inode_put(dir);
	kfree(buf);
	return ret;
}

SYSCALL(umask)
{
	return umask_set((u32)regs->rdi);
}
