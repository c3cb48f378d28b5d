/*
 * The thread that serves the control socket: who may come in, whose turn it is, who
 * took too long. It waits in poll() alone, but for a pause, which has a limit.
 */
#include "vmm/control.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "vmm/stats.h"
#include "vmm/template.h"
#include "vmm/vm.h"

/* How soon to offer typed characters again to a console that is full. */
#define RETYPE_MS      10
/* How soon to look for clients again where no descriptor was left for one. */
#define ACCEPT_WAIT_NS 100000000ULL
/* How often patience is looked at. */
#define LOOK_MS	       1000
/* How long clients may take to hear of the end. */
#define END_NS	       1000000000ULL
/* And the thread to be gone, which may be reading what the host's kernel holds on to. */
#define END_PATIENCE_S 5

/* --- clients come in --------------------------------------------------------------------- */

static bool may_come(const struct control *control, int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		return false;
	return peer.uid == 0 || peer.uid == control->uid;
}

static struct conn *free_place(struct control *control)
{
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		if (control->conns[i].fd < 0)
			return &control->conns[i];
	return NULL;
}

static json_t *greeting(const struct control *control)
{
	return json_pack("{s:s,s:i,s:s,s:i}", "foal", "control", "version", CONTROL_VERSION, "name",
			 control->vm->opt->name, "pid", (int)control->pid);
}

/* One line, and the door: its socket is empty, so the line fits. */
static void turn_away(int fd, enum control_error code, const char *text, uint64_t now)
{
	struct conn conn;

	conn_open(&conn, fd, now);
	conn.closing = true;
	conn_send(&conn, conn_error(NULL, code, text), now);
	conn_close(&conn);
}

static void let_in(struct control *control, uint64_t now)
{
	int fd = accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct conn *place = free_place(control);

	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			control->accept_after = now + ACCEPT_WAIT_NS;
		return;
	}
	if (!may_come(control, fd)) {
		turn_away(fd, CONTROL_ERROR_DENIED, "only who started the VM, and root, may", now);
	} else if (!place) {
		turn_away(fd, CONTROL_ERROR_BUSY, "16 clients are connected already", now);
	} else {
		conn_open(place, fd, now);
		conn_send(place, greeting(control), now);
		place->deadline = now + CONN_PATIENCE_NS;
	}
}

/* --- clients ask -------------------------------------------------------------------------- */

static void serve_line(struct control *control, struct conn *conn, size_t len)
{
	struct control_request request;
	struct control_fault fault;

	if (control_request_parse(conn->in, len, &request, &fault))
		conn_send(conn, conn_error(request.id, fault.code, fault.text), now_ns());
	else
		control_serve(control, conn, &request);
	control_request_free(&request);
}

static void serve_conn(struct control *control, struct conn *conn, short events)
{
	size_t len;
	bool more = conn_ready(conn, events, now_ns(), &len);

	while (more) {
		serve_line(control, conn, len);
		more = conn_next_line(conn, &len, now_ns());
	}
}

/* --- the thread --------------------------------------------------------------------------- */

#define FDS (2 + CONTROL_CLIENTS + CONTROL_STREAMS)

static int timeout(struct control *control, bool typed_left, uint64_t now)
{
	int ms = typed_left ? RETYPE_MS : LOOK_MS, stop = control_stop_timeout(control, now);
	int pool = template_timeout(control->vm);
	bool idle = !typed_left && stop < 0 && now >= control->accept_after &&
		    !control->snapshot.pid && !control->fork.pid;

	for (int i = 0; i < CONTROL_CLIENTS; i++)
		idle &= control->conns[i].fd < 0;
	if (idle && pool < 0)
		return -1; /* nobody's patience is to be looked at */
	if (pool >= 0 && pool < ms)
		ms = pool;
	return stop >= 0 && stop < ms ? stop : ms;
}

static void fill_fds(struct control *control, struct pollfd fds[FDS], uint64_t now)
{
	fds[0] = (struct pollfd){.fd = control->wake_fd, .events = POLLIN};
	fds[1] = (struct pollfd){.fd = now < control->accept_after ? -1 : control->listen_fd,
				 .events = POLLIN};
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		fds[2 + i] = (struct pollfd){.fd = control->conns[i].fd,
					     .events = conn_events(&control->conns[i])};
	streams_poll(&control->streams, fds + 2 + CONTROL_CLIENTS);
}

static bool one_round(struct control *control, bool typed_left)
{
	struct pollfd fds[FDS];
	uint64_t now = now_ns();
	eventfd_t count;

	fill_fds(control, fds, now);
	if (poll(fds, FDS, timeout(control, typed_left, now)) < 0)
		return typed_left;
	if (fds[0].revents)
		eventfd_read(control->wake_fd, &count);
	now = now_ns();
	for (int i = 0; i < CONTROL_CLIENTS; i++) {
		if (fds[2 + i].revents && fds[2 + i].fd == control->conns[i].fd)
			serve_conn(control, &control->conns[i], fds[2 + i].revents);
		conn_check_time(&control->conns[i], now);
	}
	snapshot_reap(control->vm, &control->snapshot);
	fork_reap(control->vm, &control->fork);
	typed_left =
	    streams_move(&control->streams, &control->log, control->vm, fds + 2 + CONTROL_CLIENTS);
	if (fds[1].revents)
		let_in(control, now);
	template_tend(control->vm);
	return typed_left;
}

/* What waits for clients goes out, as far as they take it in time. */
static void say_goodbye(struct control *control)
{
	uint64_t until = now_ns() + END_NS;
	bool left = true;

	streams_end(&control->streams, &control->log);
	control_tell_end(control);
	while (left && now_ns() < until) {
		struct pollfd fds[CONTROL_CLIENTS];
		size_t len;

		left = false;
		for (int i = 0; i < CONTROL_CLIENTS; i++) {
			struct conn *conn = &control->conns[i];
			fds[i] =
			    (struct pollfd){.fd = conn->out_len ? conn->fd : -1, .events = POLLOUT};
			left |= conn->fd >= 0 && conn->out_len > 0;
		}
		if (left && poll(fds, CONTROL_CLIENTS, 100) > 0)
			for (int i = 0; i < CONTROL_CLIENTS; i++)
				if (fds[i].revents)
					conn_ready(&control->conns[i], fds[i].revents, now_ns(),
						   &len);
	}
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		conn_close(&control->conns[i]);
}

static void *control_thread(void *arg)
{
	struct control *control = arg;

	pthread_setname_np(pthread_self(), "foal-control");
	bool confined = vm_thread_begins(control->vm, THREAD_CONTROL);
	gate_wait(&control->vm->confined);
	if (confined)
		control_run(control);
	return NULL;
}

void control_run(struct control *control)
{
	bool typed_left = false;

	while (!atomic_load_explicit(&control->ended, memory_order_acquire))
		typed_left = one_round(control, typed_left);
	say_goodbye(control);
}

/* --- the main thread's part ------------------------------------------------------------------ */

static void nobody_is_there(struct control *control)
{
	streams_init(&control->streams);
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		control->conns[i] = (struct conn){.fd = -1, .passed = -1};
}

void control_forked(struct control *control, int lock_fd, int listen_fd)
{
	nobody_is_there(control);
	control->lock_fd = lock_fd;
	control->listen_fd = listen_fd;
	control->wake_fd = -1;
	if (control->smaps)
		fclose(control->smaps); /* of the parent's memory */
	control->smaps = NULL;
	control->started = false;
	control->stop = (struct control_stop){0};
	control->snapshot = (struct frozen_child){0};
	control->fork = (struct frozen_child){0};
	control->accept_after = 0;
}

int control_claim(struct control **out, const struct run_options *opt, struct foal_error *err)
{
	struct control *control = *out = calloc(1, sizeof(*control));

	if (!control)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM,
				 "out of memory for the control socket");
	control->lock_fd = control->listen_fd = control->wake_fd = -1;
	nobody_is_there(control);
	int r = run_dir_open(&control->dir, opt->run_dir, true, err);
	return r ? r : name_claim(&control->dir, opt->name, &control->lock_fd, err);
}

int control_open(struct control *control, struct vm *vm, struct foal_error *err)
{
	if (!control)
		return 0;
	control->vm = vm;
	control->uid = getuid();
	control->pid = getpid();
	control->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (control->wake_fd < 0)
		return error_set(err, FOAL_EXIT_HOST, -errno, "eventfd: %s", strerror(errno));
	console_log_init(&control->log, control->wake_fd);
	control->smaps = stats_open_smaps();
	if (vm->birth)
		return 0;
	control_know_machine(control);
	control->listen_fd = name_listen(&control->dir, vm->opt->name, err);
	return control->listen_fd < 0 ? control->listen_fd : 0;
}

int control_poll_fd(const struct control *control, bool asked)
{
	return control && !asked && !atomic_load(&control->started) ? control->listen_fd : -1;
}

int control_start(struct control *control)
{
	return !control || later_has(control->vm) ? 0 : control_begin(control);
}

int control_begin(struct control *control)
{
	if (control->started)
		return 0;
	vm_thread_expected(control->vm);
	int r = vm_thread_create(&control->thread, control_thread, control, 0);
	control->started = r == 0;
	return r;
}

void control_console(struct control *control, const void *data, size_t len)
{
	if (control)
		console_log_add(&control->log, data, len);
}

bool control_end(struct control *control, int status, const char *text)
{
	struct timespec until;

	if (!control || !control->started)
		return true;
	control->status = status;
	control->text = text;
	atomic_store_explicit(&control->ended, true, memory_order_release);
	eventfd_write(control->wake_fd, 1);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += END_PATIENCE_S;
	if (vm_thread_join(control->thread, &until))
		return false;
	control->started = false;
	return true;
}

static void close_one(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void control_close(struct control *control)
{
	if (!control)
		return;
	close_one(&control->listen_fd);
	if (control->wake_fd >= 0)
		console_log_destroy(&control->log);
	close_one(&control->wake_fd);
	if (control->smaps)
		fclose(control->smaps);
	control->smaps = NULL;
	close_one(&control->lock_fd);
	json_decref(control->machine);
	json_decref(control->files);
	free(control->last_snapshot);
	run_dir_close(&control->dir);
	free(control);
}
