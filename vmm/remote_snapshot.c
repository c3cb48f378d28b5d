/*
 * foal snapshot: bring a VM the files of a snapshot, wait until it has filled them, and give
 * the whole its name. Until then it is DIR.tmp-XXXXXX; a crash leaves what DIR was.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/remote.h"
#include "vmm/snapshot.h"
#include "vmm/snapshot_dir.h"
#include "vmm/vm.h"

/* What the VM may take to answer: a pause, and memory that comes to rest. */
#define ANSWER_MS   20000
#define PROGRESS_MS 200

struct writing {
	const char *name, *to;
	char *path, *parent; /* of the directory while it is written; of what it lies in */
	int fd;		     /* of it */
	unsigned layers;
	int files[SNAPSHOT_FILES_MAX];
	unsigned count;
	int channel;
	bool replaces;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int signal)
{
	interrupted = signal;
}

static void catch_signals(void)
{
	static const int ending[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action = {.sa_handler = on_signal};

	for (unsigned i = 0; i < 3; i++)
		sigaction(ending[i], &action, NULL);
}

static int fail(const struct writing *w, int r, struct foal_error *err)
{
	return error_set(err, FOAL_EXIT_SNAPSHOT, r, "%s: %s; nothing of the snapshot is kept",
			 w->to, strerror(-r));
}

/* --- the directory ------------------------------------------------------------------------------
 */

/* Only a snapshot may be replaced by one. */
static int look_at_target(struct writing *w, size_t len, struct foal_error *err)
{
	char path[4096];
	struct stat st;

	/* What it leads to would be emptied in place of what is replaced. */
	snprintf(path, sizeof(path), "%.*s", (int)len, w->to);
	if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
		return error_set(err, FOAL_EXIT_SNAPSHOT, -ELOOP,
				 "%s: is a symbolic link; give the directory itself", w->to);
	snprintf(path, sizeof(path), "%s/" SNAPSHOT_MANIFEST, w->to);
	w->replaces = stat(w->to, &st) == 0;
	if (!w->replaces || stat(path, &st) == 0)
		return 0;
	return error_set(err, FOAL_EXIT_SNAPSHOT, -EEXIST,
			 "%s: is there already, and is no snapshot; give another name", w->to);
}

static int make_directory(struct writing *w, struct foal_error *err)
{
	size_t len = strlen(w->to);
	char *slash;

	while (len > 1 && w->to[len - 1] == '/')
		len--;
	int r = look_at_target(w, len, err);
	if (r)
		return r;
	if (asprintf(&w->path, "%.*s.tmp-XXXXXX", (int)len, w->to) < 0 ||
	    asprintf(&w->parent, "%.*s", (int)len, w->to) < 0)
		return fail(w, -ENOMEM, err);
	slash = strrchr(w->parent, '/');
	if (slash)
		slash[slash == w->parent] = 0;
	else
		memcpy(w->parent, ".", 2);
	if (!mkdtemp(w->path)) {
		r = -errno;
		free(w->path);
		w->path = NULL;
		return fail(w, r, err);
	}
	w->fd = open(w->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return w->fd < 0 ? fail(w, -errno, err) : 0;
}

static int make_files(struct writing *w, struct foal_error *err)
{
	const char *name;

	while ((name = snapshot_part(w->count, w->layers))) {
		int fd = openat(w->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd < 0)
			return fail(w, -errno, err);
		w->files[w->count++] = fd;
	}
	return 0;
}

static void remove_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	const char *name;

	if (fd < 0)
		return;

	for (unsigned i = 0; (name = snapshot_part(i, MAX_FILES)); i++)
		unlinkat(fd, name, 0);
	unlinkat(fd, SNAPSHOT_MANIFEST, 0);
	unlinkat(fd, SNAPSHOT_WORKING_SET, 0);
	close(fd);
	rmdir(path);
}

/* From here on it is there, whatever happens. */
static int give_name(struct writing *w, struct foal_error *err)
{
	int parent, r = 0;

	if (renameat2(AT_FDCWD, w->path, AT_FDCWD, w->to,
		      w->replaces ? RENAME_EXCHANGE : RENAME_NOREPLACE))
		return fail(w, -errno, err);
	parent = open(w->parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (parent < 0 || fsync(parent))
		r = error_set(err, FOAL_EXIT_SNAPSHOT, -errno,
			      "%s: it is written, but its name may not last: %s: %s", w->to,
			      w->parent, strerror(errno));
	if (parent >= 0)
		close(parent);
	if (r == 0 && w->replaces)
		remove_directory(w->path); /* what it replaced */
	free(w->path);
	w->path = NULL;
	return r;
}

/* --- what the VM is asked ------------------------------------------------------------------- */

static unsigned count_layers(const json_t *machine)
{
	const json_t *options = json_object_get(machine, "options"), *one;
	unsigned n = 0;
	size_t i;

	json_array_foreach(options, i, one)
	{
		const char *name = json_string_value(json_array_get(one, 0));
		const char *value = json_string_value(json_array_get(one, 1));
		if (name && value && strcmp(name, "disk") == 0 && strstr(value, ",mode=cow"))
			n++;
	}
	return n < MAX_FILES ? n : MAX_FILES;
}

/* The message waits at the other end, which the request brings. */
static int fill_channel(struct writing *w, int *theirs)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(w->files))];
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t) "files", 5};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = CMSG_SPACE(w->count * sizeof(int))};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return -errno;
	w->channel = ends[0];
	*theirs = ends[1];
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(w->count * sizeof(int));
	memcpy(CMSG_DATA(cmsg), w->files, w->count * sizeof(int));
	return sendmsg(w->channel, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static json_t *ask(struct writing *w, struct client *client, struct foal_error *err)
{
	int theirs = -1, r = fill_channel(w, &theirs);
	json_t *reply = NULL;

	if (r)
		fail(w, r, err);
	else
		reply = client_ask(client, "snapshot", NULL, theirs, err);
	if (theirs >= 0)
		close(theirs);
	return reply;
}

/* On a terminal: what is written so far. */
static void show_progress(const struct writing *w, bool done)
{
	struct stat st;

	if (!isatty(STDERR_FILENO) || fstat(w->files[0], &st))
		return;
	fprintf(stderr, "\r%s: %llu MiB of memory written%s", w->name,
		(unsigned long long)st.st_blocks >> 11, done ? "\r\033[K" : " ...");
}

/* What the child says in the end, or NULL. */
static json_t *hear(struct writing *w, struct foal_error *err)
{
	struct pollfd pfd = {.fd = w->channel, .events = POLLIN};
	char text[SNAPSHOT_MESSAGE];
	json_t *said;
	ssize_t n;
	int r;

	while ((r = poll(&pfd, 1, PROGRESS_MS)) <= 0 && !interrupted)
		show_progress(w, false);
	show_progress(w, true);
	if (r <= 0) {
		error_set(err, (enum foal_exit)(FOAL_EXIT_SIGNAL + interrupted), -EINTR,
			  "%s: interrupted; nothing of the snapshot is kept", w->to);
		return NULL;
	}
	n = recv(w->channel, text, sizeof(text), 0);
	said = n > 0 ? json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	if (!said)
		error_set(
		    err, FOAL_EXIT_CONTROL, -EPIPE,
		    "%s: the process that wrote the snapshot has ended early; nothing of it is "
		    "kept",
		    w->name);
	else if (!json_is_true(json_object_get(said, "ok")))
		error_set(err, FOAL_EXIT_CONTROL, -EREMOTEIO, "%s", reply_text(said, "message"));
	if (said && err->status) {
		json_decref(said);
		return NULL;
	}
	/* Gone is who wrote it, too. */
	while (said && recv(w->channel, text, sizeof(text), 0) > 0)
		;
	return said;
}

/* --- the whole -------------------------------------------------------------------------------- */

static void say(const struct writing *w, const json_t *reply, const json_t *written, bool json)
{
	const json_t *memory = json_object_get(written, "memory");

	if (json) {
		json_t *all = json_copy((json_t *)(uintptr_t)reply);
		json_object_update(all, (json_t *)(uintptr_t)written);
		json_object_set_new(all, "dir", json_string(w->to));
		remote_print(all);
		json_decref(all);
		return;
	}
	printf("%s: %s: %.1f MiB of memory in %llu extents; ", w->name, w->to,
	       (double)reply_number(memory, "stored_bytes") / (1 << 20),
	       reply_number(memory, "extents"));
	if (json_is_true(json_object_get(reply, "was_paused")))
		printf("the guest was paused, and is\n");
	else
		printf("the guest was paused for %.3f ms\n",
		       (double)reply_number(reply, "paused_ns") / 1e6);
}

static int write_snapshot(struct writing *w, struct client *client, bool json,
			  struct foal_error *err)
{
	json_t *machine = client_ask(client, "machine", NULL, -1, err), *reply = NULL,
	       *written = NULL;
	int r = machine ? 0 : -EREMOTEIO;

	if (r == 0) {
		w->layers = count_layers(json_object_get(machine, "machine"));
		r = make_directory(w, err);
	}
	if (r == 0)
		r = make_files(w, err);
	if (r == 0)
		r = (reply = ask(w, client, err)) ? 0 : -EREMOTEIO;
	if (r == 0)
		r = (written = hear(w, err)) ? 0 : -EREMOTEIO;
	if (r == 0) {
		r = snapshot_dir_write(w->fd, json_object_get(machine, "machine"),
				       json_object_get(machine, "files"), written, w->layers);
		if (r)
			fail(w, r, err);
	}
	if (r == 0)
		r = give_name(w, err);
	if (r == 0)
		say(w, reply, written, json);
	json_decref(machine);
	json_decref(reply);
	json_decref(written);
	return r;
}

static void end(struct writing *w)
{
	if (w->path)
		remove_directory(w->path);
	free(w->path);
	free(w->parent);
	while (w->count)
		close(w->files[--w->count]);
	if (w->fd >= 0)
		close(w->fd);
	if (w->channel >= 0)
		close(w->channel);
}

static int snapshot(const struct remote_options *opt, struct run_dir *dir, struct client *client)
{
	struct foal_error err = {0};
	struct writing w = {.name = opt->name, .to = opt->dir, .fd = -1, .channel = -1};

	(void)dir;
	client->timeout_ms = ANSWER_MS;
	catch_signals();
	write_snapshot(&w, client, opt->json, &err);
	end(&w);
	return remote_finish(&err, 0);
}

int command_snapshot(int argc, char **argv, uint64_t main_ns)
{
	(void)main_ns;
	return remote_serve(argc, argv, snapshot);
}
