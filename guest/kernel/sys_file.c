/* System calls on open files: reading, writing, positions. */
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/file_rw.h"
#include "guest/include/fs.h"
#include "guest/include/page.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/uaccess.h"

#define IOV_MAX 1024

enum { SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE };

struct iovec {
	u64 base, len;
};

typedef s64 (*file_fn)(struct file *f, struct regs *regs);

/* Calls fn with the file of descriptor rdi. */
static s64 on_file(struct regs *regs, file_fn fn)
{
	struct file *f = fd_file(regs->rdi);
	s64 ret;

	if (!f)
		return -EBADF;
	ret = fn(f, regs);
	file_put(f);
	return ret;
}

static bool may_read(const struct file *f)
{
	return (f->flags & O_ACCMODE) != O_WRONLY && !(f->flags & O_PATH);
}

static bool may_write(const struct file *f)
{
	return (f->flags & O_ACCMODE) != O_RDONLY && !(f->flags & O_PATH);
}

static s64 file_read(struct file *f, u64 *pos, u64 buf, size_t n)
{
	if (!may_read(f))
		return -EBADF;
	if (!user_range(buf, n))
		return -EFAULT;
	return f->ops->read ? f->ops->read(f, pos, buf, MIN(n, RW_MAX)) : -EINVAL;
}

static s64 file_write(struct file *f, u64 *pos, u64 buf, size_t n)
{
	if (!may_write(f))
		return -EBADF;
	if (!user_range(buf, n))
		return -EFAULT;
	return f->ops->write ? f->ops->write(f, pos, buf, MIN(n, RW_MAX)) : -EINVAL;
}

static s64 do_read(struct file *f, struct regs *regs)
{
	return file_read(f, &f->pos, regs->rsi, regs->rdx);
}

static s64 do_write(struct file *f, struct regs *regs)
{
	return file_write(f, &f->pos, regs->rsi, regs->rdx);
}

SYSCALL(read)
{
	return on_file(regs, do_read);
}

SYSCALL(write)
{
	return on_file(regs, do_write);
}

/* --- with a position of their own ---------------------------------------------------------------
 */

static s64 check_pos(const struct file *f, u64 pos)
{
	if ((s64)pos < 0)
		return -EINVAL;
	if (f->flags & O_PATH)
		return -EBADF;
	return f->ops->seeks ? 0 : -ESPIPE;
}

static s64 do_pread(struct file *f, struct regs *regs)
{
	u64 pos = regs->r10;
	s64 err = check_pos(f, pos);

	return err ? err : file_read(f, &pos, regs->rsi, regs->rdx);
}

static s64 do_pwrite(struct file *f, struct regs *regs)
{
	u64 pos = regs->r10;
	s64 err = check_pos(f, pos);

	return err ? err : file_write(f, &pos, regs->rsi, regs->rdx);
}

SYSCALL(pread64)
{
	return on_file(regs, do_pread);
}

SYSCALL(pwrite64)
{
	return on_file(regs, do_pwrite);
}

/* --- several buffers ----------------------------------------------------------------------------
 */

typedef s64 (*transfer_fn)(struct file *f, u64 *pos, u64 buf, size_t n);

static s64 each_buffer(struct file *f, const struct regs *regs, u64 *pos, transfer_fn fn)
{
	u32 n = (u32)regs->rdx;
	s64 done = 0;

	if (fn == file_read ? !may_read(f) : !may_write(f))
		return -EBADF;
	if (n > IOV_MAX)
		return -EINVAL;
	for (u32 i = 0; i < n; i++) {
		struct iovec v;
		s64 ret;

		if (copy_from_user(&v, regs->rsi + i * sizeof(v), sizeof(v)))
			return done ? done : -EFAULT;
		if ((s64)v.len < 0)
			return done ? done : -EINVAL;
		if (!v.len)
			continue;
		ret = fn(f, pos, v.base, v.len);
		if (ret < 0)
			return done ? done : ret;
		done += ret;
		if ((u64)ret < v.len)
			break;
	}
	return done;
}

static s64 do_readv(struct file *f, struct regs *regs)
{
	return each_buffer(f, regs, &f->pos, file_read);
}

static s64 do_writev(struct file *f, struct regs *regs)
{
	return each_buffer(f, regs, &f->pos, file_write);
}

static s64 do_preadv(struct file *f, struct regs *regs)
{
	u64 pos = regs->r10;
	s64 err = check_pos(f, pos);

	return err ? err : each_buffer(f, regs, &pos, file_read);
}

static s64 do_pwritev(struct file *f, struct regs *regs)
{
	u64 pos = regs->r10;
	s64 err = check_pos(f, pos);

	return err ? err : each_buffer(f, regs, &pos, file_write);
}

SYSCALL(readv)
{
	return on_file(regs, do_readv);
}

SYSCALL(writev)
{
	return on_file(regs, do_writev);
}

SYSCALL(preadv)
{
	return on_file(regs, do_preadv);
}

SYSCALL(pwritev)
{
	return on_file(regs, do_pwritev);
}

/* --- positions ----------------------------------------------------------------------------------
 */

/* Data is everywhere up to the end, where the one hole is. */
static s64 seek_data(const struct inode *inode, s64 pos, bool hole)
{
	if (pos < 0 || (u64)pos >= inode->size)
		return -ENXIO;
	return hole ? (s64)inode->size : pos;
}

static s64 do_lseek(struct file *f, struct regs *regs)
{
	s64 pos = (s64)regs->rsi;

	if (f->flags & O_PATH)
		return -EBADF;
	if (!f->ops->seeks)
		return -ESPIPE;
	if (f->ops->by_address && regs->rdx > SEEK_CUR)
		return -EINVAL;
	switch (regs->rdx) {
	case SEEK_SET:
		break;
	case SEEK_CUR:
		if (__builtin_add_overflow(pos, (s64)f->pos, &pos))
			return -EOVERFLOW;
		break;
	case SEEK_END:
		if (__builtin_add_overflow(pos, (s64)f->inode->size, &pos))
			return -EOVERFLOW;
		break;
	case SEEK_DATA:
	case SEEK_HOLE:
		pos = seek_data(f->inode, pos, regs->rdx == SEEK_HOLE);
		if (pos < 0)
			return pos;
		break;
	default:
		return -EINVAL;
	}
	if (pos < 0 && !f->ops->by_address)
		return -EINVAL;
	f->pos = (u64)pos;
	return pos;
}

SYSCALL(lseek)
{
	return on_file(regs, do_lseek);
}

static s64 do_ioctl(struct file *f, struct regs *regs)
{
	if (f->flags & O_PATH)
		return -EBADF;
	return f->ops->ioctl ? f->ops->ioctl(f, (u32)regs->rsi, regs->rdx) : -ENOTTY;
}

SYSCALL(ioctl)
{
	return on_file(regs, do_ioctl);
}

/* --- durability ----------------------------------------------------------------------------------
 */

static s64 do_fsync(struct file *f, struct regs *regs)
{
	(void)regs;
	if (f->flags & O_PATH)
		return -EBADF;
	if (!f->inode || !f->inode->ops->fsync)
		return -EINVAL;
	return S_ISREG(f->inode->mode) ? file_sync(f->inode) : f->inode->ops->fsync(f->inode);
}

SYSCALL(fsync)
{
	return on_file(regs, do_fsync);
}

SYSCALL(fdatasync)
{
	return on_file(regs, do_fsync);
}

SYSCALL(sync)
{
	(void)regs;
	fs_sync();
	return 0;
}

/* Of a range by whole pages; without a length, up to the end. Of the rest no advice is needed. */
static s64 do_fadvise64(struct file *f, struct regs *regs)
{
	enum { FADV_DONTNEED = 4, FADV_NOREUSE = 5 };
	u64 pos = regs->rsi, len = regs->rdx, end;
	u32 advice = (u32)regs->r10;

	if (f->flags & O_PATH)
		return -EBADF;
	if (!f->inode || S_ISFIFO(f->inode->mode))
		return -ESPIPE;
	if ((s64)len < 0 || advice > FADV_NOREUSE)
		return -EINVAL;
	if (advice != FADV_DONTNEED || !S_ISREG(f->inode->mode) || f->inode->dax)
		return 0;
	if (!len || __builtin_add_overflow(pos, len, &end))
		end = ~0UL;
	filemap_write_back(&f->inode->mapping);
	if (pos <= ~PAGE_SIZE && ALIGN_UP(pos, PAGE_SIZE) < (end & PAGE_MASK))
		filemap_invalidate(&f->inode->mapping, ALIGN_UP(pos, PAGE_SIZE) >> PAGE_SHIFT,
				   (end >> PAGE_SHIFT) - 1);
	return 0;
}

SYSCALL(fadvise64)
{
	return on_file(regs, do_fadvise64);
}

static s64 do_ftruncate(struct file *f, struct regs *regs)
{
	if (f->flags & O_PATH)
		return -EBADF;
	if ((s64)regs->rsi < 0 || (f->flags & O_ACCMODE) == O_RDONLY || !f->inode ||
	    !S_ISREG(f->inode->mode))
		return -EINVAL;
	return fs_truncate(f->inode, regs->rsi);
}

SYSCALL(ftruncate)
{
	return on_file(regs, do_ftruncate);
}
