/*
 * foal snapshot: bring a VM the files of a snapshot, wait until it has filled them, and give
 * the whole its name. Until then it is DIR.tmp-XXXXXX; a crash leaves what DIR was.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/pagemap.h"
#include "vmm/remote.h"
#include "vmm/run.h"
#include "vmm/snapshot_channel.h"
#include "vmm/snapshot_dir.h"
#include "vmm/snapshot_out.h"

/* What the VM may take to answer: a pause, and memory that comes to rest. */
#define ANSWER_MS   20000
#define PROGRESS_MS 200
/* Bytes of a path that a request has room for. */
#define DIR_MAX	    3000

struct writing {
	const struct remote_options *opt;
	const char *name;
	struct snapshot_out out;
	int channel;
	pid_t writer;		    /* who sent the last message on it, by the kernel */
	int writer_fd;		    /* a pidfd of the child that writes, or -1 */
	struct snapshot_dir parent; /* of a difference */
	struct run_options machine;
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

/* --- a parent ------------------------------------------------------------------------------ */

static int wrong_parent(const struct writing *w, const char *path, const char *what,
			struct foal_error *err)
{
	return error_set(err, FOAL_EXIT_SNAPSHOT, -EINVAL, "%s: no difference to %s: %s", w->out.to,
			 path, what);
}

static int open_parent(struct writing *w, const json_t *machine, struct foal_error *err)
{
	const char *last = json_string_value(json_object_get(machine, "snapshot"));
	const char *path = w->opt->parent ? w->opt->parent : last;

	if (!path)
		return error_set(
		    err, FOAL_EXIT_CONTROL, -ENOENT,
		    "%s: --diff: this run of it was not restored, and no snapshot of it "
		    "taken yet; say which one it is to be the difference to",
		    w->name);
	int r = snapshot_open(&w->parent, path, &w->machine, err);
	if (r)
		return r;
	if (!snapshot_dir_same_machine(&w->parent, json_object_get(machine, "machine"),
				       json_object_get(machine, "files")))
		return wrong_parent(w, path, "that is of another machine, or other files", err);
	if (snapshot_dir_in_chain(&w->parent, w->out.to))
		return wrong_parent(w, path, "which it would replace; give another name", err);
	unsigned depth = 1;
	for (const struct snapshot_dir *dir = &w->parent; dir->below; dir = dir->below)
		depth++;
	return depth < SNAPSHOT_CHAIN_MAX
		   ? 0
		   : wrong_parent(w, path, "too many are differences there; merge it first", err);
}

/* What the child needs of one: its index, and its layers. */
static int send_parent(const struct writing *w, const struct snapshot_dir *dir,
		       struct foal_error *err)
{
	int fds[SNAPSHOT_FILES_MAX], r;
	unsigned n = 0;

	fds[n] = snapshot_dir_part(dir, 1, w->out.layers, err);
	if (fds[n++] < 0)
		return -EINVAL;
	for (unsigned i = 0; i < MAX_FILES; i++)
		if (dir->layers[i] >= 0)
			fds[n++] = dir->layers[i];
	r = channel_send(w->channel, "parent", fds, n);
	close(fds[0]);
	return r ? snapshot_out_fail(&w->out, r, err) : 0;
}

/* The child's page map, that it looks only at pages which are there. Not needed for being right. */
static void give_pagemap(const struct writing *w)
{
	int fd = pagemap_of(w->writer);

	channel_send(w->channel, "pagemap", &fd, fd >= 0);
	if (fd >= 0)
		close(fd);
}

/* --- the request ------------------------------------------------------------------------------ */

/* The messages wait at the other end, which the request brings. */
static int fill_channel(struct writing *w, int *theirs, unsigned *parents, struct foal_error *err)
{
	int ends[2], one = 1, r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return snapshot_out_fail(&w->out, -errno, err);
	setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &one, sizeof(one));
	w->channel = ends[0];
	*theirs = ends[1];
	r = channel_send(w->channel, "files", w->out.files, w->out.count);
	if (r)
		return snapshot_out_fail(&w->out, r, err);
	for (const struct snapshot_dir *dir = w->opt->diff ? &w->parent : NULL; dir && r == 0;
	     dir = dir->below, (*parents)++)
		r = send_parent(w, dir, err);
	return r;
}

/* Where it will be, from anywhere; NULL: no memory. */
static char *whole_path(const struct snapshot_out *out)
{
	char *place = realpath(out->parent, NULL), *path = NULL;
	size_t len;
	const char *name = snapshot_out_name(out->to, &len);

	if (!place || asprintf(&path, "%s/%.*s", place, (int)len, name) < 0)
		path = NULL;
	free(place);
	return path;
}

static json_t *request_of(const struct writing *w, unsigned parents)
{
	json_t *members = json_pack("{s:b, s:i}", "pagemap", 1, "parents", (int)parents);
	char *dir = whole_path(&w->out);

	if (w->opt->compress)
		json_object_set_new(members, "compress", json_string(w->opt->compress));
	/* For the next --diff; one that does not fit into a request, or is no UTF-8, is not kept.
	 */
	if (dir && strlen(dir) < DIR_MAX)
		json_object_set_new(members, "dir", json_string(dir));
	free(dir);
	return members;
}

static json_t *ask(struct writing *w, struct client *client, struct foal_error *err)
{
	unsigned parents = 0;
	int theirs = -1, r = fill_channel(w, &theirs, &parents, err);
	json_t *reply = NULL;

	if (r == 0)
		reply = client_ask(client, "snapshot", request_of(w, parents), theirs, err);
	if (theirs >= 0)
		close(theirs);
	return reply;
}

/* On a terminal: what is written so far. */
static void show_progress(const struct writing *w, bool done)
{
	struct stat st;

	if (!isatty(STDERR_FILENO) || fstat(w->out.files[0], &st))
		return;
	fprintf(stderr, "\r%s: %llu MiB of memory written%s", w->name,
		(unsigned long long)st.st_blocks >> 11, done ? "\r\033[K" : " ...");
}

/* A message, and who sent it: what that one says of itself does not count. */
static ssize_t receive(struct writing *w, char *text, size_t size)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec iov = {text, size};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	ssize_t n = recvmsg(w->channel, &msg, MSG_CMSG_CLOEXEC);
	struct cmsghdr *cmsg = n >= 0 ? CMSG_FIRSTHDR(&msg) : NULL;
	struct ucred sender = {0};

	if (cmsg && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_CREDENTIALS &&
	    cmsg->cmsg_len == CMSG_LEN(sizeof(sender)))
		memcpy(&sender, CMSG_DATA(cmsg), sizeof(sender));
	w->writer = sender.pid;
	return n;
}

/* The next message of the child, or NULL. */
static json_t *next_message(struct writing *w, struct foal_error *err)
{
	struct pollfd pfd = {.fd = w->channel, .events = POLLIN};
	char text[SNAPSHOT_MESSAGE];
	json_t *said;
	ssize_t n;
	int r;

	while ((r = poll(&pfd, 1, PROGRESS_MS)) <= 0 && !interrupted)
		show_progress(w, false);
	if (r <= 0) {
		error_set(err, (enum foal_exit)(FOAL_EXIT_SIGNAL + interrupted), -EINTR,
			  "%s: interrupted; nothing of the snapshot is kept", w->out.to);
		return NULL;
	}
	n = receive(w, text, sizeof(text));
	said = n > 0 ? json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	if (!said)
		error_set(
		    err, FOAL_EXIT_CONTROL, -EPIPE,
		    "%s: the process that wrote the snapshot has ended early; nothing of it is "
		    "kept",
		    w->name);
	return said;
}

/* Its descriptors are closed before it has ended: until then the VM refuses another snapshot. */
static void wait_for_writer(const struct writing *w)
{
	struct pollfd pfd = {.fd = w->writer_fd, .events = POLLIN};

	if (w->writer_fd >= 0)
		poll(&pfd, 1, ANSWER_MS);
}

/* What the child says in the end, or NULL. */
static json_t *hear(struct writing *w, struct foal_error *err)
{
	json_t *said = next_message(w, err);
	char text[SNAPSHOT_MESSAGE];

	while (said && json_object_get(said, "child")) {
		if (w->writer_fd < 0)
			w->writer_fd = (int)syscall(SYS_pidfd_open, w->writer, 0);
		give_pagemap(w);
		json_decref(said);
		said = next_message(w, err);
	}
	show_progress(w, true);
	if (said && !json_is_true(json_object_get(said, "ok")))
		error_set(err, FOAL_EXIT_CONTROL, -EREMOTEIO, "%s", reply_text(said, "message"));
	if (said && err->status) {
		json_decref(said);
		return NULL;
	}
	/* Gone is who wrote it, too. */
	while (said && recv(w->channel, text, sizeof(text), 0) > 0)
		;
	if (said)
		wait_for_writer(w);
	return said;
}

/* --- the whole -------------------------------------------------------------------------------- */

static void say(const struct writing *w, const json_t *reply, const json_t *written, bool json)
{
	const json_t *memory = json_object_get(written, "memory");

	if (json) {
		json_t *all = json_copy((json_t *)(uintptr_t)reply);
		json_object_update(all, (json_t *)(uintptr_t)written);
		json_object_set_new(all, "dir", json_string(w->out.to));
		remote_print(all);
		json_decref(all);
		return;
	}
	printf("%s: %s: %.1f MiB of memory in %llu extents", w->name, w->out.to,
	       (double)reply_number(memory, "stored_bytes") / (1 << 20),
	       reply_number(memory, "extents"));
	if (w->opt->diff)
		printf(" more than %s", w->parent.path);
	printf("; ");
	if (json_is_true(json_object_get(reply, "was_paused")))
		printf("the guest was paused, and is\n");
	else
		printf("the guest was paused for %.3f ms\n",
		       (double)reply_number(reply, "paused_ns") / 1e6);
}

/* Of all that is there: its manifest, and its name. */
static int finish(struct writing *w, const json_t *machine, json_t *written, struct foal_error *err)
{
	int r;

	if (w->opt->diff)
		json_object_set_new(written, "parent",
				    snapshot_dir_as_parent(&w->parent, w->out.to));
	r = snapshot_dir_write(w->out.fd, json_object_get(machine, "machine"),
			       json_object_get(machine, "files"), written, w->out.layers);
	return r ? snapshot_out_fail(&w->out, r, err) : snapshot_out_commit(&w->out, err);
}

static int write_snapshot(struct writing *w, struct client *client, struct foal_error *err)
{
	json_t *machine = client_ask(client, "machine", NULL, -1, err), *reply = NULL,
	       *written = NULL;
	int r = machine ? 0 : -EREMOTEIO;

	if (r == 0)
		r = snapshot_out_open(&w->out, w->opt->dir,
				      count_layers(json_object_get(machine, "machine")), err);
	if (r == 0 && w->opt->diff)
		r = open_parent(w, machine, err);
	if (r == 0)
		r = (reply = ask(w, client, err)) ? 0 : -EREMOTEIO;
	if (r == 0)
		r = (written = hear(w, err)) ? 0 : -EREMOTEIO;
	if (r == 0)
		r = finish(w, machine, written, err);
	if (r == 0)
		say(w, reply, written, w->opt->json);
	json_decref(machine);
	json_decref(reply);
	json_decref(written);
	return r;
}

static int snapshot(const struct remote_options *opt, struct run_dir *dir, struct client *client)
{
	struct writing w = {
	    .opt = opt, .name = opt->name, .out = {.fd = -1}, .channel = -1, .writer_fd = -1};
	struct foal_error err = {0};

	(void)dir;
	client->timeout_ms = ANSWER_MS;
	snapshot_dir_init(&w.parent);
	options_defaults(&w.machine);
	catch_signals();
	write_snapshot(&w, client, &err);
	snapshot_out_close(&w.out);
	snapshot_dir_close(&w.parent);
	options_free(&w.machine);
	if (w.channel >= 0)
		close(w.channel);
	if (w.writer_fd >= 0)
		close(w.writer_fd);
	return remote_finish(&err, 0);
}

int command_snapshot(int argc, char **argv, uint64_t main_ns)
{
	(void)main_ns;
	if (argc > 1 && strcmp(argv[1], "merge") == 0)
		return snapshot_merge(argc - 1, argv + 1);
	return remote_serve(argc, argv, snapshot);
}
