/* Why a space cannot go on: the first reason is kept, the rest follow from it. */
#include "ept/space.h"
#include "ept/watch.h"

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

/* "byte N of FILE for AREA" of what lies at @gpa. */
static void describe(const struct ept_area *area, uint64_t gpa, char *text, size_t size)
{
	const struct ept_object *obj = area->obj;

	snprintf(text, size, "byte %" PRIu64 " of %s for %s",
		 gpa - area->start + (obj ? obj->offset : 0), obj ? obj->name : "memory",
		 area->name);
}

void ept_describe(const struct ept_space *space, gpa_t gpa, char *text, size_t size)
{
	const struct ept_area *area = ept_area_find(space, gpa.v);

	if (area)
		describe(area, gpa.v, text, size);
	else
		snprintf(text, size, "nothing");
}

/* Why an object of @area did not give, or take, the byte at @gpa; @mend: what to do. */
static void why(const struct ept_area *area, gpa_t gpa, int error, const char *what,
		const char *mend, char *text, size_t max)
{
	const struct ept_object *obj = area->obj;
	int64_t size = obj ? ept_object_file_size(obj) : 0;
	char where[256];

	describe(area, gpa.v, where, sizeof(where));
	if (obj && size >= 0 && (uint64_t)size < obj->offset + obj->length)
		snprintf(text, max,
			 "%s: cannot %s %s: it shrank from %" PRIu64 " to %" PRId64
			 " bytes; restore it%s",
			 area->space->name, what, where, obj->file_size, size, mend);
	else
		snprintf(text, max, "%s: cannot %s %s: %s; check the storage%s", area->space->name,
			 what, where, strerrordesc_np(-error), mend);
}

void ept_area_fail(struct ept_area *area, gpa_t gpa, int error, const char *what)
{
	char text[sizeof(area->space->failure.message)];

	why(area, gpa, error, what, " and start the VM again", text, sizeof(text));
	ept_space_fail(area->space, EPT_CASE_IO_ERROR, gpa, error, "%s", text);
}

void ept_area_note_poison(struct ept_area *area, gpa_t gpa, int error)
{
	struct ept_space *space = area->space;

	pthread_mutex_lock(&space->failure_lock);
	if (!space->poisoned) {
		space->poison =
		    (struct ept_failure){.kase = EPT_CASE_IO_POISON, .gpa = gpa, .error = error};
		why(area, gpa, error, "read", "; the page is poisoned", space->poison.message,
		    sizeof(space->poison.message));
		__atomic_store_n(&space->poisoned, true, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&space->failure_lock);
}

const struct ept_failure *ept_space_first_poison(const struct ept_space *space)
{
	return __atomic_load_n(&space->poisoned, __ATOMIC_ACQUIRE) ? &space->poison : NULL;
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
	ept_watch_look(space);
	for (size_t i = 0; i < space->nr_areas; i++) {
		struct ept_area *area = space->areas[i];
		int64_t size = area->obj ? ept_object_file_size(area->obj) : 0;

		/* Where pages can be poisoned, those that are gone are, when they are touched. */
		if (!area->obj || (ept_space_can_poison(space) && ept_handler_engine(area)))
			continue;
		if (size < 0 || (uint64_t)size < area->obj->offset + ept_area_file_bytes(area))
			ept_area_fail(area,
				      GPA(size < 0 || (uint64_t)size < area->obj->offset
					      ? area->start
					      : area->start + ((uint64_t)size - area->obj->offset)),
				      size < 0 ? (int)size : -EIO, "read");
	}
}
