/* What the records of a trace add up to, by case and by origin. One thread. Private to vmm/. */
#ifndef FOAL_VMM_TRACE_SUMS_H
#define FOAL_VMM_TRACE_SUMS_H

#include "ept/stats.h"
#include "vmm/trace_file.h"

struct trace_case_sums {
	uint64_t faults, major, installed, around, granted, bytes_read;
	struct ept_hist latency; /* ns */
};

struct trace_sums {
	const struct trace_meta *meta;
	uint64_t records, first, last; /* CLOCK_MONOTONIC, of picked up */
	uint64_t by_origin[TRACE_ORIGINS_MAX];
	struct trace_case_sums cases[]; /* as many as there are */
};

/* NULL: out of memory. @meta is kept; free() it. */
struct trace_sums *trace_sums_new(const struct trace_meta *meta);
/* @record is valid (trace_record_is_valid()). */
void trace_sums_add(struct trace_sums *sums, const struct ept_record *record);
/* For programs: what foal trace --json says. NULL: out of memory. */
json_t *trace_sums_json(const struct trace_sums *sums, struct trace_lost lost);

#endif
