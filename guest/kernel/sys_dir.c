/* getdents64. */
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/fs.h"
#include "guest/include/page.h"
#include "guest/include/string.h"
#include "guest/include/syscall.h"
#include "guest/include/uaccess.h"

#define DIRENT_HEADER 19 /* up to the name */
#define BUFFER_MAX    32768UL

/* Filled under the filesystem's lock, so in kernel memory: user memory may be a file of its. */
struct dirent_out {
	char *buf;
	size_t size, done;
	u64 *pos;    /* where the walk is: behind the entry it is asked to put */
	char *d_off; /* of the last entry: where the one behind it begins */
	s64 error;
};

static int put_entry(void *arg, const char *name, unsigned len, u64 ino, u8 type)
{
	struct dirent_out *o = arg;
	u16 reclen = (u16)ALIGN_UP(DIRENT_HEADER + len + 1, 8U);
	char *rec = o->buf + o->done;

	if (o->d_off)
		memcpy(o->d_off, o->pos, 8);
	if (o->size - o->done < reclen) {
		o->error = o->done ? 0 : -EINVAL;
		return 1;
	}
	memset(rec, 0, reclen);
	memcpy(rec, &ino, 8);
	o->d_off = rec + 8;
	memcpy(rec + 16, &reclen, 2);
	rec[18] = (char)type;
	memcpy(rec + DIRENT_HEADER, name, len);
	o->done += reclen;
	return 0;
}

static s64 list(struct file *f, u64 user_buf, size_t size)
{
	struct dirent_out o = {.size = MIN(size, BUFFER_MAX), .pos = &f->pos};
	s64 err;

	o.buf = kmalloc(o.size);
	if (!o.buf)
		return -ENOMEM;
	err = f->inode->ops->readdir(f->inode, &f->pos, put_entry, &o);
	if (o.d_off)
		memcpy(o.d_off, &f->pos, 8);
	if (!o.done)
		err = err < 0 ? err : o.error;
	else
		err = copy_to_user(user_buf, o.buf, o.done) ? -EFAULT : (s64)o.done;
	kfree(o.buf);
	return err;
}

SYSCALL(getdents64)
{
	struct file *f = fd_file(regs->rdi);
	s64 ret = -ENOTDIR;

	if (!f)
		return -EBADF;
	if (f->flags & O_PATH)
		ret = -EBADF;
	else if (f->inode && S_ISDIR(f->inode->mode))
		ret = (s32)regs->rdx < 0 ? -EINVAL : list(f, regs->rsi, (u32)regs->rdx);
	file_put(f);
	return ret;
}
