#include "vmm/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Numbers of host pages are for CAP_SYS_ADMIN, as of whoever opens the map (proc_pid_pagemap(5)).
 */
static int without_admin(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, caps))
		return -errno;
	caps[0].effective &= ~(1U << CAP_SYS_ADMIN);
	return syscall(SYS_capset, &header, caps) ? -errno : 0;
}

/* The fourth field of proc_pid_stat(5); the second is a name in brackets, of any characters. */
static pid_t parent_of(int proc)
{
	int fd = openat(proc, "stat", O_RDONLY | O_CLOEXEC);
	char text[256];
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	const char *end;

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	end = strrchr(text, ')');
	return end && strlen(end) > 4 ? (pid_t)strtol(end + 4, NULL, 10) : -1;
}

int pagemap_of(long long pid, pid_t parent)
{
	char path[48];
	int proc, fd = -ESRCH, r;

	if (pid <= 0 || parent <= 0)
		return -ESRCH;
	snprintf(path, sizeof(path), "/proc/%lld", pid);
	proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (proc < 0)
		return -errno;
	r = parent_of(proc) == parent ? without_admin() : -EPERM;
	if (r == 0) {
		fd = openat(proc, "pagemap", O_RDONLY | O_CLOEXEC);
		r = fd < 0 ? -errno : 0;
	}
	close(proc);
	return r ? r : fd;
}
