/* When pages came in, and with how many faults: counts by time since the start (stats.h). */
#ifndef FOAL_EPT_DEBT_H
#define FOAL_EPT_DEBT_H

#include "ept/fault.h"
#include "ept/stats.h"

/* All are relaxed atomics but `since`, which is written while no fault is under way. */
struct ept_debt {
	uint64_t since; /* what times count from: CLOCK_MONOTONIC, ns */
	bool noted;	/* anything at all: what was not is not written to after a fork */
	uint64_t bucket[EPT_DEBT_BUCKETS]; /* pages; faults, from bit 32 on */
};

/* @pages came in, with @faults, at @now. Any thread. */
void ept_debt_note(struct ept_debt *debt, uint64_t now, uint64_t pages, unsigned faults);

/* The same of a fault that has ended. */
void ept_debt_count(struct ept_debt *debt, const struct ept_request *req,
		    const struct ept_resolution *res, uint64_t now);

/* In a process that was forked: nothing came in so far. */
void ept_debt_clear(struct ept_debt *debt);

#endif
