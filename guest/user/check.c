/*
 * check [NAME ...]: drives the kernel's cases one by one, each in a child of its own, and looks at
 * what came of it. A case that must end with a signal passes only if it does. The exit status is
 * the number of cases that failed. The cases are in check/, by subject.
 */
#include "guest/user/check/check.h"

static const struct check *const subjects[] = {
    memory_checks, mapping_checks, count_checks,  pointer_checks, exec_checks,
    limit_checks,  huge_checks,	   smaps_checks,  hugetlb_checks, file_checks,
    task_checks,   trap_checks,	   signal_checks, futex_checks,
};

volatile uint8_t *anon(size_t pages)
{
	long p = sys_mmap(NULL, pages * PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p > 0 ? (volatile uint8_t *)p : NULL;
}

int protect(volatile void *p, size_t pages, int prot)
{
	return (int)syscall3(SYS_MPROTECT, (long)p, (long)(pages * PAGE_SIZE), prot);
}

long minor_faults(void)
{
	struct rusage ru;

	return sys_getrusage(&ru) ? -1 : ru.ru_minflt;
}

long proc_value(const char *path, const char *name)
{
	static char text[8192];
	const size_t len = strlen(name);
	int fd = sys_open(path, O_RDONLY);
	long n = sys_read(fd, text, sizeof(text) - 1), value = 0;

	sys_close(fd);
	for (long i = 0; i < n; i++) {
		const char *at = text + i;

		if ((i && at[-1] != '\n') || memcmp(at, name, len) != 0)
			continue;
		for (at += len; *at == ' '; at++)
			;
		for (; *at >= '0' && *at <= '9'; at++)
			value = value * 10 + *at - '0';
		return value;
	}
	return -1;
}

/*
 * Behind a fork the stack is to be copied on write. Where it lies in its pages is Linux's choice: a
 * call within a count is not to be the first to write to one.
 */
static void own_stack(void)
{
	volatile uint8_t room[2 * PAGE_SIZE];

	for (size_t i = 0; i < sizeof(room); i += PAGE_SIZE)
		room[i] = 0;
}

int in_child(int (*fn)(void))
{
	int status = -1;
	int pid = sys_fork();

	own_stack();
	if (!pid)
		sys_exit(fn());
	return pid > 0 && sys_wait4(pid, &status) == pid ? status : -1;
}

static bool wanted(const struct check *c, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], c->name))
			return true;
	return argc < 2;
}

static bool passes(const struct check *c)
{
	int status = in_child(c->fn);

	if (status == c->signal)
		return true;
	print("check: %s: wait status %x, expected %x\n", c->name, status, c->signal);
	return false;
}

int main(int argc, char **argv)
{
	int ran = 0, failed = 0;

	for (size_t i = 0; i < sizeof(subjects) / sizeof(subjects[0]); i++) {
		for (const struct check *c = subjects[i]; c->name; c++) {
			if (!wanted(c, argc, argv))
				continue;
			ran++;
			failed += !passes(c);
		}
	}
	print("check: %d cases, %d failed\n", ran, failed);
	return failed;
}
