/*
 * check [NAME ...]: drives the kernel's cases one by one, each in a child of its own, and looks at
 * what came of it. A case that must end with a signal passes only if it does. The exit status is
 * the number of cases that failed. The cases are in check/, by subject.
 */
#include "guest/user/check/check.h"

static const struct check *const subjects[] = {
    memory_checks, mapping_checks, count_checks, pointer_checks, exec_checks,
    file_checks,   task_checks,	   trap_checks,	 signal_checks,	 futex_checks,
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

int in_child(int (*fn)(void))
{
	int status = -1;
	int pid = sys_fork();

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
