/*
 * A measurement repeated, and a row of a benchmark's result for a pair of them.
 *
 * A row is {name, unit, ours, plain, ratio, bar, spread}. ours, plain: medians;
 * ratio: of these. spread: of ours, (90th - 10th percentile) / median. bar: what
 * must hold, as "ours <= x" or "ratio <= x".
 */
#ifndef FOAL_VMM_SERIES_H
#define FOAL_VMM_SERIES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#define SERIES_MAX 256

struct series {
	unsigned count;
	double value[SERIES_MAX];
};

/* What is more than SERIES_MAX is left out. */
void series_add(struct series *s, double value);

/* The value that @fraction of the others lie below; 0 without any. */
double series_at(struct series *s, double fraction);

/* (90th - 10th percentile) / median, 0 without any. */
double series_spread(struct series *s);

/*
 * Where the median of what the values are drawn from lies with a probability of at least 95 %,
 * whatever else that is (binomial, between two of the values). False: they are too few to say.
 */
bool series_interval(struct series *s, double *low, double *high);

/* Print a row's line to @out. @plain empty or NULL: there is no other. */
void series_print(FILE *out, const char *name, const char *unit, struct series *ours,
		  struct series *plain, const char *bar);

/* The row; the caller's. */
json_t *series_json(const char *name, const char *unit, struct series *ours, struct series *plain,
		    const char *bar);

#endif
