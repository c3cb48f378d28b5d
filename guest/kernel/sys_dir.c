/* getdents64. */
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/fs.h"
#include "guest/include/string.h"
#include "guest/include/syscall.h"
#include "guest/include/uaccess.h"

#define DIRENT_HEADER 19 /* up to the name */

struct dirent_out {
	u64 buf;
	size_t size, done;
	u64 entries; /* number of the next entry: what d_off counts */
	s64 error;
};

static int put_entry(void *arg, const char *name, unsigned len, u64 ino, u8 type)
{
	struct dirent_out *o = arg;
	u8 rec[DIRENT_HEADER + NAME_MAX + 1 + 8] = {0};
	u16 reclen = (u16)ALIGN_UP(DIRENT_HEADER + len + 1, 8U);

	if (len > NAME_MAX)
		return 1;
	if (o->size - o->done < reclen) {
		o->error = o->done ? 0 : -EINVAL;
		return 1;
	}
	o->entries++;
	memcpy(rec, &ino, 8);
	memcpy(rec + 8, &o->entries, 8);
	memcpy(rec + 16, &reclen, 2);
	rec[18] = type;
	memcpy(rec + DIRENT_HEADER, name, len);
	if (copy_to_user(o->buf + o->done, rec, reclen)) {
		o->error = -EFAULT;
		return 1;
	}
	o->done += reclen;
	return 0;
}

SYSCALL(getdents64)
{
	struct file *f = fd_get(regs->rdi);
	struct dirent_out o = {.buf = regs->rsi, .size = regs->rdx};
	int err;

	if (!f)
		return -EBADF;
	if (!f->inode || !S_ISDIR(f->inode->mode))
		return -ENOTDIR;
	o.entries = f->pos;
	err = f->inode->ops->readdir(f->inode, &f->pos, put_entry, &o);
	if (o.done)
		return (s64)o.done;
	return err < 0 ? err : o.error;
}
