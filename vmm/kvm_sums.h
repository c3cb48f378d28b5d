/* What the faults that KVM tells of add up to. Private to vmm/. */
#ifndef FOAL_VMM_KVM_SUMS_H
#define FOAL_VMM_KVM_SUMS_H

#include "ept/stats.h"
#include "vmm/trace_out.h"

#define KVM_SUMS_RIPS 4096U /* told apart; a power of two */

enum kvm_sum { KVM_SUM_HANDLER, KVM_SUM_HOST, KVM_SUM_AGAIN, KVM_SUM_OUTSIDE, KVM_NR_SUMS };

struct kvm_sums {
	struct {
		uint64_t faults;
		struct ept_hist time; /* ns from exit to entry */
	} by[KVM_NR_SUMS];
	struct kvm_rip {
		uint64_t rip, faults;
	} rips[KVM_SUMS_RIPS];
	uint64_t other_rips;		   /* faults of those that found no place */
	const struct trace_kvm_told *told; /* NULL: nobody asked KVM */
	const struct symbols *symbols;	   /* that name RIPs; NULL: none */
};

void kvm_sums_add(struct kvm_sums *sums, const struct trace_meta *meta,
		  const struct kvm_fault *fault);
/* At the end, once; the order of RIPs changes. */
void kvm_sums_table(struct kvm_sums *sums, struct trace_out *out);
json_t *kvm_sums_json(struct kvm_sums *sums);

#endif
