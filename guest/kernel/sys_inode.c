/* System calls on what an inode says of itself: mode, owner, times, size, links, access. */
#include "guest/include/errno.h"
#include "guest/include/page.h"
#include "guest/include/syscall.h"
#include "guest/include/uaccess.h"
#include "guest/kernel/path.h"

#define UTIME_NOW  0x3fffffff
#define UTIME_OMIT 0x3ffffffe
#define X_OK	   1

struct timespec {
	s64 sec, nsec;
};

/* What a call changes, and to what. */
typedef s64 (*change_fn)(struct inode *inode, const struct regs *regs);

static s64 change(struct inode *inode, change_fn fn, const struct regs *regs)
{
	s64 ret = fs_read_only(inode) ? -EROFS : 0;

	if (!ret && !inode->ops->update)
		ret = -EPERM;
	if (!ret) {
		mutex_lock(&inode->lock);
		ret = fn(inode, regs);
		if (!ret)
			ret = inode->ops->update(inode);
		mutex_unlock(&inode->lock);
	}
	inode_put(inode);
	return ret;
}

static s64 change_path(u64 dirfd, u64 path, u64 flags, change_fn fn, const struct regs *regs)
{
	struct inode *inode;
	s64 ret = at_lookup(dirfd, path, flags, &inode);

	return ret ? ret : change(inode, fn, regs);
}

static s64 change_fd(change_fn fn, const struct regs *regs)
{
	struct file *f = fd_file(regs->rdi);
	struct inode *inode = f && !(f->flags & O_PATH) ? f->inode : NULL;
	s64 err = f && !(f->flags & O_PATH) ? -EPERM : -EBADF;

	if (inode)
		inode_get(inode);
	if (f)
		file_put(f);
	return inode ? change(inode, fn, regs) : err;
}

/* --- chmod: the mode is where the call has it
 * ------------------------------------------------------ */

static s64 set_mode(struct inode *inode, u64 mode)
{
	if (S_ISLNK(inode->mode))
		return -EOPNOTSUPP;
	inode->mode = (inode->mode & S_IFMT) | (mode & 07777);
	inode->ctime = fs_time(inode);
	return 0;
}

static s64 mode_in_rsi(struct inode *inode, const struct regs *regs)
{
	return set_mode(inode, regs->rsi);
}

static s64 mode_in_rdx(struct inode *inode, const struct regs *regs)
{
	return set_mode(inode, regs->rdx);
}

SYSCALL(chmod)
{
	return change_path((u64)AT_FDCWD, regs->rdi, 0, mode_in_rsi, regs);
}

SYSCALL(fchmod)
{
	return change_fd(mode_in_rsi, regs);
}

SYSCALL(fchmodat)
{
	return change_path(regs->rdi, regs->rsi, 0, mode_in_rdx, regs);
}

/* --- chown
 * ----------------------------------------------------------------------------------------- */

static s64 set_owner(struct inode *inode, u32 uid, u32 gid)
{
	if (uid != ~0U)
		inode->uid = uid;
	if (gid != ~0U)
		inode->gid = gid;
	/* As on Linux: who runs it is another's business now. */
	if (S_ISREG(inode->mode))
		inode->mode &= ~(u32)(04000 | (inode->mode & 010 ? 02000 : 0));
	inode->ctime = fs_time(inode);
	return 0;
}

static s64 owner_in_rsi(struct inode *inode, const struct regs *regs)
{
	return set_owner(inode, (u32)regs->rsi, (u32)regs->rdx);
}

static s64 owner_in_rdx(struct inode *inode, const struct regs *regs)
{
	return set_owner(inode, (u32)regs->rdx, (u32)regs->r10);
}

SYSCALL(chown)
{
	return change_path((u64)AT_FDCWD, regs->rdi, 0, owner_in_rsi, regs);
}

SYSCALL(fchown)
{
	return change_fd(owner_in_rsi, regs);
}

SYSCALL(lchown)
{
	return change_path((u64)AT_FDCWD, regs->rdi, AT_SYMLINK_NOFOLLOW, owner_in_rsi, regs);
}

SYSCALL(fchownat)
{
	if ((u32)regs->r8 & ~(u32)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	return change_path(regs->rdi, regs->rsi, regs->r8, owner_in_rdx, regs);
}

/* --- times: whole seconds
 * --------------------------------------------------------------------------- */

static s64 set_time(s64 *time, const struct timespec *ts, s64 now)
{
	if (ts->nsec == UTIME_OMIT)
		return 0;
	if (ts->nsec != UTIME_NOW && (ts->nsec < 0 || ts->nsec >= 1000000000))
		return -EINVAL;
	*time = ts->nsec == UTIME_NOW ? now : ts->sec;
	return 0;
}

static s64 set_times(struct inode *inode, const struct regs *regs)
{
	struct timespec ts[2] = {{.nsec = UTIME_NOW}, {.nsec = UTIME_NOW}};
	s64 now = fs_time(inode), ret;

	if (regs->rdx && copy_from_user(ts, regs->rdx, sizeof(ts)))
		return -EFAULT;
	ret = set_time(&inode->atime, &ts[0], now);
	if (!ret)
		ret = set_time(&inode->mtime, &ts[1], now);
	inode->ctime = now;
	return ret;
}

SYSCALL(utimensat)
{
	if ((u32)regs->r10 & ~(u32)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	if (!regs->rsi && (int)regs->rdi != AT_FDCWD)
		return change_fd(set_times, regs);
	return change_path(regs->rdi, regs->rsi, regs->r10, set_times, regs);
}

/* --- size, target, access
 * --------------------------------------------------------------------------- */

SYSCALL(truncate)
{
	struct inode *inode;
	s64 ret;

	if ((s64)regs->rsi < 0)
		return -EINVAL;
	ret = at_lookup((u64)AT_FDCWD, regs->rdi, 0, &inode);
	if (ret)
		return ret;
	ret = fs_truncate(inode, regs->rsi);
	inode_put(inode);
	return ret;
}

/* What its own descriptor means; of those only links (O_PATH) can be read. */
static bool is_empty(u64 user_path)
{
	char first = 1;

	return !copy_from_user(&first, user_path, 1) && !first;
}

static s64 read_link_at(u64 dirfd, u64 user_path, u64 buf, u64 size)
{
	struct inode *inode;
	char *target;
	s64 ret;

	if ((int)size <= 0)
		return -EINVAL;
	ret = at_lookup(dirfd, user_path, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, &inode);
	if (ret)
		return ret;
	if (!S_ISLNK(inode->mode) && is_empty(user_path)) {
		inode_put(inode);
		return -ENOENT;
	}
	target = kmalloc(PATH_MAX);
	ret = target ? fs_read_link(inode, target, PATH_MAX) : -ENOMEM;
	if (ret > 0) {
		ret = MIN(ret, (s64)size);
		if (copy_to_user(buf, target, (size_t)ret))
			ret = -EFAULT;
	}
	kfree(target);
	inode_put(inode);
	return ret;
}

SYSCALL(readlink)
{
	return read_link_at((u64)AT_FDCWD, regs->rdi, regs->rsi, regs->rdx);
}

SYSCALL(readlinkat)
{
	return read_link_at(regs->rdi, regs->rsi, regs->rdx, regs->r10);
}

/* Everyone is root: only running what nobody may run is refused. */
static s64 access_at(u64 dirfd, u64 user_path, u64 mode, u64 flags)
{
	struct inode *inode;
	s64 ret;

	if (mode & ~7UL)
		return -EINVAL;
	ret = at_lookup(dirfd, user_path, flags, &inode);
	if (ret)
		return ret;
	if ((mode & X_OK) && !S_ISDIR(inode->mode) && !(inode->mode & 0111))
		ret = -EACCES;
	if ((mode & 2) && fs_read_only(inode) && !S_ISCHR(inode->mode))
		ret = -EROFS;
	inode_put(inode);
	return ret;
}

SYSCALL(access)
{
	return access_at((u64)AT_FDCWD, regs->rdi, regs->rsi, 0);
}

SYSCALL(faccessat)
{
	return access_at(regs->rdi, regs->rsi, regs->rdx, 0);
}

SYSCALL(faccessat2)
{
	if ((u32)regs->r10 & ~(u32)(AT_SYMLINK_NOFOLLOW | AT_EACCESS | AT_EMPTY_PATH))
		return -EINVAL;
	return access_at(regs->rdi, regs->rsi, regs->rdx, regs->r10);
}
