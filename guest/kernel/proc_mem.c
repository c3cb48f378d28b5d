/* /proc/PID/mem: a position in it is an address of the process. */
#include "guest/include/errno.h"
#include "guest/include/mm.h"
#include "guest/include/process.h"
#include "guest/include/uaccess.h"
#include "guest/kernel/proc.h"

/* By way of @page, as both sides may fault. Bytes, or an error that nothing is done of. */
static s64 move_part(struct mm *mm, u64 addr, u64 buf, char *page, size_t n, bool write)
{
	if (write && copy_from_user(page, buf, n))
		return -EFAULT;
	n = access_remote_vm(mm, addr, page, n, write);
	if (!n)
		return -EIO;
	return !write && copy_to_user(buf, page, n) ? -EFAULT : (s64)n;
}

static s64 move_all(struct mm *mm, u64 *pos, u64 buf, char *page, size_t n, bool write)
{
	size_t done = 0;

	while (done < n && !task_dying()) {
		s64 part =
		    move_part(mm, *pos + done, buf + done, page, MIN(n - done, PAGE_SIZE), write);

		/* As Linux has it: an error of the caller's own memory is told in any case. */
		if (part == -EFAULT || (part < 0 && !done))
			return part;
		if (part < 0)
			break;
		done += (size_t)part;
	}
	*pos += done;
	return (s64)done;
}

/* A process that has ended has no memory. */
static s64 move(struct file *f, u64 *pos, u64 buf, size_t n, bool write)
{
	const struct process *p = process_find(proc_pid(f->inode));
	struct mm *mm = p ? mm_of(p) : NULL;
	char *page;
	s64 ret;

	if (!mm || !n)
		return 0;
	page = kmalloc(PAGE_SIZE);
	if (!page)
		return -ENOMEM;
	mm_get(mm);
	ret = move_all(mm, pos, buf, page, n, write);
	mm_put(mm);
	kfree(page);
	return ret;
}

static s64 mem_read(struct file *f, u64 *pos, u64 buf, size_t n)
{
	return move(f, pos, buf, n, false);
}

static s64 mem_write(struct file *f, u64 *pos, u64 buf, size_t n)
{
	return move(f, pos, buf, n, true);
}

const struct file_ops proc_mem_ops = {
    .read = mem_read, .write = mem_write, .seeks = true, .by_address = true};
