/*
 * Processes' own pages by when they were used last, for each group: new ones and those that have
 * not been seen in use are inactive, and leave from that list's end; those found in use become
 * active, and get a second look when the active ones outnumber the others.
 */
#include "guest/include/counters.h"
#include "guest/include/filemap.h"
#include "guest/include/huge.h"
#include "guest/include/smp_lock.h"
#include "guest/include/swap.h"

#define GROUP_FREE 32 /* pages that a group at its limit gets free at a time */

static struct spinlock lru_lock;

struct mem_group root_group = {
    .limit = ~0UL,
    .nr_mms = 1,
    .active = {&root_group.active, &root_group.active},
    .inactive = {&root_group.inactive, &root_group.inactive},
    .link = {&root_group.link, &root_group.link}, /* the list of all groups */
};

/* --- groups ---------------------------------------------------------------------------------- */

struct mem_group *group_create(u64 limit)
{
	struct mem_group *group = kzalloc(sizeof(*group));

	if (!group)
		return NULL;
	group->limit = limit;
	group->nr_mms = 1;
	list_init(&group->active);
	list_init(&group->inactive);
	spin_lock(&lru_lock);
	list_add(&group->link, &root_group.link);
	spin_unlock(&lru_lock);
	return group;
}

struct mem_group *group_get(struct mem_group *group)
{
	spin_lock(&lru_lock);
	group->nr_mms++;
	spin_unlock(&lru_lock);
	return group;
}

/* lru_lock held. The last of its address spaces and pages to go frees it. */
static void group_release(struct mem_group *group)
{
	if (group->nr_mms || group->usage)
		return;
	list_del(&group->link);
	kfree(group);
}

void group_put(struct mem_group *group)
{
	spin_lock(&lru_lock);
	group->nr_mms--;
	group_release(group);
	spin_unlock(&lru_lock);
}

bool group_try_charge(struct mem_group *group, u64 n)
{
	if (__atomic_add_fetch(&group->usage, n, __ATOMIC_RELAXED) <= group->limit)
		return true;
	group_uncharge(group, n);
	return false;
}

bool group_charge(struct mem_group *group)
{
	u64 freed;

	while (!group_try_charge(group, 1)) {
		lock_kernel();
		freed = shrink_group(group, GROUP_FREE);
		unlock_kernel();
		if (!freed)
			return false;
	}
	return true;
}

void group_uncharge(struct mem_group *group, u64 n)
{
	__atomic_sub_fetch(&group->usage, n, __ATOMIC_RELAXED);
}

/* --- the lists; lru_lock held ---------------------------------------------------------------- */

static void list_page(struct page *page, bool active)
{
	struct mem_group *group = page->group;

	__atomic_fetch_or(&page->flags, PG_LRU | (active ? PG_ACTIVE : 0), __ATOMIC_RELAXED);
	list_add(&page->lru, active ? &group->active : &group->inactive);
	*(active ? &group->nr_active : &group->nr_inactive) += 1UL << page->order;
}

static void unlist_page(struct page *page)
{
	struct mem_group *group = page->group;
	bool active = page->flags & PG_ACTIVE;

	__atomic_fetch_and(&page->flags, ~(u32)(PG_LRU | PG_ACTIVE), __ATOMIC_RELAXED);
	list_del(&page->lru);
	*(active ? &group->nr_active : &group->nr_inactive) -= 1UL << page->order;
}

/* A page that is on its way to put_page's end is not had any more. */
static bool get_page_unless_free(struct page *page)
{
	s32 count = READ_ONCE(page->refcount);

	while (count && !__atomic_compare_exchange_n(&page->refcount, &count, count + 1, false,
						     __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	return count;
}

/* Keeps the active pages the smaller half. */
static void balance(struct mem_group *group)
{
	while (group->nr_active > group->nr_inactive) {
		struct page *page = list_entry(group->active.prev, struct page, lru);

		unlist_page(page);
		list_page(page, false);
	}
}

/* Takes up to max pages off the end of the inactive ones, each with a reference. */
static unsigned isolate(struct mem_group *group, struct page **pages, unsigned max)
{
	unsigned n = 0;

	spin_lock(&lru_lock);
	balance(group);
	while (n < max && !list_empty(&group->inactive)) {
		struct page *page = list_entry(group->inactive.prev, struct page, lru);

		unlist_page(page);
		if (get_page_unless_free(page))
			pages[n++] = page;
	}
	spin_unlock(&lru_lock);
	return n;
}

static void put_back(struct page *page, bool active)
{
	spin_lock(&lru_lock);
	if (!(page->flags & PG_LRU))
		list_page(page, active);
	spin_unlock(&lru_lock);
}

void lru_add(struct page *page)
{
	put_back(page, false);
}

void lru_add_split(struct page *head)
{
	const u64 n = 1UL << head->order;
	bool listed, active;

	spin_lock(&lru_lock);
	listed = head->flags & PG_LRU;
	active = head->flags & PG_ACTIVE;
	if (listed)
		unlist_page(head);
	head->order = 0;
	__atomic_fetch_and(&head->flags, ~(u32)PG_TAILS, __ATOMIC_RELAXED);
	/* Somebody has the first one off the list, and puts it back. */
	for (u64 i = listed ? 0 : 1; i < n; i++)
		list_page(&head[i], active);
	spin_unlock(&lru_lock);
}

void anon_page_free(struct page *page)
{
	struct mem_group *group = page->group;

	spin_lock(&lru_lock);
	if (page->flags & PG_LRU)
		unlist_page(page);
	if (page->order)
		huge_page_gone();
	group_uncharge(group, 1UL << page->order);
	group_release(group);
	spin_unlock(&lru_lock);
}

/* --- swapping out ---------------------------------------------------------------------------- */

/*
 * The locked page gets a slot and leaves its page tables. False: it stays as it is. *write: what
 * the slot has is not the page's contents yet.
 */
static bool unmap_to_swap(struct page *page, bool *write)
{
	if (!(page->flags & PG_SWAPCACHE)) {
		if (!swap_cache_add_page(page))
			return false;
		__atomic_fetch_or(&page->flags, PG_DIRTY, __ATOMIC_RELAXED);
	}
	*write = page->flags & PG_DIRTY;
	page_unmap(page);
	return true;
}

/* Behind the write: the locked page goes if nobody wanted it back. Drops the caller's reference. */
static bool finish(struct page *page)
{
	/* What could not be written stays in the cache, for whoever has its entry. */
	bool freed = swap_cache_drop(page, !(page->flags & PG_DIRTY));

	unlock_page(page);
	if (freed && page->refcount == 1) {
		put_page(page);
		return true;
	}
	put_back(page, true);
	put_page(page);
	return false;
}

/* Writes those of the n locked pages that have to be, and lets all of them go. */
static u64 write_out(struct page **pages, unsigned n, const bool *write)
{
	struct page *dirty[SWAP_BATCH];
	unsigned nr_dirty = 0;
	u64 freed = 0;
	int err;

	for (unsigned i = 0; i < n; i++)
		if (write[i])
			dirty[nr_dirty++] = pages[i];
	err = swap_write(dirty, nr_dirty);
	for (unsigned i = 0; i < n; i++) {
		if (write[i] && !err)
			__atomic_fetch_and(&pages[i]->flags, ~(u32)PG_DIRTY, __ATOMIC_RELAXED);
		freed += finish(pages[i]);
	}
	fault_counters.swapped_out += freed;
	return freed;
}

/* Takes pages that have a reference each; force: also those in use. Frames that came free. */
static u64 swap_out(struct page **pages, unsigned n, bool force)
{
	bool write[SWAP_BATCH];
	unsigned out = 0;

	for (unsigned i = 0; i < n; i++) {
		struct page *page = pages[i];
		bool used;

		if (!trylock_page(page)) {
			put_back(page, true);
			put_page(page);
			continue;
		}
		used = page_referenced(page) && !force;
		/* Of 2 MiB, the parts go one by one, when their turn comes. */
		if (!used && page->order)
			used = !split_huge_page(page);
		else if (!used && unmap_to_swap(page, &write[out])) {
			pages[out++] = page;
			continue;
		}
		unlock_page(page);
		put_back(page, used);
		put_page(page);
	}
	return out ? write_out(pages, out, write) : 0;
}

u64 shrink_group(struct mem_group *group, u64 want)
{
	struct page *pages[SWAP_BATCH];
	u64 freed = 0, looked = 0, scan = 3 * (group->nr_active + group->nr_inactive);

	while (freed < want && nr_swap_slots()) {
		unsigned n = isolate(group, pages, SWAP_BATCH);

		if (!n)
			break;
		for (unsigned i = 0; i < n; i++)
			looked += 1UL << pages[i]->order;
		freed += swap_out(pages, n, false);
		if (looked > scan)
			break;
	}
	return freed;
}

u64 shrink_groups(u64 want)
{
	struct mem_group *group = &root_group;
	u64 freed = 0;

	/* Groups stay while their pages are looked at only if somebody holds them. */
	spin_lock(&lru_lock);
	do {
		struct mem_group *next;

		group->nr_mms++;
		spin_unlock(&lru_lock);
		freed += shrink_group(group, want - freed);
		spin_lock(&lru_lock);
		next = list_entry(group->link.next, struct mem_group, link);
		group->nr_mms--;
		if (group != &root_group)
			group_release(group);
		group = next;
	} while (group != &root_group && freed < want);
	spin_unlock(&lru_lock);
	return freed;
}

void swap_out_page(struct page *page)
{
	if (!nr_swap_slots()) {
		put_page(page);
		return;
	}
	spin_lock(&lru_lock);
	if (page->flags & PG_LRU)
		unlist_page(page);
	spin_unlock(&lru_lock);
	swap_out(&page, 1, true);
}
