/* What was recorded, and beside it what is predicted: a table, or JSON. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "vmm/replay.h"

#define CELL 32

/* --- for people --------------------------------------------------------------------------- */

/* Of a range both ends; what is one number is said once. */
static const char *range(char cell[CELL], double least, double most, int digits)
{
	char low[CELL / 2], high[CELL / 2];

	snprintf(low, sizeof(low), "%.*f", digits, least);
	snprintf(high, sizeof(high), "%.*f", digits, most);
	if (strcmp(low, high) == 0)
		snprintf(cell, CELL, "%s", low);
	else
		snprintf(cell, CELL, "%s-%s", low, high);
	return cell;
}

static void put_row(const char *name, double recorded, double here, double least, double most,
		    int digits)
{
	char cell[CELL];

	if (most < least) {
		double other = least;
		least = most;
		most = other;
	}
	printf("%-18s %12.*f %12.*f %18s\n", name, digits, recorded, digits, here,
	       range(cell, least, most, digits));
}

#define ROW(name, of, scale, digits) \
	put_row(name, (double)replay->recorded.of / (scale), (double)replay->here.of / (scale), \
		(double)replay->least.of / (scale), (double)replay->most.of / (scale), digits)

static void put_settings(const struct trace_settings *s)
{
	printf(" --fault-around %u --huge %s", s->fault_around, trace_huges[s->huge]);
	if (s->memory_limit)
		printf(" --memory-limit %" PRIu64 "K", s->memory_limit >> 10);
	if (s->prefetch != EPT_PREFETCH_NONE)
		printf(" --prefetch %s", trace_prefetches[s->prefetch]);
}

static void put_cases(const struct replay *replay)
{
	for (int c = 0; c < EPT_NR_CASES; c++) {
		char name[CELL];

		if (!replay->recorded.count.cases[c] && !replay->here.count.cases[c] &&
		    !replay->least.count.cases[c] && !replay->most.count.cases[c])
			continue;
		snprintf(name, sizeof(name), "  %s", ept_case_name((enum ept_case)c));
		ROW(name, count.cases[c], 1, 0);
	}
}

static void put_left_out(const struct replay_trace *trace)
{
	for (size_t i = 0; i < trace->meta->nr_areas; i++)
		if (trace->areas[i].left_out)
			printf("left out: %s (%" PRIu64 " records): %s\n",
			       trace->meta->areas[i].name, trace->areas[i].records,
			       trace->areas[i].left_out);
}

static bool limited(const struct replay *replay)
{
	return replay->to.memory_limit &&
	       replay->least.count.peak >= replay->to.memory_limit - replay->to.memory_limit / 8;
}

static void put_doubts(const struct replay *replay)
{
	const struct replay_trace *trace = &replay->trace;

	if (trace->reader.lost.records)
		printf("%" PRIu64 " records were lost: all figures are lower bounds\n",
		       trace->reader.lost.records);
	if (trace->ahead)
		puts(
		    "It is of a restore that brought pages in ahead, of which there is no record: "
		    "what\nwould be asked for without is not known, and all figures are lower "
		    "bounds. Best is\nthe restore that records a working set (--prefetch auto, the "
		    "first time).");
	else if (!trace->exact)
		puts("Pages came with others: the least is that nobody touched those, the most "
		     "that all\nwere touched, one behind the other. Recorded with --fault-around 1 "
		     "--huge never each\npage that is touched has a record.");
	if (!trace->meta->has_settings)
		puts("What it was recorded with is not in it: an older foal wrote it.");
	if (limited(replay))
		puts("The limit is reached: which pages are touched again a trace does not say, "
		     "so all\nfigures are lower bounds.");
	if (replay->least.count.swapped)
		printf("%" PRIu64 " times an own page left for the limit, to a swap file: without "
		       "--swap the VM\nwould end instead.\n",
		       replay->least.count.swapped);
}

void replay_print(const struct replay *replay)
{
	const struct replay_trace *trace = &replay->trace;

	printf("%s: %zu records; recorded with", trace->meta->vm, trace->count);
	put_settings(&replay->was);
	printf("\npredicted for");
	put_settings(&replay->to);
	printf("\n\n%-18s %12s %12s %18s\n", "", "recorded", "replayed", "predicted");
	ROW("faults", count.faults, 1, 0);
	put_cases(replay);
	ROW("pages in", count.installed, 1, 0);
	ROW("  unasked", count.around, 1, 0);
	ROW("read by faults KiB", count.bytes_read, 1024.0, 1);
	ROW("read ahead KiB", count.ahead_read, 1024.0, 1);
	if (replay->was.prefetch != EPT_PREFETCH_NONE)
		ROW("pages prefetched", count.prefetched, 1, 0);
	ROW("waited ms", time.waited_ns, 1e6, 3);
	ROW("time ms", time.span_ns, 1e6, 3);
	printf("\na fault's way %.1f us, a page that is there %.1f us, of a file %.1f us\n",
	       replay->costs.way / 1e3, replay->costs.page / 1e3, replay->costs.file_page / 1e3);
	put_doubts(replay);
	put_left_out(trace);
}

/* --- for programs ----------------------------------------------------------------------------- */

static json_t *settings_json(const struct trace_settings *s)
{
	return json_pack("{s:i, s:s, s:I, s:s?}", "fault_around", (int)s->fault_around, "huge",
			 trace_huges[s->huge], "memory_limit", (json_int_t)s->memory_limit,
			 "prefetch",
			 s->prefetch == EPT_PREFETCH_NONE ? NULL : trace_prefetches[s->prefetch]);
}

static json_t *side_json(const struct replay_side *side)
{
	const struct replay_count *count = &side->count;
	json_t *cases = json_object();

	for (int c = 0; c < EPT_NR_CASES; c++)
		if (count->cases[c])
			json_object_set_new(cases, ept_case_name((enum ept_case)c),
					    json_integer((json_int_t)count->cases[c]));
	return json_pack("{s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "faults",
			 (json_int_t)count->faults, "cases", cases, "installed",
			 (json_int_t)count->installed, "around", (json_int_t)count->around,
			 "bytes_read", (json_int_t)count->bytes_read, "ahead_read",
			 (json_int_t)count->ahead_read, "prefetched", (json_int_t)count->prefetched,
			 "swapped", (json_int_t)count->swapped, "waited_ns", side->time.waited_ns,
			 "span_ns", side->time.span_ns);
}

static json_t *left_out_json(const struct replay_trace *trace)
{
	json_t *list = json_array();

	for (size_t i = 0; i < trace->meta->nr_areas; i++)
		if (trace->areas[i].left_out)
			json_array_append_new(list, json_pack("{s:s, s:I, s:s}", "area",
							      trace->meta->areas[i].name, "records",
							      (json_int_t)trace->areas[i].records,
							      "why", trace->areas[i].left_out));
	return list;
}

json_t *replay_json(const struct replay *replay)
{
	const struct replay_trace *trace = &replay->trace;
	const struct replay_costs *costs = &replay->costs;

	return json_pack("{s:s, s:I, s:I, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:{s:f, s:f, "
			 "s:f, s:f, s:f}, s:o}",
			 "vm", trace->meta->vm, "records", (json_int_t)trace->count, "lost",
			 (json_int_t)trace->reader.lost.records, "exact", trace->exact, "limited",
			 limited(replay), "recorded_with", settings_json(&replay->was),
			 "predicted_for", settings_json(&replay->to), "recorded",
			 side_json(&replay->recorded), "replayed", side_json(&replay->here),
			 "least", side_json(&replay->least), "most", side_json(&replay->most),
			 "costs_ns", "way", costs->way, "page", costs->page, "file_page",
			 costs->file_page, "read", costs->read, "rest", costs->rest, "left_out",
			 left_out_json(trace));
}
