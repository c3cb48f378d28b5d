/* foal console: a terminal, or pipes, to a VM's console and back. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/console.h"
#include "vmm/remote.h"
#include "vmm/run.h"

#define LEAVE	  0x1d /* Ctrl-] */
#define TYPED_MAX 256  /* at once */

struct attachment {
	int fd;		 /* the stream */
	bool terminal;	 /* standard input is one: Ctrl-] leaves */
	bool typing;	 /* standard input has not ended */
	bool left;	 /* by the key, or by a signal */
	size_t count;	 /* of keys */
	char keys[4096]; /* typed, not yet taken by the VM, which may be paused */
};

static bool write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

/* False: the VM is gone, or nobody reads us. */
static bool show(struct attachment *at)
{
	char buf[4096];
	ssize_t n = read(at->fd, buf, sizeof(buf));

	return n > 0 ? write_all(STDOUT_FILENO, buf, (size_t)n) : n < 0 && errno == EINTR;
}

/* As much as the VM takes without waiting; and the end of it, once that is all. */
static void send_typed(struct attachment *at)
{
	ssize_t n = 0;

	if (at->count)
		n = send(at->fd, at->keys, at->count, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		n = (ssize_t)at->count; /* it is gone, which show() will hear */
	if (n > 0) {
		at->count -= (size_t)n;
		memmove(at->keys, at->keys + n, at->count);
	}
	if (at->count == 0 && !at->typing)
		shutdown(at->fd, SHUT_WR); /* what the guest says is still of interest */
}

/* What there is no room for is dropped: on a terminal, where the key that leaves must be seen. */
static void take_typed(struct attachment *at)
{
	size_t room = sizeof(at->keys) - at->count;
	char buf[TYPED_MAX];
	ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));
	const char *key;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	at->typing = n > 0;
	key = at->terminal && n > 0 ? memchr(buf, LEAVE, (size_t)n) : NULL;
	if (key) {
		n = key - buf;
		at->left = true;
	}
	if (n > 0) {
		size_t len = (size_t)n < room ? (size_t)n : room;
		memcpy(at->keys + at->count, buf, len);
		at->count += len;
	}
	send_typed(at);
}

/* False: the stream has ended. */
static bool one_round(struct attachment *at, int signals)
{
	bool takes = at->typing && (at->terminal || at->count + TYPED_MAX <= sizeof(at->keys));
	struct pollfd fds[] = {
	    {.fd = at->fd, .events = (short)(at->count ? POLLIN | POLLOUT : POLLIN)},
	    {.fd = takes ? STDIN_FILENO : -1, .events = POLLIN},
	    {.fd = signals, .events = POLLIN}};

	if (poll(fds, 3, -1) < 0)
		return errno == EINTR;
	if (fds[2].revents)
		at->left = true;
	if (fds[0].revents & POLLOUT)
		send_typed(at);
	if (fds[1].revents)
		take_typed(at);
	return !(fds[0].revents & ~POLLOUT) || show(at);
}

static int follow(struct attachment *at)
{
	sigset_t set = ending_signals();
	struct console terminal;
	int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);

	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	console_open(&terminal);
	while (!at->left && one_round(at, signals))
		;
	console_restore();
	if (at->left && at->terminal)
		notice("left the console; the VM goes on");
	if (signals >= 0)
		close(signals);
	return 0;
}

int console_attach(struct client *client, struct foal_error *err)
{
	struct attachment at = {.terminal = isatty(STDIN_FILENO), .typing = true};
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return error_set(err, FOAL_EXIT_HOST, -errno, "socketpair: %s", strerror(errno));
	json_t *reply = client_ask(client, "console", NULL, ends[1], err);
	close(ends[1]);
	at.fd = ends[0];
	int status = reply ? follow(&at) : 0;
	json_decref(reply);
	close(ends[0]);
	return status;
}
