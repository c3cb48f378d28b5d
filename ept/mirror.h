/*
 * The page-table mirror: what is installed where, in the shape of a four-level
 * EPT (512 entries a level, SDM 3C 29.3.2). Tables are allocated on descent and
 * live as long as the space, so a leaf once found stays valid.
 *
 * A leaf's lock guards its 512 entries and every install into its 2 MiB: an
 * entry and the host mapping it describes change in one critical section. It is
 * never held over I/O; a page whose bytes are being read is in transit.
 */
#ifndef FOAL_EPT_MIRROR_H
#define FOAL_EPT_MIRROR_H

#include "ept/arena.h"
#include "ept/ept.h"

#define EPT_LEVELS	4
#define EPT_LEVEL_SHIFT 9
#define EPT_TABLE_SIZE	(1U << EPT_LEVEL_SHIFT)
#define EPT_LEAF_SHIFT	(EPT_PAGE_SHIFT + EPT_LEVEL_SHIFT)
#define EPT_LEAF_BYTES	(1UL << EPT_LEAF_SHIFT)

/* The low byte of an entry. Reclaim keeps more in the rest (ept_pte_age, ept_pte_value). */
enum ept_pte {
	EPT_PTE_NONE,	 /* nothing installed: the next access faults */
	EPT_PTE_ZERO,	 /* the shared zero page, write-protected */
	EPT_PTE_FILE,	 /* the object's cached page, a write makes a private copy */
	EPT_PTE_PRIVATE, /* the area's own page, writable */
	EPT_PTE_CLEAN,	 /* the object's cached page, write-protected, as on disk */
	EPT_PTE_DIRTY,	 /* the object's cached page, writable, to be written back */
	EPT_PTE_TRANSIT, /* being read; whoever set this also ends it */
	EPT_PTE_POISON,	 /* the object did not give it: a touch is a memory error */
	EPT_PTE_HELD,	 /* own page, moved out to see whether it is touched; value: ring slot */
	EPT_PTE_AGED,	 /* own page, write-protected for the same; value: ring slot */
	EPT_PTE_SAMPLED, /* the object's cached page, unmapped for the same; value: ring slot */
	EPT_PTE_POOLED,	 /* own page, compressed in memory; value: its place in the pool */
	EPT_PTE_SWAPPED, /* own page, compressed in the swap file; value: its place there */
	EPT_NR_PTES
};

struct ept_leaf {
	pthread_mutex_t lock;
	pthread_cond_t arrived; /* an entry left EPT_PTE_TRANSIT */
	unsigned random_reads;	/* faults that went on with no stream (stream.h) */
	unsigned asked;		/* how often something of it was, of a snapshot's area */
	uint16_t in_set;  /* its pages in the working set, where 2 MiB are wanted (prefetch.h) */
	uint16_t in_vain; /* of 1,000 events of what is there already (handlers_any.c) */
	bool huge;	  /* all of it is one huge page of the host; its entries say private */
	uint64_t entry[EPT_TABLE_SIZE];
};

struct ept_mirror {
	struct ept_arena *arena;
	pthread_mutex_t grow; /* one allocates tables at a time; walkers take no lock */
	void *root[EPT_TABLE_SIZE];
};

void ept_mirror_init(struct ept_mirror *mirror, struct ept_arena *arena);
void ept_mirror_free(struct ept_mirror *mirror);

/* The leaf that holds @gpa: NULL if nothing near was touched yet. */
struct ept_leaf *ept_mirror_find(const struct ept_mirror *mirror, gpa_t gpa);

/* The same, allocating what is missing: NULL without memory. */
struct ept_leaf *ept_mirror_get(struct ept_mirror *mirror, gpa_t gpa);

static inline uint64_t ept_leaf_start(uint64_t gpa)
{
	return gpa & ~(EPT_LEAF_BYTES - 1);
}

/* Where the leaf that holds @gpa ends, or @limit if that comes first. */
static inline uint64_t ept_leaf_end(uint64_t gpa, uint64_t limit)
{
	uint64_t end = ept_leaf_start(gpa) + EPT_LEAF_BYTES;

	return end < limit ? end : limit;
}

static inline unsigned ept_leaf_index(gpa_t gpa)
{
	return (gpa.v >> EPT_PAGE_SHIFT) % EPT_TABLE_SIZE;
}

/* May be read without the lock, as a hint; only under it does it stay true. */
static inline enum ept_pte ept_pte_get(const struct ept_leaf *leaf, unsigned index)
{
	return (enum ept_pte)(__atomic_load_n(&leaf->entry[index], __ATOMIC_ACQUIRE) & 0xff);
}

/* Is it a page of the area's own, uncompressed in memory? */
static inline bool ept_pte_own(enum ept_pte pte)
{
	return pte == EPT_PTE_PRIVATE || pte == EPT_PTE_AGED || pte == EPT_PTE_HELD;
}

/* Does it take memory of the guest's? A zero page is the host's. */
static inline bool ept_pte_resident(enum ept_pte pte)
{
	return pte == EPT_PTE_FILE || pte == EPT_PTE_CLEAN || pte == EPT_PTE_DIRTY ||
	       ept_pte_own(pte);
}

/* How often a page was found touched, and for how many visits it is left alone (reclaim.h). */
static inline unsigned ept_pte_age(const struct ept_leaf *leaf, unsigned index)
{
	return __atomic_load_n(&leaf->entry[index], __ATOMIC_RELAXED) >> 8 & 0xff;
}

/* 48 bits whose meaning depends on the entry's low byte. */
static inline uint64_t ept_pte_value(const struct ept_leaf *leaf, unsigned index)
{
	return __atomic_load_n(&leaf->entry[index], __ATOMIC_RELAXED) >> 16;
}

/* The leaf's lock is held. */
static inline void ept_pte_put(struct ept_leaf *leaf, unsigned index, enum ept_pte pte,
			       unsigned age, uint64_t value)
{
	__atomic_store_n(&leaf->entry[index], (uint64_t)pte | (uint64_t)age << 8 | value << 16,
			 __ATOMIC_RELEASE);
}

static inline void ept_pte_set(struct ept_leaf *leaf, unsigned index, enum ept_pte pte)
{
	ept_pte_put(leaf, index, pte, 0, 0);
}

#endif
