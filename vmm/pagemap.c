#include "vmm/pagemap.h"

#include <errno.h>
#include <stdio.h>

#include "ept/ept.h"

int pagemap_of(pid_t pid)
{
	char path[48];

	if (pid <= 0)
		return -ESRCH;
	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	return ept_pagemap_open(path);
}
