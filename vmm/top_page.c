/* foal top as lines of text: what is known of the whole VM, then a row a case, then the map. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/size_text.h"
#include "vmm/top.h"

#define COLUMNS	 80 /* that the lines below need */
#define MAP_ROWS 6  /* that are left for the map: a blank one, its head, and the least it is */

bool top_line(struct top_page *page, const char *fmt, ...)
{
	va_list args;

	if (page->used == page->rows)
		return false;
	va_start(args, fmt);
	vsnprintf(page->text[page->used++], page->columns + 1, fmt, args);
	va_end(args);
	return true;
}

static void make_bold(struct top_page *page)
{
	memset(page->bold[page->used - 1], true, page->columns);
}

/* --- numbers ------------------------------------------------------------------------------- */

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

double top_rate(const struct top *top, uint64_t before, uint64_t now)
{
	uint64_t took = top->now.at - top->before.at;

	return top->again && took && now > before ? (double)(now - before) * 1e9 / (double)took : 0;
}

const struct top_case *top_case_named(const struct top_sample *sample, const char *name)
{
	for (unsigned i = 0; i < sample->nr_cases; i++)
		if (strcmp(sample->cases[i].name, name) == 0)
			return &sample->cases[i];
	return NULL;
}

const struct ept_hist *top_recent(const struct top *top, const char *name)
{
	for (unsigned i = 0; top->log && i < top->meta.nr_cases; i++)
		if (strcmp(top->meta.cases[i], name) == 0)
			return &top->recent[i];
	return NULL;
}

/* --- the whole VM ---------------------------------------------------------------------------- */

static void put_origins(const struct top *top, struct top_page *page)
{
	char line[TOP_COLUMNS_MAX + 1] = "origins  ";
	size_t n = strlen(line);

	for (unsigned i = 0; i < top->now.nr_origins && n < sizeof(line); i++) {
		const struct top_origin *o = &top->now.origins[i];
		uint64_t before =
		    i < top->before.nr_origins && strcmp(top->before.origins[i].name, o->name) == 0
			? top->before.origins[i].faults
			: 0;

		n += (size_t)snprintf(line + n, sizeof(line) - n, "%s%s %" PRIu64 ", %.0f/s",
				      i ? "; " : "", o->name, o->faults,
				      top_rate(top, before, o->faults));
	}
	top_line(page, "%s", line);
}

static void put_memory(const struct top_sample *s, struct top_page *page)
{
	top_line(page, "memory   %s of %s, %s of it huge; the monitor's %s", size_text(s->resident),
		 size_text(s->memory), size_text(s->huge), size_text(s->monitor));
	if (s->limited)
		top_line(page, "limit    %s; %s count, %s swapped", size_text(s->limit),
			 size_text(s->counted), size_text(s->swapped));
}

/* A KVM may count fewer faults than had events: those of what it emulates, or none at all. */
static void put_kvm(const struct top *top, struct top_page *page)
{
	const struct top_sample *s = &top->now, *b = &top->before;
	char shares[64] = "(not all are counted)";
	double ours = s->pf_taken ? 100.0 * (double)s->events / (double)s->pf_taken : 0;

	if (!s->kvm) {
		top_line(page, "KVM      its statistics are not offered by this kernel");
		return;
	}
	if (s->pf_taken && s->pf_taken >= s->events)
		snprintf(shares, sizeof(shares), "(handlers %.1f %%, host kernel %.1f %%)", ours,
			 100.0 - ours);
	top_line(page, "KVM      faults %" PRIu64 ", %.0f/s %s; exits %" PRIu64 ", %.0f/s",
		 s->pf_taken, top_rate(top, b->pf_taken, s->pf_taken), shares, s->exits,
		 top_rate(top, b->exits, s->exits));
}

static void put_debt(const struct top_sample *s, struct top_page *page)
{
	char ready[40] = "ready: not said";

	if (s->ready)
		snprintf(ready, sizeof(ready), "ready %.1f ms", ms(s->ready));
	top_line(page, "debt     run %.1f ms; %s; 99 %% of %" PRIu64 " pages %.1f ms",
		 ms(s->first_run), ready, s->debt_pages, ms(s->debt_p99));
}

static void put_head(const struct top *top, struct top_page *page)
{
	static const char *const sorts[] = {
#define X(id, name) name,
	    TOP_SORTS(X)
#undef X
	};
	const struct top_sample *s = &top->now, *b = &top->before;

	top_line(page, "%s: %s, %" PRIu64 " vCPUs, up %.1f s; every %g s, by %s", top->vm, s->state,
		 s->cpus, (double)s->uptime / 1e9, top->every, sorts[top->sort]);
	top_line(page, "faults   %" PRIu64 ", %.0f/s; pages %" PRIu64 ", %.0f/s; read %s, %s/s",
		 s->total.faults, top_rate(top, b->total.faults, s->total.faults),
		 s->total.installed, top_rate(top, b->total.installed, s->total.installed),
		 size_text(s->total.bytes_read),
		 size_text((uint64_t)top_rate(top, b->total.bytes_read, s->total.bytes_read)));
	put_origins(top, page);
	put_memory(s, page);
	put_kvm(top, page);
	put_debt(s, page);
}

/* --- cases ----------------------------------------------------------------------------------- */

struct row {
	const struct top_case *c;
	double rate, pages; /* a second */
	uint64_t key;
};

static uint64_t key_of(const struct top *top, const struct row *row)
{
	switch (top->sort) {
	case TOP_SORT_FAULTS:
		return row->c->faults;
	case TOP_SORT_RATE:
		return (uint64_t)(row->rate * 1000);
	case TOP_SORT_PAGES:
		return row->c->installed;
	case TOP_SORT_P99:
		return row->c->p99;
	case TOP_SORT_CASE:
	case TOP_NR_SORTS:
		break;
	}
	return 0;
}

static int by_key(const void *a, const void *b)
{
	const struct row *one = a, *other = b;

	if (one->key != other->key)
		return one->key < other->key ? 1 : -1;
	return strcmp(one->c->name, other->c->name);
}

static unsigned sorted(const struct top *top, struct row rows[TOP_CASES_MAX])
{
	for (unsigned i = 0; i < top->now.nr_cases; i++) {
		const struct top_case *c = &top->now.cases[i],
				      *was = top_case_named(&top->before, c->name);

		rows[i] =
		    (struct row){.c = c,
				 .rate = top_rate(top, was ? was->faults : 0, c->faults),
				 .pages = top_rate(top, was ? was->installed : 0, c->installed)};
		rows[i].key = key_of(top, &rows[i]);
	}
	qsort(rows, top->now.nr_cases, sizeof(rows[0]), by_key);
	return top->now.nr_cases;
}

/* Microseconds; "-": nothing is known. */
static const char *micros(const struct ept_hist *recent, double percent)
{
	static char buf[2][24];
	static unsigned next;
	char *out = buf[next++ % 2];

	if (!recent || !recent->count)
		return "-";
	snprintf(out, sizeof(buf[0]), "%.1f", (double)ept_hist_percentile(recent, percent) / 1e3);
	return out;
}

static void put_case(const struct top *top, const struct row *row, struct top_page *page)
{
	const struct ept_hist *recent = top_recent(top, row->c->name);

	top_line(page, "%-14s %8" PRIu64 " %6.0f %9" PRIu64 " %7.0f %7s %7s %7.1f %7.1f",
		 row->c->name, row->c->faults, row->rate, row->c->installed, row->pages,
		 micros(recent, 50), micros(recent, 99), (double)row->c->p50 / 1e3,
		 (double)row->c->p99 / 1e3);
}

static void put_cases(const struct top *top, struct top_page *page, unsigned most)
{
	struct row rows[TOP_CASES_MAX] = {{0}};
	unsigned n = sorted(top, rows), shown = n <= most ? n : most ? most - 1 : 0;

	for (unsigned i = 0; i < shown; i++)
		put_case(top, &rows[i], page);
	if (shown < n)
		top_line(page, "... %u more cases do not fit", n - shown);
}

/* --- all of it ------------------------------------------------------------------------------- */

void top_lay_out(const struct top *top, struct top_page *page)
{
	page->used = 0;
	memset(page->bold, 0, sizeof(page->bold));
	if (page->columns < COLUMNS)
		top_line(page, "%u columns: %d are needed", page->columns, COLUMNS);
	put_head(top, page);
	top_line(page, "%s", "");
	if (top_line(page, "%-14s %8s %6s %9s %7s %7s %7s %7s %7s", "case", "faults", "/s", "pages",
		     "pages/s", "p50 now", "p99 now", "p50 us", "p99 us"))
		make_bold(page);
	unsigned left = page->rows - page->used;
	put_cases(top, page, left > MAP_ROWS + 1 ? left - MAP_ROWS : left);
	top_lay_out_map(top, page);
}
