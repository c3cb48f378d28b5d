/*
 * Files that the host kernel maps: what lies in the way of who reads in order is read
 * before it comes there, and what who writes in order is about to write is copied. Who
 * touches at random is left to the host's own path. docs/fault-paths.md.
 */
#include "ept/density.h"

#include "ept/host_pages.h"
#include "ept/lead.h"

static int look(const struct ept_governor *g, const struct ept_density *d, unsigned first,
		unsigned n, unsigned char *present)
{
	return ept_host_pages(g->space->pagemap_fd, ept_density_hva(d, first),
			      (size_t)n * REGION_PAGES, present);
}

/* The area's page that region @i begins with. */
static uint64_t page_of(const struct ept_density *d, unsigned i)
{
	return ((d->start - d->area->start) >> EPT_PAGE_SHIFT) + (uint64_t)i * REGION_PAGES;
}

static int ask(struct ept_governor *g, struct ept_density *d, unsigned first, unsigned n, bool on)
{
	(void)g;
	if (!on)
		return 0; /* what was read stays in the host's page cache */
	return ept_lead_read(d->area, page_of(d, first), (uint64_t)n * REGION_PAGES);
}

/*
 * The host's own read-ahead may have it, or have it under way: who is led has to be led past that,
 * or the host is always first, with small pages.
 */
static bool has(const struct ept_density *d, unsigned i)
{
	uint64_t byte = page_of(d, i) << EPT_PAGE_SHIFT;

	return ept_object_host_cached_at_once(d->area->obj, byte, byte + EPT_LEAF_BYTES) >=
	       REGION_PAGES;
}

/* --- readers ------------------------------------------------------------------------ */

/*
 * One touch may bring 2 MiB where the page cache has it in one piece: then it takes the
 * two behind to tell a stream.
 */
static bool came_in_order(const struct ept_density *d, unsigned i, int way,
			  const struct ept_region *old)
{
	unsigned room = way > 0 ? i : d->nr - 1 - i;

	if (old->count || d->regions[i].count < REGION_PAGES)
		return true;
	for (unsigned n = 1; n <= 2; n++)
		if (n > room || d->regions[way > 0 ? i - n : i + n].count < REGION_DENSE)
			return false;
	return true;
}

/* --- writers ------------------------------------------------------------------------ */

bool ept_writers_any(const struct ept_density *d)
{
	for (unsigned i = 0; i < WRITERS; i++)
		if (d->writers[i].end)
			return true;
	return false;
}

void ept_writers_close_idle(struct ept_density *d, uint64_t now)
{
	for (unsigned i = 0; i < WRITERS; i++)
		if (d->writers[i].end && now - d->writers[i].moved_at > d->rules->window_idle)
			d->writers[i] = (struct ept_writer){0};
}

/*
 * Copy the next pages ahead: a share of what was written, so that this is never much
 * more than it. One of them is left out: it tells when the writer has come so far.
 */
static bool lead_on(struct ept_density *d, struct ept_writer *w, uint64_t now)
{
	uint64_t last = page_of(d, d->nr), n = (w->end - w->first) / COPY_SHARE, mark;

	if (n > COPY_MAX)
		n = COPY_MAX;
	if (n > last - w->end)
		n = last - w->end;
	if (n < COPY_FIRST)
		return false;
	mark = w->end + n / 4;
	if (ept_lead_copy(d->area, w->end, mark - w->end) ||
	    ept_lead_copy(d->area, mark + 1, w->end + n - mark - 1))
		return false;
	w->mark = mark;
	w->end += n;
	w->moved_at = now;
	return true;
}

static bool own_now(const struct ept_governor *g, const struct ept_density *d, uint64_t page)
{
	unsigned char bits = 0;

	ept_host_pages(g->space->pagemap_fd, d->area->hva + (page << EPT_PAGE_SHIFT), 1, &bits);
	return bits & EPT_HOST_COPY;
}

static void scanned(struct ept_governor *g, struct ept_density *d, uint64_t now,
		    struct ept_growth *growth)
{
	(void)growth;
	for (unsigned i = 0; i < WRITERS; i++) {
		struct ept_writer *w = &d->writers[i];

		if (!w->end || !own_now(g, d, w->mark))
			continue;
		if (!lead_on(d, w, now))
			*w = (struct ept_writer){0};
	}
	ept_writers_close_idle(d, now);
}

/* The one that has not moved for longest makes room. */
static struct ept_writer *take_writer(struct ept_density *d)
{
	struct ept_writer *slot = &d->writers[0];

	for (unsigned i = 0; i < WRITERS; i++) {
		if (!d->writers[i].end)
			return &d->writers[i];
		if (d->writers[i].moved_at < slot->moved_at)
			slot = &d->writers[i];
	}
	return slot;
}

/* The page that the own pages begin with which go on to the run in region @i. */
static uint64_t run_start(const struct ept_density *d, unsigned i)
{
	uint64_t first = page_of(d, i) + d->regions[i].own.low;

	while (i && first == page_of(d, i) && d->regions[i - 1].own.count >= REGION_DENSE)
		first -= REGION_PAGES, i--;
	return first;
}

/* Own pages of region @i grew upwards, in one run nearly without holes: that is a writer. */
static void look_for_writer(struct ept_density *d, unsigned i, const struct ept_region *old,
			    uint64_t now)
{
	const struct ept_run *own = &d->regions[i].own;
	uint64_t end = page_of(d, i) + own->high;
	struct ept_writer new = {.first = run_start(d, i), .end = end}, *w = NULL;

	if (own->high <= old->own.high || own->count * 16 < (own->high - own->low) * 15)
		return;
	for (unsigned n = 0; n < WRITERS && !w; n++)
		if (d->writers[n].end >= new.first && d->writers[n].first <= end)
			w = &d->writers[n];
	if (w && w->end >= end)
		return; /* where it is led already */
	if (w)		/* it came past what was copied ahead of it */
		w->end = end;
	if (lead_on(d, w ? w : &new, now) && !w)
		*take_writer(d) = new;
}

static void judge(struct ept_governor *g, struct ept_density *d, unsigned i,
		  const struct ept_region *old, uint64_t now)
{
	int way = ept_density_way(d, i, old);

	if (d->regions[i].count > old->count && ept_density_streams(d, i, way) &&
	    came_in_order(d, i, way, old))
		ept_window_open(g, d, i, way, now);
	if (ept_area_writable(d->area))
		look_for_writer(d, i, old, now);
}

const struct ept_rules ept_rules_file = {
    .look = look,
    .judge = judge,
    .ask = ask,
    .has = has,
    .scanned = scanned,
    .around = EPT_AROUND_DEFAULT,
    .window_first = LEAD_FIRST,
    .window_share = 1, /* no more ahead than was read in order */
    .window_max = LEAD_MAX,
    .window_idle = LEAD_IDLE,
};
