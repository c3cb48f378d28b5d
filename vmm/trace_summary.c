/* What a trace adds up to: a table for people, JSON for programs. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/kvm_sums.h"
#include "vmm/trace_out.h"
#include "vmm/trace_sums.h"

struct summary {
	struct trace_out *out;
	struct trace_sums *sums;
	struct kvm_sums kvm;
	struct sampled_rips sampled;
};

static void *begin(struct trace_out *out, const struct trace_meta *meta)
{
	struct summary *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->out = out;
	s->kvm.rips.symbols = s->sampled.sums.symbols = meta->symbols;
	s->sums = trace_sums_new(meta);
	if (!s->sums) {
		free(s);
		return NULL;
	}
	return s;
}

static void record(void *form, const struct ept_record *r)
{
	trace_sums_add(((struct summary *)form)->sums, r);
}

static void free_all(struct summary *s)
{
	free(s->sums);
	free(s);
}

static void kvm_fault(void *form, const struct kvm_fault *fault)
{
	struct summary *s = form;

	kvm_sums_add(&s->kvm, s->sums->meta, fault);
}

static void sample(void *form, const struct ept_sample *one)
{
	sampled_rips_add(&((struct summary *)form)->sampled, one);
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

static void put_row(struct trace_out *out, const char *kase, const struct trace_case_sums *sums)
{
	trace_out_text(
	    out,
	    "%-15s %9" PRIu64 " %8" PRIu64 " %9" PRIu64 " %9" PRIu64 " %9.1f %9.1f %9.1f %9.1f\n",
	    kase, sums->faults, sums->major, sums->installed, sums->around,
	    (double)sums->bytes_read / 1024, micros(ept_hist_percentile(&sums->latency, 50)),
	    micros(ept_hist_percentile(&sums->latency, 99)), micros(sums->latency.max));
}

static void put_origins(struct trace_out *out, const struct trace_sums *sums)
{
	for (unsigned i = 0; i < sums->meta->nr_origins; i++)
		trace_out_text(out, "%s %s %" PRIu64, i ? "," : "by", sums->meta->origins[i],
			       sums->by_origin[i]);
	trace_out_text(out, "\n");
}

static void table_end(void *form, struct trace_lost lost)
{
	struct summary *s = form;
	const struct trace_sums *sums = s->sums;

	trace_out_text(s->out, "%s: %" PRIu64 " records of %.3f s, %" PRIu64 " lost\n",
		       sums->meta->vm, sums->records, (double)(sums->last - sums->first) / 1e9,
		       lost.records);
	if (sums->records)
		trace_out_text(s->out, "\n%-15s %9s %8s %9s %9s %9s %9s %9s %9s\n", "case",
			       "faults", "major", "installed", "around", "read KiB", "p50 us",
			       "p99 us", "max us");
	for (unsigned i = 0; i < sums->meta->nr_cases; i++)
		if (sums->cases[i].faults)
			put_row(s->out, sums->meta->cases[i], &sums->cases[i]);
	if (sums->records) {
		trace_out_text(s->out, "\n");
		put_origins(s->out, sums);
	}
	if (kvm_sums_any(&s->kvm))
		kvm_sums_table(&s->kvm, s->out);
	if (sampled_rips_any(&s->sampled, sums->meta))
		sampled_rips_table(&s->sampled, sums->meta, lost.samples, s->out);
	free_all(s);
}

const struct trace_form trace_summary = {
    .name = "table",
    .begin = begin,
    .record = record,
    .sample = sample,
    .kvm_fault = kvm_fault,
    .kvm_end = kvm_end,
    .end = table_end,
};

/* --- for programs --------------------------------------------------------------------------- */

static void json_end(void *form, struct trace_lost lost)
{
	struct summary *s = form;
	json_t *json = trace_sums_json(s->sums, lost);

	if (kvm_sums_any(&s->kvm))
		json_object_set_new(json, "kvm", kvm_sums_json(&s->kvm));
	if (sampled_rips_any(&s->sampled, s->sums->meta))
		json_object_set_new(json, "rip_samples",
				    sampled_rips_json(&s->sampled, s->sums->meta, lost.samples));
	char *text = json_dumps(json, JSON_INDENT(2) | JSON_ENSURE_ASCII);

	if (text) {
		trace_out_bytes(s->out, text, strlen(text));
		trace_out_text(s->out, "\n");
	}
	free(text);
	json_decref(json);
	free_all(s);
}

const struct trace_form trace_summary_json = {
    .name = "json",
    .begin = begin,
    .record = record,
    .sample = sample,
    .kvm_fault = kvm_fault,
    .kvm_end = kvm_end,
    .end = json_end,
};
