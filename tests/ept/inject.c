#include "tests/ept/inject.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

struct inject inject;

static bool interrupted(unsigned nth)
{
	return inject.eintr_every && nth % inject.eintr_every == 0;
}

ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
	uint64_t from = (uint64_t)offset;
	unsigned nth = __atomic_add_fetch(&inject.preads, 1, __ATOMIC_RELAXED);
	ssize_t n;

	if (interrupted(nth)) {
		errno = EINTR;
		return -1;
	}
	if (inject.pread_delay_us)
		usleep(inject.pread_delay_us);
	if (inject.pread_errno && from < inject.bad_to && from + len > inject.bad_from) {
		if (from >= inject.bad_from) {
			errno = inject.pread_errno;
			return -1;
		}
		len = inject.bad_from - from;
	}
	if (inject.pread_max && len > inject.pread_max)
		len = inject.pread_max;
	n = syscall(SYS_pread64, fd, buf, len, offset);
	if (n > 0)
		__atomic_add_fetch(&inject.bytes_read, (uint64_t)n, __ATOMIC_RELAXED);
	return n;
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	unsigned nth = __atomic_add_fetch(&inject.pwrites, 1, __ATOMIC_RELAXED);
	ssize_t n;

	if (interrupted(nth) || inject.pwrite_errno) {
		errno = interrupted(nth) ? EINTR : inject.pwrite_errno;
		return -1;
	}
	n = syscall(SYS_pwrite64, fd, buf, len, offset);
	if (n > 0)
		__atomic_add_fetch(&inject.bytes_written, (uint64_t)n, __ATOMIC_RELAXED);
	return n;
}

int fdatasync(int fd)
{
	__atomic_add_fetch(&inject.fdatasyncs, 1, __ATOMIC_RELAXED);
	if (inject.fdatasync_errno) {
		errno = inject.fdatasync_errno;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}
