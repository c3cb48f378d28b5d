/*
 * foal fork: bring a VM names, sockets and logs for more VMs, and hear from each that it runs.
 * What can be refused is before the VM stands still: a name that is taken, a file that is there.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/fork.h"
#include "vmm/memory_limit.h"
#include "vmm/remote.h"
#include "vmm/vm.h"

/* What the VM may take to answer: a pause, and memory that comes to rest. */
#define ANSWER_MS  20000
/* How many numbers are tried for one that is free. */
#define NUMBER_MAX 1000000u

struct one {
	char name[VM_NAME_SIZE];
	int files[FORK_FILES]; /* -1: passed on, or none */
	struct ends ends;
	json_t *said; /* what came of it; NULL: nothing yet */
};

struct forking {
	const struct remote_options *opt;
	const struct run_dir *dir;
	struct one *list;
	unsigned claimed, sent, heard;
	unsigned number; /* the next to be tried */
	int null, channel;
	uint64_t asked_ns;
	bool is_template;
	json_t *other; /* said of none of them */
};

/* --- names and files ------------------------------------------------------------------- */

static int bad_name(const struct forking *f, const char *name, const char *fault,
		    struct foal_error *err)
{
	return error_set(err, FOAL_EXIT_USAGE, -EINVAL, "%s: --name %s: no VM's name: %s",
			 f->opt->command, name, fault);
}

/* A name that is free, taken; *@number is what stands for its %. */
static int claim(struct forking *f, struct one *one, char number[16], struct foal_error *err)
{
	char pattern[VM_NAME_SIZE + 16];
	const char *given = f->opt->pattern;
	int r = -EEXIST;

	snprintf(pattern, sizeof(pattern), f->is_template ? "%s.template" : "%s.%%", f->opt->name);
	if (!given)
		given = pattern;
	while (r == -EEXIST && f->number < NUMBER_MAX) {
		snprintf(number, 16, "%u", ++f->number);
		if (!fill_in(given, number, one->name, sizeof(one->name)))
			return bad_name(f, given, "it is too long", err);
		const char *fault = vm_name_fault(one->name);
		if (fault)
			return bad_name(f, one->name, fault, err);
		r = name_try_claim(f->dir, one->name, &one->files[FORK_LOCK], err);
		if (r == -EEXIST && !strchr(given, '%'))
			break;
	}
	return r == -EEXIST
		   ? error_set(err, FOAL_EXIT_NAME, r,
			       "%s: a VM of this name runs already; foal ps lists them", one->name)
		   : r;
}

static int open_swap(const struct forking *f, struct one *one, const char *number,
		     struct foal_error *err)
{
	char path[4096];
	struct memory_limit limit = {.swap = path};

	if (!f->opt->swap)
		return 0;
	if (!fill_in(f->opt->swap, number, path, sizeof(path)))
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL, "%s: --swap: it is too long",
				 f->opt->command);
	return swap_open(&limit, &one->files[FORK_SWAP], err);
}

/* Its name, and what is said of its ends; how long, 0: it cannot be said. */
static size_t text_of(const struct forking *f, const struct one *one, char text[FORK_MESSAGE])
{
	size_t len = (size_t)snprintf(text, FORK_MESSAGE, "%s", one->name), more = 0;
	json_t *ends;

	if (!f->opt->ends.net_count && !f->opt->ends.vsock)
		return len;
	text[len++] = '\n';
	ends = ends_describe(&one->ends);
	if (ends)
		more = json_dumpb(ends, text + len, FORK_MESSAGE - len, JSON_COMPACT);
	json_decref(ends);
	return more && more <= FORK_MESSAGE - len ? len + more : 0;
}

static int prepare_one(struct forking *f, struct one *one, struct foal_error *err)
{
	char number[16] = "", text[FORK_MESSAGE];
	int r = claim(f, one, number, err);

	if (r)
		return r;
	f->claimed++;
	one->files[FORK_LISTEN] = name_listen(f->dir, one->name, err);
	if (one->files[FORK_LISTEN] < 0)
		return one->files[FORK_LISTEN];
	one->files[FORK_LOG] = name_log(f->dir, one->name);
	if (one->files[FORK_LOG] < 0)
		return error_set(err, FOAL_EXIT_HOST, one->files[FORK_LOG], "%s/%s.log: %s",
				 f->dir->path, one->name, error_text(one->files[FORK_LOG]));
	name_hand_over(f->dir, one->name);
	r = open_swap(f, one, number, err);
	if (r == 0)
		r = ends_open(&f->opt->ends, number, one->files[FORK_LOG], &one->ends, err);
	if (r == 0 && !text_of(f, one, text))
		r = error_set(err, FOAL_EXIT_USAGE, -EILSEQ, "%s: --vsock: the path is no UTF-8",
			      f->opt->command);
	return r;
}

/* Some descriptors each, all at once. */
static void allow_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int prepare(struct forking *f, struct foal_error *err)
{
	const struct remote_options *opt = f->opt;
	int r = 0;

	if (opt->count > 1 && ((opt->pattern && !strchr(opt->pattern, '%')) ||
			       (opt->swap && !strchr(opt->swap, '%'))))
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
				 "%s: of several VMs each has a name and files of its own: a "
				 "pattern with %% in it",
				 opt->command);
	if (ends_check(&opt->ends, opt->command, opt->count, err))
		return -EINVAL;
	allow_descriptors();
	f->list = calloc(opt->count, sizeof(*f->list));
	f->null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (!f->list || f->null < 0)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "%s: out of memory, or of files",
				 opt->command);
	for (unsigned i = 0; i < opt->count; i++)
		for (unsigned k = 0; k < FORK_FILES; k++)
			f->list[i].files[k] = -1;
	for (unsigned i = 0; i < opt->count && r == 0; i++)
		r = prepare_one(f, &f->list[i], err);
	return r;
}

static void close_files(struct one *one)
{
	for (unsigned i = 0; i < FORK_FILES; i++) {
		if (one->files[i] >= 0)
			close(one->files[i]);
		one->files[i] = -1;
	}
	ends_close(&one->ends);
}

/* --- the channel ----------------------------------------------------------------------- */

/* False: not now. */
static bool send_one(struct forking *f, struct one *one)
{
	unsigned count = f->opt->swap ? FORK_FILES : FORK_SWAP;
	int files[FORK_FILES_MAX];
	char text[FORK_MESSAGE];
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(files))];
	} control = {0};
	struct iovec iov = {text, text_of(f, one, text)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes};

	memcpy(files, one->files, sizeof(one->files));
	files[FORK_NULL] = f->null;
	count += ends_files(&one->ends, files + count);
	msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(cmsg), files, count * sizeof(int));
	if (sendmsg(f->channel, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return false;
	close_files(one); /* so that the lock is the VM's */
	return true;
}

static void send_more(struct forking *f)
{
	while (f->list && f->sent < f->opt->count && send_one(f, &f->list[f->sent]))
		f->sent++;
}

static struct one *one_of(struct forking *f, const char *name)
{
	for (unsigned i = 0; i < f->claimed; i++)
		if (strcmp(f->list[i].name, name) == 0 && !f->list[i].said)
			return &f->list[i];
	return NULL;
}

/* False: nothing comes any more. */
static bool hear_one(struct forking *f)
{
	char text[FORK_MESSAGE];
	ssize_t n = recv(f->channel, text, sizeof(text), MSG_DONTWAIT);
	json_t *said = n > 0 ? json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	struct one *one = said ? one_of(f, reply_text(said, "name")) : NULL;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	reply_make_printable(said);
	if (one) {
		one->said = said;
		f->heard++;
	} else if (said && !f->other) {
		f->other = said;
	} else {
		json_decref(said);
	}
	return n > 0;
}

/* Until each has said what came of it, or all are gone. */
static void converse(struct forking *f)
{
	bool goes_on = true;

	while (goes_on && f->heard < f->opt->count) {
		bool more = f->sent < f->opt->count;
		struct pollfd pfd = {.fd = f->channel,
				     .events = (short)(more ? POLLIN | POLLOUT : POLLIN)};

		if (poll(&pfd, 1, -1) < 0)
			continue;
		if (pfd.revents & (POLLIN | POLLHUP | POLLERR))
			goes_on = hear_one(f);
		if (pfd.revents & POLLOUT)
			send_more(f);
	}
}

static json_t *ask(struct forking *f, struct client *client, struct foal_error *err)
{
	json_t *members =
	    json_pack("{s:i, s:s, s:b}", "count", (int)f->opt->count, "clock",
		      f->opt->clock ? f->opt->clock : "freeze", "swap", f->opt->swap != NULL);
	json_t *reply;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) {
		error_set(err, FOAL_EXIT_HOST, -errno, "socketpair: %s", strerror(errno));
		json_decref(members);
		return NULL;
	}
	if (f->is_template) {
		json_object_set_new(members, "template", json_true());
		json_object_set_new(members, "pool", json_integer(f->opt->pool));
	}
	ends_request(&f->opt->ends, members);
	if (strcmp(f->opt->command, "clone") == 0)
		json_object_set_new(members, "clone", json_true());
	if (f->opt->reset_point)
		json_object_set_new(members, "reset_point", json_true());
	f->channel = ends[0];
	send_more(f);
	f->asked_ns = now_ns();
	reply = client_ask(client, "fork", members, ends[1], err);
	close(ends[1]);
	return reply;
}

/* --- the whole -------------------------------------------------------------------------------- */

static bool runs(const struct one *one)
{
	return one->said && json_is_true(json_object_get(one->said, "ok"));
}

static json_t *row_of(const struct forking *f, const struct one *one)
{
	unsigned long long forked = reply_number(one->said, "forked_at_ns");
	unsigned long long first = reply_number(one->said, "first_run_at_ns");

	if (runs(one) && f->is_template)
		return json_incref(one->said);
	if (!runs(one))
		return json_pack("{s:b, s:s, s:s}", "ok", 0, "name", one->name, "message",
				 one->said ? reply_text(one->said, "message") : "it ended early");
	return json_pack("{s:b, s:s, s:I, s:I, s:I}", "ok", 1, "name", one->name, "pid",
			 (json_int_t)reply_number(one->said, "pid"), "forked_ns",
			 (json_int_t)(forked - f->asked_ns), "first_run_ns",
			 (json_int_t)(first - f->asked_ns));
}

static void say(const struct forking *f, const json_t *reply)
{
	json_t *all = json_copy((json_t *)(uintptr_t)reply), *list = json_array();

	for (unsigned i = 0; i < f->opt->count; i++) {
		if (f->opt->json)
			json_array_append_new(list, row_of(f, &f->list[i]));
		else if (runs(&f->list[i]))
			printf("%s: %s, pid %llu\n", f->list[i].name,
			       f->is_template ? "template" : "running",
			       reply_number(f->list[i].said, "pid"));
	}
	json_object_set_new(all, "forks", list);
	if (f->opt->json)
		remote_print(all);
	else if (f->opt->dir || !json_object_get(reply, "paused_ns"))
		; /* nobody was */
	else if (json_is_true(json_object_get(reply, "was_paused")))
		printf("%s: was paused, and is\n", f->opt->name);
	else
		printf("%s: goes on; it was paused for %.3f ms\n", f->opt->name,
		       (double)reply_number(reply, "paused_ns") / 1e6);
	json_decref(all);
}

/* The first that does not run; the others go on. */
static void tell_failures(struct forking *f, struct foal_error *err)
{
	for (unsigned i = 0; i < f->opt->count && !err->status; i++) {
		const struct one *one = &f->list[i];

		if (!runs(one))
			error_set(err, FOAL_EXIT_CONTROL, -EREMOTEIO, "%s: not started: %s",
				  one->name,
				  one->said  ? reply_text(one->said, "message")
				  : f->other ? reply_text(f->other, "message")
					     : "its process, or that which forks it, was killed");
	}
}

static void end(struct forking *f)
{
	for (unsigned i = 0; i < f->claimed; i++) {
		close_files(&f->list[i]);
		if (!runs(&f->list[i]))
			name_tidy(f->dir, f->list[i].name);
		json_decref(f->list[i].said);
	}
	free(f->list);
	json_decref(f->other);
	if (f->null >= 0)
		close(f->null);
	if (f->channel >= 0)
		close(f->channel);
}

int remote_fork(const struct remote_options *opt, struct run_dir *dir, struct client *client)
{
	struct forking f = {.opt = opt,
			    .dir = dir,
			    .null = -1,
			    .channel = -1,
			    .is_template = strcmp(opt->command, "template") == 0};
	struct foal_error err = {0};
	json_t *reply = NULL;

	client->timeout_ms = ANSWER_MS;
	if (prepare(&f, &err) == 0)
		reply = ask(&f, client, &err);
	if (reply) {
		converse(&f);
		say(&f, reply);
		tell_failures(&f, &err);
	}
	json_decref(reply);
	end(&f);
	return remote_finish(&err, 0);
}

int command_fork(int argc, char **argv, uint64_t main_ns)
{
	(void)main_ns;
	return remote_serve(argc, argv, remote_fork);
}

int command_clone(int argc, char **argv, uint64_t main_ns)
{
	return command_fork(argc, argv, main_ns);
}
