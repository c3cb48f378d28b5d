/*
 * Anonymous memory: dense regions become one huge page, and the way of a stream is
 * told to be huge before it comes there. docs/huge-pages.md.
 */
#include "ept/density.h"

#include "ept/host_pages.h"

#include <errno.h>

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

/* Make region @i one huge page; at least @own of its pages have to be somebody's. */
static bool make_huge(struct ept_governor *g, struct ept_density *d, unsigned i, unsigned own,
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
	int way = ept_density_way(d, i, old);
	bool stream = ept_density_streams(d, i, way);

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
		make_huge(g, d, i, r->count * 7 / 8, now);
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
static void bet(struct ept_governor *g, struct ept_density *d, uint64_t now,
		struct ept_growth *growth)
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
		if (!make_huge(g, d, i, r->count * 7 / 8, now))
			continue;
		d->bets++;
		ept_governor_count(&g->stats.bets, 1);
	}
}

static int look(const struct ept_governor *g, const struct ept_density *d, unsigned first,
		unsigned n, unsigned char *present)
{
	(void)g;
	return ept_host_present(ept_density_hva(d, first), (size_t)n << EPT_LEAF_SHIFT, present);
}

static int ask(struct ept_governor *g, struct ept_density *d, unsigned first, unsigned n, bool on)
{
	int err = ept_install_want_huge(ept_density_hva(d, first), (size_t)n << EPT_LEAF_SHIFT, on);

	if (!err && on)
		ept_governor_count(&g->stats.ahead, n);
	return err;
}

const struct ept_rules ept_rules_anon = {
    .look = look,
    .judge = judge,
    .ask = ask,
    .scanned = bet,
    .around = 1,
    .window_first = WINDOW_FIRST,
    .window_share = WINDOW_FIRST,
    .window_max = WINDOW_MAX,
    .window_idle = WINDOW_IDLE,
};
