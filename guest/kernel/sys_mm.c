/* System calls on memory: arguments checked, then mm/mmap.c. */
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/mm.h"
#include "guest/include/string.h"
#include "guest/include/swap.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/uaccess.h"

#define MLOCK_ONFAULT	 1
#define MEMORY_LIMIT_MIN 16 /* pages: a program's first ones */

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

SYSCALL(mremap)
{
	return do_mremap(current->mm, regs->rdi, regs->rsi, regs->rdx, (unsigned)regs->r10,
			 regs->r8);
}

SYSCALL(mlock)
{
	return do_mlock(current->mm, regs->rdi, regs->rsi, true, true);
}

SYSCALL(mlock2)
{
	if (regs->rdx & ~(u64)MLOCK_ONFAULT)
		return -EINVAL;
	return do_mlock(current->mm, regs->rdi, regs->rsi, true, !regs->rdx);
}

SYSCALL(munlock)
{
	return do_mlock(current->mm, regs->rdi, regs->rsi, false, false);
}

SYSCALL(mlockall)
{
	unsigned flags = (unsigned)regs->rdi;

	if (!flags || (flags & ~(unsigned)(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) ||
	    flags == MCL_ONFAULT)
		return -EINVAL;
	return do_mlockall(current->mm, flags);
}

SYSCALL(munlockall)
{
	(void)regs;
	return do_mlockall(current->mm, 0);
}

SYSCALL(mincore)
{
	return do_mincore(current->mm, regs->rdi, regs->rsi, regs->rdx);
}

/* The device of a path such as /dev/vdb, or NULL. */
static struct block_device *swap_device(u64 user_path)
{
	char path[32];

	if (strncpy_from_user(path, user_path, sizeof(path)) < 0 || strncmp(path, "/dev/", 5) != 0)
		return NULL;
	return blkdev_lookup(path + 5);
}

SYSCALL(swapon)
{
	struct block_device *bdev = swap_device(regs->rdi);

	return bdev ? swap_on(bdev) : -ENOENT;
}

/* Only what nobody uses is given up. */
SYSCALL(swapoff)
{
	return swap_device(regs->rdi) ? swap_off() : -ENOENT;
}

/* Ours: the program's own pages from now on, and its children's, are at most rdi bytes together. */
SYSCALL(memory_limit)
{
	struct mem_group *group;

	if (regs->rdi >> PAGE_SHIFT < MEMORY_LIMIT_MIN)
		return -EINVAL;
	group = group_create(regs->rdi >> PAGE_SHIFT);
	if (!group)
		return -ENOMEM;
	mm_set_group(current->mm, group);
	return 0;
}

SYSCALL(msync)
{
	return do_msync(current->mm, regs->rdi, regs->rsi, (int)regs->rdx);
}

SYSCALL(brk)
{
	return (s64)do_brk(current->mm, regs->rdi);
}
