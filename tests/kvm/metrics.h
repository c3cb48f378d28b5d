/* The text format of Prometheus, read strictly, for tests. */
#ifndef TEST_KVM_METRICS_H
#define TEST_KVM_METRICS_H

#include <stdbool.h>
#include <stddef.h>

#define METRICS_MAX 4096
#define LABELS_MAX  8

struct metric {
	char name[80];
	unsigned labels;
	struct {
		char name[32], value[256]; /* unescaped */
	} label[LABELS_MAX];
	double value;
};

struct metrics {
	struct metric list[METRICS_MAX];
	size_t count;
};

/*
 * Take @text apart: each family with HELP and TYPE before its samples and in one place, names and
 * labels as the format has them, no series twice, histograms that add up. What is wrong fails the
 * test. free() it.
 */
struct metrics *metrics_read(const char *text);

/* The value of a label, or "". */
const char *metric_label(const struct metric *m, const char *name);

/* The sum of what is called @name, where label @label is @value (NULL: any). */
double metrics_sum(const struct metrics *all, const char *name, const char *label,
		   const char *value);

#endif
