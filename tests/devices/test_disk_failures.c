/* Disks whose files fail: shrinking, full, not on the disk after a flush, of the wrong kind. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/devices/disk_rig.h"
#include "tests/devices/rig.h"
#include "tests/scratch.h"

/* What devices/ calls: counted, and failing where a test wants it. */
static atomic_uint fdatasyncs;
static atomic_int fdatasync_errno;

int fdatasync(int fd)
{
	fdatasyncs++;
	errno = fdatasync_errno;
	return errno ? -1 : (int)syscall(SYS_fdatasync, fd);
}

/* The host tells of lost data once; a guest must not be told later that all is well. */
START_TEST(failed_flush_stays_failed)
{
	disk_use(DISK_SHARED);
	ck_assert_int_eq(disk_put(0, 4096, 1), 0);
	fdatasync_errno = EIO;
	ck_assert_int_eq(disk_flush(disk), -EIO);
	fdatasync_errno = 0;
	ck_assert_int_eq(disk_flush(disk), -EIO);
	ck_assert_int_eq(disk_put(0, 4096, 2), 0);
	ck_assert_int_eq(disk_flush(disk), -EIO);
}
END_TEST

/* Without the flush command a write is durable once answered; with it only when flushed. */
START_TEST(write_through_without_flush)
{
	struct rig rig;
	unsigned each = _i ? 0 : 1;

	rig_init(&rig);
	rig_blk(&rig, disk_fd, DISK_SHARED);
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
		ck_assert_int_eq(ftruncate(disk_fd, DISK_BYTES), 0);
		disk_use(modes[i]);
		ck_assert_int_eq(ftruncate(disk_fd, DISK_BYTES / 2), 0);
		ck_assert_int_eq(disk_get(DISK_BYTES / 2 - 512, 512), 0);
		ck_assert_int_eq(disk_get(DISK_BYTES / 2 - 512, 1024), -EIO);
		ck_assert_int_eq(disk_get(DISK_BYTES - 512, 512), -EIO);
		if (modes[i] == DISK_COW) {
			/* Part of a block needs the rest of it; a whole one does not. */
			ck_assert_int_eq(disk_put(DISK_BYTES - 512, 512, 1), -EIO);
			ck_assert_int_eq(disk_put(DISK_BYTES - 4096, 512, 1), -EIO);
			ck_assert_int_eq(disk_put(DISK_BYTES / 2, 4096, 1), 0);
			disk_expect(1024, 1032, 1);
		}
		if (modes[i] == DISK_SHARED) {
			ck_assert_int_eq(disk_put(DISK_BYTES - 512, 512, 1), -EIO);
			ck_assert_int_eq(disk_write_zeroes(disk, DISK_BYTES - 512, 512, false),
					 -EIO);
			ck_assert_int_eq(disk_discard(disk, DISK_BYTES - 4096, 4096), -EIO);
		}
		ck_assert_int_eq(fstat(disk_fd, &st), 0);
		ck_assert_int_eq(st.st_size, DISK_BYTES / 2);
		disk_close(disk);
		disk = NULL;
	}
}
END_TEST

/* A file system without room: the request fails, others go on. */
START_TEST(full_disk)
{
	const char *dir = scratch("full");
	int full;

	ck_assert_int_eq(mkdir(dir, 0755), 0);
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", dir, "tmpfs", 0, "size=64k")) {
		printf("full_disk: skipped, needs the right to mount\n");
		return;
	}
	ck_assert_int_eq(chdir(dir), 0);
	full = open("disk", O_RDWR | O_CREAT, 0600);
	ck_assert_int_eq(ftruncate(full, DISK_BYTES), 0);
	ck_assert_int_eq(disk_open(full, DISK_SHARED, &disk), 0);
	ck_assert_int_eq(disk_put(0, 32 * 1024, 0x99), 0);
	ck_assert_int_eq(disk_put(64 * 1024, 60 * 1024, 0x99), -ENOSPC);
	ck_assert_int_eq(disk_put(0, 512, 0x98), 0);
	disk_expect(0, 1, 0x98);
	/* A discard makes room. */
	ck_assert_int_eq(disk_discard(disk, 0, DISK_BYTES), 0);
	ck_assert_int_eq(disk_put(128 * 1024, 60 * 1024, 0x99), 0);
	close(full);
	ck_assert_int_eq(chdir("/"), 0);
	disk_close(disk);
	disk = NULL;
	ck_assert_int_eq(umount(dir), 0);
}
END_TEST

/* The same by a limit, seen by a guest: SIGXFSZ must not end the monitor. */
START_TEST(file_size_limit)
{
	struct rlimit limit = {64 * 1024, 64 * 1024};
	struct rig rig;

	rig_init(&rig);
	rig_blk(&rig, disk_fd, DISK_SHARED);
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
	rig_blk(&rig, disk_fd, DISK_RO);
	rig_start(&rig, VERSION_1, 8);
	ck_assert_int_eq(ftruncate(disk_fd, 4096), 0);
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

	snprintf(path, sizeof(path), "/proc/self/fd/%d", disk_fd);
	ck_assert_int_eq(try_open(path, O_RDONLY, DISK_RO), 0);
	ck_assert_int_eq(try_open(path, O_RDONLY, DISK_COW), 0);
	ck_assert_int_eq(try_open(path, O_RDONLY, DISK_SHARED), -EBADF);
	ck_assert_int_eq(try_open(path, O_WRONLY, DISK_SHARED), -EBADF);
	ck_assert_int_eq(try_open(path, O_PATH, DISK_RO), -EBADF);
	ck_assert_int_eq(try_open(path, O_RDWR | O_APPEND, DISK_SHARED), -EINVAL);
	ck_assert_int_eq(try_open("/dev/null", O_RDWR, DISK_RO), -EINVAL);
	ck_assert_int_eq(try_open("/tmp", O_RDONLY, DISK_RO), -EINVAL);
	ck_assert_int_eq(try_open("/nowhere", O_RDONLY, DISK_RO), -EBADF);
	ck_assert_int_eq(ftruncate(disk_fd, 513), 0);
	ck_assert_int_eq(try_open(path, O_RDONLY, DISK_RO), -EINVAL);
	ck_assert_int_eq(ftruncate(disk_fd, 0), 0);
	ck_assert_int_eq(try_open(path, O_RDONLY, DISK_RO), -EINVAL);
}
END_TEST

Suite *disk_failures_suite(void)
{
	Suite *suite = suite_create("disk failures");
	TCase *tc = tcase_create("disk failures");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, disk_set_up, disk_tear_down);
	tcase_add_test(tc, failed_flush_stays_failed);
	tcase_add_loop_test(tc, write_through_without_flush, 0, 2);
	tcase_add_test(tc, file_shrinks);
	tcase_add_test(tc, full_disk);
	tcase_add_test(tc, file_size_limit);
	tcase_add_test(tc, shrinking_is_an_error_of_the_request);
	tcase_add_test(tc, files_that_are_no_disk);
	suite_add_tcase(suite, tc);
	return suite;
}
