/* The request of a reset, or of a reset point. */
#include <errno.h>

#include "vmm/control.h"
#include "vmm/reset.h"
#include "vmm/vm.h"

static json_t *reply_of(const struct control_request *request, const struct vm *vm,
			const struct reset_result *result, uint64_t paused)
{
	json_t *reply = conn_reply(request->id);

	json_object_set_new(reply, "kept_bytes", json_integer((json_int_t)result->kept));
	json_object_set_new(reply, "took_ns", json_integer((json_int_t)result->took));
	json_object_set_new(reply, "paused_ns", json_integer((json_int_t)paused));
	if (request->here)
		return reply;
	json_object_set_new(reply, "pages", json_integer((json_int_t)result->pages));
	json_object_set_new(reply, "read_pages", json_integer((json_int_t)result->read));
	json_object_set_new(reply, "resets", json_integer((json_int_t)vm->reset.resets));
	return reply;
}

/* A VM that was paused before stays so. */
json_t *control_serve_reset(struct control *control, struct conn *conn,
			    const struct control_request *request)
{
	struct vm *vm = control->vm;
	struct foal_error err = {0}, ignored = {0};
	struct reset_result result;
	uint64_t took, paused = 0;
	int r = vm_pause(vm, PAUSE_LIMIT_NS, &took, &err);
	bool was_paused = r == -EALREADY;

	(void)conn;
	if (r && !was_paused)
		return control_failure(control, request->id, r, &err);
	err = (struct foal_error){0};
	r = request->here
		? reset_point_set(vm, request->jump ? CLOCK_JUMP : CLOCK_FREEZE, &result, &err)
		: reset_go_back(vm, NULL, (struct reset_how){0}, &result, &err);
	if (!was_paused)
		vm_resume(vm, &paused, &ignored);
	return r ? control_failure(control, request->id, r, &err)
		 : reply_of(request, vm, &result, paused);
}
