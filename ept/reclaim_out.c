/*
 * The end of the ring: pages that nobody touched while they could be seen being
 * touched. Each is looked at under its leaf's lock; an entry that no longer names
 * its slot was touched, discarded or taken by somebody else, and the slot is empty.
 *
 * An own page is write-protected or out of the guest's reach, so nothing is written
 * to it between the copy into the pool and its end; who writes waits for the leaf's
 * lock, and finds it swapped.
 */
#include "ept/object_snapshot.h"
#include "ept/space.h"
#include "ept/zero.h"

#include <errno.h>
#include <string.h>

struct gone {
	struct ept_space *space;
	uint64_t pages;		 /* freed */
	struct ept_drops cached; /* that their areas no longer map */
};

/* One page on its way out; its leaf is locked. */
struct out {
	struct ept_area *area;
	struct ept_leaf *leaf;
	unsigned index;
	uint64_t slot;
	gpa_t gpa;
};

static char *slot_hva(const struct ept_ring *ring, uint64_t slot)
{
	return ring->base + (slot << EPT_PAGE_SHIFT);
}

/* The handle of the page's image, or 0: there is no room for it, or no swap file behind it. */
static uint64_t compress(struct ept_space *space, gpa_t gpa, const char *page)
{
	union {
		struct ept_image image;
		char room[EPT_IMAGE_MAX];
	} u;
	struct ept_reclaim *r = &space->reclaim;
	uint64_t handle;
	size_t size;

	if (r->swap.fd < 0)
		return 0;
	size = ept_image_make(&u.image, gpa, page);
	handle = ept_pool_put(&r->pool, &u.image, size);
	if (handle) {
		ept_reclaim_count(r, compressed, 1);
		ept_reclaim_count(r, compressed_bytes, size);
	}
	return handle;
}

unsigned ept_reclaim_leaves(struct ept_reclaim *r, const struct ept_leaf *leaf, unsigned index)
{
	uint64_t gone = __atomic_fetch_add(&r->gone, 1, __ATOMIC_RELAXED) / (r->limit / 4 + 1);
	unsigned hits = ept_age_hits(ept_pte_age(leaf, index));

	return (unsigned)(gone & EPT_GONE_MASK) << EPT_GONE_SHIFT | hits;
}

/*
 * If no more pages left since than the limit has, memory would have held it: the ring was
 * too short to see it in use, which is as good as a hit.
 */
unsigned ept_reclaim_returns(struct ept_reclaim *r, unsigned age)
{
	uint64_t now = __atomic_load_n(&r->gone, __ATOMIC_RELAXED) / (r->limit / 4 + 1);
	unsigned hits = age % (1U << EPT_GONE_SHIFT);

	if (((now - (age >> EPT_GONE_SHIFT)) & EPT_GONE_MASK) >= 4)
		return 0;
	ept_reclaim_count(r, activated, 1);
	return ept_reclaim_aged(hits + 1);
}

static void halve(uint64_t *n)
{
	__atomic_store_n(n, *n / 2, __ATOMIC_RELAXED);
}

/* Was it of use that zeros came which nobody asked for? */
static void judge_unasked(struct ept_reclaim *r, const struct out *o, bool zeros)
{
	struct ept_unasked *u = &r->unasked;
	uint64_t *n = zeros ? &u->unused : &u->used;

	if (ept_pte_age(o->leaf, o->index) & EPT_AGE_UNASKED)
		__atomic_store_n(n, *n + 1, __ATOMIC_RELAXED);
	if (r->ring.tail - u->turn < r->ring.size)
		return;
	u->turn = r->ring.tail;
	halve(&u->used);
	halve(&u->unused);
}

/* The page at @page becomes a number in its entry. False: it has to stay. */
static bool store(struct gone *gone, const struct out *o, const char *page)
{
	bool layers = o->area->kind == EPT_KIND_LAYERS;
	bool zeros = (layers || o->area->kind == EPT_KIND_ANON) && ept_is_zero(page);
	uint64_t handle;

	judge_unasked(&gone->space->reclaim, o, zeros);
	/* Private copies of a file have no entry that means zeros. */
	if (zeros) {
		ept_area_put_pte(o->area, o->leaf, o->index, EPT_PTE_NONE, 0,
				 layers ? EPT_VALUE_DISCARDED : 0);
		ept_reclaim_count(&gone->space->reclaim, zeroed, 1);
		return true;
	}
	handle = compress(gone->space, o->gpa, page);
	if (handle)
		ept_area_put_pte(o->area, o->leaf, o->index, EPT_PTE_POOLED,
				 ept_reclaim_leaves(&gone->space->reclaim, o->leaf, o->index),
				 handle);
	return handle != 0;
}

int ept_reclaim_return(struct ept_area *area, struct ept_leaf *leaf, unsigned index, gpa_t gpa)
{
	struct ept_space *space = area->space;
	char *from = slot_hva(&space->reclaim.ring, ept_pte_value(leaf, index) - 1);
	char *to = ept_hva(area, gpa.v);
	size_t done;
	int err = ept_reclaim_move(space, to, from, EPT_PAGE_SIZE, &done);

	/* Somebody in the kernel holds the page for a moment: a copy is as good. */
	if (err == -EBUSY) {
		err = ept_install_copy(&space->installer, to, from);
		if (!err)
			ept_install_drop(&space->installer, from, EPT_PAGE_SIZE);
	}
	return err;
}

/* It could not go: active again, and left alone as long as can be. */
static void stays(const struct out *o)
{
	ept_area_put_pte(o->area, o->leaf, o->index, EPT_PTE_PRIVATE, EPT_AGE_VISITS, 0);
}

static int evict_held(struct gone *gone, const struct out *o)
{
	struct ept_ring *ring = &gone->space->reclaim.ring;
	int err;

	if (store(gone, o, slot_hva(ring, o->slot))) {
		gone->pages++;
		return 0;
	}
	err = ept_reclaim_return(o->area, o->leaf, o->index, o->gpa);
	if (!err)
		stays(o);
	return err;
}

/*
 * A page of a private file that nobody wrote since writing was granted is still the
 * cached one: nothing to keep. What the host has swapped by itself is left to it.
 */
static int evict_aged(struct gone *gone, const struct out *o)
{
	struct ept_installer *in = &gone->space->installer;
	char *page = ept_hva(o->area, o->gpa.v);
	enum ept_host_page is =
	    o->area->kind == EPT_KIND_ANON ? EPT_HOST_OWN : ept_host_page(gone->space, page);

	if (is == EPT_HOST_CACHED) {
		ept_area_set_pte(o->area, o->leaf, o->index, EPT_PTE_NONE);
	} else if (is == EPT_HOST_OWN && store(gone, o, page)) {
		gone->pages++;
	} else {
		int err = ept_install_protect(in, page, EPT_PAGE_SIZE, false);

		if (!err)
			stays(o);
		return err;
	}
	return ept_install_drop(in, page, EPT_PAGE_SIZE);
}

static int evict_cached(struct gone *gone, const struct out *o)
{
	ept_area_put_pte(o->area, o->leaf, o->index, EPT_PTE_NONE, 0, EPT_VALUE_EVICTED);
	ept_drops_add(&gone->cached, o->area, o->gpa.v);
	return 0;
}

/* Not 0: the page is where it was, and so is its slot. */
static int evict_one(struct gone *gone, uint64_t slot)
{
	gpa_t gpa = GPA(gone->space->reclaim.ring.gpa[slot]);
	struct out o = {.area = ept_area_find(gone->space, gpa.v),
			.leaf = ept_mirror_find(&gone->space->mirror, gpa),
			.index = ept_leaf_index(gpa),
			.slot = slot,
			.gpa = gpa};
	int err = 0;

	pthread_mutex_lock(&o.leaf->lock);
	if (ept_pte_value(o.leaf, o.index) == slot + 1) {
		enum ept_pte pte = ept_pte_get(o.leaf, o.index);

		if (pte == EPT_PTE_HELD)
			err = evict_held(gone, &o);
		else if (pte == EPT_PTE_AGED)
			err = evict_aged(gone, &o);
		else if (pte == EPT_PTE_SAMPLED || pte == EPT_PTE_NONE)
			err = evict_cached(gone, &o);
	}
	pthread_mutex_unlock(&o.leaf->lock);
	return err;
}

void ept_drops_add(struct ept_drops *drops, const struct ept_area *area, uint64_t gpa)
{
	if (drops->nr == EPT_RECLAIM_BATCH)
		return;
	drops->at[drops->nr].obj = area->obj;
	drops->at[drops->nr].page = (gpa - area->start) >> EPT_PAGE_SHIFT;
	drops->nr++;
}

uint64_t ept_drops_flush(struct ept_space *space, struct ept_drops *drops)
{
	uint64_t given = 0;

	for (unsigned next = 1, run = 0; run < drops->nr; next++) {
		uint64_t first = drops->at[run].page;

		if (next < drops->nr && drops->at[next].obj == drops->at[run].obj &&
		    drops->at[next].page == first + (next - run))
			continue;
		given += ept_object_drop(drops->at[run].obj, first, first + (next - run));
		run = next;
	}
	drops->nr = 0;
	ept_reclaim_count(&space->reclaim, dropped, given);
	return given;
}

/* Slots from @first on, as many as were dealt with: nothing in them is needed. */
static void empty_slots(struct ept_space *space, uint64_t first, uint64_t count)
{
	struct ept_ring *ring = &space->reclaim.ring;

	if (!ring->base)
		return;
	while (count) {
		uint64_t slot = first % ring->size;
		uint64_t n = ring->size - slot < count ? ring->size - slot : count;

		ept_install_drop(&space->installer, slot_hva(ring, slot), n << EPT_PAGE_SHIFT);
		first += n;
		count -= n;
	}
}

uint64_t ept_reclaim_evict(struct ept_space *space, unsigned pages)
{
	struct ept_ring *ring = &space->reclaim.ring;
	struct gone gone = {.space = space};
	uint64_t first = ring->tail;

	if (pages > EPT_RECLAIM_BATCH)
		pages = EPT_RECLAIM_BATCH;
	while (pages-- && ring->tail != ring->head && !evict_one(&gone, ring->tail % ring->size))
		ring->tail++;
	empty_slots(space, first, ring->tail - first);
	return gone.pages + ept_drops_flush(space, &gone.cached);
}
