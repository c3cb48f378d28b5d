/* The fault ledger: what each fault was and what it cost, by area and case. */
#ifndef FOAL_EPT_LEDGER_H
#define FOAL_EPT_LEDGER_H

#include "ept/arena.h"
#include "ept/fault.h"
#include "ept/stats.h"

/* A case's block is allocated when the case is first seen; all counters are relaxed atomics. */
struct ept_ledger {
	struct ept_case_stats *cases[EPT_NR_CASES];
};

uint64_t ept_now(void);

/* The bucket of @value where 16 are a power of two; the largest value that falls into one. */
unsigned ept_log_bucket(uint64_t value);
uint64_t ept_log_bucket_top(unsigned bucket);

/* Count one fault that ended as @res says, @ns after it was picked up (0: no sample). */
void ept_ledger_count(struct ept_ledger *ledger, struct ept_arena *arena, enum ept_origin origin,
		      const struct ept_resolution *res, uint64_t ns);

/* Count it as its vCPU's, too. */
void ept_ledger_count_vcpu(struct ept_vcpu_stats *stats, const struct ept_resolution *res);

#endif
