/*
 * The report in the text format of Prometheus, 0.0.4 (prometheus.io, "Exposition formats"): for
 * each metric its HELP and TYPE, then all its samples. docs/stats.md lists them.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/stats.h"

/* Latencies are cut at powers of two, from 1 us to 2 s, where the ledger's buckets end, too. */
#define SHIFT_FIRST 10
#define SHIFT_LAST  31

/* Too large for a stack. */
struct metrics {
	const struct report *report;
	FILE *out;
	char *vm; /* its label's value, escaped */
	struct ept_case_stats sum, one;
};

/* --- the format ------------------------------------------------------------------------ */

/* As a label's value; what is no UTF-8 has no place there. free() it; NULL: no memory. */
static char *escaped(const char *value)
{
	json_t *utf8 = json_string(value);
	char *text = malloc(2 * strlen(value) + 1), *to = text;

	for (const char *at = value; text && *at; at++) {
		bool escape = *at == '\\' || *at == '"' || *at == '\n';

		if (escape)
			*to++ = '\\';
		if (*at == '\n')
			*to++ = 'n';
		else if (*at & 0x80 && !utf8)
			*to++ = '?';
		else
			*to++ = *at;
	}
	if (text)
		*to = 0;
	json_decref(utf8);
	return text;
}

static void head(const struct metrics *m, const char *name, const char *type, const char *help)
{
	fprintf(m->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label of our own word for the value, which needs no escape; @label NULL: none. */
static void sample(const struct metrics *m, const char *name, const char *label, const char *value,
		   uint64_t n)
{
	fprintf(m->out, "%s{vm=\"%s\"", name, m->vm);
	if (label)
		fprintf(m->out, ",%s=\"%s\"", label, value);
	fprintf(m->out, "} %" PRIu64 "\n", n);
}

/* ns as seconds, exact: a double holds no more than 15 digits. */
static void seconds(const struct metrics *m, uint64_t ns)
{
	fprintf(m->out, "%" PRIu64 ".%09" PRIu64, ns / 1000000000, ns % 1000000000);
}

static void time_sample(const struct metrics *m, const char *name, const char *label,
			const char *value, uint64_t ns)
{
	fprintf(m->out, "%s{vm=\"%s\"", name, m->vm);
	if (label)
		fprintf(m->out, ",%s=\"%s\"", label, value);
	fputs("} ", m->out);
	seconds(m, ns);
	fputc('\n', m->out);
}

/* --- cases ----------------------------------------------------------------------------- */

typedef void print_fn(struct metrics *m, const char *area, const char *kase, const void *ctx);

/* @print of each case that happened in each area; areas of one name are one. */
static int each_case(struct metrics *m, print_fn *print, const void *ctx)
{
	for (size_t i = 0; i <= ept_area_count(m->report->vm->space); i++) {
		if (report_named_before(m->report, i))
			continue;
		char *area = escaped(report_area_name(m->report, i));
		for (int c = 0; area && c < EPT_NR_CASES; c++) {
			report_sum_case(m->report, i, (enum ept_case)c, &m->sum, &m->one);
			if (m->sum.faults)
				print(m, area, ept_case_name((enum ept_case)c), ctx);
		}
		if (!area)
			return -ENOMEM;
		free(area);
	}
	return 0;
}

static void print_faults(struct metrics *m, const char *area, const char *kase, const void *ctx)
{
	(void)ctx;
	for (int o = 0; o < EPT_NR_ORIGINS; o++)
		fprintf(
		    m->out,
		    "foal_faults_total{vm=\"%s\",area=\"%s\",case=\"%s\",origin=\"%s\"} %" PRIu64
		    "\n",
		    m->vm, area, kase, ept_origin_name((enum ept_origin)o), m->sum.by_origin[o]);
}

/* One of EPT_COUNTERS, by where it is in the struct. */
struct counter {
	const char *name;
	size_t at;
};

static void print_counter(struct metrics *m, const char *area, const char *kase, const void *ctx)
{
	const struct counter *counter = ctx;
	uint64_t value;

	memcpy(&value, (const char *)&m->sum + counter->at, sizeof(value));
	fprintf(m->out, "foal_fault_%s_total{vm=\"%s\",area=\"%s\",case=\"%s\"} %" PRIu64 "\n",
		counter->name, m->vm, area, kase, value);
}

/* Faults themselves are there by origin. */
static int print_counters(struct metrics *m)
{
	static const struct {
		struct counter counter;
		const char *unit;
	} rows[] = {
#define X(field, name, unit) {{name, offsetof(struct ept_case_stats, field)}, unit},
	    EPT_COUNTERS(X)
#undef X
	};
	char name[64], help[96];
	int r = 0;

	for (size_t i = 1; i < sizeof(rows) / sizeof(rows[0]) && r == 0; i++) {
		snprintf(name, sizeof(name), "foal_fault_%s_total", rows[i].counter.name);
		snprintf(help, sizeof(help), "Sum of the counter %s of faults%s%s.",
			 rows[i].counter.name, rows[i].unit[0] ? ", in " : "", rows[i].unit);
		head(m, name, "counter", help);
		r = each_case(m, print_counter, &rows[i].counter);
	}
	return r;
}

/* The buckets say how many there are, so that the three agree while faults go on. */
static void print_latency(struct metrics *m, const char *area, const char *kase, const void *ctx)
{
	const struct ept_hist *h = &m->sum.latency;
	const char *format = "foal_fault_latency_seconds_bucket{vm=\"%s\",area=\"%s\",case=\"%s\"";
	uint64_t all = 0;

	(void)ctx;
	for (unsigned i = 0; i < EPT_HIST_BUCKETS; i++)
		all += h->bucket[i];
	for (unsigned shift = SHIFT_FIRST; shift <= SHIFT_LAST; shift++) {
		fprintf(m->out, format, m->vm, area, kase);
		fputs(",le=\"", m->out);
		seconds(m, (1UL << shift) - 1);
		fprintf(m->out, "\"} %" PRIu64 "\n", ept_hist_below(h, shift));
	}
	fprintf(m->out, format, m->vm, area, kase);
	fprintf(m->out, ",le=\"+Inf\"} %" PRIu64 "\n", all);
	fprintf(m->out, "foal_fault_latency_seconds_sum{vm=\"%s\",area=\"%s\",case=\"%s\"} ", m->vm,
		area, kase);
	seconds(m, h->sum);
	fprintf(m->out,
		"\nfoal_fault_latency_seconds_count{vm=\"%s\",area=\"%s\",case=\"%s\"} %" PRIu64
		"\n",
		m->vm, area, kase, all);
}

static int print_cases(struct metrics *m)
{
	head(m, "foal_faults_total", "counter",
	     "Faults that ended as this case, by who faulted (userfaultfd, and calls).");
	int r = each_case(m, print_faults, NULL);
	if (r == 0)
		r = print_counters(m);
	if (r)
		return r;
	head(m, "foal_fault_latency_seconds", "histogram",
	     "Time from the pick-up of a fault to its resolution.");
	return each_case(m, print_latency, NULL);
}

/* --- reconciliation -------------------------------------------------------------------- */

static void print_origins(const struct metrics *m, const char *name, const uint64_t *by_origin)
{
	for (int o = 0; o < EPT_NR_ORIGINS; o++)
		if (ept_origin_has_events((enum ept_origin)o))
			sample(m, name, "origin", ept_origin_name((enum ept_origin)o),
			       by_origin[o]);
}

static void print_events(const struct metrics *m)
{
	const struct ept_reconciliation *books = &m->report->books;
	int64_t open = 0;

	for (int o = 0; o < EPT_NR_ORIGINS; o++)
		open += ept_reconciliation_open(books, (enum ept_origin)o);
	head(m, "foal_events_total", "counter", "Events read from userfaultfd.");
	print_origins(m, "foal_events_total", books->events);
	head(m, "foal_events_in_flight", "gauge", "Of these, not ended yet.");
	print_origins(m, "foal_events_in_flight", books->in_flight);
	head(m, "foal_events_open", "gauge",
	     "Events that ended without a case, or with more than one; not 0 is a bug.");
	fprintf(m->out, "foal_events_open{vm=\"%s\"} %" PRId64 "\n", m->vm, open);
	head(m, "foal_exits_of_no_page_total", "counter",
	     "Accesses of vCPUs that came as exits of KVM and have a case.");
	sample(m, "foal_exits_of_no_page_total", NULL, NULL, books->exits);
}

static void print_kvm(const struct metrics *m)
{
	struct pf_parts pf = report_pf(m->report);

	if (!m->report->kvm_known)
		return;
	head(m, "foal_kvm_page_faults_total", "counter",
	     "Page faults that KVM took (KVM statistics).");
	sample(m, "foal_kvm_page_faults_total", NULL, NULL, pf.taken);
	head(m, "foal_kvm_page_fault_outcomes_total", "counter",
	     "What became of them; a fast one is fixed or spurious, too (KVM statistics).");
	sample(m, "foal_kvm_page_fault_outcomes_total", "outcome", "fixed", pf.fixed);
	sample(m, "foal_kvm_page_fault_outcomes_total", "outcome", "emulated", pf.emulated);
	sample(m, "foal_kvm_page_fault_outcomes_total", "outcome", "spurious", pf.spurious);
	sample(m, "foal_kvm_page_fault_outcomes_total", "outcome", "fast", pf.fast);
	sample(m, "foal_kvm_page_fault_outcomes_total", "outcome", "guest", pf.guest);
	head(m, "foal_kvm_page_faults_remainder", "gauge",
	     "Retries and what is not counted: may be below 0 (KVM statistics).");
	fprintf(m->out, "foal_kvm_page_faults_remainder{vm=\"%s\"} %" PRId64 "\n", m->vm,
		pf.remainder);
	head(m, "foal_kvm_exits_total", "counter",
	     "Times that vCPUs left the guest (KVM statistics).");
	sample(m, "foal_kvm_exits_total", NULL, NULL, kvm_stats_get(&m->report->kvm, "exits"));
}

/* --- memory, files, the start ---------------------------------------------------------- */

static void print_memory(const struct metrics *m)
{
	const struct report *r = m->report;

	head(m, "foal_uptime_seconds", "gauge", "Time since the VM began.");
	time_sample(m, "foal_uptime_seconds", NULL, NULL, report_age(r));
	head(m, "foal_vcpus", "gauge", "vCPUs.");
	sample(m, "foal_vcpus", NULL, NULL, r->vm->opt->cpus);
	head(m, "foal_memory_bytes", "gauge", "Memory of the guest, as configured.");
	sample(m, "foal_memory_bytes", NULL, NULL, r->vm->opt->memory);
	head(m, "foal_resident_bytes", "gauge",
	     "Memory of the host: guest memory with page caches, and the monitor's own.");
	sample(m, "foal_resident_bytes", "of", "guest", r->resident_guest);
	sample(m, "foal_resident_bytes", "of", "monitor", r->resident_self);
	head(m, "foal_resident_huge_bytes", "gauge", "Of guest memory, in huge pages.");
	sample(m, "foal_resident_huge_bytes", NULL, NULL, r->resident_huge);
}

/* A path may be there twice; its place may not. */
static int print_files(const struct metrics *m, const char *name, bool size)
{
	const struct report *r = m->report;

	for (unsigned i = 0; i < r->file_count; i++) {
		char *path = escaped(r->files[i].path);

		if (!path)
			return -ENOMEM;
		fprintf(m->out, "%s{vm=\"%s\",file=\"%u\",use=\"%s\",path=\"%s\"} %" PRIu64 "\n",
			name, m->vm, i, r->files[i].use, path,
			size ? r->files[i].size : r->files[i].read);
		free(path);
	}
	return 0;
}

static int print_all_files(const struct metrics *m)
{
	head(m, "foal_file_size_bytes", "gauge", "Size of a file of the VM.");
	int r = print_files(m, "foal_file_size_bytes", true);

	head(m, "foal_file_read_bytes", "gauge", "How much of it was ever read, each byte once.");
	return r ? r : print_files(m, "foal_file_read_bytes", false);
}

static void print_debt(const struct metrics *m)
{
	static const char *const names[] = {"0.5", "0.9", "0.99"};
	static const unsigned percents[] = {50, 90, 99};
	struct ept_debt_point at[3], all, ready;

	ept_debt_all(&m->report->debt, &all);
	for (int i = 0; i < 3; i++)
		ept_debt_at(&m->report->debt, percents[i], &at[i]);
	head(m, "foal_start_first_run_seconds", "gauge", "From the start to the first KVM_RUN.");
	time_sample(m, "foal_start_first_run_seconds", NULL, NULL, report_first_run(m->report));
	head(m, "foal_start_debt_seconds", "gauge",
	     "From the start until this share of the pages so far had come (userfaultfd).");
	for (int i = 0; i < 3 && all.pages; i++)
		time_sample(m, "foal_start_debt_seconds", "share", names[i], at[i].ns);
	head(m, "foal_start_debt_faults", "gauge", "Events until then (userfaultfd).");
	for (int i = 0; i < 3 && all.pages; i++)
		sample(m, "foal_start_debt_faults", "share", names[i], at[i].faults);
	if (!debt_was_ready(&m->report->vm->debt, &ready))
		return;
	head(m, "foal_start_ready_seconds", "gauge",
	     "From the start until the guest said that it is ready.");
	time_sample(m, "foal_start_ready_seconds", NULL, NULL, ready.ns);
	head(m, "foal_start_ready_faults", "gauge", "Events until then (userfaultfd).");
	sample(m, "foal_start_ready_faults", NULL, NULL, ready.faults);
}

/* What is a level, not a sum over time. */
static bool is_level(const char *name)
{
	static const char *const levels[] = {"limit", "resident", "peak",
					     "pool",  "swapped",  "swap_used"};

	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		if (strcmp(name, levels[i]) == 0)
			return true;
	return false;
}

static void print_reclaim_one(const struct metrics *m, const char *counter, const char *unit,
			      uint64_t value)
{
	char name[64], help[96];
	bool level = is_level(counter);

	snprintf(name, sizeof(name), "foal_reclaim_%s%s", counter, level ? "_bytes" : "_total");
	snprintf(help, sizeof(help), "Of the memory limit: %s%s%s (docs/reclaim.md).", counter,
		 unit[0] ? ", in " : "", unit);
	head(m, name, level ? "gauge" : "counter", help);
	sample(m, name, NULL, NULL, value);
}

static void print_reclaim(const struct metrics *m)
{
	struct ept_reclaim_stats s;

	if (!ept_reclaim_stats(m->report->vm->space, &s))
		return;
#define X(field, name, unit) print_reclaim_one(m, name, unit, s.field);
	EPT_RECLAIM_COUNTERS(X)
#undef X
}

/* Of --rip-sample. */
static void print_sampling(const struct metrics *m)
{
	struct ept_sampling_stats s;

	if (!ept_space_sampling(m->report->vm->space, &s))
		return;
	head(m, "foal_rip_sample_every", "gauge", "One in so many faults of a vCPU is sampled.");
	sample(m, "foal_rip_sample_every", NULL, NULL, s.every);
	head(m, "foal_rip_sample_faults_total", "counter", "Faults that might have been.");
	sample(m, "foal_rip_sample_faults_total", NULL, NULL, s.faults);
	head(m, "foal_rip_sample_kicks_total", "counter", "vCPUs kicked for a sample.");
	sample(m, "foal_rip_sample_kicks_total", NULL, NULL, s.kicks);
	head(m, "foal_rip_samples_total", "counter", "Samples taken.");
	sample(m, "foal_rip_samples_total", NULL, NULL, s.taken);
	head(m, "foal_rip_sample_refaults_total", "counter",
	     "Events of vCPUs that tried again before the page was in.");
	sample(m, "foal_rip_sample_refaults_total", NULL, NULL, s.refaults);
}

int stats_prometheus(const struct report *report, FILE *out)
{
	struct metrics *m = calloc(1, sizeof(*m));
	int r = -ENOMEM;

	if (m)
		*m = (struct metrics){
		    .report = report, .out = out, .vm = escaped(report->vm->opt->name)};
	if (m && m->vm)
		r = print_cases(m);
	if (r == 0) {
		print_events(m);
		print_sampling(m);
		print_kvm(m);
		print_memory(m);
		r = print_all_files(m);
	}
	if (r == 0) {
		print_debt(m);
		print_reclaim(m);
	}
	if (m)
		free(m->vm);
	free(m);
	return r;
}
