#include "vmm/report_bins.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_SHIFT 10 /* 1.024 us */

static uint64_t *column_in(const struct report_bins *bins, uint64_t *cells, uint64_t column)
{
	return cells + (column % REPORT_COLUMNS) * bins->width;
}

int report_bins_init(struct report_bins *bins, unsigned width)
{
	*bins = (struct report_bins){.width = width, .shift = FIRST_SHIFT};
	bins->cells = calloc((size_t)REPORT_COLUMNS * width, sizeof(*bins->cells));
	bins->spare = calloc((size_t)REPORT_COLUMNS * width, sizeof(*bins->spare));
	return bins->cells && bins->spare ? 0 : -ENOMEM;
}

void report_bins_free(struct report_bins *bins)
{
	free(bins->cells);
	free(bins->spare);
}

/* Columns twice as wide. */
static void widen(struct report_bins *bins)
{
	uint64_t *wide = bins->spare;

	memset(wide, 0, (size_t)REPORT_COLUMNS * bins->width * sizeof(*wide));
	for (uint64_t c = bins->first; c <= bins->last; c++) {
		const uint64_t *from = report_bins_column(bins, c);
		uint64_t *to = column_in(bins, wide, c / 2);
		for (unsigned i = 0; i < bins->width; i++)
			to[i] += from[i];
	}
	bins->spare = bins->cells;
	bins->cells = wide;
	bins->first /= 2;
	bins->last /= 2;
	bins->shift++;
}

uint64_t *report_bins_at(struct report_bins *bins, uint64_t ns)
{
	uint64_t column = ns >> bins->shift;

	if (!bins->any)
		bins->first = bins->last = column;
	bins->any = true;
	while (column - bins->first >= REPORT_COLUMNS && column > bins->last) {
		widen(bins);
		column = ns >> bins->shift;
	}
	while (column < bins->first && bins->last - column >= REPORT_COLUMNS) {
		widen(bins);
		column = ns >> bins->shift;
	}
	bins->first = column < bins->first ? column : bins->first;
	bins->last = column > bins->last ? column : bins->last;
	return column_in(bins, bins->cells, column);
}

const uint64_t *report_bins_column(const struct report_bins *bins, uint64_t column)
{
	return column_in(bins, bins->cells, column);
}
