/*
 * The request for the fault log: its descriptor goes over the socket that came with it, and the
 * reply says what the numbers in its records mean (docs/trace.md).
 */
#include <sys/socket.h>

#include "devices/fd_passing.h"
#include "ept/record.h"
#include "vmm/control.h"
#include "vmm/trace_file.h"
#include "vmm/vm.h"

/* A byte that brings it; who passed a socket that is full, or none, is not waited for. */
static bool pass(int socket, int log)
{
	return fd_send(socket, "", 1, MSG_DONTWAIT, log) == 1;
}

json_t *control_serve_faults(struct control *control, struct conn *conn,
			     const struct control_request *request)
{
	const struct vm *vm = control->vm;
	int log = ept_space_records_fd(vm->space);
	json_t *reply;

	if (log < 0)
		return conn_error(request->id, CONTROL_ERROR_UNAVAILABLE,
				  "it keeps no fault log: it was started with --fault-log off, or "
				  "its host gave no memory file (memfd_create) for one");
	if (conn->passed < 0)
		return conn_error(request->id, CONTROL_ERROR_BAD_REQUEST,
				  "a socket has to come with it, for the log's descriptor");
	if (!pass(conn->passed, log))
		return conn_error(request->id, CONTROL_ERROR_BAD_REQUEST,
				  "the socket that came with it takes no descriptor");
	reply = conn_reply(request->id);
	json_object_set_new(reply, "name", json_string(vm->opt->name));
	json_object_update_new(reply,
			       trace_meta_of(vm->space, vm->opt, vm->main_ns, vm->first_run_ns));
	return reply;
}
