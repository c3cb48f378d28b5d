/* Page tables of processes. */
#include "guest/include/pgtable.h"

#define TABLE_FLAGS	(PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED)

/*
 * Faults and scans come in clusters: the last table is likely the right one again. It and what it
 * is for are one word, which a thread reads while another one writes it.
 */
#define RECENT_PFN_BITS 38

static inline u64 recent_word(u64 addr, u64 table_phys)
{
	return addr >> PMD_SHIFT << RECENT_PFN_BITS | table_phys >> PAGE_SHIFT;
}

static inline pte_t *recent_entry(const struct pgtable *pt, u64 addr)
{
	u64 recent = READ_ONCE(pt->recent);
	u64 pfn = recent & ((1UL << RECENT_PFN_BITS) - 1);

	if (likely(pfn && recent >> RECENT_PFN_BITS == addr >> PMD_SHIFT))
		return (pte_t *)phys_to_virt(pfn << PAGE_SHIFT) + table_index(addr, 0);
	return NULL;
}

/* Where the addresses end that an entry of that level stands for. */
static u64 span_end(u64 addr, unsigned level)
{
	unsigned shift = PAGE_SHIFT + 9 * level;

	return ((addr >> shift) + 1) << shift;
}

/* The entry of addr in a table of that level; NULL where a table is missing on the way. */
static u64 *entry_span(const struct pgtable *pt, u64 addr, unsigned bottom, u64 *end)
{
	u64 *table = pt->pgd;

	for (unsigned level = 3; level > bottom; level--) {
		u64 e = table[table_index(addr, level)];

		if (!pte_present(e) || pmd_is_huge(e)) {
			*end = span_end(addr, level);
			return NULL;
		}
		table = phys_to_virt(pte_phys(e));
	}
	*end = span_end(addr, bottom + 1);
	return &table[table_index(addr, bottom)];
}

pte_t *pte_find_span(const struct pgtable *pt, u64 addr, u64 *end)
{
	pte_t *ptep = recent_entry(pt, addr);

	*end = span_end(addr, 1);
	return ptep ? ptep : entry_span(pt, addr, 0, end);
}

pte_t *pte_find(const struct pgtable *pt, u64 addr)
{
	u64 end;

	return pte_find_span(pt, addr, &end);
}

pte_t *pmd_find(const struct pgtable *pt, u64 addr)
{
	u64 end;

	return entry_span(pt, addr, 1, &end);
}

pte_t *pmd_next(const struct pgtable *pt, u64 *addr, u64 end)
{
	for (u64 stop; *addr < end; *addr = stop) {
		pte_t *pmd = entry_span(pt, *addr, 1, &stop);

		for (; pmd && *addr < MIN(stop, end); *addr = span_end(*addr, 1), pmd++)
			if (*pmd)
				return pmd;
	}
	return NULL;
}

pte_t *pmd_next_huge(const struct pgtable *pt, u64 *addr, u64 end)
{
	pte_t *pmd = NULL;

	while (pt->nr_huge && (pmd = pmd_next(pt, addr, end)) && !pmd_is_huge(*pmd))
		*addr = span_end(*addr, 1);
	return pmd;
}

pte_t pte_get(const struct pgtable *pt, u64 addr)
{
	const pte_t *ptep = pte_find(pt, addr);

	if (!ptep && pt->nr_huge)
		ptep = pmd_find(pt, addr);
	return ptep ? *ptep : 0;
}

static struct page *table_alloc(struct pgtable *pt)
{
	struct page *page = alloc_page(GFP_ZERO);

	if (page) {
		page->private = (u64)pt->tables;
		pt->tables = page;
	}
	return page;
}

static struct page *take_spare(struct pgtable *pt)
{
	struct page *page = list_entry(pt->spare.next, struct page, lru);

	list_del(&page->lru);
	pt->nr_spare--;
	return page;
}

static void add_spare(struct pgtable *pt, struct page *page)
{
	list_add(&page->lru, &pt->spare);
	pt->nr_spare++;
}

/* The entry of addr in a table of that level, its tables made; NULL as for pte_alloc. */
static u64 *entry_alloc(struct pgtable *pt, u64 addr, unsigned bottom)
{
	u64 *table = pt->pgd;

	for (unsigned level = 3; level > bottom; level--) {
		u64 *e = &table[table_index(addr, level)];

		if (unlikely(!pte_present(*e))) {
			struct page *page =
			    pt->nr_spare > pt->nr_huge ? take_spare(pt) : table_alloc(pt);

			if (!page)
				return NULL;
			*e = page_phys(page) | TABLE_FLAGS;
		}
		if (pmd_is_huge(*e))
			return NULL;
		table = phys_to_virt(pte_phys(*e));
	}
	return &table[table_index(addr, bottom)];
}

pte_t *pte_alloc(struct pgtable *pt, u64 addr)
{
	pte_t *ptep = recent_entry(pt, addr);

	if (ptep)
		return ptep;
	ptep = entry_alloc(pt, addr, 0);
	if (ptep)
		WRITE_ONCE(pt->recent,
			   recent_word(addr, virt_to_phys(ptep - table_index(addr, 0))));
	return ptep;
}

pte_t *pmd_alloc_huge(struct pgtable *pt, u64 addr)
{
	pte_t *pmd = entry_alloc(pt, addr, 1);
	struct page *page = NULL;

	if (pmd && pt->nr_spare <= pt->nr_huge) {
		page = table_alloc(pt);
		if (!page)
			return NULL;
		add_spare(pt, page);
	}
	return pmd;
}

void pmd_set_huge(struct pgtable *pt, pte_t *pmd, pte_t pte)
{
	set_pte(pmd, pte | PTE_HUGE);
	pt->nr_huge++;
}

void pmd_clear_huge(struct pgtable *pt, pte_t *pmd)
{
	set_pte(pmd, 0);
	pt->nr_huge--;
}

pte_t *pmd_set_table(struct pgtable *pt, pte_t *pmd)
{
	struct page *page = take_spare(pt);

	set_pte(pmd, page_phys(page) | TABLE_FLAGS);
	return page_kva(page);
}

void pmd_drop_table(struct pgtable *pt, pte_t *pmd)
{
	struct page *page = pfn_to_page(pte_phys(*pmd) >> PAGE_SHIFT);

	if (recent_entry(pt, (pt->recent >> RECENT_PFN_BITS) << PMD_SHIFT) == page_kva(page))
		WRITE_ONCE(pt->recent, 0);
	set_pte(pmd, 0);
	add_spare(pt, page);
}

bool pgtable_init(struct pgtable *pt)
{
	static const u64 shared[] = {DIRECT_MAP_BASE, IOREMAP_BASE, KERNEL_BASE};
	struct page *page = alloc_page(GFP_ZERO);

	*pt = (struct pgtable){0};
	list_init(&pt->spare);
	if (!page)
		return false;
	page->private = 0;
	pt->tables = page;
	pt->pgd = page_kva(page);
	for (unsigned i = 0; i < ARRAY_SIZE(shared); i++)
		pt->pgd[table_index(shared[i], 3)] = kernel_pgd()[table_index(shared[i], 3)];
	return true;
}

void pgtable_free(struct pgtable *pt)
{
	while (pt->tables) {
		struct page *page = pt->tables;

		pt->tables = (struct page *)page->private;
		put_page(page);
	}
}
