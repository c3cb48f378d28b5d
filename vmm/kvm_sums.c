#include "vmm/kvm_sums.h"

#include <inttypes.h>

#define NOT_COUNTED "not known: the VM has ended, or its host has none"
#define NO_END	    "not known: the trace is cut short"

static const struct {
	const char *name, *text;
} sources[KVM_NR_SUMS] = {
    [KVM_SUM_HANDLER] = {"handler", "resolved by foal's handlers"},
    [KVM_SUM_HOST] = {"host", "resolved by the host kernel"},
    [KVM_SUM_AGAIN] = {"again", "again: same page, same RIP"},
    [KVM_SUM_OUTSIDE] = {"outside", "of no memory"},
};

static bool in_memory(const struct trace_meta *meta, uint64_t gpa)
{
	for (size_t i = 0; i < meta->nr_areas; i++)
		if (gpa - meta->areas[i].gpa < meta->areas[i].size)
			return true;
	return false;
}

enum kvm_sum kvm_sum_of(const struct trace_meta *meta, const struct kvm_fault *fault)
{
	if (!in_memory(meta, fault->gpa))
		return KVM_SUM_OUTSIDE;
	if (fault->handled)
		return KVM_SUM_HANDLER;
	return fault->again ? KVM_SUM_AGAIN : KVM_SUM_HOST;
}

const char *kvm_sum_name(enum kvm_sum sum)
{
	return sources[sum].name;
}

enum kvm_sum kvm_sums_add(struct kvm_sums *sums, const struct trace_meta *meta,
			  const struct kvm_fault *fault)
{
	enum kvm_sum sum = kvm_sum_of(meta, fault);

	sums->by[sum].faults++;
	ept_hist_add(&sums->by[sum].time, fault->entry - fault->at);
	if (sum != KVM_SUM_AGAIN)
		rip_sums_add(&sums->rips, fault->rip, true);
	return sum;
}

bool kvm_sums_any(const struct kvm_sums *sums)
{
	bool any = sums->told;

	for (int i = 0; i < KVM_NR_SUMS; i++)
		any |= sums->by[i].faults != 0;
	return any;
}

/* --- for people ------------------------------------------------------------------------------ */

static void put_counts(const struct kvm_fault_counts *counts, struct trace_out *out)
{
	trace_out_text(out,
		       "KVM, by its tracepoints: %" PRIu64 " exits, %" PRIu64 " entries, %" PRIu64
		       " samples lost\n",
		       counts->exits, counts->entries, counts->lost);
}

static void put_faults(const struct kvm_sums *sums, struct trace_out *out)
{
	trace_out_text(out, "%-28s %9s %27s\n", "nested page faults", "faults",
		       "exit to entry p50, p99 us");
	for (int i = 0; i < KVM_NR_SUMS; i++)
		if (sums->by[i].faults)
			trace_out_text(out, "%-28s %9" PRIu64 " %16.1f %10.1f\n", sources[i].text,
				       sums->by[i].faults,
				       (double)ept_hist_percentile(&sums->by[i].time, 50) / 1e3,
				       (double)ept_hist_percentile(&sums->by[i].time, 99) / 1e3);
}

static void put_statistics(const struct trace_kvm_told *told, struct trace_out *out)
{
	if (told && told->counted)
		trace_out_text(out,
			       "KVM, by its statistics (KVM_GET_STATS_FD): %" PRIu64
			       " exits, %" PRIu64 " page faults taken, %" PRIu64 " fixed\n",
			       told->exits, told->taken, told->fixed);
	else
		trace_out_text(out, "KVM, by its statistics (KVM_GET_STATS_FD): %s\n",
			       told ? NOT_COUNTED : NO_END);
}

void kvm_sums_table(struct kvm_sums *sums, struct trace_out *out)
{
	const struct trace_kvm_told *told = sums->told;

	trace_out_text(out, "\n");
	if (!told)
		trace_out_text(out, "KVM, by its tracepoints: exits " NO_END "\n");
	else if (told->missing)
		trace_out_text(out, "KVM, by its tracepoints: not permitted\n");
	else if (told->counts.exits == 0)
		trace_out_text(out, "KVM, by its tracepoints: none came%s\n",
			       told->exits ? ", though it counted exits: it passes none" : "");
	else
		put_counts(&told->counts, out);
	if (!told || told->counts.exits)
		put_faults(sums, out);
	rip_sums_line(&sums->rips, out);
	put_statistics(told, out);
}

/* --- for programs ----------------------------------------------------------------------------- */

static json_t *sum_json(const struct kvm_sums *sums, int i)
{
	const struct ept_hist *time = &sums->by[i].time;

	return json_pack("{s:I, s:{s:I, s:I, s:I}}", "faults", (json_int_t)sums->by[i].faults,
			 "exit_to_entry_ns", "p50", (json_int_t)ept_hist_percentile(time, 50),
			 "p99", (json_int_t)ept_hist_percentile(time, 99), "max",
			 (json_int_t)time->max);
}

static void put_counts_json(const struct kvm_fault_counts *counts, json_t *o)
{
	json_object_set_new(o, "exits", json_integer((json_int_t)counts->exits));
	json_object_set_new(o, "entries", json_integer((json_int_t)counts->entries));
	json_object_set_new(o, "lost", json_integer((json_int_t)counts->lost));
}

static json_t *points_json(struct kvm_sums *sums)
{
	json_t *o = json_pack("{s:s}", "source", "KVM tracepoints");

	if (sums->told)
		put_counts_json(&sums->told->counts, o);
	for (int i = 0; i < KVM_NR_SUMS; i++)
		json_object_set_new(o, sources[i].name, sum_json(sums, i));
	json_object_set_new(o, "rips", rip_sums_json(&sums->rips));
	return o;
}

json_t *kvm_sums_json(struct kvm_sums *sums)
{
	const struct trace_kvm_told *told = sums->told;
	const char *missing = told ? told->missing : NULL;
	bool counted = told && told->counted;
	json_t *o = json_object(), *statistics = json_null();

	if (counted)
		statistics = json_pack("{s:s, s:I, s:I, s:I}", "source", "KVM statistics", "exits",
				       (json_int_t)told->exits, "pf_taken", (json_int_t)told->taken,
				       "pf_fixed", (json_int_t)told->fixed);
	json_object_set_new(o, "missing", missing ? json_string(missing) : json_null());
	json_object_set_new(o, "tracepoints", missing ? json_null() : points_json(sums));
	json_object_set_new(o, "statistics", statistics);
	json_object_set_new(o, "statistics_missing",
			    counted ? json_null() : json_string(told ? NOT_COUNTED : NO_END));
	return o;
}
