/* What the host has in memory, and what it read: /proc and the bench's own file. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ept/ept.h"
#include "vmm/bench.h"
#include "vmm/bench_guest/job.h"
#include "vmm/vm.h"

#define CHUNK (1UL << 20)

/* --- the file ------------------------------------------------------------------------ */

static size_t size_of(int file)
{
	struct stat st;

	return fstat(file, &st) ? 0 : (size_t)st.st_size;
}

static int fill(int fd, size_t size)
{
	char *chunk = malloc(CHUNK);
	int error = chunk ? 0 : ENOMEM;

	for (size_t at = 0; at < size && !error; at += CHUNK) {
		memset(chunk, 0x5a, CHUNK);
		for (size_t i = 0; i < CHUNK; i += EPT_PAGE_SIZE) {
			uint64_t word = BENCH_PATTERN((at + i) / EPT_PAGE_SIZE);
			memcpy(chunk + i, &word, sizeof(word));
		}
		for (size_t done = 0; done < CHUNK && !error;) {
			ssize_t n = pwrite(fd, chunk + done, CHUNK - done, (off_t)(at + done));
			if (n > 0)
				done += (size_t)n;
			else if (errno != EINTR)
				error = n ? errno : ENOSPC;
		}
	}
	free(chunk);
	return error ? -error : fsync(fd) ? -errno : 0;
}

int bench_file_empty(const char *dir, struct foal_error *err)
{
	char path[4096];
	int fd;

	if ((size_t)snprintf(path, sizeof(path), "%s/foal-bench-XXXXXX", dir) >= sizeof(path))
		fd = -1, errno = ENAMETOOLONG;
	else
		fd = mkstemp(path);
	if (fd < 0)
		return error_set(err, FOAL_EXIT_DISK, -errno,
				 "bench: a file in %s: %s; --dir names another place", dir,
				 strerror(errno)),
		       -1;
	unlink(path);
	return fd;
}

int bench_file_create(const char *dir, unsigned mib, struct foal_error *err)
{
	int fd = bench_file_empty(dir, err), r = fd < 0 ? 0 : fill(fd, (size_t)mib << 20);

	if (r) {
		error_set(err, FOAL_EXIT_DISK, r,
			  "bench: a file of %u MiB in %s: %s; --dir names another place", mib, dir,
			  strerror(-r));
		close(fd);
		return -1;
	}
	return fd;
}

/* Bytes of it in the page cache; 0 without a file. */
static uint64_t cached(int file)
{
	size_t size = size_of(file), pages = size / EPT_PAGE_SIZE;
	unsigned char *in_core = calloc(pages + 1, 1);
	void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0);
	uint64_t count = 0;

	if (in_core && map != MAP_FAILED && mincore(map, size, in_core) == 0)
		for (size_t i = 0; i < pages; i++)
			count += in_core[i] & 1;
	if (map != MAP_FAILED)
		munmap(map, size);
	free(in_core);
	return count * EPT_PAGE_SIZE;
}

int bench_file_warm(int file)
{
	size_t size = size_of(file);
	char *chunk;

	if (size && cached(file) == size)
		return 0;
	chunk = malloc(CHUNK);
	if (!chunk)
		return -ENOMEM;
	for (size_t at = 0; at < size; at += CHUNK)
		if (pread(file, chunk, CHUNK, (off_t)at) < 0)
			break;
	free(chunk);
	return size && cached(file) == size ? 0 : -EBUSY;
}

int bench_file_drop(int file)
{
	if (fsync(file) || posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED))
		return -EBUSY;
	return cached(file) ? -EBUSY : 0;
}

/* --- this process -------------------------------------------------------------------- */

/* The number behind "@key" at the start of a line of @path; 0 without. */
static uint64_t number_in(const char *path, const char *key)
{
	FILE *f = fopen(path, "re");
	unsigned long long value = 0;
	char line[512];

	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, key, strlen(key)) == 0)
			value = strtoull(line + strlen(key), NULL, 10);
	if (f)
		fclose(f);
	return value;
}

void bench_usage(int file, struct bench_usage *out)
{
	out->own = number_in("/proc/self/smaps_rollup", "Anonymous:") << 10;
	out->read = number_in("/proc/self/io", "read_bytes:");
	out->cache = cached(file);
}

double bench_cpu_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

double bench_tsc_khz(void)
{
	uint64_t cycles = __builtin_ia32_rdtsc(), start = now_ns(), now;
	const uint64_t while_ns = 5000000;

	while ((now = now_ns()) - start < while_ns)
		;
	return (double)(__builtin_ia32_rdtsc() - cycles) * 1e6 / (double)(now - start);
}

/* Documentation/admin-guide/mm/pagemap.rst */
#define PM_PRESENT (1UL << 63)

uint64_t bench_mapped(const void *hva, uint64_t size)
{
	uint64_t entry[512], count = 0, at = (uintptr_t)hva / EPT_PAGE_SIZE;
	uint64_t end = at + size / EPT_PAGE_SIZE;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	while (fd >= 0 && at < end) {
		size_t want = end - at < 512 ? end - at : 512;
		ssize_t n = pread(fd, entry, want * sizeof(*entry), (off_t)(at * sizeof(*entry)));
		if (n < (ssize_t)sizeof(*entry))
			break;
		n /= (ssize_t)sizeof(*entry);
		for (ssize_t i = 0; i < n; i++)
			count += !!(entry[i] & PM_PRESENT);
		at += (uint64_t)n;
	}
	if (fd >= 0)
		close(fd);
	return count;
}

/* --- processes ----------------------------------------------------------------------- */

#define MAX_MEMFDS 64

struct tally {
	ino_t image;
	uint64_t image_pss, memfd_pss, other_pss; /* KiB */
	ino_t memfd[MAX_MEMFDS];
	unsigned memfds;
	uint64_t memfd_bytes; /* of each counted once */
};

static bool add_mappings(pid_t pid, struct tally *t)
{
	char path[64], line[4096];
	uint64_t *sum = &t->other_pss;
	bool any = false;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		unsigned long long inode, kib;
		if (sscanf(line, "%*x-%*x %*4c %*x %*x:%*x %llu", &inode) == 1)
			sum = inode && inode == t->image ? &t->image_pss
			      : strstr(line, " /memfd:") ? &t->memfd_pss
							 : &t->other_pss;
		else if (sscanf(line, "Pss: %llu kB", &kib) == 1)
			*sum += kib, any = true;
	}
	if (f)
		fclose(f);
	return any;
}

static void add_memfd(const struct stat *st, struct tally *t)
{
	for (unsigned i = 0; i < t->memfds; i++)
		if (t->memfd[i] == st->st_ino)
			return;
	if (t->memfds == MAX_MEMFDS)
		return;
	t->memfd[t->memfds++] = st->st_ino;
	t->memfd_bytes += (uint64_t)st->st_blocks * 512;
}

static void add_memfds(pid_t pid, struct tally *t)
{
	char path[64], link[4096], target[64];
	struct dirent *entry;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *fds = opendir(path);
	while (fds && (entry = readdir(fds))) {
		struct stat st;
		ssize_t n;
		snprintf(link, sizeof(link), "%s/%s", path, entry->d_name);
		n = readlink(link, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = 0;
		if (strncmp(target, "/memfd:", 7) == 0 && stat(link, &st) == 0)
			add_memfd(&st, t);
	}
	if (fds)
		closedir(fds);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

uint64_t bench_host_memory(const pid_t *pids, size_t count, int file)
{
	struct tally t = {0};
	struct stat st;

	if (fstat(file, &st) == 0)
		t.image = st.st_ino;
	for (size_t i = 0; i < count; i++) {
		if (!add_mappings(pids[i], &t))
			return 0;
		add_memfds(pids[i], &t);
	}
	return (t.other_pss << 10) + larger(t.image_pss << 10, cached(file)) +
	       larger(t.memfd_pss << 10, t.memfd_bytes);
}

uint64_t bench_host_available(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib << 10;
}
