/*
 * Processes' own pages on their way out and back: groups with a limit and their lists, the swap
 * area and its cache.
 *
 * The swap area is a block device that mkswap prepared. A slot of it is in use while entries of
 * page tables name it (counted), or a page of the cache has it. A page in the cache has what its
 * slot has, and is not writable anywhere, so it goes a second time without being written.
 *
 * Lock order: page lock, rmap_lock, mm.table_lock, the swap area's lock; a group's lists come
 * after all of them.
 */
#ifndef GUEST_SWAP_H
#define GUEST_SWAP_H

#include "guest/include/block.h"
#include "guest/include/mm.h"
#include "guest/include/page.h"

/* --- the swap area, swap.c ------------------------------------------------------------------- */

/* 0; -EBUSY: there is one already; -EINVAL: not prepared by mkswap; -EIO, -ENOMEM. Sleeps. */
int swap_on(struct block_device *bdev);
/* 0; -EINVAL: there is none; -EBUSY: it is in use. */
int swap_off(void);

u64 nr_swap_slots(void);
u64 nr_free_slots(void);

/* One more entry names the slot; one less: the last takes the slot's page out of the cache. */
void swap_dup(u64 slot);
void swap_put(u64 slot);

/* Gives the locked page a slot and puts it into the cache. False: no slot is free. */
bool swap_cache_add_page(struct page *page);
/* Puts a fresh page in for a slot that entries name. False: another was first, or none name it. */
bool swap_cache_add_slot(struct page *page, u64 slot);
/* Whether entries name the slot, and its page is not in memory. */
bool slot_wanted(u64 slot);
/* The slot's page with a reference, or NULL. */
struct page *swap_cache_get(u64 slot);
/* Takes the locked page out if no entry names its slot (or it is all that holds the page). */
bool swap_cache_drop(struct page *page, bool if_alone);

/*
 * Both wait. 0 or -EIO. The pages are locked and in the cache, for reading with slots that follow
 * one another; n at most SWAP_BATCH.
 */
#define SWAP_BATCH 32
int swap_read(struct page **pages, unsigned n);
int swap_write(struct page **pages, unsigned n);

/* --- groups, lru.c --------------------------------------------------------------------------- */

/* Whose own pages are limited together: programs from one that asked for it on. */
struct mem_group {
	u64 limit, usage;	      /* pages; usage is atomic */
	u32 nr_mms;		      /* address spaces; lru_lock, as all that follows */
	struct list active, inactive; /* newest first, by page.lru */
	u64 nr_active, nr_inactive;
	struct list link;
};

/* A group of its own for those who come, or the one all others are in. */
struct mem_group *group_create(u64 limit);
struct mem_group *group_get(struct mem_group *group);
void group_put(struct mem_group *group);
extern struct mem_group root_group;

/* Makes room for one own page, by reclaim if need be, and charges it. False: none to be had. */
bool group_charge(struct mem_group *group);
/* For n, where nothing is reclaimed. */
bool group_try_charge(struct mem_group *group, u64 n);
/* For those that never became pages. */
void group_uncharge(struct mem_group *group, u64 n);

/* The page is mapped from now on: reclaim may find it. */
void lru_add(struct page *page);
/* A page of 2 MiB is 512 of their own now; the new ones follow the first. */
void lru_add_split(struct page *head);
/* From put_page: nobody has it any more. */
void anon_page_free(struct page *page);

/* Swaps out up to want pages of the group; returns how many frames came free. Sleeps. */
u64 shrink_group(struct mem_group *group, u64 want);
/* The same of all groups. */
u64 shrink_groups(u64 want);
/* Takes this page out if it can, in use or not; and the caller's reference. */
void swap_out_page(struct page *page);

/* Resolves a fault on a swapped entry. */
enum fault_result do_swap_page(struct fault *f);
/* A page of the process's own in f->cow_page, charged; to be filled by the caller unless zeroed. */
bool alloc_own_page(struct fault *f, unsigned gfp);
/* FAULT_LOCKED, or the page's reference and mm.lock are given up: FAULT_RETRY. */
enum fault_result lock_page_or_retry(struct fault *f, struct page *page);

#endif
