/*
 * Eight threads add to words of one shared mapping while it is changed under them: `touches COUNT`.
 *
 * The mapping shows one of two files. A ninth thread takes a part of it away, makes it read-only or
 * drops its translations, and looks at the part through a mapping of its own: whatever is not there
 * to be written must not change. No addition is lost: a touch that finds no page, or one that may
 * not be written, comes again.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define THREADS		 8
#define FILES		 2
#define PAGE		 4096UL
#define PAGES		 64UL
#define PART		 16UL
#define WORDS		 (PAGE / sizeof(atomic_uint))
/* By a thread, at most: so that much is changed while it is touched, however they are scheduled. */
#define TOUCHES_A_CHANGE 16

static atomic_uint *window, *kept[FILES];
static int file[FILES];
static atomic_bool done;
static atomic_ulong changes;
static unsigned long touches_each;

static void need(bool it_is, const char *what)
{
	if (it_is)
		return;
	perror(what);
	exit(1);
}

static void again(int sig)
{
	(void)sig;
	sched_yield();
}

static void *touch(void *arg)
{
	uint32_t seed = (uint32_t)(uintptr_t)arg;

	for (unsigned long i = 0; i < touches_each; i++) {
		while (atomic_load(&changes) < i / TOUCHES_A_CHANGE)
			sched_yield();
		seed = seed * 1664525 + 1013904223;
		atomic_fetch_add(window + (seed >> 16) % PAGES * WORDS, 1);
	}
	return NULL;
}

static unsigned long sum(const atomic_uint *words, unsigned long pages)
{
	unsigned long n = 0;

	for (unsigned long i = 0; i < pages; i++)
		n += atomic_load(words + i * WORDS);
	return n;
}

/* Whether nobody writes to the part of either file for a while. */
static bool stands_still(unsigned long first)
{
	unsigned long was = 0, is = 0;

	for (int f = 0; f < FILES; f++)
		was += sum(kept[f] + first * WORDS, PART);
	for (int i = 0; i < 10; i++)
		sched_yield();
	for (int f = 0; f < FILES; f++)
		is += sum(kept[f] + first * WORDS, PART);
	return was == is;
}

static void show(int f, unsigned long first)
{
	void *at = window + first * WORDS;

	need(mmap(at, PART * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file[f],
		  (off_t)(first * PAGE)) == at,
	     "mmap");
}

static void *change(void *arg)
{
	unsigned long *stale = arg;

	while (!atomic_load(&done)) {
		unsigned long round = atomic_load(&changes);
		unsigned long first = round * PART % PAGES;
		void *at = window + first * WORDS;

		need(!mprotect(at, PART * PAGE, PROT_READ), "mprotect");
		*stale += !stands_still(first);
		need(!mprotect(at, PART * PAGE, PROT_READ | PROT_WRITE), "mprotect");
		need(!madvise(at, PART * PAGE, MADV_DONTNEED), "madvise");
		need(!munmap(at, PART * PAGE), "munmap");
		*stale += !stands_still(first);
		show((int)(round / (PAGES / PART) % FILES), first);
		atomic_fetch_add(&changes, 1);
	}
	return NULL;
}

static void open_file(int f)
{
	char path[] = "/tmp/touchesXXXXXX";

	file[f] = mkstemp(path);
	need(file[f] >= 0 && !unlink(path) && !ftruncate(file[f], (off_t)(PAGES * PAGE)), path);
	kept[f] = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_SHARED, file[f], 0);
	need(kept[f] != MAP_FAILED, "mmap");
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = again};
	unsigned long stale = 0;
	pthread_t t[THREADS], changer;

	touches_each = strtoul(argc > 1 ? argv[1] : "10000", NULL, 10) / THREADS;
	need(!sigaction(SIGSEGV, &action, NULL), "sigaction");
	for (int f = 0; f < FILES; f++)
		open_file(f);
	window = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file[0], 0);
	need(window != MAP_FAILED, "mmap");
	need(!pthread_create(&changer, NULL, change, &stale), "pthread_create");
	for (uintptr_t i = 0; i < THREADS; i++)
		need(!pthread_create(&t[i], NULL, touch, (void *)i), "pthread_create");
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	atomic_store(&done, true);
	pthread_join(changer, NULL);
	printf("touches: %lu\n", touches_each * THREADS);
	printf("counted: %lu\n", sum(kept[0], PAGES) + sum(kept[1], PAGES));
	printf("changed while they could not be: %lu\n", stale);
	printf("changed often: %d\n",
	       atomic_load(&changes) >= (touches_each - 1) / TOUCHES_A_CHANGE);
	return 0;
}
