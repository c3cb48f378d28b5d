#include "vmm/trace_sums.h"

#include <stdlib.h>

struct trace_sums *trace_sums_new(const struct trace_meta *meta)
{
	struct trace_sums *s = calloc(1, sizeof(*s) + meta->nr_cases * sizeof(s->cases[0]));

	if (s)
		s->meta = meta;
	return s;
}

void trace_sums_add(struct trace_sums *s, const struct ept_record *r)
{
	struct trace_case_sums *sums = &s->cases[r->kase];

	if (s->records++ == 0 || r->at < s->first)
		s->first = r->at;
	if (r->at > s->last)
		s->last = r->at;
	s->by_origin[r->origin]++;
	sums->faults++;
	sums->major += !!(r->flags & EPT_RECORD_MAJOR);
	sums->installed += r->installed;
	sums->around += r->around;
	sums->granted += r->granted;
	sums->bytes_read += r->bytes_read;
	ept_hist_add(&sums->latency, r->done_ns);
}

static json_t *case_json(const char *name, const struct trace_case_sums *sums)
{
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:{s:I, s:I, s:I}}", "case", name,
			 "faults", (json_int_t)sums->faults, "major", (json_int_t)sums->major,
			 "installed", (json_int_t)sums->installed, "around",
			 (json_int_t)sums->around, "granted", (json_int_t)sums->granted,
			 "bytes_read", (json_int_t)sums->bytes_read, "latency_ns", "p50",
			 (json_int_t)ept_hist_percentile(&sums->latency, 50), "p99",
			 (json_int_t)ept_hist_percentile(&sums->latency, 99), "max",
			 (json_int_t)sums->latency.max);
}

json_t *trace_sums_json(const struct trace_sums *s, struct trace_lost lost)
{
	json_t *cases = json_array(), *origins = json_object();

	for (unsigned i = 0; i < s->meta->nr_cases; i++)
		if (s->cases[i].faults)
			json_array_append_new(cases, case_json(s->meta->cases[i], &s->cases[i]));
	for (unsigned i = 0; i < s->meta->nr_origins; i++)
		json_object_set_new(origins, s->meta->origins[i],
				    json_integer((json_int_t)s->by_origin[i]));
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "vm", s->meta->vm, "records",
			 (json_int_t)s->records, "lost", (json_int_t)lost.records, "first_ns",
			 (json_int_t)s->first, "last_ns", (json_int_t)s->last, "main_ns",
			 (json_int_t)s->meta->main_ns, "by_origin", origins, "cases", cases);
}
