/* foal top: what a VM says, taken apart. The VM may be hostile: all of it is checked here, once. */
#include <string.h>

#include "vmm/client.h"
#include "vmm/top.h"

#define SHIFT_MAX EPT_GPA_BITS

/* --- texts ----------------------------------------------------------------------------------- */

void top_take_name(char out[TOP_NAME_MAX], const char *text)
{
	size_t n = 0;

	for (; n < TOP_NAME_MAX - 1 && text[n]; n++) {
		out[n] = text[n];
		if (text[n] <= ' ' || text[n] >= 0x7f)
			out[n] = '?';
	}
	out[n] = 0;
}

static const json_t *inside(const json_t *object, const char *a, const char *b)
{
	const json_t *in = json_object_get(object, a);

	return b ? json_object_get(in, b) : in;
}

/* --- counters -------------------------------------------------------------------------------- */

static void take_origins(struct top_sample *out, const json_t *by_origin)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)by_origin, key, value)
	{
		unsigned i = 0;

		while (i < out->nr_origins && strcmp(out->origins[i].name, key) != 0)
			i++;
		if (i == TOP_ORIGINS_MAX)
			continue;
		if (i == out->nr_origins)
			top_take_name(out->origins[out->nr_origins++].name, key);
		out->origins[i].faults += reply_number(by_origin, key);
	}
}

static const char *take_cases(struct top_sample *out, const json_t *cases)
{
	const json_t *one;
	size_t i;

	if (!json_is_array(cases) || json_array_size(cases) > TOP_CASES_MAX)
		return "its cases";
	json_array_foreach(cases, i, one)
	{
		struct top_case *c = &out->cases[out->nr_cases++];
		const json_t *latency = json_object_get(one, "latency_ns");

		top_take_name(c->name, reply_text(one, "case"));
		if (!c->name[0])
			return "the name of a case";
		c->faults = reply_number(one, "faults");
		c->installed = reply_number(one, "installed");
		c->bytes_read = reply_number(one, "bytes_read");
		c->p50 = reply_number(latency, "p50");
		c->p99 = reply_number(latency, "p99");
		out->total.faults += c->faults;
		out->total.installed += c->installed;
		out->total.bytes_read += c->bytes_read;
		take_origins(out, json_object_get(one, "by_origin"));
	}
	return NULL;
}

static void take_start(struct top_sample *out, const json_t *start)
{
	const json_t *debt = json_object_get(start, "debt");
	uint64_t began = reply_number(start, "main_ns"), now = reply_number(start, "end_ns");

	out->uptime = now > began ? now - began : 0;
	out->first_run = reply_number(debt, "first_run_ns");
	out->debt_pages = reply_number(debt, "pages");
	out->debt_p50 = reply_number(inside(debt, "p50", NULL), "ns");
	out->debt_p99 = reply_number(inside(debt, "p99", NULL), "ns");
	out->ready = reply_number(inside(debt, "ready", NULL), "ns");
}

static void take_memory(struct top_sample *out, const json_t *stats)
{
	const json_t *resident = json_object_get(stats, "resident");
	const json_t *reclaim = json_object_get(stats, "reclaim");

	out->memory = reply_number(stats, "memory");
	out->resident = reply_number(resident, "guest");
	out->huge = reply_number(resident, "huge");
	out->monitor = reply_number(resident, "monitor");
	out->limited = json_is_object(reclaim);
	out->limit = reply_number(reclaim, "limit");
	out->counted = reply_number(reclaim, "resident");
	out->swapped = reply_number(reclaim, "swapped");
}

static void take_kvm(struct top_sample *out, const json_t *stats)
{
	const json_t *kvm = json_object_get(stats, "kvm");

	out->events = reply_number(inside(stats, "reconciliation", "cases"), "events");
	out->kvm = json_is_object(kvm);
	out->pf_taken = reply_number(kvm, "pf_taken");
	out->pf_fixed = reply_number(kvm, "pf_fixed");
	out->exits = reply_number(kvm, "exits");
}

/* --- the map --------------------------------------------------------------------------------- */

static bool take_cell(struct top_sample *out, uint64_t number, const json_t *pages,
		      const json_t *there)
{
	struct top_cell *cell = &out->cells[out->nr_cells];
	uint64_t most = 1UL << (out->shift - EPT_PAGE_SHIFT);

	if (!json_is_integer(pages) || !json_is_integer(there) || out->nr_cells == TOP_CELLS_MAX)
		return false;
	*cell = (struct top_cell){.number = number,
				  .pages = (uint64_t)json_integer_value(pages),
				  .there = (uint64_t)json_integer_value(there)};
	out->nr_cells++;
	return cell->pages <= most && cell->there <= cell->pages;
}

static bool take_span(struct top_sample *out, const json_t *span)
{
	const json_t *pages = json_object_get(span, "pages"),
		     *there = json_object_get(span, "there");
	uint64_t gpa = reply_number(span, "gpa"), first = gpa >> out->shift;
	size_t n = json_array_size(pages);

	if (!n || gpa >> EPT_GPA_BITS || first << out->shift != gpa ||
	    json_array_size(there) != n ||
	    (out->nr_cells && first <= out->cells[out->nr_cells - 1].number))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!take_cell(out, first + i, json_array_get(pages, i), json_array_get(there, i)))
			return false;
	return true;
}

static bool take_map(struct top_sample *out, const json_t *reply)
{
	uint64_t size = reply_number(reply, "cell");
	const json_t *spans = json_object_get(reply, "spans"), *span;
	size_t i;

	if (size < EPT_PAGE_SIZE || size & (size - 1) || size >> SHIFT_MAX > 1)
		return false;
	out->shift = (unsigned)__builtin_ctzl(size);
	json_array_foreach(spans, i, span)
	{
		if (!take_span(out, span))
			return false;
	}
	return json_is_array(spans);
}

const char *top_sample_take(struct top_sample *out, const json_t *stat, const json_t *residency)
{
	const json_t *stats = json_object_get(stat, "stats");
	const char *wrong;

	memset(out, 0, sizeof(*out));
	top_take_name(out->state, reply_text(stat, "state"));
	out->cpus = reply_number(stats, "cpus");
	take_start(out, json_object_get(stats, "start"));
	take_memory(out, stats);
	take_kvm(out, stats);
	wrong = take_cases(out, json_object_get(stats, "cases"));
	if (wrong)
		return wrong;
	return take_map(out, residency) ? NULL : "its map of what is there";
}
