/* What the faults that KVM tells of add up to. Private to vmm/. */
#ifndef FOAL_VMM_KVM_SUMS_H
#define FOAL_VMM_KVM_SUMS_H

#include "ept/stats.h"
#include "vmm/rip_sums.h"
#include "vmm/trace_out.h"

enum kvm_sum { KVM_SUM_HANDLER, KVM_SUM_HOST, KVM_SUM_AGAIN, KVM_SUM_OUTSIDE, KVM_NR_SUMS };

struct kvm_sums {
	struct {
		uint64_t faults;
		struct ept_hist time; /* ns from exit to entry */
	} by[KVM_NR_SUMS];
	struct rip_sums rips;
	const struct trace_kvm_told *told; /* NULL: not asked, or the trace ended before it */
};

/* Who resolved it; and the word for that. */
enum kvm_sum kvm_sum_of(const struct trace_meta *meta, const struct kvm_fault *fault);
const char *kvm_sum_name(enum kvm_sum sum);

/* As kvm_sum_of(). */
enum kvm_sum kvm_sums_add(struct kvm_sums *sums, const struct trace_meta *meta,
			  const struct kvm_fault *fault);
/* Is there anything that KVM told? */
bool kvm_sums_any(const struct kvm_sums *sums);
/* At the end, once, if there is any; the order of RIPs changes. */
void kvm_sums_table(struct kvm_sums *sums, struct trace_out *out);
json_t *kvm_sums_json(struct kvm_sums *sums);

#endif
