/*
 * Recorded touches once more, in a space of this process. Files are as long as those of the VM,
 * and hold nothing: what is read of them is asked of the host's memory, not of a disk, and no file
 * that a trace names is opened.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ept/object.h"
#include "ept/stats.h"
#include "vmm/replay.h"
#include "vmm/vm.h"

struct again {
	const struct replay_trace *trace;
	struct ept_space *space;
	struct ept_records *log;
	struct replay_count *count;
	double page_ns;
	bool brought;
};

/* --- its memory ------------------------------------------------------------------------------ */

static int cannot_be(const struct replay_trace *trace, const struct trace_area *area, int r,
		     struct foal_error *err)
{
	return error_set(err, FOAL_EXIT_TRACE, r, "%s: its area %s of %llu bytes cannot be: %s",
			 trace->reader.path, area->name, (unsigned long long)area->size,
			 strerror(-r));
}

static int empty_file(const struct trace_area *area, enum ept_file_mode mode,
		      struct ept_object **out)
{
	int fd = memfd_create("replay", MFD_CLOEXEC), r = fd < 0 ? -errno : 0;

	if (r == 0 && ftruncate(fd, (off_t)area->size))
		r = -errno;
	if (r == 0)
		r = ept_object_file(fd, area->file, 0, area->size, mode, out);
	if (r == 0)
		(*out)->host_ahead = area->host_ahead;
	if (fd >= 0)
		close(fd);
	return r;
}

static int add_area(struct again *again, size_t i, struct foal_error *err)
{
	const struct trace_area *area = &again->trace->meta->areas[i];
	const struct replay_area *how = &again->trace->areas[i];
	struct ept_object *obj = NULL;
	int r = 0;

	if (how->left_out)
		return 0;
	if (area->file[0])
		r = empty_file(area, how->mode, &obj);
	if (r == 0)
		r = ept_area_add(again->space, area->name, GPA(area->gpa), area->size, obj, NULL);
	ept_object_put(obj);
	return r ? cannot_be(again->trace, area, r, err) : 0;
}

static int make_space(struct again *again, const struct trace_settings *settings,
		      struct foal_error *err)
{
	const struct ept_config config = {.vm_name = "replay",
					  .engine = EPT_ENGINE_HANDLER,
					  .vcpus = 1,
					  .fault_around = settings->fault_around,
					  .huge = settings->huge,
					  .memory_limit = settings->memory_limit,
					  .log = true};
	int r = ept_space_create(&config, &again->space);

	if (r)
		return error_set(err, FOAL_EXIT_HOST, r, "replay: userfaultfd: %s; see foal doctor",
				 strerror(-r));
	for (size_t i = 0; i < again->trace->meta->nr_areas && r == 0; i++)
		r = add_area(again, i, err);
	if (r)
		return r;
	r = ept_space_start(again->space);
	if (r == 0)
		r = ept_records_open(ept_space_records_fd(again->space), true, &again->log);
	return r ? error_set(err, FOAL_EXIT_HOST, r, "replay: memory for it: %s", strerror(-r)) : 0;
}

/* --- the touches ------------------------------------------------------------------------------ */

static bool something_comes(const struct again *again)
{
	for (size_t i = 0; i < ept_area_count(again->space); i++)
		if (ept_area_coming(ept_area_at(again->space, i)))
			return true;
	return false;
}

/* What is read ahead comes while the guest runs; in @ns it touches the next page. */
static void let_it_come(const struct again *again, double ns)
{
	uint64_t until = now_ns() + (uint64_t)ns;

	while (something_comes(again) && now_ns() < until)
		sched_yield();
}

/* The record of a touch that was a fault, as if it were the one that was recorded then. */
static bool take_fault(struct again *again, size_t chain, struct ept_record *out)
{
	if (ept_records_next(again->log, out) != 1)
		return false;
	replay_count_add(again->count, out, out->kase, chain);
	return true;
}

/* No page, an error of the trace's own (a write to a file that is read-only), is none here. */
static int touch(struct again *again, const struct ept_record *record, uint64_t gpa)
{
	const struct replay_trace *trace = again->trace;
	enum ept_origin origin = (enum ept_origin)trace->origin[record->origin];
	struct iovec iov;
	ssize_t n = ept_map(again->space, GPA(gpa & EPT_PAGE_MASK), EPT_PAGE_SIZE,
			    (enum ept_access)record->access, origin, &iov, 1);

	return n < 0 && n != -EFAULT ? (int)n : 0;
}

/* What was recorded as a fault comes with another here: KVM maps it when it is touched. */
static void count_quiet(struct again *again, size_t chain, bool huge)
{
	again->count->chain[chain].quiet += !huge;
}

/* What a touch takes besides its handling, before the guest goes on. */
static double way_of(const struct again *again, bool faulted, bool huge)
{
	return faulted ? again->trace->way : huge ? 0 : again->page_ns;
}

static int touch_brought(struct again *again, const struct ept_record *record, size_t chain,
			 bool huge)
{
	const struct trace_area *area = &again->trace->meta->areas[record->area];
	uint64_t gpa = record->gpa, end = area->gpa + area->size;
	struct ept_record out;
	int r = 0;

	for (uint32_t i = 0; i < record->around && i < TRACE_AROUND_MAX && r == 0; i++) {
		gpa += EPT_PAGE_SIZE;
		if (gpa >= end)
			break;
		r = touch(again, record, gpa);
		if (r)
			break;
		bool faulted = take_fault(again, chain, &out);
		if (!faulted)
			count_quiet(again, chain, huge);
		let_it_come(again, way_of(again, faulted, huge));
	}
	return r;
}

static bool brings_huge(const struct ept_record *fault)
{
	return fault->kase == EPT_CASE_ANON_HUGE || fault->kase == EPT_CASE_FILE_HUGE;
}

/* Whether a quiet page is part of a huge one: so was what came last where it lies. */
static int touch_all(struct again *again)
{
	const struct replay_trace *trace = again->trace;
	bool huge = false;
	int r = 0;

	for (size_t i = 0; i < trace->count && r == 0; i++) {
		const struct ept_record *record = &trace->records[i];
		size_t chain = replay_chain_of(trace, record);
		struct ept_record fault;

		if (replay_leaves_out(trace, record))
			continue;
		r = touch(again, record, record->gpa);
		if (r)
			break;
		bool faulted = take_fault(again, chain, &fault);
		if (faulted)
			huge = brings_huge(&fault);
		else
			count_quiet(again, chain, huge);
		let_it_come(again, way_of(again, faulted, huge) + trace->own[i]);
		if (again->brought && record->area != EPT_RECORD_NONE)
			r = touch_brought(again, record, chain, huge);
	}
	return r;
}

/* --- all of it ---------------------------------------------------------------------------------
 */

static void count_rest(struct again *again)
{
	struct ept_reclaim_stats reclaim;

	for (size_t i = 0; i < ept_area_count(again->space); i++) {
		struct ept_ahead_stats ahead;

		ept_area_ahead_stats(ept_area_at(again->space, i), &ahead);
		again->count->ahead_read += ahead.bytes_read;
	}
	if (ept_reclaim_stats(again->space, &reclaim))
		again->count->peak = reclaim.peak;
}

int replay_again(const struct replay_trace *trace, const struct trace_settings *settings,
		 double page_ns, bool brought, struct replay_count *count, struct foal_error *err)
{
	struct again again = {
	    .trace = trace, .count = count, .page_ns = page_ns, .brought = brought};
	int r = make_space(&again, settings, err);

	if (r == 0) {
		r = touch_all(&again);
		if (r) {
			const struct ept_failure *why = ept_space_failure(again.space);

			error_set(err, FOAL_EXIT_HOST, r, "replay: %s",
				  why ? why->message : strerror(-r));
		}
	}
	if (r == 0) {
		ept_space_stop(again.space);
		count_rest(&again);
	}
	ept_records_close(again.log);
	ept_space_destroy(again.space);
	return r;
}

/* All of what each touch may bring, and a file's pages in its cache, too. */
uint64_t replay_needs(const struct replay_trace *trace, const struct trace_settings *settings)
{
	uint64_t each = settings->huge == EPT_HUGE_NEVER ? settings->fault_around : 512, all = 0;
	uint64_t needs = 2 * (trace->count - trace->left_out) * each * EPT_PAGE_SIZE;

	for (size_t i = 0; i < trace->meta->nr_areas; i++)
		if (!trace->areas[i].left_out && trace->areas[i].records)
			all += 2 * trace->meta->areas[i].size;
	needs = needs < all ? needs : all;
	return settings->memory_limit && settings->memory_limit < needs ? settings->memory_limit
									: needs;
}
