/*
 * Counters over time in a bounded number of columns, without knowing before how long it takes, in
 * whatever order it is told: columns are as wide as what was there so far needs, and two become
 * one whenever it needs more. One thread. Private to vmm/.
 */
#ifndef FOAL_VMM_REPORT_BINS_H
#define FOAL_VMM_REPORT_BINS_H

#include <stdbool.h>
#include <stdint.h>

#define REPORT_COLUMNS 256U /* a power of two */

struct report_bins {
	unsigned width;	      /* counters of a column */
	unsigned shift;	      /* a column is 2^shift ns */
	uint64_t first, last; /* column N begins at N << shift */
	bool any;
	uint64_t *cells; /* column N at N % REPORT_COLUMNS */
	uint64_t *spare;
};

/* 0, or -ENOMEM. report_bins_free() in any case. */
int report_bins_init(struct report_bins *bins, unsigned width);
void report_bins_free(struct report_bins *bins);

/* The counters of the column that @ns, less than 2^63, lies in. Valid until the next call. */
uint64_t *report_bins_at(struct report_bins *bins, uint64_t ns);
/* Those of @column, first to last. */
const uint64_t *report_bins_column(const struct report_bins *bins, uint64_t column);

#endif
