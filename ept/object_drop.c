/*
 * Pages of an object's cache go back to the host.
 *
 * 1. Under the object's lock the pages' bits are cleared, and the pages are noted as
 *    being read: who looks from now on finds them missing, and waits.
 * 2. Each area's entry is looked at under its leaf's lock. Whoever saw the bit
 *    before has used the page in the same critical section, so either the entry
 *    says that it is mapped now, or nobody uses it any more.
 * 3. What no area maps is punched out; the rest gets its bits back, and who waits goes on.
 */
#include "ept/space.h"

#include <fcntl.h>

void ept_object_attach(struct ept_object *obj, struct ept_area *area)
{
	pthread_mutex_lock(&obj->users);
	area->next_of_object = obj->areas;
	obj->areas = area;
	pthread_mutex_unlock(&obj->users);
}

void ept_object_detach(struct ept_object *obj, struct ept_area *area)
{
	struct ept_area **p = &obj->areas;

	pthread_mutex_lock(&obj->users);
	while (*p != area)
		p = &(*p)->next_of_object;
	*p = area->next_of_object;
	pthread_mutex_unlock(&obj->users);
}

/*
 * Writing was granted, and whoever asked may not have written yet: only what is a copy by
 * the host's page table is one. Without the page behind it a forked child, which only
 * reads, would find zeros there, and put them into the cache of both.
 */
static bool may_be_cached_page(const struct ept_area *area, uint64_t gpa, enum ept_pte pte)
{
	return area->kind == EPT_KIND_COW && (pte == EPT_PTE_PRIVATE || pte == EPT_PTE_AGED) &&
	       ept_host_page(area->space, ept_hva(area, gpa)) != EPT_HOST_OWN;
}

/* What the host kernel maps is in no mirror: it counts as mapped. */
static bool mapped_by(const struct ept_area *area, uint64_t page)
{
	uint64_t gpa = area->start + (page << EPT_PAGE_SHIFT);
	struct ept_leaf *leaf;
	enum ept_pte pte;
	bool mapped;

	if (gpa >= area->end)
		return false;
	if (!ept_handler_engine(area))
		return true;
	leaf = ept_mirror_find(&area->space->mirror, GPA(gpa));
	if (!leaf)
		return false;
	pthread_mutex_lock(&leaf->lock);
	pte = ept_pte_get(leaf, ept_leaf_index(GPA(gpa)));
	mapped = pte == EPT_PTE_FILE || pte == EPT_PTE_CLEAN || pte == EPT_PTE_DIRTY ||
		 may_be_cached_page(area, gpa, pte);
	pthread_mutex_unlock(&leaf->lock);
	return mapped;
}

static bool mapped(const struct ept_object *obj, uint64_t page)
{
	for (const struct ept_area *area = obj->areas; area; area = area->next_of_object)
		if (mapped_by(area, page))
			return true;
	return false;
}

/* A forked child may map what was there at the fork. */
static bool can_go(const struct ept_object *obj, uint64_t page)
{
	return ept_object_cached(obj, page) && !ept_object_frozen(obj, page);
}

/* Give back what is cached of the run that begins at @first; where the run ends. */
static uint64_t take_run(struct ept_object *obj, struct ept_object_read *run, uint64_t first,
			 uint64_t end)
{
	uint64_t page = first;

	pthread_mutex_lock(&obj->lock);
	while (page < end && !can_go(obj, page))
		page++;
	run->first = page;
	while (page < end && can_go(obj, page)) {
		/* A full barrier: the entries are looked at after it. */
		__atomic_fetch_and(&obj->cached[page / 64], ~(1UL << (page % 64)),
				   __ATOMIC_SEQ_CST);
		page++;
	}
	run->end = page;
	if (run->first < page)
		ept_object_read_begins(obj, run);
	pthread_mutex_unlock(&obj->lock);
	return page;
}

static bool punch(const struct ept_object *obj, uint64_t first, uint64_t end)
{
	return !fallocate(obj->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  (off_t)(first << EPT_PAGE_SHIFT),
			  (off_t)((end - first) << EPT_PAGE_SHIFT));
}

/* The pages of [first, end) that stay are cached again. */
static void keep(struct ept_object *obj, uint64_t first, uint64_t end)
{
	for (uint64_t page = first; page < end; page++)
		__atomic_fetch_or(&obj->cached[page / 64], 1UL << (page % 64), __ATOMIC_RELEASE);
}

/* Punch what nobody maps of the run; how many pages that were. */
static uint64_t drop_run(struct ept_object *obj, const struct ept_object_read *run)
{
	uint64_t given = 0, from = run->first;

	for (uint64_t page = run->first; page <= run->end; page++) {
		if (page < run->end && !mapped(obj, page))
			continue;
		if (from < page && punch(obj, from, page))
			given += page - from;
		else
			keep(obj, from, page);
		if (page < run->end)
			keep(obj, page, page + 1);
		from = page + 1;
	}
	__atomic_fetch_sub(&obj->nr_cached, given, __ATOMIC_RELAXED);
	return given;
}

uint64_t ept_object_drop(struct ept_object *obj, uint64_t first, uint64_t end)
{
	struct ept_object_read run = {0};
	uint64_t given = 0;

	pthread_mutex_lock(&obj->users);
	while (first < end) {
		first = take_run(obj, &run, first, end);
		if (run.first == run.end)
			break;
		given += drop_run(obj, &run);
		pthread_mutex_lock(&obj->lock);
		ept_object_read_ended(obj, &run, 0);
		pthread_mutex_unlock(&obj->lock);
	}
	pthread_mutex_unlock(&obj->users);
	return given;
}
