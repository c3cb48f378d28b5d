/*
 * What the benchmarks of tests/bench share beside vmm/series.h, which says what a
 * row is.
 */
#ifndef TEST_BENCH_SERIES_H
#define TEST_BENCH_SERIES_H

#include <jansson.h>
#include <stdint.h>

#include "vmm/series.h"

/* Print a row and put it into @rows. @plain NULL: there is no other. */
void series_row(json_t *rows, const char *name, const char *unit, struct series *ours,
		struct series *plain, const char *bar);

/* Write {"rows": @rows} to @path; takes @rows. */
void series_write(json_t *rows, const char *path);

uint64_t now_ns(void); /* CLOCK_MONOTONIC */

/* Say what went wrong and exit with 1. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
