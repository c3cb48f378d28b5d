/*
 * orphans [reboot]: leaves children behind in every place where a task can wait, and ends, by a
 * reboot if told so. The kernel has to get back what they hold.
 */
#include "guest/user/lib/user.h"

enum { SYS_REBOOT = 169 };

static void read_cold(void)
{
	static uint8_t buf[65536];
	int fd = sys_open("/data/corpus", O_RDONLY);

	while (sys_read(fd, buf, sizeof(buf)) > 0)
		;
}

static void map_cold(void)
{
	struct mapping m;

	if (map_file("/data/corpus", false, MAP_PRIVATE, &m))
		return;
	for (size_t i = 0; i < m.len; i += PAGE_SIZE)
		(void)*(volatile uint8_t *)(m.data + i);
}

static void run_again(void)
{
	char *const args[] = {"/bin/spin", NULL};

	sys_execve(args[0], args, args + 1);
}

static void read_console(void)
{
	char c;

	sys_read(0, &c, 1);
}

static void nap(void)
{
	sleep_ms(1000000);
}

static void wait_for_nap(void)
{
	int status, pid = sys_fork();

	if (!pid)
		nap();
	sys_wait4(pid, &status);
}

static void spin(void)
{
	for (;;)
		__asm__ volatile("pause");
}

int main(int argc, char **argv)
{
	void (*const ways[])(void) = {read_cold, map_cold,     run_again, read_console,
				      nap,	 wait_for_nap, spin};
	struct mapping m;

	/* A shared mapping, written, of its own. */
	if (!map_file("/data/shared", true, MAP_SHARED, &m))
		m.data[0] = m.data[0];
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (sys_fork())
			continue;
		ways[i]();
		sys_exit(0);
	}
	sleep_ms(3);
	if (argc > 1 && !strcmp(argv[1], "reboot"))
		syscall3(SYS_REBOOT, 0xfee1dead, 0, 0x4321fedc);
	return 0;
}
