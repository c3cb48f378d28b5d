#include "vmm/passed_files.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Of the kernel's Documentation/admin-guide/devices.txt. */
#define NULL_DEVICE makedev(1, 3)
#define TUN_DEVICE  makedev(10, 200)

static bool look(int fd, struct stat *st)
{
	return syscall(SYS_fstat, fd, st) == 0; /* as in ept/object.c */
}

static bool is_device(int fd, dev_t device)
{
	struct stat st;

	return look(fd, &st) && S_ISCHR(st.st_mode) && st.st_rdev == device;
}

static bool never_waits(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && flags & O_NONBLOCK;
}

static bool for_both(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && (flags & O_ACCMODE) == O_RDWR;
}

static bool has(int fd, int option, int value)
{
	socklen_t len = sizeof(int);
	int is = -1;

	return getsockopt(fd, SOL_SOCKET, option, &is, &len) == 0 && is == value;
}

static bool is_stream(int fd, bool listens)
{
	return has(fd, SO_DOMAIN, AF_UNIX) && has(fd, SO_TYPE, SOCK_STREAM) &&
	       has(fd, SO_ACCEPTCONN, listens) && never_waits(fd);
}

bool passed_listener(int fd)
{
	return is_stream(fd, true);
}

bool passed_stream(int fd)
{
	return is_stream(fd, false);
}

bool passed_tap(int fd, const char *name)
{
	const short kind = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	struct ifreq ifr = {0};
	int header = 0;

	return is_device(fd, TUN_DEVICE) && ioctl(fd, TUNGETIFF, &ifr) == 0 &&
	       (ifr.ifr_flags & (IFF_TUN | kind)) == kind &&
	       strncmp(ifr.ifr_name, name, sizeof(ifr.ifr_name)) == 0 &&
	       ioctl(fd, TUNGETVNETHDRSZ, &header) == 0 &&
	       header == sizeof(struct virtio_net_hdr_v1) && for_both(fd) && never_waits(fd);
}

bool passed_regular(int fd)
{
	struct stat st;

	return look(fd, &st) && S_ISREG(st.st_mode);
}

bool passed_writable(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return passed_regular(fd) && flags >= 0 &&
	       ((flags & O_ACCMODE) == O_WRONLY || (flags & O_ACCMODE) == O_RDWR);
}

bool passed_empty(int fd)
{
	struct stat st;

	return passed_regular(fd) && for_both(fd) && look(fd, &st) && st.st_size == 0;
}

bool passed_null(int fd)
{
	return is_device(fd, NULL_DEVICE) && for_both(fd);
}
