/*
 * Going back to a reset point (reset.h). Two passes: first everything that is needed is at
 * hand, which may fail and changes nothing; then pages are written, in place.
 */
#include "ept/reset_space.h"

#include <emmintrin.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Of the store, what is not worth a huge page if little is kept. */
#define SMALL_STORE (2UL << 20)
/* Pages that are brought back through the caches. */
#define FEW	    32

/* --- making and freeing ------------------------------------------------------------------- */

static void *map_bits(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void unmap_bits(const struct ept_reset *r)
{
	for (size_t i = 0; r->slots && i < r->nr; i++) {
		struct ept_reset_slot *s = &r->slots[i];

		if (s->kept)
			munmap(s->kept, s->pages * sizeof(*s->kept));
		if (s->noted)
			munmap(s->noted, ept_reset_words(s) * sizeof(*s->noted));
		if (s->gone)
			munmap(s->gone, ept_reset_words(s) * sizeof(*s->gone));
		if (s->chunks)
			munmap(s->chunks, ept_reset_chunk_bytes(s));
	}
}

static void free_reset(struct ept_reset *r)
{
	unmap_bits(r);
	if (r->store)
		munmap(r->store, r->store_size);
	free(r->slots);
	free(r);
}

/* The store is not there: MADV_DONTFORK. */
void ept_reset_forget(struct ept_space *space)
{
	if (space->reset)
		unmap_bits(space->reset);
	space->reset = NULL;
}

/* A forked child has no use for it. */
static int map_store(struct ept_reset *r)
{
	r->store = map_bits(r->store_size);
	if (!r->store)
		return -ENOMEM;
	madvise(r->store, r->store_size, MADV_DONTFORK);
	madvise(r->store, r->store_size, MADV_DONTDUMP);
	madvise(r->store, r->store_size, MADV_NOHUGEPAGE);
	if (r->store_size > SMALL_STORE)
		madvise(r->store + SMALL_STORE, r->store_size - SMALL_STORE, MADV_HUGEPAGE);
	return 0;
}

static int map_slot(struct ept_reset_slot *s, const struct ept_slot *slot)
{
	s->slot = slot;
	s->pages = slot->size >> EPT_PAGE_SHIFT;
	if (slot->read_only)
		return 0;
	s->kept = map_bits(s->pages * sizeof(*s->kept));
	s->noted = map_bits(ept_reset_words(s) * sizeof(*s->noted));
	s->gone = map_bits(ept_reset_words(s) * sizeof(*s->gone));
	s->chunks = map_bits(ept_reset_chunk_bytes(s));
	return s->kept && s->noted && s->gone && s->chunks ? 0 : -ENOMEM;
}

static struct ept_reset *make_reset(struct ept_space *space)
{
	struct ept_reset *r = calloc(1, sizeof(*r));
	int err = 0;

	if (!r)
		return NULL;
	r->space = space;
	r->nr = space->nr_reservations;
	r->slots = calloc(r->nr, sizeof(*r->slots));
	for (size_t i = 0; r->slots && i < r->nr && !err; i++) {
		err = map_slot(&r->slots[i], &space->reservations[i].slot);
		if (r->slots[i].kept)
			r->store_size += r->slots[i].slot->size;
	}
	if (r->slots && !err && !map_store(r))
		return r;
	free_reset(r);
	return NULL;
}

void ept_reset_free(struct ept_space *space)
{
	struct ept_reset *r = space->reset;

	__atomic_store_n(&space->reset, NULL, __ATOMIC_RELEASE);
	if (r)
		free_reset(r);
}

/* --- the point -------------------------------------------------------------------------------- */

static int may_go_back(const struct ept_space *space, char *why, size_t size)
{
	for (size_t i = 0; i < space->nr_areas; i++) {
		const struct ept_area *area = space->areas[i];

		if (area->kind != EPT_KIND_SHARED)
			continue;
		snprintf(why, size, "%s: no reset point: %s writes to %s, which would not go back",
			 space->name, area->name, area->obj->name);
		return -EOPNOTSUPP;
	}
	return 0;
}

static int keep_again(struct ept_reset *r, struct ept_reset_slot *s, const struct ept_area *area,
		      uint64_t page, bool written, void *ctx)
{
	(void)area, (void)ctx;
	if (written)
		return ept_reset_keep_now(r, s, page);
	s->kept[page] |= EPT_KEPT_ZERO;
	return 0;
}

static int first_point(struct ept_space *space, char *why, size_t size)
{
	struct ept_reset *r = make_reset(space);
	int err = r ? ept_reset_keep_all(r, why, size) : -ENOMEM;

	if (!err)
		__atomic_store_n(&space->reset, r, __ATOMIC_RELEASE);
	else if (r)
		free_reset(r);
	return err;
}

int ept_reset_point(struct ept_space *space, ept_written written, char *why, size_t size)
{
	int err = may_go_back(space, why, size);

	if (err)
		return err;
	snprintf(why, size, "%s: no reset point: no memory to keep what it is", space->name);
	if (ept_dying(space) || ept_lost(space))
		return -ESHUTDOWN;
	if (!space->reset)
		return first_point(space, why, size);
	ept_reset_note_log(space->reset, written);
	err = ept_reset_each(space->reset, keep_again, NULL);
	ept_reset_forget_notes(space->reset);
	if (err)
		ept_reset_free(space);
	return err;
}

uint64_t ept_reset_kept(const struct ept_space *space)
{
	return space->reset ? (uint64_t)space->reset->used << EPT_PAGE_SHIFT : 0;
}

/* --- back ------------------------------------------------------------------------------ */

struct back {
	uint64_t nr; /* pages that were written, or given back */
	struct ept_reset_stats *stats;
	char *why;
	size_t size;
	bool *begun;
};

static int have_page(struct ept_reset *r, struct ept_reset_slot *s, const struct ept_area *area,
		     uint64_t page, bool written, void *ctx)
{
	struct back *b = ctx;

	(void)written;
	b->nr++;
	return ept_reset_keep(r, s, area, page, &b->stats->read, b->why, b->size);
}

/*
 * Past the caches: what is brought back is more than they hold, and half of the traffic. Few
 * pages stay in them for the guest.
 */
static void put_page(char *to, const char *from, bool few)
{
	if (few && from)
		memcpy(to, from, EPT_PAGE_SIZE);
	else if (few)
		memset(to, 0, EPT_PAGE_SIZE);
	for (size_t i = 0; !few && i < EPT_PAGE_SIZE; i += sizeof(__m128i))
		_mm_stream_si128((__m128i *)(to + i),
				 from ? *(const __m128i *)(from + i) : _mm_setzero_si128());
}

/* Does it read as zero with nothing done about it? */
static bool is_zero(const struct ept_area *area, uint64_t gpa, bool written)
{
	const struct ept_leaf *leaf;
	uint64_t entry;

	if (!ept_handler_engine(area))
		return !written;
	leaf = ept_mirror_find(&area->space->mirror, GPA(gpa));
	entry = leaf ? __atomic_load_n(&leaf->entry[ept_leaf_index(GPA(gpa))], __ATOMIC_ACQUIRE)
		     : EPT_PTE_NONE;
	if ((entry & 0xff) == EPT_PTE_ZERO)
		return true;
	return (entry & 0xff) == EPT_PTE_NONE && (!area->obj || !written);
}

static int bring_back(struct ept_reset *r, struct ept_reset_slot *s, const struct ept_area *area,
		      uint64_t page, bool written, void *ctx)
{
	uint64_t gpa = ept_reset_gpa(s, page);
	uint32_t kept = s->kept[page];
	bool zero = kept & EPT_KEPT_ZERO;
	struct back *b = ctx;
	int err = 0;

	if (zero && is_zero(area, gpa, written))
		return 0;
	*b->begun = true;
	if (ept_handler_engine(area))
		err = ept_touch_page(r->space, GPA(gpa), EPT_WRITE, EPT_ORIGIN_LOADER);
	if (err)
		return err;
	put_page(ept_hva(area, gpa), zero ? NULL : ept_reset_stored(r, kept), b->nr <= FEW);
	b->stats->pages++;
	return 0;
}

int ept_reset_back(struct ept_space *space, ept_written written, struct ept_reset_stats *out,
		   bool *begun, char *why, size_t size)
{
	struct ept_reset *r = space->reset;
	struct back b = {.stats = out, .why = why, .size = size, .begun = begun};
	int err;

	*out = (struct ept_reset_stats){0};
	*begun = false;
	snprintf(why, size, "%s: it has no reset point", space->name);
	if (!r)
		return -EINVAL;
	ept_reset_note_log(r, written);
	err = ept_reset_each(r, have_page, &b);
	if (err)
		return err;
	err = ept_reset_each(r, bring_back, &b);
	_mm_sfence();
	if (!err && ept_lost(space))
		err = -EIO;
	if (err) {
		snprintf(why, size, "%s: a page cannot be brought back: %s", space->name,
			 strerrordesc_np(-err));
		return err;
	}
	ept_reset_forget_notes(r);
	out->kept = ept_reset_kept(space);
	return 0;
}
