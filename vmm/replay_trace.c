/* A trace in memory, and what of it can be replayed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/replay.h"

#define FIRST_ROOM 4096U

static bool is_case(const struct replay_trace *trace, const struct ept_record *record,
		    enum ept_case kase)
{
	return trace->kase[record->kase] == (int)kase;
}

/* --- names ------------------------------------------------------------------------------------ */

static void take_names(struct replay_trace *trace)
{
	const struct trace_meta *meta = trace->meta;

	for (unsigned i = 0; i < meta->nr_cases; i++) {
		trace->kase[i] = -1;
		for (int c = 0; c < EPT_NR_CASES; c++)
			if (strcmp(meta->cases[i], ept_case_name((enum ept_case)c)) == 0)
				trace->kase[i] = c;
	}
	/* Who is not known is taken for a vCPU: it waits. */
	for (unsigned i = 0; i < meta->nr_origins; i++) {
		trace->origin[i] = EPT_ORIGIN_VCPU;
		for (int o = 0; o < EPT_NR_ORIGINS; o++)
			if (strcmp(meta->origins[i], ept_origin_name((enum ept_origin)o)) == 0)
				trace->origin[i] = o;
	}
	trace->chains = (size_t)meta->cpus + 2;
}

size_t replay_chain_of(const struct replay_trace *trace, const struct ept_record *record)
{
	int origin = trace->origin[record->origin];

	if (origin == EPT_ORIGIN_DEVICE || origin == EPT_ORIGIN_LOADER)
		return replay_monitor(trace);
	if (record->vcpu != EPT_RECORD_NONE)
		return record->vcpu;
	return trace->meta->cpus == 1 ? 0 : trace->meta->cpus;
}

/* --- areas ------------------------------------------------------------------------------------ */

/* What a record says of its area, where the trace's head says nothing of it. */
static void learn(const struct replay_trace *trace, const struct ept_record *record)
{
	const struct trace_area *area = &trace->meta->areas[record->area];
	struct replay_area *out = &trace->areas[record->area];

	out->records++;
	if (!area->file[0] || (area->layers && trace->meta->settings.prefetch != EPT_PREFETCH_NONE))
		return;
	if (is_case(trace, record, EPT_CASE_SNAP_READ) ||
	    is_case(trace, record, EPT_CASE_SNAP_WRITE) ||
	    is_case(trace, record, EPT_CASE_ANON_READ) ||
	    is_case(trace, record, EPT_CASE_ANON_WRITE))
		out->left_out = "of a snapshot, and a trace has not what lies in it";
	if (area->has_mode)
		return;
	if (is_case(trace, record, EPT_CASE_SHARED_READ) ||
	    is_case(trace, record, EPT_CASE_SHARED_WRITE))
		out->mode = EPT_FILE_SHARED;
	else if (is_case(trace, record, EPT_CASE_RO_WRITE))
		out->mode = EPT_FILE_RO;
}

static int take_areas(struct replay_trace *trace)
{
	trace->areas = calloc(trace->meta->nr_areas + 1, sizeof(*trace->areas));
	if (!trace->areas)
		return -ENOMEM;
	for (size_t i = 0; i < trace->meta->nr_areas; i++) {
		const struct trace_area *area = &trace->meta->areas[i];

		trace->areas[i].mode = area->has_mode ? area->mode : EPT_FILE_COW;
		if (area->host)
			trace->areas[i].left_out =
			    "the host kernel resolves its faults, and nothing is recorded of them";
	}
	for (size_t i = 0; i < trace->count; i++)
		if (trace->records[i].area != EPT_RECORD_NONE)
			learn(trace, &trace->records[i]);
	return 0;
}

/* --- records ---------------------------------------------------------------------------------- */

static int by_time(const void *a, const void *b)
{
	const struct ept_record *one = a, *other = b;

	return one->at < other->at ? -1 : one->at > other->at;
}

static int keep(struct replay_trace *trace, size_t *room, const struct ept_record *record)
{
	if (trace->count == *room) {
		size_t more = *room ? 2 * *room : FIRST_ROOM;
		struct ept_record *all = realloc(trace->records, more * sizeof(*all));

		if (!all)
			return -ENOMEM;
		trace->records = all;
		*room = more;
	}
	trace->records[trace->count++] = *record;
	return 0;
}

static int take_records(struct replay_trace *trace, struct foal_error *damage)
{
	struct ept_record record;
	size_t room = 0;
	int r = 0;

	while (r == 0 && trace_next(&trace->reader, &record, damage) == 1)
		r = keep(trace, &room, &record);
	if (r == 0 && trace->count)
		qsort(trace->records, trace->count, sizeof(*trace->records), by_time);
	return r;
}

static void look(struct replay_trace *trace)
{
	trace->exact = !trace->reader.lost.records && !trace->ahead;
	for (size_t i = 0; i < trace->count; i++) {
		const struct ept_record *record = &trace->records[i];
		bool out = replay_leaves_out(trace, record);

		trace->left_out += out;
		trace->exact &= out || (!record->around && !record->granted);
	}
}

int replay_trace_load(struct replay_trace *trace, const char *path, struct foal_error *err)
{
	struct foal_error damage = {0};
	int r;

	*trace = (struct replay_trace){.meta = &trace->reader.meta};
	r = trace_open_file(&trace->reader, path, err);
	if (r)
		return r;
	take_names(trace);
	trace->ahead = trace->meta->settings.prefetch == EPT_PREFETCH_SET ||
		       trace->meta->settings.prefetch == EPT_PREFETCH_ALL;
	r = take_records(trace, &damage);
	if (r == 0)
		r = take_areas(trace);
	if (r)
		return error_set(err, FOAL_EXIT_HOST, r, "%s: no memory for its records", path);
	look(trace);
	r = replay_gaps(trace);
	if (r)
		return error_set(err, FOAL_EXIT_HOST, r, "%s: no memory for its records", path);
	if (damage.status)
		error_set(err, (enum foal_exit)damage.status, -EBADMSG, "%s", damage.text);
	if (trace->count > trace->left_out)
		return 0;
	return error_set(err, FOAL_EXIT_TRACE, -ENODATA,
			 "%s: no fault in it that could be replayed; of what the host kernel "
			 "resolves there is no record (foal run --fault-engine handler)",
			 path);
}

void replay_trace_free(struct replay_trace *trace)
{
	trace_close(&trace->reader);
	free(trace->records);
	free(trace->areas);
	*trace = (struct replay_trace){.reader.fd = -1};
}
