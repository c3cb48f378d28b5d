#include "tests/ept/inject.h"

#include "ept/uffd_compat.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

struct inject inject;

void inject_block(uint64_t from, uint64_t to)
{
	inject_set(bad_from, from);
	inject_set(bad_to, to);
	inject_set(block, true);
}

void inject_wait_blocked(void)
{
	while (!inject_get(blocked))
		usleep(1000);
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	uint64_t ns = inject_get(clock_ns);

	if (clock != CLOCK_MONOTONIC || !ns)
		return (int)syscall(SYS_clock_gettime, clock, ts);
	*ts = (struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
	return 0;
}

void inject_clock_stop(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	inject_set(clock_ns, (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec);
}

void inject_clock_passes(unsigned ms)
{
	__atomic_add_fetch(&inject.clock_ns, ms * 1000000UL, __ATOMIC_RELAXED);
}

static bool interrupted(unsigned nth)
{
	return inject_get(eintr_every) && nth % inject_get(eintr_every) == 0;
}

/* As storage that does not answer. */
static void wait_while_blocked(uint64_t from, size_t len)
{
	if (from >= inject_get(bad_to) || from + len <= inject_get(bad_from))
		return;
	__atomic_add_fetch(&inject.blocked, 1, __ATOMIC_RELAXED);
	while (inject_get(block))
		usleep(1000);
	__atomic_sub_fetch(&inject.blocked, 1, __ATOMIC_RELAXED);
}

/* An object's cache is a sealed memfd; files are not. Failures are those of files. */
static bool is_cache(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals > 0 && seals & F_SEAL_SHRINK;
}

int fstatfs(int fd, struct statfs *fs)
{
	if (syscall(SYS_fstatfs, fd, fs))
		return -1;
	if (inject_get(file_system) && !is_cache(fd))
		fs->f_type = inject_get(file_system);
	return 0;
}

/* The page map, which is no storage. */
static bool of_proc(int fd)
{
	struct statfs fs;

	return !syscall(SYS_fstatfs, fd, &fs) && fs.f_type == PROC_SUPER_MAGIC;
}

ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
	uint64_t from = (uint64_t)offset;
	unsigned nth;
	ssize_t n;

	if (of_proc(fd))
		return syscall(SYS_pread64, fd, buf, len, offset);
	nth = __atomic_add_fetch(&inject.preads, 1, __ATOMIC_RELAXED);
	if (interrupted(nth)) {
		errno = EINTR;
		return -1;
	}
	if (inject_get(pread_delay_us))
		usleep(inject_get(pread_delay_us));
	wait_while_blocked(from, len);
	if (inject_get(pread_errno) && from < inject_get(bad_to) &&
	    from + len > inject_get(bad_from)) {
		if (from >= inject_get(bad_from)) {
			errno = inject_get(pread_errno);
			return -1;
		}
		len = inject_get(bad_from) - from;
	}
	if (inject_get(pread_max) && len > inject_get(pread_max))
		len = inject_get(pread_max);
	n = syscall(SYS_pread64, fd, buf, len, offset);
	if (n > 0)
		__atomic_add_fetch(&inject.bytes_read, (uint64_t)n, __ATOMIC_RELAXED);
	return n;
}

static ssize_t pwrite_file(int fd, const void *buf, size_t len, off_t offset)
{
	unsigned nth = __atomic_add_fetch(&inject.pwrites, 1, __ATOMIC_RELAXED);
	ssize_t n;

	if (interrupted(nth) || inject_get(pwrite_errno)) {
		errno = interrupted(nth) ? EINTR : inject_get(pwrite_errno);
		return -1;
	}
	n = syscall(SYS_pwrite64, fd, buf, len, offset);
	if (n > 0)
		__atomic_add_fetch(&inject.bytes_written, (uint64_t)n, __ATOMIC_RELAXED);
	return n;
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	if (is_cache(fd))
		return syscall(SYS_pwrite64, fd, buf, len, offset);
	return pwrite_file(fd, buf, len, offset);
}

/* A page that was mapped and is not protected yet is written to, as by another vCPU. */
static void slip_in(uint64_t start, uint64_t len)
{
	for (uint64_t at = start; at < start + len; at += 4096)
		((volatile char *)(uintptr_t)at)[INJECT_SLIP_AT] = INJECT_SLIPPED;
}

static int move_and_deny(int fd, struct uffdio_move *move)
{
	move->len = 4096;
	if (syscall(SYS_ioctl, fd, UFFDIO_MOVE, move))
		return -1;
	move->move = -EEXIST;
	errno = EEXIST;
	return -1;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;
	int r;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (request == UFFDIO_MOVE && inject_get(move_denied))
		return move_and_deny(fd, arg);
	r = (int)syscall(SYS_ioctl, fd, request, arg);
	if (!r && request == UFFDIO_ZEROPAGE && inject_get(slip)) {
		const struct uffdio_zeropage *zero = arg;

		slip_in(zero->range.start, zero->range.len);
	}
	if (!r && request == UFFDIO_CONTINUE && inject_get(slip)) {
		const struct uffdio_continue *cont = arg;

		if (!(cont->mode & UFFDIO_CONTINUE_MODE_WP))
			slip_in(cont->range.start, cont->range.len);
	}
	return r;
}

int fdatasync(int fd)
{
	__atomic_add_fetch(&inject.fdatasyncs, 1, __ATOMIC_RELAXED);
	if (inject_get(fdatasync_errno)) {
		errno = inject_get(fdatasync_errno);
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}
