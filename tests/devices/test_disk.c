/* The disk modes, and files that fail: shrinking, full, of the wrong kind. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/disk.h"
#include "tests/devices/rig.h"

#define DISK_BYTES (1UL << 20)

static int file;
static struct disk *disk;

/* What devices/ calls: counted, and failing where a test wants it. */
static atomic_uint fdatasyncs;
static atomic_int fdatasync_errno;

int fdatasync(int fd)
{
	fdatasyncs++;
	errno = fdatasync_errno;
	return errno ? -1 : (int)syscall(SYS_fdatasync, fd);
}

static uint8_t buf[64 * 1024];

static void set_up(void)
{
	file = rig_file(DISK_BYTES);
}

static void tear_down(void)
{
	disk_close(disk);
	disk = NULL;
	close(file);
}

static void use(enum disk_mode mode)
{
	ck_assert_int_eq(disk_open(file, mode, &disk), 0);
}

static int rd(uint64_t offset, uint64_t len)
{
	struct iovec iov = {buf, len};

	memset(buf, 0xdb, sizeof(buf));
	return disk_read(disk, offset, &iov, 1, len);
}

static int wr(uint64_t offset, uint64_t len, uint8_t byte)
{
	/* In three pieces, to go through iovecs as a guest's would. */
	struct iovec iov[3] = {{buf, 1}, {buf + 1, len / 2}, {buf + 1 + len / 2, len - len / 2}};

	memset(buf, byte, sizeof(buf));
	return disk_write(disk, offset, iov, 3, len);
}

/* Sectors [from, to) hold @byte, or their own number if it is negative. */
static void expect(uint64_t from, uint64_t to, int byte)
{
	for (uint64_t sector = from; sector < to; sector++) {
		uint64_t want = sector, got;

		ck_assert_int_eq(rd(sector * 512, 512), 0);
		if (byte >= 0)
			memset(&want, byte, sizeof(want));
		for (unsigned i = 0; i < 512; i += 8) {
			memcpy(&got, buf + i, 8);
			ck_assert_uint_eq(got, want);
		}
	}
}

static void expect_file(uint64_t from, uint64_t to, int byte)
{
	for (uint64_t sector = from; sector < to; sector++) {
		uint64_t want = sector, got;

		if (byte >= 0)
			memset(&want, byte, sizeof(want));
		ck_assert_int_eq(pread(file, &got, 8, (off_t)sector * 512 + 8), 8);
		ck_assert_uint_eq(got, want);
	}
}

START_TEST(read_only)
{
	use(DISK_RO);
	expect(0, 20, -1);
	ck_assert_int_eq(wr(0, 512, 1), -EROFS);
	ck_assert_int_eq(disk_discard(disk, 0, 4096), -EROFS);
	ck_assert_int_eq(disk_write_zeroes(disk, 0, 4096, false), -EROFS);
	ck_assert_int_eq(disk_flush(disk), 0);
	expect_file(0, 20, -1);
}
END_TEST

/* Parts of blocks, whole ones and runs of both, at any place. */
START_TEST(copy_on_write)
{
	static const struct {
		unsigned from, to;
		uint8_t byte;
	} writes[] = {
	    {3, 4, 0x11},   {8, 16, 0x22},  {30, 34, 0x33},
	    {60, 95, 0x44}, {10, 12, 0x55}, {2047, 2048, 0x66},
	};
	static int model[2048];
	struct stat before, after;

	use(DISK_COW);
	ck_assert_int_eq(fstat(file, &before), 0);
	memset(model, -1, sizeof(model));
	for (unsigned i = 0; i < sizeof(writes) / sizeof(*writes); i++) {
		uint64_t len = (writes[i].to - writes[i].from) * 512;

		ck_assert_int_eq(wr(writes[i].from * 512, len, writes[i].byte), 0);
		for (unsigned s = writes[i].from; s < writes[i].to; s++)
			model[s] = writes[i].byte;
		for (unsigned s = 0; s < 2048; s++)
			expect(s, s + 1, model[s]);
	}
	ck_assert_int_eq(disk_flush(disk), 0);
	/* One long read over all of the runs. */
	ck_assert_int_eq(rd(0, 100 * 512), 0);
	for (unsigned s = 0; s < 100; s++)
		ck_assert_uint_eq(buf[s * 512], model[s] < 0 ? s : (unsigned)model[s]);
	expect_file(0, 2048, -1);
	ck_assert_int_eq(fstat(file, &after), 0);
	ck_assert_int_eq(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
}
END_TEST

START_TEST(copy_on_write_of_a_last_partial_block)
{
	ck_assert_int_eq(ftruncate(file, 5 * 512), 0);
	use(DISK_COW);
	ck_assert_int_eq(wr(4 * 512, 512, 0x77), 0);
	expect(0, 4, -1);
	expect(4, 5, 0x77);
	ck_assert_int_eq(disk_write_zeroes(disk, 512, 4 * 512, false), 0);
	expect(0, 1, -1);
	expect(1, 5, 0);
	/* 4 KiB blocks end with the file. */
	ck_assert_uint_eq(disk_file_read(disk), 5 * 512);
}
END_TEST

START_TEST(copy_on_write_discard)
{
	use(DISK_COW);
	ck_assert_int_eq(wr(0, 24 * 512, 0x12), 0);
	/* Whole blocks go, parts stay: a discard promises nothing. */
	ck_assert_int_eq(disk_discard(disk, 4 * 512, 16 * 512), 0);
	expect(0, 8, 0x12);
	expect(8, 16, 0);
	expect(16, 24, 0x12);
	/* Of the file's blocks, too; never its old contents after. */
	ck_assert_int_eq(disk_discard(disk, 100 * 4096, 4096), 0);
	expect(800, 808, 0);
	ck_assert_int_eq(disk_discard(disk, 512, 512), 0);
	/* Zeroes are exact. */
	ck_assert_int_eq(disk_write_zeroes(disk, 203 * 512, 10 * 512, true), 0);
	expect(200, 203, -1);
	expect(203, 213, 0);
	expect(213, 220, -1);
	expect_file(0, 2048, -1);
}
END_TEST

START_TEST(shared)
{
	use(DISK_SHARED);
	ck_assert_int_eq(wr(7 * 512, 3 * 512, 0x42), 0);
	ck_assert_int_eq(disk_flush(disk), 0);
	expect_file(0, 7, -1);
	expect_file(7, 10, 0x42);
	expect_file(10, 2048, -1);
	expect(7, 10, 0x42);
	ck_assert_int_eq(disk_write_zeroes(disk, 512, 5 * 512, true), 0);
	ck_assert_int_eq(disk_write_zeroes(disk, 20 * 512, 5 * 512, false), 0);
	expect_file(0, 1, -1);
	expect_file(1, 6, 0);
	expect_file(20, 25, 0);
	ck_assert_int_eq(disk_discard(disk, 32 * 512, 64 * 512), 0);
	expect_file(96, 2048, -1);
}
END_TEST

/* The host tells of lost data once; a guest must not be told later that all is well. */
START_TEST(failed_flush_stays_failed)
{
	use(DISK_SHARED);
	ck_assert_int_eq(wr(0, 4096, 1), 0);
	fdatasync_errno = EIO;
	ck_assert_int_eq(disk_flush(disk), -EIO);
	fdatasync_errno = 0;
	ck_assert_int_eq(disk_flush(disk), -EIO);
	ck_assert_int_eq(wr(0, 4096, 2), 0);
	ck_assert_int_eq(disk_flush(disk), -EIO);
}
END_TEST

/* Without the flush command a write is durable once answered; with it only when flushed. */
START_TEST(write_through_without_flush)
{
	struct rig rig;
	unsigned each = _i ? 0 : 1;

	rig_init(&rig);
	rig_blk(&rig, file, DISK_SHARED);
	rig_start(&rig, VERSION_1 | (_i ? 1ULL << VIRTIO_BLK_F_FLUSH : 0), 8);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_OUT, 0, 512), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(fdatasyncs, each);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(fdatasyncs, each);
	fdatasync_errno = EIO;
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_OUT, 0, 512),
			 _i ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_IOERR);
	rig_fini(&rig);
}
END_TEST

START_TEST(file_shrinks)
{
	static const enum disk_mode modes[] = {DISK_RO, DISK_COW, DISK_SHARED};
	struct stat st;

	for (unsigned i = 0; i < 3; i++) {
		ck_assert_int_eq(ftruncate(file, DISK_BYTES), 0);
		use(modes[i]);
		ck_assert_int_eq(ftruncate(file, DISK_BYTES / 2), 0);
		ck_assert_int_eq(rd(DISK_BYTES / 2 - 512, 512), 0);
		ck_assert_int_eq(rd(DISK_BYTES / 2 - 512, 1024), -EIO);
		ck_assert_int_eq(rd(DISK_BYTES - 512, 512), -EIO);
		if (modes[i] == DISK_COW) {
			/* Part of a block needs the rest of it; a whole one does not. */
			ck_assert_int_eq(wr(DISK_BYTES - 512, 512, 1), -EIO);
			ck_assert_int_eq(wr(DISK_BYTES - 4096, 512, 1), -EIO);
			ck_assert_int_eq(wr(DISK_BYTES / 2, 4096, 1), 0);
			expect(1024, 1032, 1);
		}
		if (modes[i] == DISK_SHARED) {
			ck_assert_int_eq(wr(DISK_BYTES - 512, 512, 1), -EIO);
			ck_assert_int_eq(disk_write_zeroes(disk, DISK_BYTES - 512, 512, false),
					 -EIO);
			ck_assert_int_eq(disk_discard(disk, DISK_BYTES - 4096, 4096), -EIO);
		}
		ck_assert_int_eq(fstat(file, &st), 0);
		ck_assert_int_eq(st.st_size, DISK_BYTES / 2);
		disk_close(disk);
		disk = NULL;
	}
}
END_TEST

/* A file system without room: the request fails, others go on. */
START_TEST(full_disk)
{
	char dir[] = "/tmp/foal-test-XXXXXX";
	int full;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", dir, "tmpfs", 0, "size=64k")) {
		printf("full_disk: skipped, needs the right to mount\n");
		rmdir(dir);
		return;
	}
	ck_assert_int_eq(chdir(dir), 0);
	full = open("disk", O_RDWR | O_CREAT, 0600);
	ck_assert_int_eq(ftruncate(full, DISK_BYTES), 0);
	ck_assert_int_eq(disk_open(full, DISK_SHARED, &disk), 0);
	ck_assert_int_eq(wr(0, 32 * 1024, 0x99), 0);
	ck_assert_int_eq(wr(64 * 1024, 60 * 1024, 0x99), -ENOSPC);
	ck_assert_int_eq(wr(0, 512, 0x98), 0);
	expect(0, 1, 0x98);
	/* A discard makes room. */
	ck_assert_int_eq(disk_discard(disk, 0, DISK_BYTES), 0);
	ck_assert_int_eq(wr(128 * 1024, 60 * 1024, 0x99), 0);
	close(full);
	ck_assert_int_eq(chdir("/"), 0);
	disk_close(disk);
	disk = NULL;
	ck_assert_int_eq(umount(dir), 0);
	rmdir(dir);
}
END_TEST

/* The same by a limit, seen by a guest: SIGXFSZ must not end the monitor. */
START_TEST(file_size_limit)
{
	struct rlimit limit = {64 * 1024, 64 * 1024};
	struct rig rig;

	rig_init(&rig);
	rig_blk(&rig, file, DISK_SHARED);
	rig_start(&rig, VERSION_1, 8);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_OUT, 1024, 512), VIRTIO_BLK_S_IOERR);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_OUT, 0, 512), VIRTIO_BLK_S_OK);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(rig_stats(&rig).errors, 1);
	rig_fini(&rig);
}
END_TEST

START_TEST(shrinking_is_an_error_of_the_request)
{
	struct rig rig;

	rig_init(&rig);
	rig_blk(&rig, file, DISK_RO);
	rig_start(&rig, VERSION_1, 8);
	ck_assert_int_eq(ftruncate(file, 4096), 0);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 100, 512), VIRTIO_BLK_S_IOERR);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_OUT, 0, 512), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(rig_stats(&rig).errors, 2);
	rig_fini(&rig);
}
END_TEST

static int try_open(const char *path, int flags, enum disk_mode mode)
{
	int fd = open(path, flags), rc = disk_open(fd, mode, &disk);

	if (rc == 0)
		disk_close(disk);
	disk = NULL;
	if (fd >= 0)
		close(fd);
	return rc;
}

START_TEST(files_that_are_no_disk)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	ck_assert_int_eq(try_open(path, O_RDONLY, DISK_RO), 0);
	ck_assert_int_eq(try_open(path, O_RDONLY, DISK_COW), 0);
	ck_assert_int_eq(try_open(path, O_RDONLY, DISK_SHARED), -EBADF);
	ck_assert_int_eq(try_open(path, O_WRONLY, DISK_SHARED), -EBADF);
	ck_assert_int_eq(try_open(path, O_PATH, DISK_RO), -EBADF);
	ck_assert_int_eq(try_open(path, O_RDWR | O_APPEND, DISK_SHARED), -EINVAL);
	ck_assert_int_eq(try_open("/dev/null", O_RDWR, DISK_RO), -EINVAL);
	ck_assert_int_eq(try_open("/tmp", O_RDONLY, DISK_RO), -EINVAL);
	ck_assert_int_eq(try_open("/nowhere", O_RDONLY, DISK_RO), -EBADF);
	ck_assert_int_eq(ftruncate(file, 513), 0);
	ck_assert_int_eq(try_open(path, O_RDONLY, DISK_RO), -EINVAL);
	ck_assert_int_eq(ftruncate(file, 0), 0);
	ck_assert_int_eq(try_open(path, O_RDONLY, DISK_RO), -EINVAL);
}
END_TEST

START_TEST(file_read_counts_each_block_once)
{
	use(DISK_COW);
	ck_assert_uint_eq(disk_file_read(disk), 0);
	rd(512, 512);
	rd(0, 4096);
	ck_assert_uint_eq(disk_file_read(disk), 4096);
	rd(4096 - 512, 1024);
	ck_assert_uint_eq(disk_file_read(disk), 8192);
	/* What was written is not read from the file. */
	wr(8192, 8192, 1);
	rd(8192, 8192);
	ck_assert_uint_eq(disk_file_read(disk), 8192);
}
END_TEST

Suite *disk_suite(void)
{
	Suite *suite = suite_create("disk");
	TCase *tc = tcase_create("disk");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, read_only);
	tcase_add_test(tc, copy_on_write);
	tcase_add_test(tc, copy_on_write_of_a_last_partial_block);
	tcase_add_test(tc, copy_on_write_discard);
	tcase_add_test(tc, shared);
	tcase_add_test(tc, failed_flush_stays_failed);
	tcase_add_loop_test(tc, write_through_without_flush, 0, 2);
	tcase_add_test(tc, file_shrinks);
	tcase_add_test(tc, full_disk);
	tcase_add_test(tc, file_size_limit);
	tcase_add_test(tc, shrinking_is_an_error_of_the_request);
	tcase_add_test(tc, files_that_are_no_disk);
	tcase_add_test(tc, file_read_counts_each_block_once);
	suite_add_tcase(suite, tc);
	return suite;
}
