/* 20: memory through /proc/self/mem, whatever its mappings allow. */
#include "oracle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define RW  (PROT_READ | PROT_WRITE)
#define LEN (PAGES * PAGE)

static int mem = -1;

static int open_mem(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	must(fd >= 0, path);
	return fd;
}

static off_t at(const volatile char *p)
{
	return (off_t)(uintptr_t)p;
}

/* A byte of each page: how many could be; their sum, where they are read. */
static long through(bool write, const volatile char *p, size_t pages, unsigned *sum)
{
	long done = 0;
	char value = 20;

	for (size_t i = 0; i < pages; i++) {
		ssize_t n = write ? pwrite(mem, &value, 1, at(p + i * PAGE))
				  : pread(mem, &value, 1, at(p + i * PAGE));

		done += n == 1;
		*sum += n == 1 && !write ? (unsigned char)value : 0;
	}
	return done;
}

/* Bytes that were moved, or the error. */
static void moved(const char *what, ssize_t n)
{
	say(what, n < 0 ? -errno : n);
}

static void protect(char *p, int protection)
{
	must(!mprotect(p, LEN, protection), "mprotect");
}

static void own_memory(void)
{
	char *p = own_region();
	unsigned sum = 0;
	long done = 0;

	COUNT("20 read, untouched", done = through(false, p, PAGES, &sum));
	say("20 pages", done);
	COUNT("20 written", done = through(true, p, PAGES, &sum));
	say("20 pages", done);
	COUNT("20 touched behind", sum = read_pages(p, PAGES));
	say("20 sum", sum);
	COUNT("20 written behind", write_pages(p, PAGES, 3));
	protect(p, PROT_NONE);
	sum = 0;
	COUNT("20 read, nothing allowed", done = through(false, p, PAGES, &sum));
	say("20 sum", sum);
	COUNT("20 written, nothing allowed", done = through(true, p, PAGES, &sum));
	say("20 pages", done);
	attempt("20 nothing allowed", READ, p, p);
	protect(p, PROT_READ);
	COUNT("20 touched behind", sum = read_pages(p, PAGES));
	say("20 sum", sum);
	attempt("20 read-only behind", WRITE, p, p);
	protect(p, RW);
	COUNT("20 written behind", write_pages(p, PAGES, 3));
}

static void protected_before(int protection)
{
	char *p = own_region();
	unsigned sum = 0;
	long done = 0;

	protect(p, protection);
	COUNT("20 protected: read", done = through(false, p, PAGES, &sum));
	say("20 pages", done);
	COUNT("20 protected: written behind", done = through(true, p, PAGES, &sum));
	say("20 pages", done);
	must(!madvise(p, LEN, MADV_DONTNEED), "MADV_DONTNEED");
	COUNT("20 protected: written first", done = through(true, p, PAGES, &sum));
	COUNT("20 protected: again", done += through(true, p, PAGES, &sum));
	say("20 pages", done);
	attempt("20 protected", WRITE, p, p);
	protect(p, RW);
	COUNT("20 protected no more: written", write_pages(p, PAGES, 4));
}

static void private_file(void)
{
	char *p = file_region(PROT_READ, MAP_PRIVATE);
	unsigned sum = 0;
	long done = 0;

	COUNT("20 private file: read", done = through(false, p, PAGES, &sum));
	say("20 sum", sum);
	COUNT("20 private file: written", done = through(true, p, PAGES, &sum));
	say("20 pages", done);
	COUNT("20 private file: read behind", sum = read_pages(p, PAGES));
	say("20 sum", sum);
	attempt("20 private file", WRITE, p, p);
	p = file_region(PROT_NONE, MAP_PRIVATE);
	COUNT("20 private file: written first", done = through(true, p, PAGES, &sum));
	say("20 pages", done);
}

static void shared_file(void)
{
	char *p = file_region(RW, MAP_SHARED), byte = 20;
	unsigned sum = 0;
	long done = 0;

	COUNT("20 shared file: read", done = through(false, p, PAGES, &sum));
	say("20 sum", sum);
	protect(p, PROT_READ);
	moved("20 shared file, read-only: written", pwrite(mem, &byte, 1, at(p)));
	say("20 shared file: byte", p[0]);
	protect(p, RW);
	moved("20 shared file: written", pwrite(mem, &byte, 1, at(p)));
	say("20 shared file: byte", p[0]);
	p = mmap(place(LEN), LEN, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	must(p != MAP_FAILED, "shared memory");
	COUNT("20 shared: written", done = through(true, p, PAGES, &sum));
	say("20 pages", done);
	say("20 shared: sum", read_pages(p, PAGES));
	p = file_region(RW, MAP_PRIVATE);
	moved("20 past the end of file", pwrite(mem, &byte, 1, at(p + LEN)));
}

/* The place, the end, the caller's own memory. */
static void edges(void)
{
	char *p = own_region(), *buf = own_region();

	must(!munmap(p + 8 * PAGE, LEN - 8 * PAGE), "munmap");
	must(!munmap(buf + 2 * PAGE, LEN - 2 * PAGE), "munmap");
	write_pages(p, 8, 5);
	write_pages(buf, 2, 6);
	moved("20 up to the end", pread(mem, buf, 2 * PAGE, at(p + 7 * PAGE + 100)));
	moved("20 behind the end", pread(mem, buf, 1, at(p + 8 * PAGE)));
	moved("20 at 0", pread(mem, buf, 1, 0));
	moved("20 into nothing", pread(mem, buf + PAGE, 2 * PAGE, at(p)));
	moved("20 out of nothing", pwrite(mem, buf + 2 * PAGE, 1, at(p)));
	moved("20 nothing", pread(mem, buf, 0, 0));
	moved("20 the kernel's",
	      (lseek(mem, (off_t)0xffff888000000000UL, SEEK_SET), read(mem, buf, 1)));
	moved("20 negative", pread(mem, buf, 1, -4096));
	moved("20 from the end", lseek(mem, -1, SEEK_END));
	must(lseek(mem, at(p + PAGE), SEEK_SET) == at(p + PAGE), "lseek");
	moved("20 read on", read(mem, buf, 4));
	say("20 at", lseek(mem, 0, SEEK_CUR) - at(p));
	moved("20 written on", write(mem, "abcd", 4));
	say("20 at", lseek(mem, -8, SEEK_CUR) - at(p));
	say("20 what was written", memcmp(p + PAGE + 4, "abcd", 4));
}

/* In the child, of the parent's pages, which it has in common with it. */
static char *common;

static void writes_common(void)
{
	unsigned sum = 0;
	long done = 0;

	close(mem);
	mem = open_mem("/proc/self/mem");
	COUNT("20 child: read", done = through(false, common, PAGES, &sum));
	say("20 child: sum", sum);
	COUNT("20 child: written", done = through(true, common, PAGES, &sum));
	say("20 child: pages", done);
	say("20 child: sum", read_pages(common, PAGES));
}

static void forked(void)
{
	common = own_region();
	write_pages(common, PAGES, 7);
	in_child("20 child", writes_common);
	say("20 parent: sum", read_pages(common, PAGES));
	protect(common, PROT_READ);
	in_child("20 child, read-only", writes_common);
	say("20 parent: sum", read_pages(common, PAGES));
}

/* The parent looks into a child that waits, and writes there. */
static void of_another(void)
{
	int to[2] = {-1, -1}, from[2] = {-1, -1}, status = -1;
	char path[64], byte = 8;
	unsigned sum = 0;
	long done = 0;

	must(!pipe(to) && !pipe(from), "pipes");
	common = own_region();
	write_pages(common, PAGES, 9);
	pid_t pid = fork();
	if (!pid) {
		write_pages(common, PAGES / 2, 10);
		must(write(from[1], &byte, 1) == 1 && read(to[0], &byte, 1) == 1, "a pipe");
		_exit((int)(read_pages(common, PAGES) & 0x7f));
	}
	must(pid > 0 && read(from[0], &byte, 1) == 1, "a child");
	close(mem);
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	mem = open_mem(path);
	done = through(false, common, PAGES, &sum);
	say("20 another's: pages", done);
	say("20 another's: sum", sum);
	say("20 another's: written", through(true, common, 2, &sum));
	say("20 own sum", read_pages(common, PAGES));
	must(write(to[1], &byte, 1) == 1 && waitpid(pid, &status, 0) == pid, "a child's end");
	say("20 another's: status", status);
	moved("20 another's, ended", pread(mem, &byte, 1, at(common)));
	for (int i = 0; i < 2; i++) {
		close(to[i]);
		close(from[i]);
	}
}

void mem_programs(void)
{
	mem = open_mem("/proc/self/mem");
	own_memory();
	protected_before(PROT_READ);
	protected_before(PROT_NONE);
	private_file();
	shared_file();
	edges();
	forked();
	of_another();
	close(mem);
}
