/* Why a space cannot go on: the first reason is kept, the rest follow from it. */
#include "ept/space.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void ept_space_fail(struct ept_space *space, enum ept_case kase, gpa_t gpa, int error,
		    const char *fmt, ...)
{
	struct ept_failure *failure = &space->failure;
	uint64_t one = 1;
	va_list args;

	pthread_mutex_lock(&space->failure_lock);
	if (!space->failed) {
		failure->kase = kase;
		failure->gpa = gpa;
		failure->error = error;
		va_start(args, fmt);
		vsnprintf(failure->message, sizeof(failure->message), fmt, args);
		va_end(args);
		__atomic_store_n(&space->failed, true, __ATOMIC_RELEASE);
		/* Cannot fail: the counter goes from 0 to 1, once. */
		if (write(space->failure_fd, &one, sizeof(one)) < 0)
			failure->error = error;
	}
	pthread_mutex_unlock(&space->failure_lock);
}

void ept_area_fail(struct ept_area *area, gpa_t gpa, int error, const char *what)
{
	const struct ept_object *obj = area->obj;
	struct ept_space *space = area->space;
	uint64_t byte = gpa.v - area->start + (obj ? obj->offset : 0);
	int64_t size = obj ? ept_object_file_size(obj) : 0;

	if (obj && size >= 0 && (uint64_t)size < obj->offset + obj->length)
		ept_space_fail(
		    space, EPT_CASE_IO_ERROR, gpa, error,
		    "%s: cannot %s byte %" PRIu64 " of %s for %s: it shrank from %" PRIu64
		    " to %" PRId64 " bytes; restore it and start the VM again",
		    space->name, what, byte, obj->name, area->name, obj->file_size, size);
	else
		ept_space_fail(space, EPT_CASE_IO_ERROR, gpa, error,
			       "%s: cannot %s byte %" PRIu64 " of %s for %s: %s; "
			       "check the storage and start the VM again",
			       space->name, what, byte, obj ? obj->name : "memory", area->name,
			       strerrordesc_np(-error));
}

int ept_space_failure_fd(const struct ept_space *space)
{
	return space->failure_fd;
}

const struct ept_failure *ept_space_failure(const struct ept_space *space)
{
	return __atomic_load_n(&space->failed, __ATOMIC_ACQUIRE) ? &space->failure : NULL;
}

void ept_space_check(struct ept_space *space)
{
	for (size_t i = 0; i < space->nr_areas; i++) {
		struct ept_area *area = space->areas[i];
		int64_t size = area->obj ? ept_object_file_size(area->obj) : 0;

		if (!area->obj)
			continue;
		if (size < 0 || (uint64_t)size < area->obj->offset + ept_area_file_bytes(area))
			ept_area_fail(area,
				      GPA(size < 0 || (uint64_t)size < area->obj->offset
					      ? area->start
					      : area->start + ((uint64_t)size - area->obj->offset)),
				      size < 0 ? (int)size : -EIO, "read");
	}
}
