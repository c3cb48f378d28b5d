#include "tests/bench/series.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void series_add(struct series *s, double value)
{
	if (s->count < SERIES_MAX)
		s->value[s->count++] = value;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double series_at(struct series *s, double fraction)
{
	if (s->count == 0)
		return 0;
	qsort(s->value, s->count, sizeof(double), compare);
	return s->value[(unsigned)(fraction * (s->count - 1) + 0.5)];
}

void series_row(json_t *rows, const char *name, const char *unit, struct series *ours,
		struct series *plain, const char *bar)
{
	double o = series_at(ours, 0.5), p = plain ? series_at(plain, 0.5) : 0;
	double spread = o > 0 ? (series_at(ours, 0.9) - series_at(ours, 0.1)) / o : 0;

	printf("%-28s %10.1f %-4s", name, o, unit);
	if (p > 0)
		printf("  plain %10.1f  ratio %5.2f", p, o / p);
	else
		printf("%33s", "");
	printf("  spread %4.0f %%  bar %s\n", spread * 100, bar);
	json_array_append_new(
	    rows, json_pack("{s:s,s:s,s:f,s:o,s:o,s:s,s:f}", "name", name, "unit", unit, "ours", o,
			    "plain", p > 0 ? json_real(p) : json_null(), "ratio",
			    p > 0 ? json_real(o / p) : json_null(), "bar", bar, "spread", spread));
}

void series_write(json_t *rows, const char *path)
{
	json_t *root = json_pack("{s:o}", "rows", rows);

	if (json_dump_file(root, path, JSON_INDENT(2)))
		die("cannot write %s", path);
	json_decref(root);
}

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void die(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}
