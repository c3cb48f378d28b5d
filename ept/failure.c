/* Why a space cannot go on: the first reason is kept, the rest follow from it. */
#include "ept/space.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* An eventfd: for threads that poll it once is enough. */
static int tell(const struct ept_space *space)
{
	uint64_t one = 1;

	return write(space->failure_fd, &one, sizeof(one)) < 0 ? -errno : 0;
}

void ept_space_fail(struct ept_space *space, enum ept_case kase, gpa_t gpa, int error,
		    const char *fmt, ...)
{
	struct ept_failure *failure = &space->failure;
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
		(void)tell(space); /* cannot fail: it counts to 2 at most */
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
	struct ept_failure first = {.kase = EPT_CASE_IO_POISON, .gpa = gpa, .error = error};

	if (__atomic_load_n(&space->poisoned, __ATOMIC_ACQUIRE))
		return;
	why(area, gpa, error, "read", "; the page is poisoned", first.message,
	    sizeof(first.message));
	pthread_mutex_lock(&space->failure_lock);
	if (!space->poisoned) {
		space->poison = first;
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

/* --- pages that the host took away ----------------------------------------------------- */

static struct ept_area *area_mapped_at(const struct ept_space *space, const char *hva)
{
	for (size_t i = 0; i < space->nr_areas; i++) {
		struct ept_area *area = space->areas[i];

		if (area->hva && hva >= area->hva && hva < area->hva + (area->end - area->start))
			return area;
	}
	return NULL;
}

bool ept_space_bus_error(struct ept_space *space, const siginfo_t *info)
{
	int saved = errno, error = info->si_code == BUS_MCEERR_AR ? -EHWPOISON : -EIO;
	char *page = (char *)((uintptr_t)info->si_addr & EPT_PAGE_MASK);
	const struct ept_area *area = NULL;
	uint64_t none = 0;

	if (info->si_code > 0) /* the kernel's, not kill(2)'s */
		area = area_mapped_at(space, page);
	if (!area || mmap(page, EPT_PAGE_SIZE, ept_area_kinds[area->kind].prot,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) {
		errno = saved;
		return false;
	}
	if (__atomic_compare_exchange_n(&space->lost, &none,
					area->start + (uint64_t)(page - area->hva) + 1, false,
					__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
		__atomic_store_n(&space->lost_error, error, __ATOMIC_RELEASE);
		(void)tell(space);
	}
	errno = saved;
	return true;
}

/* Said here and not by the signal handler, which may take no lock. */
static void report_lost(struct ept_space *space)
{
	uint64_t lost = __atomic_load_n(&space->lost, __ATOMIC_ACQUIRE);
	int error = __atomic_load_n(&space->lost_error, __ATOMIC_ACQUIRE);

	if (lost && error)
		ept_area_fail(ept_area_find(space, lost - 1), GPA(lost - 1), error, "read");
}

const struct ept_failure *ept_space_failure(struct ept_space *space)
{
	if (!__atomic_load_n(&space->failed, __ATOMIC_ACQUIRE))
		report_lost(space);
	return __atomic_load_n(&space->failed, __ATOMIC_ACQUIRE) ? &space->failure : NULL;
}
