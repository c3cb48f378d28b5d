/* The fault log of a running VM: asked for, and opened to be read beside it. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/fd_passing.h"
#include "vmm/remote_trace.h"

/* What came over @channel with a descriptor, before the reply; it, or a negative errno. */
static int receive(int channel)
{
	char byte = 0;
	int fd = -1;

	if (fd_recv(channel, &byte, 1, MSG_DONTWAIT, &fd) <= 0 || fd < 0)
		return -EPROTO;
	return fd;
}

/* The reply, and the log's descriptor in *@log; NULL: @err is filled. */
static json_t *ask(struct client *client, int *log, struct foal_error *err)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) {
		error_set(err, FOAL_EXIT_HOST, -errno, "socketpair: %s", strerror(errno));
		return NULL;
	}
	json_t *reply = client_ask(client, "faults", NULL, ends[1], err);
	close(ends[1]);
	*log = reply ? receive(ends[0]) : -EPROTO;
	close(ends[0]);
	if (reply && *log < 0) {
		error_set(err, FOAL_EXIT_CONTROL, *log,
			  "%s: its fault log did not come with its answer", client->name);
		json_decref(reply);
		return NULL;
	}
	return reply;
}

int remote_log_open(struct client *client, bool now, struct trace_meta *meta,
		    struct ept_records **records, struct foal_error *err)
{
	const char *name = client->name, *why = NULL;
	int log = -1, r;
	json_t *reply = ask(client, &log, err);

	if (!reply)
		return -EPROTO;
	json_object_del(reply, "ok");
	json_object_set_new(reply, "vm", json_string(name));
	r = trace_meta_take(reply, meta, &why);
	if (r)
		error_set(err, FOAL_EXIT_CONTROL, r, "%s: of its fault log %s is missing or wrong",
			  name, r == -ENOMEM ? "memory for the areas" : why);
	else if ((r = ept_records_open(log, now, records)))
		error_set(err, FOAL_EXIT_CONTROL, r, "%s: its fault log cannot be read: %s", name,
			  r == -EINVAL ? "it is another foal's" : strerror(-r));
	close(log);
	return r;
}
