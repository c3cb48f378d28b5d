/* What a report's page is given (docs/report.md): bounded, times from the start of the VM's
 * process. */
#include <stdlib.h>
#include <string.h>

#include "vmm/report.h"

#define LATENCY_STEP 4U /* buckets of a histogram that become one: four are left a power of two */

extern const char foal_version[];

static json_t *integer(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static uint64_t columns(const struct report *r)
{
	return r->bins.any ? r->bins.last - r->bins.first + 1 : 0;
}

static const uint64_t *column(const struct report *r, uint64_t i)
{
	return report_bins_column(&r->bins, r->bins.first + i);
}

/* --- over time -------------------------------------------------------------------------------- */

static json_t *time_json(const struct report *r)
{
	uint64_t from = r->bins.first << r->bins.shift;

	return json_pack(
	    "{s:I, s:I, s:I, s:I}", "from_ns", (json_int_t)from - (json_int_t)r->meta->main_ns,
	    "step_ns", (json_int_t)1 << r->bins.shift, "columns", (json_int_t)columns(r),
	    "first_run_ns", (json_int_t)r->meta->first_run_ns - (json_int_t)r->meta->main_ns);
}

/* One counter of all columns. */
static json_t *series_json(const struct report *r, unsigned counter)
{
	json_t *series = json_array();

	for (uint64_t i = 0; i < columns(r); i++)
		json_array_append_new(series, integer(column(r, i)[counter]));
	return series;
}

/* In the order of the totals. */
static json_t *faults_json(const struct report *r)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < r->meta->nr_cases; i++)
		if (r->sums->cases[i].faults)
			json_array_append_new(list, series_json(r, i));
	return list;
}

static json_t *pages_json(const struct report *r)
{
	return json_pack("{s:o, s:o}", "put_in", series_json(r, report_counter(r, REPORT_PUT_IN)),
			 "new", series_json(r, report_counter(r, REPORT_NEW)));
}

/* --- over guest-physical space ---------------------------------------------------------------- */

/* [row, column, new units, faults, faults of the host kernel] where there were any. */
static json_t *cells_json(const struct report *r)
{
	json_t *cells = json_array();

	for (unsigned row = 0; row < r->space.rows; row++)
		for (uint64_t i = 0; i < columns(r); i++) {
			uint64_t fresh = column(r, i)[report_new_in_row(r, row)];
			uint64_t faults = column(r, i)[report_faults_in_row(r, row)];
			uint64_t host = column(r, i)[report_host_in_row(r, row)];
			if (fresh || faults || host)
				json_array_append_new(
				    cells, json_pack("[i, I, I, I, I]", (int)row, (json_int_t)i,
						     (json_int_t)fresh, (json_int_t)faults,
						     (json_int_t)host));
		}
	return cells;
}

static json_t *space_json(const struct report *r)
{
	json_t *rows = json_array();

	for (unsigned row = 0; row < r->space.rows; row++)
		json_array_append_new(rows, integer(report_space_gpa(&r->space, row)));
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "unit_bytes",
			 integer(EPT_PAGE_SIZE << r->space.unit_shift), "row_bytes",
			 integer(r->space.row_pages << EPT_PAGE_SHIFT), "bytes",
			 integer(r->space.pages << EPT_PAGE_SHIFT), "rows", rows, "outside",
			 integer(r->outside), "cells", cells_json(r));
}

/* --- latencies ------------------------------------------------------------------------- */

/* [the first ns that is more, how many], ascending. */
static json_t *buckets_json(const struct ept_hist *hist)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < EPT_HIST_BUCKETS; i += LATENCY_STEP) {
		uint64_t n = 0;
		for (unsigned j = i; j < i + LATENCY_STEP; j++)
			n += hist->bucket[j];
		if (n)
			json_array_append_new(
			    list,
			    json_pack("[I, I]", (json_int_t)ept_hist_top(i + LATENCY_STEP - 1) + 1,
				      (json_int_t)n));
	}
	return list;
}

static json_t *hist_json(const struct ept_hist *hist)
{
	return json_pack("{s:I, s:I, s:o}", "p90", (json_int_t)ept_hist_percentile(hist, 90),
			 "p999", (json_int_t)ept_hist_percentile(hist, 99.9), "buckets",
			 buckets_json(hist));
}

static json_t *latency_json(const struct report *r)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < r->meta->nr_cases; i++)
		if (r->sums->cases[i].latency.count)
			json_array_append_new(list, hist_json(&r->sums->cases[i].latency));
	return list;
}

/* --- what KVM told ---------------------------------------------------------------------------- */

/* By who resolved them: over time, and from exit to entry. */
static json_t *kvm_faults_json(const struct report *r)
{
	json_t *o = json_object();

	for (int i = 0; i < KVM_NR_SUMS; i++)
		json_object_set_new(
		    o, kvm_sum_name(i),
		    json_pack("{s:o, s:o}", "series",
			      series_json(r, report_counter(r, REPORT_KVM) + (unsigned)i),
			      "exit_to_entry", hist_json(&r->kvm.by[i].time)));
	return o;
}

/* Null: nothing. */
static json_t *kvm_json(struct report *r)
{
	if (!kvm_sums_any(&r->kvm))
		return json_null();
	return json_pack("{s:o, s:o}", "told", kvm_sums_json(&r->kvm), "faults",
			 kvm_faults_json(r));
}

/* --- files ------------------------------------------------------------------------------------ */

static json_t *file_json(const struct report *r, size_t i)
{
	const struct trace_area *area = &r->meta->areas[i];

	return json_pack("{s:s, s:s, s:I, s:I, s:I}", "area", area->name, "file", area->file,
			 "bytes", (json_int_t)area->size, "read",
			 (json_int_t)r->areas[i].bytes_read, "faults",
			 (json_int_t)r->areas[i].faults);
}

static json_t *files_json(const struct report *r)
{
	json_t *list = json_array();
	size_t left = 0;

	for (size_t i = 0; i < r->meta->nr_areas; i++) {
		bool told = json_array_size(list) < REPORT_FILES;
		if (!*r->meta->areas[i].file)
			continue;
		if (told)
			json_array_append_new(list, file_json(r, i));
		left += !told;
	}
	return json_pack("{s:o, s:I}", "areas", list, "left_out", (json_int_t)left);
}

/* Areas of which there are no records: the host kernel resolves their faults. */
static json_t *unseen_json(const struct report *r)
{
	const json_t *areas = json_object_get(r->meta->json, "areas"), *area;
	json_t *names = json_array();
	size_t i;

	json_array_foreach(areas, i, area)
	{
		const char *engine = json_string_value(json_object_get(area, "engine"));
		if (engine && strcmp(engine, "kernel") == 0 &&
		    json_array_size(names) < REPORT_FILES)
			json_array_append_new(names, json_string(r->meta->areas[i].name));
	}
	return names;
}

/* Null: the VM was not told to. */
static json_t *sampled_json(struct report *r, uint64_t lost)
{
	return sampled_rips_any(&r->sampled, r->meta)
		   ? sampled_rips_json(&r->sampled, r->meta, lost)
		   : json_null();
}

json_t *report_json(struct report *r, struct trace_lost lost)
{
	return json_pack(
	    "{s:i, s:s, s:o, s:s, s:I, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "format",
	    REPORT_FORMAT, "foal", foal_version, "summary", trace_sums_json(r->sums, lost), "cut",
	    r->cut, "memory", (json_int_t)r->meta->memory, "cpus", (int)r->meta->cpus, "time",
	    time_json(r), "faults", faults_json(r), "pages", pages_json(r), "space", space_json(r),
	    "latency", latency_json(r), "files", files_json(r), "unseen", unseen_json(r), "kvm",
	    kvm_json(r), "sampled", sampled_json(r, lost.samples));
}
