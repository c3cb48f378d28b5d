/* Whole files as mappings, and the clock. */
#include "guest/user/lib/user.h"

static size_t page_round_up(size_t len)
{
	return (len + PAGE_SIZE - 1) & ~(size_t)(PAGE_SIZE - 1);
}

int map_file(const char *path, bool writable, int map_flags, struct mapping *map)
{
	struct stat st;
	/* A private mapping never reaches the file: reading rights are enough for it. */
	int fd = sys_open(path, writable && (map_flags & MAP_SHARED) ? O_RDWR : O_RDONLY);

	if (fd < 0)
		return fd;
	int err = sys_fstat(fd, &st);
	if (err)
		goto out;
	long addr = sys_mmap(NULL, page_round_up((size_t)st.st_size),
			     PROT_READ | (writable ? PROT_WRITE : 0), map_flags, fd, 0);
	if (addr < 0) {
		err = (int)addr;
		goto out;
	}
	*map = (struct mapping){.data = (uint8_t *)addr, .len = (size_t)st.st_size};
out:
	sys_close(fd);
	return err;
}

void unmap(struct mapping *map)
{
	sys_munmap(map->data, page_round_up(map->len));
	*map = (struct mapping){0};
}

uint64_t now_ns(void)
{
	struct timespec ts = {0};

	sys_clock_gettime(1 /* CLOCK_MONOTONIC */, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

void sleep_ms(unsigned ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	sys_nanosleep(&ts);
}
