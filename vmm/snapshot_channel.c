#include "vmm/snapshot_channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/fd_passing.h"

void channel_close(struct passed *passed)
{
	while (passed->count)
		close(passed->fds[--passed->count]);
}

static void keep(struct passed *passed, const struct cmsghdr *cmsg)
{
	size_t len = cmsg->cmsg_len - CMSG_LEN(0);

	if (!brings_fds(cmsg))
		return;
	for (size_t at = 0; at + sizeof(int) <= len && passed->count <= SNAPSHOT_FILES_MAX;
	     at += sizeof(int))
		memcpy(&passed->fds[passed->count++], CMSG_DATA(cmsg) + at, sizeof(int));
}

bool channel_receive(int channel, struct passed *passed)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(passed->fds))];
	} control;
	char text[SNAPSHOT_MESSAGE];
	struct iovec iov = {text, sizeof(text)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	ssize_t n = recvmsg(channel, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	struct cmsghdr *cmsg = n >= 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	passed->count = 0;
	for (; cmsg; cmsg = CMSG_NXTHDR(&msg, cmsg))
		keep(passed, cmsg);
	return passed->count > 0;
}

int channel_send(int channel, const char *word, const int *fds, unsigned count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(SNAPSHOT_FILES_MAX * sizeof(int))];
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t)word, strlen(word)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (count) {
		struct cmsghdr *cmsg;

		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, count * sizeof(int));
	}
	return sendmsg(channel, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}
