/* The requests of a snapshot: what machine it is of, and "write one into these files". */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/control.h"
#include "vmm/manifest.h"
#include "vmm/snapshot_channel.h"
#include "vmm/vm.h"

/* One that is being written takes seconds, and is refused at once. */
#define REAP_MS 20

/* --- the files that came ----------------------------------------------------------------- */

static bool empty_and_writable(int fd)
{
	struct stat st;

	/* As in ept/object.c. One that is only readable fails when it is written. */
	return syscall(SYS_fstat, fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 0;
}

static const char *take_files(const struct vm *vm, int channel, struct passed *came,
			      struct snapshot_files *out)
{
	unsigned layers = snapshot_layers(vm->opt);

	came->count = 0;
	if (channel < 0)
		return "a socket has to come with it, with the files in a message on it";
	if (!channel_receive(channel, came) || came->count != SNAPSHOT_FIXED_FILES + layers)
		return "the socket's message has to bring the files memory, memory.index, state, "
		       "and one for each disk with mode=cow";
	for (unsigned i = 0; i < came->count; i++)
		if (!empty_and_writable(came->fds[i]))
			return "a file is no empty regular file";
	*out = (struct snapshot_files){.channel = channel,
				       .memory = came->fds[0],
				       .index = came->fds[1],
				       .state = came->fds[2]};
	for (unsigned i = 0; i < MAX_FILES; i++)
		out->layers[i] = i < layers ? came->fds[SNAPSHOT_FIXED_FILES + i] : -1;
	return NULL;
}

/* --- the requests --------------------------------------------------------------------------- */

json_t *control_serve_machine(struct control *control, struct conn *conn,
			      const struct control_request *request)
{
	json_t *reply;

	(void)conn;
	if (!control->machine || !control->files)
		return conn_error(request->id, CONTROL_ERROR_UNAVAILABLE,
				  "its machine cannot be written down: a path that is no UTF-8, or "
				  "a file that is gone");
	reply = conn_reply(request->id);
	json_object_set(reply, "machine", control->machine);
	json_object_set(reply, "files", control->files);
	if (control->last_snapshot)
		json_object_set_new(reply, "snapshot", json_string(control->last_snapshot));
	return reply;
}

/* Where whoever asked for it said it would be: a parent for the next. */
static void remember(struct control *control, const char *dir)
{
	char *copy = strdup(dir);

	if (!copy)
		return;
	free(control->last_snapshot);
	control->last_snapshot = copy;
}

json_t *control_serve_snapshot(struct control *control, struct conn *conn,
			       const struct control_request *request)
{
	struct snapshot_files files;
	struct frozen_pause pause;
	struct foal_error err = {0};
	struct passed came;
	int channel = conn->passed;
	const char *wrong = take_files(control->vm, channel, &came, &files);
	json_t *reply = NULL;

	conn->passed = -1; /* the child has it, who lets go of what is the connections' */
	/* What cannot be at all is said first. */
	if (snapshot_possible(control->vm->opt, "snapshot", &err))
		reply = conn_error(request->id, CONTROL_ERROR_UNAVAILABLE, err.text);
	else if (wrong)
		reply = conn_error(request->id, CONTROL_ERROR_BAD_REQUEST, wrong);
	if (!reply) {
		frozen_reap_soon(control->vm, &control->snapshot, snapshot_reap, REAP_MS);
		files.how = request->how;
		int r = snapshot_begin(control->vm, &control->snapshot, &files, &pause, &err);
		reply = r ? control_failure(control, request->id, r, &err)
			  : frozen_say(conn_reply(request->id), &pause);
		if (r == 0 && request->dir)
			remember(control, request->dir);
	}
	channel_close(&came);
	if (channel >= 0)
		close(channel);
	return reply;
}

/* --- the main thread's part, and the child's ------------------------------------------- */

void control_know_machine(struct control *control)
{
	struct foal_error ignored = {0};

	control->machine = manifest_machine(control->vm->opt);
	control->files = manifest_files(control->vm->opt, &ignored);
	if (control->vm->restore && control->vm->restore->path)
		remember(control, control->vm->restore->path);
}

void control_let_go(struct control *control)
{
	if (!control)
		return;
	close(control->listen_fd);
	close(control->wake_fd);
	close(control->lock_fd);
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		if (control->conns[i].fd >= 0) {
			close(control->conns[i].fd);
			if (control->conns[i].passed >= 0)
				close(control->conns[i].passed);
		}
	streams_let_go(&control->streams);
}
