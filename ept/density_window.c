#include "ept/density.h"

#include <limits.h>

static unsigned reach(const struct ept_window *w)
{
	return w->end - w->first;
}

bool ept_windows_any(const struct ept_density *d)
{
	for (unsigned i = 0; i < WINDOWS; i++)
		if (reach(&d->windows[i]))
			return true;
	return false;
}

static void close_window(struct ept_governor *g, struct ept_density *d, struct ept_window *w)
{
	if (!reach(w))
		return;
	d->rules->ask(g, d, w->first, reach(w), false);
	for (unsigned i = w->first; i < w->end; i++)
		d->regions[i].flags &= (uint8_t)~REGION_AHEAD;
	*w = (struct ept_window){0};
}

/* A place for another window: the one that has not moved for longest makes room. */
static struct ept_window *take_slot(struct ept_governor *g, struct ept_density *d)
{
	struct ept_window *slot = &d->windows[0];

	for (unsigned i = 0; i < WINDOWS; i++) {
		struct ept_window *w = &d->windows[i];

		if (!reach(w))
			return w;
		if (w->moved_at < slot->moved_at)
			slot = w;
	}
	close_window(g, d, slot);
	return slot;
}

/*
 * Regions in front of @i that no other window has, until @want are among them for which there is
 * something to do; *@first is the lowest. With those that need nothing, and @left that are ahead
 * already, there are never more than the longest window has.
 */
static unsigned in_front(const struct ept_density *d, unsigned i, int way, unsigned want,
			 unsigned left, unsigned *first)
{
	unsigned room = way > 0 ? d->nr - 1 - i : i, n = 0, wanting = 0;
	unsigned most = left < d->rules->window_max ? d->rules->window_max - left : 0;

	if (room > most)
		room = most;
	while (wanting < want && n < room) {
		unsigned at = way > 0 ? i + n + 1 : i - n - 1;

		if (d->regions[at].flags & REGION_AHEAD)
			break;
		wanting += !d->rules->has || !d->rules->has(d, at);
		n++;
	}
	*first = way > 0 ? i + 1 : i - n;
	return n;
}

/* Regions [first, first + n) join @w, at the end it moves to. */
static bool grow_window(struct ept_governor *g, struct ept_density *d, struct ept_window *w,
			unsigned first, unsigned n)
{
	if (!n || d->rules->ask(g, d, first, n, true))
		return false;
	for (unsigned i = first; i < first + n; i++)
		d->regions[i].flags |= REGION_AHEAD;
	if (!reach(w))
		w->first = w->end = first;
	if (first < w->first)
		w->first = first;
	if (first + n > w->end)
		w->end = first + n;
	w->left += n;
	return true;
}

/* How many dense regions lie behind @i: how long the stream has gone on. */
static unsigned length_behind(const struct ept_density *d, unsigned i, int way)
{
	unsigned room = way > 0 ? i : d->nr - 1 - i, n = 0;

	while (n < room && n < d->rules->window_max &&
	       d->regions[way > 0 ? i - n - 1 : i + n + 1].count >= REGION_DENSE)
		n++;
	return n;
}

/* How many regions may lie ahead of a stream that is in @i: the more the longer it is. */
static unsigned worth(const struct ept_density *d, unsigned i, int way)
{
	const struct ept_rules *rules = d->rules;
	unsigned n = rules->window_first + rules->window_share * length_behind(d, i, way);

	return n < rules->window_max ? n : rules->window_max;
}

void ept_window_open(struct ept_governor *g, struct ept_density *d, unsigned i, int way,
		     uint64_t now)
{
	unsigned first, n = in_front(d, i, way, worth(d, i, way), 0, &first);
	struct ept_window *w;

	if (now < g->pause_until || !n)
		return;
	w = take_slot(g, d);
	w->way = way;
	w->moved_at = now;
	grow_window(g, d, w, first, n);
}

/* How many of @w's regions nothing has reached yet. */
static unsigned still_left(const struct ept_density *d, const struct ept_window *w)
{
	unsigned n = 0;

	while (n < reach(w) && !d->regions[w->way > 0 ? w->end - 1 - n : w->first + n].count)
		n++;
	return n;
}

unsigned ept_windows_left(const struct ept_density *d)
{
	unsigned least = UINT_MAX;

	for (unsigned i = 0; i < WINDOWS; i++) {
		unsigned left = still_left(d, &d->windows[i]);

		if (left && left < least)
			least = left;
	}
	return least;
}

/*
 * Look at what @w's stream had not reached, and at the region before it, which a fallback
 * fills page by page; no further than it has come.
 */
static void look_along(struct ept_governor *g, struct ept_density *d, struct ept_window w,
		       uint64_t now, struct ept_growth *growth)
{
	unsigned n = w.left < reach(&w) ? w.left + 1 : reach(&w);

	for (unsigned at = 0; at < n; at++) {
		unsigned i = w.way > 0 ? w.end - n + at : w.first + n - 1 - at;

		ept_density_scan_range(g, d, i, i + 1, now, growth);
		if (at && !d->regions[i].count)
			break;
	}
}

static void follow(struct ept_governor *g, struct ept_density *d, struct ept_window *w,
		   uint64_t now, struct ept_growth *growth)
{
	unsigned left, first, n, most;
	uint64_t before = growth->all;

	look_along(g, d, *w, now, growth);
	if (growth->all == before || !reach(w)) /* a new window may have taken its place */
		return;
	w->moved_at = now;
	left = still_left(d, w);
	w->left = left;
	if (left * 2 > reach(w))
		return; /* it has reached the first of them at least */
	n = reach(w) < d->rules->window_max ? reach(w) : d->rules->window_max;
	most = worth(d, w->way > 0 ? w->end - left - 1 : w->first + left, w->way);
	if (n + left > most)
		n = most > left ? most - left : 0;
	n = in_front(d, w->way > 0 ? w->end - 1 : w->first, w->way, n, left, &first);
	grow_window(g, d, w, first, n);
}

void ept_windows_follow(struct ept_governor *g, struct ept_density *d, uint64_t now,
			struct ept_growth *growth)
{
	for (unsigned i = 0; i < WINDOWS; i++)
		if (reach(&d->windows[i]))
			follow(g, d, &d->windows[i], now, growth);
	ept_windows_close_idle(g, d, now);
}

void ept_windows_close_idle(struct ept_governor *g, struct ept_density *d, uint64_t now)
{
	for (unsigned i = 0; i < WINDOWS; i++)
		if (reach(&d->windows[i]) && now - d->windows[i].moved_at > d->rules->window_idle)
			close_window(g, d, &d->windows[i]);
}
