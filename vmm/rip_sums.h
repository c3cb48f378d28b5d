/* Which instructions of the guest faulted most, whoever said so. Private to vmm/. */
#ifndef FOAL_VMM_RIP_SUMS_H
#define FOAL_VMM_RIP_SUMS_H

#include "vmm/trace_out.h"

#define RIP_SUMS_MAX 4096U /* told apart; a power of two */

struct rip_sums {
	struct rip_sum {
		uint64_t rip, faults, near; /* of the faults, those whose access was near it */
	} rips[RIP_SUMS_MAX];
	uint64_t others;	       /* faults of those that found no place */
	const struct symbols *symbols; /* that name them; NULL: none */
};

void rip_sums_add(struct rip_sums *sums, uint64_t rip, bool exact);
/* At the end, once: the order changes. A line, if there is any; the list of the most. */
void rip_sums_line(struct rip_sums *sums, struct trace_out *out);
json_t *rip_sums_json(struct rip_sums *sums);

/* The same of samples that kicks brought (docs/trace.md). */
struct sampled_rips {
	uint64_t samples, exact, ring3;
	struct rip_sums sums;
};

void sampled_rips_add(struct sampled_rips *s, const struct ept_sample *sample);
/* Was the VM told to, or are there some? */
bool sampled_rips_any(const struct sampled_rips *s, const struct trace_meta *meta);
/* Once, at the end, if so; @lost samples were overwritten before they were read. */
void sampled_rips_table(struct sampled_rips *s, const struct trace_meta *meta, uint64_t lost,
			struct trace_out *out);
json_t *sampled_rips_json(struct sampled_rips *s, const struct trace_meta *meta, uint64_t lost);

#endif
