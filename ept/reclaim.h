/*
 * Reclaim: a space stays inside its memory limit (docs/reclaim.md).
 *
 * One thread a space takes pages away. A clock hand goes over the mirror (the
 * active pages); a page that was not found in use lately is sampled: made to
 * fault again, and put on the ring (the inactive pages, oldest first). Touched
 * there, it is active again (hint_read, hint_write); at the ring's end untouched,
 * it goes: pages of files are dropped, own pages are compressed into the pool,
 * and from there written to the swap file.
 *
 * Only the holder of `work` moves the hand, the ring and what is written; fault
 * handlers take single pages back under their leaf's lock.
 */
#ifndef FOAL_EPT_RECLAIM_H
#define FOAL_EPT_RECLAIM_H

#include "ept/ept.h"
#include "ept/pool.h"
#include "ept/stats.h"
#include "ept/swap_file.h"

struct ept_area;
struct ept_leaf;
struct ept_writer;

#define EPT_RECLAIM_BATCH 32U /* pages between two looks at what is resident */

/*
 * The age of an entry: visits of the hand to come in peace, how often a sample was hit, and
 * whether it is zeros that nobody asked for and others had to go for (they came with a
 * first touch nearby).
 */
#define EPT_AGE_VISITS	  0x0fU
#define EPT_AGE_HIT	  0x10U
#define EPT_AGE_HITS	  3U
#define EPT_AGE_UNASKED	  0x80U

static inline unsigned ept_age_hits(unsigned age)
{
	return age / EPT_AGE_HIT & EPT_AGE_HITS;
}

/*
 * The age of a reclaimed own page: how often it was hit, and above it when it went, in
 * quarters of the limit that went since the start (it wraps).
 */
#define EPT_GONE_SHIFT 2U
#define EPT_GONE_MASK  0x3fU

/* The age of a page that was hit so often: 3, 5, then 7 visits in peace. */
static inline unsigned ept_reclaim_aged(unsigned hits)
{
	hits = hits < EPT_AGE_HITS ? hits : EPT_AGE_HITS;
	return hits * EPT_AGE_HIT + 2 * hits + 1;
}

/* The value of an empty entry whose page was reclaimed. */
#define EPT_VALUE_EVICTED ((1UL << 48) - 1)

/* Oldest at tail. Slot i of the holding area is page i of @base. */
struct ept_ring {
	char *base;    /* NULL: the host cannot move pages */
	uint64_t *gpa; /* by slot */
	uint64_t size; /* slots */
	uint64_t head, tail;
};

/*
 * Of the pages of EPT_AGE_UNASKED, what was found at the ring's end: written to meanwhile,
 * or still zeros. Halved each time the ring turned. Atomics, written under `work`.
 */
struct ept_unasked {
	uint64_t used, unused;
	uint64_t turn; /* the ring's tail when they were halved last */
};

struct ept_reclaim {
	uint64_t limit; /* pages; 0: none, and all else is unused */
	uint64_t hard, high,
	    low;	 /* pages: faults wait above hard, reclaim works from high to low */
	unsigned window; /* pages that one fault may bring in, a power of two */

	uint64_t own; /* pages of areas, uncompressed, atomic; counted without a limit, too */
	struct ept_object **objects; /* each once */
	size_t nr_objects;

	pthread_mutex_t room; /* what nobody asked for yet: looked for and used by one at a time */
	pthread_mutex_t work; /* ring, hand, batch: held by who reclaims */
	struct ept_ring ring;
	uint64_t hand; /* guest-physical */
	struct ept_pool pool;
	struct ept_swap swap;
	struct ept_writer *writer; /* NULL without a swap file */
	uint64_t since_sync;	   /* pages that left since the last write-back */
	uint64_t gone;		   /* own pages that ever left; atomic */
	struct ept_unasked unasked;

	pthread_mutex_t lock; /* what follows, to `thread` */
	pthread_cond_t need, freed;
	bool wanted, stop;
	uint64_t gave_up; /* rounds that could not free enough */
	bool pressed;	  /* a fault waits, and nothing was freed since it said so; atomic */
	unsigned poor;	  /* rounds in a row that did not come to the low mark */
	uint64_t
	    again; /* pages: after such a one nobody who need not wait calls below it; atomic */
	unsigned forks; /* under way: what they share cannot go; atomic */

	pthread_t thread;
	bool has_thread;
	bool manual; /* tests: nobody reclaims but who is told to; atomic */

	uint64_t peak;			 /* pages, atomic */
	struct ept_reclaim_stats counts; /* atomics */
};

#define ept_reclaim_count(r, field, n) \
	__atomic_fetch_add(&(r)->counts.field, (uint64_t)(n), __ATOMIC_RELAXED)

/* --- reclaim.c ------------------------------------------------------------------ */

int ept_reclaim_init(struct ept_space *space); /* reads the config */
void ept_reclaim_free(struct ept_space *space);
int ept_reclaim_start(struct ept_space *space); /* once the areas are mapped */
void ept_reclaim_stop(struct ept_space *space); /* the space is dying: waiters leave, too */

/* Pages that count against the limit now. */
uint64_t ept_reclaim_charge(const struct ept_space *space);

/*
 * May @pages more be installed at once? False: ept_reclaim_wait(), without any lock. In a space
 * that has failed they always may: what its VM has under way ends, whatever that takes.
 */
bool ept_reclaim_admit(struct ept_space *space, unsigned pages);

/* May @pages be read that nobody asked for yet? Waits for nothing and asks for nothing. */
bool ept_reclaim_has_room(const struct ept_space *space, unsigned pages);

/* Does no page have to go for @pages more? */
bool ept_reclaim_is_free(const struct ept_space *space, unsigned pages);

/*
 * May @pages zeros be installed with a first touch, though nobody asked for them? What is
 * free may be filled; if pages have to go for it, a quarter of such zeros was of use lately.
 */
bool ept_reclaim_fills(const struct ept_space *space, unsigned pages);

/*
 * Wait until they may: 0, or -ENOMEM: the limit cannot be held, and the space has failed. Who
 * touched @gpa is to be woken then.
 */
int ept_reclaim_wait(struct ept_space *space, gpa_t gpa, unsigned pages);

/* Note what is resident now: the peak. */
void ept_reclaim_note(struct ept_space *space);

/* --- reclaim_round.c: what the thread does when it is called ------------------------ */

/* Make room down to the low mark, as far as that can be had; who waits is told. */
void ept_reclaim_round(struct ept_space *space);
/* What could not go can, all at once. */
void ept_reclaim_eased(struct ept_reclaim *r);

/* --- reclaim_clock.c: from active to inactive ------------------------------------- */

struct ept_sampled {
	uint64_t added; /* pages more on the ring */
	uint64_t freed; /* pages that were of no use to anybody */
	bool dirty;	/* it met pages that are to be written back first, or just are */
};

/* Go on with the hand until @want pages more are on the ring, or it was everywhere once. */
struct ept_sampled ept_reclaim_sample(struct ept_space *space, uint64_t want);

/*
 * What the host has at @hva in a private mapping of a cache: the guest's own copy, the
 * cached page (or nothing), or something that cannot be told (/proc/self/pagemap).
 */
enum ept_host_page { EPT_HOST_OWN, EPT_HOST_CACHED, EPT_HOST_UNKNOWN };
enum ept_host_page ept_host_page(const struct ept_space *space, const char *hva);

/*
 * Move the own pages at @from to @to, where nothing is: one that was moved though the kernel says
 * otherwise counts. Errors are the installer's, of the first page that stays; *@done bytes went.
 */
int ept_reclaim_move(struct ept_space *space, char *to, char *from, size_t len, size_t *done);

/* --- reclaim_out.c: from inactive to nowhere ----------------------------------------- */

/* Cached pages to be given back when no lock is held. */
struct ept_drops {
	struct {
		struct ept_object *obj;
		uint64_t page;
	} at[EPT_RECLAIM_BATCH];
	unsigned nr;
};

/* Noted, unless there are EPT_RECLAIM_BATCH already. */
void ept_drops_add(struct ept_drops *drops, const struct ept_area *area, uint64_t gpa);
/* Give them back, runs of neighbours at once: how many went. */
uint64_t ept_drops_flush(struct ept_space *space, struct ept_drops *drops);

/*
 * Put the held page of the entry back where the guest sees it; the caller changes the
 * entry. The leaf is locked. Errors are the installer's.
 */
int ept_reclaim_return(struct ept_area *area, struct ept_leaf *leaf, unsigned index, gpa_t gpa);

/* Take up to @pages off the ring's end. Returns how many of them are gone from memory. */
uint64_t ept_reclaim_evict(struct ept_space *space, unsigned pages);

/* The age that a page on its way out takes along; the leaf is locked. */
unsigned ept_reclaim_leaves(struct ept_reclaim *r, const struct ept_leaf *leaf, unsigned index);
/* A page of that @age is back: the age that it begins with. */
unsigned ept_reclaim_returns(struct ept_reclaim *r, unsigned age);

/* --- reclaim_write.c: from the pool to the swap file ------------------------------------ */

struct ept_writer *ept_writer_new(void); /* free() it; NULL without memory */

/* Write pages of the pool until it has at most @bytes, or the swap file takes no more. */
void ept_reclaim_write(struct ept_space *space, uint64_t bytes);

/* Free what the entry holds besides memory of the guest; it is changed next. Leaf locked. */
void ept_reclaim_forget(struct ept_space *space, struct ept_leaf *leaf, unsigned index);

#endif
