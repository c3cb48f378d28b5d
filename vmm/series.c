#include "vmm/series.h"

#include <stdlib.h>

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

double series_spread(struct series *s)
{
	double median = series_at(s, 0.5);

	return median > 0 ? (series_at(s, 0.9) - series_at(s, 0.1)) / median : 0;
}

bool series_interval(struct series *s, double *low, double *high)
{
	/* Each is as likely below the median as not: that just, and that at most @outside are. */
	double each = 1, sum;
	unsigned outside = 0;

	for (unsigned i = 0; i < s->count; i++)
		each /= 2;
	sum = each;
	if (sum > 0.025)
		return false;
	while (sum <= 0.025) {
		each *= (double)(s->count - outside) / (outside + 1);
		sum += each;
		outside++;
	}
	qsort(s->value, s->count, sizeof(double), compare);
	*low = s->value[outside - 1];
	*high = s->value[s->count - outside];
	return true;
}

void series_print(FILE *out, const char *name, const char *unit, struct series *ours,
		  struct series *plain, const char *bar)
{
	double o = series_at(ours, 0.5), p = plain ? series_at(plain, 0.5) : 0;

	fprintf(out, "%-39s %10.*f %-4s", name, o < 100 ? 2 : 0, o, unit);
	if (p > 0)
		fprintf(out, "  plain %10.*f  ratio %6.2f", p < 100 ? 2 : 0, p, o / p);
	else
		fprintf(out, "%33s", "");
	fprintf(out, "  spread %4.0f %%  bar %s", series_spread(ours) * 100, bar);
}

json_t *series_json(const char *name, const char *unit, struct series *ours, struct series *plain,
		    const char *bar)
{
	double o = series_at(ours, 0.5), p = plain ? series_at(plain, 0.5) : 0;

	return json_pack("{s:s,s:s,s:o,s:o,s:o,s:s,s:f}", "name", name, "unit", unit, "ours",
			 ours->count ? json_real(o) : json_null(), "plain",
			 p > 0 ? json_real(p) : json_null(), "ratio",
			 p > 0 ? json_real(o / p) : json_null(), "bar", bar, "spread",
			 series_spread(ours));
}
