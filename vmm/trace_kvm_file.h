/*
 * What KVM told, as it lies in a trace's file (docs/formats.md): from there it is hostile. Private
 * to vmm/.
 */
#ifndef FOAL_VMM_TRACE_KVM_FILE_H
#define FOAL_VMM_TRACE_KVM_FILE_H

#include "vmm/trace_file.h"

struct trace_kvm_record {
	uint64_t at, entry, gpa, error_code, rip;
	uint16_t vcpu;
	uint8_t again, handled; /* 0 or 1 */
	uint32_t unused;	/* 0 */
};

#define TRACE_MISSING_MAX 480U

struct trace_kvm_tail {
	uint64_t exits, entries, lost; /* by the tracepoints */
	uint64_t counted;	       /* 1: by KVM's statistics: */
	uint64_t stat_exits, taken, fixed;
	char missing[TRACE_MISSING_MAX]; /* why there are no tracepoints, zeros behind; "": there
					    are */
};

void trace_kvm_record_of(const struct kvm_fault *fault, struct trace_kvm_record *out);
/* False: it has values that there are not. */
bool trace_kvm_record_take(const struct trace_meta *meta, const struct trace_kvm_record *record,
			   struct kvm_fault *out);

void trace_kvm_tail_of(const struct trace_kvm_told *told, struct trace_kvm_tail *out);
/* The same; @out's text is @tail's. */
bool trace_kvm_tail_take(const struct trace_kvm_tail *tail, struct trace_kvm_told *out);

#endif
