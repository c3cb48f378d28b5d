/*
 * Do the counts agree? Three statements, each with where its numbers come from (docs/stats.md,
 * reconciliation): every event has ended as exactly one case; the same by who faulted; and what
 * KVM's faults were.
 */
#include <inttypes.h>

#include "vmm/stats.h"

static json_t *integer(uint64_t value)
{
	return json_integer((json_int_t)value);
}

struct pf_parts report_pf(const struct report *report)
{
	const struct kvm_stats *kvm = &report->kvm;
	struct pf_parts pf = {.taken = kvm_stats_get(kvm, "pf_taken"),
			      .fixed = kvm_stats_get(kvm, "pf_fixed"),
			      .emulated = kvm_stats_get(kvm, "pf_emulate"),
			      .spurious = kvm_stats_get(kvm, "pf_spurious"),
			      .fast = kvm_stats_get(kvm, "pf_fast"),
			      .guest = kvm_stats_get(kvm, "pf_guest")};

	struct ept_sampling_stats sampling;

	ept_space_sampling(report->vm->space, &sampling);
	pf.kicks = sampling.kicks;
	/* KVM calls a fast one fixed or spurious, too (fast_page_fault(), Linux 5.19). */
	pf.counted_twice = pf.fast;
	pf.remainder = (int64_t)(pf.taken - pf.fixed - pf.emulated - pf.spurious - pf.fast -
				 pf.guest + pf.counted_twice);
	return pf;
}

/* Sums over the origins that have events. */
struct sums {
	uint64_t events, in_flight, counted;
	int64_t open;
};

static struct sums sums_of(const struct ept_reconciliation *books)
{
	struct sums s = {0};

	for (int o = 0; o < EPT_NR_ORIGINS; o++) {
		if (!ept_origin_has_events((enum ept_origin)o))
			continue;
		s.events += books->events[o];
		s.in_flight += books->in_flight[o];
		s.counted += books->counted[o];
		s.open += ept_reconciliation_open(books, (enum ept_origin)o);
	}
	return s;
}

/* --- JSON ------------------------------------------------------------------------------ */

static json_t *cases_part(const struct ept_reconciliation *books)
{
	struct sums s = sums_of(books);
	json_t *by_case = json_object();

	for (int c = 0; c < EPT_NR_CASES; c++)
		if (books->cases[c])
			json_object_set_new(by_case, ept_case_name((enum ept_case)c),
					    integer(books->cases[c]));
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:o}", "source", "userfaultfd", "events",
			 (json_int_t)s.events, "in_flight", (json_int_t)s.in_flight, "counted",
			 (json_int_t)s.counted, "open", (json_int_t)s.open, "exits",
			 (json_int_t)books->exits, "by_case", by_case);
}

static json_t *origin_part(const struct ept_reconciliation *books, enum ept_origin o)
{
	json_t *row = json_object();

	if (!ept_origin_has_events(o)) {
		json_object_set_new(row, "calls", integer(books->counted[o]));
		return row;
	}
	json_object_set_new(row, "events", integer(books->events[o]));
	json_object_set_new(row, "in_flight", integer(books->in_flight[o]));
	json_object_set_new(row, "counted", integer(books->counted[o]));
	json_object_set_new(row, "open", json_integer(ept_reconciliation_open(books, o)));
	return row;
}

static json_t *origins_part(const struct ept_reconciliation *books)
{
	json_t *part = json_pack("{s:s}", "source", "userfaultfd");

	for (int o = 0; o < EPT_NR_ORIGINS; o++)
		json_object_set_new(part, ept_origin_name((enum ept_origin)o),
				    origin_part(books, (enum ept_origin)o));
	return part;
}

static json_t *pf_part(const struct report *report)
{
	struct pf_parts pf = report_pf(report);

	if (!report->kvm_known)
		return json_null();
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "source",
			 "KVM statistics", "pf_taken", (json_int_t)pf.taken, "fixed",
			 (json_int_t)pf.fixed, "emulated", (json_int_t)pf.emulated, "spurious",
			 (json_int_t)pf.spurious, "fast", (json_int_t)pf.fast, "guest",
			 (json_int_t)pf.guest, "counted_twice", (json_int_t)pf.counted_twice,
			 "remainder", (json_int_t)pf.remainder, "kicks", (json_int_t)pf.kicks);
}

json_t *reconciliation_json(const struct report *report)
{
	return json_pack("{s:b, s:o, s:o, s:o}", "settled", report->books.settled, "cases",
			 cases_part(&report->books), "origins", origins_part(&report->books), "kvm",
			 pf_part(report));
}

/* --- the table ------------------------------------------------------------------------- */

static void print_cases(const struct ept_reconciliation *books, FILE *out)
{
	struct sums s = sums_of(books);

	fprintf(out,
		"\nevents read from userfaultfd: %" PRIu64 " = %" PRIu64
		" of one case each + %" PRIu64 " in flight",
		s.events, s.counted, s.in_flight);
	if (s.open)
		fprintf(out, " + %" PRId64 " of no case: a bug", s.open);
	fprintf(out, "%s\n",
		books->settled ? "" : " (they came too fast to be counted at one moment)");
}

static void print_origins(const struct ept_reconciliation *books, FILE *out)
{
	fprintf(out,
		"by origin: vCPU %" PRIu64 ", KVM's worker %" PRIu64 "; by call: devices %" PRIu64
		", loader %" PRIu64 "; as exits of KVM: %" PRIu64 "\n",
		books->events[EPT_ORIGIN_VCPU], books->events[EPT_ORIGIN_KVM],
		books->counted[EPT_ORIGIN_DEVICE], books->counted[EPT_ORIGIN_LOADER], books->exits);
}

static void print_pf(const struct report *report, FILE *out)
{
	struct pf_parts pf = report_pf(report);

	if (!report->kvm_known) {
		fputs("KVM statistics: not offered by this kernel\n", out);
		return;
	}
	fprintf(out,
		"KVM statistics: pf_taken %" PRIu64 " = fixed %" PRIu64 " + emulated %" PRIu64
		" + spurious %" PRIu64 " + fast %" PRIu64 " + the guest's own %" PRIu64
		"\n    - counted twice %" PRIu64 " + retries and uncounted %" PRId64,
		pf.taken, pf.fixed, pf.emulated, pf.spurious, pf.fast, pf.guest, pf.counted_twice,
		pf.remainder);
	if (pf.kicks)
		fprintf(out, " (kicks %" PRIu64 ")", pf.kicks);
	fprintf(out, "; exits %" PRIu64 " (io %" PRIu64 ", mmio %" PRIu64 ", halt %" PRIu64 ")\n",
		kvm_stats_get(&report->kvm, "exits"), kvm_stats_get(&report->kvm, "io_exits"),
		kvm_stats_get(&report->kvm, "mmio_exits"),
		kvm_stats_get(&report->kvm, "halt_exits"));
}

/* Not of the books: they close with what the kicks cost in them. */
static void print_sampling(const struct report *report, FILE *out)
{
	struct ept_sampling_stats s;

	if (!ept_space_sampling(report->vm->space, &s))
		return;
	fprintf(out,
		"guest RIPs, of 1 in %" PRIu64 " faults of vCPUs: %" PRIu64 " faults, %" PRIu64
		" kicks, %" PRIu64 " samples; %" PRIu64 " refaults by kicks\n",
		s.every, s.faults, s.kicks, s.taken, s.refaults);
}

void reconciliation_table(const struct report *report, FILE *out)
{
	print_cases(&report->books, out);
	print_origins(&report->books, out);
	print_pf(report, out);
	print_sampling(report, out);
}
