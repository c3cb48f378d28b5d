/* sendfile: from a file to whatever can be written, a page at a time through the kernel. */
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/fs.h"
#include "guest/include/page.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/uaccess.h"

/* One page's worth from *pos on, which moves behind what was written. */
static s64 send_some(struct file *out, struct file *in, u64 *pos, size_t n)
{
	u64 buf = current->own_buffer, from = *pos;
	s64 got = in->ops->read(in, &from, buf, MIN(n, PAGE_SIZE)), put;

	if (got <= 0)
		return got;
	put = out->ops->write(out, &out->pos, buf, (size_t)got);
	if (put > 0)
		*pos += (u64)put;
	return put;
}

static s64 send(struct file *out, struct file *in, u64 *pos, size_t n)
{
	struct page *page = alloc_page(0);
	size_t done = 0;
	s64 some = 0;

	if (!page)
		return -ENOMEM;
	current->own_buffer = (u64)page_kva(page);
	while (done < n && !(done && signal_pending())) {
		size_t part = MIN(n - done, PAGE_SIZE);

		some = send_some(out, in, pos, part);
		if (some > 0)
			done += (size_t)some;
		if (some < (s64)part)
			break;
	}
	current->own_buffer = 0;
	put_page(page);
	return done ? (s64)done : some;
}

/* As Linux's: what is read has positions, what is written is not appended to. */
static s64 check(const struct file *out, const struct file *in, bool has_pos, u64 pos, size_t n)
{
	if ((in->flags & O_ACCMODE) == O_WRONLY || in->flags & O_PATH)
		return -EBADF;
	if (has_pos && !in->ops->seeks)
		return -ESPIPE;
	if ((s64)n < 0 || (s64)pos < 0)
		return -EINVAL;
	if (!out || (out->flags & O_ACCMODE) == O_RDONLY || out->flags & O_PATH)
		return -EBADF;
	if (pos > ~0UL / 2 - n)
		return -EOVERFLOW;
	if (!in->inode || !S_ISREG(in->inode->mode) || !out->ops->write || out->flags & O_APPEND)
		return -EINVAL;
	return 0;
}

static s64 send_from(u64 out_fd, struct file *in, u64 *pos, bool has_pos, size_t n)
{
	struct file *out = fd_file(out_fd);
	s64 ret = check(out, in, has_pos, *pos, n);

	if (!ret)
		ret = send(out, in, pos, MIN(n, RW_MAX));
	if (out)
		file_put(out);
	return ret;
}

SYSCALL(sendfile)
{
	struct file *in;
	u64 pos, user_pos = regs->rdx;
	s64 ret;

	if (user_pos && copy_from_user(&pos, user_pos, sizeof(pos)))
		return -EFAULT;
	in = fd_file(regs->rsi);
	if (!in)
		return -EBADF;
	ret = send_from(regs->rdi, in, user_pos ? &pos : &in->pos, user_pos, regs->r10);
	file_put(in);
	return user_pos && copy_to_user(user_pos, &pos, sizeof(pos)) ? -EFAULT : ret;
}
