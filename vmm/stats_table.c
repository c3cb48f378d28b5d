/* The report as a table for people. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ept/stats.h"
#include "vmm/size_text.h"
#include "vmm/stats.h"

static const char *micros(uint64_t ns)
{
	static char buf[4][16];
	static unsigned next;
	char *out = buf[next++ % 4];

	snprintf(out, sizeof(buf[0]), ns < 100000000 ? "%.1f" : "%.0f", (double)ns / 1000);
	return out;
}

/* One line of the table is a case of an area. Too large for a stack. */
struct table {
	const struct report *report;
	FILE *out;
	struct {
#define X(field, name, unit) bool field;
		EPT_COUNTERS(X)
#undef X
	} shown; /* columns in which some number is not zero */
	struct ept_case_stats sum, one;
};

/* A column: as wide as its head, and as 8 digits or "99.9 MiB" need. */
static int width(const char *name)
{
	int n = (int)strlen(name);

	return n < 8 ? 8 : n;
}

static void print_head(const struct table *t)
{
	fprintf(t->out, "\n%-10s %-14s", "area", "case");
#define X(field, name, unit) \
	if (t->shown.field) \
		fprintf(t->out, " %*s", width(name), name);
	EPT_COUNTERS(X)
#undef X
	fprintf(t->out, " %8s %8s %8s\n", "p50 us", "p99 us", "max us");
}

static void print_count(FILE *out, uint64_t value, const char *name, const char *unit)
{
	if (strcmp(unit, "bytes") == 0)
		fprintf(out, " %*s", width(name), size_text(value));
	else
		fprintf(out, " %*" PRIu64, width(name), value);
}

static void print_row(const struct table *t, const char *area, enum ept_case c)
{
	const struct ept_hist *latency = &t->sum.latency;

	fprintf(t->out, "%-10s %-14s", area, ept_case_name(c));
#define X(field, name, unit) \
	if (t->shown.field) \
		print_count(t->out, t->sum.field, name, unit);
	EPT_COUNTERS(X)
#undef X
	fprintf(t->out, " %8s %8s %8s\n", micros(ept_hist_percentile(latency, 50)),
		micros(ept_hist_percentile(latency, 99)), micros(latency->max));
}

/* An area that the host kernel serves has no cases: what is there now is all that is known. */
static void print_uncounted(const struct table *t, size_t first)
{
	const struct report *report = t->report;
	struct ept_area_info info;
	uint64_t resident = 0;
	bool any = false;

	for (size_t j = first; j < ept_area_count(report->vm->space); j++) {
		ept_area_info(ept_area_at(report->vm->space, j), &info);
		if (info.engine == EPT_ENGINE_KERNEL &&
		    strcmp(info.name, report_area_name(report, first)) == 0) {
			resident += info.resident;
			any = true;
		}
	}
	if (!any)
		return;
	fprintf(t->out, "%-10s %-14s", report_area_name(report, first), "(host kernel)");
#define X(field, name, unit) \
	if (strcmp(name, "installed") == 0) \
		print_count(t->out, resident / EPT_PAGE_SIZE, name, unit); \
	else if (t->shown.field) \
		fprintf(t->out, " %*s", width(name), "-");
	EPT_COUNTERS(X)
#undef X
	fputc('\n', t->out);
}

/* Which columns there are: these two always, the others if they say anything. Returns all faults.
 */
static uint64_t choose_columns(struct table *t)
{
	uint64_t faults = 0;

	t->shown.faults = t->shown.installed = true;
	for (size_t i = 0; i <= ept_area_count(t->report->vm->space); i++) {
		for (int c = 0; c < EPT_NR_CASES; c++) {
			if (!report_case(t->report, i, c, &t->one))
				continue;
			faults += t->one.faults;
#define X(field, name, unit) t->shown.field |= t->one.field != 0;
			EPT_COUNTERS(X)
#undef X
		}
	}
	return faults;
}

static void print_cases(struct table *t)
{
	uint64_t all = choose_columns(t);

	print_head(t);
	for (size_t i = 0; i <= ept_area_count(t->report->vm->space); i++) {
		if (report_named_before(t->report, i))
			continue;
		print_uncounted(t, i);
		for (int c = 0; c < EPT_NR_CASES; c++) {
			report_sum_case(t->report, i, c, &t->sum, &t->one);
			if (t->sum.faults)
				print_row(t, report_area_name(t->report, i), c);
		}
	}
	fprintf(t->out, "%-10s %-14s %8" PRIu64 "\n", "all", "", all);
}

static void print_reclaim(const struct vm *vm, FILE *out)
{
	struct ept_reclaim_stats s;

	if (!ept_reclaim_stats(vm->space, &s))
		return;
	fprintf(out,
		"limit: %s, resident %s, at most %s; %" PRIu64 " pages sampled, %" PRIu64
		" of them in use, %" PRIu64 " faults waited\n",
		size_text(s.limit), size_text(s.resident), size_text(s.peak), s.sampled, s.hits,
		s.waits);
	fprintf(out,
		"reclaimed: %" PRIu64 " pages of files, %" PRIu64 " of zeros, %" PRIu64
		" compressed to %.0f %%; %" PRIu64 " came back\n",
		s.dropped, s.zeroed, s.compressed,
		s.compressed
		    ? 100.0 * (double)s.compressed_bytes / (double)(s.compressed * EPT_PAGE_SIZE)
		    : 0.0,
		s.refaults);
	if (vm->opt->limit.swap)
		fprintf(out, "swap file: %" PRIu64 " pages written (%s), %" PRIu64 " read (%s)\n",
			s.written, size_text(s.written_bytes), s.read, size_text(s.read_bytes));
}

static void print_files(const struct report *report, FILE *out)
{
	fputc('\n', out);
	for (unsigned i = 0; i < report->file_count; i++) {
		const struct file_report *f = &report->files[i];
		fprintf(out, "%-7s read %s of %s (%.1f %%)  %s\n", f->use, size_text(f->read),
			size_text(f->size),
			f->size ? 100.0 * (double)f->read / (double)f->size : 0.0, f->path);
	}
}

static void print_ahead(const struct report *report, FILE *out)
{
	const struct ept_space *space = report->vm->space;

	for (size_t i = 0; i < ept_area_count(space); i++) {
		struct ept_ahead_stats s;

		ept_area_ahead_stats(ept_area_at(space, i), &s);
		if (s.windows)
			fprintf(out,
				"ahead   read %" PRIu64 " pages in %" PRIu64
				" windows by %s, %" PRIu64 " used, %" PRIu64 " wasted  %s\n",
				s.pages, s.windows, ept_space_reads_by(space), s.used, s.wasted,
				report_area_name(report, i));
	}
}

static void print_led(const struct report *report, FILE *out)
{
	const struct ept_space *space = report->vm->space;

	for (size_t i = 0; i < ept_area_count(space); i++) {
		struct ept_area *area = ept_area_at(space, i);
		struct ept_lead_stats s;

		ept_area_lead_stats(area, &s);
		if (s.windows || s.copied)
			fprintf(out,
				"led     read %s in %" PRIu64 " windows ahead, copied %" PRIu64
				" pages ahead  %s\n",
				size_text(s.read), s.windows, s.copied,
				report_area_name(report, i));
	}
}

static void print_nets(const struct vm *vm, FILE *out)
{
	for (unsigned i = 0; i < vm->opt->net_count; i++) {
		struct net_stats s;
		virtio_net_stats(vm->nets[i].device, &s);
		fprintf(out,
			"net     received %" PRIu64 " frames, %s (%" PRIu64
			" dropped), sent %" PRIu64 " frames, %s (%" PRIu64 " dropped)\n",
			s.rx_frames, size_text(s.rx_bytes), s.rx_dropped, s.tx_frames,
			size_text(s.tx_bytes), s.tx_dropped);
	}
}

static void print_vsock(const struct vm *vm, FILE *out)
{
	struct vsock_stats s;

	if (!vm->vsock.device)
		return;
	virtio_vsock_stats(vm->vsock.device, &s);
	fprintf(out,
		"vsock    %" PRIu64 " connections of the guest, %" PRIu64
		" of the host, %s to the guest, %s to the host\n",
		s.from_guest, s.from_host, size_text(s.bytes_to_guest), size_text(s.bytes_to_host));
}

static void print_balloon(const struct vm *vm, FILE *out)
{
	struct balloon_stats s;

	if (!vm->balloon)
		return;
	virtio_balloon_stats(vm->balloon, &s);
	fprintf(out, "balloon  %s in it of %s asked for, %s reported free, %s given back\n",
		size_text(s.actual), size_text(s.target), size_text(s.reported),
		size_text(s.given_back));
}

int stats_table(const struct report *report, FILE *out)
{
	const struct vm *vm = report->vm;
	struct table *table = calloc(1, sizeof(*table));

	if (!table)
		return -ENOMEM;
	table->report = report;
	table->out = out;
	fprintf(out, "\n%s: %.2f s from start to %s, first KVM_RUN after %s us\n", vm->opt->name,
		(double)(report->end_ns - vm->main_ns) / 1e9, report->running ? "now" : "end",
		micros(vm->first_run_ns - vm->main_ns));
	print_cases(table);
	reconciliation_table(report, out);
	debt_table(report, out);
	fprintf(out, "resident: guest memory %s of %s, monitor %s\n",
		size_text(report->resident_guest), size_text(vm->opt->memory),
		size_text(report->resident_self));
	if (report->resident_huge)
		fprintf(out, "huge pages: %s of guest memory\n", size_text(report->resident_huge));
	print_reclaim(vm, out);
	print_files(report, out);
	print_ahead(report, out);
	print_led(report, out);
	print_nets(vm, out);
	print_vsock(vm, out);
	print_balloon(vm, out);
	free(table);
	return 0;
}
