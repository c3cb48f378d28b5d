/* A trace as CSV (RFC 4180): a line a record, names instead of numbers. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/trace_out.h"

struct csv {
	struct trace_out *out;
	const struct trace_meta *meta;
};

/* Names come from outside: what would begin another field is quoted. */
static void put_name(struct trace_out *out, const char *name)
{
	if (!strpbrk(name, ",\" ")) {
		trace_out_text(out, "%s", name);
		return;
	}
	trace_out_text(out, "\"");
	for (; *name; name++)
		trace_out_text(out, *name == '"' ? "\"\"" : "%c", *name);
	trace_out_text(out, "\"");
}

static void *csv_begin(struct trace_out *out, const struct trace_meta *meta)
{
	struct csv *csv = calloc(1, sizeof(*csv));

	if (!csv)
		return NULL;
	*csv = (struct csv){out, meta};
	trace_out_text(out, "at_ns,origin,vcpu,gpa,access,area,case,read_ns,put_ns,done_ns,"
			    "installed,around,granted,bytes_read,major,fallback,event,protect,"
			    "error\r\n");
	return csv;
}

static void csv_record(void *form, const struct ept_record *r)
{
	const struct csv *csv = form;
	struct trace_out *out = csv->out;

	trace_out_text(out, "%" PRIu64 ",", r->at);
	put_name(out, csv->meta->origins[r->origin]);
	trace_out_text(out, ",");
	if (r->vcpu != EPT_RECORD_NONE)
		trace_out_text(out, "%u", r->vcpu);
	trace_out_text(out, ",0x%" PRIx64 ",%s,", r->gpa,
		       r->access == EPT_WRITE ? "write" : "read");
	if (r->area != EPT_RECORD_NONE)
		put_name(out, csv->meta->areas[r->area].name);
	trace_out_text(out, ",");
	put_name(out, csv->meta->cases[r->kase]);
	trace_out_text(out, ",%u,%u,%u,%u,%u,%u,%u,%d,%d,%d,%d,%u\r\n", r->read_ns, r->put_ns,
		       r->done_ns, r->installed, r->around, r->granted, r->bytes_read,
		       !!(r->flags & EPT_RECORD_MAJOR), !!(r->flags & EPT_RECORD_FALLBACK),
		       !!(r->flags & EPT_RECORD_EVENT), !!(r->flags & EPT_RECORD_PROTECT),
		       r->error);
}

static void csv_end(void *form, struct trace_lost lost)
{
	(void)lost; /* there is no place for it; the command says it */
	free(form);
}

const struct trace_form trace_csv = {
    .name = "csv",
    .suffix = ".csv",
    .begin = csv_begin,
    .record = csv_record,
    .end = csv_end,
};
