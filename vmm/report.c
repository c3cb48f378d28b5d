/* The form of a trace that is a page: its records, reduced. */
#include "vmm/report.h"

#include <stdlib.h>

static void free_all(struct report *r)
{
	free(r->sums);
	free(r->areas);
	report_bins_free(&r->bins);
	report_space_free(&r->space);
	free(r);
}

static void *begin(struct trace_out *out, const struct trace_meta *meta)
{
	struct report *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->out = out;
	r->meta = meta;
	r->kvm.rips.symbols = r->sampled.sums.symbols = meta->symbols;
	r->sums = trace_sums_new(meta);
	r->areas = calloc(meta->nr_areas + 1, sizeof(*r->areas));
	int bins = report_bins_init(&r->bins, report_width(r));
	int space = report_space_init(&r->space, meta);
	if (r->sums && r->areas && !bins && !space)
		return r;
	free_all(r);
	return NULL;
}

static void record(void *form, const struct ept_record *record)
{
	struct report *r = form;
	uint64_t *column = report_bins_at(&r->bins, record->at);
	unsigned row = report_space_row(&r->space, record->gpa);

	trace_sums_add(r->sums, record);
	column[record->kase]++;
	column[report_counter(r, REPORT_PUT_IN)] += record->installed;
	if (record->area != EPT_RECORD_NONE) {
		r->areas[record->area].faults++;
		r->areas[record->area].bytes_read += record->bytes_read;
	}
	if (row == REPORT_NO_ROW) {
		r->outside++;
		return;
	}
	column[report_faults_in_row(r, row)]++;
	column[report_counter(r, REPORT_NEW)] += report_space_come(
	    &r->space, record->gpa, record->installed, column + report_new_in_row(r, 0));
}

static void sample(void *form, const struct ept_sample *one)
{
	sampled_rips_add(&((struct report *)form)->sampled, one);
}

static void kvm_fault(void *form, const struct kvm_fault *fault)
{
	struct report *r = form;
	uint64_t *column = report_bins_at(&r->bins, fault->at);
	enum kvm_sum sum = kvm_sums_add(&r->kvm, r->meta, fault);

	column[report_counter(r, REPORT_KVM) + sum]++;
	if (sum == KVM_SUM_HOST)
		column[report_host_in_row(r, report_space_row(&r->space, fault->gpa))]++;
}

static void kvm_end(void *form, const struct trace_kvm_told *told)
{
	((struct report *)form)->kvm.told = told;
}

static void end(void *form, struct trace_lost lost)
{
	struct report *r = form;
	json_t *data = report_json(r, lost);

	report_page_write(r->page, data, r->out);
	json_decref(data);
	free_all(r);
}

const struct trace_form trace_report = {
    .name = "page",
    .suffix = ".html",
    .begin = begin,
    .record = record,
    .sample = sample,
    .kvm_fault = kvm_fault,
    .kvm_end = kvm_end,
    .end = end,
};
