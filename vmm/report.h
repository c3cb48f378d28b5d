/*
 * foal report: a trace as a page for a browser (docs/report.md). What the page shows is reduced
 * while the trace is read, once, to a size that does not depend on its length. One thread. Private
 * to vmm/.
 */
#ifndef FOAL_VMM_REPORT_H
#define FOAL_VMM_REPORT_H

#include "vmm/kvm_sums.h"
#include "vmm/report_bins.h"
#include "vmm/report_space.h"
#include "vmm/trace_out.h"
#include "vmm/trace_sums.h"

#define REPORT_FORMAT 2	 /* of the data that the page is given */
#define REPORT_FILES  64 /* areas with a file that are told of one by one */

/* What is counted in each column of time: faults of each case, these, then three of each row. */
enum report_counter {
	REPORT_PUT_IN,
	REPORT_NEW,
	REPORT_KVM, /* its faults, by who resolved them */
	REPORT_COUNTERS = REPORT_KVM + KVM_NR_SUMS
};

/* What the faults of one area read. */
struct report_area {
	uint64_t faults, bytes_read;
};

struct report {
	struct trace_out *out;
	const struct trace_meta *meta;
	const struct report_page *page;
	char cut[480]; /* why the trace ended early; "": it did not */
	struct trace_sums *sums;
	struct report_bins bins;
	struct report_space space;
	struct kvm_sums kvm;
	struct sampled_rips sampled;
	struct report_area *areas;
	uint64_t outside; /* faults in no area */
};

/* Where the counters of a column are. */
static inline unsigned report_counter(const struct report *r, enum report_counter counter)
{
	return r->meta->nr_cases + counter;
}

static inline unsigned report_new_in_row(const struct report *r, unsigned row)
{
	return r->meta->nr_cases + REPORT_COUNTERS + row;
}

static inline unsigned report_faults_in_row(const struct report *r, unsigned row)
{
	return report_new_in_row(r, REPORT_ROWS) + row;
}

/* Of those that KVM told of the ones that the host kernel resolved. */
static inline unsigned report_host_in_row(const struct report *r, unsigned row)
{
	return report_faults_in_row(r, REPORT_ROWS) + row;
}

/* Of all counters of a column. */
static inline unsigned report_width(const struct report *r)
{
	return report_host_in_row(r, REPORT_ROWS);
}

/* --- the form: its state is a struct report, of which @page is to be set before the end --------
 */

extern const struct trace_form trace_report;

/* report_json.c: all that the page is given; the order of RIPs changes. NULL: out of memory.
 */
json_t *report_json(struct report *report, struct trace_lost lost);

/* --- the page --------------------------------------------------------------------------------- */

/* What `make report-page` makes, in two halves: the data goes between them. */
struct report_page {
	char *text;
	size_t head, tail, len; /* the halves are [0, head) and [tail, len) */
};

/* Find and read it, beside this program. FOAL_EXIT_HOST. report_page_free() in any case. */
int report_page_load(struct report_page *page, struct foal_error *err);
void report_page_free(struct report_page *page);
/* @data in it. No text in it ends the element that it stands in, whatever it says. */
void report_page_write(const struct report_page *page, const json_t *data, struct trace_out *out);

int command_report(int argc, char **argv, uint64_t main_ns);
void report_help(void);

#endif
