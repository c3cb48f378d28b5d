/*
 * The connector of a vsock device: a process that opens PATH_PORT and nothing
 * else, so that the device's thread, which a guest may have taken over, needs no
 * right to connect to sockets of its choice.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/fd_passing.h"
#include "devices/vsock_connector.h"
#include "vmm/vsock.h"

/* A connected socket, or a negative errno. */
static int connect_to(const char *path, uint32_t port)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s_%u", path, port);
	int fd, error;

	if (n < 0 || (size_t)n >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	/* Who has a full backlog is busy: nobody here waits for it. */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	error = errno;
	close(fd);
	return -error;
}

static bool give(uint32_t tag, int fd)
{
	struct vsock_answer answer = {.tag = tag, .error = fd < 0 ? fd : 0};

	return fd_send(HELPER_FD, &answer, sizeof(answer), 0, fd) == sizeof(answer);
}

/*
 * Remove the listener's file, unless it is another's by now: of the next foal
 * that found nobody listening. @held keeps its inode number from being used again.
 */
static void remove_own(const char *path, int held)
{
	struct stat own, there;
	int lock = vsock_lock(path);

	/* Left over it does no harm. */
	if (lock < 0)
		return;
	if (held >= 0 && fstat(held, &own) == 0 && S_ISSOCK(own.st_mode) &&
	    lstat(path, &there) == 0 && own.st_dev == there.st_dev && own.st_ino == there.st_ino)
		unlink(path);
	close(lock);
}

int command_vsock_connect(int argc, char **argv, uint64_t main_ns)
{
	struct vsock_ask ask;
	bool going = true;

	(void)main_ns;
	if (argc != 2)
		return usage_error("vsock-connect: for foal run --vsock, not for users");
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	int held = open(argv[1], O_PATH | O_NOFOLLOW | O_CLOEXEC);
	while (going && recv(HELPER_FD, &ask, sizeof(ask), MSG_WAITALL) == sizeof(ask)) {
		int fd = connect_to(argv[1], ask.port);

		going = give(ask.tag, fd);
		if (fd >= 0)
			close(fd);
	}
	/* foal itself can remove nothing by then. */
	remove_own(argv[1], held);
	return 0;
}
