/* The faults that KVM tells of as CSV (RFC 4180), a line each; the fault log's are not in it. */
#include <inttypes.h>

#include "vmm/trace_out.h"

static void *begin(struct trace_out *out, const struct trace_meta *meta)
{
	(void)meta;
	trace_out_text(out, "at_ns,vcpu,gpa,rip,error_code,entry_ns,again,handled\r\n");
	return out;
}

static void kvm_fault(void *form, const struct kvm_fault *f)
{
	trace_out_text(
	    form, "%" PRIu64 ",%u,0x%" PRIx64 ",0x%" PRIx64 ",0x%" PRIx64 ",%" PRIu64 ",%d,%d\r\n",
	    f->at, f->vcpu, f->gpa, f->rip, f->error_code, f->entry - f->at, f->again, f->handled);
}

static void end(void *form, struct trace_lost lost)
{
	(void)form;
	(void)lost;
}

const struct trace_form trace_kvm_csv = {
    .name = "csv",
    .begin = begin,
    .kvm_fault = kvm_fault,
    .end = end,
};
