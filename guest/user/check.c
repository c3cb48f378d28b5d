/*
 * check [NAME ...]: drives the kernel's cases one by one, each in a child of its own, and looks at
 * what came of it. A case that must end with a signal passes only if it does. The exit status is
 * the number of cases that failed.
 */
#include "guest/user/lib/user.h"

enum { SYS_MPROTECT = 10, SYS_BRK = 12, SYS_SCHED_YIELD = 24, SYS_MADVISE = 28, SYS_GETPID = 39 };
enum { PROT_NONE = 0, PROT_EXEC = 4, MAP_FIXED = 0x10, MADV_DONTNEED = 4 };
enum { SIGILL = 4, SIGTRAP = 5, SIGBUS = 7, SIGFPE = 8, SIGSEGV = 11 };
enum { ENOEXEC = 8, ECHILD = 10, EFAULT = 14, EINVAL = 22 };

#define FILE_PATH "/data/shared"
#define RW	  (PROT_READ | PROT_WRITE)

/* Ends the case, naming the place, unless what should hold does. */
#define EXPECT(cond) \
	do { \
		if (!(cond)) { \
			print("check: line %d: %s\n", __LINE__, #cond); \
			return 1; \
		} \
	} while (0)

static volatile uint8_t *anon(size_t pages)
{
	long p = sys_mmap(NULL, pages * PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p > 0 ? (volatile uint8_t *)p : NULL;
}

static int protect(volatile void *p, size_t pages, int prot)
{
	return (int)syscall3(SYS_MPROTECT, (long)p, (long)(pages * PAGE_SIZE), prot);
}

static long minor_faults(void)
{
	struct rusage ru;

	return sys_getrusage(&ru) ? -1 : ru.ru_minflt;
}

/* Runs fn in a child; its wait status. */
static int in_child(int (*fn)(void))
{
	int status = -1;
	int pid = sys_fork();

	if (!pid)
		sys_exit(fn());
	return pid > 0 && sys_wait4(pid, &status) == pid ? status : -1;
}

/* --- memory ---------------------------------------------------------------------------------- */

static int anon_zero_then_own(void)
{
	volatile uint8_t *p = anon(2);
	long before = minor_faults();

	EXPECT(p);
	EXPECT(p[0] == 0 && p[PAGE_SIZE] == 0);
	p[0] = 1;
	EXPECT(p[0] == 1 && p[1] == 0 && p[PAGE_SIZE] == 0);
	EXPECT(minor_faults() - before == 3);
	return 0;
}

static int dontneed(void)
{
	volatile uint8_t *p = anon(4);
	struct mapping m;

	EXPECT(p);
	p[PAGE_SIZE] = 7;
	EXPECT(!syscall3(SYS_MADVISE, (long)p, 4 * PAGE_SIZE, MADV_DONTNEED));
	EXPECT(p[PAGE_SIZE] == 0);
	EXPECT(!map_file(FILE_PATH, true, MAP_PRIVATE, &m));
	uint8_t old = m.data[5];
	m.data[5] = (uint8_t)~old;
	EXPECT(!syscall3(SYS_MADVISE, (long)m.data, PAGE_SIZE, MADV_DONTNEED));
	EXPECT(m.data[5] == old);
	return 0;
}

static int unmap_middle(void)
{
	volatile uint8_t *p = anon(3);

	EXPECT(p);
	p[0] = 1;
	p[2 * PAGE_SIZE] = 3;
	EXPECT(!sys_munmap((void *)(p + PAGE_SIZE), PAGE_SIZE));
	EXPECT(p[0] == 1 && p[2 * PAGE_SIZE] == 3);
	return p[PAGE_SIZE]; /* must not return */
}

static int map_fixed_replaces(void)
{
	volatile uint8_t *p = anon(2);
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

	EXPECT(p);
	p[0] = p[PAGE_SIZE] = 9;
	EXPECT(sys_mmap((void *)p, PAGE_SIZE, RW, flags, -1, 0) == (long)p);
	EXPECT(p[0] == 0 && p[PAGE_SIZE] == 9);
	return 0;
}

static int brk_moves(void)
{
	long start = syscall3(SYS_BRK, 0, 0, 0);
	volatile uint8_t *p = (volatile uint8_t *)start;

	EXPECT(syscall3(SYS_BRK, start + 3 * PAGE_SIZE, 0, 0) == start + 3 * PAGE_SIZE);
	p[0] = p[2 * PAGE_SIZE] = 5;
	EXPECT(syscall3(SYS_BRK, start, 0, 0) == start);
	EXPECT(syscall3(SYS_BRK, start + PAGE_SIZE, 0, 0) == start + PAGE_SIZE);
	EXPECT(p[0] == 0);
	return 0;
}

static int write_read_only(void)
{
	volatile uint8_t *p = anon(1);

	EXPECT(p);
	p[0] = 1;
	EXPECT(!protect(p, 1, PROT_READ));
	EXPECT(p[0] == 1);
	p[0] = 2;
	return 0;
}

static int protect_back(void)
{
	volatile uint8_t *p = anon(3);

	EXPECT(p);
	p[PAGE_SIZE] = 4;
	EXPECT(!protect(p + PAGE_SIZE, 1, PROT_NONE));
	EXPECT(!protect(p + PAGE_SIZE, 1, RW));
	EXPECT(p[PAGE_SIZE] == 4);
	p[PAGE_SIZE] = 6;
	EXPECT(p[PAGE_SIZE] == 6);
	return 0;
}

static int read_none(void)
{
	volatile uint8_t *p = anon(1);

	EXPECT(p);
	p[0] = 1;
	EXPECT(!protect(p, 1, PROT_NONE));
	return p[0];
}

static int fetch_no_exec(void)
{
	volatile uint8_t *p = anon(1);

	EXPECT(p);
	p[0] = 0xc3; /* ret */
	((void (*)(void))(uintptr_t)p)();
	return 0;
}

static int null_read(void)
{
	volatile int *nowhere = NULL;

	__asm__("" : "+r"(nowhere));
	return *nowhere;
}

static int kernel_read(void)
{
	return *(volatile int *)0xffffffff80100000UL;
}

static int non_canonical(void)
{
	return *(volatile int *)0x8000000000000000UL;
}

static int past_end_of_file(void)
{
	struct mapping m;
	int fd = sys_open(FILE_PATH, O_RDONLY);

	EXPECT(!map_file(FILE_PATH, false, MAP_PRIVATE, &m) && fd >= 0);
	long p = sys_mmap(NULL, m.len + PAGE_SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
	EXPECT(p > 0);
	return ((volatile uint8_t *)p)[m.len];
}

static uint64_t deep(unsigned levels)
{
	volatile uint64_t frame[512];

	frame[0] = levels;
	return levels ? deep(levels - 1) + frame[0] : 0;
}

static int stack_grows(void)
{
	EXPECT(deep(500) == 500 * 501 / 2);
	return 0;
}

static int stack_overflows(void)
{
	return (int)deep(4000);
}

/* --- user pointers --------------------------------------------------------------------------- */

static int bad_pointers(void)
{
	volatile uint8_t *p = anon(2);
	int fd = sys_open(FILE_PATH, O_RDONLY);

	EXPECT(p && fd >= 0);
	EXPECT(!sys_munmap((void *)(p + PAGE_SIZE), PAGE_SIZE));
	EXPECT(sys_write(1, (void *)(p + PAGE_SIZE), 1) == -EFAULT);
	EXPECT(sys_pread(fd, NULL, 1, 0) == -EFAULT);
	EXPECT(sys_pread(fd, (void *)0xffffffff80100000UL, 1, 0) == -EFAULT);
	EXPECT(sys_pread(fd, (void *)0x8000000000000000UL, 1, 0) == -EFAULT);
	EXPECT(sys_open((char *)p + PAGE_SIZE, O_RDONLY) == -EFAULT);
	/* Up to the last good byte, and not one more. */
	EXPECT(sys_pread(fd, (void *)(p + PAGE_SIZE - 13), 100, 0) == 13);
	EXPECT(!protect(p, 1, PROT_READ));
	EXPECT(sys_pread(fd, (void *)p, 16, 0) == -EFAULT);
	return 0;
}

static int bad_arguments(void)
{
	EXPECT(sys_mmap(NULL, 0, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == -EINVAL);
	EXPECT(sys_mmap((void *)1, 1, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) < 0);
	EXPECT(sys_mmap(NULL, ~0UL, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) < 0);
	EXPECT(sys_munmap((void *)0x7ffffffff000UL, ~0UL) < 0);
	EXPECT(syscall3(100000, 0, 0, 0) == -38);
	EXPECT(syscall3(-1, 0, 0, 0) == -38);
	return 0;
}

/* --- tasks ----------------------------------------------------------------------------------- */

static int exec_refused(void)
{
	char *const args[] = {NULL};

	EXPECT(sys_execve("/nonexistent", args, args) == -ENOENT);
	EXPECT(sys_execve("/etc/image", args, args) < 0);
	EXPECT(sys_execve("/bin", args, args) < 0);
	EXPECT(sys_execve(NULL, args, args) == -EFAULT);
	return 0;
}

static int no_children(void)
{
	int status;

	EXPECT(sys_wait4(-1, &status) == -ECHILD);
	return 0;
}

/* Spins until the other side, which shares the page, has moved: only preemption lets it. */
static int preempted(void)
{
	int fd = sys_open(FILE_PATH, O_RDWR);
	long p = sys_mmap(NULL, PAGE_SIZE, RW, MAP_SHARED, fd, 0);
	volatile uint32_t *word = (volatile uint32_t *)p;
	int status, pid;

	EXPECT(fd >= 0 && p > 0);
	uint32_t old = word[1];
	word[1] = 0;
	pid = sys_fork();
	if (!pid) {
		while (word[1] != 1)
			;
		word[1] = 2;
		sys_exit(0);
	}
	word[1] = 1;
	while (word[1] != 2)
		;
	word[1] = old;
	EXPECT(sys_wait4(pid, &status) == pid && status == 0);
	return 0;
}

/* Vector registers survive other programs' use of them. */
static int vectors(void)
{
	uint64_t in[2] = {0x1122334455667788UL, (uint64_t)syscall3(SYS_GETPID, 0, 0, 0)}, out[2];
	uint64_t until = now_ns() + 60000000;
	int pid = sys_fork(), status = 0;

	in[1] += (uint64_t)pid;
	__asm__ volatile("movdqu %0, %%xmm7" ::"m"(in) : "xmm7");
	while (now_ns() < until)
		syscall3(SYS_SCHED_YIELD, 0, 0, 0);
	__asm__ volatile("movdqu %%xmm7, %0" : "=m"(out));
	EXPECT(out[0] == in[0] && out[1] == in[1]);
	if (!pid)
		sys_exit(0);
	EXPECT(sys_wait4(pid, &status) == pid && status == 0);
	return 0;
}

static int sleeps(void)
{
	uint64_t start = now_ns();

	sleep_ms(20);
	EXPECT(now_ns() - start >= 20000000);
	return 0;
}

static int divide_by_zero(void)
{
	__asm__ volatile("xorl %%ecx, %%ecx; divl %%ecx" ::: "eax", "ecx", "edx");
	return 0;
}

static int undefined(void)
{
	__asm__ volatile("ud2");
	return 0;
}

static int breakpoint(void)
{
	__asm__ volatile("int3");
	return 0;
}

static int privileged(void)
{
	__asm__ volatile("hlt");
	return 0;
}

static int port_access(void)
{
	__asm__ volatile("outb %%al, %%dx" ::"a"(0), "d"(0xf4));
	return 0;
}

/* The kernel's place for system calls, entered by hand with a return address that cannot be. */
static int wild_entry(void)
{
	__asm__ volatile("movabsq $0x8000000000000000, %%rcx; movq $39, %%rax;"
			 "movabsq $0xffffffffff600000, %%rdx; jmp *%%rdx" ::
			     : "rax", "rcx", "rdx");
	return 0;
}

static const struct check {
	const char *name;
	int (*fn)(void);
	int signal; /* 0: ends by itself, with 0 */
} checks[] = {
    {"anon_zero_then_own", anon_zero_then_own, 0},
    {"dontneed", dontneed, 0},
    {"unmap_middle", unmap_middle, SIGSEGV},
    {"map_fixed_replaces", map_fixed_replaces, 0},
    {"brk_moves", brk_moves, 0},
    {"write_read_only", write_read_only, SIGSEGV},
    {"protect_back", protect_back, 0},
    {"read_none", read_none, SIGSEGV},
    {"fetch_no_exec", fetch_no_exec, SIGSEGV},
    {"null_read", null_read, SIGSEGV},
    {"kernel_read", kernel_read, SIGSEGV},
    {"non_canonical", non_canonical, SIGSEGV},
    {"past_end_of_file", past_end_of_file, SIGBUS},
    {"stack_grows", stack_grows, 0},
    {"stack_overflows", stack_overflows, SIGSEGV},
    {"bad_pointers", bad_pointers, 0},
    {"bad_arguments", bad_arguments, 0},
    {"exec_refused", exec_refused, 0},
    {"no_children", no_children, 0},
    {"preempted", preempted, 0},
    {"vectors", vectors, 0},
    {"sleeps", sleeps, 0},
    {"divide_by_zero", divide_by_zero, SIGFPE},
    {"undefined", undefined, SIGILL},
    {"breakpoint", breakpoint, SIGTRAP},
    {"privileged", privileged, SIGSEGV},
    {"port_access", port_access, SIGSEGV},
    {"wild_entry", wild_entry, SIGSEGV},
};

static bool wanted(const struct check *c, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], c->name))
			return true;
	return argc < 2;
}

int main(int argc, char **argv)
{
	int ran = 0, failed = 0;

	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		int status;

		if (!wanted(&checks[i], argc, argv))
			continue;
		status = in_child(checks[i].fn);
		ran++;
		if (status == checks[i].signal)
			continue;
		print("check: %s: wait status %x, expected %x\n", checks[i].name, status,
		      checks[i].signal);
		failed++;
	}
	print("check: %d cases, %d failed\n", ran, failed);
	return failed;
}
