#include "vmm/rip_sums.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define TOP_RIPS  8U
#define PLACE_MAX 300U

void rip_sums_add(struct rip_sums *sums, uint64_t rip, bool exact)
{
	unsigned at = (unsigned)(rip * 0x9e3779b97f4a7c15ULL >> 32);

	for (unsigned i = 0; i < RIP_SUMS_MAX; i++) {
		struct rip_sum *one = &sums->rips[(at + i) % RIP_SUMS_MAX];
		if (one->faults && one->rip != rip)
			continue;
		one->rip = rip;
		one->faults++;
		one->near += !exact;
		return;
	}
	sums->others++;
}

static int most_first(const void *a, const void *b)
{
	const struct rip_sum *one = a, *other = b;

	return one->faults < other->faults ? 1 : one->faults > other->faults ? -1 : 0;
}

/* How many of them stand first in the list now. */
static unsigned top_rips(struct rip_sums *sums)
{
	unsigned nr = 0;

	qsort(sums->rips, RIP_SUMS_MAX, sizeof(sums->rips[0]), most_first);
	while (nr < TOP_RIPS && sums->rips[nr].faults)
		nr++;
	return nr;
}

/* "symbol+0xoffset"; NULL: no symbol is known there. */
static const char *place_of(const struct rip_sums *sums, uint64_t rip, char *text)
{
	uint64_t offset;
	const char *name = symbols_find(sums->symbols, rip, &offset);

	if (name)
		snprintf(text, PLACE_MAX, "%s+0x%" PRIx64, name, offset);
	return name ? text : NULL;
}

void rip_sums_line(struct rip_sums *sums, struct trace_out *out)
{
	unsigned nr = top_rips(sums);

	for (unsigned i = 0; i < nr; i++) {
		const struct rip_sum *one = &sums->rips[i];
		char text[PLACE_MAX];
		const char *place = place_of(sums, one->rip, text);

		trace_out_text(out, "%s%s 0x%" PRIx64 "%s%s (%" PRIu64 ")", i ? "," : "most at RIP",
			       one->near ? " near" : "", one->rip, place ? " " : "",
			       place ? place : "", one->faults);
	}
	if (nr)
		trace_out_text(out, "\n");
}

json_t *rip_sums_json(struct rip_sums *sums)
{
	unsigned nr = top_rips(sums);
	json_t *rips = json_array();

	for (unsigned i = 0; i < nr; i++) {
		const struct rip_sum *one = &sums->rips[i];
		char rip[19]; /* a kernel's is more than JSON's integers hold */
		char place[PLACE_MAX];

		snprintf(rip, sizeof(rip), "0x%" PRIx64, one->rip);
		json_array_append_new(rips, json_pack("{s:s, s:I, s:I, s:s?}", "rip", rip, "faults",
						      (json_int_t)one->faults, "near",
						      (json_int_t)one->near, "symbol",
						      place_of(sums, one->rip, place)));
	}
	return rips;
}

/* --- sampled by kick ------------------------------------------------------------------------ */

void sampled_rips_add(struct sampled_rips *s, const struct ept_sample *sample)
{
	s->samples++;
	s->exact += sample->exact;
	s->ring3 += sample->cpl == 3;
	rip_sums_add(&s->sums, sample->rip, sample->exact);
}

bool sampled_rips_any(const struct sampled_rips *s, const struct trace_meta *meta)
{
	return s->samples || meta->rip_sample;
}

void sampled_rips_table(struct sampled_rips *s, const struct trace_meta *meta, uint64_t lost,
			struct trace_out *out)
{
	trace_out_text(out,
		       "\nguest RIPs, by kicks at 1 in %u faults of a vCPU: %" PRIu64
		       " samples, %" PRIu64 " exact, %" PRIu64 " of ring 3, %" PRIu64 " lost\n",
		       meta->rip_sample, s->samples, s->exact, s->ring3, lost);
	rip_sums_line(&s->sums, out);
}

json_t *sampled_rips_json(struct sampled_rips *s, const struct trace_meta *meta, uint64_t lost)
{
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:o}", "source", "kicks", "every",
			 (json_int_t)meta->rip_sample, "samples", (json_int_t)s->samples, "exact",
			 (json_int_t)s->exact, "ring3", (json_int_t)s->ring3, "lost",
			 (json_int_t)lost, "rips", rip_sums_json(&s->sums));
}
