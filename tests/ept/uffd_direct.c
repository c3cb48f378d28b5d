/* What is read of a file costs the host no second copy, where the file system can do that. */
#include "tests/ept/uffd_suites.h"
#include "tests/ept/util.h"
#include "tests/scratch.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define SIZE (4UL << 20)

/* Pages of @fd in the host's page cache: by a mapping of it, not by what ept/ asks. */
static uint64_t in_host_cache(int fd)
{
	unsigned char there[SIZE / PAGE];
	uint64_t pages = 0;
	void *map = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);

	ck_assert_ptr_ne(map, MAP_FAILED);
	ck_assert_int_eq(mincore(map, SIZE, there), 0);
	for (uint64_t i = 0; i < SIZE / PAGE; i++)
		pages += there[i] & 1;
	munmap(map, SIZE);
	return pages;
}

static bool drop_host_cache(int fd)
{
	fsync(fd);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	return in_host_cache(fd) == 0;
}

/* @fd again, past the host's page cache; -1: its file system does not open it so. */
static int open_past_cache(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
}

/* Does a read of this program's own go past the cache of @fd, of which nothing is in there? */
static bool can_read_past_cache(int fd)
{
	int direct = open_past_cache(fd);
	void *page = aligned_alloc(PAGE, PAGE);
	bool can = direct >= 0 && syscall(SYS_pread64, direct, page, PAGE, 0) == (long)PAGE &&
		   in_host_cache(fd) == 0;

	free(page);
	if (direct >= 0)
		close(direct);
	return can;
}

/* By windows, which are read ahead, or page by page in the fault. */
START_TEST(past_the_host_cache)
{
	struct ept_config config = one_thread;
	int fd = temp_file(SIZE);
	struct vm vm;

	if (!drop_host_cache(fd) || !can_read_past_cache(fd)) {
		printf("SKIP O_DIRECT: the file system of the tests has none\n");
		close(fd);
		return;
	}
	config.fault_around = _i;
	vm = vm_create(&config, fd, 0, SIZE, EPT_FILE_COW);
	if (ept_object_host_cached(vm.area->obj, 0, SIZE) < 0)
		printf("SKIP O_DIRECT: no cachestat here (Linux 6.5)\n");
	ck_assert(has_pattern(vm.hva, 0, SIZE));
	ept_space_stop(vm.space);
	ck_assert_uint_eq(file_bytes_read(&vm), SIZE);
	if (ept_object_host_cached(vm.area->obj, 0, SIZE) >= 0)
		ck_assert_uint_eq(in_host_cache(fd), 0);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

static AS_VCPU bool is_zero(const volatile char *page)
{
	for (uint64_t i = 0; i < PAGE; i++)
		if (page[i])
			return false;
	return true;
}

/* ramfs, on which no file opens with O_DIRECT. */
START_TEST(where_that_is_refused)
{
	char bytes[PAGE];
	const char *dir = scratch("ram");
	struct vm vm;
	int fd;

	if (geteuid() || unshare(CLONE_NEWNS) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mkdir(dir, 0700) ||
	    mount("none", dir, "ramfs", 0, NULL)) {
		printf("SKIP O_DIRECT: no ramfs can be mounted here\n");
		return;
	}
	fd = open(scratch("ram/file"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	for (uint64_t i = 0; i < PAGE; i++)
		bytes[i] = (char)pattern_byte(i);
	ck_assert_int_eq(syscall(SYS_pwrite64, fd, bytes, PAGE, 0), PAGE);
	ck_assert_int_eq(ftruncate(fd, (off_t)SIZE), 0); /* the rest is in no cache */
	ck_assert_int_lt(open_past_cache(fd), 0);
	vm = vm_create(&one_thread, fd, 0, SIZE, EPT_FILE_COW);
	ck_assert(has_pattern(vm.hva, 0, PAGE));
	for (uint64_t page = 1; page < SIZE / PAGE; page++)
		ck_assert(is_zero(at(&vm, page)));
	vm_destroy(&vm);
	close(fd);
	umount2(dir, MNT_DETACH);
}
END_TEST

Suite *suite_uffd_direct(void)
{
	Suite *suite = suite_create("ept on userfaultfd: past the host's cache");
	TCase *tc = tcase_create("direct");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, past_the_host_cache, 0, 2);
	tcase_add_test(tc, where_that_is_refused);
	suite_add_tcase(suite, tc);
	return suite;
}
