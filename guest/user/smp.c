/*
 * smp: what several CPUs do to the same memory at once, each in a process of its own. Exact sums
 * show that no write was lost; a file that is cut off under a program that reads it shows that no
 * CPU goes on with a translation that is no more; and a family that is ended while it has children
 * has none that lives on.
 */
#include "guest/user/lib/user.h"

enum { SYS_MPROTECT = 10, SYS_KILL = 62, SYS_FTRUNCATE = 77, SYS_SETPGID = 109 };
enum { SIGBUS = 7, SIGKILL = 9 };

enum { WORKERS = 4, ROUNDS = 3, SHARED_PAGES = 48, OWN_PAGES = 16, CUTS = 8, FAMILIES = 6 };

#define RW   (PROT_READ | PROT_WRITE)
#define FILE "/data/shared"

static long map(size_t pages, int flags, int fd)
{
	return sys_mmap(NULL, pages * PAGE_SIZE, RW, flags, fd, 0);
}

static void add(volatile uint64_t *word)
{
	__asm__ volatile("lock addq $1, %0" : "+m"(*word)::"memory");
}

/* Every page's word goes up by one; half of the workers come from the end. */
static void touch_shared(volatile uint8_t *shared, unsigned worker)
{
	for (size_t i = 0; i < SHARED_PAGES; i++) {
		size_t page = worker & 1 ? SHARED_PAGES - 1 - i : i;

		add((volatile uint64_t *)(shared + page * PAGE_SIZE));
	}
}

/* Own memory is made, written, forked, protected and given back; whether it held what it should. */
static bool churn(unsigned worker)
{
	long p = map(OWN_PAGES, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	volatile uint64_t *words = (volatile uint64_t *)p;
	const size_t step = PAGE_SIZE / sizeof(*words);
	int status = -1, pid;

	if (p < 0)
		return false;
	for (size_t i = 0; i < OWN_PAGES; i++)
		words[i * step] = worker * 1000 + i;
	pid = sys_fork();
	if (pid < 0)
		return false;
	/* Both sides write to what they share until then. */
	for (size_t i = 0; i < OWN_PAGES; i++)
		words[i * step] += pid ? 1 : 100;
	for (size_t i = 0; i < OWN_PAGES; i++)
		if (words[i * step] != worker * 1000 + i + (pid ? 1 : 100))
			return false;
	if (!pid)
		sys_exit(0);
	if (syscall3(SYS_MPROTECT, p, OWN_PAGES / 2 * PAGE_SIZE, PROT_READ) ||
	    sys_munmap((void *)p, OWN_PAGES * PAGE_SIZE))
		return false;
	return sys_wait4(pid, &status) == pid && !status;
}

static int work(uint8_t *shared, unsigned worker)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		touch_shared(shared, worker);
		if (!churn(worker))
			return 1;
		/* Its pages stay, its entries do not: they are faulted in again. */
		if (syscall3(SYS_MPROTECT, (long)shared, SHARED_PAGES * PAGE_SIZE, 0) ||
		    syscall3(SYS_MPROTECT, (long)shared, SHARED_PAGES * PAGE_SIZE, RW))
			return 1;
	}
	return 0;
}

static unsigned sums(void)
{
	long p = map(SHARED_PAGES, MAP_SHARED | MAP_ANONYMOUS, -1);
	unsigned wrong = 0;
	int status;

	if (p < 0)
		return 1;
	for (unsigned i = 0; i < WORKERS; i++)
		if (!sys_fork())
			sys_exit(work((uint8_t *)p, i));
	for (unsigned i = 0; i < WORKERS; i++)
		wrong += sys_wait4(-1, &status) < 0 || status;
	for (size_t i = 0; i < SHARED_PAGES; i++)
		wrong += *(uint64_t *)(p + (long)(i * PAGE_SIZE)) != WORKERS * ROUNDS;
	return wrong;
}

/* What both sides of a cut tell each other. */
struct cut {
	volatile bool reads, is_cut;
};

/* Reads until it may not; 1 if it still could after the file had been cut off. */
static int read_on(const volatile uint8_t *page, struct cut *cut)
{
	for (;;) {
		bool late = cut->is_cut;

		(void)*page;
		cut->reads = true;
		if (late)
			return 1;
	}
}

static bool cut_off(struct cut *cut, int fd)
{
	long page = map(1, MAP_SHARED, fd);
	int pid, status = 0;

	if (page < 0)
		return false;
	*cut = (struct cut){0};
	pid = sys_fork();
	if (!pid)
		sys_exit(read_on((uint8_t *)page, cut));
	while (!cut->reads)
		sleep_ms(1);
	if (syscall3(SYS_FTRUNCATE, fd, 0, 0))
		return false;
	cut->is_cut = true;
	return sys_wait4(pid, &status) == pid && (status & 0x7f) == SIGBUS &&
	       !sys_munmap((void *)page, PAGE_SIZE) && !syscall3(SYS_FTRUNCATE, fd, PAGE_SIZE, 0);
}

static unsigned cuts(void)
{
	long shared = map(1, MAP_SHARED | MAP_ANONYMOUS, -1);
	int fd = sys_open(FILE, O_RDWR);
	unsigned wrong = 0;

	if (shared < 0 || fd < 0)
		return 1;
	for (unsigned i = 0; i < CUTS; i++)
		wrong += !cut_off((struct cut *)shared, fd);
	return wrong;
}

struct family {
	volatile unsigned born;
	volatile bool ended;
};

/* One after the other; who is still there when all have been told to end says so by its status. */
static void have_children(struct family *f)
{
	syscall3(SYS_SETPGID, 0, 0, 0);
	while (sys_fork() > 0)
		f->born++;
	while (!f->ended)
		sleep_ms(50);
	sleep_ms(50);
	sys_exit(0);
}

/* How many of a family were not ended. What its first leaves behind is init's, which this is. */
static unsigned left_alive(struct family *f)
{
	unsigned alive = 0;
	int pid, status;

	*f = (struct family){0};
	pid = sys_fork();
	if (!pid)
		have_children(f);
	/* Now it is about to have the next one. */
	while (pid > 0 && f->born < 2)
		__asm__ volatile("pause");
	if (pid < 0 || syscall3(SYS_KILL, -pid, SIGKILL, 0))
		return 1;
	f->ended = true;
	while (sys_wait4(-pid, &status) > 0)
		alive += status != SIGKILL;
	return alive;
}

static unsigned families(void)
{
	long shared = map(1, MAP_SHARED | MAP_ANONYMOUS, -1);
	unsigned alive = 0;

	if (shared < 0)
		return 1;
	for (unsigned i = 0; i < FAMILIES; i++)
		alive += left_alive((struct family *)shared);
	return alive;
}

int main(int argc, char **argv)
{
	unsigned wrong_sums = sums(), stale = cuts(), alive = families();

	(void)argc, (void)argv;

	print("smp: %u sums wrong, %u translations stale, %u left alive\n", wrong_sums, stale,
	      alive);
	return wrong_sums || stale || alive;
}
