/* Samples of where vCPUs stood as CSV (RFC 4180), a line each; the fault log's are not in it. */
#include <inttypes.h>

#include "vmm/trace_out.h"

static void *begin(struct trace_out *out, const struct trace_meta *meta)
{
	(void)meta;
	trace_out_text(out, "at_ns,vcpu,gpa,access,rip,cpl,exact\r\n");
	return out;
}

static void sample(void *form, const struct ept_sample *s)
{
	trace_out_text(form, "%" PRIu64 ",%u,0x%" PRIx64 ",%s,0x%" PRIx64 ",%u,%u\r\n", s->at,
		       s->vcpu, s->gpa, s->access == EPT_WRITE ? "write" : "read", s->rip, s->cpl,
		       s->exact);
}

static void end(void *form, struct trace_lost lost)
{
	(void)form;
	(void)lost;
}

const struct trace_form trace_rips_csv = {
    .name = "csv",
    .begin = begin,
    .sample = sample,
    .end = end,
};
