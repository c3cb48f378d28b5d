/*
 * Anonymous memory: dense regions become one huge page, and the way of a stream is
 * told to be huge before it comes there. docs/huge-pages.md.
 */
#include "ept/density.h"

#include "ept/hold.h"
#include "ept/host_pages.h"

#include <errno.h>

static bool given_back(const struct ept_region *r)
{
	return __atomic_load_n(&r->given, __ATOMIC_ACQUIRE);
}

/*
 * A refusal costs time, so the next try waits; memory may be free again later. A page that
 * was busy just then (EAGAIN) says nothing of the next region, nor of who has no page there yet.
 */
static void refused(struct ept_governor *g, int err, uint64_t now)
{
	ept_governor_count(&g->stats.refused, 1);
	if (err == -EAGAIN) {
		if (++g->busy % BUSY_MAX == 0)
			g->busy_until = now + PAUSE_FIRST;
		return;
	}
	g->busy = 0;
	g->pause = g->pause ? g->pause * 2 : PAUSE_FIRST;
	if (g->pause > PAUSE_MAX)
		g->pause = PAUSE_MAX;
	g->pause_until = now + g->pause;
}

/*
 * They want huge pages only while they are made such: the mapping stays in one piece,
 * and the host's own daemon, which fills what is there in part, leaves it alone. A window
 * has asked for all of them, or for none.
 */
static int collapse(struct ept_governor *g, const struct ept_density *d, unsigned first, unsigned n)
{
	bool ahead = d->regions[first].flags & REGION_AHEAD;
	char *hva = ept_density_hva(d, first);
	size_t len = (size_t)n << EPT_LEAF_SHIFT;
	uint64_t started = ept_thread_ns();
	int err = ahead ? 0 : ept_install_want_huge(hva, len, true);

	if (!err)
		err = ept_install_collapse(hva, len);
	if (!ahead)
		ept_install_want_huge(hva, len, false);
	g->collapsing += ept_thread_ns() - started;
	return err;
}

static bool is_whole(const struct ept_density *d, unsigned i)
{
	unsigned char present[REGION_PAGES];
	unsigned n = 0;

	if (ept_host_present(ept_density_hva(d, i), EPT_LEAF_BYTES, present))
		return false;
	while (n < REGION_PAGES && present[n] & EPT_HOST_THERE)
		n++;
	return n == REGION_PAGES;
}

/*
 * How many regions from @first on, of @n, may be filled up with what the guest has not got. The
 * lock is held; a part may have been given back since the last look.
 */
static unsigned not_given_back(const struct ept_density *d, unsigned first, unsigned n)
{
	unsigned i = 0;

	while (i < n && (!given_back(&d->regions[first + i]) || is_whole(d, first + i)))
		i++;
	return i;
}

static bool may_collapse(const struct ept_governor *g, uint64_t now)
{
	return now >= g->pause_until && now >= g->busy_until;
}

/* Regions [first, first + n) become one huge page each; how many did. */
static unsigned make_huge(struct ept_governor *g, struct ept_density *d, unsigned first, unsigned n,
			  uint64_t now)
{
	unsigned done = 0;
	int err = 0;

	if (!may_collapse(g, now))
		return 0;
	pthread_mutex_lock(&g->lock);
	n = not_given_back(d, first, n);
	if (n)
		err = collapse(g, d, first, n);
	/* Under the lock: what is given back from here on is noted in it. */
	for (unsigned i = first; i < first + n; i++) {
		struct ept_region *r = &d->regions[i];

		if (err && (n == 1 || !is_whole(d, i)))
			continue;
		*r = (struct ept_region){.count = REGION_PAGES,
					 .high = REGION_PAGES,
					 .flags = (uint8_t)(r->flags | REGION_HUGE)};
		done++;
	}
	pthread_mutex_unlock(&g->lock);
	ept_governor_count(&g->stats.collapsed, done);
	if (done)
		g->busy = 0;
	if (err)
		refused(g, err, now);
	else if (done)
		g->pause = 0;
	return done;
}

/* Read and never written: the zero page costs nothing, a huge page would. */
static bool mostly_own(const struct ept_governor *g, const struct ept_density *d, unsigned i)
{
	return ept_host_own_pages(g->space->pagemap_fd, ept_density_hva(d, i), REGION_PAGES) >=
	       d->regions[i].count * 7U / 8;
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

/* Is region @i worth a huge page whatever comes? */
static bool worth_it(const struct ept_region *r, bool stream)
{
	if (given_back(r))
		return r->count == REGION_PAGES;
	return stream || r->count >= REGION_DENSE;
}

/*
 * To make memory huge keeps others waiting for milliseconds, so first all are looked at: the
 * windows in front of other streams open meanwhile.
 */
static void make_huge_later(struct ept_governor *g, struct ept_density *d, unsigned i, int way,
			    uint64_t now)
{
	for (unsigned n = 0; n < d->nr_dense; n++)
		if (d->dense[n].region == i) {
			d->dense[n].way = way;
			return;
		}
	if (d->nr_dense < HOT_MAX)
		d->dense[d->nr_dense++] = (struct ept_dense){.region = i, .way = way};
	else
		make_huge(g, d, i, 1, now);
}

/*
 * The pages that the stream in region @i comes to next, by 4 KiB: that takes no longer than a
 * few of its faults, is never refused, and a region that nobody faults in collapses more surely.
 */
static void fill_rest(struct ept_governor *g, const struct ept_density *d, unsigned i, int way)
{
	struct ept_region *r = &d->regions[i];
	unsigned first = way > 0 ? r->high : 0, end = way > 0 ? REGION_PAGES : r->low;
	char *hva = ept_density_hva(d, i) + ((size_t)first << EPT_PAGE_SHIFT);
	uint64_t started = ept_thread_ns();

	pthread_mutex_lock(&g->lock);
	if (first < end && !given_back(r) &&
	    !ept_install_populate(hva, (size_t)(end - first) << EPT_PAGE_SHIFT, true)) {
		r->count = (uint16_t)(r->count + end - first);
		r->low = way > 0 ? r->low : 0;
		r->high = way > 0 ? REGION_PAGES : r->high;
		ept_governor_count(&g->stats.filled, end - first);
	}
	pthread_mutex_unlock(&g->lock);
	g->collapsing += ept_thread_ns() - started;
}

/* Given back since it was judged: that is not noted any more when nothing is left of it. */
static bool emptied(const struct ept_density *d, const struct ept_dense *dense)
{
	return d->regions[dense->region].count < STREAM_NEXT;
}

/* Still to be done? What was refused is, for it may not grow any more, and so be judged again. */
static bool make_one_huge(struct ept_governor *g, struct ept_density *d, struct ept_dense *dense,
			  uint64_t now)
{
	const struct ept_region *r = &d->regions[dense->region];

	if (r->flags & REGION_HUGE || emptied(d, dense) ||
	    (dense->tries && r->count < REGION_DENSE))
		return false;
	if (ept_held(g->space) || ept_dying(g->space) || !may_collapse(g, now))
		return true;
	dense->tries++;
	return !make_huge(g, d, dense->region, 1, now) && r->count >= REGION_DENSE &&
	       dense->tries < DENSE_TRIES;
}

static void make_dense_huge(struct ept_governor *g, struct ept_density *d, uint64_t now)
{
	unsigned left = 0;

	for (unsigned n = 0; n < d->nr_dense && !ept_held(g->space) && !ept_dying(g->space); n++) {
		if (d->dense[n].way && !emptied(d, &d->dense[n]))
			fill_rest(g, d, d->dense[n].region, d->dense[n].way);
		d->dense[n].way = 0; /* it goes on meanwhile */
	}
	for (unsigned n = 0; n < d->nr_dense; n++)
		if (make_one_huge(g, d, &d->dense[n], now))
			d->dense[left++] = d->dense[n];
	d->nr_dense = left;
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
	if (now >= g->pause_until && fell_back(d, i, old, way))
		refused(g, -ENOMEM, now);
	if (stream)
		ept_window_open(g, d, i, way, now);
	if (worth_it(r, stream) && now >= g->pause_until && mostly_own(g, d, i))
		make_huge_later(g, d, i, stream ? way : 0, now);
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

static bool may_be_bet_on(const struct ept_governor *g, const struct ept_density *d, unsigned i)
{
	const struct ept_region *r = &d->regions[i];

	return r->count && r->count < REGION_DENSE && !given_back(r) && mostly_own(g, d, i);
}

/* How many regions from @first on can be bet on together: one call for several costs less. */
static unsigned bet_together(const struct ept_governor *g, const struct ept_density *d,
			     unsigned first, uint64_t most)
{
	unsigned n = 0;

	while (n < most && n < BETS_A_CALL && first + n < d->nr && may_be_bet_on(g, d, first + n) &&
	       !((d->regions[first].flags ^ d->regions[first + n].flags) & REGION_AHEAD))
		n++;
	return n;
}

/*
 * What failed beside others is tried by itself: the call begins with the pages that
 * were touched last being put where they can be taken from, and the guest goes on.
 */
static unsigned place_together(struct ept_governor *g, struct ept_density *d, unsigned first,
			       unsigned n, uint64_t now)
{
	unsigned became = make_huge(g, d, first, n, now);

	if (!became || became == n)
		return became;
	for (unsigned i = first; i < first + n; i++)
		if (may_be_bet_on(g, d, i))
			became += make_huge(g, d, i, 1, now);
	return became;
}

/* Up to @allowed bets in all, going round over the regions. */
static void place_bets(struct ept_governor *g, struct ept_density *d, uint64_t allowed,
		       uint64_t now)
{
	unsigned seen = 0, done = 0;

	while (seen < d->nr && d->bets < allowed && done < BETS_A_SCAN && may_collapse(g, now) &&
	       !ept_held(g->space) && !ept_dying(g->space)) {
		unsigned first = d->next_bet % d->nr, became;
		unsigned n = bet_together(g, d, first, allowed - d->bets);

		d->next_bet = first + (n ? n : 1);
		seen += n ? n : 1;
		done += n;
		became = n ? place_together(g, d, first, n, now) : 0;
		d->bets += became;
		g->placed += became;
		ept_governor_count(&g->stats.bets, became);
	}
}

/*
 * Touches at random come again and again to regions all over, and fill them alike. The
 * denser these are the more of them become huge, so that memory never exceeds BET times
 * what the rest tells was touched; the rest is what is watched.
 */
static void bet(struct ept_governor *g, struct ept_density *d, uint64_t now,
		struct ept_growth *growth)
{
	uint64_t pages, pool, most;
	unsigned n = sparse_regions(d, &pages);

	most = growth->small < n ? growth->small : n; /* regions can have grown */
	if (growth->regions + d->bets < SPREAD_GROWN || !n || growth->regions < (most + 1) / 2 ||
	    pages < (uint64_t)SPREAD_PAGES * n)
		return;
	pages += growth->small; /* as many more will be there before the next look */
	pool = n + d->bets;
	place_bets(g, d, BET * pages * pool / n / REGION_PAGES, now);
}

static void scanned(struct ept_governor *g, struct ept_density *d, uint64_t now,
		    struct ept_growth *growth)
{
	make_dense_huge(g, d, now);
	bet(g, d, now, growth);
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
    .scanned = scanned,
    .around = 1,
    .window_first = WINDOW_FIRST,
    .window_share = WINDOW_FIRST,
    .window_max = WINDOW_MAX,
    .window_idle = WINDOW_IDLE,
};
