/* Short reads and writes end here: the callers see all or an error. */
#include "devices/file_io.h"

#include <errno.h>
#include <string.h>

static void iov_advance(struct iov_cursor *cursor, size_t len)
{
	while (len > 0) {
		struct iovec *iov = cursor->iov;
		size_t n = len < iov->iov_len ? len : iov->iov_len;

		iov->iov_base = (char *)iov->iov_base + n;
		iov->iov_len -= n;
		len -= n;
		if (iov->iov_len == 0) {
			cursor->iov++;
			cursor->nr--;
		}
	}
}

/* One system call for at most @len bytes: the iovec in which they end is cut for it. */
static ssize_t transfer_some(int fd, enum direction dir, struct iov_cursor *cursor, uint64_t len,
			     uint64_t offset)
{
	uint64_t sum = 0, excess = 0;
	size_t nr = 0;
	ssize_t n;

	while (nr < cursor->nr && sum < len)
		sum += cursor->iov[nr++].iov_len;
	if (sum == 0)
		return -EINVAL;
	if (sum > len)
		excess = sum - len;
	cursor->iov[nr - 1].iov_len -= excess;
	n = dir == TO_FILE ? pwritev(fd, cursor->iov, (int)nr, (off_t)offset)
			   : preadv(fd, cursor->iov, (int)nr, (off_t)offset);
	if (n < 0)
		n = -errno;
	cursor->iov[nr - 1].iov_len += excess;
	return n;
}

int file_transfer(int fd, enum direction dir, struct iov_cursor *cursor, uint64_t len,
		  uint64_t offset)
{
	while (len > 0) {
		ssize_t n = transfer_some(fd, dir, cursor, len, offset);

		if (n == -EINTR)
			continue;
		if (n < 0)
			return (int)n;
		if (n == 0)
			return -EIO; /* the file ends here now */
		iov_advance(cursor, (size_t)n);
		len -= (uint64_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

void iov_put(struct iov_cursor *cursor, const void *data, uint64_t len)
{
	const char *from = data;

	while (len > 0) {
		size_t n = cursor->iov->iov_len < len ? cursor->iov->iov_len : len;

		memcpy(cursor->iov->iov_base, from, n);
		from += n;
		len -= n;
		iov_advance(cursor, n);
	}
}
