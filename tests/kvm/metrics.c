#include "tests/kvm/metrics.h"

#include <check.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The family that is being read. */
struct family {
	char name[80], type[16];
	bool helped, typed;
	size_t first; /* of its samples */
};

static size_t name_length(const char *at, bool colons)
{
	size_t n = 0;

	while (isalpha((unsigned char)at[n]) || at[n] == '_' ||
	       (n && isdigit((unsigned char)at[n])) || (colons && at[n] == ':'))
		n++;
	return n;
}

static const char *take_name(const char *at, char *to, size_t size, bool colons)
{
	size_t n = name_length(at, colons);

	ck_assert_msg(n && n < size, "no name: %.40s", at);
	memcpy(to, at, n);
	to[n] = 0;
	return at + n;
}

static const char *take_value(const char *at, char *to, size_t size)
{
	size_t n = 0;

	ck_assert_int_eq(*at++, '"');
	for (; *at != '"'; at++) {
		ck_assert_msg(*at && *at != '\n' && n + 1 < size, "a label without an end");
		bool escape = *at == '\\';

		at += escape;
		ck_assert_msg(!escape || *at == '\\' || *at == '"' || *at == 'n', "\\%c", *at);
		if (escape && *at == 'n')
			to[n++] = '\n';
		else
			to[n++] = *at;
	}
	to[n] = 0;
	return at + 1;
}

static const char *take_labels(const char *at, struct metric *m)
{
	if (*at != '{')
		return at;
	do {
		ck_assert_uint_lt(m->labels, LABELS_MAX);
		at = take_name(at + 1, m->label[m->labels].name, sizeof(m->label[0].name), false);
		ck_assert_int_eq(*at++, '=');
		at = take_value(at, m->label[m->labels].value, sizeof(m->label[0].value));
		for (unsigned i = 0; i < m->labels; i++)
			ck_assert_str_ne(m->label[i].name, m->label[m->labels].name);
		m->labels++;
	} while (*at == ',');
	ck_assert_int_eq(*at, '}');
	return at + 1;
}

const char *metric_label(const struct metric *m, const char *name)
{
	for (unsigned i = 0; i < m->labels; i++)
		if (strcmp(m->label[i].name, name) == 0)
			return m->label[i].value;
	return "";
}

static bool same_series(const struct metric *a, const struct metric *b)
{
	if (strcmp(a->name, b->name) != 0 || a->labels != b->labels)
		return false;
	for (unsigned i = 0; i < a->labels; i++)
		if (strcmp(a->label[i].value, metric_label(b, a->label[i].name)) != 0)
			return false;
	return true;
}

/* May a sample of this name be one of the family? */
static bool belongs(const struct family *f, const char *name)
{
	static const char *const parts[] = {"_bucket", "_sum", "_count"};
	size_t n = strlen(f->name);

	if (strcmp(f->type, "histogram") != 0)
		return strcmp(name, f->name) == 0;
	for (int i = 0; i < 3; i++)
		if (strncmp(name, f->name, n) == 0 && strcmp(name + n, parts[i]) == 0)
			return true;
	return false;
}

static void take_sample(const char *line, const struct family *f, struct metrics *all)
{
	struct metric *m = &all->list[all->count];
	const char *at;
	char *end;

	ck_assert_uint_lt(all->count, METRICS_MAX);
	*m = (struct metric){0};
	at = take_labels(take_name(line, m->name, sizeof(m->name), true), m);
	ck_assert_int_eq(*at++, ' ');
	ck_assert_msg(isdigit((unsigned char)*at) || *at == '-', "no number: %s", line);
	m->value = strtod(at, &end);
	ck_assert_msg(*end == 0, "behind the number: %s", line);
	ck_assert_msg(f->helped && f->typed && belongs(f, m->name), "%s is none of %s", m->name,
		      f->name);
	ck_assert_msg(strcmp(f->type, "counter") != 0 || m->value >= 0, "%s", line);
	for (size_t i = f->first; i < all->count; i++)
		ck_assert_msg(!same_series(&all->list[i], m), "twice: %s", line);
	all->count++;
}

static bool is_bucket_of(const struct metric *m, const struct metric *count)
{
	size_t n = strlen(count->name) - strlen("_count");

	if (strncmp(m->name, count->name, n) != 0 || strcmp(m->name + n, "_bucket") != 0)
		return false;
	for (unsigned i = 0; i < count->labels; i++)
		if (strcmp(count->label[i].value, metric_label(m, count->label[i].name)) != 0)
			return false;
	return m->labels == count->labels + 1;
}

/* The buckets of one histogram, in order; the last of them has all. */
static void check_histogram(const struct metrics *all, size_t first, const struct metric *count)
{
	double below = 0, edge = -1;
	bool last = false;

	for (size_t i = first; i < all->count; i++) {
		const struct metric *m = &all->list[i];
		const char *le = metric_label(m, "le");

		if (!is_bucket_of(m, count))
			continue;
		ck_assert(!last && m->value >= below);
		below = m->value;
		last = strcmp(le, "+Inf") == 0;
		if (!last) {
			ck_assert_msg(strtod(le, NULL) > edge, "le=%s is not above", le);
			edge = strtod(le, NULL);
		}
	}
	ck_assert_msg(last, "no le=\"+Inf\" of %s", count->name);
	ck_assert(below == count->value);
}

static void end_family(const struct metrics *all, const struct family *f)
{
	size_t n = strlen(f->name);

	if (strcmp(f->type, "counter") == 0)
		ck_assert_msg(n > 6 && strcmp(f->name + n - 6, "_total") == 0, "%s", f->name);
	for (size_t i = f->first; strcmp(f->type, "histogram") == 0 && i < all->count; i++)
		if (strcmp(all->list[i].name + n, "_count") == 0)
			check_histogram(all, f->first, &all->list[i]);
}

static void begin_family(const char *line, struct family *f, struct metrics *all)
{
	static char before[256][80];
	static unsigned count;

	end_family(all, f);
	if (!all->count && !f->helped)
		count = 0;
	*f = (struct family){.helped = true, .first = all->count};
	line = take_name(line, f->name, sizeof(f->name), true);
	ck_assert_msg(line[0] == ' ' && line[1], "%s has no help", f->name);
	for (unsigned i = 0; i < count; i++)
		ck_assert_str_ne(before[i], f->name);
	ck_assert_uint_lt(count, 256);
	memcpy(before[count++], f->name, sizeof(f->name));
}

static void take_type(const char *line, struct family *f, const struct metrics *all)
{
	static const char *const types[] = {"counter", "gauge", "histogram"};
	char name[80];
	bool known = false;

	line = take_name(line, name, sizeof(name), true);
	ck_assert_str_eq(name, f->name);
	ck_assert(!f->typed && all->count == f->first);
	ck_assert_int_eq(*line++, ' ');
	for (int i = 0; i < 3; i++)
		known |= strcmp(line, types[i]) == 0;
	ck_assert_msg(known, "type %s", line);
	snprintf(f->type, sizeof(f->type), "%s", line);
	f->typed = true;
}

struct metrics *metrics_read(const char *text)
{
	struct metrics *all = calloc(1, sizeof(*all));
	char *copy = strdup(text), *save;
	struct family f = {0};

	ck_assert(all && copy);
	ck_assert_msg(*text && text[strlen(text) - 1] == '\n', "no end of the last line");
	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (strncmp(line, "# HELP ", 7) == 0)
			begin_family(line + 7, &f, all);
		else if (strncmp(line, "# TYPE ", 7) == 0)
			take_type(line + 7, &f, all);
		else
			take_sample(line, &f, all);
	}
	end_family(all, &f);
	free(copy);
	return all;
}

double metrics_sum(const struct metrics *all, const char *name, const char *label,
		   const char *value)
{
	double sum = 0;

	for (size_t i = 0; i < all->count; i++)
		if (strcmp(all->list[i].name, name) == 0 &&
		    (!label || strcmp(metric_label(&all->list[i], label), value) == 0))
			sum += all->list[i].value;
	return sum;
}
