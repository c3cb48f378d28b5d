#include "vmm/vsock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/option_values.h"

/* Below are the host's and those with a meaning (virtio 1.2, 5.10.4). */
#define CID_MIN	      3
#define CID_MAX	      (UINT32_MAX - 1)
/* "_4294967295" has to fit behind the path. */
#define SUFFIX_MAX    11

/* The lock is held for some system calls, so a second is for ever. */
#define LOCK_TRIES    100
#define LOCK_RETRY_MS 10

int vsock_take_path(const char *name, const char *value, const char *path, struct vsock_option *out,
		    struct foal_error *err)
{
	if (strlen(path) + SUFFIX_MAX >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return option_bad(err, name, value, "the path is too long for a Unix socket");
	out->path = strdup(path);
	return out->path ? 0 : error_set(err, FOAL_EXIT_HOST, -ENOMEM, "run: out of memory");
}

bool vsock_is_cid(uint32_t cid)
{
	return cid >= CID_MIN && cid <= CID_MAX;
}

int vsock_make_cid(uint32_t *cid, struct foal_error *err)
{
	if (getrandom(cid, sizeof(*cid), 0) != sizeof(*cid))
		return error_set(err, FOAL_EXIT_HOST, -errno, "getrandom: %s", strerror(errno));
	*cid = CID_MIN + *cid % (CID_MAX - CID_MIN + 1);
	return 0;
}

int vsock_option_parse(const char *name, const char *value, struct vsock_option *out,
		       struct foal_error *err)
{
	enum { CID, PATH };
	static const char *const keys[] = {[CID] = "cid", [PATH] = "path", NULL};
	char *text = malloc(strlen(value) + 2);
	const char *words[2] = {NULL, NULL};
	int r;

	if (!text)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "run: out of memory");
	/* A field begins with a comma; here there is nothing before the first. */
	text[0] = ',';
	memcpy(text + 1, value, strlen(value) + 1);
	r = option_fields(name, text, keys, words, err);
	if (r)
		goto out;
	if (text[0] || !words[CID] || !words[PATH] || !words[PATH][0])
		r = option_bad(err, name, value, "give cid=N,path=SOCKET");
	else if (!(r = option_count("vsock cid", words[CID], CID_MIN, CID_MAX, &out->cid, err)))
		r = vsock_take_path(name, value, words[PATH], out, err);
out:
	free(text);
	return r;
}

/*
 * Is it a socket that nobody listens on any more? A connection to a file of any
 * other kind is refused, too, and that is somebody's file.
 */
static bool stale(const struct sockaddr_un *address)
{
	bool refused = false;
	struct stat st;

	if (lstat(address->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return false;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)))
		refused = errno == ECONNREFUSED;
	close(fd);
	return refused;
}

/* Whoever holds this alone looks at sockets in the directory of @path, and removes or binds them.
 */
int vsock_lock(const char *path)
{
	char directory[sizeof(((struct sockaddr_un *)0)->sun_path)];
	const char *slash = strrchr(path, '/');
	int fd, tries = LOCK_TRIES;

	if (!slash)
		strcpy(directory, ".");
	else
		snprintf(directory, sizeof(directory), "%.*s", (int)(slash - path + 1), path);
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (flock(fd, LOCK_EX | LOCK_NB)) {
		int r = -errno;

		if (r != -EWOULDBLOCK || tries-- == 0) {
			close(fd);
			return r;
		}
		poll(NULL, 0, LOCK_RETRY_MS);
	}
	return fd;
}

/* One that is bound and does not listen yet looks stale: with the lock held, nobody looks. */
static int bind_and_listen(int fd, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int r;

	memcpy(address.sun_path, path, strlen(path) + 1); /* short enough: vsock_take_path() */
	r = bind(fd, (struct sockaddr *)&address, sizeof(address));
	if (r && errno == EADDRINUSE && stale(&address)) {
		unlink(path);
		r = bind(fd, (struct sockaddr *)&address, sizeof(address));
	}
	return r || listen(fd, SOMAXCONN) ? -errno : 0;
}

static int listen_on(const char *path)
{
	int fd, r, lock = vsock_lock(path);

	if (lock < 0)
		return lock;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	r = fd < 0 ? -errno : bind_and_listen(fd, path);
	close(lock);
	if (r && fd >= 0)
		close(fd);
	return r ? r : fd;
}

static const char *why_not(int error)
{
	if (error == -EADDRINUSE)
		return "another program listens there, or it is another file";
	if (error == -EWOULDBLOCK)
		return "another program keeps its directory locked; give another directory";
	return error_text(error);
}

int vsock_open(struct vm_vsock *vsock, const struct vsock_option *option, struct helpers *helpers,
	       struct foal_error *err)
{
	const char *const argv[] = {"/proc/self/exe", "vsock-connect", option->path, NULL};
	int r;

	vsock->listener = listen_on(option->path);
	if (vsock->listener < 0)
		return error_set(err, FOAL_EXIT_HOST, vsock->listener, "--vsock path=%s: %s",
				 option->path, why_not(vsock->listener));
	r = helper_start(helpers, argv, "--vsock",
			 "the guest can begin no connection to the host any more",
			 &vsock->connector, err);
	/* Nobody is there to remove it at the end. */
	if (r)
		unlink(option->path);
	return r;
}

void vsock_close(struct vm_vsock *vsock)
{
	if (vsock->listener >= 0)
		close(vsock->listener);
	if (vsock->connector >= 0)
		close(vsock->connector);
	vsock->listener = vsock->connector = -1;
}
