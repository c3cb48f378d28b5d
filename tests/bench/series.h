/*
 * What the benchmarks share: repeated measurements, and a row of the result
 * for each pair of them.
 *
 * A row is {name, unit, ours, plain, ratio, bar, spread}. ours, plain: medians.
 * spread: of ours, (90th - 10th percentile) / median. bar: what must hold, as
 * "ours <= x" or "ratio <= x".
 */
#ifndef TEST_BENCH_SERIES_H
#define TEST_BENCH_SERIES_H

#include <jansson.h>
#include <stdint.h>

#define SERIES_MAX 64

struct series {
	unsigned count;
	double value[SERIES_MAX];
};

void series_add(struct series *s, double value);

/* The value that @fraction of the others lie below; 0 without any. */
double series_at(struct series *s, double fraction);

/* Print a row and put it into @rows. @plain NULL: there is no other. */
void series_row(json_t *rows, const char *name, const char *unit, struct series *ours,
		struct series *plain, const char *bar);

/* Write {"rows": @rows} to @path; takes @rows. */
void series_write(json_t *rows, const char *path);

uint64_t now_ns(void); /* CLOCK_MONOTONIC */

/* Say what went wrong and exit with 1. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
