/*
 * Records over a stream socket that one descriptor may come with (unix(7),
 * SCM_RIGHTS): to helpers and from them. Inline, as foal-nbd is a program without
 * the archives.
 */
#ifndef FOAL_DEVICES_FD_PASSING_H
#define FOAL_DEVICES_FD_PASSING_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SCM_PIDFD /* Linux 6.5's, which Debian 12's header lacks */
#	define SCM_PIDFD 4
#endif

/*
 * Of a socket that the other end made: it may have asked for what nobody sends (SO_PASSCRED,
 * SO_PASSPIDFD).
 */
static inline bool brings_fds(const struct cmsghdr *cmsg)
{
	return cmsg->cmsg_level == SOL_SOCKET &&
	       (cmsg->cmsg_type == SCM_RIGHTS || cmsg->cmsg_type == SCM_PIDFD);
}

/* As sendmsg(2), never with a signal; @fd -1: none. It stays the caller's. */
static inline ssize_t fd_send(int socket, const void *record, size_t len, int flags, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t)record, len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *cmsg;

	if (fd >= 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	}
	return sendmsg(socket, &msg, flags | MSG_NOSIGNAL);
}

/*
 * As recvmsg(2). *@fd is the caller's from now on, close-on-exec, also with half a
 * record or an error; -1: none came. Of several the kernel closes all but the first.
 */
static inline ssize_t fd_recv(int socket, void *record, size_t len, int flags, int *fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {record, len};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     /* One descriptor; with the padding there would be room for two. */
			     .msg_controllen = CMSG_LEN(sizeof(int))};
	ssize_t n = recvmsg(socket, &msg, flags | MSG_CMSG_CLOEXEC);
	struct cmsghdr *cmsg = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	*fd = -1;
	if (!cmsg || !brings_fds(cmsg) || cmsg->cmsg_len != CMSG_LEN(sizeof(int)))
		return n;
	memcpy(fd, CMSG_DATA(cmsg), sizeof(*fd));
	if (cmsg->cmsg_type == SCM_RIGHTS)
		return n;
	close(*fd); /* the sender's pidfd, which nobody sent */
	*fd = -1;
	return n;
}

#endif
