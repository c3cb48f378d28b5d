/*
 * The hand: it goes over the mirror, round and round, and samples what it finds
 * active and not in use lately. A sampled page is still in memory, but its next
 * access is a fault:
 *
 *   own page, anonymous       moved to the holding area                     held
 *   own page, elsewhere, or   write-protected: only writes are seen         aged
 *     the host cannot move
 *   page of a file            unmapped; it stays in the object's cache      sampled
 *   cached and never mapped   nothing to do: its first access is a fault    (none)
 *
 * The cached page behind a private copy, wherever that copy is, serves this VM no
 * more. It goes at once, unless another VM maps it.
 *
 * A dirty page of a shared file is left alone until it was written back. While a
 * write-back is under way its area is left alone: if it fails, the pages that it
 * took have to be found clean and mapped (sync.c).
 */
#include "ept/pagemap.h"
#include "ept/space.h"

#include <errno.h>
#include <unistd.h>

struct visit {
	struct ept_space *space;
	struct ept_area *area;
	struct ept_leaf *leaf;
	uint64_t leaf_gpa;
	uint64_t want;
	struct ept_sampled done;
	struct ept_drops shadowed;
};

static uint64_t page_gpa(const struct visit *v, unsigned index)
{
	return v->leaf_gpa + ((uint64_t)index << EPT_PAGE_SHIFT);
}

static char *page_hva(const struct visit *v, unsigned index)
{
	return ept_hva(v->area, page_gpa(v, index));
}

static uint64_t ring_room(const struct ept_ring *ring)
{
	return ring->size - (ring->head - ring->tail);
}

enum ept_host_page ept_host_page(const struct ept_space *space, const char *hva)
{
	uint64_t entry, at = (uintptr_t)hva >> EPT_PAGE_SHIFT;

	if (space->pagemap_fd < 0 || pread(space->pagemap_fd, &entry, sizeof(entry),
					   (off_t)(at * sizeof(entry))) != sizeof(entry))
		return EPT_HOST_UNKNOWN;
	if (entry & PM_PRESENT)
		return entry & PM_FILE ? EPT_HOST_CACHED : EPT_HOST_OWN;
	return entry & PM_SWAP ? EPT_HOST_UNKNOWN : EPT_HOST_CACHED;
}

/*
 * A page that is written to at that moment for the first time since it was the zero page may be
 * moved, and EEXIST be the answer: the kernel tries again by itself, and finds it where it has put
 * it (seen on 6.18, once in 400,000). Called PRIVATE still it would be in nobody's reach.
 */
int ept_reclaim_move(struct ept_space *space, char *to, char *from, size_t len, size_t *done)
{
	struct ept_installer *in = &space->installer;
	int err = ept_install_move_pages(in, to, from, len, done);

	while (err == -EEXIST && ept_host_page(space, from + *done) == EPT_HOST_CACHED) {
		size_t more = 0;

		ept_install_wake(in, to + *done, EPT_PAGE_SIZE);
		*done += EPT_PAGE_SIZE;
		err = *done < len
			  ? ept_install_move_pages(in, to + *done, from + *done, len - *done, &more)
			  : 0;
		*done += more;
	}
	return err;
}

/* Touched not long ago: one visit less to come in peace. */
static bool left_alone(const struct visit *v, unsigned index, enum ept_pte pte)
{
	unsigned age = ept_pte_age(v->leaf, index);

	if (!(age & EPT_AGE_VISITS))
		return false;
	ept_pte_put(v->leaf, index, pte, age - 1, ept_pte_value(v->leaf, index));
	return true;
}

static bool idle_in_cache(const struct visit *v, unsigned index)
{
	uint64_t value = ept_pte_value(v->leaf, index);

	return v->area->obj && v->area->obj->cached && (!value || value == EPT_VALUE_EVICTED) &&
	       ept_object_cached(v->area->obj,
				 (page_gpa(v, index) - v->area->start) >> EPT_PAGE_SHIFT);
}

static void look_behind(struct visit *v, unsigned index)
{
	uint64_t gpa = page_gpa(v, index);

	if (v->area->obj && v->area->obj->cached &&
	    ept_object_cached(v->area->obj, (gpa - v->area->start) >> EPT_PAGE_SHIFT))
		ept_drops_add(&v->shadowed, v->area, gpa);
}

static bool candidate(struct visit *v, unsigned index, enum ept_pte pte)
{
	if (ept_pte_own(pte) || pte == EPT_PTE_POOLED || pte == EPT_PTE_SWAPPED)
		look_behind(v, index);
	switch (pte) {
	case EPT_PTE_PRIVATE: /* a private copy can only go to the swap file */
		return (v->area->kind == EPT_KIND_ANON || v->space->reclaim.swap.fd >= 0) &&
		       v->area->kind != EPT_KIND_RO && !left_alone(v, index, pte);
	case EPT_PTE_FILE:
	case EPT_PTE_CLEAN:
		return !left_alone(v, index, pte);
	case EPT_PTE_NONE:
		return idle_in_cache(v, index);
	case EPT_PTE_DIRTY:
		v->done.dirty = true;
		return false;
	case EPT_PTE_ZERO:
	case EPT_PTE_TRANSIT:
	case EPT_PTE_POISON:
	case EPT_PTE_HELD:
	case EPT_PTE_AGED:
	case EPT_PTE_SAMPLED:
	case EPT_PTE_POOLED:
	case EPT_PTE_SWAPPED:
	case EPT_NR_PTES:
		return false;
	}
	return false;
}

/* Entries [first, first + n) are on the ring as @pte from slot @slot on. */
static void put_on_ring(struct visit *v, unsigned first, unsigned n, enum ept_pte pte)
{
	struct ept_ring *ring = &v->space->reclaim.ring;

	for (unsigned i = first; i < first + n; i++, ring->head++) {
		uint64_t slot = ring->head % ring->size;

		ring->gpa[slot] = page_gpa(v, i);
		ept_area_put_pte(v->area, v->leaf, i, pte,
				 ept_pte_age(v->leaf, i) & ~EPT_AGE_VISITS, slot + 1);
	}
	v->done.added += n;
	if (pte != EPT_PTE_NONE)
		ept_reclaim_count(&v->space->reclaim, sampled, n);
}

/* A page that cannot be taken now is not asked at the next visit, and again at the one after. */
static void pass_over(const struct visit *v, unsigned index, enum ept_pte pte)
{
	ept_pte_put(v->leaf, index, pte, ept_pte_age(v->leaf, index) | 1, 0);
}

static unsigned take_own(struct visit *v, unsigned first, unsigned n)
{
	struct ept_ring *ring = &v->space->reclaim.ring;
	struct ept_installer *in = &v->space->installer;
	size_t len = (size_t)n << EPT_PAGE_SHIFT, done = 0;
	bool moves = v->area->kind == EPT_KIND_ANON && ring->base;
	int err;

	if (moves)
		err = ept_reclaim_move(v->space,
				       ring->base + ((ring->head % ring->size) << EPT_PAGE_SHIFT),
				       page_hva(v, first), len, &done);
	if (moves && err == -EBUSY && !done && v->space->forked) { /* most likely shared still */
		moves = false;
		len = EPT_PAGE_SIZE;
	}
	if (!moves)
		err = ept_install_protect(in, page_hva(v, first), len, true);
	if (!err)
		done = len;
	n = (unsigned)(done >> EPT_PAGE_SHIFT);
	put_on_ring(v, first, n, moves ? EPT_PTE_HELD : EPT_PTE_AGED);
	if (!err)
		return n;
	pass_over(v, first + n, EPT_PTE_PRIVATE);
	return n + 1;
}

static unsigned take_cached(struct visit *v, unsigned first, unsigned n, enum ept_pte pte)
{
	if (ept_install_drop(&v->space->installer, page_hva(v, first),
			     (size_t)n << EPT_PAGE_SHIFT)) {
		pass_over(v, first, pte);
		return 1;
	}
	put_on_ring(v, first, n, EPT_PTE_SAMPLED);
	return n;
}

/* Sample what can be of [first, end), all @pte; how many entries that dealt with. */
static unsigned take_run(struct visit *v, unsigned first, unsigned end, enum ept_pte pte)
{
	const struct ept_ring *ring = &v->space->reclaim.ring;
	uint64_t to_wrap = ring->size - ring->head % ring->size;
	unsigned n = end - first;

	if (n > to_wrap)
		n = (unsigned)to_wrap;
	if (pte == EPT_PTE_PRIVATE)
		return take_own(v, first, n);
	if (pte == EPT_PTE_FILE || pte == EPT_PTE_CLEAN)
		return take_cached(v, first, n, pte);
	put_on_ring(v, first, n, pte);
	return n;
}

/* Entries from @index to @end, until enough are taken: where it stopped. Leaf locked. */
static unsigned visit_entries(struct visit *v, unsigned index, unsigned end)
{
	while (index < end && v->done.added < v->want) {
		enum ept_pte pte = ept_pte_get(v->leaf, index);
		uint64_t left = v->want - v->done.added;
		unsigned run = index, dealt;
		bool refused = false;

		while (run < end && run - index < left && ept_pte_get(v->leaf, run) == pte &&
		       !(refused = !candidate(v, run, pte)))
			run++;
		dealt = run > index ? take_run(v, index, run, pte) : 0;
		index = dealt == run - index ? run + refused : index + dealt;
	}
	return index;
}

/* [gpa, end) of one leaf and one area; where it stopped. */
static uint64_t visit_leaf(struct visit *v, uint64_t gpa, uint64_t end)
{
	struct ept_object *obj = v->area->kind == EPT_KIND_SHARED ? v->area->obj : NULL;
	unsigned index = ept_leaf_index(GPA(gpa));
	unsigned last = index + (unsigned)((end - gpa) >> EPT_PAGE_SHIFT);

	v->leaf = ept_mirror_find(&v->space->mirror, GPA(gpa));
	if (!v->leaf)
		return end;
	if (obj && pthread_mutex_trylock(&obj->sync_lock)) {
		v->done.dirty = true;
		return end;
	}
	v->leaf_gpa = ept_leaf_start(gpa);
	pthread_mutex_lock(&v->leaf->lock);
	index = visit_entries(v, index, last);
	pthread_mutex_unlock(&v->leaf->lock);
	if (obj)
		pthread_mutex_unlock(&obj->sync_lock);
	v->done.freed += ept_drops_flush(v->space, &v->shadowed);
	return page_gpa(v, index);
}

/* The area at the hand or next after it; the hand goes to where it begins. */
static struct ept_area *area_at_hand(struct ept_space *space)
{
	struct ept_reclaim *r = &space->reclaim;
	struct ept_area *area = space->areas[0];

	for (size_t i = 0; i < space->nr_areas; i++)
		if (space->areas[i]->end > r->hand) {
			area = space->areas[i];
			break;
		}
	if (r->hand < area->start || r->hand >= area->end)
		r->hand = area->start;
	return area;
}

struct ept_sampled ept_reclaim_sample(struct ept_space *space, uint64_t want)
{
	struct ept_reclaim *r = &space->reclaim;
	uint64_t room = ring_room(&r->ring), left = 0;
	struct visit v = {.space = space, .want = want < room ? want : room};

	for (size_t i = 0; i < space->nr_areas; i++)
		left += space->areas[i]->end - space->areas[i]->start;
	while (left && v.done.added < v.want) {
		uint64_t end, from, to;

		v.area = area_at_hand(space);
		from = r->hand;
		end = ept_leaf_end(from, v.area->end);
		to = visit_leaf(&v, from, end);
		r->hand = to;
		left -= to - from < left ? to - from : left;
	}
	return v.done;
}
