#include "ept/ept.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ADMIN (1U << CAP_SYS_ADMIN)

/* As of whoever opens it, not of whoever reads. Capabilities are the calling thread's. */
int ept_pagemap_open(const char *path)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3],
	    fewer[_LINUX_CAPABILITY_U32S_3];
	int fd, err;

	if (syscall(SYS_capget, &header, caps))
		return -errno;
	memcpy(fewer, caps, sizeof(fewer));
	fewer[0].effective &= ~ADMIN;
	if (caps[0].effective & ADMIN && syscall(SYS_capset, &header, fewer))
		return -errno;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	err = fd < 0 ? -errno : 0;
	if (caps[0].effective & ADMIN && syscall(SYS_capset, &header, caps) && !err) {
		err = -errno;
		close(fd);
	}
	return err ? err : fd;
}
