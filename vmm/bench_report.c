/* The rows: what was measured, put together, printed and exported. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/bench.h"
#include "vmm/series.h"

struct row {
	struct series ours, plain;
	struct series cpu, cpu_plain; /* us of CPU time a touch */
	/* ours / plain of those measured one after the other; of CPU time */
	struct series pairs, cpu_pairs;
	char why[480]; /* it was not measured; empty: it was */
	uint64_t touches, pages, installed, installed_plain, faults, ticks;
	uint64_t cases[EPT_NR_CASES];
	struct kvm_side {
		bool known;
		uint64_t answered, count[BENCH_NR_KVM];
	} kvm, kvm_plain;
};

struct bench_report {
	struct row *rows; /* BENCH_MEASURES a case */
	struct bench_warm warm;
	double seconds; /* the whole run took */
};

static const struct {
	const char *suffix, *unit;
} metrics[BENCH_METRICS] = {
    [BENCH_TIME] = {"", "us"},		[BENCH_RATE] = {"", "1/s"},
    [BENCH_OWN] = {".own", "KiB"},	[BENCH_MEMORY] = {".memory", "MiB"},
    [BENCH_READ] = {".read", "KiB"},	[BENCH_FIRST] = {".first", "us"},
    [BENCH_STEADY] = {".steady", "us"}, [BENCH_MIDDLE] = {".middle", "us"},
};

const char *bench_unit(enum bench_metric metric)
{
	return metrics[metric].unit;
}

void bench_row_name(const struct bench_case *c, unsigned m, char *buf, size_t size)
{
	snprintf(buf, size, "%s%s", c->name, metrics[c->measures[m].metric].suffix);
}

void bench_bar_text(struct bench_bar bar, char *buf, size_t size)
{
	if (bar.how)
		snprintf(buf, size, "ratio %c= %g", bar.how, bar.ratio);
	else
		snprintf(buf, size, "none");
}

struct bench_report *bench_report_new(void)
{
	struct bench_report *report = calloc(1, sizeof(*report));

	if (report)
		report->rows = calloc(bench_case_count * BENCH_MEASURES, sizeof(*report->rows));
	if (report && report->rows)
		return report;
	free(report);
	return NULL;
}

void bench_report_free(struct bench_report *report)
{
	if (report)
		free(report->rows);
	free(report);
}

static struct row *row_of(struct bench_report *report, const struct bench_case *c, unsigned m)
{
	return &report->rows[(size_t)(c - bench_cases) * BENCH_MEASURES + m];
}

static void add_kvm(struct kvm_side *side, const struct bench_result *result)
{
	side->known = result->has_kvm;
	side->answered = result->answered;
	memcpy(side->count, result->kvm, sizeof(side->count));
}

static void add_pair(struct series *pairs, double ours, double plain)
{
	if (plain > 0)
		series_add(pairs, ours / plain);
}

static void add_plain(struct row *row, const struct bench_result *ours,
		      const struct bench_result *plain, enum bench_metric metric)
{
	series_add(&row->plain, plain->value[metric]);
	series_add(&row->cpu_plain, plain->cpu_us);
	add_pair(&row->pairs, ours->value[metric], plain->value[metric]);
	add_pair(&row->cpu_pairs, ours->cpu_us, plain->cpu_us);
	row->installed_plain = plain->installed;
	add_kvm(&row->kvm_plain, plain);
}

void bench_report_add(struct bench_report *report, const struct bench_case *c,
		      const struct bench_result *ours, const struct bench_result *plain)
{
	const struct bench_result *bad = ours->status		  ? ours
					 : plain && plain->status ? plain
								  : NULL;

	for (unsigned m = 0; m < BENCH_MEASURES && c->measures[m].metric; m++) {
		struct row *row = row_of(report, c, m);
		if (bad) {
			if (!row->why[0])
				snprintf(row->why, sizeof(row->why), "%s", bad->why);
			continue;
		}
		series_add(&row->ours, ours->value[c->measures[m].metric]);
		series_add(&row->cpu, ours->cpu_us);
		if (plain)
			add_plain(row, ours, plain, c->measures[m].metric);
		row->touches = ours->touches;
		row->pages = ours->pages;
		row->installed = ours->installed;
		row->faults = ours->faults;
		memcpy(row->cases, ours->cases, sizeof(row->cases));
		row->ticks = ours->ticks;
		add_kvm(&row->kvm, ours);
	}
}

/* -1: no bar, or nothing measured. */
static int holds(struct row *row, struct bench_bar bar)
{
	double plain = series_at(&row->plain, 0.5);

	if (!bar.how || plain <= 0)
		return -1;
	double ratio = series_at(&row->ours, 0.5) / plain;
	return bar.how == '<' ? ratio <= bar.ratio : ratio >= bar.ratio;
}

static void print_pairs(struct series *pairs)
{
	double low, high;

	if (series_interval(pairs, &low, &high))
		printf(", in pairs %.3f (%.3f to %.3f)", series_at(pairs, 0.5), low, high);
}

static void print_row(const struct bench_case *c, unsigned m, struct row *row)
{
	enum bench_metric metric = c->measures[m].metric;
	int held = holds(row, c->measures[m].bar);
	char name[64], bar[32];

	bench_row_name(c, m, name, sizeof(name));
	bench_bar_text(c->measures[m].bar, bar, sizeof(bar));
	if (row->ours.count == 0) {
		printf("%-39s not measured: %s; bar %s\n", name, row->why, bar);
		return;
	}
	double cpu = series_at(&row->cpu, 0.5), cpu_plain = series_at(&row->cpu_plain, 0.5);

	series_print(stdout, name, bench_unit(metric), &row->ours, &row->plain, bar);
	if (c->pairs)
		print_pairs(&row->pairs);
	if (metric == BENCH_TIME && cpu_plain > 0) {
		printf(", of CPU time %.2f", cpu / cpu_plain);
		if (c->pairs)
			print_pairs(&row->cpu_pairs);
	}
	puts(held < 0 ? "" : held ? ": holds" : ": does NOT hold");
}

/* Was this row to be measured at all? */
static bool wanted(const struct row *row)
{
	return row->ours.count || row->why[0];
}

void bench_report_ended(struct bench_report *report, const struct bench_warm *warm, double seconds)
{
	report->warm = *warm;
	report->seconds = seconds;
}

static void print_end(const struct bench_report *report)
{
	const struct bench_warm *warm = &report->warm;

	printf("took %.0f s", report->seconds);
	if (warm->first_us > 0)
		printf("; a page of free memory took %.2f us at its first touch, %.2f after that%s",
		       warm->first_us, warm->again_us,
		       warm->on ? ": what a sample takes was touched and freed before it" : "");
	puts("");
}

void bench_report_print(struct bench_report *report)
{
	for (size_t i = 0; i < bench_case_count; i++)
		for (unsigned m = 0; m < BENCH_MEASURES; m++) {
			struct row *row = row_of(report, &bench_cases[i], m);
			if (wanted(row))
				print_row(&bench_cases[i], m, row);
		}
	print_end(report);
}

unsigned bench_report_broken(struct bench_report *report)
{
	unsigned broken = 0;

	for (size_t i = 0; i < bench_case_count; i++)
		for (unsigned m = 0; m < BENCH_MEASURES; m++)
			broken += holds(row_of(report, &bench_cases[i], m),
					bench_cases[i].measures[m].bar) == 0;
	return broken;
}

/* Those that there were. */
static json_t *cases_json(const struct row *row)
{
	json_t *json = json_object();

	for (unsigned i = 0; i < EPT_NR_CASES; i++)
		if (row->cases[i])
			json_object_set_new(json, ept_case_name((enum ept_case)i),
					    json_integer((json_int_t)row->cases[i]));
	return json;
}

/* null: KVM does not tell, or there is no such side. */
static json_t *kvm_json(const struct kvm_side *side)
{
	json_t *json = side->known ? json_object() : json_null();

	for (unsigned i = 0; i < BENCH_NR_KVM && side->known; i++)
		json_object_set_new(json, bench_kvm_name((enum bench_kvm_count)i),
				    json_integer((json_int_t)side->count[i]));
	return json;
}

/* null: there were no pairs, or too few. */
static json_t *pairs_json(struct series *pairs)
{
	double low, high;

	if (!series_interval(pairs, &low, &high))
		return json_null();
	return json_pack("{s:i,s:f,s:f,s:f}", "count", (int)pairs->count, "ratio",
			 series_at(pairs, 0.5), "low", low, "high", high);
}

static void exits_json(json_t *json, const struct bench_case *c, const struct row *row)
{
	json_object_set_new(json, "kvm", kvm_json(&row->kvm));
	json_object_set_new(json, "kvm_plain", kvm_json(&row->kvm_plain));
	if (!c->exits)
		return;
	json_object_set_new(json, "ring", json_integer(c->ring0 ? 0 : 3));
	json_object_set_new(json, "answered", json_integer((json_int_t)row->kvm.answered));
	json_object_set_new(json, "answered_plain",
			    json_integer((json_int_t)row->kvm_plain.answered));
}

static json_t *row_json(const struct bench_case *c, unsigned m, struct row *row)
{
	int held = holds(row, c->measures[m].bar);
	char name[64], bar[32];

	bench_row_name(c, m, name, sizeof(name));
	bench_bar_text(c->measures[m].bar, bar, sizeof(bar));
	json_t *json =
	    series_json(name, bench_unit(c->measures[m].metric), &row->ours, &row->plain, bar);
	json_object_set_new(json, "holds", held < 0 ? json_null() : json_boolean(held));
	json_object_set_new(json, "options", json_string(c->options));
	if (row->ours.count == 0) {
		json_object_set_new(json, "not_measured", json_string(row->why));
		return json;
	}
	json_object_set_new(json, "rounds", json_integer(row->ours.count));
	json_object_set_new(json, "pairs", pairs_json(&row->pairs));
	json_object_set_new(json, "cpu_pairs", pairs_json(&row->cpu_pairs));
	json_object_set_new(json, "cpu_us", json_real(series_at(&row->cpu, 0.5)));
	json_object_set_new(json, "cpu_us_plain", json_real(series_at(&row->cpu_plain, 0.5)));
	json_object_set_new(json, "touches", json_integer((json_int_t)row->touches));
	json_object_set_new(json, "pages", json_integer((json_int_t)row->pages));
	json_object_set_new(json, "installed", json_integer((json_int_t)row->installed));
	json_object_set_new(json, "installed_plain",
			    json_integer((json_int_t)row->installed_plain));
	json_object_set_new(json, "faults", json_integer((json_int_t)row->faults));
	json_object_set_new(json, "cases", cases_json(row));
	json_object_set_new(json, "ticks", json_integer((json_int_t)row->ticks));
	exits_json(json, c, row);
	return json;
}

json_t *bench_warm_json(const struct bench_warm *warm)
{
	return json_pack("{s:f,s:f,s:b,s:f}", "first_touch_us", warm->first_us, "touched_again_us",
			 warm->again_us, "warmed", warm->on, "most_mib",
			 (double)warm->most / (1 << 20));
}

json_t *bench_report_json(struct bench_report *report)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < bench_case_count; i++)
		for (unsigned m = 0; m < BENCH_MEASURES; m++) {
			struct row *row = row_of(report, &bench_cases[i], m);
			if (wanted(row))
				json_array_append_new(rows, row_json(&bench_cases[i], m, row));
		}
	return json_pack("{s:o,s:f,s:o}", "rows", rows, "seconds", report->seconds, "memory",
			 bench_warm_json(&report->warm));
}

void bench_list(const struct bench_options *opt)
{
	for (size_t i = 0; i < bench_case_count; i++)
		for (unsigned m = 0; m < BENCH_MEASURES; m++) {
			const struct bench_case *c = &bench_cases[i];
			char name[64], bar[32];
			if (!bench_chosen(opt, c) || !c->measures[m].metric)
				continue;
			bench_row_name(c, m, name, sizeof(name));
			bench_bar_text(c->measures[m].bar, bar, sizeof(bar));
			printf("%-39s %-4s bar %-14s %s\n", name, bench_unit(c->measures[m].metric),
			       bar, c->options);
		}
}
