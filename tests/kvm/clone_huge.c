/* A template's memory in 2 MiB pages: one fault of a clone for each, and 512 less to look up. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/host_huge.h"
#include "tests/kvm/snapshot_rig.h"
#include "tests/kvm/suites.h"
#include "tests/kvm/told.h"

#define LEAF	 (2UL << 20)
#define COLLAPSE 25 /* MADV_COLLAPSE, which older headers lack */

/* Room for @size bytes on a multiple of 2 MiB, as long as the test runs. */
static char *aligned_room(size_t size)
{
	char *base =
	    mmap(NULL, size + LEAF, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ck_assert(base != MAP_FAILED);
	return base + (-(uintptr_t)base & (LEAF - 1));
}

/* Can a file in memory be made huge here, where it should be? */
static bool host_collapses(void)
{
	int fd = memfd_create("collapse", MFD_CLOEXEC);
	char *at = aligned_room(LEAF);

	ck_assert(fd >= 0 && ftruncate(fd, LEAF) == 0);
	ck_assert_ptr_eq(mmap(at, LEAF, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0), at);
	memset(at, 1, LEAF);
	bool can = madvise(at, LEAF, COLLAPSE) == 0;
	munmap(at, LEAF);
	close(fd);
	return can;
}

/* Bytes of this process's [@at, + @size) that one entry of 2 MiB maps (smaps, proc_pid_smaps(5)).
 */
static uint64_t huge_bytes_at(const char *at, size_t size)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	uint64_t start, end, kib, sum = 0;
	bool in = false;
	char line[512];

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			in = start - (uintptr_t)at < size;
		else if (in && (sscanf(line, "ShmemPmdMapped: %lu", &kib) == 1 ||
				sscanf(line, "FilePmdMapped: %lu", &kib) == 1))
			sum += kib << 10;
	}
	fclose(f);
	return sum;
}

/* Of the file @path: each 2 MiB that begin with data are read through a mapping, and counted. */
static uint64_t huge_bytes_of(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	ck_assert(fd >= 0 && fstat(fd, &st) == 0);
	size_t size = (size_t)st.st_size & -LEAF;
	if (size == 0) {
		close(fd);
		return 0;
	}
	char *at = aligned_room(size);
	ck_assert_ptr_eq(mmap(at, size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0), at);
	for (size_t off = 0; off < size; off += LEAF)
		if (lseek(fd, (off_t)off, SEEK_DATA) == (off_t)off)
			(void)*(volatile char *)(at + off);
	uint64_t sum = huge_bytes_at(at, size);
	munmap(at, size);
	close(fd);
	return sum;
}

static uint64_t template_huge_bytes(pid_t pid)
{
	const struct dirent *entry;
	uint64_t sum = 0;
	char path[400];

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *list = opendir(path);
	ck_assert_ptr_nonnull(list);
	while ((entry = readdir(list))) {
		char name[256];

		snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)pid, entry->d_name);
		ssize_t len = readlink(path, name, sizeof(name) - 1);
		name[len > 0 ? len : 0] = 0;
		if (strstr(name, "foal-template"))
			sum += huge_bytes_of(path);
	}
	closedir(list);
	return sum;
}

/*
 * Dense memory is a template's in 2 MiB pages, once its guest has written all of it: the first
 * ones may be made while it has not, or while the host holds a page for a moment.
 */
START_TEST(dense)
{
	uint64_t refused = host_count("thp_collapse_alloc_failed"), huge = 0;

	if (!host_collapses())
		skip("the host makes no huge pages of files in memory");
	background("dense", ARGS(MEMORY_GUEST, "--huge", "always"));
	wait_for_memory("dense", MEMORY_GUEST_BYTES);
	for (int i = 0; i < 20 && huge < 2 * LEAF; i++) {
		json_t *reply = forks_of(ARGS("template", "dense", "--name", "dt", "--json"));

		huge = template_huge_bytes(fork_pid(reply, 0));
		json_decref(reply);
		if (huge < 2 * LEAF && host_count("thp_collapse_alloc_failed") != refused)
			skip("the host had no 2 MiB of memory to give");
		expect_command(ARGS("stop", "dt"), 0, "gone");
	}
	ck_assert_uint_ge(huge, 2 * LEAF);
}
END_TEST

/* Whoever wants none gets none. */
START_TEST(never)
{
	background("sparse", ARGS(MEMORY_GUEST, "--huge", "never"));
	wait_for_memory("sparse", MEMORY_GUEST_BYTES);
	json_t *reply = forks_of(ARGS("template", "sparse", "--name", "st", "--json"));
	ck_assert_uint_eq(template_huge_bytes(fork_pid(reply, 0)), 0);
	json_decref(reply);
}
END_TEST

Suite *clone_huge_suite(void)
{
	Suite *suite = suite_create("clone_huge");
	TCase *tc = tcase_create("clone_huge");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_test(tc, dense);
	tcase_add_test(tc, never);
	suite_add_tcase(suite, tc);
	return suite;
}
