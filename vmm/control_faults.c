/*
 * The request for the fault log: its descriptor goes over the socket that came with it, and the
 * reply says what the numbers in its records mean (docs/trace.md).
 */
#include <string.h>
#include <sys/socket.h>

#include "devices/fd_passing.h"
#include "ept/record.h"
#include "ept/stats.h"
#include "vmm/control.h"
#include "vmm/vm.h"

static json_t *integer(uint64_t value)
{
	return json_integer((json_int_t)value);
}

/* Names and paths may be any bytes; JSON strings are UTF-8. */
static json_t *string(const char *text)
{
	json_t *s = json_string(text ? text : "");

	return s ? s : json_string("(not UTF-8)");
}

static json_t *areas_json(const struct vm *vm)
{
	json_t *areas = json_array();

	for (size_t i = 0; i < ept_area_count(vm->space); i++) {
		struct ept_area_info info;
		json_t *o = json_object();

		ept_area_info(ept_area_at(vm->space, i), &info);
		json_object_set_new(o, "name", string(info.name));
		json_object_set_new(o, "gpa", integer(info.gpa.v));
		json_object_set_new(o, "size", integer(info.size));
		json_object_set_new(
		    o, "engine", string(info.engine == EPT_ENGINE_HANDLER ? "handler" : "kernel"));
		json_object_set_new(o, "file", string(info.file));
		json_array_append_new(areas, o);
	}
	return areas;
}

static json_t *cases_json(void)
{
	json_t *names = json_array();

	for (int c = 0; c < EPT_NR_CASES; c++)
		json_array_append_new(names, string(ept_case_name((enum ept_case)c)));
	return names;
}

static json_t *origins_json(void)
{
	json_t *names = json_array();

	for (int o = 0; o < EPT_NR_ORIGINS; o++)
		json_array_append_new(names, string(ept_origin_name((enum ept_origin)o)));
	return names;
}

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
	json_object_set_new(reply, "name", string(vm->opt->name));
	json_object_set_new(reply, "main_ns", integer(vm->main_ns));
	json_object_set_new(reply, "first_run_ns", integer(vm->first_run_ns));
	json_object_set_new(reply, "memory", integer(vm->opt->memory));
	json_object_set_new(reply, "cpus", integer(vm->opt->cpus));
	json_object_set_new(reply, "areas", areas_json(vm));
	json_object_set_new(reply, "cases", cases_json());
	json_object_set_new(reply, "origins", origins_json());
	return reply;
}
