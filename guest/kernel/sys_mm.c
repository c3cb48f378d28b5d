/* System calls on memory: arguments checked, then mm/mmap.c. */
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/mm.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"

SYSCALL(mmap)
{
	unsigned prot = (unsigned)regs->rdx, flags = (unsigned)regs->r10;
	u64 offset = regs->r9;
	bool may_write = true;
	struct file *f = NULL;
	s64 ret;

	if (!IS_ALIGNED(offset, PAGE_SIZE))
		return -EINVAL;
	if (!(flags & MAP_ANONYMOUS)) {
		f = fd_file(regs->r8);
		if (!f)
			return -EBADF;
		may_write = (f->flags & O_ACCMODE) == O_RDWR;
	}
	if (f && !f->inode)
		ret = -ENODEV;
	else if (f && (f->flags & O_ACCMODE) == O_WRONLY)
		ret = -EACCES;
	else
		ret = do_mmap(current->mm, regs->rdi, regs->rsi, prot, flags, f ? f->inode : NULL,
			      offset >> PAGE_SHIFT, may_write);
	if (f)
		file_put(f);
	return ret;
}

SYSCALL(munmap)
{
	return do_munmap(current->mm, regs->rdi, regs->rsi);
}

SYSCALL(mprotect)
{
	return do_mprotect(current->mm, regs->rdi, regs->rsi, (unsigned)regs->rdx);
}

SYSCALL(madvise)
{
	return do_madvise(current->mm, regs->rdi, regs->rsi, (int)regs->rdx);
}

SYSCALL(msync)
{
	return do_msync(current->mm, regs->rdi, regs->rsi, (int)regs->rdx);
}

SYSCALL(brk)
{
	return (s64)do_brk(current->mm, regs->rdi);
}
