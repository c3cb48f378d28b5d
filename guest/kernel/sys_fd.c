/* System calls on descriptors: close, dup, fcntl, pipe. */
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/syscall.h"
#include "guest/include/uaccess.h"

enum {
	F_DUPFD = 0,
	F_GETFD = 1,
	F_SETFD = 2,
	F_GETFL = 3,
	F_SETFL = 4,
	F_DUPFD_CLOEXEC = 1030,
	F_GETPIPE_SZ = 1032,
};

#define FD_CLOEXEC 1U

SYSCALL(close)
{
	return fd_close(regs->rdi);
}

SYSCALL(dup)
{
	struct file *f = fd_file(regs->rdi);

	return f ? fd_install_from(f, 0, false) : -EBADF;
}

static s64 dup_to(u64 from, u64 to, bool cloexec)
{
	struct file *f = fd_file(from);

	return f ? fd_replace(to, f, cloexec) : -EBADF;
}

SYSCALL(dup2)
{
	struct file *f;

	if ((u32)regs->rdi != (u32)regs->rsi)
		return dup_to(regs->rdi, regs->rsi, false);
	f = fd_file(regs->rdi);
	if (!f)
		return -EBADF;
	file_put(f);
	return (s64)(u32)regs->rdi;
}

SYSCALL(dup3)
{
	if ((u32)regs->rdi == (u32)regs->rsi || ((u32)regs->rdx & ~(u32)O_CLOEXEC))
		return -EINVAL;
	return dup_to(regs->rdi, regs->rsi, regs->rdx);
}

static s64 dup_from(struct file *f, u64 from, bool cloexec)
{
	if (from >= FILES_MAX)
		return -EINVAL;
	file_get(f);
	return fd_install_from(f, from, cloexec);
}

static s64 do_fcntl(struct file *f, u32 fd, u32 cmd, u64 arg)
{
	const u32 settable = O_APPEND | O_NONBLOCK;

	switch (cmd) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		return dup_from(f, (u32)arg, cmd == F_DUPFD_CLOEXEC);
	case F_GETFD:
		return fd_get_cloexec(fd) ? FD_CLOEXEC : 0;
	case F_SETFD:
		fd_set_cloexec(fd, arg & FD_CLOEXEC);
		return 0;
	case F_GETFL:
		return f->flags & ~(u32)O_CLOEXEC;
	case F_SETFL:
		f->flags = (f->flags & ~settable) | ((u32)arg & settable);
		return 0;
	case F_GETPIPE_SZ:
		return pipe_bytes(f) ? (s64)pipe_bytes(f) : -EBADF;
	default:
		return -EINVAL;
	}
}

SYSCALL(fcntl)
{
	struct file *f = fd_file(regs->rdi);
	s64 ret;

	if (!f)
		return -EBADF;
	ret = do_fcntl(f, (u32)regs->rdi, (u32)regs->rsi, regs->rdx);
	file_put(f);
	return ret;
}

static s64 make_pipe(u64 user_fds, u32 flags)
{
	struct file *ends[2];
	int fds[2];
	s64 ret;

	if (flags & ~(u32)(O_CLOEXEC | O_NONBLOCK))
		return -EINVAL;
	ret = pipe_open(flags, ends);
	if (ret)
		return ret;
	fds[0] = fd_install(ends[0]);
	if (fds[0] < 0) {
		file_put(ends[1]);
		return fds[0];
	}
	fds[1] = fd_install(ends[1]);
	if (fds[1] >= 0 && !copy_to_user(user_fds, fds, sizeof(fds)))
		return 0;
	fd_close((u64)fds[0]);
	if (fds[1] < 0)
		return fds[1];
	fd_close((u64)fds[1]);
	return -EFAULT;
}

SYSCALL(pipe)
{
	return make_pipe(regs->rdi, 0);
}

SYSCALL(pipe2)
{
	return make_pipe(regs->rdi, (u32)regs->rsi);
}
