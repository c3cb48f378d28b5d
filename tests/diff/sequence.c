/*
 * A random sequence of what a program can do to its address space, and what it finds there
 * afterwards, as text: the same program run on two kernels has to say the same.
 *
 *   sequence SEED [OPERATIONS [LEFT-OUT]]        LEFT-OUT: letters of operations, as printed
 *
 * All happens in one arena at a fixed address. What kernels may do differently is not asked for:
 * addresses they choose, ranges that neighbours merged into may span, pages that reclaim may take.
 */
#include "sequence.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#	define MADV_POPULATE_READ  22
#	define MADV_POPULATE_WRITE 23
#endif

#define FILE_PAGES 40U
#define LONGEST	   24U /* pages of one operation */

static uint64_t state;
static const char *left_out = "";
static int file;
static unsigned depth; /* of forks */

/* splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014). */
static uint64_t draw(void)
{
	uint64_t z = state += 0x9e3779b97f4a7c15UL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9UL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebUL;
	return z ^ (z >> 31);
}

static unsigned below(unsigned n)
{
	return (unsigned)(draw() % n);
}

/* --- what it does --------------------------------------------------------------------- */

struct range {
	unsigned first, pages;
};

static struct range some_range(unsigned longest)
{
	struct range r = {below(PAGES), 1 + below(longest)};

	if (r.first + r.pages > PAGES)
		r.pages = PAGES - r.first;
	return r;
}

static void print_result(const char *what, struct range r, long result)
{
	printf("%s %u+%u", what, r.first, r.pages);
	if (result < 0)
		printf(" = error %d\n", errno);
	else
		printf(" = %ld\n", result);
}

static int some_protection(void)
{
	static const int all[] = {PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE,
				  PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE};

	return all[below(sizeof(all) / sizeof(all[0]))];
}

/* Whole mappings as they were made, which alone are moved: 0 for a page of none. */
static unsigned short whole[PAGES], made;

static void forget(struct range r)
{
	for (unsigned i = r.first; i < r.first + r.pages; i++) {
		unsigned short was = whole[i];

		for (unsigned k = 0; k < PAGES && was; k++)
			if (whole[k] == was)
				whole[k] = 0;
	}
}

static void remember(struct range r)
{
	forget(r);
	made++;
	for (unsigned i = r.first; i < r.first + r.pages; i++)
		whole[i] = made;
}

static void map(struct range r, const char *what, int flags, int fd, unsigned page)
{
	int protection = some_protection();
	void *at = mmap(page_at(r.first), r.pages * PAGE, protection, flags | MAP_FIXED, fd,
			(off_t)(page * PAGE));

	print_result(what, r, at == MAP_FAILED ? -1 : protection);
	remember(r);
}

static void map_anonymous(void)
{
	map(some_range(LONGEST), "A", MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void map_shared(void)
{
	map(some_range(LONGEST), "S", MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static void map_file(void)
{
	map(some_range(LONGEST), "F", MAP_PRIVATE, file, below(FILE_PAGES));
}

static void map_shared_file(void)
{
	map(some_range(LONGEST), "G", MAP_SHARED, file, below(FILE_PAGES));
}

static void unmap(void)
{
	struct range r = some_range(8);

	print_result("U", r, munmap(page_at(r.first), r.pages * PAGE));
	forget(r);
}

static void protect(void)
{
	struct range r = some_range(LONGEST);
	int protection = some_protection();

	print_result("P", r, mprotect(page_at(r.first), r.pages * PAGE, protection));
	forget(r);
}

/* A whole mapping, to where another may be; it may grow or shrink. */
static void move(void)
{
	unsigned start = below(PAGES), end = start;
	struct range to = some_range(LONGEST);

	while (start && whole[start] && whole[start - 1] == whole[start])
		start--;
	while (end < PAGES && whole[end] && whole[end] == whole[start])
		end++;
	if (!whole[start] || (to.first < end && start < to.first + to.pages)) {
		printf("M -\n");
		return;
	}
	struct range from = {start, end - start};
	void *at = mremap(page_at(from.first), from.pages * PAGE, to.pages * PAGE,
			  MREMAP_MAYMOVE | MREMAP_FIXED, page_at(to.first));

	printf("from %u+%u ", from.first, from.pages);
	print_result("M", to, at == MAP_FAILED ? -1 : 0);
	forget(from);
	remember(to);
}

static void advise(const char *what, int advice)
{
	struct range r = some_range(LONGEST);

	print_result(what, r, madvise(page_at(r.first), r.pages * PAGE, advice));
}

static void drop(void)
{
	advise("D", MADV_DONTNEED);
}

static void will_need(void)
{
	advise("W", MADV_WILLNEED);
}

static void populate(void)
{
	advise("L", below(2) ? MADV_POPULATE_READ : MADV_POPULATE_WRITE);
}

static void read_some(void)
{
	unsigned page = below(PAGES);
	const char *at = page_at(page) + below(PAGE / 8) * 8;
	uint64_t value;

	printf("r %u ", page);
	if (touch_read(at, &value))
		printf("%lx\n", (unsigned long)value);
	else
		print_fault(at), putchar('\n');
}

static void write_some(void)
{
	struct range r = some_range(6);

	printf("w %u+%u", r.first, r.pages);
	for (unsigned i = r.first; i < r.first + r.pages; i++) {
		char *at = page_at(i) + below(PAGE / 8) * 8;

		putchar(' ');
		if (touch_write(at, draw()))
			putchar('.');
		else
			print_fault(at);
	}
	putchar('\n');
}

/* Kernel copies: how far one comes, and what it says. */
static void copy_in(void)
{
	struct range r = some_range(4);
	ssize_t n = pread(file, page_at(r.first) + 100, r.pages * PAGE - 200,
			  (off_t)(below(FILE_PAGES) * PAGE));

	print_result("i", r, n);
}

/*
 * From within the file: by a write behind its end of which not a byte could be read newer Linux
 * lets it grow (6.18), older does not.
 */
static void copy_out(void)
{
	struct range r = some_range(4);
	off_t at = (off_t)(below(FILE_PAGES - 4) * PAGE), size = lseek(file, 0, SEEK_END);

	if (at <= size)
		print_result("o", r,
			     pwrite(file, page_at(r.first) + 100, r.pages * PAGE - 200, at));
}

static void sync_some(void)
{
	struct range r = some_range(LONGEST);

	print_result("y", r, msync(page_at(r.first), r.pages * PAGE, MS_SYNC));
}

/*
 * Shorter, and mostly as long again: what was behind the end is gone for every mapping. By whole
 * pages: what is behind the end in the last one is nobody's.
 */
static void truncate_file(void)
{
	struct range r = {below(FILE_PAGES), FILE_PAGES};
	int cut = ftruncate(file, (off_t)(r.first * PAGE));

	if (!cut && below(3))
		cut = ftruncate(file, FILE_PAGES * PAGE);
	print_result("T", r, cut);
}

/* --- forks ------------------------------------------------------------------------------- */

static void step(void);

/* The child goes on for a while by itself; then each looks at what it has. */
static void split(void)
{
	unsigned steps = 1 + below(12);
	int status = 0;

	if (depth == 2) {
		printf("f -\n");
		return;
	}
	printf("f %u\n", steps);
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		depth++;
		while (steps--)
			step();
		look_at_all();
		fflush(stdout);
		_exit((int)below(100));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		printf("fork: error %d\n", errno);
	printf("child %x\n", (unsigned)status);
	for (steps = below(4); steps--;)
		(void)draw();
}

static const struct operation {
	char letter;
	unsigned share;
	void (*run)(void);
} operations[] = {
    {'A', 6, map_anonymous}, {'S', 2, map_shared},
    {'F', 3, map_file},	     {'G', 2, map_shared_file},
    {'U', 3, unmap},	     {'P', 6, protect},
    {'M', 4, move},	     {'D', 4, drop},
    {'W', 1, will_need},     {'L', 2, populate},
    {'r', 8, read_some},     {'w', 14, write_some},
    {'i', 3, copy_in},	     {'o', 2, copy_out},
    {'y', 1, sync_some},     {'T', 1, truncate_file},
    {'f', 2, split},	     {'a', 1, look_at_all},
    {'m', 1, look_at_maps},
};

#define NR_OPERATIONS (sizeof(operations) / sizeof(operations[0]))

/* The same draws whatever is left out. */
static void step(void)
{
	unsigned all = 0, at;
	const struct operation *op = operations;

	for (unsigned i = 0; i < NR_OPERATIONS; i++)
		all += operations[i].share;
	for (at = below(all); at >= op->share; op++)
		at -= op->share;
	if (!strchr(left_out, op->letter))
		op->run();
}

static bool make_file(const char *seed)
{
	char name[64], page[PAGE];

	snprintf(name, sizeof(name), "sequence.%s", seed);
	file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (file < 0 || unlink(name))
		return false;
	for (unsigned i = 0; i < FILE_PAGES; i++) {
		memset(page, (int)(i + 1), sizeof(page));
		if (write(file, page, sizeof(page)) != (ssize_t)sizeof(page))
			return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	unsigned long steps = argc > 2 ? strtoul(argv[2], NULL, 10) : 500;

	if (argc < 2) {
		fprintf(stderr, "usage: sequence SEED [OPERATIONS [LEFT-OUT]]\n");
		return 2;
	}
	state = strtoul(argv[1], NULL, 10);
	if (argc > 3)
		left_out = argv[3];
	if (!make_file(argv[1])) {
		perror("sequence: its file");
		return 1;
	}
	catch_faults();
	while (steps--)
		step();
	look_at_all();
	look_at_maps();
	return 0;
}
