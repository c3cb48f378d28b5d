/* What a trace adds up to: a table for people, JSON for programs. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ept/stats.h"
#include "vmm/kvm_sums.h"

struct sums {
	uint64_t faults, major, installed, around, granted, bytes_read;
	struct ept_hist latency; /* ns */
};

struct summary {
	struct trace_out *out;
	const struct trace_meta *meta;
	uint64_t records, first, last; /* CLOCK_MONOTONIC, of picked up */
	uint64_t by_origin[TRACE_ORIGINS_MAX];
	struct kvm_sums kvm;
	struct sums cases[]; /* as many as there are */
};

static void *begin(struct trace_out *out, const struct trace_meta *meta)
{
	struct summary *s = calloc(1, sizeof(*s) + meta->nr_cases * sizeof(s->cases[0]));

	if (!s)
		return NULL;
	s->out = out;
	s->meta = meta;
	return s;
}

static void record(void *form, const struct ept_record *r)
{
	struct summary *s = form;
	struct sums *sums = &s->cases[r->kase];

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

static void kvm_fault(void *form, const struct kvm_fault *fault)
{
	struct summary *s = form;

	kvm_sums_add(&s->kvm, s->meta, fault);
}

static void kvm_end(void *form, const struct trace_kvm_told *told)
{
	struct summary *s = form;

	s->kvm.told = told;
}

/* --- for people --------------------------------------------------------------------------- */

static double micros(uint64_t ns)
{
	return (double)ns / 1e3;
}

static void put_row(const struct summary *s, unsigned kase)
{
	const struct sums *sums = &s->cases[kase];

	trace_out_text(
	    s->out,
	    "%-15s %9" PRIu64 " %8" PRIu64 " %9" PRIu64 " %9" PRIu64 " %9.1f %9.1f %9.1f %9.1f\n",
	    s->meta->cases[kase], sums->faults, sums->major, sums->installed, sums->around,
	    (double)sums->bytes_read / 1024, micros(ept_hist_percentile(&sums->latency, 50)),
	    micros(ept_hist_percentile(&sums->latency, 99)), micros(sums->latency.max));
}

static void put_origins(const struct summary *s)
{
	for (unsigned i = 0; i < s->meta->nr_origins; i++)
		trace_out_text(s->out, "%s %s %" PRIu64, i ? "," : "by", s->meta->origins[i],
			       s->by_origin[i]);
	trace_out_text(s->out, "\n");
}

static void table_end(void *form, uint64_t lost)
{
	struct summary *s = form;

	trace_out_text(s->out, "%s: %" PRIu64 " records of %.3f s, %" PRIu64 " lost\n", s->meta->vm,
		       s->records, (double)(s->last - s->first) / 1e9, lost);
	if (s->records)
		trace_out_text(s->out, "\n%-15s %9s %8s %9s %9s %9s %9s %9s %9s\n", "case",
			       "faults", "major", "installed", "around", "read KiB", "p50 us",
			       "p99 us", "max us");
	for (unsigned i = 0; i < s->meta->nr_cases; i++)
		if (s->cases[i].faults)
			put_row(s, i);
	if (s->records) {
		trace_out_text(s->out, "\n");
		put_origins(s);
	}
	if (s->kvm.told)
		kvm_sums_table(&s->kvm, s->out);
	free(s);
}

const struct trace_form trace_summary = {
    .name = "table",
    .begin = begin,
    .record = record,
    .kvm_fault = kvm_fault,
    .kvm_end = kvm_end,
    .end = table_end,
};

/* --- for programs --------------------------------------------------------------------------- */

static json_t *case_json(const char *name, const struct sums *sums)
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

static json_t *summary_json(const struct summary *s, uint64_t lost)
{
	json_t *cases = json_array(), *origins = json_object();

	for (unsigned i = 0; i < s->meta->nr_cases; i++)
		if (s->cases[i].faults)
			json_array_append_new(cases, case_json(s->meta->cases[i], &s->cases[i]));
	for (unsigned i = 0; i < s->meta->nr_origins; i++)
		json_object_set_new(origins, s->meta->origins[i],
				    json_integer((json_int_t)s->by_origin[i]));
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "vm", s->meta->vm, "records",
			 (json_int_t)s->records, "lost", (json_int_t)lost, "first_ns",
			 (json_int_t)s->first, "last_ns", (json_int_t)s->last, "main_ns",
			 (json_int_t)s->meta->main_ns, "by_origin", origins, "cases", cases);
}

static void json_end(void *form, uint64_t lost)
{
	struct summary *s = form;
	json_t *json = summary_json(s, lost);
	if (s->kvm.told)
		json_object_set_new(json, "kvm", kvm_sums_json(&s->kvm));
	char *text = json_dumps(json, JSON_INDENT(2) | JSON_ENSURE_ASCII);

	if (text) {
		trace_out_bytes(s->out, text, strlen(text));
		trace_out_text(s->out, "\n");
	}
	free(text);
	json_decref(json);
	free(s);
}

const struct trace_form trace_summary_json = {
    .name = "json",
    .begin = begin,
    .record = record,
    .kvm_fault = kvm_fault,
    .kvm_end = kvm_end,
    .end = json_end,
};
