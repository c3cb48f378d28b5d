/* System calls on files. */
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/file_rw.h"
#include "guest/include/fs.h"
#include "guest/include/page.h"
#include "guest/include/string.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/uaccess.h"

#define AT_FDCWD      (-100)
#define AT_EMPTY_PATH 0x1000
#define RW_MAX	      0x7ffff000UL /* most bytes of one call, as on Linux */
#define IOV_MAX	      1024

enum { SEEK_SET, SEEK_CUR, SEEK_END };

struct stat {
	u64 st_dev, st_ino, st_nlink;
	u32 st_mode, st_uid, st_gid, pad0;
	u64 st_rdev;
	s64 st_size, st_blksize, st_blocks;
	s64 st_atime, st_atime_ns, st_mtime, st_mtime_ns, st_ctime, st_ctime_ns;
	s64 reserved[3];
};

struct iovec {
	u64 base, len;
};

static s64 read_at(struct file *f, u64 pos, u64 buf, size_t n)
{
	if ((f->flags & O_ACCMODE) == O_WRONLY)
		return -EBADF;
	n = MIN(n, RW_MAX);
	if (f->dev)
		return f->dev->read(buf, n);
	if (S_ISDIR(f->inode->mode))
		return -EISDIR;
	return file_read_user(f->inode, pos, buf, n);
}

static s64 write_at(struct file *f, u64 pos, u64 buf, size_t n)
{
	if ((f->flags & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	n = MIN(n, RW_MAX);
	if (f->dev)
		return f->dev->write(buf, n);
	return file_write_user(f->inode, f->flags & O_APPEND ? f->inode->size : pos, buf, n);
}

static s64 advance(struct file *f, s64 done)
{
	if (done > 0)
		f->pos += (u64)done;
	return done;
}

SYSCALL(read)
{
	struct file *f = fd_get(regs->rdi);

	return f ? advance(f, read_at(f, f->pos, regs->rsi, regs->rdx)) : -EBADF;
}

SYSCALL(write)
{
	struct file *f = fd_get(regs->rdi);

	return f ? advance(f, write_at(f, f->pos, regs->rsi, regs->rdx)) : -EBADF;
}

SYSCALL(pread64)
{
	struct file *f = fd_get(regs->rdi);

	if (!f || f->dev)
		return f ? -ESPIPE : -EBADF;
	return (s64)regs->r10 < 0 ? -EINVAL : read_at(f, regs->r10, regs->rsi, regs->rdx);
}

SYSCALL(pwrite64)
{
	struct file *f = fd_get(regs->rdi);

	if (!f || f->dev)
		return f ? -ESPIPE : -EBADF;
	return (s64)regs->r10 < 0 ? -EINVAL : write_at(f, regs->r10, regs->rsi, regs->rdx);
}

SYSCALL(writev)
{
	struct file *f = fd_get(regs->rdi);
	s64 done = 0;

	if (!f)
		return -EBADF;
	if (regs->rdx > IOV_MAX)
		return -EINVAL;
	for (u64 i = 0; i < regs->rdx; i++) {
		struct iovec v;
		s64 ret;

		if (copy_from_user(&v, regs->rsi + i * sizeof(v), sizeof(v)))
			return done ? done : -EFAULT;
		ret = advance(f, write_at(f, f->pos, v.base, v.len));
		if (ret < 0)
			return done ? done : ret;
		done += ret;
		if ((u64)ret < v.len)
			break;
	}
	return done;
}

static s64 open_user_path(u64 user_path, u32 flags, struct file **out)
{
	char *path = kmalloc(PATH_MAX);
	s64 ret;

	if (!path)
		return -ENOMEM;
	ret = strncpy_from_user(path, user_path, PATH_MAX);
	if (ret >= 0)
		ret = file_open(path, flags, out);
	kfree(path);
	return ret;
}

static s64 open_fd(u64 user_path, u32 flags)
{
	struct file *f;
	s64 ret = open_user_path(user_path, flags, &f);

	if (ret)
		return ret;
	ret = fd_install(f);
	if (ret < 0)
		file_put(f);
	return ret;
}

SYSCALL(open)
{
	return open_fd(regs->rdi, (u32)regs->rsi);
}

/* Relative paths start at the root, which is every task's working directory. */
SYSCALL(openat)
{
	return open_fd(regs->rsi, (u32)regs->rdx);
}

SYSCALL(close)
{
	struct file *f = fd_get(regs->rdi);

	if (!f)
		return -EBADF;
	current->files[regs->rdi] = NULL;
	file_put(f);
	return 0;
}

SYSCALL(dup)
{
	struct file *f = fd_get(regs->rdi);
	int fd;

	if (!f)
		return -EBADF;
	f->refcount++;
	fd = fd_install(f);
	if (fd < 0)
		file_put(f);
	return fd;
}

static s64 put_stat(const struct inode *inode, u64 buf)
{
	struct stat st = {.st_mode = S_IFCHR | 0620, .st_nlink = 1, .st_blksize = PAGE_SIZE};

	if (inode) {
		st.st_ino = inode->ino;
		st.st_nlink = inode->nlink;
		st.st_mode = inode->mode;
		st.st_uid = inode->uid;
		st.st_gid = inode->gid;
		st.st_size = (s64)inode->size;
		st.st_blocks = (s64)inode->blocks;
		st.st_atime = inode->atime;
		st.st_mtime = inode->mtime;
		st.st_ctime = inode->ctime;
	}
	return copy_to_user(buf, &st, sizeof(st)) ? -EFAULT : 0;
}

static s64 stat_user_path(u64 user_path, u64 buf)
{
	struct file *f;
	s64 ret = open_user_path(user_path, O_RDONLY, &f);

	if (ret)
		return ret;
	ret = put_stat(f->inode, buf);
	file_put(f);
	return ret;
}

SYSCALL(stat)
{
	return stat_user_path(regs->rdi, regs->rsi);
}

/* There is nothing yet that makes links on purpose to look at; they are followed. */
SYSCALL(lstat)
{
	return stat_user_path(regs->rdi, regs->rsi);
}

SYSCALL(fstat)
{
	struct file *f = fd_get(regs->rdi);

	return f ? put_stat(f->inode, regs->rsi) : -EBADF;
}

SYSCALL(newfstatat)
{
	struct file *f = fd_get(regs->rdi);

	if (!(regs->r10 & AT_EMPTY_PATH))
		return stat_user_path(regs->rsi, regs->rdx);
	return f ? put_stat(f->inode, regs->rdx) : -EBADF;
}

SYSCALL(lseek)
{
	struct file *f = fd_get(regs->rdi);
	s64 pos = (s64)regs->rsi;

	if (!f)
		return -EBADF;
	if (f->dev)
		return -ESPIPE;
	if (regs->rdx > SEEK_END)
		return -EINVAL;
	if (regs->rdx == SEEK_CUR && __builtin_add_overflow(pos, (s64)f->pos, &pos))
		return -EOVERFLOW;
	if (regs->rdx == SEEK_END && __builtin_add_overflow(pos, (s64)f->inode->size, &pos))
		return -EOVERFLOW;
	if (pos < 0)
		return -EINVAL;
	f->pos = (u64)pos;
	return pos;
}

SYSCALL(ioctl)
{
	return fd_get(regs->rdi) ? -ENOTTY : -EBADF;
}

SYSCALL(fsync)
{
	struct file *f = fd_get(regs->rdi);

	if (!f)
		return -EBADF;
	return f->inode ? file_sync(f->inode) : -EINVAL;
}

SYSCALL(fdatasync)
{
	return sys_fsync(regs);
}

SYSCALL(sync)
{
	(void)regs;
	fs_sync();
	return 0;
}
