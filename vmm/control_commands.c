/* What a client may ask of a VM (docs/control.md), one function a command. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/control.h"
#include "vmm/stats.h"
#include "vmm/vm.h"

/* How long a guest may take to switch off, if the client does not say. */
#define STOP_MS 10000

static json_t *integer(uint64_t value)
{
	return json_integer((json_int_t)value);
}

json_t *control_failure(const struct control *control, json_t *id, int r,
			const struct foal_error *err)
{
	const char *name = control->vm->opt->name, *text = err->text;
	enum control_error code = r == -ETIMEDOUT ? CONTROL_ERROR_TIMEOUT
				  : r == -EALREADY || r == -EBUSY || r == -EINVAL || r == -ESHUTDOWN
				      ? CONTROL_ERROR_STATE
				      : CONTROL_ERROR_FAILED;
	size_t n = strlen(name);

	if (strncmp(text, name, n) == 0 && strncmp(text + n, ": ", 2) == 0)
		text += n + 2;
	return conn_error(id, code, text);
}

static const char *state_of(struct vm *vm)
{
	if (vm->template)
		return "template";
	if (atomic_load(&vm->stopping))
		return "ending";
	return vm_paused_for(vm) ? "paused" : "running";
}

/* --- each answers with a reply, or NULL: later, or not at all ------------------------------ */

typedef json_t *serve_fn(struct control *control, struct conn *conn,
			 const struct control_request *request);

static json_t *serve_status(struct control *control, struct conn *conn,
			    const struct control_request *request)
{
	struct vm *vm = control->vm;
	json_t *reply = conn_reply(request->id);

	(void)conn;
	json_object_set_new(reply, "name", json_string(vm->opt->name));
	json_object_set_new(reply, "pid", integer((uint64_t)control->pid));
	json_object_set_new(reply, "state", json_string(state_of(vm)));
	json_object_set_new(reply, "vcpus", integer(vm->opt->cpus));
	json_object_set_new(reply, "memory", integer(vm->opt->memory));
	json_object_set_new(reply, "resident", integer(stats_resident(vm, control->smaps)));
	json_object_set_new(reply, "uptime_ns", integer(now_ns() - vm->main_ns));
	json_object_set_new(reply, "paused_for_ns", integer(vm_paused_for(vm)));
	return reply;
}

static json_t *serve_pause(struct control *control, struct conn *conn,
			   const struct control_request *request)
{
	struct foal_error err = {0};
	uint64_t took,
	    limit = request->has_timeout ? request->timeout_ms * 1000000 : PAUSE_LIMIT_NS;
	int r = vm_pause(control->vm, limit, &took, &err);

	(void)conn;
	if (r)
		return control_failure(control, request->id, r, &err);
	json_t *reply = conn_reply(request->id);
	json_object_set_new(reply, "took_ns", integer(took));
	return reply;
}

static json_t *serve_resume(struct control *control, struct conn *conn,
			    const struct control_request *request)
{
	struct foal_error err = {0};
	uint64_t paused;
	int r = vm_resume(control->vm, &paused, &err);

	(void)conn;
	if (r)
		return control_failure(control, request->id, r, &err);
	json_t *reply = conn_reply(request->id);
	json_object_set_new(reply, "paused_ns", integer(paused));
	return reply;
}

/* --- stop ------------------------------------------------------------------------------------ */

static void end_now(struct control *control)
{
	struct vm *vm = control->vm;

	vm_end(vm, FOAL_EXIT_QUIT, "%s: ended by foal stop", vm->opt->name);
}

/* A guest that is paused cannot switch off: it goes on. */
static void press_button(struct control *control)
{
	struct vm *vm = control->vm;
	struct foal_error err = {0};
	uint64_t paused;

	if (vm_paused_for(vm))
		vm_resume(vm, &paused, &err);
	if (!quiesce_enter(&vm->quiesce))
		return;
	acpi_pm_raise(vm->acpi_pm, FOAL_ACPI_POWER_BUTTON);
	quiesce_leave(&vm->quiesce);
}

static json_t *serve_stop(struct control *control, struct conn *conn,
			  const struct control_request *request)
{
	struct control_stop *stop = &control->stop;
	uint64_t ms = request->has_timeout ? request->timeout_ms : STOP_MS;
	uint64_t deadline = now_ns() + ms * 1000000;

	conn->owed = true;
	conn->owed_id = json_incref(request->id);
	conn->deadline = 0;
	if (request->kill) {
		end_now(control);
		return NULL;
	}
	press_button(control);
	if (!stop->wanted || deadline < stop->deadline)
		stop->deadline = deadline;
	stop->wanted = true;
	return NULL;
}

int control_stop_timeout(struct control *control, uint64_t now)
{
	struct control_stop *stop = &control->stop;

	if (!stop->wanted || atomic_load(&control->vm->stopping))
		return -1;
	if (now < stop->deadline)
		return (int)((stop->deadline - now) / 1000000) + 1;
	end_now(control);
	return -1;
}

void control_tell_end(struct control *control)
{
	uint64_t now = now_ns();

	for (int i = 0; i < CONTROL_CLIENTS; i++) {
		struct conn *conn = &control->conns[i];
		json_t *told =
		    conn->owed ? conn_reply(conn->owed_id) : json_pack("{s:s}", "event", "end");
		json_t *text = json_string(control->text); /* a path in it may be no UTF-8 */

		if (conn->fd < 0) {
			json_decref(told);
			json_decref(text);
			continue;
		}
		if (conn->owed && control->stop.wanted)
			json_object_set_new(told, "button_taken",
					    json_boolean(!acpi_pm_pending(control->vm->acpi_pm)));
		json_object_set_new(told, "status", integer((uint64_t)control->status));
		json_object_set_new(told, "message", text ? text : json_string(""));
		conn->closing = true;
		conn_send(conn, told, now);
	}
}

/* --- statistics, balloon, console ------------------------------------------------------ */

static json_t *serve_stat(struct control *control, struct conn *conn,
			  const struct control_request *request)
{
	struct vm *vm = control->vm;
	json_t *reply = conn_reply(request->id);

	(void)conn;
	json_object_set_new(reply, "state", json_string(state_of(vm)));
	if (request->format == STAT_JSON) {
		json_object_set_new(reply, "stats", stats_object(vm, control->smaps));
		return reply;
	}
	bool table = request->format == STAT_TABLE;
	char *text = table ? stats_text(vm, control->smaps) : stats_metrics(vm, control->smaps);
	json_t *said = text ? json_string(text) : NULL; /* a path in a table may be no UTF-8 */
	free(text);
	if (!said && !table) {
		json_decref(reply);
		return conn_error(request->id, CONTROL_ERROR_FAILED, strerror(ENOMEM));
	}
	json_object_set_new(reply, table ? "table" : "prometheus", said ? said : json_string(""));
	return reply;
}

static json_t *serve_balloon(struct control *control, struct conn *conn,
			     const struct control_request *request)
{
	struct vm *vm = control->vm;
	int r;

	(void)conn;
	if (!vm->balloon)
		return conn_error(request->id, CONTROL_ERROR_UNAVAILABLE,
				  "it has no balloon; foal run --balloon on gives it one");
	if (request->size > vm->opt->memory)
		return conn_error(request->id, CONTROL_ERROR_BAD_REQUEST,
				  "size: it has less memory");
	if (!quiesce_enter(&vm->quiesce))
		return conn_error(request->id, CONTROL_ERROR_STATE, "the VM is paused");
	r = virtio_balloon_set_target(vm->balloon, vm->opt->memory - request->size);
	quiesce_leave(&vm->quiesce);
	if (r)
		return conn_error(request->id, CONTROL_ERROR_FAILED, strerror(-r));
	json_t *reply = conn_reply(request->id);
	json_object_set_new(reply, "target", integer(vm->opt->memory - request->size));
	return reply;
}

/* The descriptor that came with the request is attached; without one, its connection. */
static json_t *serve_console(struct control *control, struct conn *conn,
			     const struct control_request *request)
{
	int *fd = conn->passed >= 0 ? &conn->passed : &conn->fd;
	struct stream *stream = streams_place(&control->streams, *fd);
	uint64_t history;

	if (!stream)
		return conn_error(request->id, CONTROL_ERROR_UNAVAILABLE,
				  "8 are attached already, or the descriptor is no stream socket");
	uint64_t at = console_log_start(&control->log, &history);
	json_t *reply = conn_reply(request->id);
	json_object_set_new(reply, "history", integer(history));
	conn_send(conn, reply, now_ns());
	if (conn->fd < 0)
		return NULL;
	if (fd == &conn->passed || conn->out_len == 0) {
		stream_begin(stream, *fd, at);
		*fd = -1;
	}
	if (fd == &conn->passed)
		return NULL;
	const char *rest = memchr(conn->in, '\n', conn->in_len);
	if (rest)
		stream_type(stream, rest + 1, (size_t)(conn->in + conn->in_len - rest - 1));
	conn_close(conn);
	return NULL;
}

/* It does not run: what is asked of a guest, or of devices, is asked of nobody. */
static json_t *serve_of_template(struct control *control, struct conn *conn,
				 const struct control_request *request)
{
	switch (request->command) {
	case CONTROL_STATUS:
		return serve_status(control, conn, request);
	case CONTROL_MACHINE:
		return control_serve_machine(control, conn, request);
	case CONTROL_FORK:
		/* A clone would take over that it is to end. */
		if (atomic_load(&control->ended))
			return conn_error(request->id, CONTROL_ERROR_STATE,
					  "the template is ending");
		return control_serve_fork(control, conn, request);
	case CONTROL_STOP:
		conn->owed = true;
		conn->owed_id = json_incref(request->id);
		control->text = "";
		atomic_store_explicit(&control->ended, true, memory_order_release);
		return NULL;
	default:
		return conn_error(request->id, CONTROL_ERROR_UNAVAILABLE,
				  "it is a template, and does not run; foal clone makes VMs of it");
	}
}

void control_serve(struct control *control, struct conn *conn,
		   const struct control_request *request)
{
	static serve_fn *const serve[] = {
	    [CONTROL_STATUS] = serve_status,
	    [CONTROL_PAUSE] = serve_pause,
	    [CONTROL_RESUME] = serve_resume,
	    [CONTROL_STOP] = serve_stop,
	    [CONTROL_STAT] = serve_stat,
	    [CONTROL_BALLOON] = serve_balloon,
	    [CONTROL_CONSOLE] = serve_console,
	    [CONTROL_MACHINE] = control_serve_machine,
	    [CONTROL_SNAPSHOT] = control_serve_snapshot,
	    [CONTROL_FORK] = control_serve_fork,
	    [CONTROL_RESET] = control_serve_reset,
	    [CONTROL_FAULTS] = control_serve_faults,
	    [CONTROL_RESIDENCY] = control_serve_residency,
	};
	json_t *reply = control->vm->template ? serve_of_template(control, conn, request)
					      : serve[request->command](control, conn, request);

	if (reply)
		conn_send(conn, reply, now_ns());
}
