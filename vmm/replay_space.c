/* Recorded touches once more, in a space of this process. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ept/mirror.h"
#include "ept/stats.h"
#include "vmm/memory_limit.h"
#include "vmm/replay.h"
#include "vmm/vm.h"

#define SWAP_MOST (64ULL << 30)

struct again {
	const struct replay_trace *trace;
	const struct replay_layers *layers;
	struct ept_space *space;
	struct ept_records *log;
	struct replay_count *count;
	bool brought;
	struct replay_guest guest;
};

/* --- its memory ------------------------------------------------------------------------------ */

void replay_temporary(char *path, size_t size, const char *what)
{
	const char *dir = getenv("TMPDIR");

	snprintf(path, size, "%s/foal-replay%s-XXXXXX", dir && *dir ? dir : "/tmp", what);
}

/* A swap file that has no name any more; -1, and errno. */
static int open_swap(void)
{
	char path[PATH_MAX];

	replay_temporary(path, sizeof(path), "-swap");
	int fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -1;
	unlink(path);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_DIRECT); /* where it can be */
	return fd;
}

/* As large as a VM's. Its counts are in the limit, and the trace may say anything of the memory. */
static uint64_t swap_size(const struct replay_trace *trace)
{
	uint64_t memory = trace->meta->memory + EPT_PAGE_SIZE;

	return memory < SWAP_MOST / SWAP_DEFAULT_TIMES ? SWAP_DEFAULT_TIMES * memory : SWAP_MOST;
}

/* Under a limit own pages have a file to go to: without --swap the VM itself would just end. */
static int create_space(struct again *again, const struct trace_settings *settings,
			struct foal_error *err)
{
	struct ept_swap_file swap = {
	    .fd = -1, .name = "of the replay", .size = swap_size(again->trace)};
	const struct ept_config config = {.vm_name = "replay",
					  .engine = EPT_ENGINE_HANDLER,
					  .vcpus = 1,
					  .fault_around = settings->fault_around,
					  .huge = settings->huge,
					  .memory_limit = settings->memory_limit,
					  .swap = settings->memory_limit ? &swap : NULL,
					  .log = true};
	int r;

	if (config.swap && (swap.fd = open_swap()) < 0)
		return error_set(err, FOAL_EXIT_HOST, -errno,
				 "replay: a swap file in /tmp, for its --memory-limit: %s",
				 strerror(errno));
	r = ept_space_create(&config, &again->space);
	if (swap.fd >= 0)
		close(swap.fd);
	return r ? error_set(err, FOAL_EXIT_HOST, r, "replay: userfaultfd: %s; see foal doctor",
			     strerror(-r))
		 : 0;
}

static int make_space(struct again *again, const struct trace_settings *settings,
		      struct foal_error *err)
{
	int r = create_space(again, settings, err);

	if (r == 0)
		r = replay_add_areas(again->trace, again->space, err);
	if (r == 0 && again->layers->snapshot)
		r = replay_layers_under(again->layers, settings->prefetch, again->space, err);
	if (r)
		return r;
	r = ept_records_open(ept_space_records_fd(again->space), false, &again->log);
	if (r == 0)
		r = ept_space_start(again->space);
	return r ? error_set(err, FOAL_EXIT_HOST, r, "replay: memory for it: %s", strerror(-r)) : 0;
}

/* --- the touches ------------------------------------------------------------------------------ */

static bool prefetches(const struct again *again)
{
	enum ept_prefetch_how how = ept_space_prefetch_how(again->space);
	struct ept_prefetch_stats stats;

	if (how != EPT_PREFETCH_SET && how != EPT_PREFETCH_ALL)
		return false;
	ept_prefetch_stats(again->space, &stats);
	return !stats.done;
}

static bool something_comes(const struct again *again)
{
	if (prefetches(again))
		return true;
	for (size_t i = 0; i < ept_area_count(again->space); i++)
		if (ept_area_coming(ept_area_at(again->space, i)))
			return true;
	return false;
}

/* What is read ahead comes meanwhile, or not all of it: then the next touch finds it coming. */
static void wait_for_guest(struct again *again)
{
	while (something_comes(again) && replay_guest_busy(&again->guest))
		;
}

/* The guest does something else for @ns. With nothing coming nobody need wait. */
static void guest_goes_on(struct again *again, double ns)
{
	replay_guest_takes(&again->guest, ns);
	wait_for_guest(again);
}

/* It is on its way back from a fault. */
static void guest_resumes(struct again *again)
{
	replay_guest_resumes(&again->guest);
	while (something_comes(again) && replay_guest_naps(&again->guest))
		;
	wait_for_guest(again);
}

/* Of a touch of @gpa as @record says. What the threads of a restore ask for is in the log, too. */
static bool next_fault(struct again *again, const struct ept_record *record, uint64_t gpa,
		       struct ept_record *out)
{
	while (ept_records_next(again->log, out) == 1)
		if (out->gpa == (gpa & EPT_PAGE_MASK) &&
		    out->origin == again->trace->origin[record->origin])
			return true;
	return false;
}

/* The record of a touch that was a fault, as if it were the one that was recorded then. */
static bool take_fault(struct again *again, const struct ept_record *record, uint64_t gpa,
		       struct ept_record *out)
{
	if (!next_fault(again, record, gpa, out))
		return false;
	replay_count_add(again->count, out, out->kase, replay_chain_of(again->trace, record));
	guest_resumes(again);
	return true;
}

/*
 * No page, an error of the trace's own (a write to a file that is read-only), is none here. What
 * is written holds something from then on: zeros are nothing that reclaim would have to keep.
 */
static int touch(struct again *again, const struct ept_record *record, uint64_t gpa)
{
	const struct replay_trace *trace = again->trace;
	enum ept_origin origin = (enum ept_origin)trace->origin[record->origin];
	gpa_t page = GPA(gpa & EPT_PAGE_MASK);
	const uint64_t something = ~gpa;
	struct iovec iov;
	ssize_t n = record->access == EPT_WRITE
			? ept_write(again->space, page, &something, sizeof(something), origin)
			: ept_map(again->space, page, EPT_PAGE_SIZE,
				  (enum ept_access)record->access, origin, &iov, 1);

	return n < 0 && n != -EFAULT ? (int)n : 0;
}

/* What was recorded as a fault comes with another here: KVM maps it when it is touched. */
static void count_quiet(struct again *again, const struct ept_record *record, bool huge)
{
	struct replay_chain *c = &again->count->chain[replay_chain_of(again->trace, record)];
	bool file = record->area != EPT_RECORD_NONE && record->access == EPT_READ &&
		    replay_has_file(&again->trace->meta->areas[record->area]);

	if (huge)
		return;
	*(file ? &c->quiet_file : &c->quiet) += 1;
	guest_goes_on(again, file ? again->guest.pace.file_page : again->guest.pace.page);
}

static int touch_brought(struct again *again, const struct ept_record *record, bool huge)
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
		if (r == 0 && !take_fault(again, record, gpa, &out))
			count_quiet(again, record, huge);
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
		struct ept_record fault;

		if (replay_leaves_out(trace, record) || replay_is_ahead(trace, record))
			continue;
		guest_goes_on(again, replay_guest_between(&again->guest, record));
		r = touch(again, record, record->gpa);
		if (r)
			break;
		if (take_fault(again, record, record->gpa, &fault))
			huge = brings_huge(&fault);
		else
			count_quiet(again, record, huge);
		if (again->brought && record->area != EPT_RECORD_NONE)
			r = touch_brought(again, record, huge);
	}
	return r;
}

/* --- all of it ------------------------------------------------------------------------- */

/*
 * What a restore brings ahead comes while the guest is on its way to its first fault, too, and from
 * the monitor's own first touch on, if that was before. Of others nothing does.
 */
static uint64_t began(const struct replay_trace *trace)
{
	uint64_t run = trace->meta->first_run_ns, first = trace->records[0].at;

	if (trace->meta->settings.prefetch == EPT_PREFETCH_NONE)
		return 0;
	return run < first ? run : first;
}

static void count_rest(struct again *again)
{
	struct ept_prefetch_stats prefetch;
	struct ept_reclaim_stats reclaim;

	ept_prefetch_stats(again->space, &prefetch);
	again->count->prefetched = prefetch.brought;
	for (size_t i = 0; i < ept_area_count(again->space); i++) {
		struct ept_ahead_stats ahead;

		ept_area_ahead_stats(ept_area_at(again->space, i), &ahead);
		again->count->ahead_read += ahead.bytes_read;
	}
	if (ept_reclaim_stats(again->space, &reclaim)) {
		again->count->peak = reclaim.peak;
		again->count->swapped = reclaim.compressed;
	}
}

int replay_again(const struct replay_trace *trace, const struct replay_layers *layers,
		 const struct trace_settings *settings, bool brought,
		 const struct replay_pace *pace, struct replay_count *count, struct foal_error *err)
{
	struct again again = {.trace = trace, .layers = layers, .count = count, .brought = brought};
	int r = make_space(&again, settings, err);

	if (r == 0) {
		replay_guest_begin(&again.guest, pace, began(trace));
		r = touch_all(&again);
		replay_guest_end();
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

/*
 * All of what each touch may bring, and of a file the pages that stand for it and its cache, too:
 * three times its part at most.
 */
uint64_t replay_needs(const struct replay_trace *trace, const struct trace_settings *settings)
{
	uint64_t all = 0, limit = settings->memory_limit;

	for (size_t i = 0; i < trace->meta->nr_areas; i++) {
		const struct trace_area *area = &trace->meta->areas[i];
		uint64_t touched =
		    trace->areas[i].records * (area->file[0] ? 3 : 1) * EPT_LEAF_BYTES;

		touched = touched < area->size ? touched : area->size;
		if (!trace->areas[i].left_out)
			all += area->file[0]		  ? 3 * touched
			       : limit && limit < touched ? limit
							  : touched;
	}
	return all;
}
