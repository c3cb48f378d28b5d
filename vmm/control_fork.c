/* The request of a fork: the channel that comes with it brings the names, after the answer. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vmm/control.h"
#include "vmm/template.h"
#include "vmm/vm.h"

/* A frozen child that has forked the last is gone soon, but for what its host does meanwhile. */
#define REAP_MS 1000

/*
 * Clones begin as the messages with their names are read; nobody stands still. Who asked has
 * the answer behind those that were there already, and before it waits for more: they come when the
 * channel has taken what there is.
 */
static json_t *serve_clone(struct control *control, struct conn *conn,
			   const struct control_request *request, const struct fork_request *asked)
{
	if (asked->has_swap)
		return conn_error(request->id, CONTROL_ERROR_BAD_REQUEST,
				  "swap: a template's clones have none");
	unsigned begun = template_clone_first(control->vm, asked);

	conn_send(conn, conn_reply(request->id), now_ns());
	template_clone_rest(control->vm, asked, begun);
	return NULL;
}

json_t *control_serve_fork(struct control *control, struct conn *conn,
			   const struct control_request *request)
{
	struct fork_request asked = {.channel = conn->passed,
				     .count = request->count,
				     .clock = request->jump ? CLOCK_JUMP : CLOCK_FREEZE,
				     .has_swap = request->swap,
				     .template = request->template,
				     .pool = request->pool,
				     .reset_point = request->reset_point,
				     .ends = request->ends};
	struct frozen_pause pause;
	struct foal_error err = {0};
	json_t *reply;

	conn->passed = -1; /* whatever becomes of the connection, it is there until the end */
	if (request->clone && !control->vm->template) {
		reply = conn_error(request->id, CONTROL_ERROR_UNAVAILABLE,
				   "it is no template, but a VM that runs: foal fork makes more of "
				   "it, foal template keeps it to be cloned");
	} else if (request->template && control->vm->template) {
		reply = conn_error(request->id, CONTROL_ERROR_UNAVAILABLE,
				   "it is a template already; foal clone makes VMs of it, of one "
				   "of which foal template makes another");
	} else if (fork_possible(control->vm, &asked, &err)) {
		reply = conn_error(request->id, CONTROL_ERROR_UNAVAILABLE, err.text);
	} else if (asked.channel < 0) {
		reply = conn_error(request->id, CONTROL_ERROR_BAD_REQUEST,
				   "a socket has to come with it, for the names of the VMs");
	} else if (control->vm->template) {
		reply = serve_clone(control, conn, request, &asked);
	} else {
		frozen_reap_soon(control->vm, &control->fork, fork_reap, REAP_MS);
		int r = fork_begin(control->vm, &control->fork, &asked, &pause, &err);
		reply = r ? control_failure(control, request->id, r, &err)
			  : frozen_say(conn_reply(request->id), &pause);
	}
	if (asked.channel >= 0)
		close(asked.channel);
	return reply;
}
