/* What a start left for later: its fault debt (docs/stats.md). */
#include <inttypes.h>

#include "vmm/stats.h"

static const unsigned percents[] = {50, 90, 99};
#define PERCENTS (sizeof(percents) / sizeof(percents[0]))

uint64_t report_first_run(const struct report *report)
{
	uint64_t first = atomic_load(&report->vm->first_run_ns);

	return first ? first - report->vm->main_ns : 0;
}

uint64_t report_age(const struct report *report)
{
	return report->end_ns - report->vm->main_ns;
}

/* --- JSON ------------------------------------------------------------------------------ */

static json_t *point_json(const struct ept_debt_point *at)
{
	return json_pack("{s:I, s:I, s:I}", "ns", (json_int_t)at->ns, "pages",
			 (json_int_t)at->pages, "faults", (json_int_t)at->faults);
}

static void add_points(const struct report *report, json_t *o)
{
	for (size_t i = 0; i < PERCENTS; i++) {
		struct ept_debt_point at;
		char name[8];

		ept_debt_at(&report->debt, percents[i], &at);
		snprintf(name, sizeof(name), "p%u", percents[i]);
		json_object_set_new(o, name, at.pages ? point_json(&at) : json_null());
	}
}

static json_t *kvm_json(const struct report *report)
{
	uint64_t fixed = kvm_stats_get(&report->kvm, "pf_fixed");
	json_t *o;

	if (!report->kvm_known)
		return json_null();
	o = json_pack("{s:s, s:I}", "source", "KVM statistics", "fixed", (json_int_t)fixed);
	for (size_t i = 0; i < PERCENTS; i++) {
		struct debt_look by =
		    debt_by(&report->vm->debt, fixed, report_age(report), percents[i]);
		char name[8];

		snprintf(name, sizeof(name), "p%u", percents[i]);
		json_object_set_new(o, name,
				    fixed ? json_pack("{s:I, s:I}", "ns", (json_int_t)by.ns,
						      "fixed", (json_int_t)by.fixed)
					  : json_null());
	}
	return o;
}

json_t *debt_json(const struct report *report)
{
	struct ept_debt_point all, ready;
	json_t *o;

	ept_debt_all(&report->debt, &all);
	o = json_pack("{s:s, s:I, s:I, s:I}", "source", "userfaultfd", "first_run_ns",
		      (json_int_t)report_first_run(report), "pages", (json_int_t)all.pages,
		      "faults", (json_int_t)all.faults);
	add_points(report, o);
	json_object_set_new(o, "ready",
			    debt_was_ready(&report->vm->debt, &ready) ? point_json(&ready)
								      : json_null());
	json_object_set_new(o, "kvm", kvm_json(report));
	return o;
}

/* --- the table ------------------------------------------------------------------------- */

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static void print_pages(const struct report *report, uint64_t pages, FILE *out)
{
	fprintf(out, "debt    %" PRIu64 " pages (userfaultfd):", pages);
	for (size_t i = 0; i < PERCENTS; i++) {
		struct ept_debt_point at;

		ept_debt_at(&report->debt, percents[i], &at);
		fprintf(out, "%s %u %% in %.1f ms, %" PRIu64 " faults", i ? ";" : "", percents[i],
			ms(at.ns), at.faults);
	}
	fputc('\n', out);
}

static void print_fixed(const struct report *report, uint64_t fixed, FILE *out)
{
	fprintf(out, "debt    %" PRIu64 " faults fixed (KVM statistics):", fixed);
	for (size_t i = 0; i < PERCENTS; i++)
		fprintf(out, "%s %u %% by %.1f ms", i ? ";" : "", percents[i],
			ms(debt_by(&report->vm->debt, fixed, report_age(report), percents[i]).ns));
	fputc('\n', out);
}

void debt_table(const struct report *report, FILE *out)
{
	uint64_t fixed = kvm_stats_get(&report->kvm, "pf_fixed");
	struct ept_debt_point all, ready;

	ept_debt_all(&report->debt, &all);
	fprintf(out, "debt    first KVM_RUN in %.1f ms", ms(report_first_run(report)));
	if (debt_was_ready(&report->vm->debt, &ready))
		fprintf(out, "; ready in %.1f ms, %" PRIu64 " faults", ms(ready.ns), ready.faults);
	fputc('\n', out);
	if (all.pages)
		print_pages(report, all.pages, out);
	if (report->kvm_known && fixed)
		print_fixed(report, fixed, out);
}
