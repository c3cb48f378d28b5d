/*
 * Every system call of the guest kernel with arguments that no sane program has: pointers to
 * nowhere, lengths without end, descriptors of nothing. What each says, as text: the same program
 * run on two kernels has to say the same.
 *
 *   hostile DIRECTORY [CALL]        all happens in the directory; CALL: this one alone
 *
 * One argument is bad at a time, the others are good. Each call has a process of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/include/syscall.h"
#include "tests/diff/hostile.h"

#define PAGE 4096UL
#define ARGS 6

/* Where arguments point to: each page has nothing behind it. */
static char *page, *read_only, *no_access, *unmapped, *arena;
static int file, only_read, only_write, dir, pipe_ends[2], place;

static char *lone_page(int prot)
{
	char *p = mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(p, PAGE);
	munmap(p + 2 * PAGE, PAGE);
	mprotect(p + PAGE, PAGE, prot);
	return p + PAGE;
}

static void prepare(void)
{
	page = lone_page(PROT_READ | PROT_WRITE);
	read_only = lone_page(PROT_READ);
	arena = lone_page(PROT_READ | PROT_WRITE);
	no_access = lone_page(PROT_NONE);
	unmapped = lone_page(PROT_NONE);
	munmap(unmapped, PAGE);
	unlink("new");
	unlink("file");
	unlink("link");
	file = open("file", O_RDWR | O_CREAT | O_TRUNC, 0644);
	if (write(file, "0123456789abcdef", 16) != 16 || pipe2(pipe_ends, O_NONBLOCK))
		exit(3);
	lseek(file, 0, SEEK_SET);
	only_read = open("file", O_RDONLY);
	only_write = open("file", O_WRONLY);
	dir = open(".", O_RDONLY | O_DIRECTORY);
	place = open("file", O_PATH);
	if (symlink("file", "link"))
		exit(3);
}

/* --- what an argument may be, by the letter that says its kind -------------------------------- */

struct value {
	const char *name;
	long value;
};

#define KERNEL	      ((long)0xffff888000000000UL)
#define NOT_CANONICAL ((long)0x0001000000000000L)
#define LONG_MIN_     ((long)0x8000000000000000UL)

/* The first is good. At most MOST. */
#define MOST	      16

static unsigned pointers(struct value *v, char *good, bool written)
{
	unsigned n = 0;

	v[n++] = (struct value){"good", (long)good};
	v[n++] = (struct value){"null", 0};
	v[n++] = (struct value){"one", 1};
	v[n++] = (struct value){"kernel", KERNEL};
	v[n++] = (struct value){"not-canonical", NOT_CANONICAL};
	v[n++] = (struct value){"top", 0x7ffffffff000L};
	v[n++] = (struct value){"last", -1};
	v[n++] = (struct value){"edge", (long)(page + PAGE - 1)};
	v[n++] = (struct value){"no-access", (long)no_access};
	v[n++] = (struct value){"unmapped", (long)unmapped};
	if (written)
		v[n++] = (struct value){"read-only", (long)read_only};
	return n;
}

static unsigned paths(struct value *v, const char *good)
{
	static char longer_name[300], longer_path[5000];
	unsigned n = pointers(v, (char *)good, false);

	memset(longer_name, 'x', sizeof(longer_name) - 1);
	memset(longer_path, '/', sizeof(longer_path) - 1);
	page[PAGE - 1] = 'x'; /* no end */
	v[n++] = (struct value){"empty", (long)""};
	v[n++] = (struct value){"not-there", (long)"no/such"};
	v[n++] = (struct value){"below-file", (long)"file/x"};
	v[n++] = (struct value){"long-name", (long)longer_name};
	v[n++] = (struct value){"long-path", (long)longer_path};
	return n;
}

static unsigned descriptors(struct value *v, int good, bool pipes)
{
	unsigned n = 0;

	v[n++] = (struct value){"good", good};
	v[n++] = (struct value){"closed", 77};
	v[n++] = (struct value){"-1", -1};
	v[n++] = (struct value){"int-max", 0x7fffffff};
	v[n++] = (struct value){"int-min", -0x80000000L};
	v[n++] = (struct value){"high-bits", 1L << 32 | (unsigned)good};
	v[n++] = (struct value){"file", file};
	v[n++] = (struct value){"path-only", place};
	v[n++] = (struct value){"read-only", only_read};
	v[n++] = (struct value){"write-only", only_write};
	v[n++] = (struct value){"directory", dir};
	if (!pipes)
		return n;
	v[n++] = (struct value){"pipe", pipe_ends[0]};
	v[n++] = (struct value){"pipe-end", pipe_ends[1]};
	return n;
}

static unsigned listed(struct value *v, const struct value *from, unsigned n)
{
	memcpy(v, from, n * sizeof(*v));
	return n;
}

#define LISTED(v, ...) \
	listed(v, (const struct value[]){__VA_ARGS__}, \
	       sizeof((const struct value[]){__VA_ARGS__}) / sizeof(struct value))

static unsigned values_of(char kind, long base, struct value *v)
{
	switch (kind) {
	case OUT:
		return pointers(v, page, true);
	case IN:
		return pointers(v, page, false);
	case PATH:
		return paths(v, base ? (const char *)base : "file");
	case FD:
		return descriptors(v, file, true);
	case REGULAR:
		return descriptors(v, file, false);
	case DIRECTORY:
		return descriptors(v, dir, true);
	case AT:
		return descriptors(v, AT_FDCWD, true);
	case BYTES:
		return LISTED(v, {"good", base}, {"-1", -1}, {"long-min", LONG_MIN_},
			      {"long-max", ~LONG_MIN_});
	case COUNT:
		return LISTED(v, {"good", base}, {"-1", -1}, {"int-min", 0x80000000L},
			      {"int-max", 0x7fffffff}, {"long-min", LONG_MIN_});
	case OFFSET:
		return LISTED(v, {"good", base}, {"-1", -1}, {"long-min", LONG_MIN_});
	case FLAGS:
		return LISTED(v, {"good", base}, {"all", 0xffffffffL}, {"high", 0x80000000L},
			      {"-1", -1});
	case SIGNAL:
		return LISTED(v, {"good", base}, {"0", 0}, {"-1", -1}, {"65", 65},
			      {"int-min", -0x80000000L}, {"int-max", 0x7fffffff},
			      {"high-bits", 1L << 32 | base}, {"kill", SIGKILL});
	case PROCESS:
		return LISTED(v, {"good", base}, {"int-min", -0x80000000L}, {"int-max", 0x7fffffff},
			      {"none", 0x3ffffff});
	case MEMORY:
		return LISTED(v, {"good", (long)arena}, {"null", 0}, {"kernel", KERNEL},
			      {"not-canonical", NOT_CANONICAL}, {"top", 0x7ffffffff000L},
			      {"unaligned", (long)arena + 1}, {"last-page", -4096L},
			      {"unmapped", (long)unmapped});
	case LENGTH:
		return LISTED(v, {"good", base}, {"0", 0}, {"1", 1}, {"-1", -1}, {"-page", -4096L},
			      {"two", 2 * PAGE}, {"long-min", LONG_MIN_}, {"long-max", ~LONG_MIN_});
	default:
		return LISTED(v, {"good", base});
	}
}

/* --- one call ----------------------------------------------------------------------------------
 */

static long call(long nr, const long a[ARGS])
{
	register long r10 __asm__("r10");
	register long r8 __asm__("r8");
	register long r9 __asm__("r9");
	long ret;

	r10 = a[3];
	r8 = a[4];
	r9 = a[5];

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

static void try(const struct call *c, const long args[ARGS], const char *what, unsigned which)
{
	long ret = call(c->nr, args);

	printf("%s %u %s: ", c->name, which, what);
	if (ret < 0 && ret > -4096)
		printf("%s\n", strerror((int)-ret));
	else if (c->tells)
		printf("%ld\n", ret);
	else
		printf("done\n");
	lseek(file, 0, SEEK_SET);
	lseek(dir, 0, SEEK_SET);
	memset(page, 0, PAGE - 1);
}

static void try_all(const struct call *c)
{
	struct value values[ARGS][MOST];
	unsigned n[ARGS] = {0};
	long args[ARGS] = {0};

	prepare();
	for (unsigned i = 0; c->kinds[i]; i++) {
		n[i] = values_of(c->kinds[i], c->base[i], values[i]);
		args[i] = c->base[i] == BAD ? KERNEL : values[i][0].value;
	}
	if (!c->waits)
		try(c, args, "good", 0);
	for (unsigned i = 0; c->kinds[i]; i++) {
		long good = args[i];

		for (unsigned k = 1; k < n[i]; k++) {
			args[i] = values[i][k].value;
			try(c, args, values[i][k].name, i + 1);
		}
		args[i] = good;
	}
}

static void run_child(const struct call *c)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		try_all(c);
		fflush(stdout);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		printf("%s: ended with status %x\n", c->name, status);
}

/* --- all of them ------------------------------------------------------------------------------ */

static void run_call(long nr, const char *name, const char *only)
{
	bool known = false;

	if (only && strcmp(only, name) != 0)
		return;
	for (const struct call *c = hostile_calls; c->name; c++) {
		if (c->nr != nr)
			continue;
		known = true;
		if (c->kinds)
			run_child(c);
	}
	if (!known)
		printf("%s: has no line in tests/diff/hostile_calls.c\n", name);
}

int main(int argc, char **argv)
{
	const char *only = argc > 2 ? argv[2] : NULL;

	setvbuf(stdout, NULL, _IOFBF, 65536);
	if (argc < 2 || chdir(argv[1]))
		return 2;
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
#define X(nr, name) run_call(nr, #name, only);
	SYSCALLS(X)
#undef X
	return 0;
}
