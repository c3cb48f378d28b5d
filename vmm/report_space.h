/*
 * Guest-physical space as a trace's areas have it, without the holes between them: in rows for a
 * picture, and a bit for each page that came. Bounded, whatever sizes a trace names. One thread.
 * Private to vmm/.
 */
#ifndef FOAL_VMM_REPORT_SPACE_H
#define FOAL_VMM_REPORT_SPACE_H

#include "vmm/trace_file.h"

#define REPORT_ROWS   128U
#define REPORT_BLOCK  512U /* pages: what one fault brings in lies in one aligned 2 MiB */
/* Bits: 64 MiB of them, touched where pages came. A larger guest has several pages a bit. */
#define REPORT_UNITS  (1ULL << 29)
#define REPORT_NO_ROW REPORT_ROWS

/* Ascending, apart from each other; pages. */
struct report_range {
	uint64_t first, end;
	uint64_t before; /* pages of the ranges before it */
};

struct report_space {
	struct report_range *ranges;
	size_t nr_ranges;
	uint64_t pages;	     /* of all of them */
	unsigned unit_shift; /* a bit is 2^that pages */
	unsigned rows;
	uint64_t row_pages;
	uint64_t *seen;
};

/* 0, or -ENOMEM. report_space_free() in any case. */
int report_space_init(struct report_space *space, const struct trace_meta *meta);
void report_space_free(struct report_space *space);

/* REPORT_NO_ROW: it is in no area. */
unsigned report_space_row(const struct report_space *space, uint64_t gpa);
/* Where @row, less than rows, begins. */
uint64_t report_space_gpa(const struct report_space *space, unsigned row);
/*
 * @installed pages came for a fault at @gpa: add those that had not come before to @rows, one
 * counter a row. A record does not name them: they are its own page, and then those of the
 * smallest aligned block that holds so many, behind it before those in front of it. How many.
 */
uint64_t report_space_come(struct report_space *space, uint64_t gpa, uint32_t installed,
			   uint64_t *rows);

#endif
