#include "ept/density.h"

#include "ept/host_pages.h"

#include <errno.h>
#include <string.h>

static void look_at(struct ept_region *r, const unsigned char *present)
{
	unsigned count = 0, low = 0, high = 0;

	for (unsigned i = 0; i < REGION_PAGES; i++)
		count += present[i] & 1;
	if (count) {
		while (!(present[low] & 1))
			low++;
		for (high = REGION_PAGES; !(present[high - 1] & 1); high--)
			;
	}
	r->count = (uint16_t)count;
	r->low = (uint16_t)low;
	r->high = (uint16_t)high;
}

static bool dense(const struct ept_density *d, unsigned i)
{
	return d->regions[i].count >= REGION_DENSE;
}

static bool given_back(const struct ept_region *r)
{
	return __atomic_load_n(&r->given, __ATOMIC_ACQUIRE);
}

/*
 * A refusal costs time, so the next try waits; memory may be free again later. A
 * page that was busy just then (EAGAIN) says nothing of the next region.
 */
static void refused(struct ept_governor *g, int err, uint64_t now)
{
	ept_governor_count(&g->stats.refused, 1);
	if (err == -EAGAIN && ++g->busy < BUSY_MAX)
		return;
	g->busy = 0;
	g->pause = g->pause ? g->pause * 2 : PAUSE_FIRST;
	if (g->pause > PAUSE_MAX)
		g->pause = PAUSE_MAX;
	g->pause_until = now + g->pause;
}

/*
 * It wants huge pages only while it is made one: the mapping stays in one piece,
 * and the host's own daemon, which fills what is there in part, leaves it alone.
 */
static int collapse(struct ept_governor *g, const struct ept_density *d, unsigned i)
{
	bool ahead = d->regions[i].flags & REGION_AHEAD;
	char *hva = ept_density_hva(d, i);
	uint64_t started = ept_thread_ns();
	int err = ahead ? 0 : ept_install_want_huge(hva, EPT_LEAF_BYTES, true);

	if (!err)
		err = ept_install_collapse(hva);
	if (!ahead)
		ept_install_want_huge(hva, EPT_LEAF_BYTES, false);
	g->collapsing += ept_thread_ns() - started;
	return err;
}

bool ept_density_collapse(struct ept_governor *g, struct ept_density *d, unsigned i, unsigned own,
			  uint64_t now)
{
	struct ept_region *r = &d->regions[i];
	int err = -ECANCELED;

	if (now < g->pause_until)
		return false;
	/* Read and never written: the zero page costs nothing, a huge page would. */
	if (ept_host_own_pages(g->space->pagemap_fd, ept_density_hva(d, i), REGION_PAGES) < own)
		return false;
	pthread_mutex_lock(&g->lock);
	if (!given_back(r) || r->count == REGION_PAGES)
		err = collapse(g, d, i);
	if (!err) /* under the lock: what is given back from here on is noted in it */
		*r = (struct ept_region){.count = REGION_PAGES,
					 .high = REGION_PAGES,
					 .flags = (uint8_t)(r->flags | REGION_HUGE)};
	pthread_mutex_unlock(&g->lock);
	if (err == -ECANCELED)
		return false;
	if (err) {
		refused(g, err, now);
		return false;
	}
	ept_governor_count(&g->stats.collapsed, 1);
	g->pause = 0;
	g->busy = 0;
	return true;
}

/* Which way the run of pages in region @i grows. */
static int way_of(const struct ept_density *d, unsigned i, const struct ept_region *old)
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

static bool streams(const struct ept_density *d, unsigned i, int way)
{
	const struct ept_region *r = &d->regions[i];
	bool goes_on = way > 0 ? i && dense(d, i - 1) : i + 1 < d->nr && dense(d, i + 1);

	/* Nearly no hole: what several vCPUs touch in turn is a stream, too. */
	return r->count * 16 >= (r->high - r->low) * 15 &&
	       r->count >= (goes_on ? STREAM_NEXT : STREAM_PAGES);
}

/* Was asked to be huge before its first touch, and came by 4 KiB all the same? */
static bool fell_back(const struct ept_density *d, unsigned i, const struct ept_region *old,
		      int way)
{
	unsigned behind = way > 0 ? i - 1 : i + 1;

	/* One may have been touched just before it was asked; two say no. */
	return !old->count && d->regions[i].flags & REGION_AHEAD && behind < d->nr &&
	       (d->regions[behind].flags & (REGION_AHEAD | REGION_HUGE)) == REGION_AHEAD;
}

/* Region @i grew from @old. */
static void judge(struct ept_governor *g, struct ept_density *d, unsigned i,
		  const struct ept_region *old, uint64_t now)
{
	struct ept_region *r = &d->regions[i];
	int way = way_of(d, i, old);
	bool stream = streams(d, i, way);

	if (!old->count && r->count == REGION_PAGES && r->flags & REGION_AHEAD) {
		r->flags |= REGION_HUGE; /* came so */
		return;
	}
	if (fell_back(d, i, old, way))
		refused(g, -ENOMEM, now);
	if (stream)
		ept_window_open(g, d, i, way, now);
	if (given_back(r) ? r->count == REGION_PAGES
			  : r->count >= (stream ? STREAM_WHOLE : REGION_DENSE))
		ept_density_collapse(g, d, i, r->count * 7 / 8, now);
}

static void take_note(struct ept_governor *g, struct ept_density *d, unsigned i,
		      const unsigned char *present, uint64_t now, struct ept_growth *growth)
{
	struct ept_region *r = &d->regions[i], old = *r;
	unsigned fresh;

	look_at(r, present);
	if (r->count < old.count) {
		/* Given back, or swapped out: what was taken is not brought back by us. */
		r->flags &= (uint8_t)~REGION_HUGE;
		__atomic_store_n(&r->given, r->count != 0, __ATOMIC_RELEASE);
	}
	if (!r->count && old.count)
		__atomic_store_n(&r->given, 0, __ATOMIC_RELEASE);
	if (r->count <= old.count)
		return;
	fresh = r->count - old.count;
	growth->all += fresh;
	judge(g, d, i, &old, now);
	if (r->flags & REGION_HUGE && !old.count)
		return;
	growth->small += fresh;
	growth->regions++;
	if (d->nr_hot < HOT_MAX)
		d->hot[d->nr_hot] = i;
	d->nr_hot++;
}

void ept_density_scan_range(struct ept_governor *g, struct ept_density *d, unsigned first,
			    unsigned end, uint64_t now, struct ept_growth *growth)
{
	while (first < end) {
		unsigned n = end - first < SCAN_CHUNK ? end - first : SCAN_CHUNK;

		if (ept_host_present(ept_density_hva(d, first), (size_t)n << EPT_LEAF_SHIFT,
				     g->present))
			return;
		for (unsigned i = 0; i < n; i++)
			take_note(g, d, first + i, g->present + (size_t)i * REGION_PAGES, now,
				  growth);
		first += n;
	}
}

/* Regions that have some pages and are not huge, and how many pages those have. */
static unsigned sparse_regions(const struct ept_density *d, uint64_t *pages)
{
	unsigned n = 0;

	*pages = 0;
	for (unsigned i = 0; i < d->nr; i++) {
		const struct ept_region *r = &d->regions[i];

		if (r->count && r->count < REGION_DENSE && !given_back(r)) {
			n++;
			*pages += r->count;
		}
	}
	return n;
}

/*
 * Touches at random fill all regions alike. The denser they are the more of them
 * become huge, so that memory never exceeds BET times what the rest tells was
 * touched; the rest is what is watched.
 */
static void bet(struct ept_governor *g, struct ept_density *d, const struct ept_growth *growth,
		uint64_t now)
{
	uint64_t pages, pool, allowed;
	unsigned n = sparse_regions(d, &pages), done = 0;

	if (growth->regions + d->bets < SPREAD_GROWN || !n || growth->regions * 2 < n ||
	    pages < (uint64_t)SPREAD_PAGES * n)
		return;
	pages += growth->small; /* as many more will be there before the next look */
	pool = n + d->bets;
	allowed = BET * pages * pool / n / REGION_PAGES;
	for (unsigned tries = 0; tries < d->nr && d->bets < allowed && done < BETS_A_SCAN;
	     tries++) {
		unsigned i = d->next_bet++ % d->nr;
		const struct ept_region *r = &d->regions[i];

		if (!r->count || r->count >= REGION_DENSE || given_back(r))
			continue;
		done++;
		if (!ept_density_collapse(g, d, i, r->count * 7 / 8, now))
			continue;
		d->bets++;
		ept_governor_count(&g->stats.bets, 1);
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
	bet(g, d, &growth, now);
	return growth;
}

struct ept_growth ept_density_scan_all(struct ept_governor *g, struct ept_density *d, uint64_t now)
{
	struct ept_growth growth = {0};

	d->nr_hot = 0;
	ept_density_scan_range(g, d, 0, d->nr, now, &growth);
	ept_windows_follow(g, d, now, &growth);
	bet(g, d, &growth, now);
	return growth;
}
