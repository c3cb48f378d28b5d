/* A space's reset point (reset.h): what is kept, and what was noted since. */
#ifndef FOAL_EPT_RESET_SPACE_H
#define FOAL_EPT_RESET_SPACE_H

#include "ept/reset.h"
#include "ept/space.h"

/*
 * Where a page's old bytes are: 0, where the page comes from, which was not looked at yet;
 * else its place in the store, counted from 1 (0: it has none), and whether it is zeros,
 * whatever lies there.
 */
#define EPT_KEPT_ORIGIN 0U
#define EPT_KEPT_ZERO	(1U << 31)
#define EPT_KEPT_PLACE	(EPT_KEPT_ZERO - 1)

/* One slot. Bits are a page each. */
struct ept_reset_slot {
	const struct ept_slot *slot;
	uint64_t pages;
	uint32_t *kept;
	/* Noted by the monitor's threads, atomic, and when the VM is at rest from KVM's log:
	   written; given back, and so zero. And in which chunks of them anything is: a bit for 64
	   words. */
	uint64_t *noted, *gone, *chunks;
};

struct ept_reset {
	struct ept_space *space;
	struct ept_reset_slot *slots;
	size_t nr;
	char *store; /* reserved for all of guest memory: a page never has two places */
	size_t store_size;
	uint32_t used; /* places of it */
};

/* The monitor is about to write, or to give back, what lies in an area. Any thread. */
void ept_reset_note(struct ept_space *space, uint64_t gpa, uint64_t len, bool gone);

/*
 * In a forked child, which has no point: the parent's memory of it is let go of, by system calls
 * alone. What is left are some bytes a slot.
 */
void ept_reset_forget(struct ept_space *space);

/* --- reset_pages.c ------------------------------------------------------------------------ */

/* Sizes of a slot's bitmaps: words of `noted` and `gone`, bytes of `chunks`. */
uint64_t ept_reset_words(const struct ept_reset_slot *s);
size_t ept_reset_chunk_bytes(const struct ept_reset_slot *s);

/* What is done with page @page of @s, which lies in @area; @written: not only given back. */
typedef int ept_reset_page_fn(struct ept_reset *r, struct ept_reset_slot *s,
			      const struct ept_area *area, uint64_t page, bool written, void *ctx);

/* All pages that are noted, written or given back, until one fails. */
int ept_reset_each(struct ept_reset *r, ept_reset_page_fn *fn, void *ctx);
/* What KVM's log says is noted, too: it tells it once. */
void ept_reset_note_log(struct ept_reset *r, ept_written written);
void ept_reset_forget_notes(struct ept_reset *r);

/* --- reset_point.c ------------------------------------------------------------------------ */

/* Make sure that page @page of @s, of @area, is kept; *@read counts. */
int ept_reset_keep(struct ept_reset *r, struct ept_reset_slot *s, const struct ept_area *area,
		   uint64_t page, uint64_t *read, char *why, size_t size);
/* The first copy of all that is the space's own. */
int ept_reset_keep_all(struct ept_reset *r, char *why, size_t size);
/* What page @page of @s holds now is kept. */
int ept_reset_keep_now(struct ept_reset *r, struct ept_reset_slot *s, uint64_t page);

static inline uint64_t ept_reset_gpa(const struct ept_reset_slot *s, uint64_t page)
{
	return s->slot->gpa.v + (page << EPT_PAGE_SHIFT);
}

static inline char *ept_reset_stored(const struct ept_reset *r, uint32_t kept)
{
	return r->store + ((size_t)((kept & EPT_KEPT_PLACE) - 1) << EPT_PAGE_SHIFT);
}

#endif
