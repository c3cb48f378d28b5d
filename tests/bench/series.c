#include "tests/bench/series.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void series_row(json_t *rows, const char *name, const char *unit, struct series *ours,
		struct series *plain, const char *bar)
{
	series_print(stdout, name, unit, ours, plain, bar);
	putchar('\n');
	json_array_append_new(rows, series_json(name, unit, ours, plain, bar));
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
