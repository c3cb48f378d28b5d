#include "vmm/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
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

int pagemap_of(pid_t pid)
{
	char path[48];
	int fd, r;

	if (pid <= 0)
		return -ESRCH;
	r = without_admin();
	if (r)
		return r;
	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
