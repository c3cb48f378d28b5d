#include "tests/devices/disk_rig.h"

#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/devices/rig.h"

int disk_fd;
struct disk *disk;
uint8_t disk_buf[64 * 1024];

void disk_set_up(void)
{
	disk_fd = rig_file(DISK_BYTES);
}

void disk_tear_down(void)
{
	disk_close(disk);
	disk = NULL;
	close(disk_fd);
}

void disk_use(enum disk_mode mode)
{
	ck_assert_int_eq(disk_open(disk_fd, mode, &disk), 0);
}

int disk_get(uint64_t offset, uint64_t len)
{
	struct iovec iov = {disk_buf, len};

	memset(disk_buf, 0xdb, sizeof(disk_buf));
	return disk_read(disk, offset, &iov, 1, len);
}

int disk_put(uint64_t offset, uint64_t len, uint8_t byte)
{
	/* In three pieces, to go through iovecs as a guest's would. */
	struct iovec iov[3] = {
	    {disk_buf, 1}, {disk_buf + 1, len / 2}, {disk_buf + 1 + len / 2, len - len / 2}};

	memset(disk_buf, byte, sizeof(disk_buf));
	return disk_write(disk, offset, iov, 3, len);
}

void disk_expect(uint64_t from, uint64_t to, int byte)
{
	for (uint64_t sector = from; sector < to; sector++) {
		uint64_t want = sector, got;

		ck_assert_int_eq(disk_get(sector * 512, 512), 0);
		if (byte >= 0)
			memset(&want, byte, sizeof(want));
		for (unsigned i = 0; i < 512; i += 8) {
			memcpy(&got, disk_buf + i, 8);
			if (got != want)
				ck_abort_msg("sector %lu, byte %u: %lx, not %lx", sector, i, got,
					     want);
		}
	}
}

void disk_expect_file(uint64_t from, uint64_t to, int byte)
{
	for (uint64_t sector = from; sector < to; sector++) {
		uint64_t want = sector, got;

		if (byte >= 0)
			memset(&want, byte, sizeof(want));
		ck_assert_int_eq(pread(disk_fd, &got, 8, (off_t)sector * 512 + 8), 8);
		ck_assert_uint_eq(got, want);
	}
}
