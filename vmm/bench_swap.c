/*
 * The host's own way to keep memory small: a memory cgroup whose pages go to swap
 * on a disk. Swap is what the host has, or a file that lasts as long as the bench.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/swap.h>
#include <unistd.h>

#include "ept/ept.h"
#include "vmm/bench.h"

#define SWAP_SIZE (192UL << 20)

/* Where swap headers have what (linux/include/linux/swap.h, union swap_header). */
#define SWAP_INFO 1024
static const char swap_magic[10] = "SWAPSPACE2"; /* at the end of the first page */

/* Compressed memory is no disk. */
static bool host_has_swap(void)
{
	FILE *f = fopen("/proc/swaps", "re");
	char line[1024];
	bool has = false;

	while (f && fgets(line, sizeof(line), f))
		has = has || (line[0] == '/' && strncmp(line, "/dev/zram", 9) != 0);
	if (f)
		fclose(f);
	return has;
}

static int write_swap(int fd)
{
	char page[EPT_PAGE_SIZE] = {0};
	uint32_t info[2] = {1, SWAP_SIZE / EPT_PAGE_SIZE - 1}; /* version, last page */

	memcpy(page + SWAP_INFO, info, sizeof(info));
	memcpy(page + sizeof(page) - sizeof(swap_magic), swap_magic, sizeof(swap_magic));
	for (size_t at = 0; at < SWAP_SIZE; at += sizeof(page)) {
		if (write(fd, page, sizeof(page)) != sizeof(page))
			return errno ? -errno : -ENOSPC;
		if (at == 0)
			memset(page, 0, sizeof(page));
	}
	return fsync(fd) ? -errno : 0;
}

static int make_swap(struct bench_swap *swap, const char *dir)
{
	int fd, r;

	snprintf(swap->file, sizeof(swap->file), "%s/foal-bench-swap-XXXXXX", dir);
	fd = mkstemp(swap->file);
	if (fd < 0) {
		swap->file[0] = 0;
		return -errno;
	}
	r = write_swap(fd);
	close(fd);
	if (r == 0 && swapon(swap->file, 0))
		r = -errno;
	if (r) {
		unlink(swap->file);
		swap->file[0] = 0;
	}
	return r;
}

void bench_swap_begin(struct bench_swap *swap, const char *dir, bool make, uint64_t limit)
{
	int r = 0;

	*swap = (struct bench_swap){0};
	if (!host_has_swap() && !make)
		snprintf(swap->why, sizeof(swap->why),
			 "this host has no swap on a disk; with --host-swap, root makes some");
	else if (!bench_group_make(swap->group, limit))
		snprintf(swap->why, sizeof(swap->why), "no memory cgroup can be made here");
	else if (!host_has_swap())
		r = make_swap(swap, dir);
	if (r)
		snprintf(swap->why, sizeof(swap->why), "a swap file in %.200s: %s", dir,
			 strerror(-r));
}

void bench_swap_end(struct bench_swap *swap)
{
	if (swap->file[0]) {
		if (swapoff(swap->file))
			notice("bench: swapoff %s: %s; do it by hand", swap->file, strerror(errno));
		unlink(swap->file);
	}
	bench_group_remove(swap->group);
	swap->file[0] = 0;
}
