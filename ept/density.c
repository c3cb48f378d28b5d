/* What a look at the host's tables tells of an area, region by region. */
#include "ept/density.h"

#include "ept/host_pages.h"

#include <string.h>

/* Pages with @bit, the first of them, and past the last. */
static struct ept_run run_of(const unsigned char *present, unsigned char bit)
{
	unsigned count = 0, low = 0, high = 0;

	for (unsigned i = 0; i < REGION_PAGES; i++)
		count += (present[i] & bit) != 0;
	if (count) {
		while (!(present[low] & bit))
			low++;
		for (high = REGION_PAGES; !(present[high - 1] & bit); high--)
			;
	}
	return (struct ept_run){(uint16_t)count, (uint16_t)low, (uint16_t)high};
}

static bool dense(const struct ept_density *d, unsigned i)
{
	return d->regions[i].count >= REGION_DENSE;
}

/* Which way the run of pages in region @i grows. */
int ept_density_way(const struct ept_density *d, unsigned i, const struct ept_region *old)
{
	const struct ept_region *r = &d->regions[i];
	bool up = r->high > old->high, down = r->low < old->low;

	if (old->count && up != down)
		return up ? 1 : -1;
	if (i && dense(d, i - 1))
		return 1;
	if (i + 1 < d->nr && dense(d, i + 1))
		return -1;
	return r->low <= REGION_PAGES - r->high ? 1 : -1;
}

bool ept_density_streams(const struct ept_density *d, unsigned i, int way)
{
	const struct ept_region *r = &d->regions[i];
	bool goes_on = way > 0 ? i && dense(d, i - 1) : i + 1 < d->nr && dense(d, i + 1);

	/* Nearly no hole: what several vCPUs touch in turn is a stream, too. */
	return r->count * 16 >= (r->high - r->low) * 15 &&
	       r->count >= (goes_on ? STREAM_NEXT : STREAM_PAGES);
}

static void look_at(struct ept_region *r, const unsigned char *present)
{
	struct ept_run all = run_of(present, EPT_HOST_THERE);

	r->count = all.count;
	r->low = all.low;
	r->high = all.high;
	r->own = run_of(present, EPT_HOST_COPY);
}

/* What was taken away is not brought back by us: given back, or swapped out. */
static void note_loss(struct ept_region *r, const struct ept_region *old)
{
	if (r->count < old->count) {
		r->flags &= (uint8_t)~REGION_HUGE;
		__atomic_store_n(&r->given, r->count != 0, __ATOMIC_RELEASE);
	}
	if (!r->count && old->count)
		__atomic_store_n(&r->given, 0, __ATOMIC_RELEASE);
}

static unsigned grown(unsigned from, unsigned to)
{
	return to > from ? to - from : 0;
}

static void take_note(struct ept_governor *g, struct ept_density *d, unsigned i,
		      const unsigned char *present, uint64_t now, struct ept_growth *growth)
{
	struct ept_region *r = &d->regions[i];
	/* All but `given`, which others set meanwhile. */
	struct ept_region old = {
	    .count = r->count, .low = r->low, .high = r->high, .own = r->own, .flags = r->flags};
	unsigned fresh, own, around = d->rules->around;

	look_at(r, present);
	note_loss(r, &old);
	fresh = grown(old.count, r->count);
	own = grown(old.own.count, r->own.count);
	if (!fresh && !own)
		return;
	growth->all += fresh > own ? fresh : own;
	d->rules->judge(g, d, i, &old, now);
	if (r->flags & REGION_HUGE && !old.count)
		return;
	/* As many faults it takes. */
	growth->small += own + (grown(own, fresh) + around - 1) / around;
	growth->regions += old.count != 0;
	if (d->nr_hot < HOT_MAX)
		d->hot[d->nr_hot] = i;
	d->nr_hot++;
}

void ept_density_scan_range(struct ept_governor *g, struct ept_density *d, unsigned first,
			    unsigned end, uint64_t now, struct ept_growth *growth)
{
	while (first < end) {
		unsigned n = end - first < SCAN_CHUNK ? end - first : SCAN_CHUNK;

		if (d->rules->look(g, d, first, n, g->present))
			return;
		for (unsigned i = 0; i < n; i++)
			take_note(g, d, first + i, g->present + (size_t)i * REGION_PAGES, now,
				  growth);
		first += n;
	}
}

struct ept_growth ept_density_scan_hot(struct ept_governor *g, struct ept_density *d, uint64_t now)
{
	struct ept_growth growth = {0};
	unsigned hot[HOT_MAX], n = d->nr_hot;

	if (n > HOT_MAX)
		return growth; /* all over: the caller looks at all */
	memcpy(hot, d->hot, n * sizeof(*hot));
	d->nr_hot = 0;
	for (unsigned i = 0; i < n; i++) {
		/* And its neighbours: where a stream goes when it leaves. */
		unsigned first = hot[i] ? hot[i] - 1 : 0, end = hot[i] + 2;

		ept_density_scan_range(g, d, first, end < d->nr ? end : d->nr, now, &growth);
	}
	ept_windows_follow(g, d, now, &growth);
	d->rules->scanned(g, d, now, &growth);
	return growth;
}

struct ept_growth ept_density_scan_all(struct ept_governor *g, struct ept_density *d, uint64_t now)
{
	struct ept_growth growth = {0};

	d->nr_hot = 0;
	ept_density_scan_range(g, d, 0, d->nr, now, &growth);
	ept_windows_follow(g, d, now, &growth);
	d->rules->scanned(g, d, now, &growth);
	return growth;
}
