/*
 * What of the kernel has run, told on the console at its end: for each object the name of its data
 * file and the words of it, in hexadecimal, zeros in front left out. Linked around machine_exit()
 * into the kernel that `make coverage` builds; scripts/coverage takes the console apart.
 */
#include "guest/include/console.h"
#include "guest/include/cpu.h"
#include "guest/include/printk.h"

#define ROOM	8192 /* bytes, for what libgcov has to put somewhere: a list of lengths */
#define LONGEST 100  /* characters of a line, but for its last word */

struct gcov_info;

/* As gcc's gcov.h has it: an object's data, by pieces, behind the name of its file. */
void __gcov_info_to_gcda(const struct gcov_info *info, void (*name)(const char *, void *),
			 void (*dump)(const void *, unsigned, void *),
			 void *(*allocate)(unsigned, void *), void *arg);

/* Made by the linker around what -fprofile-info-section= leaves of each object. */
extern const struct gcov_info *const __start_gcov_info[], *const __stop_gcov_info[];

void __real_machine_exit(u8 status) __attribute__((noreturn));
void __wrap_machine_exit(u8 status) __attribute__((noreturn));
/* What libgcov asks for where there is an operating system, and each object for who merges runs. */
void abort(void) __attribute__((noreturn));
void *mmap(void *at, size_t n, int prot, int flags, int fd, long offset);
void __gcov_merge_add(long *counters, unsigned n);

void abort(void)
{
	printk("gcov: libgcov gives up\n");
	__real_machine_exit(1);
}

void *mmap(void *at, size_t n, int prot, int flags, int fd, long offset)
{
	(void)at, (void)n, (void)prot, (void)flags, (void)fd, (void)offset;
	return (void *)-1;
}

void __gcov_merge_add(long *counters, unsigned n)
{
	(void)counters, (void)n;
}

static void *allocate(unsigned n, void *arg)
{
	static char room[ROOM];
	static unsigned used;
	void *at = room + used;

	(void)arg;
	used += (n + 15) & ~15U;
	return used <= ROOM ? at : NULL;
}

static void print_name(const char *name, void *arg)
{
	(void)arg;
	printk("gcov: %s\n", name);
}

/* --- lines of words: printk for each would take seconds where ring 0 is emulated ------------- */

static struct {
	char text[LONGEST + 16];
	size_t len;
} line;

static void end_line(void)
{
	line.text[line.len++] = '\n';
	console_write(line.text, line.len);
	line.len = 0;
}

static void add_word(u32 word)
{
	unsigned shift = word ? (unsigned)(31 - __builtin_clz(word)) & ~3U : 0;

	line.text[line.len++] = ' ';
	for (;; shift -= 4) {
		line.text[line.len++] = "0123456789abcdef"[word >> shift & 15];
		if (!shift)
			break;
	}
	if (line.len >= LONGEST)
		end_line();
}

/* The format is made of whole words. */
static void print_words(const void *data, unsigned n, void *arg)
{
	(void)arg;
	for (const u32 *word = data; n >= sizeof(*word); n -= sizeof(*word))
		add_word(*word++);
}

void __wrap_machine_exit(u8 status)
{
	u64 objects = ((u64)__stop_gcov_info - (u64)__start_gcov_info) / sizeof(void *);

	for (u64 i = 0; i < objects; i++) {
		__gcov_info_to_gcda(__start_gcov_info[i], print_name, print_words, allocate, NULL);
		end_line();
	}
	__real_machine_exit(status);
}
