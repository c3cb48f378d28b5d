/* Files, in the page cache and on a disk: 6 to 8, 14 to 17. */
#include "oracle.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define RW  (PROT_READ | PROT_WRITE)
#define LEN (PAGES * PAGE)

static char *map_at(char *at, size_t pages, int protection, int flags, int fd)
{
	char *p = mmap(at, pages * PAGE, protection, flags | MAP_FIXED, fd, 0);

	must(p == at, "a file's mapping");
	return p;
}

static void windows(void)
{
	char *p = file_region(PROT_READ, MAP_PRIVATE);
	int fd = scratch_file();

	COUNT("6 read", read_pages(p, PAGES));
	p = map_at(place(2 * LEN) + 5 * PAGE, PAGES, PROT_READ, MAP_PRIVATE, fd);
	COUNT("6 read from within a window", read_pages(p, PAGES));
	p = map_at(place(LEN) + 5 * PAGE, 8, PROT_READ, MAP_PRIVATE, fd);
	COUNT("6 read within a window", read_pages(p, 8));
	p = map_at(place(LEN) + 12 * PAGE, 8, PROT_READ, MAP_PRIVATE, fd);
	COUNT("6 read across a window's end", read_pages(p, 8));
	p = map_at(place(LEN), PAGES, PROT_READ, MAP_PRIVATE, fd);
	must(!madvise(p, LEN, MADV_RANDOM), "MADV_RANDOM");
	COUNT("6 read at random", read_pages(p, PAGES));
	close(fd);
}

static void private(void)
{
	char *p = file_region(RW, MAP_PRIVATE);
	unsigned sum = 0;

	COUNT("7 written first", write_pages(p, PAGES, 7));
	p = file_region(RW, MAP_PRIVATE);
	COUNT("7 read", sum = read_pages(p, PAGES));
	say("7 sum", sum);
	COUNT("7 written behind", write_pages(p, PAGES, 7));
	must(!madvise(p, LEN, MADV_DONTNEED), "MADV_DONTNEED");
	COUNT("7 read behind DONTNEED", sum = read_pages(p, PAGES));
	say("7 sum", sum);
}

static void past_the_end(void)
{
	int fd = scratch_file();
	char *p = map_at(place(2 * LEN), PAGES + 4, RW, MAP_SHARED, fd);
	char *own = map_at(place(2 * LEN), PAGES + 4, RW, MAP_PRIVATE, fd);
	unsigned tail = 0;

	for (size_t i = PAGE / 2; i < PAGE; i++)
		tail |= (unsigned char)p[(PAGES + 1) * PAGE + i];
	say("14 the last page's tail", tail);
	attempt("14 past the end", READ, p + (PAGES + 2) * PAGE, p);
	attempt("14 past the end", WRITE, p + (PAGES + 2) * PAGE, p);
	attempt("14 past the end, own", READ, own + (PAGES + 2) * PAGE, own);
	attempt("14 past the end, own", WRITE, own + (PAGES + 2) * PAGE, own);
	attempt("14 across the end", READ, p + (PAGES + 2) * PAGE - 4, p);
	errno = 0;
	say("14 written from past the end", write(STDOUT_FILENO, p + (PAGES + 2) * PAGE, 1));
	say("14 error", errno);
	close(fd);
}

static void truncated(void)
{
	int fd = scratch_file();
	char *p = map_at(place(LEN), PAGES, RW, MAP_SHARED, fd);
	char *own = map_at(place(LEN), PAGES, RW, MAP_PRIVATE, fd);

	write_pages(p, PAGES, 15);
	write_pages(own, PAGES, 16);
	must(!ftruncate(fd, 8 * PAGE + 100), "ftruncate");
	say("15 before the end", p[7 * PAGE] + own[7 * PAGE]);
	say("15 in the last page", p[8 * PAGE + 99] + own[8 * PAGE]);
	attempt("15 behind a cut", READ, p + 9 * PAGE, p);
	attempt("15 behind a cut", WRITE, p + 9 * PAGE, p);
	attempt("15 behind a cut, own", READ, own + 9 * PAGE, own);
	attempt("15 behind a cut, own", WRITE, own + 9 * PAGE, own);
	must(!ftruncate(fd, (off_t)LEN), "ftruncate");
	say("15 zero where it was", p[8 * PAGE + 200]);
	say("15 sum", read_pages(p + 9 * PAGE, PAGES - 9));
	close(fd);
}

static void copied(void)
{
	int fd = scratch_file();
	char *p = own_region();
	ssize_t n = 0;

	COUNT("17 read() into untouched", n = pread(fd, p, LEN, 0));
	say("17 read", n);
	say("17 sum", read_pages(p, PAGES));
	p = own_region();
	must(!munmap(p + 2 * PAGE, PAGE), "munmap");
	write_pages(p, 2, 1);
	COUNT("17 read() into a hole behind", n = pread(fd, p + 10, LEN, 0));
	say("17 read", n);
	COUNT("17 read() into a hole", n = pread(fd, p + 2 * PAGE, 100, 0));
	say("17 read", n);
	say("17 error", errno);
	p = own_region();
	COUNT("17 write() of untouched", n = pwrite(fd, p, LEN, 0));
	say("17 written", n);
	must(!mprotect(p, LEN, PROT_READ), "mprotect");
	COUNT("17 read() into read-only", n = pread(fd, p, LEN, 0));
	say("17 read", n);
	close(fd);
}

void file_programs(void)
{
	windows();
	private();
	past_the_end();
	truncated();
	copied();
}

/* Of a file on a disk each write has to be noticed once between two write-backs. */
static void written_back(void)
{
	char *p = file_region(RW, MAP_SHARED);

	COUNT("8 read", read_pages(p, PAGES));
	COUNT("8 write", write_pages(p, PAGES, 1));
	COUNT("8 again", write_pages(p, PAGES, 2));
	must(!mprotect(p, LEN, PROT_READ) && !mprotect(p, LEN, RW), "mprotect");
	COUNT("8 write behind mprotect", write_pages(p, PAGES, 2));
	must(!msync(p, LEN, MS_SYNC), "msync");
	COUNT("8 read behind msync", read_pages(p, PAGES));
	COUNT("8 write behind msync", write_pages(p, PAGES, 3));
	p = file_region(RW, MAP_SHARED);
	COUNT("8 written first", write_pages(p, PAGES, 4));
}

static void cold(void)
{
	int fd = cold_file(PAGES);
	char *p = map_at(place(LEN), PAGES, PROT_READ, MAP_PRIVATE, fd);
	unsigned sum = 0;

	must(!madvise(p, LEN, MADV_RANDOM), "MADV_RANDOM");
	COUNT("16 read cold at random", sum = read_pages(p, PAGES));
	say("16 sum", sum);
	p = map_at(place(LEN), PAGES, PROT_READ, MAP_PRIVATE, fd);
	COUNT("16 read warm", sum = read_pages(p, PAGES));
	close(fd);

	/* How many of them are major is the size of windows; that one is, is not. */
	fd = cold_file(PAGES);
	p = map_at(place(LEN), PAGES, PROT_READ, MAP_PRIVATE, fd);
	struct faults before = faults();
	sum = read_pages(p, PAGES);
	say("16 some major", faults().major > before.major);
	say("16 sum", sum);
	close(fd);
}

void disk_programs(void)
{
	written_back();
	cold();
}
